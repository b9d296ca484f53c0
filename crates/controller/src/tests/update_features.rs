//! UpdateFeatures: up, down, and what stands in the way.

use super::Cluster;
use crate::Quorum;
use ottla_metadata::ResourceType;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use std::borrow::Cow;

const ELR: &str = "eligible.leader.replicas.version";
const UPGRADE: i8 = 1;
const SAFE: i8 = 2;
const UNSAFE: i8 = 3;
/// A quorum of this controller alone, which can change.
const QUORUM: Quorum<'static> = Quorum { kraft_version: 1, voters: &[1], may_upgrade: &|_| false };

fn wish(feature: &'static str, level: i16, upgrade_type: i8) -> FeatureUpdateKey<'static> {
    FeatureUpdateKey {
        feature: Cow::Borrowed(feature),
        max_version_level: level,
        upgrade_type,
        ..Default::default()
    }
}

fn request(feature_updates: Vec<FeatureUpdateKey<'static>>) -> UpdateFeaturesRequest<'static> {
    UpdateFeaturesRequest { feature_updates, ..Default::default() }
}

fn check(cluster: &Cluster, wish: FeatureUpdateKey<'static>, says: Option<&str>) {
    let decision = cluster.controller.update_features(&request(vec![wish]), 2, QUORUM);
    let message = decision.response.response.error_message.unwrap_or_default();
    let code = if says.is_some() { ErrorCode::InvalidUpdateVersion } else { ErrorCode::None };
    assert_eq!(decision.response.response.error_code, code.code(), "{message}");
    assert!(message.contains(says.unwrap_or_default()), "{message:?} does not say {says:?}");
    assert_eq!(decision.records.is_empty(), says.is_some());
}

#[test]
fn up_and_down() {
    let cluster = Cluster::with(1);
    let check = |feature, level, kind, says: Option<&str>| check(&cluster, wish(feature, level, kind), says);
    check(ELR, 1, UPGRADE, None);
    check(ELR, 0, SAFE, None);
    check(ELR, 0, UPGRADE, Some("Can't downgrade the version of this feature without"));
    check(ELR, 1, 9, Some("does not support the given upgrade type"));
    check(ELR, -1, SAFE, Some("cannot be less than 0"));
    check(ELR, 2, UPGRADE, Some("Local controller 1 only supports versions 0-1"));
    check("nope", 0, SAFE, Some("Feature nope not found."));
    check("nope", 1, UPGRADE, Some("does not support this feature"));
    check("metadata.version", 33, UPGRADE, None);
    check("metadata.version", 34, UPGRADE, Some("only supports versions 7-33"));
    check("metadata.version", 6, SAFE, Some("only supports versions 7-33"));
    check("metadata.version", 32, SAFE, Some("might delete metadata information"));
    check("metadata.version", 32, UNSAFE, Some("Unsafe metadata downgrade is not supported"));
    check("kraft.version", 1, UPGRADE, None);
    check("kraft.version", 0, SAFE, Some("Can't downgrade"));
}

#[test]
fn levels_that_hold_together() {
    let mut cluster = Cluster::with_features(1, &[(ELR, 0)]);
    let downgrade_type_for_more = wish(ELR, 1, SAFE);
    check(&cluster, downgrade_type_for_more, Some("Can't downgrade to a newer"));
    // Turning eligible replicas on gives the cluster its minimum, and takes those of brokers.
    cluster.set_config(4, "1", "min.insync.replicas", Some("2"));
    let decision = cluster.controller.update_features(&request(vec![wish(ELR, 1, UPGRADE)]), 2, QUORUM);
    assert_eq!(decision.records.len(), 3);
    cluster.append(decision);
    let image = cluster.controller.image();
    assert_eq!(image.config_value(ResourceType::BROKER, "", "min.insync.replicas"), Some("1"));
    assert_eq!(image.config(ResourceType::BROKER, "1"), None);
    assert!(image.elr_enabled());
}

#[test]
fn all_or_none() {
    let cluster = Cluster::with(1);
    let decision = cluster.controller.update_features(
        &request(vec![wish(ELR, 1, UPGRADE), wish("nope", 1, UPGRADE)]),
        1,
        QUORUM,
    );
    assert_eq!((decision.records.len(), decision.response.response.results.len()), (0, 0));
    assert_eq!(decision.response.response.error_code, ErrorCode::InvalidUpdateVersion.code());
    let twice = cluster.controller.update_features(
        &request(vec![wish(ELR, 1, UPGRADE), wish(ELR, 1, UPGRADE)]),
        1,
        QUORUM,
    );
    assert_eq!(twice.response.response.error_code, ErrorCode::InvalidUpdateVersion.code());
}

#[test]
fn answers_by_version() {
    let cluster = Cluster::with(1);
    let results = |version| {
        let decision =
            cluster.controller.update_features(&request(vec![wish(ELR, 1, UPGRADE)]), version, QUORUM);
        assert!(matches!(decision.records[0], MetadataRecord::FeatureLevelRecord(_)));
        decision.response.response.results.len()
    };
    assert_eq!((results(0), results(1), results(2)), (1, 1, 0));
    let mut old = request(vec![FeatureUpdateKey { allow_downgrade: true, ..wish(ELR, 0, UPGRADE) }]);
    assert_eq!(cluster.controller.update_features(&old, 0, QUORUM).response.response.error_code, 0);
    old.validate_only = true;
    assert_eq!(cluster.controller.update_features(&old, 0, QUORUM).records, []);
}

#[test]
fn every_node_must_support_the_level() {
    let mut cluster = Cluster::with_features(1, &[(ELR, 0)]);
    let mut request = super::registration_request(2, 2, -1);
    request.features.retain(|feature| feature.name != ELR);
    let decision = cluster.controller.register_broker(&request, cluster.registration()).expect("accepted");
    cluster.append(decision);
    check(&cluster, wish(ELR, 1, UPGRADE), Some("Broker 2 does not support this feature"));
}

#[test]
fn the_quorum_is_raised_when_all_its_voters_support_the_level() {
    let cluster = Cluster::with(1);
    let decide = |quorum: Quorum<'_>, level: i16, kind: i8, validate_only: bool| {
        let request =
            UpdateFeaturesRequest { validate_only, ..request(vec![wish("kraft.version", level, kind)]) };
        cluster.controller.update_features(&request, 2, quorum)
    };
    let ready = Quorum { kraft_version: 0, voters: &[1], may_upgrade: &|level| level == 1 };
    let raised = decide(ready, 1, UPGRADE, false);
    assert_eq!((raised.response.response.error_code, raised.response.kraft_version), (0, Some(1)));
    assert!(matches!(raised.records[..], [MetadataRecord::NoOpRecord(_)]), "something to wait for");
    let looked = decide(ready, 1, UPGRADE, true);
    assert_eq!((looked.response.response.error_code, looked.response.kraft_version), (0, None));
    assert_eq!(looked.records, []);
    let again = decide(QUORUM, 1, UPGRADE, false);
    assert_eq!((again.response.kraft_version, again.records.len()), (None, 1), "it is so already");
    assert_eq!(decide(QUORUM, 1, SAFE, false).records, []);

    let told = |quorum: Quorum<'_>| {
        let refused = decide(quorum, 1, UPGRADE, false).response;
        assert_eq!(refused.kraft_version, None);
        assert_eq!(refused.response.error_code, ErrorCode::InvalidUpdateVersion.code());
        refused.response.error_message.unwrap_or_default().into_owned()
    };
    let unready = Quorum { may_upgrade: &|_| false, ..ready };
    assert!(told(unready).ends_with(
        "Invalid upgrade of kraft.version to KRAFT_VERSION_1 because not all of the voters support it"
    ));
    let unknown = Quorum { voters: &[1, 3], ..ready };
    assert!(told(unknown).ends_with("controller 3 has not registered, and may not support this feature"));
}
