//! The numbers that bound a group coordinator. They arrive resolved: a coordinator never reads a configuration file.

pub use crate::group::consumer::ASSIGNORS;

/// Limits and delays of the groups on one partition of `__consumer_offsets`. The defaults are Kafka 4.4's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `group.min.session.timeout.ms`: a shorter session in JoinGroup is INVALID_SESSION_TIMEOUT (26).
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: a longer session in JoinGroup is INVALID_SESSION_TIMEOUT (26).
    pub group_max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first rebalance.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members in one group; the next one is refused with GROUP_MAX_SIZE_REACHED (81).
    pub group_max_size: usize,
    /// How long a new member may wait parked in JoinGroup before it is taken for gone. Kafka fixes it at five minutes.
    pub new_member_join_timeout_ms: i32,
    /// `offset.metadata.max.bytes`: length of the note beside an offset, in UTF-16 units as Kafka counts it.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds (KIP-211).
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: pause between two looks for expired offsets.
    pub offsets_retention_check_interval_ms: i64,
    /// Records that one clean-up pass may ask for; what remains is done by the next pass, at once.
    pub cleanup_records_max: usize,
    /// Groups of the consumer protocol.
    pub consumer: ConsumerConfig,
}

/// Limits and delays of consumer groups (KIP-848), where a group is not configured differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `group.consumer.session.timeout.ms`: a member that is silent for so long is out.
    pub session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`: what members are told.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.assignment.interval.ms`: the least time between two target assignments of a group (KIP-1263).
    pub assignment_interval_ms: i32,
    /// `group.consumer.max.size`: members in one group; the next one is refused with GROUP_MAX_SIZE_REACHED (81).
    pub max_size: usize,
    /// `group.consumer.assignors`: those on offer, the default first. At least one, and none but `uniform` and `range`.
    pub assignors: Vec<String>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`: regular expressions are resolved at least so often.
    pub regex_refresh_interval_ms: i64,
}

/// In which directions a group that has members may change between the classic and the consumer protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// In none.
    Disabled,
    /// From consumer to classic, when the last member of the consumer protocol goes.
    Downgrade,
    /// From classic to consumer, when the first member of the consumer protocol comes.
    Upgrade,
    /// In both.
    Bidirectional,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
            max_size: i32::MAX as usize,
            assignors: ASSIGNORS.map(String::from).to_vec(),
            migration_policy: MigrationPolicy::Bidirectional,
            regex_refresh_interval_ms: 600_000,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: i32::MAX as usize,
            new_member_join_timeout_ms: 300_000,
            offset_metadata_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            cleanup_records_max: 1_000,
            consumer: ConsumerConfig::default(),
        }
    }
}

/// Bytes in a name that a client chooses (group id, instance id, protocol). The record schemas hold such names behind a
/// 16-bit length while flexible requests may carry longer ones, so longer ones are refused at the door.
pub const NAME_BYTES_MAX: usize = 16_384;
