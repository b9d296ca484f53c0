//! What an operator does to the cluster as a whole: features, resources with configurations, brokers that are gone.

use super::{Rig, batch};
use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData};
use ottla_protocol::messages::describe_quorum_response::DescribeQuorumResponse;
use ottla_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use ottla_protocol::messages::list_config_resources_response::ListConfigResourcesResponse;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::messages::unregister_broker_request::UnregisterBrokerRequest;
use ottla_protocol::messages::unregister_broker_response::UnregisterBrokerResponse;
use ottla_protocol::messages::unregister_controller_request::UnregisterControllerRequest;
use ottla_protocol::messages::unregister_controller_response::UnregisterControllerResponse;
use ottla_protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use ottla_protocol::messages::update_features_response::UpdateFeaturesResponse;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;

fn resources(rig: &mut Rig, kinds: &[i8], version: i16) -> Result<Vec<(i8, String)>, i16> {
    let answer = rig.ask(&ListConfigResourcesRequest { resource_types: kinds.to_vec() }, version);
    let response: ListConfigResourcesResponse<'_> = read(&answer, version).expect("a response");
    let told = response.config_resources.iter();
    let told = told.map(|resource| (resource.resource_type, resource.resource_name.to_string())).collect();
    if response.error_code == 0 { Ok(told) } else { Err(response.error_code) }
}

#[test]
fn resources_with_configurations() {
    let mut rig = Rig::new();
    let topic = (TOPIC, "t".to_owned());
    let (broker, logger) = ((BROKER, "1".to_owned()), (BROKER_LOGGER, "1".to_owned()));
    assert_eq!(resources(&mut rig, &[TOPIC], 1), Ok(vec![topic.clone()]));
    assert_eq!(resources(&mut rig, &[TOPIC, BROKER], 1), Ok(vec![broker.clone(), topic.clone()]));
    assert_eq!(resources(&mut rig, &[], 1), Ok(vec![logger, broker, topic]));
    assert_eq!(resources(&mut rig, &[CLIENT_METRICS], 1), Ok(vec![]));
    assert_eq!(resources(&mut rig, &[3], 1), Err(ErrorCode::UnsupportedVersion.code()));
    assert_eq!(resources(&mut rig, &[], 0), Ok(vec![]), "version 0 knows client metrics alone");
}

#[test]
fn a_broker_that_is_alive_is_not_forgotten() {
    let mut rig = Rig::new();
    let mut unregister = |broker_id: i32| {
        let answer = rig.ask(&UnregisterBrokerRequest { broker_id }, 0);
        let response: UnregisterBrokerResponse<'_> = read(&answer, 0).expect("a response");
        assert!(response.error_message.is_some());
        response.error_code
    };
    assert_eq!(unregister(1), ErrorCode::InvalidRequest.code());
    assert_eq!(unregister(7), ErrorCode::BrokerIdNotRegistered.code());
}

#[test]
fn the_active_controller_is_not_forgotten_and_nobody_else_is_known() {
    let mut rig = Rig::new();
    let mut unregister = |controller_id: i32| {
        let answer = rig.ask(&UnregisterControllerRequest { controller_id }, 0);
        let response: UnregisterControllerResponse<'_> = read(&answer, 0).expect("a response");
        assert!(response.error_message.is_some());
        response.error_code
    };
    assert_eq!(unregister(1), ErrorCode::InvalidRequest.code());
    assert_eq!(unregister(7), ErrorCode::ControllerIdNotRegistered.code());
}

/// The code of the whole, and those of the features (none from version 2 on).
fn update(rig: &mut Rig, feature: &'static str, level: i16, kind: i8, version: i16) -> (i16, Vec<i16>) {
    let update = FeatureUpdateKey {
        feature: feature.into(),
        max_version_level: level,
        allow_downgrade: version == 0 && kind != 1,
        upgrade_type: if version == 0 { 1 } else { kind },
    };
    let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
    let answer = rig.ask(&request, version);
    let response: UpdateFeaturesResponse<'_> = read(&answer, version).expect("a response");
    (response.error_code, response.results.iter().map(|result| result.error_code).collect())
}

#[test]
fn features_go_up_and_down_where_they_can() {
    let mut rig = Rig::new();
    let elr = "eligible.leader.replicas.version";
    let refused = ErrorCode::InvalidUpdateVersion.code();
    let (upgrade, downgrade) = (1, 2);
    assert_eq!(update(&mut rig, elr, 0, downgrade, 1), (0, vec![0]));
    assert_eq!(update(&mut rig, elr, 1, upgrade, 2), (0, vec![]));
    assert_eq!(update(&mut rig, elr, 0, downgrade, 0), (0, vec![0]));
    assert_eq!(update(&mut rig, elr, 9, upgrade, 2), (refused, vec![]));
    assert_eq!(update(&mut rig, "metadata.version", 99, upgrade, 2), (refused, vec![]));
    assert_eq!(update(&mut rig, "nobody.knows.this", 1, upgrade, 2), (refused, vec![]));
}

#[test]
fn a_quorum_of_one_tells_of_itself() {
    let mut rig = Rig::new();
    let asked = |name: &'static str, index: i32| DescribeQuorumRequest {
        topics: vec![TopicData {
            topic_name: name.into(),
            partitions: vec![PartitionData { partition_index: index }],
        }],
    };
    let mut before = 0;
    for version in 0..=2 {
        let answer = rig.ask(&asked("__cluster_metadata", 0), version);
        let response: DescribeQuorumResponse<'_> = read(&answer, version).expect("a response");
        let told = &response.topics[0].partitions[0];
        assert_eq!((response.error_code, told.error_code, told.leader_id), (0, 0, 1), "v{version}");
        let voters: Vec<i32> = told.current_voters.iter().map(|voter| voter.replica_id).collect();
        assert_eq!((voters, told.observers.len()), (vec![1], 0));
        let voter = &told.current_voters[0];
        assert!(told.high_watermark > before && voter.log_end_offset == told.high_watermark, "v{version}");
        before = told.high_watermark;
        // When it was caught up is told from version 1 on, who the nodes are from version 2 on.
        assert_eq!(voter.last_caught_up_timestamp, if version == 0 { -1 } else { rig.world.now });
        assert_eq!(response.nodes.len(), usize::from(version == 2));
        assert_eq!(update(&mut rig, "eligible.leader.replicas.version", 1, 1, 2), (0, vec![]));
    }
    for (name, index) in [("__cluster_metadata", 1), ("t", 0)] {
        let answer = rig.ask(&asked(name, index), 2);
        let response: DescribeQuorumResponse<'_> = read(&answer, 2).expect("a response");
        let told = &response.topics[0].partitions[0];
        assert_eq!(told.error_code, ErrorCode::UnknownTopicOrPartition.code(), "{name}-{index}");
    }
}

#[test]
fn a_dry_run_changes_no_feature() {
    let mut rig = Rig::new();
    let finalised = |rig: &mut Rig| {
        let named = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = rig.ask(&named, 3);
        let response: ApiVersionsResponse<'_> = read(&answer, 3).expect("a response");
        let found = response.finalized_features.iter().find(|feature| feature.name == "transaction.version");
        found.map(|feature| feature.max_version_level)
    };
    let mut wish = |level: i16, upgrade_type: i8, validate_only: bool| {
        let update = FeatureUpdateKey {
            feature: "transaction.version".into(),
            max_version_level: level,
            upgrade_type,
            ..Default::default()
        };
        let request =
            UpdateFeaturesRequest { feature_updates: vec![update], validate_only, ..Default::default() };
        let answer = rig.ask(&request, 2);
        let response: UpdateFeaturesResponse<'_> = read(&answer, 2).expect("a response");
        (response.error_code, finalised(&mut rig))
    };
    let refused = ErrorCode::InvalidUpdateVersion.code();
    let (upgrade, downgrade) = (1, 2);
    assert_eq!(wish(1, downgrade, true), (0, Some(2)));
    assert_eq!(wish(1, upgrade, true), (refused, Some(2)));
    assert_eq!(wish(9, upgrade, true), (refused, Some(2)));
    assert_eq!(wish(1, downgrade, false), (0, Some(1)));
    assert_eq!(wish(2, downgrade, true), (refused, Some(1)));
    assert_eq!(wish(2, upgrade, true), (0, Some(1)));
    assert_eq!(wish(2, upgrade, false), (0, Some(2)));
}

/// A laptop that was asleep: nobody else can have taken over, so nothing is handed over.
#[test]
fn a_node_that_slept_goes_on_where_it_was() {
    let mut rig = Rig::new();
    let epoch = |rig: &mut Rig| {
        let request = MetadataRequest { topics: None, ..Default::default() };
        let answer = rig.ask(&request, 12);
        let response: MetadataResponse<'_> = read(&answer, 12).expect("a metadata response");
        let partition = &response.topics[0].partitions[0];
        (response.brokers.len(), partition.leader_id, partition.leader_epoch)
    };
    let before = epoch(&mut rig);
    rig.world.now += 3_600_000;
    let soon = rig.world.now + 30_000;
    while rig.world.step(soon) {}
    assert_eq!(epoch(&mut rig), before);
    let records = batch(&["a"], rig.world.now);
    assert_eq!(rig.produced(0, -1, &records), (0, 0));
}
