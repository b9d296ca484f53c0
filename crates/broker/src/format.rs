//! Formatting: a log directory gets its identity and, where the metadata log will be, the first records of the cluster (Kafka's
//! `Formatter`).
//!
//! The tricky idea is the order: `meta.properties` comes last, and it is what makes a directory count as formatted. Whoever is interrupted
//! formats again.

use std::path::Path;
use std::sync::Arc;

use ottla_metadata::MetadataVersion;
use ottla_protocol::Uuid;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::voters_record::{Endpoint, KRaftVersionFeature, Voter, VotersRecord};
use ottla_storage::{Disk, LogDir, LogDirError, MetaProperties, SnapshotId};

use crate::effect::Millis;
use crate::open::CLUSTER_METADATA_DIR;
use crate::quorum::{CheckpointWriter, Heading};

/// A controller of a quorum that can change (KIP-853).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialController {
    /// Its node id.
    pub id: i32,
    /// Where it is reached, by the first controller listener.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The directory that holds its metadata log.
    pub directory_id: Uuid,
}

/// The checkpoint `00000000000000000000-0000000000`: what a cluster begins with.
#[derive(Debug, Clone)]
pub struct FirstCheckpoint {
    /// Feature levels and SCRAM credentials.
    pub records: Vec<MetadataRecord<'static>>,
    /// The level that decides how the records are written.
    pub metadata_version: MetadataVersion,
    /// `kraft.version`: 1 for a quorum that can change.
    pub kraft_version: i16,
    /// The first voters of such a quorum; empty if this node learns of them from others.
    pub initial_controllers: Vec<InitialController>,
    /// The name of the listener by which voters reach each other.
    pub controller_listener: String,
}

/// Formats a directory that is empty, and says whether it did: one that is formatted for the same node stays as it is.
pub fn format(
    disk: &Arc<dyn Disk>,
    path: &Path,
    meta: &MetaProperties,
    checkpoint: Option<&FirstCheckpoint>,
    now: Millis,
) -> Result<bool, LogDirError> {
    let mut dir = LogDir::open(disk.clone(), path)?;
    dir.check_identity(Some(&meta.cluster_id), Some(meta.node_id))?;
    if dir.meta_properties().is_some() {
        return Ok(false);
    }
    if let Some(checkpoint) = checkpoint {
        let io = |error| LogDirError::Io(path.to_path_buf(), error);
        let place = path.join(CLUSTER_METADATA_DIR);
        disk.create_dir_all(&place).map_err(io)?;
        disk.sync_dir(path).map_err(io)?;
        checkpoint.write(disk, &place, now).map_err(|error| io(std::io::Error::other(error)))?;
    }
    dir.format(meta.clone())?;
    Ok(true)
}

impl FirstCheckpoint {
    fn write(&self, disk: &Arc<dyn Disk>, dir: &Path, now: Millis) -> Result<(), String> {
        let heading = Heading {
            metadata_version: self.metadata_version,
            kraft_version: self.kraft_version,
            voters: (!self.initial_controllers.is_empty()).then(|| self.voters()),
            last_timestamp: now,
            now,
        };
        let id = SnapshotId { end_offset: 0, leader_epoch: 0 };
        let mut writer = CheckpointWriter::begin(disk.clone(), dir, id, &heading)?;
        self.records.iter().try_for_each(|record| writer.push(record))?;
        writer.finish().map(drop)
    }

    fn voters(&self) -> VotersRecord<'_> {
        let voter = |controller: &'_ InitialController| Voter {
            voter_id: controller.id,
            voter_directory_id: controller.directory_id,
            endpoints: vec![Endpoint {
                name: self.controller_listener.clone().into(),
                host: controller.host.clone().into(),
                port: controller.port,
            }],
            kraft_version_feature: KRaftVersionFeature {
                min_supported_version: 0,
                max_supported_version: self.kraft_version,
            },
        };
        VotersRecord { version: 0, voters: self.initial_controllers.iter().map(voter).collect() }
    }
}
