//! What a log must know of a topic's configuration, resolved to plain numbers (Kafka's `LogConfig`).

use crate::tail::TailBudget;
use ottla_protocol::compression::Codec;
use ottla_protocol::records::TimestampType;

/// `compression.type`, with the level of the codec that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetCompression {
    /// `producer`: batches stay as they came.
    #[default]
    Producer,
    /// A codec (`uncompressed` is [`Codec::None`]) and its level; `None` is the codec's default.
    Codec(Codec, Option<i32>),
}

/// When and how a log is compacted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionRules {
    /// `min.cleanable.dirty.ratio`: the share of dirty bytes, 0 to 1, above which compaction is worth while.
    pub dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`: segments with younger records are left alone.
    pub lag_min_ms: i64,
    /// `max.compaction.lag.ms`: dirty records older than this make compaction due, whatever the ratio.
    pub lag_max_ms: i64,
    /// `delete.retention.ms`: how long tombstones and markers stay once they are the last of their kind.
    pub delete_retention_ms: i64,
}

impl Default for CompactionRules {
    fn default() -> CompactionRules {
        CompactionRules {
            dirty_ratio_min: 0.5,
            lag_min_ms: 0,
            lag_max_ms: i64::MAX,
            delete_retention_ms: 24 * 3600 * 1000,
        }
    }
}

/// What is deleted from the front of a log. The default deletes nothing: an empty `cleanup.policy`, or one that only compacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionRules {
    /// `retention.ms`: segments whose newest record is older go.
    pub ms: Option<i64>,
    /// `retention.bytes`: the oldest segments go while the log is larger without them.
    pub bytes: Option<u64>,
}

/// The configuration of one log. Changing it takes effect with the next append.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment's `.log` does not grow beyond this; no batch may be larger.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when its first and the next record are further apart.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: at most this much is subtracted from `segment_ms`, different for each segment.
    pub segment_jitter_ms: i64,
    /// Sets the jitter of one log apart from another's.
    pub jitter_seed: u64,
    /// `index.interval.bytes`: records between two index entries.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment is rolled when an index has grown to this.
    pub index_bytes_max: u32,
    /// `max.message.bytes`: the largest batch that clients and coordinators may append, as stored.
    pub message_bytes_max: u32,
    /// `max.decompressed.message.bytes`: the largest record that clients may append in a compressed batch; `None`: any.
    pub record_bytes_max: Option<u32>,
    /// `compression.type`.
    pub compression: TargetCompression,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far behind the clock a CreateTime may be.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far ahead of the clock a CreateTime may be.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub compacted: bool,
    /// How it is compacted, if it is.
    pub compaction: CompactionRules,
    /// What is deleted of it.
    pub retention: RetentionRules,
    /// Decompress and walk over every batch of a client, as Kafka does. Otherwise compressed batches are believed to their header
    /// and checksum, unless another setting needs their records.
    pub strict_validation: bool,
    /// What a batch may decompress to where it has to be decompressed, in bytes.
    pub decompressed_bytes_max: usize,
    /// `transaction.partition.verification.enable`: the first batch of a transaction needs an [`Admission`](crate::Admission).
    pub verify_transactions: bool,
    /// `producer.id.expiration.ms`: an idle producer is forgotten after this.
    pub producer_id_expiration_ms: i64,
    /// How many bytes of recent batches are kept in memory for readers at the tail.
    pub tail_cache_bytes: usize,
    /// Whether an append that ends a segment may wait until that segment's name is durable. If not, the segment grows until a flush has
    /// made it so.
    pub rolls_may_wait: bool,
    /// What all logs together may keep.
    pub tail_budget: TailBudget,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_jitter_ms: 0,
            jitter_seed: 0,
            index_interval_bytes: 4096,
            index_bytes_max: 10 << 20,
            message_bytes_max: (1 << 20) + 12,
            record_bytes_max: None,
            compression: TargetCompression::Producer,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3600 * 1000,
            compacted: false,
            compaction: CompactionRules::default(),
            retention: RetentionRules::default(),
            strict_validation: false,
            decompressed_bytes_max: 64 << 20,
            verify_transactions: true,
            producer_id_expiration_ms: 24 * 3600 * 1000,
            tail_cache_bytes: 1 << 20,
            rolls_may_wait: true,
            tail_budget: TailBudget::default(),
        }
    }
}

impl LogConfig {
    /// The jitter of the segment that starts at `base_offset`: spread evenly over `0..=segment_jitter_ms`, without dice.
    pub(crate) fn jitter_ms(&self, base_offset: i64) -> i64 {
        if self.segment_jitter_ms <= 0 {
            return 0;
        }
        let mut z = (self.jitter_seed ^ base_offset as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 32)) % (self.segment_jitter_ms as u64 + 1)) as i64
    }

    /// How many entries of `entry_bytes` an index may have.
    pub(crate) fn index_entries_max(&self, entry_bytes: u32) -> usize {
        (self.index_bytes_max / entry_bytes) as usize
    }
}
