//! Snapshots of the metadata: when one is taken, how it is written, and what of the log and of older ones goes afterwards.
//!
//! A snapshot is the committed image as records, between a header and a footer, in a file that is named after the offset at which it
//! ends. The one tricky idea: the image is immutable, so it is written on a reader thread while the cluster goes on; it gets its name when
//! it is durable, and only then may anything go that it stands for (`SnapshotGenerator`, `KafkaRaftLog.maybeClean`).

use std::path::PathBuf;
use std::sync::Arc;

use ottla_metadata::config::MetadataLogSettings;
use ottla_metadata::{Image, MetadataVersion};
use ottla_raft::{OffsetAndEpoch, Voters};
use ottla_storage::disk::remove_if_exists;
use ottla_storage::{DeleteJob, Disk, Log, SnapshotId, SnapshotState, remove_snapshot};

use super::checkpoint::{CheckpointWriter, Heading};
use super::wire::encode_voters;
use crate::effect::Millis;

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

    /// A snapshot was written, or could not be; then the next one is tried when it would be due anyway. One that a fetched snapshot has
    /// overtaken meanwhile is of no use: its file goes at the next start.
    pub fn end(&mut self, written: Option<Known>) {
        self.is_running = false;
        let latest = self.known.last().map_or(-1, |known| known.id.end_offset);
        self.known.extend(written.filter(|known| known.id.end_offset > latest));
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

    /// A snapshot was fetched, and stands for everything before its end: the log begins there, and older snapshots are behind it. Returns
    /// those; their files may go.
    pub fn receive(&mut self, fetched: Known) -> Vec<SnapshotId> {
        self.bytes_since = 0;
        std::mem::replace(&mut self.known, vec![fetched]).into_iter().map(|known| known.id).collect()
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
        let partial = self.dir.join(self.id.file_name(SnapshotState::Partial));
        let disk = self.disk.clone();
        self.write().inspect_err(|_| {
            // It may be that there was no space, and what it took is wanted back; if that fails, too, it goes with the next start.
            let _ = remove_if_exists(&*disk, &partial);
        })
    }

    fn write(self) -> Result<Known, String> {
        let heading = Heading {
            metadata_version: self.image.metadata_version().unwrap_or(MetadataVersion::MINIMUM),
            kraft_version: self.kraft_version,
            voters: Some(encode_voters(&self.voters)),
            last_timestamp: self.last_timestamp,
            now: self.now,
        };
        let mut writer = CheckpointWriter::begin(self.disk, &self.dir, self.id, &heading)?;
        let mut written = Ok(());
        self.image.visit_records(&mut |record| {
            if written.is_ok() {
                written = writer.push(&record);
            }
        });
        written?;
        let bytes = writer.finish()?;
        Ok(Known { id: self.id, bytes, timestamp: self.last_timestamp })
    }
}

fn position(id: SnapshotId) -> OffsetAndEpoch {
    OffsetAndEpoch { offset: id.end_offset, epoch: id.leader_epoch }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(end_offset: i64, leader_epoch: i32) -> Known {
        Known { id: SnapshotId { end_offset, leader_epoch }, bytes: 1, timestamp: 0 }
    }

    fn settings() -> MetadataLogSettings {
        let given = std::collections::BTreeMap::new();
        ottla_metadata::config::BrokerConfig::resolve(&given).expect("defaults").0.metadata_log
    }

    /// Raft asks for the snapshot at the start of the log, and for the newest: a fetched one is both.
    #[test]
    fn a_fetched_snapshot_stands_for_all_before_it() {
        let mut snapshots = Snapshots::new(vec![known(300, 2)], settings(), 0);
        assert_eq!(snapshots.receive(known(1_000, 5)), [SnapshotId { end_offset: 300, leader_epoch: 2 }]);
        // One that was begun before that, and is ready now.
        snapshots.end(Some(known(500, 4)));
        let fetched = Some(OffsetAndEpoch { offset: 1_000, epoch: 5 });
        assert_eq!((snapshots.earliest(), snapshots.latest()), (fetched, fetched));
        snapshots.end(Some(known(1_200, 5)));
        assert_eq!(snapshots.latest(), Some(OffsetAndEpoch { offset: 1_200, epoch: 5 }));
    }
}
