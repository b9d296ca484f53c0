//! The guard of the hot path: what a produce, a fetch and the codecs cost the processor, against what they cost when somebody last
//! looked (`guard.txt` beside this file). `cargo bench -p ottla-broker --bench guard`; with `UPDATE=1` the figures are written anew.
//!
//! The tricky idea: nothing but a clock exists on every machine, and clocks differ. So each piece of work is told as a ratio to a fixed
//! piece of plain Rust that ran right beside it, and of many short rounds the fastest counts, which is the one that nobody disturbed.
#![allow(clippy::disallowed_methods, reason = "this measures time, and reads and writes its own figures")]

use bytes::Bytes;
use ottla_broker::{Broker, Connection, Effect, Effects, NodeConfig, Response, Token};
use ottla_metadata::config::BrokerConfig;
use ottla_protocol::compression::Codec;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{Message, Reader, Records, Request, Writer};
use ottla_storage::SimDisk;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const NOW: i64 = 1_800_000_000_000;
/// Rounds of each piece of work.
const ROUNDS: usize = 300;
/// A ratio may be this much above the stored one.
const TOLERANCE: f64 = 1.4;
/// Well below it, the stored figure has become too kind.
const TOO_KIND: f64 = 1.8;
const PRODUCE_VERSION: i16 = 11;
const FETCH_VERSION: i16 = 12;
const METADATA_VERSION: i16 = 9;

/// A node on a simulated disk, without a shell around it.
struct Node {
    broker: Arc<Broker>,
    connection: Connection,
    slot: u64,
}

impl Node {
    /// With one topic, whose partition has taken a record.
    fn new() -> Node {
        let settings = [("ottla.durability", "replicated")];
        let settings: BTreeMap<_, _> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (broker, _) = BrokerConfig::resolve(&settings).expect("settings that exist");
        let broker = Broker::open(Arc::new(SimDisk::new(1)), NodeConfig { broker, cluster_id: None }, NOW, 1);
        let peer = ([127, 0, 0, 1], 1).into();
        let connection = Connection::new("PLAINTEXT".into(), peer);
        let mut node = Node { broker: broker.expect("an empty disk"), connection, slot: 0 };
        let mut effects = Effects::new();
        node.broker.on_tick(NOW, &mut effects);
        node.settle(effects);
        let topic = MetadataRequestTopic { name: Some("guard".into()), ..Default::default() };
        let create = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        node.ask(&frame(&create, METADATA_VERSION));
        node.ask(&produce(1, 100, Codec::None));
        node
    }

    /// Sends a request and does everything that it leads to. Whether it was answered.
    fn ask(&mut self, frame: &Bytes) -> bool {
        self.slot += 1;
        let token = Token { shard: 0, connection: 0, generation: 0, slot: self.slot };
        let mut effects = Effects::new();
        self.broker.on_frame(&mut self.connection, frame.clone(), token, NOW, &mut effects);
        self.settle(effects)
    }

    fn settle(&mut self, effects: Effects) -> bool {
        let mut is_answered = false;
        let mut todo: Vec<Effect> = effects.into_iter().collect();
        while let Some(effect) = todo.pop() {
            let mut more = Effects::new();
            match effect {
                Effect::Respond { response, .. } => {
                    is_answered |= matches!(response, Response::Frame(_));
                    drop(black_box(response));
                }
                Effect::Flush(task) => self.broker.on_flushed(task.run(), NOW, &mut more),
                Effect::Read(task) => self.broker.on_read(task, NOW, &mut more),
                _ => {}
            }
            todo.extend(more);
        }
        is_answered
    }
}

fn frame<'a, R: Request<'a>>(request: &R, version: i16) -> Bytes {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id: 7,
        client_id: Some("guard".into()),
    };
    header.encode(&mut writer, R::KEY.request_header_version(version)).expect("a header");
    request.encode(&mut writer, version).expect("a request");
    writer.into_bytes()
}

fn batch(records: usize, record_bytes: usize, codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0, BatchOptions { codec, ..Default::default() });
    for n in 0..records {
        let value: Vec<u8> = (0..record_bytes).map(|at| (at * 7 + n * 13) as u8).collect();
        builder.push(NOW, None, Some(&value), &[]);
    }
    builder.finish()
}

fn produce(records: usize, record_bytes: usize, codec: Codec) -> Bytes {
    let batch = batch(records, record_bytes, codec);
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
    let topic = TopicProduceData { name: "guard".into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
    frame(&request, PRODUCE_VERSION)
}

fn fetch() -> Bytes {
    let partition = FetchPartition { fetch_offset: 0, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "guard".into(), partitions: vec![partition], ..Default::default() };
    frame(&FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..Default::default() }, FETCH_VERSION)
}

/// Many partitions in one request: what decoding costs when there is something to decode.
fn wide_produce() -> Bytes {
    let batch = batch(1, 10, Codec::None);
    let data = |index| PartitionProduceData { index, records: Some(Records::Slice(&batch)) };
    let topic = |_| TopicProduceData {
        name: "guard".into(),
        partition_data: (0..10).map(data).collect(),
        ..Default::default()
    };
    let topics = (0..10).map(topic).collect();
    frame(&ProduceRequest { acks: 1, topic_data: topics, ..Default::default() }, PRODUCE_VERSION)
}

/// Work of a known kind: small allocations, a tree, branches, arithmetic.
fn reference() -> u64 {
    let mut tree = BTreeMap::new();
    let mut roll = 0x9e37_79b9_u64;
    for n in 0..200u64 {
        roll = roll.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
        let name: Vec<u8> = roll.to_be_bytes().into_iter().filter(|byte| byte % 3 != 0).collect();
        *tree.entry(name.len() as u64 * 31 + roll % 64).or_insert(0) +=
            name.iter().map(|&b| u64::from(b)).sum::<u64>();
    }
    tree.into_iter().map(|(key, value)| key ^ value).sum()
}

/// A piece of work and how often it is done in one round.
type Work = (&'static str, usize, Box<dyn FnMut()>);

fn works() -> Vec<Work> {
    let on_node = |name, times, frame: Bytes| -> Work {
        // A fresh node every round would measure its start; one that lives on keeps a log that only grows by these few megabytes.
        let mut node = Node::new();
        (name, times, Box::new(move || assert!(node.ask(&frame), "answered")))
    };
    let wide = wide_produce();
    vec![
        on_node("produce-1x100", 20, produce(1, 100, Codec::None)),
        on_node("produce-160x100", 5, produce(160, 100, Codec::None)),
        on_node("produce-160x100-lz4", 5, produce(160, 100, Codec::Lz4)),
        on_node("fetch-tail", 20, fetch()),
        (
            "decode-produce-10x10",
            10,
            Box::new(move || {
                let mut reader = Reader::new(&wide);
                RequestHeader::decode(&mut reader, 2).expect("a header");
                drop(black_box(ProduceRequest::decode(&mut reader, PRODUCE_VERSION).expect("a request")));
            }),
        ),
    ]
}

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 3 };
    let mut works = works();
    let mut fastest = vec![f64::INFINITY; works.len()];
    let mut fastest_reference = f64::INFINITY;
    for _ in 0..rounds {
        for ((_, times, work), fastest) in works.iter_mut().zip(&mut fastest) {
            fastest_reference = fastest_reference.min(time(1, &mut || {
                black_box(reference());
            }));
            *fastest = fastest.min(time(*times, work));
        }
    }
    let names = works.iter().map(|(name, ..)| *name);
    let ratios: BTreeMap<&str, f64> =
        names.zip(fastest.iter().map(|time| time / fastest_reference)).collect();
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guard.txt");
    if std::env::var_os("UPDATE").is_some() {
        let lines: String = ratios.iter().map(|(name, ratio)| format!("{name} {ratio:.3}\n")).collect();
        std::fs::write(place, lines).expect("the figures can be written");
    }
    let stored = std::fs::read_to_string(place).expect("the figures are beside this file");
    let mut is_slower = false;
    for (name, ratio) in &ratios {
        let line = stored.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let before: f64 =
            line.and_then(|figure| figure.parse().ok()).expect("a figure for each piece of work");
        let verdict = match ratio / before {
            change if change > TOLERANCE => "SLOWER",
            change if change < 1.0 / TOO_KIND => "faster: write the figures anew",
            _ => "as before",
        };
        is_slower |= verdict == "SLOWER";
        println!("{name:<22} {ratio:>8.3} of the reference, stored {before:>8.3}: {verdict}");
    }
    if rounds == ROUNDS && is_slower {
        eprintln!("the hot path has become slower by more than {TOLERANCE} times");
        std::process::exit(1);
    }
}

/// Seconds for one of `times`.
fn time(times: usize, work: &mut dyn FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..times {
        work();
    }
    begun.elapsed().as_secs_f64() / times as f64
}
