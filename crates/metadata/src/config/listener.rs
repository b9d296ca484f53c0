//! Limits of single listeners: `listener.name.<name>.max.connections` and the like, which hold there instead of the node's (KIP-612; Kafka:
//! `DynamicBrokerConfig`, `ConnectionQuotas`).

use std::collections::BTreeMap;

use super::broker::NetworkSettings;
use super::definition::{Definition, Value};
use super::layers::Layers;
use super::note::ConfigError;
use super::table::broker_table;

/// How such keys begin; the name of the listener in lower case follows, and then a dot and the key of the node.
const PREFIX: &str = "listener.name.";
const MAX_CONNECTIONS: &str = "max.connections";
const MAX_CONNECTION_CREATION_RATE: &str = "max.connection.creation.rate";
/// Keys of the node that may be set for one listener.
const KEYS: [&str; 2] = [MAX_CONNECTIONS, MAX_CONNECTION_CREATION_RATE];

/// How many may come to a listener; the largest number stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Most connections.
    pub max_connections: i32,
    /// Most new connections in a second.
    pub max_connection_creation_rate: i32,
}

const UNLIMITED: ListenerLimits =
    ListenerLimits { max_connections: i32::MAX, max_connection_creation_rate: i32::MAX };

impl NetworkSettings {
    /// What holds at a listener.
    pub fn limits_of(&self, listener: &str) -> ListenerLimits {
        self.listener_limits.get(listener).copied().unwrap_or(UNLIMITED)
    }
}

/// Whether `key` is one of a listener that is honoured.
pub fn is_listener_key(key: &str) -> bool {
    definition_of(key).is_some()
}

/// The definition of a key of one listener, if it is one that is honoured.
pub(super) fn definition_of(key: &str) -> Option<&'static Definition> {
    let key = KEYS.into_iter().find(|of_node| {
        let name = key.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(of_node));
        name.and_then(|name| name.strip_suffix('.')).is_some_and(|name| !name.is_empty())
    })?;
    broker_table().get(key)
}

/// What holds at each listener: what is set for it, or else what is set for the node. Listeners of controllers have those limits alone that
/// are set for them: whatever clients may do, the quorum goes on.
pub(super) fn resolve_listener_limits<'l>(
    layers: &Layers,
    listeners: impl Iterator<Item = &'l str>,
    controller_names: &[String],
) -> Result<BTreeMap<String, ListenerLimits>, ConfigError> {
    let mut limits = BTreeMap::new();
    for listener in listeners {
        let is_of_controllers = controller_names.iter().any(|name| name == listener);
        let limit = |of_node: &str| -> Result<i32, ConfigError> {
            let key = format!("{PREFIX}{}.{of_node}", listener.to_ascii_lowercase());
            match layers.set(&key).zip(definition_of(&key)) {
                Some((raw, definition)) => parse(&key, raw, definition),
                None if is_of_controllers => Ok(i32::MAX),
                None => layers.int(of_node),
            }
        };
        let max_connections = limit(MAX_CONNECTIONS)?;
        let max_connection_creation_rate = limit(MAX_CONNECTION_CREATION_RATE)?;
        limits.insert(listener.to_owned(), ListenerLimits { max_connections, max_connection_creation_rate });
    }
    Ok(limits)
}

fn parse(key: &str, raw: &str, definition: &Definition) -> Result<i32, ConfigError> {
    let value = definition.parse(raw).map_err(|error| ConfigError { key: key.to_owned(), ..error })?;
    match value {
        Value::Integer(number) => Ok(i32::try_from(number).unwrap_or(i32::MAX)),
        other => panic!("{key} is not an int key: {other:?}"),
    }
}
