//! What replicas owe to clients when they are not all there, one behaviour at a time.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_broker::Millis;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_records_response::DeleteRecordsResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::list_offsets_response::ListOffsetsResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Message, Reader, Records, Request};

use super::{HEAL_MS, NODES, Run, TOPIC, new_with};
use crate::client::{frame, read};

pub(super) const MIN_ISR: &str = "min.insync.replicas";

/// A cluster with a topic of one partition.
pub(super) fn cluster_with_topic(seed: u64, config: (&'static str, &'static str)) -> Run {
    cluster_with(seed, config, &[])
}

/// A cluster whose nodes have further settings, with a topic of one partition.
pub(super) fn cluster_with(
    seed: u64,
    config: (&'static str, &'static str),
    settings: &[(&'static str, &'static str)],
) -> Run {
    let mut run = new_with(seed, false, settings);
    run.begin().expect("a cluster that serves");
    run.create_topic_with(TOPIC, 1, config).expect("a topic");
    run.producers.truncate(1);
    run
}

impl Run {
    pub(super) fn leader_now(&mut self) -> usize {
        let found = self.wait_for("a leader", HEAL_MS, |run| run.cluster.leader(TOPIC, PartitionId(0))).ok();
        found.expect("somebody leads")
    }

    pub(super) fn wait_ms(&mut self, ms: Millis) {
        let until = self.cluster.now + ms;
        while self.cluster.step(until).expect("nothing breaks") {}
    }

    /// Produces until so many records are acknowledged, and nothing is under way. Returns the newest of them.
    pub(super) fn acknowledge(&mut self, count: usize) -> i64 {
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
    pub(super) fn delete_before(&mut self, offset: i64, timeout_ms: i32) -> (ErrorCode, i64, Millis) {
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

pub(super) fn produce_of(value: &[u8], timeout_ms: i32) -> Bytes {
    let mut batch = BatchBuilder::new(0, BatchOptions::default());
    batch.push(1_800_000_000_000, None, Some(value), &[]);
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
        let answer =
            run.ask::<ProduceRequest<'_>>(leader, produce_of(b"12345678", timeout_ms), 9).expect("an answer");
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

/// What a consumer asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub offset: i64,
    pub rack: &'static str,
    pub leader_epoch: i32,
    pub max_wait_ms: i32,
    pub version: i16,
}

pub(super) const WISH: Wish = Wish { offset: 0, rack: "", leader_epoch: -1, max_wait_ms: 5_000, version: 12 };

/// What it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Got {
    pub error: ErrorCode,
    pub has_records: bool,
    pub preferred: i32,
    pub high_watermark: i64,
}

pub(super) fn consumer_fetch(wish: Wish) -> Bytes {
    let wanted = FetchPartition {
        partition: 0,
        fetch_offset: wish.offset,
        current_leader_epoch: wish.leader_epoch,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![wanted], ..Default::default() };
    let request = FetchRequest {
        max_wait_ms: wish.max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        rack_id: wish.rack.into(),
        topics: vec![topic],
        ..Default::default()
    };
    frame(&request, wish.version)
}

pub(super) fn got(body: &[u8], version: i16) -> Got {
    let response: FetchResponse<'_> = read(body, version).expect("a response");
    let data = &response.responses[0].partitions[0];
    Got {
        error: ErrorCode::from_code(data.error_code),
        has_records: matches!(&data.records, Some(Records::Slice(bytes)) if !bytes.is_empty()),
        preferred: data.preferred_read_replica,
        high_watermark: data.high_watermark,
    }
}

impl Run {
    pub(super) fn consume(&mut self, node: usize, wish: Wish) -> Got {
        let answer = self.ask::<FetchRequest<'_>>(node, consumer_fetch(wish), wish.version);
        got(&answer.expect("an answer"), wish.version)
    }
}

#[test]
fn consumers_read_from_the_replica_in_their_rack() {
    let settings = [
        ("broker.rack", "rack-{node}"),
        ("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector"),
    ];
    let mut run = cluster_with(31, (MIN_ISR, "2"), &settings);
    let newest = run.acknowledge(10);
    let leader = run.leader_now();
    let follower = (leader + 1) % NODES;
    let racks = ["rack-1", "rack-2", "rack-3"];
    let near = Wish { rack: racks[follower], ..WISH };

    // The leader sends away who is elsewhere, at once, and nobody else.
    let begun = run.cluster.now;
    let sent = run.consume(leader, near);
    assert_eq!((sent.error, sent.has_records, sent.preferred), (ErrorCode::None, false, follower as i32 + 1));
    assert!(run.cluster.now - begun < 100);
    let at_end = Wish { offset: newest + 1, ..near };
    assert_eq!(run.consume(leader, at_end).preferred, follower as i32 + 1);
    for rack in ["", racks[leader], "rack-4"] {
        let served = run.consume(leader, Wish { rack, ..WISH });
        assert!(served.has_records && served.preferred == -1, "{rack}: {served:?}");
    }
    let older = Wish { version: 10, ..near };
    assert!(run.consume(leader, older).has_records, "version 10 has no racks");

    // The follower serves what it knows to be committed.
    run.wait_for("a follower that knows", HEAL_MS, |run| {
        (run.consume(follower, near).high_watermark == newest + 1).then_some(())
    })
    .expect("it hears of it");
    let served = run.consume(follower, near);
    assert!(served.has_records && served.preferred == -1, "{served:?}");
    let beyond = Wish { offset: newest + 1_000, ..near };
    assert_eq!(run.consume(follower, beyond).error, ErrorCode::OffsetOutOfRange);
    assert_eq!(run.consume(follower, older).error, ErrorCode::NotLeaderOrFollower);
    let later = Wish { leader_epoch: 1_000, ..near };
    assert_eq!(run.consume(follower, later).error, ErrorCode::UnknownLeaderEpoch);

    // Who waits at a follower is woken when it hears that something is committed.
    let waiting = run.cluster.ask(follower, consumer_fetch(Wish { max_wait_ms: 50_000, ..at_end }));
    run.acknowledge(12);
    let begun = run.cluster.now;
    let answer = run.wait_for("a fetch that is woken", HEAL_MS, |run| run.cluster.take_answer(waiting));
    let answer = answer.expect("it is answered").expect("by a living node");
    assert!(got(&answer[5..], 12).has_records);
    assert!(run.cluster.now - begun < 100, "{} ms", run.cluster.now - begun);

    // Nobody is sent to a node that is dead.
    run.cluster.kill(follower, false, 60_000);
    run.wait_for("a leader that serves", HEAL_MS, |run| {
        let leader = run.leader_now();
        (leader != follower && run.consume(leader, near).has_records).then_some(())
    })
    .expect("the leader serves everybody");
}

/// The fetches of followers since the last look.
fn follower_fetches(run: &mut Run, look: impl FnMut(FetchRequest<'_>)) {
    let frames = std::mem::take(&mut run.cluster.follower_fetches);
    frames
        .iter()
        .map(|frame| {
            let mut reader = Reader::new(frame);
            let header = RequestHeader::decode(&mut reader, 2).expect("a header");
            let version = header.request_api_version;
            FetchRequest::decode(&mut reader, version).expect("a fetch")
        })
        .for_each(look);
}

#[test]
fn followers_ask_as_they_are_configured_and_say_nothing_twice() {
    let settings = [
        ("replica.fetch.wait.max.ms", "300"),
        ("replica.fetch.min.bytes", "10"),
        ("replica.fetch.max.bytes", "65536"),
        ("replica.fetch.response.max.bytes", "200000"),
    ];
    let mut run = cluster_with(42, (MIN_ISR, "2"), &settings);
    run.acknowledge(10);
    let mut begun = 0;
    follower_fetches(&mut run, |fetch| {
        let limits = (fetch.max_wait_ms, fetch.min_bytes, fetch.max_bytes);
        assert_eq!(limits, (300, 10, 200_000));
        let partitions = fetch.topics.iter().flat_map(|topic| &topic.partitions);
        assert!(partitions.into_iter().all(|asked| asked.partition_max_bytes == 65_536));
        begun += usize::from(fetch.session_epoch == 0);
    });
    assert!((2..=4).contains(&begun), "two followers, and perhaps another leader before: {begun}");

    // Nothing happens: nothing is said, every 300 ms.
    run.wait_ms(1_000);
    run.cluster.follower_fetches.clear();
    run.wait_ms(3_000);
    let mut idle = 0;
    follower_fetches(&mut run, |fetch| {
        assert!(fetch.topics.is_empty() && fetch.forgotten_topics_data.is_empty(), "{fetch:?}");
        assert!(fetch.session_id != 0 && fetch.session_epoch > 0);
        idle += 1;
    });
    assert!((16..=20).contains(&idle), "{idle} fetches of two followers in 3 s");

    // A node that starts again knows of no sessions.
    let leader = run.leader_now();
    run.cluster.kill(leader, false, 100);
    run.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(())).expect("it is back");
    run.acknowledge(20);
}

pub(super) const TOPIC_RESOURCE: i8 = 2;
pub(super) const BROKER_RESOURCE: i8 = 4;

impl Run {
    pub(super) fn set(&mut self, (kind, name): (i8, &'static str), key: &'static str, value: &'static str) {
        let config = AlterableConfig { name: key.into(), config_operation: 0, value: Some(value.into()) };
        let resource =
            AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let node = self.leader_now();
        let answer = self.ask::<IncrementalAlterConfigsRequest<'_>>(node, frame(&request, 1), 1);
        let answer = answer.expect("an answer");
        let response: IncrementalAlterConfigsResponse<'_> = read(&answer, 1).expect("a response");
        assert_eq!(response.responses[0].error_code, 0, "{key}={value}");
        self.wait_ms(500);
    }

    /// A follower comes back to 40 batches of 50 kB that it has not got. Returns how long it takes to be in sync, and the longest time
    /// that a record with `acks=all` takes meanwhile.
    fn catch_up(&mut self) -> (Millis, Millis) {
        self.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(())).expect("whole");
        let leader = self.leader_now();
        self.cluster.kill((leader + 1) % NODES, false, 10_000);
        self.wait_for("an ISR without it", HEAL_MS, |run| {
            let image = run.cluster.broker(leader)?.image();
            let partition = image.topic_by_name(TOPIC)?.partitions.get(&PartitionId(0))?.clone();
            (partition.isr.len() == NODES - 1).then_some(())
        })
        .expect("it is dead");
        for _ in 0..40 {
            let (error, _) = self.produce_value(leader, &[b'x'; 50_000]);
            assert_eq!(error, ErrorCode::None);
        }
        let back_at = self.wait_for("a node that serves", HEAL_MS, |run| {
            (0..NODES).all(|node| run.cluster.serves(node)).then_some(run.cluster.now)
        });
        let (back_at, mut longest) = (back_at.expect("it comes back"), 0);
        while !self.is_whole() && self.cluster.now < back_at + 2 * HEAL_MS {
            let begun = self.cluster.now;
            assert_eq!(self.produce_value(leader, b"12345678").0, ErrorCode::None);
            longest = longest.max(self.cluster.now - begun);
            self.wait_ms(20);
        }
        (self.cluster.now - back_at, longest)
    }

    pub(super) fn produce_value(&mut self, leader: usize, value: &[u8]) -> (ErrorCode, i64) {
        let request = produce_of(value, 10_000);
        let answer = self.ask::<ProduceRequest<'_>>(leader, request, 9).expect("an answer");
        let response: ProduceResponse<'_> = read(&answer, 9).expect("a response");
        let told = &response.responses[0].partition_responses[0];
        (ErrorCode::from_code(told.error_code), told.base_offset)
    }
}

#[test]
fn who_catches_up_keeps_to_the_throttle_and_nobody_else_has_to() {
    let settings =
        [("replica.fetch.max.bytes", "50000"), ("leader.imbalance.check.interval.seconds", "3000")];
    let mut run = cluster_with(51, (MIN_ISR, "2"), &settings);
    let (took, _) = run.catch_up();
    assert!(took < 5_000, "nothing holds it back: {took} ms");
    let everybody = (BROKER_RESOURCE, "");
    let topic = (TOPIC_RESOURCE, TOPIC);
    for (rate, replicas) in [
        ("leader.replication.throttled.rate", "leader.replication.throttled.replicas"),
        ("follower.replication.throttled.rate", "follower.replication.throttled.replicas"),
    ] {
        run.set(everybody, rate, "100000");
        let (took, _) = run.catch_up();
        assert!(took < 5_000, "no replica is named: {took} ms");
        run.set(topic, replicas, "*");
        let (took, longest) = run.catch_up();
        // Two million bytes, a hundred thousand in a second.
        assert!((15_000..25_000).contains(&took), "{rate}: {took} ms");
        assert!(longest < 200, "{rate}: who is in sync is not held back: {longest} ms");
        run.set(everybody, rate, "9223372036854775807");
        let (took, _) = run.catch_up();
        assert!(took < 5_000, "{rate}: it is over: {took} ms");
        run.set(topic, replicas, "");
    }
}
