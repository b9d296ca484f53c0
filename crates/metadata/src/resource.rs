//! What configurations can belong to, and the configurations themselves as they were set.
//!
//! The tricky idea: a resource without any value does not exist, so that two images with the same facts are equal no
//! matter which values were set and deleted on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The kind of a resource, as Kafka numbers it in requests and records. Numbers that this software does not know are
/// kept as they are: they must survive a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceType(pub i8);

impl ResourceType {
    /// A topic, by name.
    pub const TOPIC: ResourceType = ResourceType(2);
    /// A broker, by its id in decimal; the empty name is the default of all brokers.
    pub const BROKER: ResourceType = ResourceType(4);
    /// The log levels of one process. Never in the metadata log.
    pub const BROKER_LOGGER: ResourceType = ResourceType(8);
    /// A subscription to clients' metrics (KIP-714).
    pub const CLIENT_METRICS: ResourceType = ResourceType(16);
    /// A group, by its id (KIP-848).
    pub const GROUP: ResourceType = ResourceType(32);

    /// Whether Kafka 4.4 knows the number.
    pub fn is_known(self) -> bool {
        matches!(self, Self::TOPIC | Self::BROKER | Self::BROKER_LOGGER | Self::CLIENT_METRICS | Self::GROUP)
    }

    /// The kind's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::TOPIC => "TOPIC",
            Self::BROKER => "BROKER",
            Self::BROKER_LOGGER => "BROKER_LOGGER",
            Self::CLIENT_METRICS => "CLIENT_METRICS",
            Self::GROUP => "GROUP",
            _ => "UNKNOWN",
        }
    }
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Its kind.
    pub kind: ResourceType,
    /// Its name; empty means the default of the kind, where there is one.
    pub name: Arc<str>,
}

/// The values that were set on one resource, by key.
pub type ConfigMap = BTreeMap<String, String>;
