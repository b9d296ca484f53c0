//! Elections that somebody asks for, and those that the controller holds from time to time.

use super::{Cluster, assigned};
use crate::{balance_leaders, elect_leaders, elect_unclean_leaders};
use ottla_metadata::topic::nodes;
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// t-0 on 1, 2; t-1 on 2, 1; alone-0 on 3. Broker 1 went and came back, so that 2 leads all it can.
fn cluster() -> Cluster {
    let mut cluster = Cluster::with_features(3, &[("eligible.leader.replicas.version", 0)]);
    cluster.create(vec![assigned("t", &[(0, &[1, 2]), (1, &[2, 1])]), assigned("alone", &[(0, &[3])])]);
    cluster.fence(1);
    cluster.unfence(1);
    cluster
}

fn back_in_sync(cluster: &mut Cluster) {
    cluster.change("t", 0, |record| record.isr = Some(vec![2, 1]));
}

/// What each partition of `t` is answered: the code of the whole, and (partition, code).
fn elect(cluster: &mut Cluster, kind: i8, asked: Option<&[i32]>, version: i16) -> (i16, Vec<(i32, i16)>) {
    elect_of(cluster, "t", kind, asked, version)
}

fn elect_of(
    cluster: &mut Cluster,
    topic: &'static str,
    kind: i8,
    asked: Option<&[i32]>,
    version: i16,
) -> (i16, Vec<(i32, i16)>) {
    let topics = asked
        .map(|partitions| vec![TopicPartitions { topic: topic.into(), partitions: partitions.to_vec() }]);
    let request = ElectLeadersRequest { election_type: kind, topic_partitions: topics, ..Default::default() };
    let response = {
        let decision = elect_leaders(&cluster.controller.context(), &request, version);
        cluster.append(decision)
    };
    let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    (response.error_code, results.map(|result| (result.partition_id, result.error_code)).collect())
}

#[test]
fn preferred_leaders_come_back_when_they_are_in_sync() {
    let mut cluster = cluster();
    assert_eq!(cluster.partition("t", 0).leader, Some(NodeId(2)));
    let (_, answers) = elect(&mut cluster, PREFERRED, Some(&[0, 1, 7]), 2);
    assert_eq!(
        answers,
        [
            (0, ErrorCode::PreferredLeaderNotAvailable.code()),
            (1, ErrorCode::ElectionNotNeeded.code()),
            (7, ErrorCode::UnknownTopicOrPartition.code())
        ]
    );
    back_in_sync(&mut cluster);
    // Version 0 has no type; what the field holds does not matter.
    assert_eq!(elect(&mut cluster, UNCLEAN, Some(&[0]), 0), (0, vec![(0, 0)]));
    assert_eq!(cluster.partition("t", 0).leader, Some(NodeId(1)));
}

#[test]
fn everywhere_tells_only_what_was_needed() {
    let mut cluster = cluster();
    back_in_sync(&mut cluster);
    assert_eq!(elect(&mut cluster, PREFERRED, None, 2), (0, vec![(0, 0)]));
    assert_eq!(elect(&mut cluster, PREFERRED, None, 2), (0, vec![]));
}

#[test]
fn unclean_elections_on_request() {
    let mut cluster = cluster();
    cluster.fence(2);
    assert_eq!(cluster.partition("t", 0).leader, None);
    let (_, answers) = elect(&mut cluster, UNCLEAN, Some(&[0]), 1);
    assert_eq!(answers, [(0, 0)]);
    let after = cluster.partition("t", 0);
    assert_eq!((after.leader, after.isr), (Some(NodeId(1)), nodes(&[1])));
    let (_, answers) = elect_of(&mut cluster, "alone", UNCLEAN, Some(&[0]), 1);
    assert_eq!(answers, [(0, ErrorCode::ElectionNotNeeded.code())]);
    cluster.fence(3);
    let (_, answers) = elect_of(&mut cluster, "alone", UNCLEAN, Some(&[0]), 1);
    assert_eq!(answers, [(0, ErrorCode::EligibleLeadersNotAvailable.code())]);
}

#[test]
fn unknown_elections_and_topics() {
    let mut cluster = cluster();
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!(elect(&mut cluster, 2, Some(&[0]), 2), (invalid, vec![(0, invalid)]));
    let topics = vec![TopicPartitions { topic: "nope".into(), partitions: vec![0] }];
    let request = ElectLeadersRequest { topic_partitions: Some(topics), ..Default::default() };
    let decision = elect_leaders(&cluster.controller.context(), &request, 2);
    let result = &decision.response.replica_election_results[0].partition_result[0];
    assert_eq!(result.error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn balancing_moves_leaders_back_in_bounded_rounds() {
    let mut cluster = Cluster::with(3);
    let assignments: Vec<(i32, &[i32])> = (0..5).map(|index| (index, &[1, 2][..])).collect();
    cluster.create(vec![assigned("t", &assignments)]);
    cluster.fence(1);
    cluster.unfence(1);
    let decision = balance_leaders(&cluster.controller.context(), 2);
    assert!(decision.records.is_empty() && !decision.response, "1 is not in sync");
    for index in 0..5 {
        cluster.change("t", index, |record| record.isr = Some(vec![1, 2]));
    }
    let mut rounds = Vec::new();
    loop {
        let decision = balance_leaders(&cluster.controller.context(), 2);
        rounds.push(decision.records.len());
        if !cluster.append(decision) {
            break;
        }
    }
    assert_eq!(rounds, [2, 2, 1]);
    assert!((0..5).all(|index| cluster.partition("t", index).leader == Some(NodeId(1))));
}

#[test]
fn topics_that_allow_it_get_a_leader_in_the_end() {
    let mut cluster = cluster();
    cluster.fence(2);
    let decision = elect_unclean_leaders(&cluster.controller.context(), 10);
    assert!(decision.records.is_empty(), "not allowed");
    cluster.set_config(2, "t", "unclean.leader.election.enable", Some("true"));
    let decision = elect_unclean_leaders(&cluster.controller.context(), 10);
    assert!(!cluster.append(decision));
    assert_eq!(cluster.partition("t", 0).leader, Some(NodeId(1)));
}
