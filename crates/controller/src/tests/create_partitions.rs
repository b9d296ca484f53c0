//! CreatePartitions: a topic grows, and only that.

use super::{Cluster, topic};
use crate::unlimited;
use ottla_metadata::topic::nodes;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use std::borrow::Cow;

fn wish(name: &'static str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic<'static> {
    let assignments = assignments.map(|lists| {
        lists.iter().map(|ids| CreatePartitionsAssignment { broker_ids: ids.to_vec() }).collect()
    });
    CreatePartitionsTopic { name: Cow::Borrowed(name), count, assignments }
}

fn request(topics: Vec<CreatePartitionsTopic<'static>>) -> CreatePartitionsRequest<'static> {
    CreatePartitionsRequest { topics, ..Default::default() }
}

fn check(cluster: &mut Cluster, wish: CreatePartitionsTopic<'static>, code: ErrorCode, says: &str) {
    let decision = cluster.controller.create_partitions(&request(vec![wish]), &mut unlimited);
    let answer = &decision.response.results[0];
    let message = answer.error_message.as_deref().unwrap_or_default();
    assert_eq!(answer.error_code, code.code(), "{message}");
    assert!(message.contains(says), "{message:?} does not say {says:?}");
    assert_eq!(decision.records.is_empty(), code != ErrorCode::None);
}

#[test]
fn refusals() {
    let mut cluster = Cluster::with(3);
    cluster.create(vec![topic("t", 2, 2)]);
    let mut check = |wish, code, says: &str| check(&mut cluster, wish, code, says);
    check(wish("nope", 3, None), ErrorCode::UnknownTopicOrPartition, "");
    check(wish("t", 2, None), ErrorCode::InvalidPartitions, "already has 2 partition(s)");
    check(wish("t", 1, None), ErrorCode::InvalidPartitions, "would not be an increase");
    check(wish("t", -1, None), ErrorCode::InvalidPartitions, "would not be an increase");
    check(wish("t", i32::MAX, None), ErrorCode::PolicyViolation, "too many partitions");
    check(wish("t", 4, Some(&[&[1, 2]])), ErrorCode::InvalidReplicaAssignment, "assigned for 1");
    check(wish("t", 3, Some(&[&[1]])), ErrorCode::InvalidReplicaAssignment, "other partitions have 2");
    check(
        wish("t", 3, Some(&[&[1, 9]])),
        ErrorCode::InvalidReplicaAssignment,
        "no such broker is registered",
    );
    check(wish("t", 3, Some(&[&[2, 2]])), ErrorCode::InvalidReplicaAssignment, "two replicas");
    check(wish("t", 3, Some(&[&[]])), ErrorCode::InvalidReplicaAssignment, "no replicas");
    check(wish("t", 3, Some(&[&[3, 1]])), ErrorCode::None, "");
    check(wish("t", 3, None), ErrorCode::None, "");
}

#[test]
fn growth() {
    let mut cluster = Cluster::with(3);
    cluster.create(vec![topic("t", 2, 2)]);
    cluster.fence(3);
    let decision = cluster
        .controller
        .create_partitions(&request(vec![wish("t", 4, Some(&[&[3, 1], &[2, 3]]))]), &mut unlimited);
    cluster.append(decision);
    let partition = cluster.partition("t", 2);
    assert_eq!((partition.replicas, partition.isr), (nodes(&[3, 1]), nodes(&[1])));
    let decision = cluster.controller.create_partitions(&request(vec![wish("t", 10, None)]), &mut unlimited);
    cluster.append(decision);
    assert_eq!(cluster.controller.image().topic_by_name("t").expect("there").partition_count(), 10);
    assert_eq!(cluster.partition("t", 9).replicas.len(), 2);
    // Only fenced brokers are left for an assignment, or at all.
    check(&mut cluster, wish("t", 11, Some(&[&[3, 3]])), ErrorCode::InvalidReplicaAssignment, "");
    cluster.fence(1);
    cluster.fence(2);
    check(
        &mut cluster,
        wish("t", 11, Some(&[&[3, 1]])),
        ErrorCode::InvalidReplicaAssignment,
        "is fenced or in",
    );
    check(&mut cluster, wish("t", 11, None), ErrorCode::InvalidReplicationFactor, "fenced");
}

#[test]
fn repeated_topics_and_validation() {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("t", 1, 1), topic("u", 1, 1)]);
    let topics = vec![wish("t", 2, None), wish("u", 2, None), wish("t", 3, None)];
    let decision = cluster.controller.create_partitions(&request(topics.clone()), &mut unlimited);
    let codes: Vec<_> = decision.response.results.iter().map(|r| (r.name.as_ref(), r.error_code)).collect();
    assert_eq!(codes, [("t", 42), ("u", 0)]);
    assert_eq!(decision.records.len(), 1);
    let only = CreatePartitionsRequest { validate_only: true, ..request(topics) };
    let decision = cluster.controller.create_partitions(&only, &mut unlimited);
    assert_eq!((decision.records.len(), decision.response.results[1].error_code), (0, 0));
}
