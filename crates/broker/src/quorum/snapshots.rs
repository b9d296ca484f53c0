//! Snapshots of the metadata: when one is taken, how it is written, and what of the log and of older ones goes afterwards.
//!
//! A snapshot is the committed image as records, between a header and a footer, in a file that is named after the offset at which it
//! ends. The one tricky idea: the image is immutable, so it is written on a reader thread while the cluster goes on; it gets its name when
//! it is durable, and only then may anything go that it stands for (`SnapshotGenerator`, `KafkaRaftLog.maybeClean`).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use ottla_metadata::config::MetadataLogSettings;
use ottla_metadata::{Image, MetadataVersion, record_version};
use ottla_protocol::messages::kraft_version_record::KRaftVersionRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::snapshot_footer_record::SnapshotFooterRecord;
use ottla_protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, ControlKey, ControlType};
use ottla_protocol::{Message, Writer};
use ottla_raft::{OffsetAndEpoch, Voters};
use ottla_storage::{DeleteJob, Disk, Log, SnapshotId, SnapshotWriter, remove_snapshot};

use super::wire::encode_voters;
use crate::effect::Millis;

/// Bytes of one batch of a snapshot, about.
const BATCH_BYTES: usize = 1 << 20;

/// A snapshot that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub id: SnapshotId,
    pub bytes: u64,
    /// When the last batch was appended that it contains.
    pub timestamp: Millis,
}

/// Which snapshots there are, and how much happened since the newest one.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Oldest first.
    known: Vec<Known>,
    bytes_since: i64,
    /// When the newest one was taken, or tried.
    taken_at: Millis,
    is_running: bool,
    settings: MetadataLogSettings,
}

/// A snapshot to be written.
#[derive(Debug)]
pub struct SnapshotJob {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) id: SnapshotId,
    pub(super) image: Image,
    /// The level of kraft.version, and the voters, as of the end.
    pub(super) kraft_version: i16,
    pub(super) voters: Voters,
    pub(super) last_timestamp: Millis,
    pub(super) now: Millis,
}

/// Files that newer snapshots stand for.
#[derive(Debug)]
pub struct Cleaning {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    snapshots: Vec<SnapshotId>,
    segments: DeleteJob,
}

impl Snapshots {
    pub fn new(known: Vec<Known>, settings: MetadataLogSettings, now: Millis) -> Self {
        Snapshots { known, bytes_since: 0, taken_at: now, is_running: false, settings }
    }

    /// Records were committed.
    pub fn grow(&mut self, bytes: usize) {
        self.bytes_since += bytes as i64;
    }

    /// When the next snapshot is due, if nothing else happens. Without new records none is.
    pub fn due_at(&self) -> Option<Millis> {
        if self.is_running || self.bytes_since == 0 {
            return None;
        }
        if self.bytes_since >= self.settings.snapshot_after_bytes {
            return Some(Millis::MIN);
        }
        (self.settings.snapshot_interval_ms > 0).then(|| self.taken_at + self.settings.snapshot_interval_ms)
    }

    /// Whether a snapshot has to be taken now; it is taken for begun.
    pub fn begin(&mut self, now: Millis) -> bool {
        let is_due = self.due_at().is_some_and(|at| at <= now);
        if is_due {
            (self.is_running, self.taken_at, self.bytes_since) = (true, now, 0);
        }
        is_due
    }

    /// A snapshot was written, or could not be; then the next one is tried when it would be due anyway.
    pub fn end(&mut self, written: Option<Known>) {
        self.is_running = false;
        self.known.extend(written);
    }

    /// Whether the snapshot is there already.
    pub fn contains(&self, id: SnapshotId) -> bool {
        self.known.iter().any(|known| known.id == id)
    }

    /// Whether the snapshot that ends there can be given away.
    pub fn holds(&self, id: OffsetAndEpoch) -> bool {
        self.known.iter().any(|known| position(known.id) == id)
    }

    /// The newest one.
    pub fn latest(&self) -> Option<OffsetAndEpoch> {
        self.known.last().map(|known| position(known.id))
    }

    /// The oldest one.
    pub fn earliest(&self) -> Option<OffsetAndEpoch> {
        self.known.first().map(|known| position(known.id))
    }

    /// A snapshot was fetched, and stands for everything before its end.
    pub fn receive(&mut self, fetched: Known) {
        self.known.push(fetched);
        self.bytes_since = 0;
    }

    /// When the oldest snapshot becomes too old.
    pub fn clean_at(&self) -> Option<Millis> {
        let [oldest, _, ..] = self.known[..] else { return None };
        (self.settings.retention_ms >= 0)
            .then(|| oldest.timestamp.saturating_add(self.settings.retention_ms + 1))
    }

    /// Forgets the oldest snapshots, and the log before the one that becomes the oldest, while they are too large or too old. One
    /// snapshot always stays.
    pub fn clean(
        &mut self,
        log: &mut Log,
        disk: &Arc<dyn Disk>,
        dir: &std::path::Path,
        now: Millis,
    ) -> Result<Option<Cleaning>, String> {
        let mut gone = 0;
        let mut total: u64 = self.known.iter().map(|known| known.bytes).sum();
        let mut log_bytes: Vec<(i64, u64)> =
            log.segments().map(|(base_offset, bytes)| (base_offset, u64::from(bytes))).collect();
        while let [oldest, next, ..] = self.known[gone..] {
            let size = total + log_bytes.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let MetadataLogSettings { retention_bytes, retention_ms, .. } = self.settings;
            let too_large = u64::try_from(retention_bytes).is_ok_and(|max| size > max);
            let too_old = retention_ms >= 0 && now - oldest.timestamp > retention_ms;
            if !too_large && !too_old {
                break;
            }
            gone += 1;
            total -= oldest.bytes;
            // A segment goes when the one behind it begins at or before the new start.
            let cut = log_bytes.windows(2).take_while(|pair| pair[1].0 <= next.id.end_offset).count();
            log_bytes.drain(..cut);
        }
        if gone == 0 {
            return Ok(None);
        }
        let snapshots = self.known.drain(..gone).map(|known| known.id).collect();
        let start = self.known[0].id.end_offset;
        let segments = log.advance_log_start_offset(start).map_err(|error| error.to_string())?;
        Ok(Some(Cleaning { disk: disk.clone(), dir: dir.to_path_buf(), snapshots, segments }))
    }
}

impl Cleaning {
    /// Removes the files. The log's go oldest first, each durably: whenever the power fails, what is left has no hole.
    pub fn run(self) -> Result<(), String> {
        for id in self.snapshots {
            remove_snapshot(&*self.disk, &self.dir, id).map_err(|error| error.to_string())?;
        }
        self.disk.sync_dir(&self.dir).map_err(|error| error.to_string())?;
        self.segments.remove_in_order().map_err(|error| error.to_string())
    }
}

impl SnapshotJob {
    /// Writes the snapshot. Waits for the disk.
    pub(super) fn run(self) -> Result<Known, String> {
        let writer = SnapshotWriter::create(self.disk.clone(), &self.dir, self.id);
        let mut writer = writer.map_err(|error| error.to_string())?;
        let header = SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: self.last_timestamp };
        let mut batch = self.batch(0, true);
        self.push_control(&mut batch, ControlType::SnapshotHeader, &encode(&header)?);
        if self.kraft_version > 0 {
            let version = KRaftVersionRecord { version: 0, kraft_version: self.kraft_version };
            self.push_control(&mut batch, ControlType::KraftVersion, &encode(&version)?);
            self.push_control(&mut batch, ControlType::KraftVoters, &encode(&encode_voters(&self.voters))?);
        }
        let mut next_offset = append(&mut writer, batch)?;
        let version = self.image.metadata_version().unwrap_or(MetadataVersion::MINIMUM);
        let mut batch = self.batch(next_offset, false);
        let mut failed = None;
        self.image.visit_records(&mut |record| {
            if failed.is_some() {
                return;
            }
            match frame(&record, version) {
                Ok(value) => batch.push(self.now, None, Some(&value), &[]),
                Err(error) => return failed = Some(error),
            };
            if batch.size() >= BATCH_BYTES {
                let next = self.batch(batch.next_offset(), false);
                failed = append(&mut writer, std::mem::replace(&mut batch, next)).err();
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        next_offset = batch.next_offset();
        if !batch.is_empty() {
            append(&mut writer, batch)?;
        }
        let mut batch = self.batch(next_offset, true);
        self.push_control(
            &mut batch,
            ControlType::SnapshotFooter,
            &encode(&SnapshotFooterRecord::default())?,
        );
        append(&mut writer, batch)?;
        let bytes = writer.size();
        let id = writer.freeze().map_err(|error| error.to_string())?;
        Ok(Known { id, bytes, timestamp: self.last_timestamp })
    }

    fn batch(&self, base_offset: i64, control: bool) -> BatchBuilder {
        let options = BatchOptions { leader_epoch: self.id.leader_epoch, control, ..Default::default() };
        BatchBuilder::new(base_offset, options)
    }

    fn push_control(&self, batch: &mut BatchBuilder, control_type: ControlType, value: &[u8]) {
        batch.push(self.now, Some(&ControlKey::new(control_type).to_bytes()), Some(value), &[]);
    }
}

fn position(id: SnapshotId) -> OffsetAndEpoch {
    OffsetAndEpoch { offset: id.end_offset, epoch: id.leader_epoch }
}

/// Appends a batch; returns the offset after it.
fn append(writer: &mut SnapshotWriter, batch: BatchBuilder) -> Result<i64, String> {
    let next_offset = batch.next_offset();
    writer.append(&batch.finish()).map_err(|error| error.to_string())?;
    Ok(next_offset)
}

/// A record of the metadata as it stands in logs and snapshots.
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
