//! A checkpoint of the metadata as a file: a batch of control records, batches of records, and a batch that says that it is whole
//! (`RecordsSnapshotWriter`).

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_metadata::{MetadataVersion, record_version};
use ottla_protocol::messages::kraft_version_record::KRaftVersionRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::snapshot_footer_record::SnapshotFooterRecord;
use ottla_protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use ottla_protocol::messages::voters_record::VotersRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, ControlKey, ControlType};
use ottla_protocol::{Message, Writer};
use ottla_storage::{Disk, SnapshotId, SnapshotWriter};

use crate::effect::Millis;

/// Bytes of one batch of records, about.
const BATCH_BYTES: usize = 1 << 20;

/// What a checkpoint says besides the records.
pub(crate) struct Heading<'v> {
    pub metadata_version: MetadataVersion,
    /// The level of kraft.version; only from 1 on it is told, and so are the voters.
    pub kraft_version: i16,
    /// `None`: whoever starts on it learns of them from others.
    pub voters: Option<VotersRecord<'v>>,
    /// When the last record was appended that it stands for.
    pub last_timestamp: Millis,
    pub now: Millis,
}

/// A checkpoint that is being written. Waits for the disk.
pub(crate) struct CheckpointWriter {
    file: SnapshotWriter,
    batch: BatchBuilder,
    metadata_version: MetadataVersion,
    now: Millis,
}

impl CheckpointWriter {
    pub fn begin(
        disk: Arc<dyn Disk>,
        dir: &Path,
        id: SnapshotId,
        heading: &Heading<'_>,
    ) -> Result<Self, String> {
        let file = SnapshotWriter::create(disk, dir, id).map_err(|error| error.to_string())?;
        let (metadata_version, now) = (heading.metadata_version, heading.now);
        let batch = batch(id, 0, true);
        let mut writer = CheckpointWriter { file, batch, metadata_version, now };
        let header =
            SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: heading.last_timestamp };
        writer.control(ControlType::SnapshotHeader, &header)?;
        if heading.kraft_version > 0 {
            let version = KRaftVersionRecord { version: 0, kraft_version: heading.kraft_version };
            writer.control(ControlType::KraftVersion, &version)?;
            if let Some(voters) = &heading.voters {
                writer.control(ControlType::KraftVoters, voters)?;
            }
        }
        writer.end_batch(false)?;
        Ok(writer)
    }

    pub fn push(&mut self, record: &MetadataRecord<'_>) -> Result<(), String> {
        let value = frame(record, self.metadata_version)?;
        self.batch.push(self.now, None, Some(&value), &[]);
        if self.batch.size() >= BATCH_BYTES { self.end_batch(false) } else { Ok(()) }
    }

    /// Gives it its name, now that it is whole and durable. Returns its bytes.
    pub fn finish(mut self) -> Result<u64, String> {
        self.end_batch(true)?;
        self.control(ControlType::SnapshotFooter, &SnapshotFooterRecord::default())?;
        self.end_batch(true)?;
        let bytes = self.file.size();
        self.file.freeze().map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    fn control<'m, M: Message<'m>>(&mut self, control_type: ControlType, value: &M) -> Result<(), String> {
        let key = ControlKey::new(control_type).to_bytes();
        self.batch.push(self.now, Some(&key), Some(&encode(value)?), &[]);
        Ok(())
    }

    /// Writes the batch, if there is anything in it, and begins the next one.
    fn end_batch(&mut self, control: bool) -> Result<(), String> {
        let next = batch(self.file.id(), self.batch.next_offset(), control);
        let batch = std::mem::replace(&mut self.batch, next);
        if batch.is_empty() {
            return Ok(());
        }
        self.file.append(&batch.finish()).map_err(|error| error.to_string())
    }
}

fn batch(id: SnapshotId, base_offset: i64, control: bool) -> BatchBuilder {
    BatchBuilder::new(
        base_offset,
        BatchOptions { leader_epoch: id.leader_epoch, control, ..Default::default() },
    )
}

/// A record of the metadata as it stands in logs and checkpoints.
pub(super) fn frame(record: &MetadataRecord<'_>, version: MetadataVersion) -> Result<Bytes, String> {
    let mut writer = Writer::new();
    record.encode_framed(record_version(record, version), &mut writer).map_err(|error| error.to_string())?;
    Ok(writer.into_bytes())
}

/// The value of a control record.
pub(super) fn encode<'m, M: Message<'m>>(message: &M) -> Result<Bytes, String> {
    let mut writer = Writer::new();
    message.encode(&mut writer, 0).map_err(|error| error.to_string())?;
    Ok(writer.into_bytes())
}
