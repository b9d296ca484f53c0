//! Directories in which `transaction.version` or `group.version` is lower than today's: they are served by the rules of their level, and
//! by the newer ones as soon as the level is raised, with everything that they hold.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use ottla_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use ottla_protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use ottla_protocol::messages::update_features_response::UpdateFeaturesResponse;

use super::rig::{GROUP, Producer, Rig, code};
use crate::client::read;
use crate::world::Death;

const TRANSACTIONS: &str = "transaction.version";
const GROUPS: &str = "group.version";

impl Rig {
    fn set_level(&mut self, feature: &'static str, max_version_level: i16, is_upgrade: bool) {
        let upgrade_type = if is_upgrade { 1 } else { 2 };
        let update = FeatureUpdateKey {
            feature: feature.into(),
            max_version_level,
            upgrade_type,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
        let answer = self.ask(&request, 2);
        let response: UpdateFeaturesResponse<'_> = read(&answer, 2).unwrap();
        assert_eq!(code(response.error_code), Ok(()), "{:?}", response.error_message);
        self.pass(100);
    }

    fn level(&mut self, feature: &str) -> Option<i16> {
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = self.ask(&request, 3);
        let response: ApiVersionsResponse<'_> = read(&answer, 3).unwrap();
        let finalized = response.finalized_features.iter().find(|known| known.name == feature);
        finalized.map(|known| known.max_version_level)
    }

    /// One transaction by older rules.
    fn older_transaction(&mut self, producer: Producer, sequence: i32, value: &str, commit: bool) {
        loop {
            match self.add(producer, &[0]) {
                Err(ErrorCode::ConcurrentTransactions) => self.pass(20),
                added => break added.unwrap(),
            }
        }
        let token = self.send_produce(11, producer, 0, sequence, &[value]);
        self.produced(token, 11).unwrap();
        let token = self.send_end(4, producer, commit);
        assert_eq!(self.ended(token, 4), Ok((-1, -1)));
    }

    fn join_next(&mut self) -> Result<i32, ErrorCode> {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: "member".into(),
            member_epoch: 0,
            rebalance_timeout_ms: 1_000,
            subscribed_topic_names: Some(vec!["t".into()]),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        };
        let answer = self.ask(&request, 1);
        let response: ConsumerGroupHeartbeatResponse<'_> = read(&answer, 1).unwrap();
        code(response.error_code).map(|()| response.member_epoch)
    }
}

#[test]
fn transactions_of_every_level_go_on_when_the_level_is_raised() {
    for level in [0, 1] {
        let mut rig = Rig::new(40);
        rig.set_level(TRANSACTIONS, level, false);
        let first = rig.init();
        rig.older_transaction(first, 0, "a", true);
        rig.assert_settles();
        // The same transactional id again: its record follows one that was written at this level.
        let second = rig.init();
        assert_eq!(second, (first.0, first.1 + 1));
        rig.older_transaction(second, 0, "b", true);
        rig.world.restart(Death::PowerLoss).expect("it starts");
        rig.find_coordinator(1, super::rig::ID);
        rig.pass(1_000);
        rig.older_transaction(second, 1, "lost", false);
        rig.set_level(TRANSACTIONS, 2, true);
        // A client that does not know of it goes on, one that does takes an epoch with every end.
        rig.older_transaction(second, 2, "c", true);
        rig.assert_settles();
        let third = rig.init();
        assert_eq!(third, (first.0, first.1 + 2));
        rig.produce(third, 0, 0, &["d"]).unwrap();
        assert_eq!(rig.end(third, true), Ok((first.0, first.1 + 3)));
        rig.world.restart(Death::Kill).expect("it starts");
        rig.find_coordinator(1, super::rig::ID);
        rig.assert_settles();
        assert_eq!(rig.committed(0), ["a", "b", "c", "d"], "from level {level}");
        assert_eq!(rig.level(TRANSACTIONS), Some(2));
    }
}

#[test]
fn without_group_version_groups_are_classic_until_it_is_raised() {
    let mut rig = Rig::new(41);
    rig.set_level(GROUPS, 0, false);
    rig.world.restart(Death::Shutdown).expect("it starts");
    rig.find_coordinator(0, GROUP);
    assert_eq!(rig.level(GROUPS).unwrap_or(0), 0);
    assert_eq!(rig.join_next(), Err(ErrorCode::UnsupportedVersion));
    // Offsets of a group without members are those of any level.
    let producer = rig.init();
    rig.commit_offset(5, producer, 7).unwrap();
    rig.end(producer, true).unwrap();
    rig.assert_settles();
    rig.set_level(GROUPS, 1, true);
    assert!(rig.join_next().is_ok());
    rig.world.restart(Death::PowerLoss).expect("it starts");
    rig.find_coordinator(0, GROUP);
    assert_eq!(rig.level(GROUPS), Some(1));
    assert_eq!(rig.committed_offset(), Ok(7));
}
