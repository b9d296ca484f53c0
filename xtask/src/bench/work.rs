//! Doing a scenario's work against one broker, once.
//!
//! The tricky idea: a load is rehearsed on a topic of its own, which is then deleted. The pages that it gave back are the ones that the
//! measured run writes to, so nobody is charged for memory that a virtual machine has to ask its host for.

use super::figure::{self, Figures};
use super::peer::Peer;
use super::scenario::{Durability, Placement, Scenario, Work};
use crate::broker::Kind;
use crate::steps::{Doing, Trouble, fresh_dir};
use crate::wire;
use crate::workspace;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long a broker may take until it leads what it led before.
const FIRST_PATIENCE: Duration = Duration::from_secs(120);
/// What the load generator says of it until then.
const NOT_YET_LEADER: &str = "NOT_LEADER_OR_FOLLOWER";
/// Kafka's controller writes at most ten thousand records for one request.
const PARTITIONS_PER_TOPIC: u32 = 5_000;
/// How long a process may rest before its memory is looked at.
const REST: Duration = Duration::from_secs(3);

/// Runs `scenario` against a broker that is up.
pub fn run(peer: &mut Peer, scenario: &Scenario) -> Result<Figures, Trouble> {
    let cpu = peer.place(scenario.placement)?;
    match scenario.work {
        Work::Produce { partitions, arguments } => {
            for_topic(peer, partitions, |peer, topic| peer.load("produce", topic, arguments, cpu))?;
            let report =
                for_topic(peer, partitions, |peer, topic| peer.load("produce", topic, arguments, cpu))?;
            Ok(Figures::of_report(&report))
        }
        Work::Fetch { partitions, fill, arguments } => {
            let report = for_topic(peer, partitions, |peer, topic| {
                peer.load("produce", topic, fill, cpu)?;
                peer.load("fetch", topic, arguments, cpu)
            })?;
            Ok(Figures::of_report(&report))
        }
        Work::CatchUp { fill, arguments, produce } => {
            let report = for_topic(peer, 1, |peer, topic| catch_up(peer, topic, fill, arguments, produce))?;
            Ok(report)
        }
        Work::Tail { produce, arguments } => for_topic(peer, 1, |peer, topic| {
            let producer = in_background(peer, topic, produce, cpu)?;
            let report = peer.load("fetch", topic, arguments, cpu)?;
            ended(producer)?;
            Ok(Figures::of_report(&report))
        }),
        Work::EndToEnd { arguments } => {
            let report = for_topic(peer, 1, |peer, topic| peer.load("end-to-end", topic, arguments, cpu))?;
            Ok(Figures::of_report(&report))
        }
        Work::JavaProducer { records, record_bytes, properties } => {
            for_topic(peer, 1, |peer, topic| java_producer(peer, topic, records, record_bytes, properties))
        }
        Work::Lifecycle { .. } | Work::Recovery { .. } => {
            Err(Trouble::new("this work needs a process of its own"))
        }
    }
}

/// Runs `scenario` on a fresh process.
pub fn run_alone(kind: Kind, scenario: &Scenario, home: &Path, logs: &Path) -> Result<Figures, Trouble> {
    let home = fresh_dir(&home.join(scenario.name))?;
    let mut peer = Peer::new(kind, Durability::PageCache, false, &home, logs)?;
    let figures = match scenario.work {
        Work::Lifecycle { connections, partitions } => lifecycle(&mut peer, connections, partitions),
        Work::Recovery { mib, partitions } => recovery(&mut peer, mib, partitions),
        _ => Err(Trouble::new("this work is for a warm process")),
    };
    peer.broker.kill()?;
    std::fs::remove_dir_all(&home).doing("removing the data of a run")?;
    figures
}

fn for_topic<T>(
    peer: &mut Peer,
    partitions: u32,
    work: impl FnOnce(&mut Peer, &str) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let topic = peer.create_topic(partitions)?;
    let outcome = work(peer, &topic);
    peer.delete_topic(&topic)?;
    outcome
}

/// Throughput of the reader, and the producer's latency meanwhile.
fn catch_up(
    peer: &mut Peer,
    topic: &str,
    fill: &str,
    arguments: &str,
    produce: &str,
) -> Result<Figures, Trouble> {
    peer.load("produce", topic, fill, None)?;
    let mut command = peer.generator("produce", topic);
    command.args(produce.split_whitespace());
    let producer =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().doing("starting ottla-bench")?;
    let mut reads = Vec::new();
    let begun = Instant::now();
    // Read again and again, for as long as is produced.
    while begun.elapsed() < Duration::from_secs(3) {
        let report = peer.load("fetch", topic, arguments, None)?;
        reads.extend(Figures::of_report(&report).get(&figure::MB_PER_S));
    }
    let mut figures = Figures::of_report(&ended(producer)?);
    let read = figure::Spread::of(reads).ok_or_else(|| Trouble::new("nothing was read"))?;
    figures.set(&figure::MB_PER_S, read.median);
    Ok(figures)
}

/// Producers that go on by themselves.
fn in_background(peer: &Peer, topic: &str, produce: &str, cpu: Option<usize>) -> Result<Child, Trouble> {
    let mut command = peer.generator("produce", topic);
    command.args(produce.split_whitespace());
    if let Some(cpu) = cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().doing("starting ottla-bench")
}

/// What they reported at their end.
fn ended(producer: Child) -> Result<Value, Trouble> {
    let output = producer.wait_with_output().doing("waiting for ottla-bench")?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Trouble::new(format!("ottla-bench produce: {error}")))
}

/// `kafka-producer-perf-test`, which prints a line like `600000 records sent, 98765.4 records/sec (...)` at its end.
fn java_producer(
    peer: &mut Peer,
    topic: &str,
    records: u64,
    record_bytes: u32,
    properties: &str,
) -> Result<Figures, Trouble> {
    let mut command = Command::new("java");
    command.args([
        "-Xms512m",
        "-Xmx512m",
        "-XX:+UseG1GC",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
    ]);
    command.arg(crate::broker::class_path("tools")).arg("org.apache.kafka.tools.ProducerPerformance");
    command.args(["--topic", topic, "--num-records", &records.to_string(), "--throughput", "-1"]);
    command.args(["--record-size", &record_bytes.to_string(), "--producer-props"]);
    command.arg(format!("bootstrap.servers={}", peer.broker.bootstrap()));
    command.args(properties.split_whitespace());
    let text = peer.run(&mut command, "producer-perf-test")?;
    let last = text.lines().rev().find(|line| line.contains("records/sec"));
    let rate =
        last.and_then(|line| line.split("records sent, ").nth(1)).and_then(|rest| rest.split(' ').next());
    let rate = rate.and_then(|rate| rate.replace(',', ".").parse().ok());
    let mut figures = Figures::default();
    figures.set(&figure::RECORDS_PER_S, rate.ok_or_else(|| Trouble::new("no rate was printed"))?);
    Ok(figures)
}

fn lifecycle(peer: &mut Peer, connections: usize, partitions: u32) -> Result<Figures, Trouble> {
    let mut figures = Figures::default();
    let mib = |peer: &Peer| peer.broker.rss_kib().map(|kib| kib as f64 / 1024.0);
    let begun = Instant::now();
    peer.broker.start()?;
    let topic = peer.create_topic(1)?;
    produce_one(peer, &topic)?;
    figures.set(&figure::START, begun.elapsed().as_secs_f64() * 1e3);
    std::thread::sleep(REST);
    figures.set(&figure::RSS_IDLE, mib(peer)?);
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = wire::Connection::open(&peer.broker.bootstrap(), PATIENCE)?;
        connection.ask(&MetadataRequest { topics: Some(Vec::new()), ..Default::default() }, 12)?;
        open.push(connection);
    }
    if connections > 0 {
        std::thread::sleep(REST);
        figures.set(&figure::RSS_CONNECTIONS, mib(peer)?);
    }
    drop(open);
    if partitions > 0 {
        let begun = Instant::now();
        let mut topics = Vec::new();
        for first in (0..partitions).step_by(PARTITIONS_PER_TOPIC as usize) {
            topics.push(peer.create_topic(PARTITIONS_PER_TOPIC.min(partitions - first))?);
        }
        for topic in &topics {
            produce_one(peer, topic)?;
        }
        figures.set(&figure::CREATE, begun.elapsed().as_secs_f64() * 1e3);
        // Every partition has taken a record when memory is looked at.
        let every =
            format!("--in-flight 1 --requests {PARTITIONS_PER_TOPIC} --batch-records 1 --record-bytes 10");
        for topic in &topics {
            peer.load("produce", topic, &every, None)?;
        }
        std::thread::sleep(REST);
        figures.set(&figure::RSS_PARTITIONS, mib(peer)?);
    }
    figures.set(&figure::STOP, peer.broker.stop()?.as_secs_f64() * 1e3);
    Ok(figures)
}

/// From kill -9 to the first acknowledged produce after it.
fn recovery(peer: &mut Peer, mib: u64, partitions: u32) -> Result<Figures, Trouble> {
    peer.broker.start()?;
    let topic = peer.create_topic(partitions)?;
    // Batches of 64 KiB, round and round, so that all partitions are about as large.
    let fill = format!("--batch-records 64 --connections 4 --requests {} --seconds 600", mib * 16);
    peer.load("produce", &topic, &fill, None)?;
    peer.broker.kill()?;
    let begun = Instant::now();
    peer.broker.start()?;
    produce_one(peer, &topic)?;
    let mut figures = Figures::default();
    figures.set(&figure::START, begun.elapsed().as_secs_f64() * 1e3);
    Ok(figures)
}

/// Until a record is acknowledged. A broker that just started may be told as the leader before it knows that it is one; clients try again then.
fn produce_one(peer: &mut Peer, topic: &str) -> Result<(), Trouble> {
    let one = "--requests 1 --in-flight 1 --batch-records 1 --record-bytes 10";
    let deadline = Instant::now() + FIRST_PATIENCE;
    loop {
        match peer.load("produce", topic, one, None) {
            Err(error) if error.to_string().contains(NOT_YET_LEADER) && Instant::now() < deadline => {}
            outcome => return outcome.map(drop),
        }
    }
}

/// Whether the load generator and the broker have been built.
pub fn check_built() -> Result<(), Trouble> {
    for program in [workspace::ottla(), workspace::load_generator()] {
        if !program.exists() {
            let name = program.display();
            return Err(Trouble::new(format!(
                "{name} is missing: cargo build --release -p ottla-server -p ottla-bench"
            )));
        }
    }
    Ok(())
}

/// Whether a scenario's work needs a process of its own.
pub fn is_alone(scenario: &Scenario) -> bool {
    matches!(scenario.work, Work::Lifecycle { .. } | Work::Recovery { .. })
}

/// What a JVM does before it is fast: everything that will be measured, unmeasured.
pub fn warm(peer: &mut Peer, seconds: f64) -> Result<(), Trouble> {
    peer.place(Placement::Together)?;
    let loads = [
        "--batch-records 16 --connections 4",
        "--batch-records 1 --record-bytes 100 --connections 50",
        "--batch-records 960",
        "--batch-records 64 --codec lz4 --payload text",
        "--batch-records 64 --codec zstd --payload text",
        "--batch-records 64 --connections 12 --idempotent --acks -1",
    ];
    for load in loads {
        let arguments = format!("{load} --seconds {}", seconds / loads.len() as f64);
        for_topic(peer, 12, |peer, topic| {
            peer.load("produce", topic, &arguments, None)?;
            peer.load("fetch", topic, "--consumers 12 --seconds 2", None)
        })?;
    }
    Ok(())
}
