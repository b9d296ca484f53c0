//! The life of brokers: registration, fencing, restarts clean and unclean, leaving for good; and what their
//! partitions make of it.

use super::{Cluster, assigned, dir, registration_request, topic, uuid};
use crate::{ApiError, Registration, leads_any};
use ottla_metadata::topic::nodes;
use ottla_metadata::{LeaderRecoveryState, Partition};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use ottla_protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use ottla_protocol::messages::broker_registration_request::BrokerRegistrationRequest;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;

/// Leader, leader epoch, ISR, ELR and last known leader in one line.
fn shown(partition: &Partition) -> String {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|n| n.0.to_string()).collect::<Vec<_>>().join(",");
    let recovering =
        if partition.leader_recovery_state == LeaderRecoveryState::Recovering { " recovering" } else { "" };
    format!(
        "leader {} epoch {} isr [{}] elr [{}] last [{}]{recovering}",
        partition.leader_or_none(),
        partition.leader_epoch.0,
        ids(&partition.isr),
        ids(&partition.elr),
        ids(&partition.last_known_elr)
    )
}

const WITHOUT_ELR: &[(&str, i16)] = &[("eligible.leader.replicas.version", 0)];

#[test]
fn the_epoch_is_the_offset() {
    let mut cluster = Cluster::bare(&[], crate::Settings::default(), 1);
    let before = cluster.log.len() as i64;
    assert_eq!(cluster.register(1, 1, -1), before);
    assert!(
        matches!(cluster.log.last(), Some(MetadataRecord::RegisterBrokerRecord(r)) if r.fenced && r.broker_epoch == before)
    );
    // The same process again: everything stays, listeners may change.
    cluster.unfence(1);
    assert_eq!(cluster.register(1, 1, -1), before);
    assert!(cluster.controller.image().is_active(NodeId(1)));
    // Another process: a new epoch, and fenced.
    let next = cluster.register(1, 2, -1);
    assert!(next > before && !cluster.controller.image().is_active(NodeId(1)));
}

#[test]
fn refused_registrations() {
    let mut cluster = Cluster::with(1);
    let registration = cluster.registration();
    let alive = Registration { has_live_session: true, ..registration };
    let check =
        |request: BrokerRegistrationRequest<'_>, registration: Registration, code: ErrorCode, says: &str| {
            let refused = cluster.controller.register_broker(&request, registration);
            let error: ApiError = refused.expect_err(says);
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(says), "{error}");
        };
    let good = || registration_request(2, 9, -1);
    check(
        BrokerRegistrationRequest { cluster_id: Cow::Borrowed("other"), ..good() },
        registration,
        ErrorCode::InconsistentClusterId,
        "This is cluster cluster; the broker belongs to cluster other.",
    );
    check(registration_request(1, 9, -1), alive, ErrorCode::DuplicateBrokerRegistration, "Another process");
    check(
        BrokerRegistrationRequest { is_migrating_zk_broker: true, ..good() },
        registration,
        ErrorCode::BrokerIdNotRegistered,
        "ZooKeeper",
    );
    let dirs = |log_dirs| BrokerRegistrationRequest { log_dirs, ..good() };
    let invalid = ErrorCode::InvalidRegistration;
    check(dirs(vec![]), registration, invalid, "no log directory");
    check(dirs(vec![ottla_metadata::directory::LOST]), registration, invalid, "reserved");
    check(dirs(vec![uuid(5), uuid(5)]), registration, invalid, "the same id");
    check(dirs(vec![dir(1)]), registration, invalid, "belongs to broker 1");
    let without = |name: &str| {
        let mut request = good();
        request.features.retain(|feature| feature.name != name);
        request
    };
    check(without("metadata.version"), registration, invalid, "levels of metadata.version");
    let unsupported = ErrorCode::UnsupportedVersion;
    check(
        without("eligible.leader.replicas.version"),
        registration,
        unsupported,
        "eligible.leader.replicas.version at level 1",
    );
    check(without("kraft.version"), registration, unsupported, "kraft.version at level 1");
    let mut old = good();
    old.features
        .iter_mut()
        .filter(|f| f.name == "metadata.version")
        .for_each(|f| f.max_supported_version = 32);
    check(old, registration, unsupported, "levels 7 to 32");
    let mut newer = good();
    newer.features[0].name = Cow::Borrowed("from.the.future");
    newer.features[0].min_supported_version = 1;
    check(newer, Registration { kraft_version: 0, ..registration }, unsupported, "finalized");
    // The session of the same incarnation does no harm.
    let again = registration_request(1, 1, -1);
    assert!(cluster.controller.register_broker(&again, alive).is_ok());
    cluster.unfence(1);
}

#[test]
fn a_cluster_of_one_restarts_cleanly() {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("t", 1, 1)]);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 1 epoch 0 isr [1] elr [] last []");
    let epoch = cluster.broker_epoch(1);
    cluster.register(1, 2, epoch);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader -1 epoch 1 isr [] elr [1] last [1]");
    cluster.unfence(1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 1 epoch 2 isr [1] elr [] last []");
}

#[test]
fn a_cluster_of_one_restarts_uncleanly() {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("t", 1, 1)]);
    cluster.register(1, 2, -1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader -1 epoch 1 isr [] elr [] last [1]");
    cluster.unfence(1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 1 epoch 2 isr [1] elr [] last [] recovering");
}

#[test]
fn a_cluster_of_one_restarts_without_eligible_replicas() {
    for previous_epoch in [-1, 1] {
        let mut cluster = Cluster::with_features(1, WITHOUT_ELR);
        cluster.create(vec![topic("t", 1, 1)]);
        cluster.register(1, 2, previous_epoch);
        assert_eq!(shown(&cluster.partition("t", 0)), "leader -1 epoch 1 isr [1] elr [] last []");
        cluster.unfence(1);
        assert_eq!(shown(&cluster.partition("t", 0)), "leader 1 epoch 2 isr [1] elr [] last []");
    }
}

#[test]
fn a_restart_after_an_orderly_stop() {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("t", 1, 1)]);
    let epoch = cluster.broker_epoch(1);
    let decision = cluster.controller.begin_controlled_shutdown(NodeId(1)).expect("registered");
    cluster.append(decision);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader -1 epoch 1 isr [] elr [1] last [1]");
    cluster.fence(1);
    cluster.register(1, 2, epoch);
    cluster.unfence(1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 1 epoch 2 isr [1] elr [] last []");
}

#[test]
fn who_stops_in_order_may_come_back_before_its_session_is_over() {
    let mut cluster = Cluster::with(2);
    cluster.create(vec![topic("t", 1, 1)]);
    let alive = Registration { has_live_session: true, ..cluster.registration() };
    let again = registration_request(1, 2, -1);
    let refused = cluster.controller.register_broker(&again, alive).expect_err("it lives");
    assert_eq!(refused.code, ErrorCode::DuplicateBrokerRegistration);
    let decision = cluster.controller.begin_controlled_shutdown(NodeId(1)).expect("registered");
    cluster.append(decision);
    let alive = Registration { has_live_session: true, ..cluster.registration() };
    assert!(cluster.controller.register_broker(&again, alive).is_ok());
}

#[test]
fn leadership_moves_when_a_broker_is_fenced() {
    let mut cluster = Cluster::with(3);
    cluster.set_config(4, "", "min.insync.replicas", Some("2"));
    cluster.create(vec![assigned("t", &[(0, &[1, 2, 3])])]);
    cluster.fence(1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 2 epoch 1 isr [2,3] elr [] last []");
    cluster.fence(2);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 3 epoch 2 isr [3] elr [2] last []");
    cluster.fence(3);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader -1 epoch 3 isr [] elr [2,3] last [3]");
    // Broker 1 is not eligible: it left while enough others were in sync.
    cluster.unfence(1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader -1 epoch 3 isr [] elr [2,3] last [3]");
    cluster.unfence(2);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 2 epoch 4 isr [2] elr [3] last []");
}

#[test]
fn an_unclean_restart_costs_eligibility() {
    let mut cluster = Cluster::with(2);
    cluster.set_config(4, "", "min.insync.replicas", Some("2"));
    cluster.create(vec![assigned("t", &[(0, &[1, 2])])]);
    cluster.fence(1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 2 epoch 1 isr [2] elr [1] last []");
    cluster.register(1, 9, -1);
    assert_eq!(shown(&cluster.partition("t", 0)), "leader 2 epoch 1 isr [2] elr [] last []");
}

#[test]
fn unclean_election_where_it_is_wanted() {
    let mut cluster = Cluster::with_features(2, WITHOUT_ELR);
    cluster.create(vec![assigned("t", &[(0, &[1, 2])]), assigned("u", &[(0, &[1, 2])])]);
    cluster.set_config(2, "u", "unclean.leader.election.enable", Some("true"));
    cluster.fence(2);
    cluster.fence(1);
    let lost = "leader -1 epoch 1 isr [1] elr [] last []";
    assert_eq!(
        (shown(&cluster.partition("t", 0)).as_str(), shown(&cluster.partition("u", 0)).as_str()),
        (lost, lost)
    );
    cluster.unfence(2);
    assert_eq!(shown(&cluster.partition("t", 0)), lost);
    assert_eq!(shown(&cluster.partition("u", 0)), "leader 2 epoch 2 isr [2] elr [] last [] recovering");
}

#[test]
fn a_wiped_directory_can_not_lead() {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("t", 1, 1)]);
    let epoch = cluster.broker_epoch(1);
    let mut request = registration_request(1, 2, epoch);
    request.log_dirs = vec![uuid(200)];
    let decision = cluster.controller.register_broker(&request, cluster.registration()).expect("accepted");
    cluster.append(decision);
    cluster.unfence(1);
    assert_eq!(cluster.partition("t", 0).leader, None);
}

#[test]
fn leaving_for_good() {
    let mut cluster = Cluster::with(2);
    cluster.create(vec![assigned("t", &[(0, &[1, 2])])]);
    let decision = cluster.controller.unregister_broker(NodeId(1)).expect("registered");
    assert!(matches!(decision.records.last(), Some(MetadataRecord::UnregisterBrokerRecord(_))));
    cluster.append(decision);
    let partition = cluster.partition("t", 0);
    assert_eq!((partition.isr, partition.leader), (nodes(&[2]), Some(NodeId(2))));
    let gone = cluster.controller.unregister_broker(NodeId(1)).expect_err("gone");
    assert_eq!(gone.code, ErrorCode::BrokerIdNotRegistered);
    assert_eq!(
        cluster.controller.fence_broker(NodeId(1)).expect_err("gone").code,
        ErrorCode::StaleBrokerEpoch
    );
}

fn beat(
    cluster: &mut Cluster,
    id: i32,
    set: impl FnOnce(&mut BrokerHeartbeatRequest),
) -> BrokerHeartbeatResponse {
    let mut request = BrokerHeartbeatRequest {
        broker_id: id,
        broker_epoch: cluster.broker_epoch(id),
        current_metadata_offset: i64::MAX,
        ..Default::default()
    };
    set(&mut request);
    let decision = cluster.controller.heartbeat(&request, true).expect("current epoch");
    cluster.append(decision)
}

#[test]
fn heartbeats() {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("t", 1, 1)]);
    cluster.register(2, 2, -1);
    let epoch = cluster.broker_epoch(2);
    let answer = beat(&mut cluster, 2, |request| request.current_metadata_offset = epoch - 1);
    assert_eq!((answer.is_caught_up, answer.is_fenced), (false, true));
    let answer = beat(&mut cluster, 2, |request| request.want_fence = true);
    assert_eq!((answer.is_caught_up, answer.is_fenced), (true, true));
    let answer = beat(&mut cluster, 2, |_| {});
    assert_eq!((answer.is_fenced, answer.should_shut_down), (false, false));
    assert!(cluster.controller.image().is_active(NodeId(2)));
    let records = cluster.log.len();
    beat(&mut cluster, 2, |_| {});
    assert_eq!(cluster.log.len(), records, "a heartbeat that changes nothing writes nothing");
    // Leads nothing: may stop at once.
    let answer = beat(&mut cluster, 2, |request| request.want_shut_down = true);
    assert_eq!((answer.is_fenced, answer.should_shut_down), (true, true));
    // Leads something: hands over first, stops with the next heartbeat.
    assert!(leads_any(&cluster.controller.context(), NodeId(1)));
    let answer = beat(&mut cluster, 1, |request| request.want_shut_down = true);
    assert_eq!((answer.is_fenced, answer.should_shut_down), (false, false));
    assert!(!leads_any(&cluster.controller.context(), NodeId(1)));
    let answer = beat(&mut cluster, 1, |request| request.want_shut_down = true);
    assert_eq!((answer.is_fenced, answer.should_shut_down), (true, true));
    let stale = BrokerHeartbeatRequest { broker_id: 1, broker_epoch: 0, ..Default::default() };
    let refused = cluster.controller.heartbeat(&stale, true).expect_err("stale");
    assert_eq!(refused.code, ErrorCode::StaleBrokerEpoch);
}

#[test]
fn cordoned_directories_are_told_once() {
    let mut cluster = Cluster::with(1);
    let cordoned = |request: &mut BrokerHeartbeatRequest| request.cordoned_log_dirs = Some(vec![dir(1)]);
    beat(&mut cluster, 1, cordoned);
    let records = cluster.log.len();
    beat(&mut cluster, 1, cordoned);
    assert_eq!(cluster.log.len(), records);
    let broker = cluster.controller.image().broker(NodeId(1)).expect("there");
    assert!(!broker.has_uncordoned_dir());
}
