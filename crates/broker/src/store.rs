//! The node's log directory as its partitions need it: where a log lives, how it opens, when it is flushed, what the checkpoints say.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_metadata::config::{self, BrokerConfig, TopicCompression, TopicConfig, TransactionSettings};
use ottla_metadata::topic_name::CLUSTER_METADATA;
use ottla_protocol::Uuid;
use ottla_protocol::compression::Codec;
use ottla_protocol::records::TimestampType;
use ottla_storage::disk::read_file;
use ottla_storage::names::{LOG, PARTITION_METADATA, parse_segment_name};
use ottla_storage::{
    Checkpoint, CompactionRules, Disk, File, Log, LogConfig, LogDir, LogDirError, OpenFiles, OpenHints,
    OpenMode, PartitionDir, PartitionDirKind, PartitionName, RetentionRules, StorageError, TailBudget,
    TargetCompression, Usage, read_partition_metadata, write_partition_metadata,
};

use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Partition, Topic};
use crate::sessions::lock;
use crate::upkeep::Doomed;

/// The largest batch of the metadata log, in bytes (Kafka: `MAX_BATCH_SIZE_BYTES`).
const METADATA_BATCH_BYTES_MAX: u32 = 8 << 20;
/// Bytes of recent batches that one log may keep in memory for readers at its tail.
const TAIL_CACHE_BYTES: usize = 1 << 20;

/// Lines for the operator that are kept until they can be told; more are dropped.
const REPORTS_MAX: usize = 100;

/// A partition's directory that exists in the page cache only.
#[derive(Debug)]
pub(crate) struct Birth {
    store: Arc<Store>,
    name: PartitionName,
    metadata: Arc<dyn File>,
}

impl Birth {
    /// Makes the directory, and whose it is, durable. Waits for the disk.
    pub fn complete(&self) -> io::Result<()> {
        self.store.forget_predecessor(&self.name).map_err(io::Error::other)?;
        let dir = self.store.partition_dir(&self.name.topic, self.name.partition);
        self.metadata.sync_data()?;
        self.store.disk().sync_dir(&dir)?;
        self.store.sync_root()
    }
}

/// The log directory and what was known of its logs when the node started.
#[derive(Debug)]
pub(crate) struct Store {
    dir: LogDir,
    flush_interval_ms: Millis,
    /// `producer.id.expiration.ms`.
    producer_id_expiration_ms: AtomicI64,
    /// `transaction.partition.verification.enable`.
    verify_transactions: AtomicBool,
    /// What all logs together keep in memory for readers at their tails.
    tail_budget: TailBudget,
    checkpointing: Mutex<()>,
    /// High watermarks at start.
    high_watermarks: BTreeMap<PartitionName, i64>,
    /// The logs that the directory holds and nobody opened yet, and what the checkpoints said of them at start.
    hints: Mutex<BTreeMap<PartitionName, OpenHints>>,
    /// Partitions that are gone, and that the checkpoints on disk may still speak of. Checkpoints go by name: before anything counts
    /// that a new partition of such a name holds, they have to be rid of the old one.
    forgotten: Mutex<BTreeSet<PartitionName>>,
    /// Partitions with unflushed records that nobody waits for, by the time at which they are flushed all the same.
    flushes: Mutex<BTreeMap<(Millis, u64), Arc<Partition>>>,
    reports: Mutex<Vec<String>>,
    /// When the checkpoints are to be written, if anything changed since the last ones.
    checkpoint_due: Mutex<Option<Millis>>,
    /// `log.flush.offset.checkpoint.interval.ms`.
    checkpoint_interval_ms: Millis,
    /// Where the search for a log that can let go of its files goes on ([`crate::open_files`]).
    pub clock_hand: AtomicUsize,
    /// Directories set aside, by the time at which they are removed.
    doomed: Mutex<BTreeMap<(Millis, u64), Doomed>>,
}

impl Store {
    /// Reads the checkpoints of a locked directory. `clean`: the last shutdown was clean, so no log needs recovery.
    pub fn new(dir: LogDir, config: &BrokerConfig, clean: bool) -> Result<Self, LogDirError> {
        let mut hints: BTreeMap<PartitionName, OpenHints> = BTreeMap::new();
        // A damaged checkpoint costs a longer recovery, never data.
        let recovery_points = dir.read_checkpoint(Checkpoint::RecoveryPoint).unwrap_or_default();
        let log_starts = dir.read_checkpoint(Checkpoint::LogStart).unwrap_or_default();
        let dir_high_watermarks = dir.read_checkpoint(Checkpoint::HighWatermark).unwrap_or_default();
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
        for found in dir.partitions()? {
            if found.kind == PartitionDirKind::Current {
                let hints = hints.entry(found.partition).or_default();
                hints.clean_shutdown = clean;
                hints.on_disk = true;
            }
        }
        Ok(Store {
            dir,
            flush_interval_ms: config.flush_interval_ms,
            producer_id_expiration_ms: i64::from(config.transactions.producer_id_expiration_ms).into(),
            verify_transactions: config.transactions.partition_verification.into(),
            tail_budget: TailBudget::new(usize::try_from(config.tail_cache_bytes).unwrap_or(usize::MAX)),
            checkpointing: Mutex::default(),
            high_watermarks: dir_high_watermarks,
            hints: Mutex::new(hints),
            forgotten: Mutex::default(),
            flushes: Mutex::default(),
            reports: Mutex::default(),
            checkpoint_due: Mutex::default(),
            checkpoint_interval_ms: i64::from(config.retention.recovery_point_checkpoint_interval_ms),
            clock_hand: AtomicUsize::new(0),
            doomed: Mutex::default(),
        })
    }

    /// What was known to be committed of a partition when this node started.
    pub fn high_watermark(&self, topic: &str, index: i32) -> i64 {
        self.high_watermarks.get(&PartitionName::new(topic, index)).copied().unwrap_or(0)
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

    /// How many files are open beyond those that may be when `spare` more are wanted.
    pub fn open_files_beyond(&self, spare: usize) -> usize {
        let OpenFiles { count, limit } = self.disk().open_files();
        (count + spare).saturating_sub(limit)
    }

    /// Whether logs should let go of files before others open some.
    pub fn has_too_many_files(&self) -> bool {
        self.open_files_beyond(1) > 0
    }

    pub fn usage(&self) -> std::io::Result<(u64, u64)> {
        let Usage { total, usable } = self.disk().usage(self.root())?;
        Ok((total, usable))
    }

    pub fn partition_dir(&self, topic: &str, index: i32) -> PathBuf {
        let name = PartitionName::new(topic, index);
        self.root().join(PartitionDir::new(name, PartitionDirKind::Current, "").name)
    }

    /// Creates a partition's log. Nothing of it is durable yet: that is left to the first flush, so that nobody waits for the disk here.
    pub fn create_log(
        self: &Arc<Self>,
        topic: &Topic,
        index: i32,
        settings: &TopicConfig,
        now: Millis,
    ) -> Result<(Log, Birth), StorageError> {
        let path = self.partition_dir(&topic.name, index);
        self.disk().create_dir_all(&path)?;
        let metadata = write_partition_metadata(&**self.disk(), &path, topic.id)?;
        let log = Log::create(self.disk().clone(), path, self.log_config(settings), now);
        let name = PartitionName::new(&*topic.name, index);
        Ok((log, Birth { store: self.clone(), name, metadata }))
    }

    /// Opens a partition's log that exists, and gives it to `take`. Everything in it is durable by then. Waits for the disk.
    pub fn open_log<T>(
        &self,
        topic: &Topic,
        index: i32,
        settings: &TopicConfig,
        now: Millis,
        take: impl FnOnce(Log) -> T,
    ) -> Result<T, StorageError> {
        let path = self.partition_dir(&topic.name, index);
        let disk = self.disk();
        let name = PartitionName::new(&*topic.name, index);
        let hints = lock(&self.hints).get(&name).copied().unwrap_or_default();
        if read_partition_metadata(&**disk, &path)? != Some(topic.id) {
            let reason = format!("{} belongs to another topic", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason).into());
        }
        if !hints.on_disk {
            // The name of the directory is durable since this process looked through them, and what is in it will be when the log is
            // open.
            disk.open(&path.join(PARTITION_METADATA), OpenMode::Write)?.sync_data()?;
        }
        let taken = take(self.open(&path, self.log_config(settings), hints, now)?);
        // Not before: whoever writes checkpoints looks here first and then at the logs that were taken, and must find it.
        lock(&self.hints).remove(&name);
        Ok(taken)
    }

    /// The topic id that a partition's directory names. `None`: it names none, so the power failed before its first flush, and nothing
    /// in it was ever acknowledged as durable.
    pub fn topic_id_of(&self, topic: &str, index: i32) -> io::Result<Option<Uuid>> {
        let path = self.partition_dir(topic, index);
        let disk = &**self.disk();
        match read_partition_metadata(disk, &path) {
            // The length of a file may outlive its content.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let content = read_file(disk, &path.join(PARTITION_METADATA))?;
                if content.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(error) }
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

    /// Makes sure that the checkpoints on disk do not speak of an earlier partition of this name. May wait for the disk.
    fn forget_predecessor(&self, name: &PartitionName) -> Result<(), LogDirError> {
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
                read => read.map_err(|error| LogDirError::Io(self.root().to_path_buf(), error))?,
            };
            let before = offsets.len();
            offsets.retain(|name, _| !pass.forgotten.contains(name));
            if offsets.len() < before {
                self.dir.write_checkpoint(checkpoint, &offsets)?;
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

    /// Whether a partition that this process did not use yet has a directory.
    pub fn has_log(&self, topic: &str, index: i32) -> bool {
        lock(&self.hints).contains_key(&PartitionName::new(topic, index))
    }

    /// Sets a partition's directory aside under a name that says why, so that the name is free at once. Durable after
    /// [`Store::sync_root`]; should it come back, the next start finds that it belongs to nobody.
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
        lock(&self.forgotten).insert(name);
        let to = PartitionDir::new(PartitionName::new(topic, index), kind, &format!("{unique:032x}"));
        let to = self.root().join(to.name);
        match self.disk().rename(&from, &to) {
            // It was never used.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            renamed => Ok(renamed.map(|()| Some(to))?),
        }
    }

    /// Makes durable which directories there are.
    pub fn sync_root(&self) -> io::Result<()> {
        self.disk().sync_dir(self.root())
    }

    /// Tells the operator, with the next tick.
    pub fn report(&self, line: String) {
        let mut reports = lock(&self.reports);
        if reports.len() < REPORTS_MAX {
            reports.push(line);
        }
    }

    /// What there is to tell.
    pub fn take_reports(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.reports))
    }

    /// Removes what was set aside, at `at`.
    pub fn doom(&self, what: Doomed, at: Millis, out: &mut Effects) {
        let mut doomed = lock(&self.doomed);
        let number =
            doomed.range((at, 0)..=(at, u64::MAX)).next_back().map_or(0, |((_, number), _)| number + 1);
        doomed.insert((at, number), what);
        out.push(Effect::Tick { at });
    }

    /// What is to be removed by now.
    pub fn due_removals(&self, now: Millis) -> Vec<Doomed> {
        let mut doomed = lock(&self.doomed);
        let later = doomed.split_off(&(now + 1, 0));
        std::mem::replace(&mut *doomed, later).into_values().collect()
    }

    /// Up to where logs were compacted when the node started. A damaged checkpoint costs a longer compaction.
    pub fn cleaned_offsets(&self) -> BTreeMap<PartitionName, i64> {
        self.dir.read_checkpoint(Checkpoint::Cleaner).unwrap_or_default()
    }

    /// Changes what holds for the producers of all logs that are configured from here on.
    pub fn set_producer_rules(&self, rules: &TransactionSettings) {
        self.producer_id_expiration_ms.store(rules.producer_id_expiration_ms.into(), Ordering::Relaxed);
        self.verify_transactions.store(rules.partition_verification, Ordering::Relaxed);
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
            compaction: CompactionRules {
                dirty_ratio_min: settings.min_cleanable_dirty_ratio,
                lag_min_ms: settings.min_compaction_lag_ms,
                lag_max_ms: settings.max_compaction_lag_ms,
                delete_retention_ms: settings.delete_retention_ms,
            },
            retention: match settings.cleanup.delete {
                true => RetentionRules {
                    ms: settings.retention_ms,
                    bytes: settings.retention_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
                },
                false => RetentionRules::default(),
            },
            strict_validation: settings.strict_validation,
            verify_transactions: self.verify_transactions.load(Ordering::Relaxed),
            producer_id_expiration_ms: self.producer_id_expiration_ms.load(Ordering::Relaxed),
            tail_cache_bytes: TAIL_CACHE_BYTES,
            tail_budget: self.tail_budget.clone(),
            rolls_may_wait: false,
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
            rolls_may_wait: false,
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

    /// Promises a flush to a partition that nobody waits for: within the flush interval, or sooner if its topic says so.
    pub fn list_for_flush(
        &self,
        partition: Arc<Partition>,
        flush_ms: Millis,
        now: Millis,
        out: &mut Effects,
    ) {
        let at = now + self.flush_interval_ms.min(flush_ms);
        let mut flushes = lock(&self.flushes);
        let listed =
            flushes.range((at, 0)..=(at, u64::MAX)).next_back().map_or(0, |((_, number), _)| number + 1);
        flushes.insert((at, listed), partition);
        out.push(Effect::Tick { at });
    }

    /// Partitions whose flush is due.
    pub fn due_flushes(&self, now: Millis) -> Vec<Arc<Partition>> {
        let mut flushes = lock(&self.flushes);
        let later = flushes.split_off(&(now + 1, 0));
        std::mem::replace(&mut *flushes, later).into_values().collect()
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
        let flush = lock(&self.flushes).keys().next().map(|(at, _)| *at);
        let removal = lock(&self.doomed).keys().next().map(|(at, _)| *at);
        let checkpoint = *lock(&self.checkpoint_due);
        flush.into_iter().chain(removal).chain(checkpoint).min()
    }

    /// Keeps the writers of checkpoints apart, from the first look at the topics to the last file.
    pub fn begin_checkpoints(&self) -> CheckpointPass<'_> {
        let alone = lock(&self.checkpointing);
        CheckpointPass { forgotten: lock(&self.forgotten).clone(), store: self, _alone: alone }
    }

    /// What was known at start of logs that nobody opened since. To be asked before the open logs are.
    pub fn unopened(&self) -> Checkpoints {
        let mut known = Checkpoints::default();
        for (name, hints) in lock(&self.hints).iter() {
            known.note(name.clone(), hints.recovery_point, hints.log_start_offset, None);
        }
        known.high_watermarks = self.high_watermarks.clone();
        known
    }
}

/// The right to write checkpoints.
#[derive(Debug)]
pub(crate) struct CheckpointPass<'s> {
    store: &'s Store,
    /// Whom the checkpoints on disk may speak of now, and will not any more when the pass is done.
    forgotten: BTreeSet<PartitionName>,
    _alone: MutexGuard<'s, ()>,
}

impl CheckpointPass<'_> {
    /// Writes the three checkpoints of a broker.
    pub fn write(self, checkpoints: &Checkpoints) -> Result<(), LogDirError> {
        let dir = &self.store.dir;
        dir.write_checkpoint(Checkpoint::RecoveryPoint, &checkpoints.recovery_points)?;
        dir.write_checkpoint(Checkpoint::LogStart, &checkpoints.log_starts)?;
        dir.write_checkpoint(Checkpoint::HighWatermark, &checkpoints.high_watermarks)?;
        self.done();
        Ok(())
    }

    fn done(self) {
        lock(&self.store.forgotten).retain(|name| !self.forgotten.contains(name));
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
