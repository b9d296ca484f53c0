//! The node's log directory as its partitions need it: where a log lives, how it opens, when it is flushed, what the checkpoints say.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ottla_metadata::config::{self, BrokerConfig, TopicCompression, TopicConfig};
use ottla_metadata::topic_name::CLUSTER_METADATA;
use ottla_protocol::Uuid;
use ottla_protocol::compression::Codec;
use ottla_protocol::records::TimestampType;
use ottla_storage::names::{LOG, PARTITION_METADATA, parse_segment_name};
use ottla_storage::{
    Checkpoint, Disk, File, Log, LogConfig, LogDir, LogDirError, OpenHints, OpenMode, PartitionDir,
    PartitionDirKind, PartitionName, StorageError, TargetCompression, Usage, read_partition_metadata,
    write_partition_metadata,
};

use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Partition, Topic};
use crate::sessions::lock;

/// The largest batch of the metadata log, in bytes (Kafka: `MAX_BATCH_SIZE_BYTES`).
const METADATA_BATCH_BYTES_MAX: u32 = 8 << 20;
/// Bytes of recent batches that one log may keep in memory for readers at its tail.
const TAIL_CACHE_BYTES: usize = 1 << 20;

/// A partition's directory that exists in the page cache only.
#[derive(Debug)]
pub(crate) struct Birth {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    dir: PathBuf,
    metadata: Arc<dyn File>,
}

impl Birth {
    /// Makes the directory, and whose it is, durable. Waits for the disk.
    pub fn complete(&self) -> io::Result<()> {
        self.metadata.sync_data()?;
        self.disk.sync_dir(&self.dir)?;
        self.disk.sync_dir(&self.root)
    }
}

/// The log directory and what was known of its logs when the node started.
#[derive(Debug)]
pub(crate) struct Store {
    dir: LogDir,
    flush_interval_ms: Millis,
    producer_id_expiration_ms: Millis,
    /// Bytes of recent batches that one log keeps in memory.
    tail_cache_bytes: usize,
    /// What the checkpoints said at start, until the log is opened.
    hints: Mutex<BTreeMap<PartitionName, OpenHints>>,
    /// Partitions with unflushed records that nobody waits for, by the time at which they are flushed all the same.
    flushes: Mutex<VecDeque<(Millis, Arc<Partition>)>>,
    /// When the checkpoints are to be written, if anything changed since the last ones.
    checkpoint_due: Mutex<Option<Millis>>,
    /// `log.flush.offset.checkpoint.interval.ms`.
    checkpoint_interval_ms: Millis,
    /// Directories set aside, by the time at which they are removed.
    doomed: Mutex<VecDeque<(Millis, PathBuf)>>,
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
            producer_id_expiration_ms: i64::from(config.transactions.producer_id_expiration_ms),
            tail_cache_bytes: TAIL_CACHE_BYTES
                .min(usize::try_from(config.tail_cache_bytes).unwrap_or(usize::MAX)),
            hints: Mutex::new(hints),
            flushes: Mutex::default(),
            checkpoint_due: Mutex::default(),
            checkpoint_interval_ms: i64::from(config.retention.recovery_point_checkpoint_interval_ms),
            doomed: Mutex::default(),
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

    /// Opens a partition's log, creating its directory if this is its first use. A new directory is not durable yet: that is left to
    /// the first flush, so that nobody waits for the disk here.
    pub fn open_log(
        &self,
        topic: &Topic,
        index: i32,
        settings: &TopicConfig,
        now: Millis,
    ) -> Result<(Log, Option<Birth>), StorageError> {
        let path = self.partition_dir(&topic.name, index);
        let disk = self.disk();
        let name = PartitionName::new(&*topic.name, index);
        let hints = lock(&self.hints).remove(&name).unwrap_or_default();
        let mut birth = None;
        if !disk.exists(&path)? {
            disk.create_dir_all(&path)?;
            let metadata = write_partition_metadata(&**disk, &path, topic.id)?;
            birth = Some(Birth {
                disk: disk.clone(),
                root: self.root().to_path_buf(),
                dir: path.clone(),
                metadata,
            });
        } else if !hints.clean_shutdown {
            // A process that was killed may have left a directory that only the page cache knows.
            let metadata = disk.open(&path.join(PARTITION_METADATA), OpenMode::Write)?;
            Birth { disk: disk.clone(), root: self.root().to_path_buf(), dir: path.clone(), metadata }
                .complete()?;
        }
        Ok((self.open(&path, self.log_config(settings), hints, now)?, birth))
    }

    /// The topic id that a partition's directory names; zero if it names none: then the power failed before its first flush, and
    /// nothing in it was ever acknowledged as durable.
    pub fn topic_id_of(&self, topic: &str, index: i32) -> Uuid {
        let path = self.partition_dir(topic, index);
        read_partition_metadata(&**self.disk(), &path).ok().flatten().unwrap_or(Uuid::ZERO)
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

    /// Whether a partition has a directory.
    pub fn has_log(&self, topic: &str, index: i32) -> bool {
        self.disk().exists(&self.partition_dir(topic, index)).unwrap_or(false)
    }

    /// Sets a partition's directory aside under a name that says why, so that the name is free at once.
    pub fn set_aside(
        &self,
        topic: &str,
        index: i32,
        kind: PartitionDirKind,
        unique: u128,
    ) -> Result<Option<PathBuf>, StorageError> {
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

    /// Removes a directory that was set aside, at `at`.
    pub fn doom(&self, path: PathBuf, at: Millis, out: &mut Effects) {
        lock(&self.doomed).push_back((at, path));
        out.push(Effect::Tick { at });
    }

    /// Directories whose time has come.
    pub fn due_removals(&self, now: Millis) -> Vec<PathBuf> {
        let mut doomed = lock(&self.doomed);
        let mut due = Vec::new();
        while let Some((_, path)) = doomed.pop_front_if(|(at, _)| *at <= now) {
            due.push(path);
        }
        due
    }

    /// What a log needs to know of its topic's configuration.
    pub fn log_config(&self, settings: &TopicConfig) -> LogConfig {
        let unsigned = |number: i32| u32::try_from(number).unwrap_or(0);
        let codec = |codec, level| TargetCompression::Codec(codec, level);
        LogConfig {
            segment_bytes: unsigned(settings.segment_bytes),
            segment_ms: settings.max_segment_ms(),
            segment_jitter_ms: settings.segment_jitter_ms,
            jitter_seed: 0,
            index_interval_bytes: unsigned(settings.index_interval_bytes),
            index_bytes_max: unsigned(settings.segment_index_bytes),
            message_bytes_max: unsigned(settings.max_message_bytes),
            compression: match settings.compression {
                TopicCompression::Producer => TargetCompression::Producer,
                TopicCompression::Uncompressed => codec(Codec::None, None),
                TopicCompression::Gzip(level) => codec(Codec::Gzip, (level >= 1).then_some(level)),
                TopicCompression::Snappy => codec(Codec::Snappy, None),
                TopicCompression::Lz4(level) => codec(Codec::Lz4, Some(level)),
                TopicCompression::Zstd(level) => codec(Codec::Zstd, Some(level)),
            },
            timestamp_type: match settings.timestamp_type {
                config::TimestampType::CreateTime => TimestampType::CreateTime,
                config::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
            },
            timestamp_before_max_ms: settings.timestamp_before_max_ms,
            timestamp_after_max_ms: settings.timestamp_after_max_ms,
            compacted: settings.cleanup.compact,
            strict_validation: settings.strict_validation,
            producer_id_expiration_ms: self.producer_id_expiration_ms,
            tail_cache_bytes: self.tail_cache_bytes,
            ..LogConfig::default()
        }
    }

    /// Opens the metadata log.
    pub fn open_metadata_log(
        &self,
        path: &Path,
        config: &BrokerConfig,
        now: Millis,
    ) -> Result<Log, StorageError> {
        let log_config = LogConfig {
            segment_bytes: u32::try_from(config.metadata_log.segment_bytes).unwrap_or(1 << 30),
            segment_ms: config.metadata_log.segment_ms,
            message_bytes_max: METADATA_BATCH_BYTES_MAX,
            timestamp_after_max_ms: i64::MAX,
            tail_cache_bytes: 0,
            ..LogConfig::default()
        };
        let hints = lock(&self.hints).remove(&PartitionName::new(CLUSTER_METADATA, 0)).unwrap_or_default();
        self.open(path, log_config, hints, now)
    }

    fn open(
        &self,
        path: &Path,
        config: LogConfig,
        hints: OpenHints,
        now: Millis,
    ) -> Result<Log, StorageError> {
        let (mut log, _recovered) = Log::open(self.disk().clone(), path.to_path_buf(), config, hints, now)?;
        // What a kill left in the page cache is put on disk before anyone may call it committed.
        if let Some(job) = log.begin_flush() {
            log.on_flushed(job.run())?;
        }
        Ok(log)
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

    /// Logs went on: their checkpoints are to be written within the checkpoint interval. Until then a crash costs a longer recovery.
    pub fn want_checkpoint(&self, now: Millis, out: &mut Effects) {
        let mut due = lock(&self.checkpoint_due);
        if due.is_none() {
            let at = now + self.checkpoint_interval_ms;
            *due = Some(at);
            out.push(Effect::Tick { at });
        }
    }

    /// Whether the checkpoints are due; they are taken for written.
    pub fn take_due_checkpoint(&self, now: Millis) -> bool {
        lock(&self.checkpoint_due).take_if(|at| *at <= now).is_some()
    }

    /// When the next flush, removal or checkpoint is due.
    pub fn next_due(&self) -> Option<Millis> {
        let flush = lock(&self.flushes).front().map(|(at, _)| *at);
        let removal = lock(&self.doomed).front().map(|(at, _)| *at);
        let checkpoint = *lock(&self.checkpoint_due);
        flush.into_iter().chain(removal).chain(checkpoint).min()
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
