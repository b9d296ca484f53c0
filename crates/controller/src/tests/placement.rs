//! Placement: spread over the brokers, never led by a fenced one.

use super::{Cluster, topic};
use ottla_protocol::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn replicas_differ_and_leaders_spread() {
    let mut cluster = Cluster::with(5);
    cluster.create(vec![topic("t", 50, 3)]);
    let mut leaders = BTreeMap::<i32, i32>::new();
    for index in 0..50 {
        let partition = cluster.partition("t", index);
        assert_eq!(partition.replicas.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!((partition.leader, &partition.isr), (Some(partition.replicas[0]), &partition.replicas));
        *leaders.entry(partition.leader_or_none()).or_default() += 1;
    }
    assert!(leaders.values().all(|count| *count == 10), "{leaders:?}");
}

#[test]
fn fenced_brokers_come_last_and_never_lead() {
    let mut cluster = Cluster::with(4);
    cluster.fence(2);
    cluster.fence(3);
    cluster.create(vec![topic("two", 20, 2), topic("four", 20, 4)]);
    for index in 0..20 {
        let alive = |id: &NodeId| matches!(id.0, 1 | 4);
        assert!(cluster.partition("two", index).replicas.iter().all(alive));
        let four = cluster.partition("four", index);
        assert!(four.leader.as_ref().is_some_and(alive) && four.isr.iter().all(alive) && four.isr.len() == 2);
        assert_eq!(four.replicas.len(), 4);
    }
}

#[test]
fn brokers_that_leave_take_nothing_new() {
    let mut cluster = Cluster::with(3);
    let decision = cluster.controller.begin_controlled_shutdown(NodeId(2)).expect("registered");
    cluster.append(decision);
    cluster.create(vec![topic("t", 20, 2)]);
    for index in 0..20 {
        assert!(!cluster.partition("t", index).replicas.contains(&NodeId(2)));
    }
}

#[test]
fn the_same_seed_places_the_same() {
    let placed = || {
        let mut cluster = Cluster::with(5);
        cluster.create(vec![topic("t", 30, 3), topic("u", 7, 2)]);
        cluster.log
    };
    assert_eq!(placed(), placed());
}
