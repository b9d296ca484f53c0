//! Behaviours that clients rely on, each as a few requests to the real broker: what waits, what wakes it, what is refused.

use bytes::Bytes;
use ottla_broker::{Response, Token};
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_records_response::DeleteRecordsResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::list_offsets_response::ListOffsetsResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Records, Request};

use crate::client::{body, frame, read};
use crate::world::World;

const SETTINGS: &[(&str, &str)] =
    &[("log.dirs", "/data"), ("num.partitions", "2"), ("offsets.topic.num.partitions", "1")];

struct Rig {
    world: World,
}

impl Rig {
    fn new() -> Rig {
        let mut rig = Rig { world: World::new(1, SETTINGS).expect("an empty disk starts") };
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        };
        rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
        rig
    }

    fn send<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Token {
        self.world.send(frame(request, version))
    }

    /// The answer if it comes within `ms` of virtual time.
    fn answer<'a, R: Request<'a>>(&mut self, token: Token, version: i16, ms: i64) -> Option<Bytes> {
        let until = self.world.now + ms;
        loop {
            if let Some(response) = self.world.take_answer(token) {
                return Some(body::<R>(response, version).expect("an answer with a body"));
            }
            if !self.world.step(until) {
                return None;
            }
        }
    }

    fn ask<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Bytes {
        let token = self.send(request, version);
        self.answer::<R>(token, version, 60_000).expect("every request is answered")
    }

    fn produce(&mut self, partition: i32, acks: i16, batch: &[u8]) -> Token {
        let data = PartitionProduceData { index: partition, records: Some(Records::Slice(batch)) };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        self.world.send(frame(&request, 9))
    }

    fn produced(&mut self, partition: i32, acks: i16, batch: &[u8]) -> (i16, i64) {
        let token = self.produce(partition, acks, batch);
        let answer = self.answer::<ProduceRequest<'_>>(token, 9, 60_000).expect("a produce is answered");
        let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
        let told = &response.responses[0].partition_responses[0];
        (told.error_code, told.base_offset)
    }
}

fn batch(values: &[&str], now: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    for value in values {
        builder.push(now, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

fn fetch(offset: i64, max_wait_ms: i32, min_bytes: i32) -> FetchRequest<'static> {
    let partition = FetchPartition {
        partition: 0,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_wait_ms, min_bytes, topics: vec![topic], ..Default::default() }
}

fn partition_of<'a>(response: &'a FetchResponse<'a>) -> &'a PartitionData<'a> {
    &response.responses[0].partitions[0]
}

fn records_len(data: &PartitionData<'_>) -> usize {
    match &data.records {
        Some(Records::Slice(bytes)) => bytes.len(),
        _ => 0,
    }
}

#[test]
fn unknown_api_versions_get_an_answer_and_others_a_closed_connection() {
    let mut rig = Rig::new();
    let mut strange = frame(&ApiVersionsRequest::default(), 0).to_vec();
    strange[2..4].copy_from_slice(&99i16.to_be_bytes());
    let token = rig.world.send(strange.into());
    let answer = rig.answer::<ApiVersionsRequest<'_>>(token, 0, 0).expect("at once");
    let response: ApiVersionsResponse<'_> = read(&answer, 0).expect("in version 0");
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), 1);

    let mut unknown = frame(&MetadataRequest::default(), 1).to_vec();
    unknown[2..4].copy_from_slice(&99i16.to_be_bytes());
    let token = rig.world.send(unknown.into());
    assert!(matches!(rig.world.take_answer(token), Some(Response::Close)));
    for junk in [&b""[..], b"\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let token = rig.world.send(Bytes::copy_from_slice(junk));
        assert!(matches!(rig.world.take_answer(token), Some(Response::Close)), "{junk:?}");
    }
}

#[test]
fn acks_decide_when_and_whether_there_is_an_answer() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    let token = rig.produce(0, 0, &records);
    assert!(matches!(rig.world.take_answer(token), Some(Response::Nothing)), "acks=0 is not answered");
    let token = rig.produce(0, 1, &records);
    assert!(rig.world.take_answer(token).is_some(), "acks=1 is answered at once");
    let token = rig.produce(0, -1, &records);
    assert!(rig.world.take_answer(token).is_none(), "acks=all waits for the disk");
    assert!(rig.answer::<ProduceRequest<'_>>(token, 9, 100).is_some());
    assert_eq!(rig.produced(0, 5, &records), (ErrorCode::InvalidRequiredAcks.code(), -1));
    assert_eq!(rig.produced(9, 1, &records), (ErrorCode::UnknownTopicOrPartition.code(), -1));
    assert_eq!(rig.produced(0, 1, b""), (ErrorCode::InvalidRecord.code(), -1));
    let mut damaged = records.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    assert_eq!(rig.produced(0, 1, &damaged), (ErrorCode::CorruptMessage.code(), -1));
}

#[test]
fn a_long_poll_is_woken_by_the_record_it_waits_for() {
    let mut rig = Rig::new();
    let waiting = rig.send(&fetch(0, 500, 1), 11);
    assert!(rig.answer::<FetchRequest<'_>>(waiting, 11, 100).is_none(), "nothing is there yet");
    let records = batch(&["a"], rig.world.now);
    rig.produce(0, 1, &records);
    let answer = rig
        .answer::<FetchRequest<'_>>(waiting, 11, 100)
        .expect("woken by the flush, long before its deadline");
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(partition_of(&response).high_watermark, 1);
    assert_eq!(records_len(partition_of(&response)), records.len());
}

#[test]
fn a_long_poll_ends_at_its_deadline_with_what_is_there() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    rig.produced(0, -1, &records);
    let begun = rig.world.now;
    let answer = rig.ask(&fetch(0, 500, 1 << 20), 11);
    assert_eq!(rig.world.now - begun, 500);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(records_len(partition_of(&response)), records.len());
    let answer = rig.ask(&fetch(1, 500, 1), 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!((partition_of(&response).error_code, records_len(partition_of(&response))), (0, 0));
}

#[test]
fn a_fetch_outside_the_log_is_refused_at_once() {
    let mut rig = Rig::new();
    let begun = rig.world.now;
    let answer = rig.ask(&fetch(7, 500, 1), 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(partition_of(&response).error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(rig.world.now, begun);
}

#[test]
fn an_idempotent_producer_may_repeat_itself() {
    let mut rig = Rig::new();
    let send = |rig: &mut Rig, sequence: i32| {
        let options = BatchOptions {
            producer_id: 77,
            producer_epoch: 0,
            base_sequence: sequence,
            ..Default::default()
        };
        let mut builder = BatchBuilder::new(0, options);
        builder.push(rig.world.now, None, Some(b"v"), &[]);
        rig.produced(0, -1, &builder.finish())
    };
    assert_eq!(send(&mut rig, 0), (0, 0));
    assert_eq!(send(&mut rig, 1), (0, 1));
    assert_eq!(send(&mut rig, 0), (0, 0), "a duplicate gets its original offset");
    assert_eq!(send(&mut rig, 5).0, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(send(&mut rig, 2), (0, 2));
}

#[test]
fn a_session_tells_only_what_changed() {
    let mut rig = Rig::new();
    let answer = rig.ask(&FetchRequest { session_epoch: 0, ..fetch(0, 0, 1) }, 11);
    let begun: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let session_id = begun.session_id;
    assert_ne!(session_id, 0);
    let next =
        |session_epoch| FetchRequest { session_id, session_epoch, max_wait_ms: 0, ..Default::default() };
    let answer = rig.ask(&next(1), 11);
    let idle: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert!(idle.responses.is_empty(), "nothing changed, nothing is told");
    let records = batch(&["a"], rig.world.now);
    rig.produced(0, -1, &records);
    let answer = rig.ask(&next(2), 11);
    let news: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(records_len(partition_of(&news)), records.len());
    let answer = rig.ask(&next(2), 11);
    let refused: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(refused.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}

#[test]
fn topics_are_created_by_metadata_only_if_it_may() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, name: &'static str, allow: bool| {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: allow,
            ..Default::default()
        };
        let answer = rig.ask(&request, 9);
        let response: MetadataResponse<'_> = read(&answer, 9).expect("a metadata response");
        let told = &response.topics[0];
        (told.error_code, told.partitions.len(), response.brokers.len())
    };
    assert_eq!(ask(&mut rig, "new", false), (ErrorCode::UnknownTopicOrPartition.code(), 0, 1));
    assert_eq!(ask(&mut rig, "new", true), (0, 2, 1));
    assert_eq!(ask(&mut rig, "new", false), (0, 2, 1));
    assert_eq!(ask(&mut rig, "no/slash", true).0, ErrorCode::InvalidTopicException.code());
}

#[test]
fn bad_topics_are_refused_one_by_one() {
    let mut rig = Rig::new();
    let topic = |name: &'static str,
                 partitions: i32,
                 replicas: i16,
                 config: Option<(&'static str, &'static str)>| CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        configs: config
            .map(|(key, value)| CreatableTopicConfig { name: key.into(), value: Some(value.into()) })
            .into_iter()
            .collect(),
        ..Default::default()
    };
    let topics = vec![
        topic("fine", -1, -1, Some(("retention.ms", "1000"))),
        topic("t", 1, 1, None),
        topic("none", 0, 1, None),
        topic("three", 1, 3, None),
        topic("odd", 1, 1, Some(("retention.msx", "1"))),
        topic("a b", 1, 1, None),
    ];
    let answer = rig.ask(&CreateTopicsRequest { topics, ..Default::default() }, 5);
    let response: CreateTopicsResponse<'_> = read(&answer, 5).expect("a create topics response");
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    let expected = [
        ErrorCode::None,
        ErrorCode::TopicAlreadyExists,
        ErrorCode::InvalidPartitions,
        ErrorCode::InvalidReplicationFactor,
        ErrorCode::InvalidConfig,
        ErrorCode::InvalidTopicException,
    ];
    assert_eq!(codes, expected.map(ErrorCode::code));
}

#[test]
fn offsets_are_found_by_time() {
    let mut rig = Rig::new();
    let now = rig.world.now;
    for (index, value) in ["a", "b", "c"].iter().enumerate() {
        let records = batch(&[value], now + 1_000 * index as i64);
        assert_eq!(rig.produced(0, -1, &records).0, 0);
    }
    let mut check = |timestamp: i64, expected: (i64, i64)| {
        let partition = ListOffsetsPartition { partition_index: 0, timestamp, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
        let answer = rig.ask(&ListOffsetsRequest { topics: vec![topic], ..Default::default() }, 7);
        let response: ListOffsetsResponse<'_> = read(&answer, 7).expect("a list offsets response");
        let told = &response.topics[0].partitions[0];
        assert_eq!(
            (told.error_code, told.offset, told.timestamp),
            (0, expected.0, expected.1),
            "{timestamp}"
        );
    };
    check(-1, (3, -1));
    check(-2, (0, -1));
    check(-3, (2, now + 2_000));
    check(now + 1, (1, now + 1_000));
    check(now + 1_000, (1, now + 1_000));
    check(now + 9_000, (-1, -1));
}

#[test]
fn what_is_left_after_a_deletion_of_records_is_read_from_files_too() {
    let mut rig = Rig::new();
    let values: Vec<String> = (0..10).map(|value| value.to_string()).collect();
    let records = batch(&values.iter().map(String::as_str).collect::<Vec<_>>(), rig.world.now);
    assert_eq!(rig.produced(0, -1, &records), (0, 0));
    for offset in [4, 4, 4] {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
        let answer = rig.ask(&DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 }, 1);
        let response: DeleteRecordsResponse<'_> = read(&answer, 1).expect("a delete records response");
        let told = &response.topics[0].partitions[0];
        assert_eq!((told.error_code, told.low_watermark), (0, 4));
        // The last of these comes when the log has let go of its files and of its cache.
        for _ in 0..2 {
            let mut request = fetch(4, 100, 1);
            request.isolation_level = 0;
            let answer = rig.ask(&request, 11);
            let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
            assert_eq!(partition_of(&response).error_code, 0);
            assert_eq!(records_len(partition_of(&response)), records.len());
        }
        let other = ListOffsetsPartition { partition_index: 0, timestamp: -2, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![other] };
        let answer = rig.ask(&ListOffsetsRequest { topics: vec![topic], ..Default::default() }, 7);
        let response: ListOffsetsResponse<'_> = read(&answer, 7).expect("a list offsets response");
        assert_eq!(response.topics[0].partitions[0].offset, 4);
        // Deleting elsewhere writes all checkpoints, and lets idle logs go.
        for _ in 0..2 {
            let partition = DeleteRecordsPartition { partition_index: 1, offset: -1 };
            let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
            rig.ask(&DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 }, 1);
        }
    }
}

#[test]
fn a_group_timer_is_not_forgotten_when_another_tick_comes_first() {
    let mut rig = Rig::new();
    rig.ask(&FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() }, 4);
    let join = |rig: &mut Rig, member_id: String| {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0].into() };
        let request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            member_id: member_id.into(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        rig.send(&request, 5)
    };
    let token = join(&mut rig, String::new());
    let answer = rig.answer::<JoinGroupRequest<'_>>(token, 5, 100).expect("a member id");
    let named: JoinGroupResponse<'_> = read(&answer, 5).expect("a join group response");
    assert_eq!(named.error_code, ErrorCode::MemberIdRequired.code());
    // The group waits three seconds for more members; an acks=1 record asks for a tick after one.
    let waiting = join(&mut rig, named.member_id.into_owned());
    let records = batch(&["a"], rig.world.now);
    rig.produce(0, 1, &records);
    let answer =
        rig.answer::<JoinGroupRequest<'_>>(waiting, 5, 3_100).expect("the rebalance is over in time");
    let joined: JoinGroupResponse<'_> = read(&answer, 5).expect("a join group response");
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
}

/// Every request that real clients were seen to send, in every version that is served, gets an answer: none closes the connection
/// because a response does not fit its version.
#[test]
fn requests_of_real_clients_are_answered_in_every_version() {
    let frames = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/golden/frames");
    let mut rig = Rig::new();
    let mut answered = std::collections::BTreeSet::new();
    let mut files: Vec<_> =
        std::fs::read_dir(&frames).expect("the golden frames").flatten().map(|file| file.path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a golden file");
        for line in text.lines().filter(|line| line.starts_with("request ")) {
            let bytes = unhex(line.rsplit(' ').next().expect("bytes at the end"));
            let (key, version) =
                (i16::from_be_bytes([bytes[0], bytes[1]]), i16::from_be_bytes([bytes[2], bytes[3]]));
            let served = ottla_broker::SERVED.iter().find(|(api, ..)| *api as i16 == key);
            if !served.is_some_and(|(_, min, max)| (*min..=*max).contains(&version)) {
                continue;
            }
            let token = rig.world.send(bytes.into());
            let until = rig.world.now + 400_000;
            let answer = loop {
                if let Some(answer) = rig.world.take_answer(token) {
                    break answer;
                }
                assert!(rig.world.step(until), "{}: never answered: {line}", file.display());
            };
            let fine = match answer {
                Response::Frame(_) | Response::Nothing => true,
                // Only a produce that must not be answered may close, to say that it failed.
                Response::Close => key == 0,
            };
            assert!(fine, "{}: {line}\nreported: {:?}", file.display(), rig.world.reports.last());
            answered.insert((key, version));
        }
    }
    for (api, min, max) in ottla_broker::SERVED {
        for version in *min..=*max {
            assert!(answered.contains(&(*api as i16, version)), "no golden request of {api:?} v{version}");
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let nibble = |digit: u8| (digit as char).to_digit(16).expect("hex") as u8;
    text.as_bytes().chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect()
}
