//! The tables are whole, the usual sets resolve to what their authors meant, and mistakes are answered with a way out.

mod facts;

use std::collections::BTreeMap;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn resolve(pairs: &[(&str, &str)]) -> BrokerConfig {
    BrokerConfig::resolve(&map(pairs)).unwrap_or_else(|error| panic!("{error}")).0
}

/// The error that a broker's values are refused with.
fn refused(pairs: &[(&str, &str)]) -> String {
    match BrokerConfig::resolve(&map(pairs)) {
        Ok(_) => panic!("{pairs:?} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn entry<'a>(entries: &'a [ConfigEntry], name: &str) -> &'a ConfigEntry {
    entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"))
}

const TUTORIAL: &[(&str, &str)] = &[
    ("node.id", "1"),
    ("process.roles", "broker,controller"),
    ("listeners", "PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093"),
    ("advertised.listeners", "PLAINTEXT://localhost:9092"),
    ("controller.listener.names", "CONTROLLER"),
    ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
    ("controller.quorum.voters", "1@localhost:9093"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("num.partitions", "3"),
];

/// Facts of Kafka 4.4: 350 public broker keys, 37 topic keys, 21 group keys, 3 client metrics keys; ours come on top.
#[test]
fn tables_are_complete() {
    let kafka = |table: &Table| table.public().filter(|d| !d.key.starts_with("ottla.")).count();
    assert_eq!(kafka(broker_table()), 350);
    assert_eq!(kafka(topic_table()), 37);
    assert_eq!(kafka(group_table()), 21);
    assert_eq!(kafka(client_metrics_table()), 3);
    assert_eq!(broker_table().public().count(), 350 + 8);
    assert_eq!(topic_table().public().count(), 37 + 2);
    for key in [
        own::DURABILITY,
        own::FLUSH_INTERVAL_MS,
        own::MEMORY_LIMIT_BYTES,
        own::METRICS_LISTEN,
        own::TAIL_CACHE_BYTES,
        own::STRICT_VALIDATION,
        own::AUTHORIZER_ENFORCE,
    ] {
        assert!(broker_table().get(key).is_some(), "{key}");
    }
}

#[test]
fn every_row_is_sound() {
    for table in [broker_table(), topic_table(), group_table(), client_metrics_table()] {
        for definition in table.all() {
            assert!(definition.documentation.ends_with('.'), "{}", definition.key);
            if let Some(default) = definition.default {
                let value = definition.parse(default).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(value.to_string(), default, "default of {}", definition.key);
            }
        }
    }
}

/// Each synonym exists, has the topic key's type or a smaller unit, and the same default where it has one.
#[test]
fn synonyms_fit() {
    let mut with_synonym = 0;
    for definition in topic_table().public() {
        let synonyms = topic_synonyms(definition.key);
        with_synonym += usize::from(!synonyms.is_empty());
        for synonym in synonyms {
            let broker = broker_table().get(synonym.key).unwrap_or_else(|| panic!("{}", synonym.key));
            let default = broker.default.map(|text| match text.parse::<i64>() {
                Ok(number) => (number.saturating_mul(synonym.scale.factor())).to_string(),
                Err(_) => text.to_owned(),
            });
            assert!(default.is_none() || default.as_deref() == definition.default, "{}", synonym.key);
        }
    }
    assert_eq!(with_synonym, 31 + 2);
    for definition in group_table().all() {
        if let Some(broker) = group_synonym(definition.key) {
            assert!(broker_table().get(&broker).is_some(), "{broker}");
        }
    }
}

#[test]
fn nothing_given_is_a_cluster_of_one() {
    let (config, notes) = BrokerConfig::resolve(&BTreeMap::new()).expect("resolves");
    assert_eq!(config.node_id, 1);
    assert!(config.is_cluster_of_one());
    assert_eq!(config.network.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
    assert_eq!(config.network.advertised_listeners, config.network.listeners);
    assert_eq!(config.log_dirs, ["./ottla-data"]);
    assert_eq!(config.offsets.replication_factor, 1);
    assert_eq!(config.transactions.min_insync_replicas, 1);
    assert_eq!(config.topic_defaults.retention_ms, Some(604_800_000));
    assert_eq!(config.topic_defaults.retention_bytes, None);
    assert_eq!(config.topic_defaults.durability, Durability::Flushed);
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0].keys, ["listeners"]);
}

/// What a node that was told nothing goes by is no default: who sets the key is shown what Kafka's is.
#[test]
fn what_is_set_hides_what_a_node_alone_goes_by() {
    let alone = describe_broker(&resolve(&[]));
    for (key, value) in
        [("node.id", "1"), ("listeners", "PLAINTEXT://127.0.0.1:9092"), ("log.dir", "./ottla-data")]
    {
        assert_eq!(entry(&alone, key).value.as_deref(), Some(value));
        assert_eq!(entry(&alone, key).source, ConfigSource::Default);
    }
    let set =
        describe_broker(&resolve(&[("listeners", "PLAINTEXT://:1"), ("node.id", "7"), ("log.dirs", "d")]));
    let chain = |key: &str| -> Vec<String> {
        entry(&set, key).synonyms.iter().filter_map(|link| link.value.clone()).collect()
    };
    assert_eq!(chain("listeners"), ["PLAINTEXT://:1", "PLAINTEXT://:9092"]);
    assert_eq!(chain("node.id"), ["7"]);
    assert_eq!(chain("log.dir"), ["/tmp/kafka-logs"]);
}

#[test]
fn tutorial_set_resolves_without_a_word() {
    let (config, notes) = BrokerConfig::resolve(&map(TUTORIAL)).expect("resolves");
    assert_eq!(notes, []);
    assert_eq!(config.num_partitions, 3);
    assert_eq!(config.groups.initial_rebalance_delay_ms, 0);
    assert_eq!(config.network.listeners.len(), 2);
    assert_eq!(config.network.advertised_listeners.len(), 1);
    assert_eq!(config.network.advertised_listeners[0].to_string(), "PLAINTEXT://localhost:9092");
    assert_eq!(config.network.controller_listener_names, ["CONTROLLER"]);
    assert_eq!(config.quorum.voters, [Voter { id: 1, host: "localhost".to_owned(), port: 9093 }]);
}

#[test]
fn container_sets_resolve() {
    let config = resolve(&[
        ("node.id", "1"),
        ("process.roles", "broker,controller"),
        ("listeners", "PLAINTEXT://:9092,BROKER://:9093,CONTROLLER://:9094"),
        ("advertised.listeners", "PLAINTEXT://localhost:32768,BROKER://b3c4:9093"),
        ("inter.broker.listener.name", "BROKER"),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("controller.quorum.voters", "1@localhost:9094"),
    ]);
    assert_eq!(config.network.inter_broker_listener, "BROKER");
    assert_eq!(config.network.listeners[0].host, "");
    // The quorum may be named by its bootstrap servers alone, and controller listeners need no map.
    let config = resolve(&[
        ("broker.id", "4"),
        ("listeners", "PLAINTEXT://:9092,CTRL://:9093"),
        ("controller.listener.names", "CTRL"),
        ("controller.quorum.bootstrap.servers", "localhost:9093"),
    ]);
    assert_eq!(config.node_id, 4);
    assert_eq!(config.quorum.voters, [Voter { id: 4, host: "localhost".to_owned(), port: 9093 }]);
}

/// The one server that can be asked may be another machine's, at the same port.
#[test]
fn a_controller_is_alone_only_if_the_server_that_it_can_ask_is_itself() {
    let alone = |listener: &str, server: &str| {
        let config = resolve(&[
            ("node.id", "2"),
            ("process.roles", "controller"),
            ("listeners", listener),
            ("controller.listener.names", "C"),
            ("controller.quorum.bootstrap.servers", server),
        ]);
        !config.quorum.voters.is_empty()
    };
    for (listener, server, expected) in [
        ("C://ctrl2:9093", "ctrl2:9093", true),
        ("C://ctrl2:9093", "ctrl1:9093", false),
        ("C://ctrl2:9093", "ctrl2:9094", false),
        ("C://:9093", "ctrl2:9093", true),
        ("C://localhost:9093", "127.0.0.1:9093", true),
        ("C://ctrl2:9093", "ctrl2:9093,ctrl1:9093", false),
    ] {
        assert_eq!(alone(listener, server), expected, "{listener} {server}");
    }
}

#[test]
fn notes_collect_and_offer() {
    let given = map(&[
        ("listeners", "PLAINTEXT://:9092"),
        ("log.retention.hour", "1"),
        ("num.io.threads", "16"),
        ("background.threads", "10"),
        ("super.users", "User:admin"),
        ("num_partitions", "2"),
        ("zebra", "1"),
    ]);
    let (_, notes) = BrokerConfig::resolve(&given).expect("resolves");
    let texts: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "log.retention.hour is not a known configuration and is ignored, did you mean log.retention.hours?",
            "num_partitions is not a known configuration and is ignored, did you mean num.partitions?",
            "zebra is not a known configuration and is ignored",
            "accepted, but without effect here: num.io.threads, super.users",
        ]
    );
}

#[test]
fn an_authorizer_that_enforces_nothing_has_to_be_meant() {
    let class = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let given = [("authorizer.class.name", class), ("ottla.authorizer.enforce", "false")];
    let (config, notes) = BrokerConfig::resolve(&map(&given)).expect("resolves");
    assert!(config.keeps_acls);
    assert!(notes.iter().any(|note| note.kind == NoteKind::Advice && note.text.contains("NOT ENFORCED")));
    assert!(!resolve(&[]).keeps_acls);
    // The switch alone promises nothing.
    assert!(!resolve(&[("ottla.authorizer.enforce", "true")]).keeps_acls);
}

#[test]
fn mistakes_name_key_value_and_reason() {
    let check = |pairs: &[(&str, &str)], parts: &[&str]| {
        let text = refused(pairs);
        for part in parts {
            assert!(text.contains(part), "{text:?} does not contain {part:?}");
        }
    };
    check(&[("num.partitions", "many")], &["num.partitions=many", "whole number of 32 bits"]);
    check(&[("num.partitions", "0")], &["num.partitions=0", "at least 1"]);
    check(&[("num.partitions", "4294967297")], &["32 bits"]);
    check(&[("default.replication.factor", "0")], &["between 1 and 32767"]);
    check(&[("auto.create.topics.enable", "yes")], &["true or false"]);
    check(&[("log.cleaner.min.cleanable.ratio", "1.5")], &["between 0 and 1"]);
    check(&[("compression.type", "brotli")], &["one of uncompressed"]);
    check(&[("log.cleanup.policy", "delete,shred")], &["has no shred"]);
    check(&[("group.coordinator.rebalance.protocols", "consumer")], &["classic can not be left out"]);
    check(&[("process.roles", "")], &["must not be empty"]);
    check(&[("process.roles", "broker,observer")], &["has no observer"]);
    check(&[("log.retention.ms", "0")], &["-1 to keep"]);
    check(&[("authorizer.class.name", "org.acme.Authorizer")], &["only authorizer is org.apache.kafka"]);
    check(&[("replica.selector.class", "org.acme.Nearest")], &["RackAwareReplicaSelector"]);
    let slow = ("replica.fetch.wait.max.ms", "5000");
    check(&[slow, ("replica.lag.time.max.ms", "4999")], &["more than replica.lag.time.max.ms"]);
    check(&[slow, ("replica.socket.timeout.ms", "4999")], &["more than replica.socket.timeout.ms"]);
    let standard = ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    check(&[standard], &["not enforced", "ottla.authorizer.enforce=false"]);
    check(&[("remote.log.storage.system.enable", "true")], &["not possible here", "not served yet"]);
    check(&[("listeners", "SSL://:9093")], &["listeners=SSL://:9093", "SSL is not served yet"]);
    check(&[("listeners", "WEIRD://:9093")], &["add WEIRD:PLAINTEXT"]);
    check(&[("listeners", "9092")], &["NAME://host:port"]);
    check(&[("listeners", "PLAINTEXT://:99999")], &["0 to 65535"]);
    check(&[("listeners", "PLAINTEXT://0.0.0.0:9092")], &["can not connect to 0.0.0.0"]);
    check(&[("node.id", "1"), ("broker.id", "2")], &["broker.id=2", "both must agree"]);
    check(&[("node.id", "2"), ("controller.quorum.voters", "1@localhost:9093")], &["add 2@host:port"]);
    check(&[("process.roles", "broker")], &["controller.listener.names"]);
    check(&[("controller.listener.names", "CONTROLLER")], &["add CONTROLLER://:9093 to listeners"]);
    check(&[("inter.broker.listener.name", "INTERNAL")], &["not advertised", "one of PLAINTEXT"]);
    check(&[("broker.heartbeat.interval.ms", "5000")], &["at most half"]);
    check(&[("group.max.session.timeout.ms", "10")], &["at least group.min.session.timeout.ms"]);
    check(&[("ottla.memory.limit.bytes", "16777216")], &["socket.request.max.bytes"]);
    check(
        &[("log.cleaner.min.compaction.lag.ms", "9"), ("log.cleaner.max.compaction.lag.ms", "8")],
        &["which is 8"],
    );
    check(&[("cordoned.log.dirs", "/elsewhere")], &["not one of log.dirs"]);
    check(
        &[("listeners", "PLAINTEXT://:9092,CONTROLLER://:9092"), ("controller.listener.names", "CONTROLLER")],
        &["port 9092 is already"],
    );
    check(
        &[
            ("process.roles", "broker"),
            ("controller.listener.names", "C"),
            ("controller.quorum.voters", "1@a:9"),
        ],
        &["only a broker and can not be a voter"],
    );
    // A password that is wrong is not repeated.
    let error = ConfigError::new("ssl.key.password", None, "no");
    assert_eq!(error.to_string(), "ssl.key.password: no");
    assert_eq!(error.to_clients(), "ssl.key.password: no");
}

#[test]
fn ports_may_be_shared_by_two_families() {
    let base = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT");
    let config = resolve(&[
        ("listeners", "A://127.0.0.1:9092,B://[::1]:9092"),
        ("inter.broker.listener.name", "a"),
        base,
    ]);
    assert_eq!(config.network.listeners[1].to_string(), "B://[::1]:9092");
    let text = refused(&[("listeners", "A://127.0.0.1:9092,B://127.0.0.2:9092"), base]);
    assert!(text.contains("port 9092"), "{text}");
}

#[test]
fn retention_in_any_unit() {
    let retention = |pairs: &[(&str, &str)]| resolve(pairs).topic_defaults.retention_ms;
    assert_eq!(retention(&[("log.retention.hours", "2")]), Some(7_200_000));
    assert_eq!(retention(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]), Some(180_000));
    let all = [("log.retention.hours", "2"), ("log.retention.minutes", "3"), ("log.retention.ms", "5")];
    assert_eq!(retention(&all), Some(5));
    assert_eq!(retention(&[("log.retention.minutes", "-1")]), None);
    assert_eq!(resolve(&[("log.roll.hours", "1")]).topic_defaults.segment_ms, 3_600_000);
    assert_eq!(resolve(&[("log.flush.scheduler.interval.ms", "7")]).topic_defaults.flush_ms, 7);
    let both = [("log.flush.scheduler.interval.ms", "7"), ("log.flush.interval.ms", "8")];
    assert_eq!(resolve(&both).topic_defaults.flush_ms, 8);
}

#[test]
fn topic_values_stand_above_the_brokers() {
    let broker = resolve(&[
        ("log.retention.hours", "2"),
        ("compression.type", "lz4"),
        ("ottla.durability", "replicated"),
    ]);
    let topic = TopicConfig::resolve(
        &map(&[
            ("cleanup.policy", "compact, delete,compact"),
            ("retention.ms", "-1"),
            ("max.compaction.lag.ms", "60000"),
        ]),
        &broker,
    )
    .expect("resolves");
    assert_eq!(topic.cleanup, CleanupPolicy { compact: true, delete: true });
    assert_eq!(topic.retention_ms, None);
    assert_eq!(topic.compression, TopicCompression::Lz4(9));
    assert_eq!(topic.durability, Durability::Replicated);
    assert_eq!(topic.max_segment_ms(), 60_000);
    let kept = TopicConfig::resolve(&map(&[("cleanup.policy", "")]), &broker).expect("resolves");
    assert_eq!(kept.cleanup, CleanupPolicy { compact: false, delete: false });
    let small = TopicConfig::resolve(&map(&[("internal.segment.bytes", "512")]), &broker).expect("resolves");
    assert_eq!(small.segment_bytes, 512);
    let lag = map(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")]);
    assert!(TopicConfig::resolve(&lag, &broker).is_err());
}

#[test]
fn topic_keys_are_validated() {
    let refused = |key, value| validate_topic_config(key, value).expect_err("refused").to_string();
    assert_eq!(
        refused("retention.mss", "1"),
        "retention.mss=1: there is no such topic configuration, did you mean retention.ms?"
    );
    assert_eq!(refused("segment.bytes", "1024"), "segment.bytes=1024: must be at least 1048576");
    assert_eq!(refused("retention.ms", "-2"), "retention.ms=-2: must be at least -1");
    assert_eq!(
        refused("cleanup.policy", "delete,,compact"),
        "cleanup.policy=delete,,compact: has an empty item"
    );
    assert!(refused("remote.storage.enable", "true").contains("not served yet"));
    for (key, value) in [
        ("retention.ms", " 60000 "),
        ("cleanup.policy", "compact,delete"),
        ("compression.gzip.level", "-1"),
        ("leader.replication.throttled.replicas", "0:1,1:2"),
        ("leader.replication.throttled.replicas", "*"),
        ("remote.storage.enable", "false"),
        ("ottla.durability", "replicated"),
        ("preallocate", "TRUE"),
    ] {
        assert_eq!(validate_topic_config(key, value), Ok(()), "{key}={value}");
    }
    assert!(validate_topic_config("compression.gzip.level", "0").is_err());
    assert!(validate_topic_config("follower.replication.throttled.replicas", "0:1,*").is_err());
    assert!(validate_group_config("share.auto.offset.reset", "by_duration:PT1H").is_ok());
    assert!(validate_group_config("share.auto.offset.reset", "by_duration:soon").is_err());
    assert!(validate_client_metrics_config("interval.ms", "99").is_err());
}

#[test]
fn dynamic_broker_keys() {
    assert!(validate_broker_config("log.retention.ms", "5", false).is_ok());
    assert!(validate_broker_config("log.retention.hours", "5", false).is_err(), "needs a restart");
    assert!(validate_broker_config("listeners", "PLAINTEXT://:1", false).is_err(), "one broker only");
    assert!(validate_broker_config("listeners", "PLAINTEXT://:1", true).is_ok());
    assert!(validate_broker_config("message.max.bytes", "-1", true).is_err());
    assert!(validate_broker_config("plugin.key", "x", true).is_ok());
}

#[test]
fn lists_append_and_subtract() {
    assert!(is_list_key(topic_table(), "cleanup.policy"));
    assert!(!is_list_key(topic_table(), "retention.ms"));
    assert_eq!(list_append("delete", "compact,delete"), "delete,compact");
    assert_eq!(list_append("", "compact"), "compact");
    assert_eq!(list_subtract("delete,compact", "delete"), "compact");
    assert_eq!(list_subtract("delete", "delete"), "");
}

#[test]
fn described_broker_shows_value_source_and_chain() {
    let mut given = map(TUTORIAL);
    given.extend(map(&[("log.retention.hours", "2"), ("ssl.key.password", "secret"), ("zebra", "stripes")]));
    let (config, _) = BrokerConfig::resolve(&given).expect("resolves");
    let (config, _) = config
        .reconfigure(&map(&[("message.max.bytes", "2000000")]), &map(&[("log.retention.ms", "99")]))
        .expect("resolves");
    assert_eq!(config.topic_defaults.max_message_bytes, 2_000_000);
    assert_eq!(config.topic_defaults.retention_ms, Some(99));
    let entries = describe_broker(&config);
    let show = |name: &str| entry(&entries, name);
    assert_eq!(show("num.partitions").value.as_deref(), Some("3"));
    assert_eq!(show("num.partitions").source, ConfigSource::StaticBroker);
    assert!(show("num.partitions").read_only);
    assert_eq!(show("num.partitions").synonyms.len(), 2);
    assert_eq!(show("message.max.bytes").source, ConfigSource::DynamicDefaultBroker);
    assert!(!show("message.max.bytes").read_only);
    assert_eq!(show("log.retention.ms").source, ConfigSource::DynamicBroker);
    assert_eq!(show("broker.id").value.as_deref(), Some("1"));
    assert_eq!(show("log.cleaner.io.max.bytes.per.second").value.as_deref(), Some("1.7976931348623157E308"));
    let secret = show("ssl.key.password");
    assert_eq!((secret.value.as_deref(), secret.sensitive), (None, true));
    assert!(secret.synonyms.iter().all(|synonym| synonym.value.is_none()));
    let unknown = show("zebra");
    assert_eq!((unknown.type_code(), unknown.sensitive, unknown.value.as_deref()), (0, true, None));
    assert!(!entries.iter().any(|entry| entry.name.starts_with("internal.")));
    let defaults = describe_broker_defaults(&config.layers.dynamic_default);
    assert_eq!(defaults.len(), 1);
    assert_eq!(defaults[0].synonyms.len(), 1);
}

#[test]
fn described_topic_shows_value_source_and_chain() {
    let broker = resolve(&[("log.retention.ms", "7200000"), ("message.max.bytes", "2000000")]);
    let entries = describe_topic(&map(&[("retention.ms", "60000")]), &broker.layers);
    assert_eq!(entries.len(), 39);
    let retention = entry(&entries, "retention.ms");
    assert_eq!(retention.value.as_deref(), Some("60000"));
    assert_eq!(retention.source, ConfigSource::DynamicTopic);
    let names: Vec<(&str, Option<&str>, ConfigSource)> = retention
        .synonyms
        .iter()
        .map(|link| (link.name.as_str(), link.value.as_deref(), link.source))
        .collect();
    assert_eq!(
        names,
        [
            ("retention.ms", Some("60000"), ConfigSource::DynamicTopic),
            ("log.retention.ms", Some("7200000"), ConfigSource::StaticBroker),
            ("log.retention.hours", Some("168"), ConfigSource::Default),
        ]
    );
    let bytes = entry(&entries, "max.message.bytes");
    assert_eq!((bytes.value.as_deref(), bytes.source), (Some("2000000"), ConfigSource::StaticBroker));
    assert!(!bytes.is_default());
    let policy = entry(&entries, "cleanup.policy");
    assert_eq!((policy.value.as_deref(), policy.is_default(), policy.type_code()), (Some("delete"), true, 7));
    assert!(entries.iter().all(|entry| !entry.read_only && !entry.sensitive));
    assert!(entries.windows(2).all(|pair| pair[0].name < pair[1].name));
}

#[test]
fn described_group_and_client_metrics() {
    let broker = resolve(&[("group.consumer.session.timeout.ms", "50000")]);
    let entries = describe_group(&map(&[("consumer.heartbeat.interval.ms", "6000")]), &broker);
    assert_eq!(entries.len(), 21);
    let session = entry(&entries, "consumer.session.timeout.ms");
    assert_eq!((session.value.as_deref(), session.source), (Some("50000"), ConfigSource::StaticBroker));
    assert_eq!(entry(&entries, "consumer.heartbeat.interval.ms").source, ConfigSource::Group);
    assert_eq!(entry(&entries, "share.auto.offset.reset").value.as_deref(), Some("latest"));
    let metrics = describe_client_metrics(&map(&[("interval.ms", "1000")]));
    assert_eq!(entry(&metrics, "interval.ms").source, ConfigSource::ClientMetrics);
    assert!(entry(&metrics, "match").is_default());
}

#[test]
fn a_listener_has_limits_of_its_own() {
    let settings = [
        ("listeners", "OUTSIDE://:9092,INSIDE://:9093,CONTROLLER://:9094"),
        ("listener.security.protocol.map", "OUTSIDE:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("inter.broker.listener.name", "INSIDE"),
        ("controller.listener.names", "CONTROLLER"),
        ("max.connections", "100"),
        ("listener.name.outside.max.connections", "5"),
        ("listener.name.outside.max.connection.creation.rate", "2"),
    ];
    let (config, notes) = BrokerConfig::resolve(&map(&settings)).expect("sound");
    assert!(notes.iter().all(|note| note.kind != NoteKind::WithoutEffect), "{notes:?}");
    let limits = |name: &str| {
        let limits = config.network.limits_of(name);
        (limits.max_connections, limits.max_connection_creation_rate)
    };
    assert_eq!(limits("OUTSIDE"), (5, 2));
    assert_eq!(limits("INSIDE"), (100, i32::MAX), "what holds for the node");
    assert_eq!(limits("CONTROLLER"), (i32::MAX, i32::MAX), "unless it is of controllers");

    let key = "listener.name.outside.max.connections";
    let live = config.reconfigure(&map(&[(key, "7")]), &BTreeMap::new()).expect("it may change").0;
    assert_eq!(live.network.limits_of("OUTSIDE").max_connections, 7);
    let told = describe_broker(&live);
    let told = entry(&told, key);
    assert_eq!((told.value.as_deref(), told.source), (Some("7"), ConfigSource::DynamicDefaultBroker));
    assert_eq!((told.config_type, told.sensitive, told.read_only), (Some(ConfigType::Int), false, false));
    let chain: Vec<_> = told.synonyms.iter().map(|link| (&*link.name, link.value.as_deref())).collect();
    let node = "max.connections";
    assert_eq!(chain, [(key, Some("7")), (key, Some("5")), (node, Some("100")), (node, Some("2147483647"))]);

    let error = refused(&[("listener.name.plaintext.max.connections", "many")]);
    assert!(error.starts_with("listener.name.plaintext.max.connections=many"), "{error}");
    assert!(
        validate_broker_config(key, "-1", true).is_err() && validate_broker_config(key, "9", false).is_ok()
    );
}
