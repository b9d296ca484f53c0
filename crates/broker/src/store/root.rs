//! One log directory of the node, and what was known of its logs when the node started.
//!
//! The one tricky idea: a directory fails as a whole. Whoever meets an error of the disk that will not pass says so here, once; from then
//! on nobody touches the directory, whatever its files would answer (KIP-112).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use ottla_protocol::Uuid;
use ottla_storage::disk::read_file;
use ottla_storage::names::{LOG, PARTITION_METADATA, parse_segment_name};
use ottla_storage::{
    Checkpoint, Disk, LogDir, LogDirError, OpenHints, OpenMode, PartitionDir, PartitionDirKind,
    PartitionName, StorageError, Usage, read_partition_metadata,
};

use super::reserve::Reserve;
use crate::sessions::lock;

mod futures;

use futures::FutureFound;
/// What stands in `partition.metadata` before the topic id, and how long that is.
const METADATA_BEGIN: &[u8] = b"version: 0\ntopic_id: ";
const TOPIC_ID_LEN: usize = 22;

/// A log directory that could be opened.
#[derive(Debug)]
pub(crate) struct Root {
    dir: LogDir,
    id: Uuid,
    /// Whether partitions may live here: not in a directory for the metadata log alone.
    pub holds_partitions: bool,
    /// Whether the last shutdown was clean, so that no log here needs recovery.
    pub was_clean: bool,
    /// How many replicas live here.
    partitions: AtomicUsize,
    /// Why nobody uses it any more.
    offline: OnceLock<String>,
    /// Space that is kept for what must not fail for want of it.
    pub reserve: Reserve,
    checkpointing: Mutex<()>,
    /// Names of partitions that are gone and whose directories could not be set aside yet: no other partition may have them.
    occupied: Mutex<BTreeMap<PartitionName, u128>>,
    /// High watermarks at start.
    high_watermarks: BTreeMap<PartitionName, i64>,
    /// The logs that the directory holds and nobody opened yet, and what the checkpoints said of them at start.
    hints: Mutex<BTreeMap<PartitionName, OpenHints>>,
    /// The same of copies that were to replace logs of other directories.
    futures: Mutex<BTreeMap<PartitionName, FutureFound>>,
    /// Partitions that are gone, and that the checkpoints on disk may still speak of. Checkpoints go by name: before anything counts
    /// that a new partition of such a name holds, they have to be rid of the old one.
    forgotten: Mutex<BTreeSet<PartitionName>>,
}

impl Root {
    /// Reads the checkpoints of a locked and formatted directory.
    pub fn new(dir: LogDir, id: Uuid, was_clean: bool, holds_partitions: bool) -> Result<Root, LogDirError> {
        let mut hints: BTreeMap<PartitionName, OpenHints> = BTreeMap::new();
        // A damaged checkpoint costs a longer recovery, never data.
        let recovery_points = dir.read_checkpoint(Checkpoint::RecoveryPoint).unwrap_or_default();
        let log_starts = dir.read_checkpoint(Checkpoint::LogStart).unwrap_or_default();
        let high_watermarks = dir.read_checkpoint(Checkpoint::HighWatermark).unwrap_or_default();
        for (name, offset) in recovery_points {
            hints.entry(name).or_default().recovery_point = offset;
        }
        for (name, offset) in log_starts {
            hints.entry(name).or_default().log_start_offset = offset;
        }
        // What this one says only explains gaps that Kafka's compaction leaves.
        for (name, offset) in dir.read_checkpoint(Checkpoint::Cleaner).unwrap_or_default() {
            hints.entry(name).or_default().cleaned_offset = offset;
        }
        let found = dir.partitions()?;
        for found in found.iter().filter(|found| found.kind == PartitionDirKind::Current) {
            let hints = hints.entry(found.partition.clone()).or_default();
            hints.clean_shutdown = was_clean;
            hints.on_disk = true;
        }
        let futures = futures::take(&dir, &found, &mut hints, was_clean);
        let reserve = Reserve::new(dir.disk().clone(), dir.path());
        let reserve = reserve.map_err(|error| LogDirError::Io(dir.path().to_path_buf(), error))?;
        Ok(Root {
            dir,
            id,
            reserve,
            occupied: Mutex::default(),
            holds_partitions,
            was_clean,
            partitions: AtomicUsize::new(0),
            offline: OnceLock::new(),
            checkpointing: Mutex::default(),
            high_watermarks,
            hints: Mutex::new(hints),
            futures: Mutex::new(futures),
            forgotten: Mutex::default(),
        })
    }

    /// `directory.id`.
    pub fn id(&self) -> Uuid {
        self.id
    }

    pub fn dir(&self) -> &LogDir {
        &self.dir
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn disk(&self) -> &Arc<dyn Disk> {
        self.dir.disk()
    }

    /// Whether the directory failed.
    pub fn is_offline(&self) -> bool {
        self.offline.get().is_some()
    }

    /// Why the directory failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.offline.get().map(String::as_str)
    }

    /// The directory failed. Returns whether nobody said so before.
    pub(in crate::store) fn fail(&self, why: String) -> bool {
        self.offline.set(why).is_ok()
    }

    /// How many replicas live here.
    pub fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }

    /// A replica lives here from now on.
    pub fn move_in(&self) {
        self.partitions.fetch_add(1, Ordering::Relaxed);
    }

    /// A replica lives here no more.
    pub fn move_out(&self) {
        let before = self.partitions.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "only who moved in moves out");
    }

    /// What was known to be committed of a partition when this node started.
    pub fn high_watermark(&self, topic: &str, index: i32) -> i64 {
        self.high_watermarks.get(&PartitionName::new(topic, index)).copied().unwrap_or(0)
    }

    /// Size of its file system, and bytes that may be used.
    pub fn usage(&self) -> io::Result<(u64, u64)> {
        let Usage { total, usable } = self.disk().usage(self.path())?;
        Ok((total, usable))
    }

    pub fn partition_dir(&self, topic: &str, index: i32) -> PathBuf {
        let name = PartitionName::new(topic, index);
        self.path().join(PartitionDir::new(name, PartitionDirKind::Current, "").name)
    }

    /// What was known of a log at start, if nobody opened it since.
    pub(in crate::store) fn hints_of(&self, name: &PartitionName) -> OpenHints {
        lock(&self.hints).get(name).copied().unwrap_or_default()
    }

    /// The log is open, or will not be.
    pub(in crate::store) fn take_hints(&self, name: &PartitionName) -> OpenHints {
        lock(&self.hints).remove(name).unwrap_or_default()
    }

    /// Makes what names a partition's directory durable, and checks whose it is. Waits for the disk.
    pub(in crate::store) fn claim(
        &self,
        path: &Path,
        topic_id: Uuid,
        hints: OpenHints,
    ) -> Result<(), StorageError> {
        let disk = self.disk();
        if read_partition_metadata(&**disk, path)? != Some(topic_id) {
            let reason = format!("{} belongs to another topic", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason).into());
        }
        if !hints.on_disk {
            // The name of the directory is durable since this process looked through them, and what is in it will be when the log is
            // open.
            disk.open(&path.join(PARTITION_METADATA), OpenMode::Write)?.sync_data()?;
        }
        Ok(())
    }

    /// The topic id that a partition's directory names. `None`: it names none, so the power failed before its first flush, and nothing
    /// in it was ever acknowledged as durable.
    pub fn topic_id_in(&self, path: &Path) -> io::Result<Option<Uuid>> {
        let disk = &**self.disk();
        match read_partition_metadata(disk, path) {
            // The length of a file may outlive its content, and whoever wrote it may have met an error.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let content = read_file(disk, &path.join(PARTITION_METADATA))?;
                let is_cut_short = METADATA_BEGIN.starts_with(&content)
                    || content.strip_prefix(METADATA_BEGIN).is_some_and(|id| id.len() < TOPIC_ID_LEN);
                if is_cut_short || content.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(error) }
            }
            read => read,
        }
    }

    /// Forgets what the checkpoints say of logs that are not there.
    pub fn retain_hints(&self, keep: impl Fn(&PartitionName) -> bool) {
        let gone =
            lock(&self.hints).extract_if(.., |name, _| !keep(name)).map(|(name, _)| name).collect::<Vec<_>>();
        lock(&self.forgotten).extend(gone);
    }

    /// The log was given up by this process, to be opened again: this is what is known of it.
    pub fn put_hints(&self, name: PartitionName, hints: OpenHints) {
        lock(&self.hints).insert(name, hints);
    }

    /// Makes sure that the checkpoints on disk do not speak of an earlier partition of this name. May wait for the disk.
    pub(in crate::store) fn forget_predecessor(&self, name: &PartitionName) -> Result<(), LogDirError> {
        if lock(&self.forgotten).contains(name) { self.forget() } else { Ok(()) }
    }

    /// Takes partitions that are gone out of the checkpoints on disk. Waits for the disk.
    pub fn forget(&self) -> Result<(), LogDirError> {
        let pass = self.begin_checkpoints();
        if pass.forgotten.is_empty() {
            return Ok(());
        }
        for checkpoint in
            [Checkpoint::RecoveryPoint, Checkpoint::LogStart, Checkpoint::HighWatermark, Checkpoint::Cleaner]
        {
            let mut offsets = match self.dir.read_checkpoint(checkpoint) {
                // Nobody believes a damaged one.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                read => read.map_err(|error| LogDirError::Io(self.path().to_path_buf(), error))?,
            };
            let before = offsets.len();
            offsets.retain(|name, _| !pass.forgotten.contains(name));
            if offsets.len() < before {
                self.reserve.spend(|| self.dir.write_checkpoint(checkpoint, &offsets))?;
            }
        }
        pass.done();
        Ok(())
    }

    /// Bytes of a partition's segments, from the directory. May wait for the disk.
    pub fn log_bytes(&self, topic: &str, index: i32) -> u64 {
        let dir = self.partition_dir(topic, index);
        let names = self.disk().list(&dir).unwrap_or_default();
        let segments = names.iter().filter(|name| matches!(parse_segment_name(name), Some((_, LOG))));
        let bytes =
            |name: &String| self.disk().open(&dir.join(name), OpenMode::Read).and_then(|file| file.len());
        segments.filter_map(|name| bytes(name).ok()).sum()
    }

    /// Whether a partition that this process did not use yet has a directory here.
    pub fn has_log(&self, name: &PartitionName) -> bool {
        lock(&self.hints).contains_key(name)
    }

    /// Sets a partition's directory aside under a name that says why, so that the name is free at once. Durable after
    /// [`Root::sync`]; should it come back, the next start finds that it belongs to nobody.
    pub fn set_aside(
        &self,
        topic: &str,
        index: i32,
        kind: PartitionDirKind,
        unique: u128,
    ) -> Result<Option<PathBuf>, StorageError> {
        let from = self.partition_dir(topic, index);
        let name = PartitionName::new(topic, index);
        lock(&self.hints).remove(&name);
        lock(&self.forgotten).insert(name.clone());
        let set_aside = self.rename_aside(&from, &self.named_dir(topic, index, kind, unique));
        if set_aside.is_err() {
            lock(&self.occupied).insert(name, unique);
        }
        set_aside
    }

    /// The path of a directory of a partition that is not the one in use.
    pub fn named_dir(&self, topic: &str, index: i32, kind: PartitionDirKind, unique: u128) -> PathBuf {
        let name = PartitionName::new(topic, index);
        self.path().join(PartitionDir::new(name, kind, &format!("{unique:032x}")).name)
    }

    fn rename_aside(&self, from: &Path, to: &Path) -> Result<Option<PathBuf>, StorageError> {
        match self.reserve.spend(|| self.disk().rename(from, to)) {
            // It was never used.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            renamed => Ok(renamed.map(|()| Some(to.to_path_buf()))?),
        }
    }

    /// Sets directories of deleted partitions aside that could not be before. Returns them, and why one could not be this time.
    pub fn clear_names(&self) -> (Vec<PathBuf>, Option<StorageError>) {
        let (mut cleared, mut failed) = (Vec::new(), None);
        let occupied = std::mem::take(&mut *lock(&self.occupied));
        for (name, unique) in occupied {
            match self.set_aside(&name.topic, name.partition, PartitionDirKind::Delete, unique) {
                Ok(path) => cleared.extend(path),
                Err(error) => failed = Some(error),
            }
        }
        (cleared, failed)
    }

    /// Whether the directory of another partition still has that name.
    pub fn is_occupied(&self, name: &PartitionName) -> bool {
        lock(&self.occupied).contains_key(name)
    }

    /// Makes durable which directories there are.
    pub fn sync(&self) -> io::Result<()> {
        self.disk().sync_dir(self.path())
    }

    /// Makes all that is written in the directory durable.
    pub fn sync_tree(&self) -> Result<(), LogDirError> {
        let synced = self.disk().sync_tree(self.path());
        synced.map_err(|error| LogDirError::Io(self.path().to_path_buf(), error))
    }

    /// Up to where logs were compacted when the node started. A damaged checkpoint costs a longer compaction.
    pub fn cleaned_offsets(&self) -> BTreeMap<PartitionName, i64> {
        self.dir.read_checkpoint(Checkpoint::Cleaner).unwrap_or_default()
    }

    /// Keeps the writers of checkpoints apart, from the first look at the topics to the last file.
    pub fn begin_checkpoints(&self) -> CheckpointPass<'_> {
        let alone = lock(&self.checkpointing);
        CheckpointPass { forgotten: lock(&self.forgotten).clone(), root: self, _alone: alone }
    }

    /// What was known at start of logs that nobody opened since. To be asked before the open logs are.
    pub fn unopened(&self) -> Checkpoints {
        let mut known = Checkpoints::default();
        for (name, hints) in lock(&self.hints).iter() {
            known.note(name.clone(), hints.recovery_point, hints.log_start_offset, None);
        }
        for (name, found) in lock(&self.futures).iter() {
            known.note(name.clone(), found.hints.recovery_point, found.hints.log_start_offset, None);
        }
        known.high_watermarks = self.high_watermarks.clone();
        known
    }
}

/// The right to write checkpoints.
#[derive(Debug)]
pub(crate) struct CheckpointPass<'r> {
    root: &'r Root,
    /// Whom the checkpoints on disk may speak of now, and will not any more when the pass is done.
    forgotten: BTreeSet<PartitionName>,
    _alone: MutexGuard<'r, ()>,
}

impl CheckpointPass<'_> {
    /// Writes the three checkpoints of a broker.
    pub fn write(self, checkpoints: &Checkpoints) -> Result<(), LogDirError> {
        let Root { dir, reserve, .. } = self.root;
        for (checkpoint, offsets) in [
            (Checkpoint::RecoveryPoint, &checkpoints.recovery_points),
            (Checkpoint::LogStart, &checkpoints.log_starts),
            (Checkpoint::HighWatermark, &checkpoints.high_watermarks),
        ] {
            reserve.spend(|| dir.write_checkpoint(checkpoint, offsets))?;
        }
        self.done();
        Ok(())
    }

    fn done(self) {
        lock(&self.root.forgotten).retain(|name| !self.forgotten.contains(name));
    }
}

/// The offsets that the checkpoints of a broker hold.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    recovery_points: BTreeMap<PartitionName, i64>,
    log_starts: BTreeMap<PartitionName, i64>,
    high_watermarks: BTreeMap<PartitionName, i64>,
}

impl Checkpoints {
    /// Takes note of one log.
    pub fn note(
        &mut self,
        name: PartitionName,
        recovery_point: i64,
        log_start: i64,
        high_watermark: Option<i64>,
    ) {
        if log_start > 0 {
            self.log_starts.insert(name.clone(), log_start);
        } else {
            self.log_starts.remove(&name);
        }
        if let Some(high_watermark) = high_watermark {
            self.high_watermarks.insert(name.clone(), high_watermark);
        }
        self.recovery_points.insert(name, recovery_point);
    }

    /// Leaves out high watermarks of partitions that are gone.
    pub fn retain(&mut self, keep: impl Fn(&PartitionName) -> bool) {
        self.high_watermarks.retain(|name, _| keep(name));
        self.log_starts.retain(|name, _| keep(name));
        self.recovery_points.retain(|name, _| keep(name));
    }
}
