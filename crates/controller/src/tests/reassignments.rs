//! Reassignments from the wish to their end: what is written, listed, and given up.

use super::{Cluster, assigned, dir};
use crate::{alter_partition_reassignments, list_partition_reassignments};
use ottla_metadata::topic::{nodes, numbers};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::{LeaderEpoch, NodeId};
use ottla_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::list_partition_reassignments_request::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};

fn cluster() -> Cluster {
    let mut cluster = Cluster::with(5);
    cluster.create(vec![assigned("t", &[(0, &[1, 2, 3]), (1, &[1, 2, 3])])]);
    cluster
}

fn alter_all(cluster: &mut Cluster, wishes: &[(&str, i32, Option<&[i32]>)], may_resize: bool) -> Vec<i16> {
    let topics = wishes.iter().map(|(name, index, replicas)| ReassignableTopic {
        name: (*name).to_owned().into(),
        partitions: vec![ReassignablePartition {
            partition_index: *index,
            replicas: replicas.map(<[i32]>::to_vec),
        }],
    });
    let request = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: may_resize,
        topics: topics.collect(),
        ..Default::default()
    };
    let decision = alter_partition_reassignments(&cluster.controller.context(), &request);
    assert!(decision.atomic);
    let response = cluster.append(decision);
    assert_eq!(response.allow_replication_factor_change, may_resize);
    response.responses.iter().flat_map(|topic| &topic.partitions).map(|answer| answer.error_code).collect()
}

fn alter(cluster: &mut Cluster, index: i32, replicas: Option<&[i32]>) -> i16 {
    alter_all(cluster, &[("t", index, replicas)], true)[0]
}

/// A partition on its way: its number, replicas, and those that are added and removed.
type Ongoing = (i32, Vec<i32>, Vec<i32>, Vec<i32>);

/// What is on its way.
fn listed(cluster: &Cluster, asked: Option<&[i32]>) -> Vec<Ongoing> {
    let topics = asked.map(|indexes| {
        let topic = |name: &str| ListPartitionReassignmentsTopics {
            name: name.to_owned().into(),
            partition_indexes: indexes.to_vec(),
        };
        vec![topic("t"), topic("unknown")]
    });
    let request = ListPartitionReassignmentsRequest { topics, ..Default::default() };
    let response = list_partition_reassignments(cluster.controller.image(), &request);
    let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
    partitions.map(|p| (p.partition_index, p.replicas, p.adding_replicas, p.removing_replicas)).collect()
}

#[test]
fn a_wish_is_written_down_listed_and_given_up() {
    let mut cluster = cluster();
    assert_eq!(alter(&mut cluster, 0, Some(&[3, 4, 5])), 0);
    let moving = (0, vec![3, 4, 5, 1, 2], vec![4, 5], vec![1, 2]);
    assert_eq!(listed(&cluster, None), std::slice::from_ref(&moving));
    assert_eq!(listed(&cluster, Some(&[0, 1, 9])), [moving]);
    assert_eq!(listed(&cluster, Some(&[1])), []);
    let partition = cluster.partition("t", 0);
    assert_eq!(partition.directories, [3, 4, 5, 1, 2].map(dir));
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), LeaderEpoch(0)));
    assert_eq!(alter(&mut cluster, 0, None), 0);
    let partition = cluster.partition("t", 0);
    assert_eq!((numbers(&partition.replicas), partition.isr), (vec![3, 1, 2], nodes(&[1, 2, 3])));
    assert_eq!(partition.leader_epoch, LeaderEpoch(1), "4 and 5 must notice that they are none any more");
    assert_eq!(listed(&cluster, None), []);
    assert_eq!(alter(&mut cluster, 0, None), ErrorCode::NoReassignmentInProgress.code());
}

#[test]
fn a_new_order_and_fewer_replicas_need_no_waiting() {
    let mut cluster = cluster();
    assert_eq!(alter(&mut cluster, 0, Some(&[3, 2, 1])), 0);
    let partition = cluster.partition("t", 0);
    assert_eq!((numbers(&partition.replicas), partition.leader_epoch), (vec![3, 2, 1], LeaderEpoch(0)));
    assert_eq!(alter(&mut cluster, 0, Some(&[3, 2])), 0);
    let partition = cluster.partition("t", 0);
    assert_eq!((numbers(&partition.replicas), numbers(&partition.isr)), (vec![3, 2], vec![2, 3]));
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(3)), LeaderEpoch(1)));
    let epoch = partition.partition_epoch;
    assert_eq!(alter(&mut cluster, 0, Some(&[3, 2])), 0);
    assert_eq!(cluster.partition("t", 0).partition_epoch, epoch, "nothing to do, nothing written");
}

#[test]
fn refusals() {
    let mut cluster = cluster();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let invalid = ErrorCode::InvalidReplicaAssignment.code();
    let wishes: &[(&str, i32, Option<&[i32]>)] = &[
        ("nope", 0, Some(&[1])),
        ("t", 7, Some(&[1])),
        ("t", 7, None),
        ("t", 0, Some(&[])),
        ("t", 0, Some(&[1, 9])),
        ("t", 0, Some(&[1, 1])),
    ];
    let codes = alter_all(&mut cluster, wishes, true);
    assert_eq!(codes, [unknown, unknown, unknown, invalid, invalid, invalid]);
    let factor = ErrorCode::InvalidReplicationFactor.code();
    assert_eq!(alter_all(&mut cluster, &[("t", 0, Some(&[1, 2]))], false), [factor]);
    assert_eq!(alter_all(&mut cluster, &[("t", 0, Some(&[3, 4, 5]))], false), [0]);
    // While it moves five replicas are there, but three are meant.
    assert_eq!(alter_all(&mut cluster, &[("t", 0, Some(&[1, 2, 3, 4, 5]))], false), [factor]);
    assert_eq!(alter_all(&mut cluster, &[("t", 0, Some(&[2, 4, 5]))], false), [0]);
}

#[test]
fn a_partition_named_twice_is_decided_twice_in_order() {
    let mut cluster = cluster();
    let codes = alter_all(&mut cluster, &[("t", 0, Some(&[3, 4])), ("t", 0, None)], true);
    assert_eq!(codes, [0, 0]);
    assert_eq!(listed(&cluster, None), []);
    let codes = alter_all(&mut cluster, &[("t", 0, Some(&[4])), ("t", 0, Some(&[2, 1]))], true);
    assert_eq!(codes, [0, 0]);
    let partition = cluster.partition("t", 0);
    assert!(partition.adding_replicas.is_empty() && partition.removing_replicas.is_empty());
    assert_eq!(numbers(&partition.replicas), [2, 1]);
}

#[test]
fn giving_up_may_need_an_unclean_election() {
    for allowed in [false, true] {
        let mut cluster = Cluster::with_features(5, &[("eligible.leader.replicas.version", 0)]);
        cluster.create(vec![assigned("t", &[(0, &[1, 2])])]);
        assert_eq!(alter(&mut cluster, 0, Some(&[3, 4])), 0);
        // Only those that were to come are left in sync.
        cluster.change("t", 0, |record| (record.isr, record.leader) = (Some(vec![3]), 3));
        cluster.set_config(2, "t", "unclean.leader.election.enable", Some(&allowed.to_string()));
        let code = alter(&mut cluster, 0, None);
        if allowed {
            assert_eq!(code, 0);
            let partition = cluster.partition("t", 0);
            assert_eq!((partition.leader, numbers(&partition.isr)), (Some(NodeId(1)), vec![1]));
        } else {
            assert_eq!(code, ErrorCode::InvalidReplicaAssignment.code());
        }
    }
}
