//! How much work a big group is: a thousand consumers join, follow and go. The counts of records are exact; the times are
//! printed (`cargo test --release -p ottla-coordinator --test groups figures -- --nocapture`).

use crate::consumer_rig::Consumer;
use crate::rig::{Client, Rig, topic_id};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use std::time::{Duration, Instant};

const MEMBERS: usize = 1_000;
const PARTITIONS: i32 = 2_000;

#[allow(clippy::disallowed_methods)]
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    let took = start.elapsed();
    println!("{what}: {took:?}");
    (done, took)
}

#[test]
fn a_thousand_consumers_come_and_go() {
    let mut rig = Rig::new();
    rig.cluster.topics.insert("big".into(), (topic_id(50), PARTITIONS));
    let ids: Vec<String> = (0..MEMBERS).map(|n| format!("member-{n:04}")).collect();
    let mut consumers: Vec<Consumer> = ids.iter().map(|id| Consumer::new(id, &["big"])).collect();

    let (_, _) = timed("1,000 consumers join", || {
        consumers.iter_mut().for_each(|consumer| drop(rig.beat(consumer)));
    });
    rig.advance(1_000);
    let mut rounds = 0;
    let before = rig.log.len();
    timed("1,000 consumers get their partitions", || {
        while consumers.iter().any(|consumer| consumer.owned.values().map(|p| p.len()).sum::<usize>() != 2) {
            consumers.iter_mut().for_each(|consumer| drop(rig.beat(consumer)));
            rounds += 1;
            assert!(rounds <= 4, "the first gives up, the others get");
        }
    });
    // A target and one or two standings for each, and the two records of the assignment.
    assert!(rig.log.len() - before <= 3 * MEMBERS + 10, "{} records", rig.log.len() - before);

    let before = rig.log.len();
    timed("1,000 heartbeats with nothing to tell", || {
        consumers.iter_mut().for_each(|consumer| drop(rig.beat(consumer)));
    });
    assert_eq!(rig.log.len(), before, "nothing to tell, nothing to write");

    let gone = consumers.pop().expect("a thousand");
    let before = rig.log.len();
    timed("one of 1,000 leaves, the others take over", || {
        rig.leave_consumer(&gone, -1);
        rig.advance(1_000);
        for _ in 0..3 {
            consumers.iter_mut().for_each(|consumer| drop(rig.beat(consumer)));
        }
    });
    let owned: usize = consumers.iter().flat_map(|c| c.owned.values()).map(|p| p.len()).sum();
    assert_eq!(owned, PARTITIONS as usize);
    // Every member steps to the next epoch; only two get a partition more.
    assert!(rig.log.len() - before <= MEMBERS + 20, "{} records", rig.log.len() - before);
    rig.check_replay();
}

#[test]
fn many_groups_with_many_offsets_are_loaded() {
    let (groups, partitions) = if cfg!(debug_assertions) { (200, 100) } else { (10_000, 100) };
    let mut rig = Rig::new();
    rig.cluster.topics.insert("big".into(), (topic_id(50), partitions));
    for group in 0..groups {
        let client = Client::new("admin").in_group(&format!("group-{group:05}"));
        let partition = |partition| OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: 1_000,
            committed_leader_epoch: 0,
            committed_metadata: Some("".into()),
        };
        let topic = OffsetCommitRequestTopic {
            name: "big".into(),
            topic_id: topic_id(50),
            partitions: (0..partitions).map(partition).collect(),
        };
        let request = OffsetCommitRequest {
            group_id: client.group.clone().into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        rig.commit_with(&request, 9);
    }
    let (loaded, _) =
        timed(&format!("{} offsets of {groups} groups are replayed", rig.log.len()), || rig.replayed());
    assert_eq!(loaded.offset_count(), groups * partitions as usize);
}
