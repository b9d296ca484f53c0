//! What clients read about a cluster before they do anything: brokers, topics, coordinators, directories.

use super::{Rig, SETTINGS, batch};
use crate::client::read;
use crate::world::World;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::describe_cluster_response::DescribeClusterResponse;
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::describe_groups_response::DescribeGroupsResponse;
use ottla_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsResponse;
use ottla_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use ottla_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponse;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;

const EVERYTHING: MetadataRequest<'static> = MetadataRequest {
    topics: None,
    allow_auto_topic_creation: false,
    include_cluster_authorized_operations: false,
    include_topic_authorized_operations: false,
};

fn coordinators(rig: &mut Rig, key_type: i8, keys: &[&'static str]) -> Vec<(String, i32, String, i32, i16)> {
    let coordinator_keys = keys.iter().map(|key| (*key).into()).collect();
    let request = FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
    let answer = rig.ask(&request, 4);
    let response: FindCoordinatorResponse<'_> = read(&answer, 4).expect("a find coordinator response");
    let told = response.coordinators.into_iter();
    told.map(|it| (it.key.into_owned(), it.node_id, it.host.into_owned(), it.port, it.error_code)).collect()
}

#[test]
fn a_topic_can_be_used_as_soon_as_it_is_created() {
    let mut rig = Rig::new();
    let answer = rig.ask(&EVERYTHING, 12);
    let response: MetadataResponse<'_> = read(&answer, 12).expect("a metadata response");
    let topic = &response.topics[0];
    assert_eq!((topic.error_code, topic.partitions.len()), (0, 2));
    for (index, partition) in topic.partitions.iter().enumerate() {
        assert_eq!((partition.error_code, partition.partition_index), (0, index as i32));
        assert_eq!((partition.leader_id, partition.leader_epoch), (1, 0));
        assert_eq!((&partition.replica_nodes[..], &partition.isr_nodes[..]), (&[1][..], &[1][..]));
        assert!(partition.offline_replicas.is_empty());
        let records = batch(&["a"], rig.world.now);
        assert_eq!(rig.produced(partition.partition_index, -1, &records), (0, 0));
    }
}

#[test]
fn the_cluster_has_a_name_a_controller_and_racks() {
    let mut rig = Rig::with(&[("broker.rack", "cellar")]);
    coordinators(&mut rig, 0, &["g"]);
    let answer = rig.ask(&EVERYTHING, 10);
    let metadata: MetadataResponse<'_> = read(&answer, 10).expect("a metadata response");
    let broker = &metadata.brokers[0];
    assert_eq!((broker.node_id, broker.rack.as_deref()), (metadata.controller_id, Some("cellar")));
    let internal: Vec<_> =
        metadata.topics.iter().map(|topic| (topic.name.as_deref(), topic.is_internal)).collect();
    assert_eq!(internal, [(Some("__consumer_offsets"), true), (Some("t"), false)]);
    let answer = rig.ask(&DescribeClusterRequest { endpoint_type: 1, ..Default::default() }, 1);
    let cluster: DescribeClusterResponse<'_> = read(&answer, 1).expect("a describe cluster response");
    assert_eq!(cluster.error_code, 0);
    assert_eq!(Some(&cluster.cluster_id), metadata.cluster_id.as_ref());
    assert_eq!(cluster.cluster_id.len(), 22, "a UUID in base 64");
    assert_eq!(cluster.controller_id, metadata.controller_id);
    let told: Vec<_> = cluster.brokers.iter().map(|it| (it.broker_id, &it.host, it.port, &it.rack)).collect();
    assert_eq!(told, [(broker.node_id, &broker.host, broker.port, &broker.rack)]);
}

/// The most common failure of users: a client is sent to an address that only the inside knows.
#[test]
fn every_listener_tells_its_own_address() {
    let settings = [
        ("listeners", "INSIDE://10.0.0.1:9092,OUTSIDE://0.0.0.0:9094"),
        ("advertised.listeners", "INSIDE://10.0.0.1:9092,OUTSIDE://broker.example:39094"),
        ("listener.security.protocol.map", "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("inter.broker.listener.name", "INSIDE"),
    ];
    let mut rig = Rig { world: World::new(1, &[SETTINGS, &settings].concat()).expect("a node") };
    for (listener, host, port) in [("INSIDE", "10.0.0.1", 9092), ("OUTSIDE", "broker.example", 39094)] {
        rig.world.come_by(listener);
        let answer = rig.ask(&EVERYTHING, 10);
        let metadata: MetadataResponse<'_> = read(&answer, 10).expect("a metadata response");
        let told: Vec<_> = metadata.brokers.iter().map(|broker| (&*broker.host, broker.port)).collect();
        assert_eq!(told, [(host, port)]);
        let found = coordinators(&mut rig, 0, &["g"]);
        assert_eq!(found, [("g".to_owned(), 1, host.to_owned(), port, 0)]);
    }
}

#[test]
fn coordinators_of_many_keys_are_found_at_once_and_stay() {
    let mut rig = Rig::new();
    for key_type in [0, 1] {
        let found = coordinators(&mut rig, key_type, &["b", "a", "c"]);
        let told: Vec<_> = found.iter().map(|(key, node, .., error)| (&**key, *node, *error)).collect();
        assert_eq!(told, [("b", 1, 0), ("a", 1, 0), ("c", 1, 0)], "in the order of the request");
        assert_eq!(coordinators(&mut rig, key_type, &["b", "a", "c"]), found);
    }
    assert_eq!(coordinators(&mut rig, 0, &[""])[0].4, ErrorCode::InvalidGroupId.code());
    assert_eq!(coordinators(&mut rig, 9, &["g"])[0].4, ErrorCode::InvalidRequest.code());
}

/// Null, empty and absent are three things.
#[test]
fn no_topics_may_mean_all_of_them() {
    let mut rig = Rig::new();
    let mut count = |topics: Option<Vec<MetadataRequestTopic<'static>>>, version: i16| {
        let answer =
            rig.ask(&MetadataRequest { topics, allow_auto_topic_creation: true, ..EVERYTHING }, version);
        let response: MetadataResponse<'_> = read(&answer, version).expect("a metadata response");
        response.topics.len()
    };
    assert_eq!(count(Some(Vec::new()), 0), 1, "the oldest version has no null");
    assert_eq!(count(Some(Vec::new()), 1), 0);
    assert_eq!(count(None, 1), 1);
    assert_eq!(count(Some(Vec::new()), 13), 0);
    assert_eq!(count(None, 13), 1);
}

#[test]
fn directories_tell_how_much_is_in_them() {
    let mut rig = Rig::new();
    let records = batch(&["a", "b"], rig.world.now);
    assert_eq!(rig.produced(1, -1, &records), (0, 0));
    let mut sizes = |topics: Option<Vec<DescribableLogDirTopic<'static>>>| {
        let answer = rig.ask(&DescribeLogDirsRequest { topics }, 4);
        let response: DescribeLogDirsResponse<'_> = read(&answer, 4).expect("a describe log dirs response");
        assert_eq!((response.error_code, response.results.len()), (0, 1));
        let dir = &response.results[0];
        assert_eq!((dir.error_code, &*dir.log_dir), (0, "/data"));
        assert!(dir.usable_bytes > 0 && dir.usable_bytes <= dir.total_bytes);
        let partitions = dir.topics.iter().filter(|topic| topic.name == "t");
        let partitions = partitions.flat_map(|topic| &topic.partitions);
        let mut told: Vec<_> =
            partitions.map(|it| (it.partition_index, it.partition_size, it.offset_lag)).collect();
        told.sort_unstable();
        told
    };
    let all = [(0, 0, 0), (1, records.len() as i64, 0)];
    assert_eq!(sizes(None), all);
    let one = DescribableLogDirTopic { topic: "t".into(), partitions: vec![1] };
    assert_eq!(sizes(Some(vec![one])), all[1..]);
    let none = DescribableLogDirTopic { topic: "none".into(), partitions: vec![0] };
    assert_eq!(sizes(Some(vec![none])), []);
}

/// Bits by the codes of Kafka's `AclOperation`: without an authorizer, all that make sense.
#[test]
fn everybody_may_do_everything_and_is_told_so_when_asking() {
    let (on_topic, on_group, on_cluster, not_asked) =
        (0b1101_1111_1000, 0b1101_0100_1000, 0b1_1111_1010_0000, i32::MIN);
    let mut rig = Rig::new();
    coordinators(&mut rig, 0, &["g"]);
    for (asks, of_topic, of_cluster) in [(false, not_asked, not_asked), (true, on_topic, on_cluster)] {
        let request = MetadataRequest {
            include_topic_authorized_operations: asks,
            include_cluster_authorized_operations: asks,
            ..EVERYTHING
        };
        let answer = rig.ask(&request, 9);
        let metadata: MetadataResponse<'_> = read(&answer, 9).expect("a metadata response");
        assert_eq!(metadata.cluster_authorized_operations, of_cluster);
        assert!(metadata.topics.iter().all(|topic| topic.topic_authorized_operations == of_topic));
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: asks,
            endpoint_type: 1,
            ..Default::default()
        };
        let answer = rig.ask(&request, 1);
        let cluster: DescribeClusterResponse<'_> = read(&answer, 1).expect("a describe cluster response");
        assert_eq!(cluster.cluster_authorized_operations, of_cluster);
        let request = DescribeGroupsRequest { groups: vec!["g".into()], include_authorized_operations: asks };
        let answer = rig.ask(&request, 5);
        let groups: DescribeGroupsResponse<'_> = read(&answer, 5).expect("a describe groups response");
        assert_eq!(groups.groups[0].error_code, 0, "a dead group");
        assert_eq!(groups.groups[0].authorized_operations, if asks { on_group } else { not_asked });
    }
}

#[test]
fn a_page_of_partitions_is_never_empty() {
    let mut rig = Rig::new();
    let request = DescribeTopicPartitionsRequest { response_partition_limit: 0, ..Default::default() };
    let answer = rig.ask(&request, 0);
    let page: DescribeTopicPartitionsResponse<'_> = read(&answer, 0).expect("a page");
    assert_eq!((page.topics.len(), page.topics[0].partitions.len()), (1, 1));
    assert_eq!(page.topics[0].topic_authorized_operations, 0b1101_1111_1000);
    let next = page.next_cursor.expect("there is more");
    assert_eq!((&*next.topic_name, next.partition_index), ("t", 1));
}
