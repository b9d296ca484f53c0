//! The node's log directories as its partitions need them: where a log lives, how it opens, when it is flushed.
//!
//! The one tricky idea: a partition lives in one directory ([`Root`]), which is chosen when the node is given the replica and not when its
//! files are made, so that the controller can be told at once.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ottla_metadata::config::{self, BrokerConfig, TopicCompression, TopicConfig, TransactionSettings};
use ottla_metadata::topic_name::CLUSTER_METADATA;
use ottla_protocol::Uuid;
use ottla_protocol::compression::Codec;
use ottla_protocol::records::TimestampType;
use ottla_storage::{
    CompactionRules, Disk, File, Log, LogConfig, Meaning, OpenFiles, OpenHints, PartitionName,
    RetentionRules, StorageError, TailBudget, TargetCompression, write_partition_metadata,
};

use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Partition, Topic};
use crate::replication::PartitionKey;
use crate::sessions::lock;
use crate::upkeep::Doomed;

use flushes::Flushes;
pub(crate) use reserve::DiskError;
pub(crate) use root::Root;

mod flushes;
mod futures;
mod reserve;
mod root;

/// The largest batch of the metadata log, in bytes (Kafka: `MAX_BATCH_SIZE_BYTES`).
const METADATA_BATCH_BYTES_MAX: u32 = 8 << 20;
/// Bytes of recent batches that one log may keep in memory for readers at its tail.
const TAIL_CACHE_BYTES: usize = 1 << 20;

/// Lines for the operator that are kept until they can be told; more are dropped.
const REPORTS_MAX: usize = 100;

/// A partition's directory whose name exists in the page cache only.
#[derive(Debug)]
pub(crate) struct Birth {
    root: Arc<Root>,
    name: PartitionName,
    /// Whose it is, unless that is durable.
    metadata: Option<Arc<dyn File>>,
}

impl Birth {
    /// A directory that got the name of one that came before.
    pub fn renamed(root: &Arc<Root>, topic: &str, index: i32) -> Birth {
        Birth { root: root.clone(), name: PartitionName::new(topic, index), metadata: None }
    }

    /// Makes the directory, and whose it is, durable. Waits for the disk.
    pub fn complete(&self) -> Result<(), StorageError> {
        self.begin()?;
        if let Some(metadata) = &self.metadata {
            let dir = self.root.partition_dir(&self.name.topic, self.name.partition);
            metadata.sync_data()?;
            self.root.dir().disk().sync_dir(&dir)?;
        }
        Ok(self.root.sync()?)
    }

    /// As [`Birth::complete`], but the directory is durable only once the root's tree was synced.
    pub fn begin(&self) -> Result<(), StorageError> {
        Ok(self.root.forget_predecessor(&self.name).map_err(io::Error::other)?)
    }
}

/// The log directories, and what all their logs share.
#[derive(Debug)]
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    /// Those that could be opened, in the order of `log.dirs`; one for the metadata log alone comes last.
    roots: Vec<Arc<Root>>,
    metadata_root: Arc<Root>,
    /// Those of `log.dirs` that could not.
    unopened: Vec<(String, String)>,
    /// A directory or a log failed, and not everybody was told yet.
    has_failed: AtomicBool,
    /// Logs that failed for want of something.
    closing: Mutex<Vec<PartitionKey>>,
    flush_interval_ms: Millis,
    /// `producer.id.expiration.ms`.
    producer_id_expiration_ms: AtomicI64,
    /// `transaction.partition.verification.enable`.
    verify_transactions: AtomicBool,
    /// What all logs together keep in memory for readers at their tails.
    tail_budget: TailBudget,
    /// Partitions with unflushed records that nobody waits for, by the time at which they are flushed all the same.
    pub flushes: Flushes,
    reports: Mutex<Vec<String>>,
    /// When the checkpoints are to be written, if anything changed since the last ones.
    checkpoint_due: Mutex<Option<Millis>>,
    /// `log.flush.offset.checkpoint.interval.ms`.
    checkpoint_interval_ms: Millis,
    /// Where the search for a log that can let go of its files goes on ([`crate::open_files`]).
    pub clock_hand: AtomicUsize,
    /// Where replicas shall go that are not here yet (`LogManager.maybeUpdatePreferredLogDir`).
    pub preferred: Mutex<BTreeMap<PartitionName, Arc<Root>>>,
    /// Directories set aside, by the time at which they are removed.
    doomed: Mutex<BTreeMap<(Millis, u64), Doomed>>,
}

impl Store {
    /// `unopened`: directories that failed already, and why.
    pub fn new(
        roots: Vec<Arc<Root>>,
        metadata_root: Arc<Root>,
        unopened: Vec<(String, String)>,
        config: &BrokerConfig,
    ) -> Self {
        Store {
            disk: metadata_root.dir().disk().clone(),
            roots,
            metadata_root,
            unopened,
            has_failed: AtomicBool::new(false),
            closing: Mutex::default(),
            flush_interval_ms: config.flush_interval_ms,
            producer_id_expiration_ms: i64::from(config.transactions.producer_id_expiration_ms).into(),
            verify_transactions: config.transactions.partition_verification.into(),
            tail_budget: TailBudget::new(usize::try_from(config.tail_cache_bytes).unwrap_or(usize::MAX)),
            flushes: Flushes::default(),
            reports: Mutex::default(),
            checkpoint_due: Mutex::default(),
            checkpoint_interval_ms: i64::from(config.retention.checkpoint_interval_ms),
            clock_hand: AtomicUsize::new(0),
            preferred: Mutex::default(),
            doomed: Mutex::default(),
        }
    }

    /// All directories that could be opened, those that failed since included.
    pub fn roots(&self) -> &[Arc<Root>] {
        &self.roots
    }

    /// Those that did not fail.
    pub fn online(&self) -> impl Iterator<Item = &Arc<Root>> {
        self.roots.iter().filter(|root| !root.is_offline())
    }

    /// Those for partitions that did not fail.
    pub fn homes(&self) -> impl Iterator<Item = &Arc<Root>> {
        self.online().filter(|root| root.holds_partitions)
    }

    /// Directories that could not be opened, and why.
    pub fn unopened(&self) -> &[(String, String)] {
        &self.unopened
    }

    /// Whether a directory for partitions is missing, so that a log which is not found may be there.
    pub fn is_incomplete(&self) -> bool {
        !self.unopened.is_empty() || self.roots.iter().any(|root| root.holds_partitions && root.is_offline())
    }

    /// Where the metadata log is.
    pub fn metadata_root(&self) -> &Arc<Root> {
        &self.metadata_root
    }

    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// How many files are too many when that many more are open.
    pub fn open_files_beyond(&self, more: usize) -> usize {
        let OpenFiles { count, limit } = self.disk().open_files();
        (count + more).saturating_sub(limit)
    }

    /// The directory of this id, if it is online.
    pub fn by_id(&self, id: Uuid) -> Option<&Arc<Root>> {
        self.homes().find(|root| root.id() == id)
    }

    /// Where the log of a partition is that this process did not use yet.
    pub fn found(&self, topic: &str, index: i32) -> Option<Arc<Root>> {
        let name = PartitionName::new(topic, index);
        self.roots.iter().find(|root| root.holds_partitions && root.has_log(&name)).cloned()
    }

    /// Where a new replica goes: into the directory with the fewest of them that is not cordoned (`LogManager.nextLogDirs`). If all are
    /// cordoned the controller would not have chosen this node; whatever is online is taken then.
    pub fn place(&self, cordoned: &[String]) -> Option<&Arc<Root>> {
        let is_cordoned = |root: &&Arc<Root>| cordoned.iter().any(|path| Path::new(path) == root.path());
        let fewest = self.homes().filter(|root| !is_cordoned(root)).min_by_key(|root| root.partitions());
        fewest.or_else(|| self.homes().next())
    }

    /// A directory failed. The broker takes its partitions out of service soon after ([`Store::take_failed`]).
    pub fn fail(&self, root: &Root, why: &dyn std::fmt::Display) {
        if root.fail(why.to_string()) {
            self.has_failed.store(true, Ordering::Release);
        }
    }

    /// As [`Store::fail`], if the error says that the disk failed, and not that something else is wrong.
    pub fn fail_if_broken(&self, root: &Root, error: &(impl DiskError + std::fmt::Display)) {
        if error.meaning() == Meaning::Failure {
            self.fail(root, error);
        }
    }

    /// A log failed for want of something: it is to be opened anew, by whoever asks for it or [`Store::take_closing`], outside of its lock.
    pub fn close_failed(&self, key: PartitionKey) {
        lock(&self.closing).push(key);
        self.has_failed.store(true, Ordering::Release);
    }

    /// The logs that are to be opened anew.
    pub fn take_closing(&self) -> Vec<PartitionKey> {
        std::mem::take(&mut lock(&self.closing))
    }

    /// Whether a directory or a log failed since this was asked last.
    pub fn take_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire) && self.has_failed.swap(false, Ordering::AcqRel)
    }

    /// Creates a partition's log. Nothing of it is durable yet: that is left to the first flush, so that nobody waits for the disk here.
    pub fn create_log(
        &self,
        root: &Arc<Root>,
        topic: &Topic,
        index: i32,
        settings: &TopicConfig,
        now: Millis,
    ) -> Result<(Log, Birth), StorageError> {
        let path = root.partition_dir(&topic.name, index);
        if root.is_occupied(&PartitionName::new(&*topic.name, index)) {
            let reason = format!("{} still holds another partition", path.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, reason).into());
        }
        self.disk().create_dir_all(&path)?;
        let metadata = write_partition_metadata(&**self.disk(), &path, topic.id)?;
        let log = Log::create(self.disk().clone(), path, self.log_config(settings), now);
        let name = PartitionName::new(&*topic.name, index);
        Ok((log, Birth { root: root.clone(), name, metadata: Some(metadata) }))
    }

    /// Opens a partition's log that exists, and gives it to `take`. Everything in it is durable by then. Waits for the disk.
    pub fn open_log<T>(
        &self,
        root: &Root,
        topic: &Topic,
        index: i32,
        settings: &TopicConfig,
        now: Millis,
        take: impl FnOnce(Log) -> T,
    ) -> Result<T, StorageError> {
        let path = root.partition_dir(&topic.name, index);
        let name = PartitionName::new(&*topic.name, index);
        let hints = root.hints_of(&name);
        root.claim(&path, topic.id, hints)?;
        let taken = take(self.open(&path, self.log_config(settings), hints, now)?);
        // Not before: whoever writes checkpoints looks here first and then at the logs that were taken, and must find it.
        root.take_hints(&name);
        Ok(taken)
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
            record_bytes_max: settings.max_decompressed_message_bytes.map(unsigned),
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
        let hints = self.metadata_root.take_hints(&PartitionName::new(CLUSTER_METADATA, 0));
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
        self.flushes.list(partition, at);
        out.push(Effect::Tick { at });
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
        let flush = self.flushes.next_due();
        let removal = lock(&self.doomed).keys().next().map(|(at, _)| *at);
        let checkpoint = *lock(&self.checkpoint_due);
        flush.into_iter().chain(removal).chain(checkpoint).min()
    }
}
