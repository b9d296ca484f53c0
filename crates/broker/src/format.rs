//! Formatting: a log directory gets its identity and, where the metadata log will be, the first records of the cluster (Kafka's
//! `Formatter`).
//!
//! The tricky idea is the order: `meta.properties` comes last, and it is what makes a directory count as formatted. Whoever is interrupted
//! formats again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_metadata::{MetadataVersion, record_version};
use ottla_protocol::messages::kraft_version_record::KRaftVersionRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::snapshot_footer_record::SnapshotFooterRecord;
use ottla_protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use ottla_protocol::messages::voters_record::{Endpoint, KRaftVersionFeature, Voter, VotersRecord};
use ottla_protocol::records::{BatchBuilder, BatchOptions, ControlKey, ControlType};
use ottla_protocol::{Message, Uuid, Writer};
use ottla_storage::{Disk, LogDir, LogDirError, MetaProperties, SnapshotId, SnapshotWriter};

use crate::effect::Millis;
use crate::open::CLUSTER_METADATA_DIR;

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
        checkpoint.write(disk, &place, now).map_err(io)?;
    }
    dir.format(meta.clone())?;
    Ok(true)
}

impl FirstCheckpoint {
    fn write(&self, disk: &Arc<dyn Disk>, dir: &Path, now: Millis) -> std::io::Result<()> {
        let id = SnapshotId { end_offset: 0, leader_epoch: 0 };
        let mut writer = SnapshotWriter::create(disk.clone(), dir, id)?;
        let header = SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: now };
        let mut controls = vec![(ControlType::SnapshotHeader, bytes(&header))];
        if self.kraft_version > 0 {
            let version = KRaftVersionRecord { version: 0, kraft_version: self.kraft_version };
            controls.push((ControlType::KraftVersion, bytes(&version)));
            if !self.initial_controllers.is_empty() {
                controls.push((ControlType::KraftVoters, bytes(&self.voters())));
            }
        }
        let next = append_controls(&mut writer, 0, &controls, now)?;
        let mut batch = BatchBuilder::new(next, BatchOptions::default());
        for record in &self.records {
            let mut value = Writer::new();
            record
                .encode_framed(record_version(record, self.metadata_version), &mut value)
                .expect("first records fit their version");
            batch.push(now, None, Some(&value.into_bytes()), &[]);
        }
        let next = batch.next_offset();
        writer.append(&batch.finish())?;
        let footer = (ControlType::SnapshotFooter, bytes(&SnapshotFooterRecord::default()));
        append_controls(&mut writer, next, &[footer], now)?;
        writer.freeze().map(drop)
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

/// Appends a batch of control records; returns the offset after it.
fn append_controls(
    writer: &mut SnapshotWriter,
    base_offset: i64,
    controls: &[(ControlType, Bytes)],
    now: Millis,
) -> std::io::Result<i64> {
    let options = BatchOptions { control: true, ..Default::default() };
    let mut batch = BatchBuilder::new(base_offset, options);
    for (control_type, value) in controls {
        batch.push(now, Some(&ControlKey::new(*control_type).to_bytes()), Some(value), &[]);
    }
    let next = batch.next_offset();
    writer.append(&batch.finish())?;
    Ok(next)
}

/// The value of a control record.
fn bytes<'m, M: Message<'m>>(message: &M) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, 0).expect("version 0 has every field");
    writer.into_bytes()
}
