//! The nodes of the cluster as the metadata log knows them: registered brokers and controllers.
//!
//! The tricky idea: a broker is *active* (may lead, may join an ISR) when it is neither fenced nor shutting down; and a
//! registration is only addressed together with its epoch, so that words about an earlier life are recognised.

use crate::directory;
use ottla_protocol::Uuid;
use ottla_protocol::ids::NodeId;
use std::sync::Arc;

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub name: Arc<str>,
    /// Host name or address.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Kafka's id of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// The levels of a feature that a node can run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureRange {
    /// The feature's name.
    pub name: Arc<str>,
    /// Lowest level.
    pub min: i16,
    /// Highest level.
    pub max: i16,
}

impl FeatureRange {
    /// The range of `name` within `ranges`; a feature that a node does not name is at 0 only.
    pub fn of(ranges: &[FeatureRange], name: &str) -> (i16, i16) {
        ranges.iter().find(|range| &*range.name == name).map_or((0, 0), |range| (range.min, range.max))
    }
}

/// A registered broker (RegisterBrokerRecord and what changed since).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The node's id.
    pub id: NodeId,
    /// The broker epoch: the offset at which this incarnation registered.
    pub broker_epoch: i64,
    /// Chosen at random by each process.
    pub incarnation_id: Uuid,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
    /// Its rack, if it has one.
    pub rack: Option<Arc<str>>,
    /// Whether clients must not use it.
    pub fenced: bool,
    /// Whether it is handing over its partitions in order to stop.
    pub in_controlled_shutdown: bool,
    /// The log directories that it reported online.
    pub log_dirs: Vec<Uuid>,
    /// The directories that take no new replicas (KIP-1066); `None` before the broker said.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl Broker {
    /// Neither fenced nor shutting down.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// The endpoint of a listener.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| &*endpoint.name == listener)
    }

    /// Whether a replica in `directory` can be served by this broker.
    pub fn has_online_dir(&self, directory: Uuid) -> bool {
        directory::is_online(directory, &self.log_dirs)
    }

    /// Whether new replicas may be placed here: at least one directory is not cordoned.
    pub fn has_uncordoned_dir(&self) -> bool {
        match &self.cordoned_log_dirs {
            Some(cordoned) if !self.log_dirs.is_empty() => {
                self.log_dirs.iter().any(|dir| !cordoned.contains(dir))
            }
            _ => true,
        }
    }

    /// The directory of a new replica: the only one, or "the broker will choose".
    pub fn default_dir(&self) -> Uuid {
        match self.log_dirs.as_slice() {
            [] => directory::MIGRATING,
            [only] => *only,
            _ => directory::UNASSIGNED,
        }
    }
}

/// A registered controller (RegisterControllerRecord).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerNode {
    /// The node's id.
    pub id: NodeId,
    /// Chosen at random by each process.
    pub incarnation_id: Uuid,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(log_dirs: &[u8], cordoned: Option<&[u8]>) -> Broker {
        let ids = |bytes: &[u8]| bytes.iter().map(|b| Uuid([*b; 16])).collect::<Vec<_>>();
        Broker {
            id: NodeId(1),
            broker_epoch: 1,
            incarnation_id: Uuid([1; 16]),
            endpoints: Vec::new(),
            features: Vec::new(),
            rack: None,
            fenced: false,
            in_controlled_shutdown: false,
            log_dirs: ids(log_dirs),
            cordoned_log_dirs: cordoned.map(ids),
        }
    }

    #[test]
    fn directories() {
        assert_eq!(broker(&[], None).default_dir(), directory::MIGRATING);
        assert_eq!(broker(&[5], None).default_dir(), Uuid([5; 16]));
        assert_eq!(broker(&[5, 6], None).default_dir(), directory::UNASSIGNED);
        assert!(broker(&[5], None).has_uncordoned_dir());
        assert!(broker(&[5, 6], Some(&[5])).has_uncordoned_dir());
        assert!(!broker(&[5, 6], Some(&[5, 6])).has_uncordoned_dir());
    }

    #[test]
    fn active_means_neither_fenced_nor_leaving() {
        assert!(broker(&[], None).is_active());
        assert!(!Broker { fenced: true, ..broker(&[], None) }.is_active());
        assert!(!Broker { in_controlled_shutdown: true, ..broker(&[], None) }.is_active());
    }

    #[test]
    fn unnamed_features_are_at_zero() {
        let ranges = [FeatureRange { name: "metadata.version".into(), min: 7, max: 33 }];
        assert_eq!(FeatureRange::of(&ranges, "metadata.version"), (7, 33));
        assert_eq!(FeatureRange::of(&ranges, "group.version"), (0, 0));
    }
}
