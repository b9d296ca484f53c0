//! What replicas may say of themselves, and what they believe after a life that ended: nothing counts that may have been lost since.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::unregister_controller_request::UnregisterControllerRequest;
use ottla_protocol::messages::unregister_controller_response::UnregisterControllerResponse;
use std::collections::BTreeSet;

use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ReplicaState};

use super::replication::{
    BROKER_RESOURCE, MIN_ISR, TOPIC_RESOURCE, WISH, Wish, cluster_with, cluster_with_topic, consumer_fetch,
    got, produce_of,
};
use super::{HEAL_MS, NODES, Run, TOPIC, new_with};
use crate::client::{frame, read};

const FOLLOWER_FETCH_VERSION: i16 = 17;

impl Run {
    /// A fetch in the name of a broker; what it is told of the partition.
    fn fetch_as(&mut self, leader: usize, (id, broker_epoch): (i32, i64), offset: i64) -> ErrorCode {
        let image = self.cluster.broker(leader).expect("it lives").image();
        let topic_id = image.topic_by_name(TOPIC).expect("the topic").id.0;
        let wanted = FetchPartition {
            partition: 0,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic_id, partitions: vec![wanted], ..Default::default() };
        let request = FetchRequest {
            replica_state: ReplicaState { replica_id: id, replica_epoch: broker_epoch },
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = self.ask::<FetchRequest<'_>>(
            leader,
            frame(&request, FOLLOWER_FETCH_VERSION),
            FOLLOWER_FETCH_VERSION,
        );
        got(&answer.expect("an answer"), FOLLOWER_FETCH_VERSION).error
    }

    fn in_sync(&self, node: usize) -> Vec<i32> {
        let image = self.cluster.broker(node).map(|broker| broker.image());
        let topic = image.as_ref().and_then(|image| image.topic_by_name(TOPIC));
        let partition = topic.and_then(|topic| topic.partitions.get(&PartitionId(0)));
        partition.map_or(Vec::new(), |partition| partition.isr.iter().map(|id| id.0).collect())
    }
}

#[test]
fn nobody_speaks_for_an_earlier_life_or_without_a_replica() {
    let mut run = cluster_with_topic(61, (MIN_ISR, "2"));
    let newest = run.acknowledge(3);
    let leader = run.leader_now();
    let follower = ((leader + 1) % NODES) as i32 + 1;
    let image = run.cluster.broker(leader).expect("it lives").image();
    let broker_epoch = image.broker(NodeId(follower)).expect("it is registered").broker_epoch;
    assert_eq!(
        run.fetch_as(leader, (follower, broker_epoch - 1), newest + 1),
        ErrorCode::NotLeaderOrFollower
    );
    assert_eq!(run.fetch_as(leader, (9, 1), newest + 1), ErrorCode::NotLeaderOrFollower);
    assert_eq!(run.fetch_as(leader, (follower, broker_epoch), newest + 1), ErrorCode::None);
}

#[test]
fn a_clean_stop_makes_nothing_committed() {
    let mut run = cluster_with_topic(62, (MIN_ISR, "2"));
    let newest = run.acknowledge(5);
    let leader = run.leader_now();
    let (dead, stopped) = ((leader + 1) % NODES, (leader + 2) % NODES);
    run.cluster.cut_off(dead);
    // One follower has the record, the other has not, and is in sync as far as anybody knows.
    run.cluster.ask(leader, produce_of(b"12345678", 10_000));
    run.wait_ms(500);
    run.cluster.broker(stopped).expect("it lives").shutdown().expect("a clean stop");
    let checkpoint = run.cluster.file(stopped, "replication-offset-checkpoint");
    let line = format!("{TOPIC} 0 {}\n", newest + 1);
    assert!(checkpoint.contains(&line), "{checkpoint:?} without {line:?}");
}

#[test]
fn who_is_in_sync_is_not_held_back_under_a_new_leader() {
    let settings = [("leader.imbalance.check.interval.seconds", "3000")];
    let mut run = cluster_with(63, (MIN_ISR, "2"), &settings);
    run.set((BROKER_RESOURCE, ""), "follower.replication.throttled.rate", "1");
    run.set((TOPIC_RESOURCE, TOPIC), "follower.replication.throttled.replicas", "*");
    let old = run.leader_now();
    assert_eq!(run.produce_value(old, &[b'x'; 50_000]).0, ErrorCode::None);
    run.cluster.kill(old, false, 60_000);
    let new = run.wait_for("another leader", HEAL_MS, |run| {
        let leader = run.cluster.leader(TOPIC, PartitionId(0))?;
        (leader != old && run.in_sync(leader).len() == NODES - 1).then_some(leader)
    });
    let begun = run.cluster.now;
    assert_eq!(run.produce_value(new.expect("it is elected"), b"12345678").0, ErrorCode::None);
    assert!(run.cluster.now - begun < 1_000, "{} ms", run.cluster.now - begun);
}

#[test]
fn who_waits_at_a_follower_is_woken_by_what_an_earlier_life_had() {
    let settings = [
        ("broker.rack", "rack-{node}"),
        ("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector"),
    ];
    let mut run = cluster_with(77, (MIN_ISR, "2"), &settings);
    run.acknowledge(10);
    // What is committed is written down every five seconds.
    run.wait_ms(6_000);
    let newest = run.acknowledge(12);
    let leader = run.leader_now();
    let follower = (leader + 1) % NODES;
    // It starts again while the leader can not be reached, and so does not hear from it.
    run.cluster.kill(follower, false, 10);
    run.cluster.cut_off(leader);
    run.wait_for("a node that serves", HEAL_MS, |run| run.cluster.serves(follower).then_some(()))
        .expect("it starts");
    let known = run.consume(follower, Wish { max_wait_ms: 0, ..WISH }).high_watermark;
    assert!(known <= newest, "it knows already, so nobody waits");
    let wish = Wish { offset: known, max_wait_ms: 3 * HEAL_MS as i32, ..WISH };
    let waiting = run.cluster.ask(follower, consumer_fetch(wish));
    let begun = run.cluster.now;
    let answer = run.wait_for("a fetch that is woken", 4 * HEAL_MS, |run| run.cluster.take_answer(waiting));
    let answer = answer.expect("it is answered").expect("by a living node");
    assert!(got(&answer[5..], WISH.version).has_records);
    assert!(run.cluster.now - begun < HEAL_MS, "{} ms", run.cluster.now - begun);
}

/// One that lives introduces itself again, wherever it was asked for that it be forgotten.
#[test]
fn a_controller_that_is_forgotten_while_it_lives_is_known_again() {
    let mut run = cluster_with_topic(65, (MIN_ISR, "2"));
    let known = |run: &Run, id: i32| {
        let image = run.cluster.broker(0).expect("it lives").image();
        image.controllers().get(&NodeId(id)).map(|known| known.incarnation_id)
    };
    let before: Vec<_> = (1..=NODES as i32).map(|id| known(&run, id)).collect();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    let records = run.cluster.broker(0).expect("it lives").image().last_offset();
    let mut codes = BTreeSet::new();
    for controller_id in 1..=NODES as i32 {
        let request = frame(&UnregisterControllerRequest { controller_id }, 0);
        let answer = run.ask::<UnregisterControllerRequest>(1, request, 0).expect("an answer");
        let response: UnregisterControllerResponse<'_> = read(&answer, 0).expect("a response");
        codes.insert(ErrorCode::from_code(response.error_code));
    }
    assert_eq!(codes, BTreeSet::from([ErrorCode::None, ErrorCode::InvalidRequest]), "one is active");
    run.wait_for("everybody known again", HEAL_MS, |run| {
        let now: Vec<_> = (1..=NODES as i32).map(|id| known(run, id)).collect();
        let image = run.cluster.broker(0)?.image();
        // Two were forgotten, and came back.
        (now == before && image.last_offset() >= records + 4).then_some(())
    })
    .expect("they introduce themselves");
}

/// A topic with replicas on two nodes, whose leader may be anybody who is left.
fn cluster_that_loses(seed: u64, leader: i32, follower: i32) -> Run {
    let mut run = new_with(seed, false, &[]);
    run.begin().expect("a cluster that serves");
    let config =
        CreatableTopicConfig { name: "unclean.leader.election.enable".into(), value: Some("true".into()) };
    let assigned = CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![leader, follower] };
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assigned],
        configs: vec![config],
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..Default::default() };
    run.wait_for("a topic", HEAL_MS, |run| {
        let answer = run.ask::<CreateTopicsRequest<'_>>(0, frame(&request, 5), 5).ok()?;
        let response: CreateTopicsResponse<'_> = read(&answer, 5).ok()?;
        let error = ErrorCode::from_code(response.topics.first()?.error_code);
        matches!(error, ErrorCode::None | ErrorCode::TopicAlreadyExists).then_some(())
    })
    .expect("it is made");
    run.producers.truncate(1);
    run
}

#[test]
fn who_deleted_what_an_unclean_leader_never_had_follows_it() {
    let mut run = cluster_that_loses(63, 1, 2);
    let (first, second) = (0, 1);
    run.acknowledge(10);
    run.cluster.kill(second, false, 20_000);
    run.wait_for("an ISR without it", HEAL_MS, |run| (run.in_sync(first) == [1]).then_some(()))
        .expect("dead");
    let newest = run.acknowledge(20);
    assert_eq!(run.delete_before(newest + 1, 10_000).0, ErrorCode::None);
    run.cluster.kill(first, false, 60_000);
    run.wait_for("an unclean leader", HEAL_MS, |run| {
        (run.cluster.serves(second) && run.in_sync(second) == [2]).then_some(())
    })
    .expect("it leads");
    run.cluster.follower_fetches.clear();
    run.wait_for("both in sync", 3 * HEAL_MS, |run| {
        (run.cluster.serves(first) && run.in_sync(second).len() == 2).then_some(())
    })
    .expect("it follows");
    assert!(run.cluster.follower_fetches.len() < 1_000, "{} fetches", run.cluster.follower_fetches.len());
}
