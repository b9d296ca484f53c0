//! What can be wrong with a record of the metadata log, given everything before it.

use crate::topic::PartitionError;
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};

/// A record that does not fit the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayError {
    /// The topic is not there.
    UnknownTopic(TopicId),
    /// No topic has this name.
    UnknownTopicName(String),
    /// The topic exists already, by name or by id.
    DuplicateTopic(String),
    /// The partition is not there.
    UnknownPartition(TopicId, PartitionId),
    /// The partition's record contradicts itself.
    Partition(TopicId, PartitionId, PartitionError),
    /// The broker is not registered.
    UnknownBroker(NodeId),
    /// The record speaks of another registration of the broker.
    BrokerEpoch {
        /// The broker.
        broker: NodeId,
        /// The broker epoch of the record.
        given: i64,
        /// The broker epoch of the registration.
        expected: i64,
    },
    /// A fencing or shutdown change with a number that has no meaning.
    BrokerChange(NodeId, i8),
    /// The controller is not registered.
    UnknownController(NodeId),
    /// A feature at a negative level.
    FeatureLevel(String, i16),
    /// A block of producer ids that does not follow the last one.
    ProducerIds {
        /// The next id of the record.
        given: i64,
        /// The next id of the image.
        current: i64,
    },
    /// The access control entry to remove is not there.
    UnknownAcl(Uuid),
    /// Begin of a metadata transaction within another one.
    NestedTransaction,
    /// End or abort of a metadata transaction that never began.
    NoTransaction,
}

impl std::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReplayError::UnknownTopic(id) => write!(f, "there is no topic with id {id}"),
            ReplayError::UnknownTopicName(name) => write!(f, "there is no topic named {name}"),
            ReplayError::DuplicateTopic(name) => write!(f, "topic {name} exists already"),
            ReplayError::UnknownPartition(id, partition) => {
                write!(f, "topic {id} has no partition {partition}")
            }
            ReplayError::Partition(id, partition, PartitionError::Directories) => {
                write!(f, "partition {partition} of topic {id} has not one directory for each replica")
            }
            ReplayError::Partition(id, partition, PartitionError::RecoveryState(state)) => {
                write!(f, "partition {partition} of topic {id} has the unknown recovery state {state}")
            }
            ReplayError::UnknownBroker(id) => write!(f, "broker {id} is not registered"),
            ReplayError::BrokerEpoch { broker, given, expected } => {
                write!(f, "broker {broker} is registered with epoch {expected}, the record says {given}")
            }
            ReplayError::BrokerChange(id, code) => {
                write!(f, "broker {id} changes to the unknown state {code}")
            }
            ReplayError::UnknownController(id) => write!(f, "controller {id} is not registered"),
            ReplayError::FeatureLevel(name, level) => {
                write!(f, "feature {name} has the illegal level {level}")
            }
            ReplayError::ProducerIds { given, current } => {
                write!(f, "the next producer id {given} is not above {current}")
            }
            ReplayError::UnknownAcl(id) => write!(f, "there is no access control entry {id}"),
            ReplayError::NestedTransaction => f.write_str("a metadata transaction began within another one"),
            ReplayError::NoTransaction => f.write_str("a metadata transaction ended that never began"),
        }
    }
}

impl std::error::Error for ReplayError {}
