//! AlterPartition: each check in its place, and what an accepted proposal makes of the partition.

use super::{Cluster, assigned};
use crate::alter_partition;
use ottla_metadata::Partition;
use ottla_metadata::topic::{LeaderRecoveryState, nodes};
use ottla_protocol::ids::{LeaderEpoch, NodeId};
use ottla_protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use ottla_protocol::messages::alter_partition_response::PartitionData as Answer;
use ottla_protocol::{ErrorCode, Uuid};

/// A proposal of broker 1 for partition t-0, which it leads; a case changes what it is about.
struct Proposal {
    broker: i32,
    topic: Option<Uuid>,
    partition: i32,
    leader_epoch: i32,
    partition_epoch: i32,
    isr: Vec<(i32, i64)>,
    recovery: i8,
    version: i16,
}

fn proposal(isr: &[i32]) -> Proposal {
    Proposal {
        broker: 1,
        topic: None,
        partition: 0,
        leader_epoch: 0,
        partition_epoch: 0,
        isr: isr.iter().map(|id| (*id, -1)).collect(),
        recovery: 0,
        version: 3,
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::with(4);
    cluster.create(vec![assigned("t", &[(0, &[1, 2, 3])])]);
    cluster.set_config(2, "t", "min.insync.replicas", Some("2"));
    cluster
}

fn propose(cluster: &mut Cluster, proposal: &Proposal) -> Answer {
    let topic_id = cluster.controller.image().topic_id("t").expect("there").0;
    let states = proposal
        .isr
        .iter()
        .map(|(broker_id, broker_epoch)| BrokerState { broker_id: *broker_id, broker_epoch: *broker_epoch });
    let partition = PartitionData {
        partition_index: proposal.partition,
        leader_epoch: proposal.leader_epoch,
        new_isr: proposal.isr.iter().map(|(id, _)| *id).collect(),
        new_isr_with_epochs: states.collect(),
        leader_recovery_state: proposal.recovery,
        partition_epoch: proposal.partition_epoch,
    };
    let topic = TopicData { topic_id: proposal.topic.unwrap_or(topic_id), partitions: vec![partition] };
    let request = AlterPartitionRequest {
        broker_id: proposal.broker,
        broker_epoch: cluster.broker_epoch(proposal.broker),
        topics: vec![topic],
    };
    let decided = alter_partition(&cluster.controller.context(), &request, proposal.version);
    let response = cluster.append(decided.expect("the broker is known"));
    response.topics[0].partitions[0].clone()
}

fn error(cluster: &mut Cluster, proposal: &Proposal) -> ErrorCode {
    let before = cluster.log.len();
    let answer = propose(cluster, proposal);
    assert_eq!(cluster.log.len(), before, "a refusal writes nothing");
    ErrorCode::from_code(answer.error_code)
}

#[test]
fn an_isr_shrinks_and_grows() {
    let mut cluster = cluster();
    let answer = propose(&mut cluster, &proposal(&[1, 3]));
    assert_eq!((answer.error_code, answer.isr, answer.partition_epoch), (0, vec![1, 3], 1));
    assert_eq!((answer.leader_id, answer.leader_epoch), (1, 0));
    let answer = propose(&mut cluster, &Proposal { partition_epoch: 1, version: 2, ..proposal(&[1]) });
    assert_eq!((answer.isr, answer.partition_epoch), (vec![1], 2));
    assert_eq!(cluster.partition("t", 0).elr, nodes(&[3]), "3 has everything that was committed");
    let answer = propose(&mut cluster, &Proposal { partition_epoch: 2, ..proposal(&[1, 2, 3]) });
    assert_eq!((answer.isr, answer.partition_epoch), (vec![1, 2, 3], 3));
    assert_eq!(cluster.partition("t", 0).elr, nodes(&[]));
    // The same again is fine, and changes nothing.
    let answer = propose(&mut cluster, &Proposal { partition_epoch: 3, ..proposal(&[1, 2, 3]) });
    assert_eq!((answer.error_code, answer.partition_epoch), (0, 3));
}

#[test]
fn refusals_come_in_kafkas_order() {
    let mut cluster = cluster();
    cluster.change("t", 0, |record| record.leader = 1);
    let now = |isr: &[i32]| Proposal { leader_epoch: 1, partition_epoch: 1, ..proposal(isr) };
    let mut check = |expected: ErrorCode, wrong: Proposal| {
        assert_eq!(error(&mut cluster, &wrong), expected);
    };
    check(ErrorCode::UnknownTopicId, Proposal { topic: Some(Uuid([9; 16])), ..now(&[1]) });
    check(ErrorCode::UnknownTopicId, Proposal { topic: Some(Uuid::ZERO), ..now(&[1]) });
    check(ErrorCode::UnknownTopicOrPartition, Proposal { partition: 7, ..now(&[1]) });
    check(ErrorCode::NotController, Proposal { leader_epoch: 2, ..now(&[1]) });
    check(ErrorCode::NotController, Proposal { leader_epoch: 0, partition_epoch: 2, ..now(&[1]) });
    check(ErrorCode::FencedLeaderEpoch, Proposal { leader_epoch: 0, broker: 2, ..now(&[1]) });
    check(ErrorCode::InvalidRequest, Proposal { broker: 2, partition_epoch: 0, ..now(&[2]) });
    check(ErrorCode::InvalidUpdateVersion, Proposal { partition_epoch: 0, ..now(&[9]) });
    check(ErrorCode::InvalidRequest, now(&[1, 4]));
    check(ErrorCode::InvalidRequest, now(&[1, 2, 2]));
    check(ErrorCode::InvalidRequest, now(&[2, 3]));
    check(ErrorCode::InvalidRequest, now(&[]));
    check(ErrorCode::InvalidRequest, Proposal { recovery: 1, ..now(&[1]) });
    check(ErrorCode::InvalidRequest, Proposal { recovery: 7, ..now(&[1]) });
}

#[test]
fn a_recovering_leader_is_alone_until_it_has_recovered() {
    let mut cluster = cluster();
    cluster.change("t", 0, |record| {
        (record.leader, record.isr, record.leader_recovery_state) = (1, Some(vec![1]), 1);
    });
    let now = Proposal { leader_epoch: 1, partition_epoch: 1, recovery: 1, ..proposal(&[1, 2]) };
    assert_eq!(error(&mut cluster, &now), ErrorCode::InvalidRequest);
    let answer = propose(&mut cluster, &Proposal { recovery: 0, ..now });
    assert_eq!((answer.error_code, answer.leader_recovery_state, answer.isr), (0, 0, vec![1, 2]));
    assert_eq!(cluster.partition("t", 0).leader_recovery_state, LeaderRecoveryState::Recovered);
}

#[test]
fn only_who_is_alive_in_the_life_that_the_leader_knows_is_let_in() {
    let mut cluster = cluster();
    let known = cluster.broker_epoch(2);
    cluster.register(2, 99, -1);
    cluster.unfence(2);
    let before = cluster.partition("t", 0);
    let now = |isr: &[(i32, i64)]| Proposal {
        leader_epoch: before.leader_epoch.0,
        partition_epoch: before.partition_epoch,
        isr: isr.to_vec(),
        ..proposal(&[])
    };
    assert_eq!(error(&mut cluster, &now(&[(1, -1), (2, known)])), ErrorCode::IneligibleReplica);
    let later = cluster.broker_epoch(2);
    cluster.fence(3);
    let with_fenced = Proposal { partition_epoch: before.partition_epoch + 1, ..now(&[(1, -1), (3, -1)]) };
    assert_eq!(error(&mut cluster, &with_fenced), ErrorCode::IneligibleReplica);
    let answer = propose(
        &mut cluster,
        &Proposal { partition_epoch: before.partition_epoch + 1, ..now(&[(1, -1), (2, later)]) },
    );
    assert_eq!((answer.error_code, answer.isr), (0, vec![1, 2]));
    // Version 2 does not tell broker epochs.
    let request = AlterPartitionRequest { broker_id: 1, broker_epoch: 0, topics: Vec::new() };
    let stale = alter_partition(&cluster.controller.context(), &request, 2).expect_err("another life");
    assert_eq!(stale.code, ErrorCode::StaleBrokerEpoch);
    let decision = cluster.controller.begin_controlled_shutdown(NodeId(2)).expect("registered");
    cluster.append(decision);
    let after = cluster.partition("t", 0);
    let leaving = Proposal {
        leader_epoch: after.leader_epoch.0,
        partition_epoch: after.partition_epoch,
        version: 2,
        ..proposal(&[1, 2])
    };
    assert_eq!(error(&mut cluster, &leaving), ErrorCode::IneligibleReplica);
}

#[test]
fn a_proposal_can_complete_a_reassignment_and_cost_the_leadership() {
    let mut cluster = cluster();
    cluster.change("t", 0, |record| {
        record.replicas = Some(vec![3, 4, 1, 2]);
        record.directories = Some([3, 4, 1, 2].map(super::dir).to_vec());
        record.adding_replicas = Some(vec![4]);
        record.removing_replicas = Some(vec![1, 2]);
    });
    let isr = propose(&mut cluster, &Proposal { partition_epoch: 1, ..proposal(&[1, 2, 3]) });
    assert_eq!((isr.error_code, isr.partition_epoch), (0, 1), "nothing new");
    let answer = propose(&mut cluster, &Proposal { partition_epoch: 1, ..proposal(&[1, 2, 3, 4]) });
    assert_eq!(answer.error_code, ErrorCode::NewLeaderElected.code());
    let Partition { replicas, isr, leader, leader_epoch, adding_replicas, removing_replicas, elr, .. } =
        cluster.partition("t", 0);
    assert_eq!((replicas, isr, leader), (nodes(&[3, 4]), nodes(&[3, 4]), Some(NodeId(3))));
    assert_eq!((leader_epoch, adding_replicas, removing_replicas), (LeaderEpoch(1), nodes(&[]), nodes(&[])));
    assert_eq!(elr, nodes(&[]));
}

#[test]
fn the_second_proposal_of_a_request_sees_the_first() {
    let mut cluster = cluster();
    let topic_id = cluster.controller.image().topic_id("t").expect("there").0;
    let data = |isr: &[i32]| PartitionData { new_isr: isr.to_vec(), ..Default::default() };
    let topic = TopicData { topic_id, partitions: vec![data(&[1, 2]), data(&[1, 3])] };
    let request =
        AlterPartitionRequest { broker_id: 1, broker_epoch: cluster.broker_epoch(1), topics: vec![topic] };
    let decided = alter_partition(&cluster.controller.context(), &request, 2).expect("known");
    let response = cluster.append(decided);
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|answer| answer.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::InvalidUpdateVersion.code()]);
    assert_eq!(cluster.partition("t", 0).isr, nodes(&[1, 2]));
}
