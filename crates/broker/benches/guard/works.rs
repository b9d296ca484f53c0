//! The pieces of work whose instructions are counted: requests to a node on a simulated disk, without a shell around it, and decoding.

use bytes::Bytes;
use ottla_broker::{Broker, Connection, Effect, Effects, Gather, NodeConfig, Response, Token};
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

const NOW: i64 = 1_800_000_000_000;
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
        let broker = Broker::open(
            Arc::new(SimDisk::new(1)),
            NodeConfig { broker, cluster_id: None, loggers: Arc::default() },
            NOW,
            1,
        );
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

    /// Sends a request `times` times, as a loop does with what it finds in one turn.
    fn ask_in_one_turn(&mut self, frame: &Bytes, times: usize) {
        let (mut gather, mut effects) = (Gather::default(), Effects::new());
        for _ in 0..times {
            self.slot += 1;
            let token = Token { shard: 0, connection: 0, generation: 0, slot: self.slot };
            let connection = &mut self.connection;
            self.broker.on_frame_of_many(connection, frame.clone(), token, NOW, &mut gather, &mut effects);
        }
        self.broker.on_gathered(&mut gather, NOW, &mut effects);
        assert!(self.settle(effects), "answered");
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

fn fetch(fetch_offset: i64) -> Bytes {
    let partition = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
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

/// The names of all pieces of work.
pub const NAMES: [&str; 6] = [
    "produce-1x100",
    "produce-1x100-20-in-one-turn",
    "produce-160x100",
    "produce-160x100-lz4",
    "fetch-tail",
    "decode-produce-10x10",
];

/// The piece of work of one of [`NAMES`], ready to be done again and again.
pub fn work(name: &str) -> Box<dyn FnMut()> {
    let on_node = |frame: Bytes| -> Box<dyn FnMut()> {
        let mut node = Node::new();
        Box::new(move || assert!(node.ask(&frame), "answered"))
    };
    match name {
        "produce-1x100" => on_node(produce(1, 100, Codec::None)),
        "produce-160x100" => on_node(produce(160, 100, Codec::None)),
        "produce-160x100-lz4" => on_node(produce(160, 100, Codec::Lz4)),
        "produce-1x100-20-in-one-turn" => {
            let (mut node, frame) = (Node::new(), produce(1, 100, Codec::None));
            Box::new(move || node.ask_in_one_turn(&frame, 20))
        }
        "fetch-tail" => {
            let mut node = Node::new();
            // Somebody at the end: what comes next is kept in memory.
            node.ask(&fetch(1));
            node.ask(&produce(1, 100, Codec::None));
            Box::new(move || assert!(node.ask(&fetch(1)), "answered"))
        }
        "decode-produce-10x10" => {
            let wide = wide_produce();
            Box::new(move || {
                let mut reader = Reader::new(&wide);
                RequestHeader::decode(&mut reader, 2).expect("a header");
                drop(black_box(ProduceRequest::decode(&mut reader, PRODUCE_VERSION).expect("a request")));
            })
        }
        _ => panic!("no piece of work is called {name}"),
    }
}
