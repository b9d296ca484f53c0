//! Cluster facts: the immutable Image, its Delta, feature levels and configuration definitions.
//!
//! Records of the metadata log go into an [`Image`] through [`Replayer`] (or [`Image::replay`]), which notes in a
//! [`Delta`] what changed. Nothing here decides: who may create a topic or lead a partition is `controller`'s question.

pub mod acl;
pub mod broker;
pub mod config;
mod delta;
pub mod directory;
pub mod features;
mod image;
pub mod java_hash;
mod metadata_version;
pub mod quota;
mod record_version;
mod replay;
mod replay_error;
mod replayer;
pub mod resource;
pub mod security;
mod snapshot;
pub mod topic;
pub mod topic_name;

#[cfg(test)]
mod tests;

pub use broker::{Broker, ControllerNode};
pub use delta::{Change, Delta, PartitionChange};
pub use image::Image;
pub use metadata_version::MetadataVersion;
pub use quota::{QuotaEntity, Quotas};
pub use record_version::record_version;
pub use replay_error::ReplayError;
pub use replayer::Replayer;
pub use resource::{ConfigMap, Resource, ResourceType};
pub use security::ScramUser;
pub use topic::{LeaderRecoveryState, Partition, Topic};
