//! A node that runs: what it prints, what it answers, and how it ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::node::{Node, api_versions, ask, ask_api_versions, frame, ottla, response, run};

#[test]
fn start_up_tells_what_matters() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_in(dir.path());
    assert!(node.lines.len() <= 12, "{:?}", node.lines);
    let text = node.lines.join("\n");
    for part in [
        concat!("Ottla ", env!("CARGO_PKG_VERSION")),
        "node 1 of cluster ",
        "broker and controller",
        "ottla-data",
        "free",
        "Listening PLAINTEXT 127.0.0.1:",
        "Kafka Server started",
        "Transitioning from RECOVERY to RUNNING",
        "ready in ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_ne!(node.address("PLAINTEXT").port(), 0);
    node.stop();
}

#[test]
fn a_restart_keeps_the_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = |node: &Node| {
        let line = node.lines.iter().find(|line| line.starts_with("node 1 of cluster ")).cloned();
        line.expect("told")
    };
    let first = Node::start_in(dir.path());
    let id = cluster(&first);
    first.stop();
    let second = Node::start_in(dir.path());
    assert_eq!(cluster(&second), id);
    second.signal("KILL");
    second.wait();
    let third = Node::start_in(dir.path());
    assert_eq!(cluster(&third), id);
    third.stop();
}

#[test]
fn the_set_of_the_tutorials_starts_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = ottla(dir.path(), &["serve"]);
    command.envs([
        ("KAFKA_NODE_ID", "1"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_LISTENERS", "PLAINTEXT://0.0.0.0:0,CONTROLLER://0.0.0.0:0"),
        ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://localhost:9092"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("KAFKA_NUM_PARTITIONS", "3"),
    ]);
    let node = Node::start(command);
    assert!(
        node.lines.iter().any(|line| line.contains("clients are told localhost:9092")),
        "{:?}",
        node.lines
    );
    assert_ne!(node.address("CONTROLLER").port(), 0);
    let mut stream = TcpStream::connect(("127.0.0.1", node.address("PLAINTEXT").port())).expect("connected");
    assert!(!ask_api_versions(&mut stream, 1).is_empty());
    node.stop();
}

#[test]
fn answers_come_in_the_order_of_requests() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_in(dir.path());
    let mut stream = node.connect();
    let apis = ask_api_versions(&mut stream, 7);
    assert!(apis.iter().any(|&(key, min, max)| key == 18 && min == 0 && max >= 3), "{apis:?}");
    let all: Vec<u8> = (0..500).flat_map(api_versions).collect();
    let mut writer = stream.try_clone().expect("cloned");
    let sender = std::thread::spawn(move || writer.write_all(&all).expect("sent"));
    for correlation_id in 0..500i32 {
        assert_eq!(response(&mut stream).expect("answered")[..4], correlation_id.to_be_bytes());
    }
    sender.join().expect("sent");
    // One byte at a time is as good as all at once.
    for byte in api_versions(501) {
        stream.write_all(&[byte]).expect("sent");
    }
    assert_eq!(response(&mut stream).expect("answered")[..4], 501i32.to_be_bytes());
    node.stop();
}

#[test]
fn peers_that_do_not_speak_kafka_are_closed_and_others_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_in(dir.path());
    let mut other = node.connect();
    ask_api_versions(&mut other, 1);
    let hostile: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &(-1i32).to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        &[0, 0, 0, 0],
        &[0, 0, 0, 2, 0, 18],
        &frame(18, 3, 1, &[0xff; 20]),
    ];
    for bytes in hostile {
        let mut stream = node.connect();
        stream.write_all(bytes).expect("sent");
        // Answered with an error or not at all, but never left open in the middle of nowhere.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        ask_api_versions(&mut other, 2);
    }
    let (mut idle, mut announced) = (node.connect(), node.connect());
    announced.write_all(&(100i32 << 20).to_be_bytes()).expect("sent");
    ask_api_versions(&mut other, 3);
    ask_api_versions(&mut idle, 4);
    node.signal("TERM");
    let (status, _, stderr) = node.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("negative size (-1)"), "{stderr}");
    assert!(stderr.contains("socket.request.max.bytes is 104857600"), "{stderr}");
}

#[test]
fn too_many_connections_from_one_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--set",
        "max.connections.per.ip=2",
        "--set",
        "connections.max.idle.ms=60000",
    ];
    let node = Node::start(ottla(dir.path(), &args));
    let (mut a, mut b) = (node.connect(), node.connect());
    ask_api_versions(&mut a, 1);
    ask_api_versions(&mut b, 1);
    let mut c = node.connect();
    assert_eq!(c.read(&mut [0]).expect("closed in order"), 0);
    drop(b);
    // The place is free once the node has seen that the peer left.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut d = node.connect();
        if d.write_all(&api_versions(2)).is_ok() && response(&mut d).is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "the place was not given back");
    }
    node.stop();
}

#[test]
fn a_full_listener_takes_a_connection_when_one_leaves() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(ottla(
        dir.path(),
        &["--listen", "127.0.0.1:0", "--set", "listener.name.plaintext.max.connections=1"],
    ));
    let mut a = node.connect();
    ask_api_versions(&mut a, 1);
    // The kernel takes the connection, and nobody answers on it.
    let mut b = node.connect();
    b.write_all(&api_versions(2)).expect("sent");
    b.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert!(b.read(&mut [0]).is_err(), "not while the other is there");
    drop(a);
    b.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    assert!(response(&mut b).is_some());
    drop(b);
    node.stop();
}

#[test]
fn those_who_were_idle_the_longest_go_when_there_are_too_many() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(ottla(dir.path(), &["--listen", "127.0.0.1:0", "--set", "ottla.threads=1"]));
    let (mut a, mut b, mut c) = (node.connect(), node.connect(), node.connect());
    ask_api_versions(&mut b, 1);
    let begun = Instant::now();
    // The clock of a node counts milliseconds.
    while begun.elapsed() < Duration::from_millis(3) {
        ask_api_versions(&mut a, 1);
    }
    let max =
        AlterableConfig { name: "max.connections".into(), config_operation: 0, value: Some("2".into()) };
    let resource = AlterConfigsResource { resource_type: 4, resource_name: "1".into(), configs: vec![max] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    ask(&mut c, &request, 1).expect("answered");
    assert_eq!(b.read(&mut [0]).expect("closed in order"), 0);
    ask_api_versions(&mut a, 2);
    ask_api_versions(&mut c, 3);
    node.stop();
}

#[test]
fn idle_connections_are_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let args = ["--listen", "127.0.0.1:0", "--set", "connections.max.idle.ms=50"];
    let node = Node::start(ottla(dir.path(), &args));
    let mut stream = node.connect();
    assert_eq!(stream.read(&mut [0]).expect("closed in order"), 0);
    node.stop();
}

#[test]
fn a_signal_ends_the_node_quickly_and_cleanly() {
    let dir = tempfile::tempdir().expect("a directory");
    for signal in ["TERM", "INT"] {
        let node = Node::start_in(dir.path());
        let mut stream = node.connect();
        ask_api_versions(&mut stream, 1);
        let start = Instant::now();
        node.signal(signal);
        let (status, _, stderr) = node.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
        // Measured: a few milliseconds. A machine that builds at the same time must not fail the test.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(response(&mut stream).is_none(), "the connection is closed");
    }
}

#[test]
fn version_and_configuration_are_printed() {
    let dir = tempfile::tempdir().expect("a directory");
    let version = run(ottla(dir.path(), &["--version"]));
    assert_eq!(
        (version.code, version.stdout.trim()),
        (Some(0), concat!("ottla ", env!("CARGO_PKG_VERSION")))
    );
    let config = run(ottla(dir.path(), &["config", "--set", "num.partitions=5", "--data-dir", "x"]));
    assert_eq!(config.code, Some(0));
    for part in ["num.partitions=5", "# flag --set", "log.dirs=x", "# flag --data-dir", "# default"] {
        assert!(config.stdout.contains(part), "{part} in {}", config.stdout);
    }
    assert!(!dir.path().join("x").exists(), "nothing was started");
}

#[test]
fn answers_before_a_refused_request_are_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_in(dir.path());
    let mut stream = node.connect();
    let mut bytes: Vec<u8> = (0..20).flat_map(api_versions).collect();
    bytes.extend_from_slice(&[0, 0, 0, 2, 0, 18]);
    bytes.extend(api_versions(99));
    stream.write_all(&bytes).expect("sent");
    for correlation_id in 0..20i32 {
        assert_eq!(response(&mut stream).expect("answered")[..4], correlation_id.to_be_bytes());
    }
    assert!(response(&mut stream).is_none(), "closed at the request that could not be read");
    node.stop();
}

#[test]
fn announced_sizes_neither_cost_memory_nor_stop_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--set",
        "ottla.memory.limit.bytes=16777216",
        "--set",
        "socket.request.max.bytes=8388608",
    ];
    let node = Node::start(ottla(dir.path(), &args));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).expect("readable");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map(str::to_owned).expect("told");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    };
    let before = resident();
    let hostile: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = node.connect();
            stream.write_all(&(8i32 << 20).to_be_bytes()).expect("sent");
            stream.write_all(&[0; 5000]).expect("sent");
            stream
        })
        .collect();
    let mut other = node.connect();
    for correlation_id in 0..100 {
        ask_api_versions(&mut other, correlation_id);
    }
    assert!(resident() < before + (16 << 20), "{} and before {before}", resident());
    // A large request waits its turn, which comes at the latest when the others have gone.
    let mut large = node.connect();
    let mut writer = large.try_clone().expect("cloned");
    let sender = std::thread::spawn(move || writer.write_all(&frame(18, 0, 5, &[0; 1 << 20])));
    ask_api_versions(&mut other, 100);
    drop(hostile);
    // What follows the body of a request is passed over: it is answered as soon as all of it was received.
    assert!(response(&mut large).is_some());
    let _ = sender.join().expect("the thread lives");
    node.stop();
}
