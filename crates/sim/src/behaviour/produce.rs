//! Produce: when it is answered, what is refused, what a producer may repeat.

use crate::client::{body, read};
use ottla_broker::Response;
use ottla_protocol::ErrorCode;
use ottla_protocol::Records;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::produce_request::ProduceRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::Header;
use ottla_protocol::records::{Batch, BatchBuilder, BatchOptions};

use super::{Rig, batch, fetch, partition_of};

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
fn sequences_wrap_and_unknown_producers_may_begin_anywhere() {
    let mut rig = Rig::new();
    let send = |rig: &mut Rig, producer_id: i64, sequence: i32, count: usize| {
        let options =
            BatchOptions { producer_id, producer_epoch: 0, base_sequence: sequence, ..Default::default() };
        let mut builder = BatchBuilder::new(0, options);
        for _ in 0..count {
            builder.push(rig.world.now, None, Some(b"v"), &[]);
        }
        rig.produced(0, -1, &builder.finish())
    };
    // A broker that forgot the producer, or never knew it, takes whatever sequence it goes on with (KIP-360).
    assert_eq!(send(&mut rig, 5, i32::MAX - 1, 2), (0, 0));
    assert_eq!(send(&mut rig, 5, 0, 3), (0, 2), "after the largest number comes 0");
    assert_eq!(send(&mut rig, 5, i32::MAX - 1, 2), (0, 0), "and the batch before it is still a duplicate");
    // Five batches in flight are remembered, each with its own answer.
    for turn in 0..5 {
        assert_eq!(send(&mut rig, 6, turn, 1).0, 0);
    }
    assert_eq!(send(&mut rig, 6, 0, 1), (0, 5));
    assert_eq!(send(&mut rig, 6, 4, 1), (0, 9));
}

#[test]
fn every_partition_is_answered_once_and_in_the_order_of_the_request() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    let data = |index| PartitionProduceData { index, records: Some(Records::Slice(&records)) };
    let topic = |name: &'static str, indexes: &[i32]| TopicProduceData {
        name: name.into(),
        partition_data: indexes.iter().map(|index| data(*index)).collect(),
        ..Default::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic("t", &[1, 7, 0]), topic("none", &[0])],
        ..Default::default()
    };
    let answer = rig.ask(&request, 9);
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
    let told: Vec<_> = response
        .responses
        .iter()
        .flat_map(|topic| {
            topic.partition_responses.iter().map(|told| (&*topic.name, told.index, told.error_code))
        })
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(told, [("t", 1, 0), ("t", 7, unknown), ("t", 0, 0), ("none", 0, unknown)]);
}

#[test]
fn a_flush_that_takes_too_long_is_told_as_a_timeout() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&records)) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks: -1, timeout_ms: 0, topic_data: vec![topic], ..Default::default() };
    let answer = rig.ask(&request, 9);
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
    assert_eq!(response.responses[0].partition_responses[0].error_code, ErrorCode::RequestTimedOut.code());
}

#[test]
fn headers_are_kept_verbatim() {
    let mut rig = Rig::new();
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    let headers = [
        Header { key: b"h", value: Some(b"1") },
        Header { key: b"h", value: None },
        Header { key: b"\xff\xfe", value: Some(b"") },
    ];
    builder.push(rig.world.now, None, None, &headers);
    let sent = builder.finish();
    assert_eq!(rig.produced(0, -1, &sent), (0, 0));
    let answer = rig.ask(&fetch(0, 0, 1), 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let Some(Records::Slice(found)) = &partition_of(&response).records else { panic!("no records") };
    // Everything behind the sixteen bytes that a broker fills in.
    assert_eq!(found[21..], sent[21..]);
}

/// Idempotence is what every producer asks for since Kafka 3.0: any node gives ids out, before there is any topic of transactions.
#[test]
fn producer_ids_are_given_out_at_once_and_only_once() {
    let mut rig = Rig::new();
    let mut given = || {
        let answer = rig.ask(&InitProducerIdRequest { transactional_id: None, ..Default::default() }, 4);
        let response: InitProducerIdResponse = read(&answer, 4).expect("an init producer id response");
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        response.producer_id
    };
    let first = given();
    assert!(first >= 0 && given() > first);
}

#[test]
fn a_producer_that_was_idle_for_long_goes_on() {
    let mut rig = Rig::with(&[("producer.id.expiration.ms", "1000")]);
    let send = |rig: &mut Rig, base_sequence: i32| {
        let options = BatchOptions { producer_id: 7, producer_epoch: 0, base_sequence, ..Default::default() };
        let mut builder = BatchBuilder::new(0, options);
        builder.push(rig.world.now, None, Some(b"v"), &[]);
        rig.produced(0, -1, &builder.finish())
    };
    assert_eq!(send(&mut rig, 0), (0, 0));
    let later = rig.world.now + 3_600_000;
    while rig.world.step(later) {}
    assert_eq!(send(&mut rig, 1), (0, 1), "forgotten, and so welcome with any number");
    assert_eq!(send(&mut rig, 3).0, ErrorCode::OutOfOrderSequenceNumber.code());
}

/// No records, and records of nothing.
#[test]
fn nulls_are_kept_where_they_may_be() {
    let mut rig = Rig::new();
    let data = PartitionProduceData { index: 0, records: None };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    let answer = rig.ask(&ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() }, 9);
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
    let told = &response.responses[0].partition_responses[0];
    assert_eq!(told.error_code, ErrorCode::InvalidRecord.code());
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    builder.push(rig.world.now, None, None, &[]);
    builder.push(rig.world.now, Some(b""), Some(b""), &[]);
    assert_eq!(rig.produced(0, -1, &builder.finish()), (0, 0));
    let answer = rig.ask(&fetch(0, 0, 1), 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let Some(Records::Slice(found)) = &partition_of(&response).records else { panic!("no records") };
    let records = Batch::parse(found).expect("a batch").records(1 << 20).expect("records");
    let read: Vec<_> = records.iter().map(|record| record.map(|it| (it.key, it.value))).collect();
    assert_eq!(read, [Ok((None, None)), Ok((Some(&b""[..]), Some(&b""[..])))]);
}

/// The error and the offset of an answer, if it is there.
fn outcome(rig: &mut Rig, token: ottla_broker::Token) -> Option<(i16, i64)> {
    let answer = body::<ProduceRequest<'_>>(rig.world.take_answer(token)?, 9).expect("an answer with a body");
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
    let data = &response.responses[0].partition_responses[0];
    Some((data.error_code, data.base_offset))
}

#[test]
fn what_comes_in_one_turn_is_appended_together_and_answered_one_by_one() {
    let mut rig = Rig::new();
    let records = batch(&["a", "b"], rig.world.now);
    let mut damaged = records.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    rig.world.begin_turn();
    let sent = [(1, &records), (1, &damaged), (-1, &records), (1, &records)];
    let tokens = sent.map(|(acks, records)| rig.produce(0, acks, records));
    let unknown = rig.produce(9, 1, &records);
    assert!(tokens.iter().all(|token| rig.world.take_answer(*token).is_none()), "not before it is appended");
    rig.world.end_turn();
    assert_eq!(outcome(&mut rig, tokens[0]), Some((0, 0)));
    assert_eq!(outcome(&mut rig, tokens[1]), Some((ErrorCode::CorruptMessage.code(), -1)));
    assert_eq!(outcome(&mut rig, tokens[2]), None, "acks=all waits for the disk");
    assert_eq!(outcome(&mut rig, tokens[3]), Some((0, 4)));
    assert_eq!(outcome(&mut rig, unknown), Some((ErrorCode::UnknownTopicOrPartition.code(), -1)));
    let committed = rig.answer::<ProduceRequest<'_>>(tokens[2], 9, 100).expect("flushed");
    let response: ProduceResponse<'_> = read(&committed, 9).expect("a produce response");
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 2);
    assert_eq!(rig.produced(0, 1, &records), (0, 6), "and so it goes on");
}

#[test]
fn no_request_overtakes_a_produce_of_its_connection() {
    let mut rig = Rig::with(&[("ottla.durability", "replicated")]);
    let records = batch(&["a"], rig.world.now);
    assert_eq!(rig.produced(0, 1, &records), (0, 0));
    rig.world.begin_turn();
    let produced = rig.produce(0, 1, &records);
    let fetched = rig.send(&fetch(1, 0, 1), 11);
    let later = rig.produce(0, 1, &records);
    assert_eq!(outcome(&mut rig, produced), Some((0, 1)), "before the fetch, whose connection it came on");
    assert_eq!(outcome(&mut rig, later), None);
    let answer = rig.answer::<ottla_protocol::messages::fetch_request::FetchRequest<'_>>(fetched, 11, 0);
    let answer = answer.expect("it does not wait");
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(partition_of(&response).high_watermark, 2);
    rig.world.end_turn();
    assert_eq!(outcome(&mut rig, later), Some((0, 2)));
}

/// One flush of hundreds of megabytes would hold up everybody who writes meanwhile.
#[test]
fn many_bytes_are_flushed_before_their_time() {
    let mut rig = Rig::with(&[("ottla.flush.interval.ms", "3600000")]);
    let records = batch(&[&"x".repeat(1_000_000)], rig.world.now);
    let committed = |rig: &mut Rig| {
        let answer = rig.ask(&fetch(0, 0, 1), 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
        partition_of(&response).high_watermark
    };
    for offset in 0..33 {
        assert_eq!(rig.produced(0, 1, &records), (0, offset));
    }
    assert_eq!(committed(&mut rig), 0, "33 MB wait for the periodic flush");
    assert_eq!(rig.produced(0, 1, &records), (0, 33));
    rig.world.step(rig.world.now + 100);
    assert_eq!(committed(&mut rig), 34, "more than 32 MiB do not");
}
