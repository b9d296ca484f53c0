//! The configuration of a node in force, as plain typed numbers. How they come about is in `resolve`.
//!
//! Times are milliseconds and sizes bytes unless a name says otherwise. A field that a cluster of one does not need
//! yet is here when later rooms will ask for it, so that nobody reads raw text.

use std::collections::BTreeMap;

use super::endpoint::{Endpoint, Voter};
use super::layers::Layers;
use super::listener::ListenerLimits;
use super::topic::TopicConfig;
use crate::security::Secret;

/// A node's configuration in force.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig {
    /// Number of the node (`node.id`).
    pub node_id: i32,
    /// What the node does (`process.roles`).
    pub roles: Roles,
    /// Rack or zone (`broker.rack`).
    pub rack: Option<String>,
    /// Sockets, listeners and connection limits.
    pub network: NetworkSettings,
    /// Voters and timeouts of the metadata quorum (`controller.quorum.*`).
    pub quorum: QuorumSettings,
    /// The metadata log (`metadata.*`).
    pub metadata_log: MetadataLogSettings,
    /// Directories for data, in the order given; at least one (`log.dirs`, else `log.dir`).
    pub log_dirs: Vec<String>,
    /// Directory of the metadata log; one of its own or the first of `log_dirs`.
    pub metadata_log_dir: String,
    /// How long a log directory may have failed without the controller knowing (`log.dir.failure.timeout.ms`).
    pub log_dir_failure_timeout_ms: i64,
    /// Log directories that get no new partitions (`cordoned.log.dirs`; `*` is already replaced by all of them).
    pub cordoned_log_dirs: Vec<String>,
    /// Partitions of a topic created without a number (`num.partitions`).
    pub num_partitions: i32,
    /// Whether clients create topics by asking for them (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Whether topics may be deleted (`delete.topic.enable`).
    pub delete_topics: bool,
    /// Bounds of single requests.
    pub requests: RequestSettings,
    /// Replication between brokers.
    pub replication: ReplicationSettings,
    /// Classic groups (`group.*`).
    pub groups: GroupSettings,
    /// Groups of the consumer protocol, KIP-848 (`group.consumer.*`).
    pub consumer_groups: ConsumerGroupSettings,
    /// Committed offsets and their topic (`offsets.*`).
    pub offsets: OffsetsTopicSettings,
    /// Transactions, their topic, and producer ids (`transaction.*`, `producer.id.*`).
    pub transactions: TransactionSettings,
    /// Client quotas (`quota.window.*`, `controller.quota.window.*`).
    pub quotas: QuotaSettings,
    /// Metrics of clients, and where they can be looked at (`telemetry.max.bytes`, `ottla.metrics.listen`).
    pub telemetry: TelemetrySettings,
    /// Compaction (`log.cleaner.*`).
    pub cleaner: CleanerSettings,
    /// Checkpoints, retention and recovery.
    pub retention: RetentionSettings,
    /// Longest time acknowledged records stay unflushed (`ottla.flush.interval.ms`).
    pub flush_interval_ms: i64,
    /// Admission budget for requests and answers (`ottla.memory.limit.bytes`).
    pub memory_limit_bytes: u64,
    /// Memory for freshly written batches (`ottla.tail.cache.bytes`).
    pub tail_cache_bytes: u64,
    /// What a topic without own values gets.
    pub topic_defaults: TopicConfig,
    /// Moves of replicas between log directories.
    pub moves: MoveSettings,
    /// Delegation tokens (`delegation.token.*`).
    pub tokens: TokenSettings,
    /// Whether access control entries are kept and listed (`authorizer.class.name`). They are not enforced.
    pub keeps_acls: bool,
    /// The raw values behind all this, for `DescribeConfigs` and for changes while running.
    pub layers: Layers,
}

/// Delegation tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// What proofs are made with; without it there are no tokens.
    pub secret: Option<Secret>,
    /// Longest life of a token, in milliseconds.
    pub max_lifetime_ms: i64,
    /// Life of a token until it has to be renewed, in milliseconds.
    pub expiry_ms: i64,
    /// Milliseconds between two looks for tokens that are over.
    pub check_interval_ms: i64,
}

/// What a node does; at least one is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// It stores partitions and serves clients.
    pub broker: bool,
    /// It is a voter of the metadata quorum.
    pub controller: bool,
}

/// Sockets, listeners and connection limits.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSettings {
    /// All addresses to listen on, controller listeners among them.
    pub listeners: Vec<Endpoint>,
    /// Addresses that clients are told; never a controller listener. An empty host stands for the machine's name.
    pub advertised_listeners: Vec<Endpoint>,
    /// Addresses that other controllers are told, as far as they are given. An empty host stands for the machine's name.
    pub advertised_controllers: Vec<Endpoint>,
    /// Names of the controller listeners, in upper case; may be empty on a cluster of one.
    pub controller_listener_names: Vec<String>,
    /// Listener that brokers use among themselves, in upper case.
    pub inter_broker_listener: String,
    /// Kernel send buffer; `None` leaves it to the operating system.
    pub send_buffer_bytes: Option<i32>,
    /// Kernel receive buffer; `None` leaves it to the operating system.
    pub receive_buffer_bytes: Option<i32>,
    /// Largest request.
    pub request_max_bytes: i32,
    /// Connections waiting to be accepted.
    pub backlog: i32,
    /// Most new connections in a second; the largest number stands for no limit.
    pub max_connection_creation_rate: i32,
    /// Most connections of the node.
    pub max_connections: i32,
    /// What holds at each listener, by its name in upper case.
    pub listener_limits: BTreeMap<String, ListenerLimits>,
    /// Most connections from one address.
    pub max_connections_per_ip: i32,
    /// Exceptions to `max_connections_per_ip`, as host and count.
    pub max_connections_per_ip_overrides: Vec<(String, i32)>,
    /// Idle time after which a connection is closed; `None` for never.
    pub connections_max_idle_ms: Option<i64>,
    /// Longest wait for another node's answer.
    pub request_timeout_ms: i32,
}

/// Voters and timeouts of the metadata quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumSettings {
    /// The voters by configuration; on a cluster of one this node alone; nobody if the metadata log names them (KIP-853).
    pub voters: Vec<Voter>,
    /// Hosts and ports of controllers that can be asked who leads; without any it is the voters.
    pub bootstrap_servers: Vec<(String, u16)>,
    /// Whether a controller that is no voter asks to become one.
    pub auto_join: bool,
    /// Shortest time without a leader before standing for election.
    pub election_timeout_ms: i32,
    /// Time without a successful fetch after which a follower stands for election.
    pub fetch_timeout_ms: i32,
    /// Longest pause after a lost election.
    pub election_backoff_max_ms: i32,
    /// Longest wait for another voter's answer.
    pub request_timeout_ms: i32,
    /// First pause before a request is repeated.
    pub retry_backoff_ms: i32,
}

/// The metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataLogSettings {
    /// Size at which a new segment starts.
    pub segment_bytes: i32,
    /// Age at which a new segment starts.
    pub segment_ms: i64,
    /// New records after which a snapshot is taken.
    pub snapshot_after_bytes: i64,
    /// Longest time without a snapshot; 0 for no such limit.
    pub snapshot_interval_ms: i64,
    /// Size above which old segments and snapshots go; negative for no limit.
    pub retention_bytes: i64,
    /// Age at which old segments and snapshots go; negative for never.
    pub retention_ms: i64,
    /// Time between two heartbeats of a broker.
    pub broker_heartbeat_interval_ms: i32,
    /// Time without a heartbeat after which a broker is fenced.
    pub broker_session_timeout_ms: i32,
    /// Time between two looks at whether preferred replicas lead; `None`: nobody looks.
    pub balance_interval_ms: Option<i64>,
    /// Time between two looks for partitions that only an unclean election gives a leader.
    pub unclean_election_interval_ms: i64,
}

/// Bounds of single requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSettings {
    /// Most bytes of one fetch answer.
    pub fetch_max_bytes: i32,
    /// Incremental fetch sessions kept.
    pub fetch_session_slots: i32,
    /// Most partitions of one DescribeTopicPartitions answer.
    pub partition_limit: i32,
    /// Whether leadership is handed over before a stop.
    pub controlled_shutdown: bool,
}

/// Replication between brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationSettings {
    /// Replicas of a topic created without a number (`default.replication.factor`).
    pub default_replication_factor: i16,
    /// Time a follower may stay behind.
    pub lag_time_max_ms: i64,
    /// How followers fetch.
    pub fetch: ReplicaFetchSettings,
    /// Bytes per second that go to throttled followers (`leader.replication.throttled.rate`).
    pub leader_throttle_bytes: i64,
    /// Bytes per second that throttled followers fetch (`follower.replication.throttled.rate`).
    pub follower_throttle_bytes: i64,
    /// Whether consumers are sent to replicas in their own rack (`replica.selector.class`, KIP-392).
    pub reads_by_rack: bool,
}

/// How a follower fetches (`replica.fetch.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaFetchSettings {
    /// Most bytes of one partition.
    pub partition_max_bytes: i32,
    /// Most bytes of one answer.
    pub response_max_bytes: i32,
    /// Bytes that the leader waits for.
    pub min_bytes: i32,
    /// Longest time that the leader waits.
    pub wait_max_ms: i32,
    /// Longest pause after a fetch that failed.
    pub backoff_ms: i32,
    /// Longest wait for an answer (`replica.socket.timeout.ms`).
    pub timeout_ms: i32,
}

/// Classic groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// Shortest session timeout a member may ask for.
    pub min_session_timeout_ms: i32,
    /// Longest session timeout a member may ask for.
    pub max_session_timeout_ms: i32,
    /// Time the first rebalance waits for more members.
    pub initial_rebalance_delay_ms: i32,
    /// Most members.
    pub max_size: i32,
}

/// Groups of the consumer protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// Whether there are such groups at all (`group.coordinator.rebalance.protocols`).
    pub enabled: bool,
    /// Time without a heartbeat after which a member is removed.
    pub session_timeout_ms: Bounded,
    /// Time between heartbeats that members are told.
    pub heartbeat_interval_ms: Bounded,
    /// Least time between two target assignments.
    pub assignment_interval_ms: Bounded,
    /// Most members.
    pub max_size: i32,
    /// Assignors on offer; the first is the default.
    pub assignors: Vec<String>,
    /// How a group may change between the classic and the consumer protocol, in lower case.
    pub migration_policy: String,
    /// Time after which regular expressions are resolved again.
    pub regex_refresh_interval_ms: i32,
}

/// A value that groups may set for themselves, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// For groups that set none.
    pub default: i32,
    /// The smallest that a group may set.
    pub min: i32,
    /// The largest that a group may set.
    pub max: i32,
}

impl Bounded {
    /// What a group that set `value` gets: bounds that changed since then hold.
    pub fn of(self, value: Option<i32>) -> i32 {
        value.map_or(self.default, |value| value.clamp(self.min, self.max))
    }
}

/// Committed offsets and their topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetsTopicSettings {
    /// Replicas of the topic.
    pub replication_factor: i16,
    /// Partitions of the topic.
    pub num_partitions: i32,
    /// Segment size of the topic.
    pub segment_bytes: i32,
    /// Time after which offsets of an empty group are forgotten.
    pub retention_ms: i64,
    /// Time between two searches for expired offsets.
    pub retention_check_interval_ms: i64,
    /// Longest wait of a commit for replication.
    pub commit_timeout_ms: i32,
    /// Longest metadata text of a commit.
    pub metadata_max_bytes: i32,
}

/// Transactions, their topic, and producer ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionSettings {
    /// Replicas of the topic.
    pub replication_factor: i16,
    /// In-sync replicas that the topic needs.
    pub min_insync_replicas: i32,
    /// Partitions of the topic.
    pub num_partitions: i32,
    /// Segment size of the topic.
    pub segment_bytes: i32,
    /// Longest transaction timeout a producer may ask for.
    pub max_timeout_ms: i32,
    /// Time after which an idle transactional id is forgotten.
    pub transactional_id_expiration_ms: i32,
    /// Time between two searches for timed out transactions.
    pub abort_interval_ms: i32,
    /// Time between two searches for expired transactional ids.
    pub remove_interval_ms: i32,
    /// Whether partitions are verified with the coordinator before an append.
    pub partition_verification: bool,
    /// First pause before a transaction check is repeated.
    pub verification_backoff_ms: i32,
    /// For how long a transaction check is repeated.
    pub verification_backoff_max_ms: i32,
    /// Time after which an idle producer's state is forgotten.
    pub producer_id_expiration_ms: i32,
}

/// How client quotas are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaSettings {
    /// Bytes, time and connections of clients (`quota.window.*`).
    pub clients: QuotaWindows,
    /// What clients have the controller do (`controller.quota.window.*`).
    pub controller: QuotaWindows,
    /// What goes to throttled followers (`replication.quota.window.*`).
    pub replication: QuotaWindows,
    /// What is copied between log directories (`alter.log.dirs.replication.quota.window.*`).
    pub moves: QuotaWindows,
}

/// The windows over which a rate is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaWindows {
    /// Windows that are kept.
    pub count: i32,
    /// Seconds of one window.
    pub seconds: i32,
}

/// Metrics of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Largest push in bytes, as it comes and unpacked.
    pub max_bytes: i32,
    /// Host and port of the page of metrics; without it no client is asked for metrics.
    pub listen: Option<(String, u16)>,
}

/// Compaction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanerSettings {
    /// Whether compaction runs.
    pub enabled: bool,
    /// Threads that compact.
    pub threads: i32,
    /// Memory for maps of keys, of all threads together.
    pub dedupe_buffer_bytes: i64,
    /// How full a map may get, 0 to 1.
    pub load_factor: f64,
    /// Most bytes read and written in a second, of each thread.
    pub io_max_bytes_per_second: f64,
    /// Rest when there is nothing to do.
    pub backoff_ms: i64,
}

/// Moves of replicas between log directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveSettings {
    /// Moves that go on at once (`num.replica.alter.log.dirs.threads`); one for each log directory where it is not set.
    pub threads: usize,
    /// Bytes per second that all of them copy (`replica.alter.log.dirs.io.max.bytes.per.second`).
    pub bytes_per_second: i64,
}

/// Checkpoints, retention and recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Time from the start to the first search for segments to delete.
    pub initial_delay_ms: i64,
    /// Time between two searches for segments to delete.
    pub check_interval_ms: i64,
    /// Longest time between two checkpoints of recovery points and log start offsets, which are written together: the shorter of the
    /// two times that can be configured.
    pub checkpoint_interval_ms: i32,
    /// Threads per log directory that recover logs at start.
    pub recovery_threads_per_dir: i32,
}

impl BrokerConfig {
    /// Whether this node is both broker and controller and the only voter: a cluster of one.
    pub fn is_cluster_of_one(&self) -> bool {
        self.roles.broker && self.roles.controller && self.quorum.voters.len() == 1
    }
}
