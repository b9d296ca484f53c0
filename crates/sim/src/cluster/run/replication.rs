//! What replicas owe to clients when they are not all there, one behaviour at a time.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_broker::Millis;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_records_response::DeleteRecordsResponse;
use ottla_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::list_offsets_response::ListOffsetsResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Records, Request};

use super::{HEAL_MS, NODES, Run, TOPIC, new};
use crate::client::{frame, read};

const MIN_ISR: &str = "min.insync.replicas";

/// A cluster with a topic of one partition.
fn cluster_with_topic(seed: u64, config: (&'static str, &'static str)) -> Run {
    let mut run = new(seed, false);
    run.begin().expect("a cluster that serves");
    run.create_topic_with(TOPIC, 1, config).expect("a topic");
    run.producers.truncate(1);
    run
}

impl Run {
    fn leader_now(&mut self) -> usize {
        let found = self.wait_for("a leader", HEAL_MS, |run| run.cluster.leader(TOPIC, PartitionId(0))).ok();
        found.expect("somebody leads")
    }

    fn wait_ms(&mut self, ms: Millis) {
        let until = self.cluster.now + ms;
        while self.cluster.step(until).expect("nothing breaks") {}
    }

    /// Produces until so many records are acknowledged, and nothing is under way. Returns the newest of them.
    fn acknowledge(&mut self, count: usize) -> i64 {
        let newest = self.wait_for("acknowledged records", HEAL_MS, |run| {
            run.produce().expect("a sound answer");
            let acknowledged = &run.producers[0].acknowledged;
            (acknowledged.len() >= count).then_some(())
        });
        newest.expect("records");
        let (request, value) = self.producers[0].in_flight.take().expect("always one");
        let answer = self.wait_for("the last one", HEAL_MS, |run| run.cluster.take_answer(request));
        let answer = answer.expect("it ends").expect("with an answer");
        self.note_acknowledgement(0, value, &answer).expect("a sound answer");
        self.producers[0].acknowledged.keys().max().copied().expect("at least one")
    }

    /// Deletes what is before an offset, at the leader. Returns the answer's error and low watermark, and how long it took.
    fn delete_before(&mut self, offset: i64, timeout_ms: i32) -> (ErrorCode, i64, Millis) {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: TOPIC.into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms };
        let leader = self.leader_now();
        let begun = self.cluster.now;
        let answer = self.ask::<DeleteRecordsRequest<'_>>(leader, frame(&request, 2), 2);
        let answer = answer.expect("an answer");
        let response: DeleteRecordsResponse<'_> = read(&answer, 2).expect("a response");
        let told = &response.topics[0].partitions[0];
        (ErrorCode::from_code(told.error_code), told.low_watermark, self.cluster.now - begun)
    }

    /// The nodes whose logs begin at an offset, for good.
    fn that_begin_at(&self, offset: i64) -> Vec<usize> {
        let line = format!("{TOPIC} 0 {offset}\n");
        let begins = |node: &usize| self.cluster.file(*node, "log-start-offset-checkpoint").contains(&line);
        (0..NODES).filter(begins).collect()
    }
}

#[test]
fn records_are_deleted_when_every_replica_that_lives_has_deleted_them() {
    let mut run = cluster_with_topic(11, (MIN_ISR, "2"));
    let newest = run.acknowledge(10);
    let (error, low_watermark, took) = run.delete_before(newest - 4, 10_000);
    assert_eq!((error, low_watermark), (ErrorCode::None, newest - 4));
    assert_eq!(run.that_begin_at(newest - 4), [0, 1, 2], "at the time of the answer");
    assert!(took < 300, "followers are told at once, and not when their fetch is over: {took} ms");

    // A follower that can not be reached is waited for...
    let follower = (run.leader_now() + 1) % NODES;
    run.cluster.cut_off(follower);
    let (error, low_watermark, took) = run.delete_before(newest - 2, 800);
    assert_eq!((error, low_watermark), (ErrorCode::RequestTimedOut, newest - 2));
    assert!(took >= 800, "{took} ms");
    // ... until the controller says that it is dead.
    let (error, low_watermark, _) = run.delete_before(newest - 1, 60_000);
    assert_eq!((error, low_watermark), (ErrorCode::None, newest - 1));
    let others: Vec<usize> = (0..NODES).filter(|node| *node != follower).collect();
    assert_eq!(run.that_begin_at(newest - 1), others);
    // When it is back, it follows.
    run.cluster.heal();
    run.wait_for("a follower that follows", HEAL_MS, |run| {
        (run.that_begin_at(newest - 1).len() == NODES).then_some(())
    })
    .expect("it deletes them as well");
}

fn one_record(timeout_ms: i32) -> Bytes {
    let mut batch = BatchBuilder::new(0, BatchOptions::default());
    batch.push(1_800_000_000_000, None, Some(b"12345678"), &[]);
    let batch = batch.finish();
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
    frame(&ProduceRequest { acks: -1, timeout_ms, topic_data: vec![topic], ..Default::default() }, 9)
}

/// Kafka knows NOT_ENOUGH_REPLICAS_AFTER_APPEND for records that are committed while too few are in sync; since nothing is committed then
/// any more (KAFKA-15583), the producer hears of the time that is up.
#[test]
fn what_too_few_replicas_have_is_not_acknowledged_although_it_was_admitted() {
    let mut run = cluster_with_topic(12, (MIN_ISR, "3"));
    let newest = run.acknowledge(3);
    let leader = run.leader_now();
    run.cluster.kill((leader + 1) % NODES, false, 20_000);
    let produce = |run: &mut Run, timeout_ms: i32| {
        let answer = run.ask::<ProduceRequest<'_>>(leader, one_record(timeout_ms), 9).expect("an answer");
        let response: ProduceResponse<'_> = read(&answer, 9).expect("a response");
        let told = &response.responses[0].partition_responses[0];
        (ErrorCode::from_code(told.error_code), told.base_offset)
    };
    // Three are in sync as far as anybody knows; then there are two, who both have the record.
    assert_eq!(produce(&mut run, 10_000), (ErrorCode::RequestTimedOut, -1));
    assert_eq!(produce(&mut run, 10_000), (ErrorCode::NotEnoughReplicas, -1));
    let end = run.end_of_log(leader);
    assert_eq!(end, Ok(newest + 1), "nobody may read it yet");
    run.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(())).expect("it is back");
    run.wait_for("a commit", HEAL_MS, |run| {
        let leader = run.leader_now();
        (run.end_of_log(leader) == Ok(newest + 2)).then_some(())
    })
    .expect("all three have it");
}

fn asks_for_end(version: i16) -> Bytes {
    let asked = ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp: -1 };
    let topic = ListOffsetsTopic { name: TOPIC.into(), partitions: vec![asked] };
    frame(&ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() }, version)
}

fn told_end(body: &[u8], version: i16) -> Result<i64, ErrorCode> {
    let response: ListOffsetsResponse<'_> = read(body, version).expect("a response");
    let told = &response.topics[0].partitions[0];
    match ErrorCode::from_code(told.error_code) {
        ErrorCode::None => Ok(told.offset),
        error => Err(error),
    }
}

impl Run {
    /// The end of the log as a consumer is told.
    fn end_of_log(&mut self, node: usize) -> Result<i64, ErrorCode> {
        let answer = self.ask::<ListOffsetsRequest<'_>>(node, asks_for_end(9), 9).expect("an answer");
        told_end(&answer, 9)
    }
}

#[test]
fn the_end_of_a_log_never_goes_back_when_another_node_leads() {
    let mut errors = BTreeSet::new();
    for seed in 20..24 {
        let mut run = cluster_with_topic(seed, (MIN_ISR, "2"));
        run.acknowledge(20);
        let leader = run.leader_now();
        let mut known = run.end_of_log(leader).expect("the leader knows the end of its log");
        run.cluster.kill(leader, false, 10_000);
        let end = run.cluster.now + 15_000;
        // What is asked, and what was known then.
        let mut asked: Vec<(u64, i16, i64)> = Vec::new();
        while run.cluster.now < end {
            for version in [4, 9] {
                let node = run.cluster.dice.below(NODES as u64) as usize;
                asked.push((run.cluster.ask(node, asks_for_end(version)), version, known));
            }
            run.produce().expect("a sound answer");
            run.wait_ms(1);
            asked.retain(|(request, version, known_then)| {
                let Some(answer) = run.cluster.take_answer(*request) else { return true };
                let Some(answer) = answer else { return false };
                let at = 4 + ListOffsetsRequest::KEY.response_header_version(*version) as usize;
                match told_end(&answer[at..], *version) {
                    Ok(told) => {
                        assert!(told >= *known_then, "seed {seed}: first {known_then}, then {told}");
                        known = known.max(told);
                    }
                    Err(error) => drop(errors.insert((error, *version))),
                }
                false
            });
        }
        assert!(known > 20, "seed {seed}: {known}");
    }
    assert!(errors.contains(&(ErrorCode::OffsetNotAvailable, 9)), "nobody had to wait: {errors:?}");
    assert!(errors.contains(&(ErrorCode::LeaderNotAvailable, 4)), "nobody had to wait: {errors:?}");
}
