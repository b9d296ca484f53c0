//! Directories of replicas: assigned by their brokers, and lost.

use super::{Cluster, assigned, dir, uuid};
use crate::assign_replicas_to_dirs;
use ottla_metadata::topic::nodes;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::assign_replicas_to_dirs_request::{
    AssignReplicasToDirsRequest, DirectoryData, PartitionData, TopicData,
};
use ottla_protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use ottla_protocol::{ErrorCode, Uuid};

fn cluster() -> Cluster {
    let mut cluster = Cluster::with(3);
    cluster.create(vec![assigned("t", &[(0, &[1, 2]), (1, &[2, 3])])]);
    cluster
}

fn assign(cluster: &mut Cluster, broker: i32, directory: Uuid, topic: Uuid, indexes: &[i32]) -> Vec<i16> {
    let partitions = indexes.iter().map(|index| PartitionData { partition_index: *index }).collect();
    let topics = vec![TopicData { topic_id: topic, partitions }];
    let request = AssignReplicasToDirsRequest {
        broker_id: broker,
        broker_epoch: cluster.broker_epoch(broker),
        directories: vec![DirectoryData { id: directory, topics }],
    };
    let decided = assign_replicas_to_dirs(&cluster.controller.context(), &request).expect("known");
    let response = cluster.append(decided);
    assert_eq!(response.directories[0].id, directory);
    response.directories[0].topics[0].partitions.iter().map(|answer| answer.error_code).collect()
}

#[test]
fn a_broker_tells_where_its_replica_is() {
    let mut cluster = cluster();
    let topic = cluster.controller.image().topic_id("t").expect("there").0;
    let before = cluster.log.len();
    assert_eq!(assign(&mut cluster, 1, dir(1), topic, &[0]), [0]);
    assert_eq!(cluster.log.len(), before, "it is there already");
    let codes = [ErrorCode::NotLeaderOrFollower.code(), ErrorCode::UnknownTopicOrPartition.code()];
    assert_eq!(assign(&mut cluster, 1, dir(1), topic, &[1, 9]), codes);
    assert_eq!(assign(&mut cluster, 1, dir(1), uuid(77), &[0]), [ErrorCode::UnknownTopicId.code()]);
    let stale = AssignReplicasToDirsRequest { broker_id: 1, broker_epoch: 0, directories: Vec::new() };
    let refused = assign_replicas_to_dirs(&cluster.controller.context(), &stale).expect_err("another life");
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch);
}

#[test]
fn a_replica_in_a_directory_that_is_offline_can_not_lead() {
    let mut cluster = cluster();
    let topic = cluster.controller.image().topic_id("t").expect("there").0;
    assert_eq!(cluster.partition("t", 0).leader, Some(NodeId(1)));
    assert_eq!(assign(&mut cluster, 1, uuid(66), topic, &[0]), [0]);
    let partition = cluster.partition("t", 0);
    assert_eq!((partition.leader, partition.isr), (Some(NodeId(2)), nodes(&[2])));
    assert_eq!(partition.directories, [uuid(66), dir(2)]);
}

#[test]
fn a_directory_that_fails_costs_what_was_in_it() {
    let mut cluster = cluster();
    let mut beat = |offline: Vec<Uuid>| {
        let request = BrokerHeartbeatRequest {
            broker_id: 2,
            broker_epoch: cluster.broker_epoch(2),
            current_metadata_offset: 1_000,
            offline_log_dirs: offline,
            ..Default::default()
        };
        let decided = cluster.controller.heartbeat(&request, true).expect("known");
        cluster.append(decided);
        cluster.log.len()
    };
    let before = beat(Vec::new());
    assert_eq!(beat(vec![uuid(55)]), before, "a directory that was never registered");
    assert_eq!(beat(vec![dir(2)]), before + 3, "two partitions and the registration");
    assert_eq!(cluster.partition("t", 0).isr, nodes(&[1]));
    assert_eq!(cluster.partition("t", 1).leader, Some(NodeId(3)));
}

#[test]
fn nobody_is_unfenced_while_its_directories_fail() {
    let mut cluster = cluster();
    cluster.fence(2);
    cluster.fence(1);
    assert_eq!(cluster.partition("t", 0).leader, None);
    let mut beat = |offline: Vec<Uuid>, want_fence: bool| {
        let request = BrokerHeartbeatRequest {
            broker_id: 1,
            broker_epoch: cluster.broker_epoch(1),
            current_metadata_offset: 1_000,
            offline_log_dirs: offline,
            want_fence,
            ..Default::default()
        };
        let decided = cluster.controller.heartbeat(&request, true).expect("known");
        let response = cluster.append(decided);
        (response.is_fenced, cluster.partition("t", 0).leader)
    };
    assert_eq!(beat(vec![dir(1)], false), (true, None));
    assert_eq!(beat(Vec::new(), false), (false, Some(NodeId(1))), "it is back");
    assert_eq!(beat(vec![dir(1)], true), (true, None));
}
