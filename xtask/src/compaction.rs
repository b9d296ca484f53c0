//! `cargo xtask compaction`: the same log, compacted by Apache Kafka and by Ottla: what is left has to be the same records, and it is said
//! what it cost.
//!
//! The one tricky idea: neither broker is asked to produce. Both are given the same segments between a stop and a start, and what is measured
//! is the CPU of the thread that compacts, from `/proc`, until the checkpoint says that it is done.

use crate::broker::{Broker, Kind};
use crate::steps::{Doing, Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::records::{BatchBuilder, BatchOptions, batches};
use ottla_protocol::{Message, Records, Request, Writer};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "compacted";
/// Records of one batch.
const BATCH_RECORDS: u64 = 100;
/// Bytes at which a segment of the input ends.
const SEGMENT_BYTES: u64 = 100 << 20;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// Records' time, in ms since the epoch.
const TIMESTAMP: i64 = 1_700_000_000_000;
/// How long a compaction may take.
const PATIENCE: Duration = Duration::from_secs(600);

const SETTINGS: &[(&str, &str)] = &[
    ("log.cleanup.policy", "compact"),
    ("log.segment.bytes", "104857600"),
    ("log.cleaner.threads", "1"),
    ("log.cleaner.backoff.ms", "1000"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
    ("log.cleaner.io.buffer.size", "1048576"),
];

/// What to compact.
#[derive(Args)]
pub struct Options {
    /// Records
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    /// Different keys
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Leave Apache Kafka out
    #[arg(long)]
    ottla_only: bool,
}

/// What a compaction did.
struct Outcome {
    cpu: Duration,
    wall: Duration,
    bytes: u64,
    /// Offset and hash of each record that is left.
    left: Vec<(u64, u64)>,
}

/// Runs the chore.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let home = fresh_dir(&workspace::target().join("compaction"))?;
    let input = home.join("input");
    fs::create_dir_all(&input).doing("creating the input")?;
    let bytes = write_input(&input, &options)?;
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    println!("{} records, {} keys, {mebibytes:.0} MiB", options.records, options.keys);
    let mut outcomes = Vec::new();
    for kind in [Kind::Kafka, Kind::Ottla] {
        if kind == Kind::Kafka && options.ottla_only {
            continue;
        }
        let outcome = compact(kind, &home, &input)?;
        let per_second = options.records as f64 / outcome.cpu.as_secs_f64();
        println!(
            "{:6} {:6.2} s of CPU, {:6.2} s by the clock, {:8.0} records and {:5.1} MiB per second of CPU, {} records and {} bytes left",
            kind.folder(),
            outcome.cpu.as_secs_f64(),
            outcome.wall.as_secs_f64(),
            per_second,
            mebibytes / outcome.cpu.as_secs_f64(),
            outcome.left.len(),
            outcome.bytes
        );
        outcomes.push(outcome);
    }
    let [kafka, ottla] = &outcomes[..] else { return Ok(true) };
    let same = kafka.left == ottla.left;
    let ratio = kafka.cpu.as_secs_f64() / ottla.cpu.as_secs_f64();
    println!(
        "the records that are left are {}; {ratio:.1} times the throughput per core",
        if same { "the same" } else { "NOT the same" }
    );
    Ok(same)
}

/// Writes the segments of a log, without indexes, and returns their size. Keys come in an order without a pattern; every fiftieth record
/// is a tombstone.
fn write_input(dir: &Path, options: &Options) -> Result<u64, Trouble> {
    let (mut total, mut segment, mut base_offset, mut offset) = (0, Vec::new(), 0, 0);
    let mut state = 1_u64;
    while offset < options.records {
        let batch_options = BatchOptions { leader_epoch: 0, ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(offset as i64, batch_options);
        for _ in 0..BATCH_RECORDS.min(options.records - offset) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("key-{:012}", (state >> 20) % options.keys);
            let value = [offset as u8; VALUE_BYTES];
            builder.push(TIMESTAMP, Some(key.as_bytes()), (offset % 50 != 0).then_some(&value[..]), &[]);
            offset += 1;
        }
        segment.extend_from_slice(&builder.finish());
        if segment.len() as u64 >= SEGMENT_BYTES || offset == options.records {
            let path = dir.join(format!("{base_offset:020}.log"));
            fs::write(&path, &segment).doing(format!("writing {}", path.display()))?;
            total += segment.len() as u64;
            segment.clear();
            base_offset = offset;
        }
    }
    Ok(total)
}

fn compact(kind: Kind, home: &Path, input: &Path) -> Result<Outcome, Trouble> {
    let home = home.join(kind.folder());
    let mut broker = Broker::new(kind, None, &home, &home.join("logs"))?;
    broker.set(SETTINGS);
    broker.set_jvm(&["-Xmx1g", "-Xms1g"]);
    broker.start()?;
    create_topic(&broker.bootstrap())?;
    broker.stop()?;
    let dir = broker.data().join(format!("{TOPIC}-0"));
    for entry in fs::read_dir(&dir).doing("listing the partition")?.flatten() {
        if entry.file_name() != "partition.metadata" {
            fs::remove_file(entry.path()).doing("emptying the partition")?;
        }
    }
    for entry in fs::read_dir(input).doing("listing the input")?.flatten() {
        fs::copy(entry.path(), dir.join(entry.file_name())).doing("copying a segment")?;
    }
    // Both have to find out what is in the files.
    let marker = broker.data().join(".kafka_cleanshutdown");
    fs::remove_file(&marker).doing(format!("removing {}", marker.display()))?;
    broker.start()?;
    let begun = Instant::now();
    let checkpoint = broker.data().join("cleaner-offset-checkpoint");
    let is_done = || fs::read_to_string(&checkpoint).is_ok_and(|text| text.contains(&format!("{TOPIC} 0 ")));
    while !is_done() {
        if begun.elapsed() > PATIENCE || !broker.is_alive() {
            return Err(Trouble::new(format!(
                "{} did not compact; its log: {}",
                broker.name(),
                broker.log().display()
            )));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let wall = begun.elapsed();
    let cpu = cpu_of_threads(broker.pid()?, &["ottla-chore", "kafka-log-clean"])?;
    broker.kill()?;
    let (left, bytes) = read_back(&dir)?;
    Ok(Outcome { cpu, wall, bytes, left })
}

/// Creates the topic and writes one record to it, so that its partition has a directory.
fn create_topic(address: &str) -> Result<(), Trouble> {
    let topic =
        CreatableTopic { name: TOPIC.into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let mut socket = TcpStream::connect(address).doing("connecting")?;
    ask(&mut socket, &request, 5)?;
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    builder.push(TIMESTAMP, Some(b"key"), Some(b"value"), &[]);
    let batch = builder.finish();
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
    ask(
        &mut socket,
        &ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() },
        9,
    )
}

/// Sends a request and waits for its answer, which is not looked at: where it failed, there will be no directory.
fn ask<'a, R: Request<'a>>(socket: &mut TcpStream, request: &R, version: i16) -> Result<(), Trouble> {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: R::KEY as i16,
        request_api_version: version,
        client_id: Some("xtask".into()),
        ..Default::default()
    };
    header.encode(&mut writer, R::KEY.request_header_version(version)).map_err(Trouble::new)?;
    request.encode(&mut writer, version).map_err(Trouble::new)?;
    let frame = writer.into_bytes();
    socket.write_all(&(frame.len() as u32).to_be_bytes()).doing("sending a request")?;
    socket.write_all(&frame).doing("sending a request")?;
    let mut size = [0; 4];
    socket.read_exact(&mut size).doing("waiting for an answer")?;
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    socket.read_exact(&mut answer).doing("waiting for an answer")
}

/// The CPU that threads with these names have used.
fn cpu_of_threads(pid: u32, names: &[&str]) -> Result<Duration, Trouble> {
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let mut ticks = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).doing("listing threads")?.flatten() {
        let stat = fs::read_to_string(task.path().join("stat")).doing("reading a thread's times")?;
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
        if names.iter().any(|name| stat[open + 1..close].starts_with(name)) {
            // Behind the name: user and system time are the 14th and 15th field of the line.
            let times = stat[close + 2..].split(' ').skip(11).take(2);
            ticks += times.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
    }
    Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
}

/// Every record in a partition's directory, and the size of its segments.
fn read_back(dir: &Path) -> Result<(Vec<(u64, u64)>, u64), Trouble> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).doing("listing the partition")?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    let (mut left, mut total) = (Vec::new(), 0);
    for path in paths {
        let bytes = fs::read(&path).doing(format!("reading {}", path.display()))?;
        total += bytes.len() as u64;
        for batch in batches(&bytes) {
            let batch = batch.map_err(Trouble::new)?;
            batch.verify_crc().map_err(Trouble::new)?;
            for record in &batch.records(64 << 20).map_err(Trouble::new)? {
                let record = record.map_err(Trouble::new)?;
                let mut hash = 0xcbf2_9ce4_8422_2325_u64;
                let value = record.value.unwrap_or(b"tombstone");
                for byte in
                    record.key.unwrap_or_default().iter().chain(value).chain(&record.timestamp.to_be_bytes())
                {
                    hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                }
                left.push((record.offset as u64, hash));
            }
        }
    }
    Ok((left, total))
}
