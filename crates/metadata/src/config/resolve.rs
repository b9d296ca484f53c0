//! From raw values to a [`BrokerConfig`]: every value is checked against its definition, what nobody knows or what has
//! no effect becomes a note, and contradictions are refused with the way out (Kafka's `KafkaConfig.validateValues`).
//!
//! The one tricky idea: a node without any configuration is a cluster of one, so defaults that need three brokers are
//! lowered first, as derived defaults, and everything after that reads one consistent set of layers.

use std::collections::BTreeMap;

use super::broker::{
    Bounded, BrokerConfig, CleanerSettings, ConsumerGroupSettings, GroupSettings, MetadataLogSettings,
    MoveSettings, OffsetsTopicSettings, QuotaSettings, QuotaWindows, ReplicaFetchSettings,
    ReplicationSettings, RequestSettings, RetentionSettings, Roles, TelemetrySettings, TokenSettings,
    TransactionSettings,
};
use super::definition::Effect;
use super::endpoint::parse_address;
use super::layers::Layers;
use super::listener;
use super::network::{resolve_network, resolve_quorum};
use super::note::{ConfigError, ConfigNote, NoteKind};
use super::own;
use super::table::broker_table;
use super::topic::TopicConfig;
use crate::security::Secret;

/// Beginnings of keys that belong to plugins, to listeners, or to systems around Kafka.
const FOREIGN_PREFIXES: [&str; 6] =
    ["listener.name.", "rsm.config.", "rlmm.config.", "config.providers.", "confluent.", "kafka.metrics."];
/// Keys outside the table that Kafka or its authorizers read.
const FOREIGN_KEYS: [&str; 4] =
    ["super.users", "allow.everyone.if.no.acl.found", "inter.broker.protocol.version", "zookeeper.connect"];
/// What `replica.selector.class` may name: consumers read from a replica in their rack, or from the leader.
const RACK_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
const LEADER_SELECTOR: &str = "org.apache.kafka.common.replica.LeaderSelector";

/// The only class that `authorizer.class.name` may name.
const STANDARD_AUTHORIZER: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
/// What `group.consumer.assignors` may name.
const CONSUMER_ASSIGNORS: [&str; 2] = ["uniform", "range"];
/// What a node is that was told nothing: a cluster of one, for its own machine. Who sets such a key is shown Kafka's default behind it.
const ALONE: [(&str, &str); 4] = [
    ("node.id", "1"),
    ("process.roles", "broker,controller"),
    ("controller.listener.names", ""),
    // An empty configuration must not open a port to the world.
    ("listeners", "PLAINTEXT://127.0.0.1:9092"),
];
/// Where data is kept if nobody says: what is to be kept does not belong into `/tmp`.
const OWN_LOG_DIR: &str = "./ottla-data";
/// On a cluster of one these are 1 unless set: more could never be reached.
const ONE_REPLICA_KEYS: [&str; 5] = [
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
];

impl BrokerConfig {
    /// The configuration that a node starts with, from what it was given, and what its operator should know.
    pub fn resolve(given: &BTreeMap<String, String>) -> Result<(BrokerConfig, Vec<ConfigNote>), ConfigError> {
        BrokerConfig::from_layers(Layers { given: given.clone(), ..Layers::default() })
    }

    /// The configuration after dynamic values changed: those for all brokers, and those for this one.
    pub fn reconfigure(
        &self,
        dynamic_default: &BTreeMap<String, String>,
        dynamic_broker: &BTreeMap<String, String>,
    ) -> Result<(BrokerConfig, Vec<ConfigNote>), ConfigError> {
        BrokerConfig::from_layers(Layers {
            dynamic_default: dynamic_default.clone(),
            dynamic_broker: dynamic_broker.clone(),
            given: self.layers.given.clone(),
            derived: BTreeMap::new(),
        })
    }

    fn from_layers(mut layers: Layers) -> Result<(BrokerConfig, Vec<ConfigNote>), ConfigError> {
        let mut notes = Vec::new();
        check_values(&layers, &mut notes)?;
        layers.derived.extend(ALONE.map(|(key, value)| (key, value.to_owned())));
        if layers.set("log.dirs").is_none() {
            layers.derived.insert("log.dir", OWN_LOG_DIR.to_owned());
        }
        unify_node_id(&mut layers)?;
        let node_id = layers.int("node.id")?;
        let roles = resolve_roles(&layers)?;
        let network = resolve_network(&layers, roles, &mut notes)?;
        let quorum = resolve_quorum(&layers, node_id, roles, &network, &mut notes)?;
        if roles.broker && roles.controller && quorum.voters.len() == 1 {
            for key in ONE_REPLICA_KEYS {
                layers.derived.insert(key, "1".to_owned());
            }
        }
        let metadata_log = resolve_metadata_log(&layers)?;
        check_logs(&layers)?;
        let log_dirs = match layers.list("log.dirs")? {
            dirs if dirs.is_empty() => layers.list("log.dir")?,
            dirs => dirs,
        };
        let first_dir = log_dirs.first().expect("log.dir is never empty");
        let config = BrokerConfig {
            node_id,
            roles,
            rack: layers.text_if_any("broker.rack")?,
            quorum,
            metadata_log,
            metadata_log_dir: layers.text_if_any("metadata.log.dir")?.unwrap_or_else(|| first_dir.clone()),
            log_dir_failure_timeout_ms: layers.long("log.dir.failure.timeout.ms")?,
            cordoned_log_dirs: resolve_cordoned(&layers, &log_dirs)?,
            moves: resolve_moves(&layers, log_dirs.len())?,
            log_dirs,
            num_partitions: layers.int("num.partitions")?,
            auto_create_topics: layers.boolean("auto.create.topics.enable")?,
            delete_topics: layers.boolean("delete.topic.enable")?,
            requests: RequestSettings {
                fetch_max_bytes: layers.int("fetch.max.bytes")?,
                fetch_session_slots: layers.int("max.incremental.fetch.session.cache.slots")?,
                partition_limit: layers.int("max.request.partition.size.limit")?,
                controlled_shutdown: layers.boolean("controlled.shutdown.enable")?,
            },
            replication: ReplicationSettings {
                default_replication_factor: positive_short(&layers, "default.replication.factor")?,
                lag_time_max_ms: layers.long("replica.lag.time.max.ms")?,
                fetch: resolve_replica_fetch(&layers)?,
                leader_throttle_bytes: layers.long("leader.replication.throttled.rate")?,
                follower_throttle_bytes: layers.long("follower.replication.throttled.rate")?,
                reads_by_rack: resolve_replica_selector(&layers)?,
            },
            groups: resolve_groups(&layers)?,
            consumer_groups: resolve_consumer_groups(&layers)?,
            offsets: OffsetsTopicSettings {
                replication_factor: positive_short(&layers, "offsets.topic.replication.factor")?,
                num_partitions: layers.int("offsets.topic.num.partitions")?,
                segment_bytes: layers.int("offsets.topic.segment.bytes")?,
                retention_ms: layers.long("offsets.retention.minutes")? * 60_000,
                retention_check_interval_ms: layers.long("offsets.retention.check.interval.ms")?,
                commit_timeout_ms: layers.int("offsets.commit.timeout.ms")?,
                metadata_max_bytes: layers.int("offset.metadata.max.bytes")?,
            },
            transactions: TransactionSettings {
                replication_factor: positive_short(&layers, "transaction.state.log.replication.factor")?,
                min_insync_replicas: layers.int("transaction.state.log.min.isr")?,
                num_partitions: layers.int("transaction.state.log.num.partitions")?,
                segment_bytes: layers.int("transaction.state.log.segment.bytes")?,
                max_timeout_ms: layers.int("transaction.max.timeout.ms")?,
                transactional_id_expiration_ms: layers.int("transactional.id.expiration.ms")?,
                abort_interval_ms: layers
                    .int("transaction.abort.timed.out.transaction.cleanup.interval.ms")?,
                remove_interval_ms: layers
                    .int("transaction.remove.expired.transaction.cleanup.interval.ms")?,
                partition_verification: layers.boolean("transaction.partition.verification.enable")?,
                verification_backoff_ms: layers.int("add.partitions.to.txn.retry.backoff.ms")?,
                verification_backoff_max_ms: layers.int("add.partitions.to.txn.retry.backoff.max.ms")?,
                producer_id_expiration_ms: layers.int("producer.id.expiration.ms")?,
            },
            quotas: QuotaSettings {
                clients: quota_windows(&layers, "quota.window")?,
                controller: quota_windows(&layers, "controller.quota.window")?,
                replication: quota_windows(&layers, "replication.quota.window")?,
                moves: quota_windows(&layers, "alter.log.dirs.replication.quota.window")?,
            },
            telemetry: TelemetrySettings {
                max_bytes: layers.int("telemetry.max.bytes")?,
                listen: resolve_metrics_listen(&layers)?,
            },
            cleaner: CleanerSettings {
                enabled: layers.boolean("log.cleaner.enable")?,
                threads: layers.int("log.cleaner.threads")?,
                dedupe_buffer_bytes: layers.long("log.cleaner.dedupe.buffer.size")?,
                load_factor: layers.double("log.cleaner.io.buffer.load.factor")?,
                io_max_bytes_per_second: layers.double("log.cleaner.io.max.bytes.per.second")?,
                backoff_ms: layers.long("log.cleaner.backoff.ms")?,
            },
            retention: RetentionSettings {
                initial_delay_ms: layers.long("log.initial.task.delay.ms")?,
                check_interval_ms: layers.long("log.retention.check.interval.ms")?,
                checkpoint_interval_ms: layers
                    .int("log.flush.offset.checkpoint.interval.ms")?
                    .min(layers.int("log.flush.start.offset.checkpoint.interval.ms")?),
                recovery_threads_per_dir: layers.int("num.recovery.threads.per.data.dir")?,
            },
            flush_interval_ms: layers.long(own::FLUSH_INTERVAL_MS)?,
            memory_limit_bytes: layers.long(own::MEMORY_LIMIT_BYTES)?.unsigned_abs(),
            tail_cache_bytes: layers.long(own::TAIL_CACHE_BYTES)?.unsigned_abs(),
            tokens: TokenSettings {
                secret: layers.text_if_any("delegation.token.secret.key")?.map(Secret::new),
                max_lifetime_ms: layers.long("delegation.token.max.lifetime.ms")?,
                expiry_ms: layers.long("delegation.token.expiry.time.ms")?,
                check_interval_ms: layers.long("delegation.token.expiry.check.interval.ms")?,
            },
            keeps_acls: resolve_authorizer(&layers, &mut notes)?,
            topic_defaults: TopicConfig::from_layers(&BTreeMap::new(), &layers)?,
            network,
            layers,
        };
        check_memory(&config)?;
        Ok((config, notes))
    }
}

/// Checks every value that somebody set, and gathers what is worth saying.
fn check_values(layers: &Layers, notes: &mut Vec<ConfigNote>) -> Result<(), ConfigError> {
    let mut without_effect: Vec<String> = Vec::new();
    for (key, raw) in layers.given.iter().chain(&layers.dynamic_default).chain(&layers.dynamic_broker) {
        match broker_table().get(key) {
            Some(definition) => {
                let value = definition.parse(raw)?.to_string();
                let changed = Some(value.as_str()) != definition.default;
                if definition.effect == Effect::Accepted && changed && !without_effect.contains(key) {
                    without_effect.push(key.clone());
                }
            }
            None if listener::definition_of(key).is_some() => {}
            None if FOREIGN_KEYS.contains(&key.as_str())
                || FOREIGN_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) =>
            {
                if !without_effect.contains(key) {
                    without_effect.push(key.clone());
                }
            }
            None => {
                let meant = broker_table().nearest(key);
                let meant = meant.map_or(String::new(), |near| format!(", did you mean {near}?"));
                let text = format!("{key} is not a known configuration and is ignored{meant}");
                notes.push(ConfigNote { kind: NoteKind::Unknown, keys: vec![key.clone()], text });
            }
        }
    }
    if !without_effect.is_empty() {
        let text = format!("accepted, but without effect here: {}", without_effect.join(", "));
        notes.push(ConfigNote { kind: NoteKind::WithoutEffect, keys: without_effect, text });
    }
    Ok(())
}

/// `broker.id` and `node.id` are one value; whichever is given, both are shown.
fn unify_node_id(layers: &mut Layers) -> Result<(), ConfigError> {
    let node = layers.given.get("node.id").cloned();
    let broker = layers.given.get("broker.id").cloned();
    match (node, broker) {
        (Some(node), Some(broker)) if node.trim() != broker.trim() => {
            let reason =
                format!("node.id is {node}, and both must agree: leave out broker.id, its older name");
            Err(ConfigError::new("broker.id", Some(&broker), reason))
        }
        (Some(node), None) => {
            layers.given.insert("broker.id".to_owned(), node);
            Ok(())
        }
        (None, Some(broker)) => {
            broker_table().get("node.id").expect("node.id is in the table").parse(&broker)?;
            layers.given.insert("node.id".to_owned(), broker);
            Ok(())
        }
        (None, None) => {
            let default = layers.effective("node.id").unwrap_or("1").to_owned();
            layers.derived.insert("broker.id", default);
            Ok(())
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

/// A leader that waits longer than a follower may be silent, or than its follower waits for it, would be taken for dead, or take it for dead.
fn resolve_replica_fetch(layers: &Layers) -> Result<ReplicaFetchSettings, ConfigError> {
    const WAIT: &str = "replica.fetch.wait.max.ms";
    let fetch = ReplicaFetchSettings {
        partition_max_bytes: layers.int("replica.fetch.max.bytes")?,
        response_max_bytes: layers.int("replica.fetch.response.max.bytes")?,
        min_bytes: layers.int("replica.fetch.min.bytes")?,
        wait_max_ms: layers.int(WAIT)?,
        backoff_ms: layers.int("replica.fetch.backoff.ms")?,
        timeout_ms: layers.int("replica.socket.timeout.ms")?,
    };
    for key in ["replica.socket.timeout.ms", "replica.lag.time.max.ms"] {
        let limit = layers.long(key)?;
        if i64::from(fetch.wait_max_ms) > limit {
            let reason = format!("must not be more than {key}, which is {limit}");
            return Err(ConfigError::new(WAIT, Some(&fetch.wait_max_ms.to_string()), reason));
        }
    }
    Ok(fetch)
}

/// Whether consumers are sent to replicas in their own rack. Classes of others can not be loaded here.
fn resolve_replica_selector(layers: &Layers) -> Result<bool, ConfigError> {
    const KEY: &str = "replica.selector.class";
    match layers.text_if_any(KEY)?.as_deref() {
        None | Some(LEADER_SELECTOR) => Ok(false),
        Some(RACK_SELECTOR) => Ok(true),
        Some(class) => {
            let reason = format!("is not possible here: there are {RACK_SELECTOR} and {LEADER_SELECTOR}");
            Err(ConfigError::new(KEY, Some(class), reason))
        }
    }
}

/// Whether access control entries are kept. A node that is told to enforce them, and can not, does not start: it would let in everybody
/// whom its operator believes to be kept out.
fn resolve_authorizer(layers: &Layers, notes: &mut Vec<ConfigNote>) -> Result<bool, ConfigError> {
    const KEY: &str = "authorizer.class.name";
    let Some(class) = layers.text_if_any(KEY)? else { return Ok(false) };
    let refused = |reason: String| Err(ConfigError::new(KEY, Some(&class), reason));
    if class != STANDARD_AUTHORIZER {
        return refused(format!("is not possible here: the only authorizer is {STANDARD_AUTHORIZER}"));
    }
    if layers.boolean(own::AUTHORIZER_ENFORCE)? {
        let key = own::AUTHORIZER_ENFORCE;
        return refused(format!(
            "access control is not enforced in this version, and a node that seems to would be unsafe; with {key}=false \
             its entries are kept and listed, and everybody may do everything"
        ));
    }
    let text = format!(
        "access control entries are kept and NOT ENFORCED ({}=false): every client may do everything",
        own::AUTHORIZER_ENFORCE
    );
    notes.push(ConfigNote { kind: NoteKind::Advice, keys: vec![KEY.to_owned()], text });
    Ok(true)
}

fn resolve_roles(layers: &Layers) -> Result<Roles, ConfigError> {
    let roles = layers.list("process.roles")?;
    let has = |role: &str| roles.iter().any(|item| item == role);
    let roles = Roles { broker: has("broker"), controller: has("controller") };
    assert!(roles.broker || roles.controller, "process.roles is a list that is not empty");
    Ok(roles)
}

fn resolve_metadata_log(layers: &Layers) -> Result<MetadataLogSettings, ConfigError> {
    let heartbeat = layers.int("broker.heartbeat.interval.ms")?;
    let session = layers.int("broker.session.timeout.ms")?;
    if i64::from(heartbeat) * 2 > i64::from(session) {
        let reason = format!(
            "must be at most half of broker.session.timeout.ms, which is {session}, or one late heartbeat fences \
             the broker"
        );
        return Err(ConfigError::new("broker.heartbeat.interval.ms", Some(&heartbeat.to_string()), reason));
    }
    Ok(MetadataLogSettings {
        segment_bytes: match layers.long_if_any("internal.metadata.log.segment.bytes")? {
            Some(bytes) => bytes as i32,
            None => layers.int("metadata.log.segment.bytes")?,
        },
        segment_ms: layers.long("metadata.log.segment.ms")?,
        snapshot_after_bytes: layers.long("metadata.log.max.record.bytes.between.snapshots")?,
        snapshot_interval_ms: layers.long("metadata.log.max.snapshot.interval.ms")?,
        retention_bytes: layers.long("metadata.max.retention.bytes")?,
        retention_ms: layers.long("metadata.max.retention.ms")?,
        broker_heartbeat_interval_ms: heartbeat,
        broker_session_timeout_ms: session,
        balance_interval_ms: match layers.boolean("auto.leader.rebalance.enable")? {
            true => Some(layers.long("leader.imbalance.check.interval.seconds")?.saturating_mul(1_000)),
            false => None,
        },
        unclean_election_interval_ms: layers.long("unclean.leader.election.interval.ms")?,
    })
}

fn resolve_metrics_listen(layers: &Layers) -> Result<Option<(String, u16)>, ConfigError> {
    let key = own::METRICS_LISTEN;
    let given = layers.text_if_any(key)?;
    let parse =
        |text: String| parse_address(&text).map_err(|reason| ConfigError::new(key, Some(&text), reason));
    given.map(parse).transpose()
}

fn resolve_moves(layers: &Layers, log_dirs: usize) -> Result<MoveSettings, ConfigError> {
    let threads = layers.long_if_any("num.replica.alter.log.dirs.threads")?;
    Ok(MoveSettings {
        threads: threads.map_or(log_dirs, |threads| usize::try_from(threads).unwrap_or(0)).max(1),
        bytes_per_second: layers.long("replica.alter.log.dirs.io.max.bytes.per.second")?,
    })
}

fn quota_windows(layers: &Layers, prefix: &str) -> Result<QuotaWindows, ConfigError> {
    Ok(QuotaWindows {
        count: layers.int(&format!("{prefix}.num"))?,
        seconds: layers.int(&format!("{prefix}.size.seconds"))?,
    })
}

fn resolve_groups(layers: &Layers) -> Result<GroupSettings, ConfigError> {
    let groups = GroupSettings {
        min_session_timeout_ms: layers.int("group.min.session.timeout.ms")?,
        max_session_timeout_ms: layers.int("group.max.session.timeout.ms")?,
        initial_rebalance_delay_ms: layers.int("group.initial.rebalance.delay.ms")?,
        max_size: layers.int("group.max.size")?,
    };
    let (min, max) = (groups.min_session_timeout_ms, groups.max_session_timeout_ms);
    if max < min {
        let reason = format!("must be at least group.min.session.timeout.ms, which is {min}");
        return Err(ConfigError::new("group.max.session.timeout.ms", Some(&max.to_string()), reason));
    }
    Ok(groups)
}

fn resolve_consumer_groups(layers: &Layers) -> Result<ConsumerGroupSettings, ConfigError> {
    let within = |name: &str| -> Result<Bounded, ConfigError> {
        let key = format!("group.consumer.{name}");
        let value = layers.int(&key)?;
        let min = layers.int(&format!("group.consumer.min.{name}"))?;
        let max = layers.int(&format!("group.consumer.max.{name}"))?;
        if (min..=max).contains(&value) {
            return Ok(Bounded { default: value, min, max });
        }
        let reason = format!(
            "must be between group.consumer.min.{name} ({min}) and group.consumer.max.{name} ({max})"
        );
        let (than, bound) = if value < min { ("greater", "min") } else { ("less", "max") };
        let told = format!("{key} must be {than} than or equal to group.consumer.{bound}.{name}");
        Err(ConfigError::new(&key, Some(&value.to_string()), reason).telling(told))
    };
    let session_timeout_ms = within("session.timeout.ms")?;
    let heartbeat_interval_ms = within("heartbeat.interval.ms")?;
    let (session, heartbeat) = (session_timeout_ms.default, heartbeat_interval_ms.default);
    if heartbeat >= session {
        let reason = format!("must be less than group.consumer.session.timeout.ms, which is {session}");
        let given = heartbeat.to_string();
        return Err(ConfigError::new("group.consumer.heartbeat.interval.ms", Some(&given), reason));
    }
    let assignors = layers.list("group.consumer.assignors")?;
    for name in &assignors {
        if !CONSUMER_ASSIGNORS.contains(&name.as_str()) {
            let reason = format!("there is no assignor {name}: those on offer are uniform and range");
            return Err(ConfigError::new("group.consumer.assignors", Some(&assignors.join(",")), reason));
        }
    }
    let protocols_key = "group.coordinator.rebalance.protocols";
    let protocols = layers.list(protocols_key)?;
    let is_served = |name: &str| protocols.iter().any(|protocol| protocol == name);
    if !is_served("classic") {
        let reason = "classic can not be left out: most clients need it";
        return Err(ConfigError::new(protocols_key, layers.set(protocols_key), reason));
    }
    Ok(ConsumerGroupSettings {
        enabled: is_served("consumer"),
        session_timeout_ms,
        heartbeat_interval_ms,
        assignment_interval_ms: within("assignment.interval.ms")?,
        max_size: layers.int("group.consumer.max.size")?,
        assignors,
        migration_policy: layers
            .text_if_any("group.consumer.migration.policy")?
            .unwrap_or_default()
            .to_lowercase(),
        regex_refresh_interval_ms: layers.int("group.consumer.regex.refresh.interval.ms")?,
    })
}

/// Rules about the broker's log defaults that one definition alone can not say.
fn check_logs(layers: &Layers) -> Result<(), ConfigError> {
    let at_least = |key: &str, min: i64, reason: &str| match layers.long_if_any(key)? {
        Some(value) if value < min => Err(ConfigError::new(key, Some(&value.to_string()), reason)),
        _ => Ok(()),
    };
    at_least("log.roll.ms", 1, "must be at least 1")?;
    at_least("log.roll.jitter.ms", 0, "must be at least 0")?;
    for key in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
        if layers.long_if_any(key)? == Some(0) {
            let reason = "must be at least 1, or -1 to keep records for ever";
            let told =
                format!("requirement failed: {key} must be unlimited (-1) or, greater than or equal to 1");
            return Err(ConfigError::new(key, Some("0"), reason).telling(told));
        }
    }
    let threads = layers.long("log.cleaner.threads")?;
    let buffer = layers.long("log.cleaner.dedupe.buffer.size")?;
    if threads > 0 && buffer / threads <= 1024 * 1024 {
        let reason = format!("must be more than 1048576 for each of the {threads} log.cleaner.threads");
        let key = "log.cleaner.dedupe.buffer.size";
        let told = format!("requirement failed: {key} must be at least 1MB per cleaner thread.");
        return Err(ConfigError::new(key, Some(&buffer.to_string()), reason).telling(told));
    }
    Ok(())
}

fn resolve_cordoned(layers: &Layers, log_dirs: &[String]) -> Result<Vec<String>, ConfigError> {
    let key = "cordoned.log.dirs";
    let cordoned = layers.list(key)?;
    if cordoned == ["*"] {
        return Ok(log_dirs.to_vec());
    }
    let missing: Vec<&str> =
        cordoned.iter().filter(|dir| !log_dirs.contains(dir)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(cordoned);
    }
    let missing = missing.join(",");
    let told = format!(
        "requirement failed: All entries in {key} must be present in log.dirs or log.dir. Missing entries : {missing}"
    );
    let reason = "is not one of log.dirs; * alone means all of them";
    Err(ConfigError::new(key, Some(&missing), reason).telling(told))
}

fn positive_short(layers: &Layers, key: &str) -> Result<i16, ConfigError> {
    let value = layers.long(key)?;
    i16::try_from(value).ok().filter(|value| *value >= 1).ok_or_else(|| {
        ConfigError::new(key, Some(&value.to_string()), format!("must be between 1 and {}", i16::MAX))
    })
}

/// A request that is allowed must fit into the memory that is allowed.
fn check_memory(config: &BrokerConfig) -> Result<(), ConfigError> {
    let request = u64::from(config.network.request_max_bytes.unsigned_abs());
    if request > config.memory_limit_bytes {
        let reason = format!(
            "must be at least socket.request.max.bytes, which is {request}, or such a request could never be read"
        );
        let given = config.memory_limit_bytes.to_string();
        return Err(ConfigError::new(own::MEMORY_LIMIT_BYTES, Some(&given), reason));
    }
    Ok(())
}
