//! Whole configurations, from text to the numbers in force.

use super::*;

fn load_env(variables: &[(&str, &str)]) -> Result<Configured, Vec<String>> {
    let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    load_from(None, &Request { variables, ..Request::default() })
}

fn load_file(text: &str, set: &[(&str, &str)]) -> Result<Configured, Vec<String>> {
    let set = set.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let request = Request { flags: Flags { set, ..Flags::default() }, ..Request::default() };
    load_from(Some((Path::new("server.properties"), text.as_bytes())), &request)
}

#[test]
fn without_anything() {
    let configured = load_env(&[("HOME", "/root")]).expect("the defaults are fine");
    assert!(configured.warnings.is_empty(), "{:?}", configured.warnings);
    let network = &configured.broker.network;
    assert_eq!(network.listeners.len(), 1);
    assert_eq!(network.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
    assert_eq!(network.advertised_listeners, network.listeners);
    assert!(configured.broker.is_cluster_of_one());
    assert_eq!(configured.broker.groups.initial_rebalance_delay_ms, 0);
    assert_eq!(configured.broker.log_dirs, ["./ottla-data"]);
}

/// The environment that most tutorials and compose files give to Kafka's container image.
#[test]
fn the_set_of_the_tutorials() {
    let configured = load_env(&[
        ("KAFKA_NODE_ID", "1"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_LISTENERS", "PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093"),
        ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://localhost:9092"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_NUM_PARTITIONS", "3"),
        ("KAFKA_HEAP_OPTS", "-Xmx1G"),
        ("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw"),
    ])
    .expect("starts as it is");
    assert!(configured.warnings.is_empty(), "{:?}", configured.warnings);
    let config = &configured.broker;
    let names: Vec<_> = config.network.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["PLAINTEXT://0.0.0.0:9092", "CONTROLLER://0.0.0.0:9093"]);
    let advertised: Vec<_> = config.network.advertised_listeners.iter().map(ToString::to_string).collect();
    assert_eq!(advertised, ["PLAINTEXT://localhost:9092"]);
    assert_eq!((config.node_id, config.num_partitions), (1, 3));
    assert_eq!((config.offsets.replication_factor, config.transactions.min_insync_replicas), (1, 1));
    assert_eq!(config.groups.initial_rebalance_delay_ms, 0);
    assert_eq!(configured.cluster_id.as_deref(), Some("4L6g3nShT-eMCtK--X86sw"));
    assert!(config.is_cluster_of_one());
}

#[test]
fn errors_name_key_value_reason_and_place() {
    let errors = load_file("# one\nnum.partitions=three\n", &[]).expect_err("not a number");
    assert_eq!(errors.len(), 1);
    for part in ["num.partitions", "three", "whole number", "server.properties:2"] {
        assert!(errors[0].contains(part), "{part} in {errors:?}");
    }
    let errors = load_file("", &[("compression.type", "ztsd")]).expect_err("no such codec");
    for part in ["compression.type=ztsd", "zstd", "flag --set"] {
        assert!(errors[0].contains(part), "{part} in {errors:?}");
    }
    let errors = load_env(&[("KAFKA_LISTENERS", "PLAINTEXT//:9092")]).expect_err("no listener");
    for part in ["listeners", "PLAINTEXT//:9092", "environment variable KAFKA_LISTENERS"] {
        assert!(errors[0].contains(part), "{part} in {errors:?}");
    }
    let missing = Request { file: Some("no/such/file".into()), ..Request::default() };
    assert!(load(&missing).expect_err("no file")[0].contains("no/such/file"));
}

#[test]
fn unknown_keys_are_warned_about_with_the_nearest_known_one() {
    let configured = load_file(
        "num.partition=3\nnum.io.threads=9\nlog.dirs=/x\nlisteners=PLAINTEXT://localhost:9092",
        &[],
    )
    .expect("ignored, as in Kafka");
    assert_eq!(configured.warnings.len(), 1, "{:?}", configured.warnings);
    for part in ["num.partition ", "did you mean num.partitions?", "server.properties:1"] {
        assert!(configured.warnings[0].contains(part), "{part} in {:?}", configured.warnings);
    }
    assert_eq!(configured.remarks.len(), 1);
    assert!(configured.remarks[0].contains("num.io.threads"));
}

#[test]
fn descriptions_show_origins_and_hide_passwords() {
    let file = "num.partitions=3\nssl.key.password=secret\nlistener.name.a.ssl.key.password=secret
listener.name.plaintext.max.connections=7";
    let configured = load_file(file, &[("x.y", "1")]).expect("fine");
    let text = configured.describe();
    let line = |start: &str| {
        text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"))
    };
    assert!(line("num.partitions=3 ").ends_with("# server.properties:1"));
    assert!(line("log.dir=./ottla-data ").ends_with("# default"));
    assert!(line("x.y=[hidden]").contains("flag --set; not known"));
    assert!(line("listener.name.plaintext.max.connections=7").ends_with("# server.properties:4"));
    assert!(!text.contains("secret"));
}
