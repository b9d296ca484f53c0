//! The node's log directory as its partitions need it: where a log lives, how it opens, when it is flushed, what the checkpoints say.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ottla_metadata::config::{BrokerConfig, TopicConfig};
use ottla_storage::{
    Checkpoint, Disk, Log, LogConfig, LogDir, LogDirError, OpenHints, PartitionDir, PartitionDirKind, PartitionName,
    StorageError, Usage, read_partition_metadata, write_partition_metadata,
};

use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Partition, Topic};
use crate::sessions::lock;

/// The log directory and what was known of its logs when the node started.
#[derive(Debug)]
pub(crate) struct Store {
    dir: LogDir,
    flush_interval_ms: Millis,
    producer_id_expiration_ms: Millis,
    strict_validation: bool,
    /// What the checkpoints said at start, until the log is opened.
    hints: Mutex<BTreeMap<PartitionName, OpenHints>>,
    /// Partitions with unflushed records that nobody waits for, by the time at which they are flushed all the same.
    flushes: Mutex<VecDeque<(Millis, Arc<Partition>)>>,
}

impl Store {
    /// Reads the checkpoints of a locked directory. `clean`: the last shutdown was clean, so no log needs recovery.
    pub fn new(dir: LogDir, config: &BrokerConfig, clean: bool) -> Result<Self, LogDirError> {
        let mut hints: BTreeMap<PartitionName, OpenHints> = BTreeMap::new();
        // A damaged checkpoint costs a longer recovery, never data.
        let recovery_points = dir.read_checkpoint(Checkpoint::RecoveryPoint).unwrap_or_default();
        let log_starts = dir.read_checkpoint(Checkpoint::LogStart).unwrap_or_default();
        for (name, offset) in recovery_points {
            hints.entry(name).or_default().recovery_point = offset;
        }
        for (name, offset) in log_starts {
            hints.entry(name).or_default().log_start_offset = offset;
        }
        if clean {
            for name in dir.partitions()?.into_iter().map(|found| found.partition) {
                hints.entry(name).or_default().clean_shutdown = true;
            }
        }
        Ok(Store {
            dir,
            flush_interval_ms: config.flush_interval_ms,
            producer_id_expiration_ms: config.producer_id_expiration_ms,
            strict_validation: config.strict_validation,
            hints: Mutex::new(hints),
            flushes: Mutex::default(),
        })
    }

    pub fn dir(&self) -> &LogDir {
        &self.dir
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn disk(&self) -> &Arc<dyn Disk> {
        self.dir.disk()
    }

    pub fn usage(&self) -> std::io::Result<(u64, u64)> {
        let Usage { total, usable } = self.disk().usage(self.root())?;
        Ok((total, usable))
    }

    pub fn partition_dir(&self, topic: &str, index: i32) -> PathBuf {
        let name = PartitionName::new(topic, index);
        self.root().join(PartitionDir::new(name, PartitionDirKind::Current, "").name)
    }

    /// Opens a partition's log, creating its directory if this is its first use.
    pub fn open_log(&self, topic: &Topic, index: i32, settings: &TopicConfig, now: Millis) -> Result<Log, StorageError> {
        let path = self.partition_dir(&topic.name, index);
        let disk = self.disk();
        let name = PartitionName::new(&*topic.name, index);
        let hints = lock(&self.hints).remove(&name).unwrap_or_default();
        if !disk.exists(&path)? {
            disk.create_dir_all(&path)?;
            disk.sync_dir(self.root())?;
        }
        if read_partition_metadata(&**disk, &path)?.is_none() {
            write_partition_metadata(&**disk, &path, topic.id)?;
        }
        let (log, _report) = Log::open(disk.clone(), path, self.log_config(settings), hints, now)?;
        Ok(log)
    }

    /// Whether a topic's directory belongs to an earlier topic of the same name.
    pub fn is_foreign(&self, topic: &Topic, index: i32) -> bool {
        let path = self.partition_dir(&topic.name, index);
        matches!(read_partition_metadata(&**self.disk(), &path), Ok(Some(id)) if id != topic.id)
    }

    /// Sets a partition's directory aside under a name that says why, so that the name is free at once.
    pub fn set_aside(&self, topic: &str, index: i32, kind: PartitionDirKind, unique: u64) -> Result<Option<PathBuf>, StorageError> {
        let from = self.partition_dir(topic, index);
        lock(&self.hints).remove(&PartitionName::new(topic, index));
        if !self.disk().exists(&from)? {
            return Ok(None);
        }
        let to = PartitionDir::new(PartitionName::new(topic, index), kind, &format!("{unique:032x}"));
        let to = self.root().join(to.name);
        self.disk().rename(&from, &to)?;
        self.disk().sync_dir(self.root())?;
        Ok(Some(to))
    }

    /// What a log needs to know of its topic's configuration.
    pub fn log_config(&self, settings: &TopicConfig) -> LogConfig {
        LogConfig::from_settings(settings, self.producer_id_expiration_ms, self.strict_validation)
    }

    /// Promises a flush within the flush interval to a partition that nobody waits for.
    pub fn list_for_flush(&self, partition: Arc<Partition>, now: Millis, out: &mut Effects) {
        let at = now + self.flush_interval_ms;
        lock(&self.flushes).push_back((at, partition));
        out.push(Effect::Tick { at });
    }

    /// Partitions whose flush is due.
    pub fn due_flushes(&self, now: Millis) -> Vec<Arc<Partition>> {
        let mut flushes = lock(&self.flushes);
        let mut due = Vec::new();
        while let Some((_, partition)) = flushes.pop_front_if(|(at, _)| *at <= now) {
            due.push(partition);
        }
        due
    }

    /// When the next flush is due.
    pub fn next_flush(&self) -> Option<Millis> {
        lock(&self.flushes).front().map(|(at, _)| *at)
    }

    /// Writes the three checkpoints of a broker. `offsets`: (name, recovery point, log start offset, high watermark) of every open log;
    /// logs that nobody opened keep what was known of them.
    pub fn write_checkpoints(&self, offsets: &[(PartitionName, i64, i64, i64)]) -> Result<(), LogDirError> {
        let (mut recovery, mut start, mut high) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, hints) in lock(&self.hints).iter() {
            recovery.insert(name.clone(), hints.recovery_point);
            start.insert(name.clone(), hints.log_start_offset);
        }
        for (name, recovery_point, log_start_offset, high_watermark) in offsets {
            recovery.insert(name.clone(), *recovery_point);
            high.insert(name.clone(), *high_watermark);
            if *log_start_offset > 0 {
                start.insert(name.clone(), *log_start_offset);
            }
        }
        self.dir.write_checkpoint(Checkpoint::RecoveryPoint, &recovery)?;
        self.dir.write_checkpoint(Checkpoint::LogStart, &start)?;
        self.dir.write_checkpoint(Checkpoint::HighWatermark, &high)
    }
}
