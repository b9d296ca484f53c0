//! `cargo xtask compaction`: the same log, compacted by Apache Kafka and by Ottla: what is left has to be what a naive model leaves, and it
//! is said what it cost, and what it cost those who produce meanwhile.
//!
//! The one tricky idea: neither broker is asked to produce the log. Both are given the same segments, in two partitions, between a stop and
//! a start; the first is there to make a JVM warm, the second is measured: the CPU of the threads that compact, from `/proc`, between the
//! moments when the checkpoint names the first and the second.

mod input;

use crate::bench::figure::{self, Figures, Spread};
use crate::bench::peer::Peer;
use crate::bench::scenario::Durability;
use crate::broker::Kind;
use crate::steps::{Doing, Trouble, fresh_dir};
use crate::{wire, workspace};
use clap::Args;
use input::{Input, SEGMENT_BYTES};
use ottla_protocol::Records;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::records::{BatchBuilder, BatchOptions, batches};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "compacted";
/// The first makes a JVM warm.
const PARTITIONS: i32 = 2;
/// How long a compaction may take, and any answer.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(5);
/// What is produced to another topic while logs are compacted: 8 MB a second, on a schedule of its own.
const LOAD: &str = "--rate 500 --connections 4 --in-flight 5 --batch-records 16 --record-bytes 1024 --acks 1 --warmup-seconds 1";

const SETTINGS: &[(&str, &str)] = &[
    ("log.cleaner.threads", "1"),
    ("log.cleaner.backoff.ms", "100"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
    ("log.cleaner.io.buffer.size", "1048576"),
];

/// Offset and hash of each record that is left.
type Left = Vec<(u64, u64)>;

/// What to compact.
#[derive(Args)]
pub struct Options {
    /// Records
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Different keys
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Pairs of runs
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Leave Apache Kafka out
    #[arg(long)]
    ottla_only: bool,
}

/// What the compaction of one log took.
#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    wall: Duration,
}

/// One broker with the log in two partitions.
struct Run<'a> {
    kind: Kind,
    home: &'a Path,
    segments: &'a Path,
    input: &'a Input,
}

/// Runs the chore.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let home = fresh_dir(&workspace::target().join("compaction"))?;
    let segments = home.join("input");
    fs::create_dir_all(&segments).doing("creating the input")?;
    let input = input::write(&segments, options.records, options.keys)?;
    let mebibytes = input.bytes as f64 / f64::from(1 << 20);
    println!(
        "{} records of {} keys, {mebibytes:.0} MiB; a naive model leaves {}",
        options.records,
        options.keys,
        input.left.len()
    );
    let (mut ratios, mut slower) = (Vec::new(), Vec::new());
    for _ in 0..options.pairs {
        let mut costs = Vec::new();
        for kind in [Kind::Kafka, Kind::Ottla] {
            if kind == Kind::Kafka && options.ottla_only {
                continue;
            }
            let run = Run { kind, home: &home, segments: &segments, input: &input };
            let cost = run.compact()?;
            let (cpu, wall) = (cost.cpu.as_secs_f64(), cost.wall.as_secs_f64());
            println!(
                "{:6} {cpu:6.2} s of CPU, {wall:6.2} s by the clock, {:8.0} records and {:6.1} MiB per second of CPU",
                kind.folder(),
                options.records as f64 / cpu,
                mebibytes / cpu
            );
            costs.push(cost);
        }
        if let [kafka, ottla] = costs[..] {
            ratios.push(kafka.cpu.as_secs_f64() / ottla.cpu.as_secs_f64());
        }
        let run = Run { kind: Kind::Ottla, home: &home, segments: &segments, input: &input };
        let (meanwhile, quiet) = run.produce_meanwhile()?;
        println!("produce p99 {meanwhile:.0} µs while Ottla compacts, {quiet:.0} µs while it does not");
        slower.push(meanwhile / quiet);
    }
    fs::remove_dir_all(&home).doing("removing what was compacted")?;
    if let Some(Spread { median, min, max }) = Spread::of(ratios) {
        println!("{median:.2} ({min:.2}-{max:.2}) times Apache Kafka's throughput per core; goal 3");
    }
    if let Some(Spread { median, min, max }) = Spread::of(slower) {
        println!(
            "{median:.2} ({min:.2}-{max:.2}) times the produce p99 of a node that does not compact; goal 1.2"
        );
    }
    Ok(true)
}

impl Run<'_> {
    /// Compacts, compares what is left with the model and returns what the second partition cost.
    fn compact(&self) -> Result<Cost, Trouble> {
        let mut peer = self.ready()?;
        peer.broker.start()?;
        self.wait(&mut peer, 1)?;
        let (begun, before) = (Instant::now(), cpu_of_compaction(&peer)?);
        self.wait(&mut peer, 2)?;
        let cost = Cost { wall: begun.elapsed(), cpu: cpu_of_compaction(&peer)?.saturating_sub(before) };
        peer.broker.kill()?;
        for partition in 0..PARTITIONS {
            let left = read_back(&peer.broker.data().join(format!("{TOPIC}-{partition}")))?;
            if left != self.input.left {
                let (name, left) = (peer.broker.name(), left.len());
                return Err(Trouble::new(format!("{name} left {left} records, and not those of the model")));
            }
        }
        Ok(cost)
    }

    /// The p99 of producers in µs while logs are compacted, and when that is done.
    fn produce_meanwhile(&self) -> Result<(f64, f64), Trouble> {
        let mut peer = self.ready()?;
        peer.broker.start()?;
        let topic = peer.create_topic(4)?;
        let p99 = |peer: &mut Peer, seconds: u32| {
            let report = peer.load("produce", &topic, &format!("{LOAD} --seconds {seconds}"), None)?;
            Figures::of_report(&report).get(&figure::P99).ok_or_else(|| Trouble::new("no p99 was reported"))
        };
        let meanwhile = p99(&mut peer, 4)?;
        if compacted(&peer) == PARTITIONS as usize {
            return Err(Trouble::new("compaction was over before producers were: more records are needed"));
        }
        self.wait(&mut peer, PARTITIONS as usize)?;
        let quiet = p99(&mut peer, 4)?;
        peer.broker.kill()?;
        Ok((meanwhile, quiet))
    }

    /// A stopped broker, in two partitions of which the segments lie. It has to find out what is in them.
    fn ready(&self) -> Result<Peer, Trouble> {
        let home = fresh_dir(&self.home.join(self.kind.folder()))?;
        let mut peer = Peer::new(self.kind, Durability::PageCache, true, &home, &home.join("logs"))?;
        peer.broker.set(SETTINGS);
        peer.broker.start()?;
        create_topic(&peer.broker.bootstrap())?;
        peer.broker.stop()?;
        for partition in 0..PARTITIONS {
            let dir = peer.broker.data().join(format!("{TOPIC}-{partition}"));
            for entry in fs::read_dir(&dir).doing("listing the partition")?.flatten() {
                if entry.file_name() != "partition.metadata" {
                    fs::remove_file(entry.path()).doing("emptying the partition")?;
                }
            }
            for entry in fs::read_dir(self.segments).doing("listing the input")?.flatten() {
                fs::copy(entry.path(), dir.join(entry.file_name())).doing("copying a segment")?;
            }
        }
        let marker = peer.broker.data().join(".kafka_cleanshutdown");
        fs::remove_file(&marker).doing(format!("removing {}", marker.display()))?;
        // The copies are not to be written to the disk on anybody's time.
        rustix::fs::sync();
        Ok(peer)
    }

    /// Waits until so many partitions are compacted.
    fn wait(&self, peer: &mut Peer, partitions: usize) -> Result<(), Trouble> {
        let begun = Instant::now();
        while compacted(peer) < partitions {
            if begun.elapsed() > PATIENCE || !peer.broker.is_alive() {
                let (name, log) = (peer.broker.name(), peer.broker.log());
                return Err(Trouble::new(format!("{name} did not compact; its log: {}", log.display())));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// Partitions that the checkpoint of compaction names.
fn compacted(peer: &Peer) -> usize {
    let checkpoint = fs::read_to_string(peer.broker.data().join("cleaner-offset-checkpoint"));
    let named = |text: String| text.lines().filter(|line| line.starts_with(&format!("{TOPIC} "))).count();
    checkpoint.map_or(0, named)
}

/// Creates the topic and writes one record to each of its partitions, so that they have directories.
fn create_topic(address: &str) -> Result<(), Trouble> {
    let segment_bytes = SEGMENT_BYTES.to_string();
    let config = |name: &'static str, value: &str| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.to_owned().into()),
    };
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: vec![config("cleanup.policy", "compact"), config("segment.bytes", &segment_bytes)],
        ..Default::default()
    };
    let mut connection = wire::Connection::open(address, PATIENCE)?;
    connection
        .ask(&CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() }, 5)?;
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    builder.push(0, Some(b"key"), Some(b"value"), &[]);
    let batch = builder.finish();
    let data = |index| PartitionProduceData { index, records: Some(Records::Slice(&batch)) };
    let topic = TopicProduceData {
        name: TOPIC.into(),
        partition_data: (0..PARTITIONS).map(data).collect(),
        ..Default::default()
    };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    connection.ask(&request, 9)?;
    Ok(())
}

/// The CPU that the threads which compact have used.
fn cpu_of_compaction(peer: &Peer) -> Result<Duration, Trouble> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{}/task", peer.broker.pid()?)).doing("listing threads")?.flatten()
    {
        let path = task.path();
        let name = fs::read_to_string(path.join("comm")).doing("reading a thread's name")?;
        if ["ottla-chore", "kafka-log-clean"].iter().any(|prefix| name.starts_with(prefix)) {
            let times = fs::read_to_string(path.join("schedstat")).doing("reading a thread's times")?;
            nanoseconds += times.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Every record in a partition's directory.
fn read_back(dir: &Path) -> Result<Left, Trouble> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).doing("listing the partition")?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    let mut left = Left::new();
    for path in paths {
        let bytes = fs::read(&path).doing(format!("reading {}", path.display()))?;
        for batch in batches(&bytes) {
            let batch = batch.map_err(Trouble::new)?;
            batch.verify_crc().map_err(Trouble::new)?;
            for record in &batch.records(64 << 20).map_err(Trouble::new)? {
                let record = record.map_err(Trouble::new)?;
                left.push((record.offset as u64, hash(record.key, record.value, record.timestamp)));
            }
        }
    }
    Ok(left)
}

/// FNV-1a over all that a reader sees.
fn hash(key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let value = value.unwrap_or(b"tombstone");
    for byte in key.unwrap_or_default().iter().chain(value).chain(&timestamp.to_be_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
