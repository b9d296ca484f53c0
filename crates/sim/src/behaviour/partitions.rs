//! Elections and reassignments on a cluster of one: what is not needed, what is complete at once, and what is refused.

use super::Rig;
use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use ottla_protocol::messages::alter_partition_reassignments_response::AlterPartitionReassignmentsResponse;
use ottla_protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use ottla_protocol::messages::elect_leaders_response::ElectLeadersResponse;
use ottla_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use ottla_protocol::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;

/// The code of the whole, and those of the partitions.
fn elect(rig: &mut Rig, kind: i8, partitions: Option<&[i32]>, version: i16) -> (i16, Vec<i16>) {
    let topics = partitions
        .map(|partitions| vec![TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() }]);
    let request = ElectLeadersRequest { election_type: kind, topic_partitions: topics, ..Default::default() };
    let answer = rig.ask(&request, version);
    let response: ElectLeadersResponse<'_> = read(&answer, version).expect("a response");
    let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    (response.error_code, results.map(|result| result.error_code).collect())
}

#[test]
fn the_only_replica_leads_and_needs_no_election() {
    let mut rig = Rig::new();
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    for version in 0..=2 {
        assert_eq!(elect(&mut rig, 0, Some(&[0, 1]), version), (0, vec![not_needed; 2]));
        assert_eq!(elect(&mut rig, 0, None, version), (0, vec![]));
    }
    assert_eq!(elect(&mut rig, 1, Some(&[0]), 2), (0, vec![not_needed]));
    assert_eq!(elect(&mut rig, 0, Some(&[9]), 2), (0, vec![ErrorCode::UnknownTopicOrPartition.code()]));
    let invalid = ErrorCode::InvalidRequest.code();
    assert_eq!(elect(&mut rig, 5, Some(&[0]), 2), (invalid, vec![invalid]));
}

fn reassign(rig: &mut Rig, partition_index: i32, replicas: Option<&[i32]>, version: i16) -> i16 {
    let replicas = replicas.map(<[i32]>::to_vec);
    let partitions = vec![ReassignablePartition { partition_index, replicas }];
    let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
    let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
    let answer = rig.ask(&request, version);
    let response: AlterPartitionReassignmentsResponse<'_> = read(&answer, version).expect("a response");
    assert_eq!((response.error_code, response.allow_replication_factor_change), (0, true));
    response.responses[0].partitions[0].error_code
}

#[test]
fn replicas_stay_where_there_is_one_broker() {
    let mut rig = Rig::new();
    for version in 0..=1 {
        assert_eq!(reassign(&mut rig, 0, Some(&[1]), version), 0);
        let invalid = ErrorCode::InvalidReplicaAssignment.code();
        assert_eq!(reassign(&mut rig, 0, Some(&[1, 2]), version), invalid);
        assert_eq!(reassign(&mut rig, 0, None, version), ErrorCode::NoReassignmentInProgress.code());
        assert_eq!(reassign(&mut rig, 9, Some(&[1]), version), ErrorCode::UnknownTopicOrPartition.code());
    }
    let answer = rig.ask(&ListPartitionReassignmentsRequest::default(), 0);
    let response: ListPartitionReassignmentsResponse<'_> = read(&answer, 0).expect("a response");
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
}
