//! Fetch: long polls, sessions, offsets outside of the log.

use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::offset_for_leader_epoch_response::OffsetForLeaderEpochResponse;

use super::{Rig, batch, fetch, partition_of, records_len};

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
    // A disk takes a moment.
    assert!((500..=501).contains(&(rig.world.now - begun)), "{}", rig.world.now - begun);
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
fn the_first_batch_comes_whole_and_may_begin_below_the_offset() {
    let mut rig = Rig::new();
    let values: Vec<String> = (0..50).map(|value| format!("{value:0>100}")).collect();
    let records = batch(&values.iter().map(String::as_str).collect::<Vec<_>>(), rig.world.now);
    assert_eq!(rig.produced(0, -1, &records), (0, 0));
    assert_eq!(rig.produced(0, -1, &records), (0, 50));
    let mut request = fetch(20, 100, 1);
    request.topics[0].partitions[0].partition_max_bytes = 10;
    let answer = rig.ask(&request, 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let told = partition_of(&response);
    assert_eq!(records_len(told), records.len(), "one batch, above the limit, and only one");
    assert_eq!((told.high_watermark, told.last_stable_offset, told.log_start_offset), (100, 100, 0));
}

#[test]
fn a_recreated_topic_is_told_from_its_predecessor() {
    let mut rig = Rig::new();
    let old = rig.topic_id("t");
    let by_id = |id| {
        let mut request = fetch(0, 0, 1);
        request.topics[0].topic = "".into();
        request.topics[0].topic_id = id;
        request
    };
    rig.ask(&DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() }, 5);
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 2, replication_factor: 1, ..Default::default() };
    rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
    let new = rig.topic_id("t");
    assert_ne!(old, new);
    let answer = rig.ask(&by_id(old), 13);
    let response: FetchResponse<'_> = read(&answer, 13).expect("a fetch response");
    assert_eq!(partition_of(&response).error_code, ErrorCode::UnknownTopicId.code());
    let answer = rig.ask(&by_id(new), 13);
    let response: FetchResponse<'_> = read(&answer, 13).expect("a fetch response");
    assert_eq!(partition_of(&response).error_code, 0);
}

#[test]
fn leader_epochs_fence_readers() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, epoch: i32| {
        let mut request = fetch(0, 0, 1);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer = rig.ask(&request, 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
        partition_of(&response).error_code
    };
    assert_eq!(ask(&mut rig, 0), 0);
    assert_eq!(ask(&mut rig, 5), ErrorCode::UnknownLeaderEpoch.code());
    let mut end_of = |epoch: i32| {
        let partition =
            OffsetForLeaderPartition { partition: 0, leader_epoch: epoch, current_leader_epoch: -1 };
        let topic = OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition] };
        let answer = rig.ask(&OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic] }, 4);
        let response: OffsetForLeaderEpochResponse<'_> = read(&answer, 4).expect("an answer");
        let told = &response.topics[0].partitions[0];
        (told.error_code, told.leader_epoch, told.end_offset)
    };
    assert_eq!(end_of(9), (0, -1, -1), "of an epoch that is not there yet nothing is known");
}
