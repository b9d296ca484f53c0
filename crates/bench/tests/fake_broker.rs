//! The load generator against a broker of a hundred lines that keeps count: what is reported has to be what arrived.
#![allow(clippy::unwrap_used, reason = "a test")]

use clap::Parser;
use ottla_bench::options::{Arguments, Verb};
use ottla_bench::{fetch, produce};
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::produce_request::ProduceRequest;
use ottla_protocol::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::records::{Batch, BatchBuilder, BatchOptions};
use ottla_protocol::{ApiKey, Chain, Message, Reader, Records, Writer};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const PARTITIONS: i32 = 3;
/// Offsets in the log that is fetched, ten to a batch.
const LOG_END: i64 = 1000;

/// What arrived.
#[derive(Default)]
struct Seen {
    records: u64,
    by_partition: BTreeMap<i32, u64>,
    /// Next sequence by producer.
    sequences: BTreeMap<i64, i32>,
    producers: i64,
}

fn broker() -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.unwrap(), shared.clone());
            std::thread::spawn(move || serve(stream, &seen));
        }
    });
    (address, seen)
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let mut size = [0; 4];
    while stream.read_exact(&mut size).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut frame).unwrap();
        let (key, version, correlation_id) = RequestHeader::peek(&frame).unwrap();
        let key = ApiKey::from_i16(key).unwrap();
        let mut reader = Reader::new(&frame);
        RequestHeader::decode(&mut reader, key.request_header_version(version)).unwrap();
        let mut writer = Writer::new();
        let header = ResponseHeader { correlation_id };
        header.encode(&mut writer, key.response_header_version(version)).unwrap();
        match key {
            ApiKey::Metadata => metadata().encode(&mut writer, version).unwrap(),
            ApiKey::ListOffsets => list_offsets(&mut reader).encode(&mut writer, version).unwrap(),
            ApiKey::InitProducerId => {
                let mut seen = seen.lock().unwrap();
                seen.producers += 1;
                let producer = InitProducerIdResponse { producer_id: seen.producers, ..Default::default() };
                producer.encode(&mut writer, version).unwrap();
            }
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut reader, version).unwrap();
                on_produce(&request, &mut seen.lock().unwrap()).encode(&mut writer, version).unwrap();
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut reader, version).unwrap();
                on_fetch(&request).encode(&mut writer, version).unwrap();
            }
            other => panic!("{other:?} was not expected"),
        }
        let body = writer.into_bytes();
        stream.write_all(&(body.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    }
}

fn metadata() -> MetadataResponse<'static> {
    let partition = |partition_index| MetadataResponsePartition { partition_index, ..Default::default() };
    let partitions = (0..PARTITIONS).map(partition).collect();
    MetadataResponse {
        topics: vec![MetadataResponseTopic { name: Some("t".into()), partitions, ..Default::default() }],
        ..Default::default()
    }
}

fn list_offsets(reader: &mut Reader<'_>) -> ListOffsetsResponse<'static> {
    use ottla_protocol::messages::list_offsets_request::ListOffsetsRequest;
    let request = ListOffsetsRequest::decode(reader, 7).unwrap();
    let partition = |asked: &ottla_protocol::messages::list_offsets_request::ListOffsetsPartition| {
        ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            offset: if asked.timestamp == -1 { LOG_END } else { 0 },
            ..Default::default()
        }
    };
    let partitions = request.topics[0].partitions.iter().map(partition).collect();
    let topics = vec![ListOffsetsTopicResponse { name: "t".into(), partitions }];
    ListOffsetsResponse { topics, ..Default::default() }
}

fn on_produce<'r>(request: &ProduceRequest<'_>, seen: &mut Seen) -> ProduceResponse<'r> {
    let data = &request.topic_data[0].partition_data;
    for partition in data {
        let Some(Records::Slice(records)) = &partition.records else { panic!("records") };
        let batch = Batch::parse(records).unwrap();
        batch.verify_crc().unwrap();
        seen.records += batch.record_count as u64;
        *seen.by_partition.entry(partition.index).or_default() += 1;
        if batch.has_producer_id() {
            let next = seen.sequences.entry(batch.producer_id).or_default();
            assert_eq!(batch.base_sequence, *next, "in sequence");
            *next += batch.record_count;
        }
    }
    let answer = |index| PartitionProduceResponse { index, ..Default::default() };
    let partition_responses = data.iter().map(|partition| answer(partition.index)).collect();
    let responses = vec![TopicProduceResponse { partition_responses, ..Default::default() }];
    ProduceResponse { responses, ..Default::default() }
}

/// Batches of ten until the log's end, as many as fit, the last one cut off in the middle as Kafka does.
fn on_fetch<'r>(request: &FetchRequest<'_>) -> FetchResponse<'r> {
    let asked = &request.topics[0].partitions[0];
    let mut records = Vec::new();
    let mut offset = asked.fetch_offset;
    while offset < LOG_END && records.len() < asked.partition_max_bytes as usize {
        let mut builder = BatchBuilder::new(offset, BatchOptions::default());
        for _ in 0..10 {
            builder.push(0, None, Some(&[7; 100]), &[]);
        }
        records.extend(builder.finish());
        offset += 10;
    }
    records.truncate(asked.partition_max_bytes as usize);
    let mut chain = Chain::new();
    chain.push_bytes(records.into());
    let partition = PartitionData {
        partition_index: asked.partition,
        high_watermark: LOG_END,
        records: Some(Records::Chain(chain)),
        ..Default::default()
    };
    let responses = vec![FetchableTopicResponse {
        topic_id: request.topics[0].topic_id,
        partitions: vec![partition],
        ..Default::default()
    }];
    FetchResponse { responses, ..Default::default() }
}

fn run(line: &str, address: &str) -> ottla_bench::report::Report {
    let words =
        ["x"].into_iter().chain(line.split_whitespace()).chain(["--topic", "t", "--bootstrap", address]);
    match Arguments::parse_from(words).verb {
        Verb::Produce(options) => produce::run(&options).unwrap(),
        Verb::Fetch(options) => fetch::run(&options).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn closed_loop_spreads_over_partitions_and_counts_what_arrives() {
    let (address, seen) = broker();
    let line = "produce --connections 4 --in-flight 3 --requests 300 --warmup-requests 50 --batch-records 7";
    let report = run(line, &address);
    let seen = seen.lock().unwrap();
    assert!((300..=312).contains(&report.requests), "{report}");
    assert_eq!(report.records, report.requests * 7);
    assert!(seen.records >= (report.requests + 50) * 7 && seen.records < (report.requests + 70) * 7);
    assert_eq!(seen.by_partition.len(), 3);
    assert_eq!(report.latency.len(), report.requests);
}

#[test]
fn several_batches_per_request() {
    let (address, seen) = broker();
    let report = run("produce --requests 40 --batches-per-request 3 --batch-records 2 --codec lz4", &address);
    assert_eq!(report.records, report.requests * 6);
    let seen = seen.lock().unwrap();
    assert!(seen.by_partition.values().all(|&batches| batches == seen.by_partition[&0]));
}

#[test]
fn idempotent_producers_send_in_sequence() {
    let (address, seen) = broker();
    let report = run("produce --idempotent --connections 3 --requests 100 --acks -1", &address);
    assert!(report.requests >= 100);
    assert_eq!(seen.lock().unwrap().sequences.len(), 3);
}

#[test]
fn open_loop_is_not_ahead_of_its_schedule() {
    let (address, _) = broker();
    let report = run("produce --rate 2000 --seconds 0.25 --connections 2", &address);
    // Never ahead of it; how far behind is the machine's matter.
    assert!((1..=510).contains(&report.requests), "{report}");
}

#[test]
fn consumers_reckon_their_offsets_to_the_end() {
    let (address, _) = broker();
    let report = run("fetch --consumers 3 --max-bytes 5000", &address);
    assert_eq!(report.records, 3 * LOG_END as u64);
}
