//! What a topic or the node makes of a produced batch: another codec, at the level that was asked for, or a refusal that names the records.

use super::{Rig, fetch, partition_of};
use crate::client::read;
use ottla_protocol::compression::Codec;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{Batch, BatchBuilder, BatchHeader, BatchOptions, crc32c};
use ottla_protocol::{ErrorCode, Records};

/// The base offset; or the code, its words, and what is said of single records.
type Told = Result<i64, (i16, Option<String>, Vec<(i32, String)>)>;

/// The error, and which records it names with which words; the base offset if there is no error.
fn produce(rig: &mut Rig, topic: &'static str, records: &[u8], version: i16) -> Told {
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(records)) };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let answer = rig.ask(&request, version);
    let response: ProduceResponse<'_> = read(&answer, version).expect("a produce response");
    let told = &response.responses[0].partition_responses[0];
    if told.error_code == 0 {
        return Ok(told.base_offset);
    }
    let records = told.record_errors.iter().map(|error| {
        (error.batch_index, error.batch_index_error_message.as_deref().unwrap_or_default().to_owned())
    });
    let message = told.error_message.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    Err((told.error_code, message, records.collect()))
}

/// The codec and the size of the batch at `offset`.
fn fetched(rig: &mut Rig, topic: &'static str, offset: i64) -> (Codec, usize) {
    let mut request = fetch(offset, 0, 1);
    request.topics[0].topic = topic.into();
    let answer = rig.ask(&request, 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let Some(Records::Slice(found)) = &partition_of(&response).records else { panic!("no records") };
    let batch = Batch::parse(found).expect("a batch");
    batch.verify_crc().expect("whole");
    let values: Vec<Vec<u8>> = batch
        .records(1 << 20)
        .expect("records")
        .iter()
        .map(|record| record.expect("a record").value.expect("a value").to_vec())
        .collect();
    assert_eq!(values, [text()]);
    (batch.codec().expect("a codec"), batch.size())
}

/// Something that a better level makes smaller.
fn text() -> Vec<u8> {
    let words = ["castle", "trial", "burrow", "judgement", "penal", "colony", "hunger", "artist", "letter"];
    let mut text = Vec::new();
    for number in 0..4000usize {
        text.extend_from_slice(words[number * number % 71 % words.len()].as_bytes());
        text.push(b' ');
    }
    text
}

fn records(codec: Codec, now: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0, BatchOptions { codec, ..BatchOptions::default() });
    builder.push(now, Some(b"k"), Some(&text()), &[]);
    builder.finish()
}

fn set(rig: &mut Rig, kind: i8, resource: &'static str, key: &'static str, value: &'static str) {
    let config = AlterableConfig { name: key.into(), config_operation: 0, value: Some(value.into()) };
    let resource =
        AlterConfigsResource { resource_type: kind, resource_name: resource.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = rig.ask(&request, 1);
    let told: IncrementalAlterConfigsResponse<'_> = read(&answer, 1).expect("a response");
    assert_eq!(told.responses[0].error_code, 0, "{:?}", told.responses[0].error_message);
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

#[test]
fn a_topic_may_want_another_codec_at_a_level_of_its_own() {
    let mut rig = Rig::new();
    let now = rig.world.now;
    for (topic, codec, level, worst, best) in [
        ("gz", "gzip", "compression.gzip.level", "1", "9"),
        ("zs", "zstd", "compression.zstd.level", "-100", "19"),
        ("lz", "lz4", "compression.lz4.level", "1", "17"),
    ] {
        rig.create_with(topic, &[]);
        set(&mut rig, TOPIC, topic, "compression.type", codec);
        let mut sizes = Vec::new();
        for (offset, value) in (0..).zip([worst, best]) {
            set(&mut rig, TOPIC, topic, level, value);
            assert_eq!(produce(&mut rig, topic, &records(Codec::Snappy, now), 9), Ok(offset));
            let (found, size) = fetched(&mut rig, topic, offset);
            assert_eq!(format!("{found:?}").to_lowercase(), codec);
            sizes.push(size);
        }
        // LZ4 has one level here: what matters is that its levels are taken.
        assert!(sizes[0] > sizes[1] || (codec == "lz4" && sizes[0] == sizes[1]), "{codec}: {sizes:?}");
    }
    rig.create_with("plain", &[("compression.type", "uncompressed")]);
    assert_eq!(produce(&mut rig, "plain", &records(Codec::Zstd, now), 9), Ok(0));
    assert_eq!(fetched(&mut rig, "plain", 0).0, Codec::None);
    rig.create_with("kept", &[("compression.type", "producer")]);
    assert_eq!(produce(&mut rig, "kept", &records(Codec::Lz4, now), 9), Ok(0));
    assert_eq!(fetched(&mut rig, "kept", 0).0, Codec::Lz4);
}

#[test]
fn the_node_has_a_codec_for_topics_without_one() {
    let mut rig = Rig::with(&[("compression.type", "gzip"), ("compression.gzip.level", "9")]);
    let now = rig.world.now;
    rig.create_with("bare", &[]);
    rig.create_with("own", &[("compression.type", "zstd")]);
    for (topic, codec) in [("bare", Codec::Gzip), ("own", Codec::Zstd)] {
        assert_eq!(produce(&mut rig, topic, &records(Codec::None, now), 9), Ok(0));
        assert_eq!(fetched(&mut rig, topic, 0).0, codec);
    }
    // What is set while it runs is stronger than what it was started with.
    set(&mut rig, BROKER, "", "compression.type", "lz4");
    assert_eq!(produce(&mut rig, "bare", &records(Codec::None, now), 9), Ok(1));
    assert_eq!(fetched(&mut rig, "bare", 1).0, Codec::Lz4);
}

#[test]
fn records_without_keys_are_named_one_by_one() {
    let mut rig = Rig::new();
    let now = rig.world.now;
    rig.create_with("compacted", &[("cleanup.policy", "compact,delete")]);
    let mut builder = BatchBuilder::new(0, BatchOptions { codec: Codec::Gzip, ..BatchOptions::default() });
    for key in [Some(&b"k"[..]), None, Some(b"l"), None] {
        builder.push(now, key, Some(b"v"), &[]);
    }
    let records = builder.finish();
    let invalid = ErrorCode::InvalidRecord.code();
    let named = [1, 3].map(|at| (at, "Compacted topic cannot accept message without key".to_owned()));
    let message = "One or more records have been rejected due to 2 record errors in total".to_owned();
    for version in 8..=12 {
        let told = produce(&mut rig, "compacted", &records, version);
        assert_eq!(told, Err((invalid, Some(message.clone()), named.to_vec())), "v{version}");
    }
    // Before version 8 there is no field for them.
    assert_eq!(produce(&mut rig, "compacted", &records, 7), Err((invalid, None, Vec::new())));
    set(&mut rig, TOPIC, "compacted", "cleanup.policy", "delete");
    assert_eq!(produce(&mut rig, "compacted", &records, 9), Ok(0));
}

#[test]
fn batches_that_are_too_large() {
    let mut rig = Rig::new();
    let now = rig.world.now;
    rig.create_with("small", &[("max.message.bytes", "1000")]);
    let too_large = ErrorCode::MessageTooLarge.code();
    let refused = |told: Told| told.map_err(|told| told.0);
    assert_eq!(refused(produce(&mut rig, "small", &records(Codec::None, now), 9)), Err(too_large));
    // What counts is the size in which it arrives, and then the size in which it is kept.
    set(&mut rig, TOPIC, "small", "max.message.bytes", "20000");
    assert_eq!(produce(&mut rig, "small", &records(Codec::Gzip, now), 9), Ok(0));
    set(&mut rig, TOPIC, "small", "compression.type", "uncompressed");
    assert_eq!(refused(produce(&mut rig, "small", &records(Codec::Gzip, now), 9)), Err(too_large));
    set(&mut rig, TOPIC, "small", "max.message.bytes", "1000000");
    assert_eq!(produce(&mut rig, "small", &records(Codec::Gzip, now), 9), Ok(1));
}

#[test]
fn what_is_inside_a_codec_is_checked_if_asked_for() {
    // Five records are told of, one is there.
    let lying = |now| {
        let mut bytes = records(Codec::Gzip, now);
        let mut header = BatchHeader::read(&bytes).expect("a header");
        (header.record_count, header.last_offset_delta) = (5, 4);
        bytes[..61].copy_from_slice(&header.to_bytes());
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    };
    let mut rig = Rig::new();
    let now = rig.world.now;
    rig.create_with("trusting", &[]);
    rig.create_with("strict", &[("ottla.strict.validation", "true")]);
    assert_eq!(produce(&mut rig, "trusting", &lying(now), 9), Ok(0));
    let told = produce(&mut rig, "strict", &lying(now), 9);
    assert_eq!(told.map_err(|told| told.0), Err(ErrorCode::InvalidRecord.code()));
    set(&mut rig, BROKER, "", "ottla.strict.validation", "true");
    let told = produce(&mut rig, "trusting", &lying(now), 9);
    assert_eq!(told.map_err(|told| told.0), Err(ErrorCode::InvalidRecord.code()));
    assert_eq!(produce(&mut rig, "strict", &records(Codec::Gzip, now), 9), Ok(0));
}
