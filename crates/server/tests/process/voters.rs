//! Quorums whose voters change while they run (KIP-853): controllers are added and removed, come back with another address or another disk,
//! and join by themselves.

use ottla_protocol::messages::add_raft_voter_request::{AddRaftVoterRequest, Listener};
use ottla_protocol::messages::add_raft_voter_response::AddRaftVoterResponse;
use ottla_protocol::messages::remove_raft_voter_request::RemoveRaftVoterRequest;
use ottla_protocol::messages::remove_raft_voter_response::RemoveRaftVoterResponse;
use ottla_protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use ottla_protocol::messages::update_features_response::UpdateFeaturesResponse;
use ottla_protocol::{ErrorCode, Message, Reader, Uuid};

use crate::site::{CLUSTER_ID, Site};
use crate::talk::{Brokers, create_topic, produce, read_all, wait_for, wait_in_sync};

const TOPIC: &str = "orders";
const BROKERS: [i32; 2] = [11, 12];

/// Asks a node to have a controller added as a voter; the error.
fn add(site: &Site, asked: i32, id: i32) -> Option<ErrorCode> {
    let listener = Listener { name: "CONTROLLER".into(), host: "127.0.0.1".into(), port: site.port(id) };
    let request = AddRaftVoterRequest {
        cluster_id: Some(CLUSTER_ID.into()),
        timeout_ms: 10_000,
        voter_id: id,
        voter_directory_id: site.disk(id),
        listeners: vec![listener],
        ack_when_committed: true,
    };
    let answer = site.ask(asked, &request, 1)?;
    let response = AddRaftVoterResponse::decode(&mut Reader::new(&answer), 1).expect("readable");
    Some(ErrorCode::from_code(response.error_code))
}

/// Asks a node to have a voter removed; the error.
fn remove(site: &Site, asked: i32, id: i32, disk: Uuid) -> Option<ErrorCode> {
    let request = RemoveRaftVoterRequest {
        cluster_id: Some(CLUSTER_ID.into()),
        voter_id: id,
        voter_directory_id: disk,
    };
    let answer = site.ask(asked, &request, 0)?;
    let response = RemoveRaftVoterResponse::decode(&mut Reader::new(&answer), 0).expect("readable");
    Some(ErrorCode::from_code(response.error_code))
}

/// What a request is answered in the end: a change that is under way, a leader that was just elected and a replica that lags all answer that
/// it takes too long.
fn answer(what: &str, mut attempt: impl FnMut() -> Option<ErrorCode>) -> ErrorCode {
    let passing = [ErrorCode::RequestTimedOut, ErrorCode::NotLeaderOrFollower, ErrorCode::NotController];
    wait_for(what, || attempt().filter(|error| !passing.contains(error)))
}

fn until_done(what: &str, attempt: impl FnMut() -> Option<ErrorCode>) {
    assert_eq!(answer(what, attempt), ErrorCode::None, "{what}");
}

#[test]
fn a_quorum_grows_from_one_controller_to_three_and_each_of_them_can_be_replaced() {
    let mut site = Site::new(&[1, 2, 3, 11, 12]);
    let servers = |site: &Site| format!("controller.quorum.bootstrap.servers={}", site.addresses(&[1, 2, 3]));
    let joins = |site: &Site| format!("{}\ncontroller.quorum.auto.join.enable=true", servers(site));
    site.configure(1, "controller", &servers(&site));
    site.configure(2, "controller", &servers(&site));
    site.configure(3, "controller", &joins(&site));
    BROKERS.iter().for_each(|id| site.configure(*id, "broker", &servers(&site)));
    site.format(1, "--standalone");
    site.format(2, "--no-initial-controllers");
    site.format(3, "--no-initial-controllers");
    BROKERS.iter().for_each(|id| site.format(*id, ""));

    site.start(&[1, 11, 12]);
    let brokers: Brokers = BROKERS.iter().map(|id| (*id, site.port(*id))).collect();
    create_topic(site.port(11), TOPIC, 2);
    wait_in_sync(&brokers, TOPIC, 2);
    assert_eq!(site.describe(11).map(|quorum| quorum.voters), Some(vec![1]));
    assert_eq!(site.level(11, "kraft.version"), Some(1), "a broker tells the level");

    // Added by hand: until then it follows, and stands for nothing.
    site.start(&[2]);
    site.wait_quorum(11, "controller 2 follows", |quorum| quorum.observers.contains(&2));
    until_done("controller 2 added", || add(&site, 11, 2));
    assert_eq!(answer("a second wish", || add(&site, 12, 2)), ErrorCode::DuplicateVoter);
    // By itself.
    site.start(&[3]);
    let grown = site.wait_quorum(12, "controller 3 joins", |quorum| quorum.voters == [1, 2, 3]);
    assert_eq!(grown.disks, [1, 2, 3].map(|id| (id, site.disk(id))).into());
    assert_eq!(grown.observers, BROKERS);
    let mut acknowledged: Vec<(i64, u64)> =
        (0..10).map(|value| (produce(&brokers, TOPIC, value), value)).collect();

    // The first controller dies: the two that were added go on.
    site.kill(1);
    create_topic(site.port(12), "made-without-the-first", 2);
    site.wait_quorum(11, "one that was added leads", |quorum| [2, 3].contains(&quorum.leader));

    // It comes back elsewhere, and tells.
    let first_port = site.port(1);
    site.move_to_another_port(1);
    site.configure(1, "controller", &servers(&site));
    site.start(&[1]);
    let moved = site.port(1);
    assert_ne!(first_port, moved);
    site.wait_quorum(11, "its new address is known", |quorum| quorum.ports.get(&1) == Some(&moved));

    // Its disk is replaced: as another replica it takes the place of the one that is gone.
    let lost = site.disk(1);
    site.stop(1);
    site.wipe(1);
    site.configure(1, "controller", &joins(&site));
    site.format(1, "--no-initial-controllers");
    site.start(&[1]);
    let disk = site.disk(1);
    assert_ne!(lost, disk);
    site.wait_quorum(12, "its new disk votes", |quorum| quorum.disks.get(&1) == Some(&disk));
    assert_eq!(answer("a late wish", || remove(&site, 11, 1, lost)), ErrorCode::VoterNotFound);

    // Whoever leads is removed, and somebody else leads. Those that join by themselves do so again as long as they run.
    let before = site.wait_quorum(11, "somebody leads", |_| true);
    let leader = before.leader;
    until_done("the leader removed", || remove(&site, 11, leader, before.disks[&leader]));
    site.wait_quorum(12, "another leads", |quorum| quorum.leader != leader);
    site.kill(leader);
    acknowledged.extend((10..20).map(|value| (produce(&brokers, TOPIC, value), value)));
    create_topic(site.port(11), "made-at-last", 2);
    let found = read_all(&brokers, TOPIC);
    for (offset, value) in &acknowledged {
        assert_eq!(found.get(offset), Some(value), "offset {offset} was acknowledged");
    }
}

#[test]
fn three_controllers_begin_together_and_one_that_was_not_named_waits() {
    let mut site = Site::new(&[1, 2, 3, 4, 11]);
    let servers = format!("controller.quorum.bootstrap.servers={}", site.addresses(&[1, 2, 3]));
    for id in [1, 2, 3, 4] {
        site.configure(id, "controller", &servers);
    }
    site.configure(11, "broker", &servers);
    let disks: Vec<String> = (1..=3).map(|id| Uuid([id; 16]).to_string()).collect();
    let voters: Vec<String> =
        (1..=3).zip(&disks).map(|(id, disk)| format!("{id}@127.0.0.1:{}:{disk}", site.port(id))).collect();
    for id in 1..=3 {
        site.format(id, &format!("--initial-controllers {}", voters.join(",")));
    }
    site.format(4, "--no-initial-controllers");
    site.format(11, "");
    site.start(&[1, 2, 3, 4, 11]);
    let quorum = site
        .wait_quorum(11, "all are there", |quorum| quorum.voters == [1, 2, 3] && quorum.observers == [4, 11]);
    assert_eq!(quorum.disks.values().map(Uuid::to_string).collect::<Vec<_>>(), disks);
    site.kill(quorum.leader);
    let next = site.wait_quorum(11, "another leads", |now| now.leader != quorum.leader);
    assert!([1, 2, 3].contains(&next.leader));
    create_topic(site.port(11), TOPIC, 1);
    site.stop(11);
    site.stop_all();
}

/// Asks for a level of kraft.version; the error and its words.
fn upgrade(site: &Site, asked: i32, validate_only: bool) -> Option<(ErrorCode, String)> {
    let update = FeatureUpdateKey {
        feature: "kraft.version".into(),
        max_version_level: 1,
        upgrade_type: 1,
        ..Default::default()
    };
    let request = UpdateFeaturesRequest { timeout_ms: 10_000, feature_updates: vec![update], validate_only };
    let answer = site.ask(asked, &request, 2)?;
    let response = UpdateFeaturesResponse::decode(&mut Reader::new(&answer), 2).expect("readable");
    let words = response.error_message.unwrap_or_default().into_owned();
    Some((ErrorCode::from_code(response.error_code), words))
}

#[test]
fn a_quorum_that_was_configured_is_made_one_that_can_change() {
    let mut site = Site::new(&[1, 2, 3, 4, 11]);
    let fixed = format!("controller.quorum.voters={}", site.voters(&[1, 2, 3]));
    (1..=3).for_each(|id| site.configure(id, "controller", &fixed));
    site.configure(11, "broker", &fixed);
    // Two of three make a quorum, but not one that may be changed: nobody knows the disk of the third.
    site.start(&[1, 2, 11]);
    let quorum = site.wait_quorum(11, "two lead", |quorum| quorum.voters == [1, 2, 3]);
    assert!(quorum.disks.values().all(|disk| *disk == Uuid::ZERO), "{quorum:?}");
    assert_eq!(site.level(11, "kraft.version"), Some(0));
    let refused = wait_for("an answer", || {
        upgrade(&site, 11, false).filter(|(error, _)| *error != ErrorCode::NotController)
    });
    assert_eq!(refused.0, ErrorCode::InvalidUpdateVersion, "{refused:?}");
    assert!(refused.1.contains("controller 3 has not registered"), "{refused:?}");
    site.start(&[3]);
    let early = answer("an early wish", || add(&site, 11, 3));
    assert_eq!(early, ErrorCode::UnsupportedVersion, "not before the upgrade");

    wait_for("an upgrade that could be", || upgrade(&site, 11, true).filter(|it| it.0 == ErrorCode::None));
    assert_eq!(site.level(11, "kraft.version"), Some(0), "it was only asked for");
    until_done("the upgrade", || upgrade(&site, 11, false).map(|(error, _)| error));
    let disks = [1, 2, 3].map(|id| (id, site.disk(id))).into();
    site.wait_quorum(11, "the log names disks", |quorum| quorum.disks == disks && quorum.observers == [11]);
    wait_for("the level at a broker", || site.level(11, "kraft.version").filter(|level| *level == 1));

    // From here on the log says who votes, whatever the files say: one of the voters is told of no other any more, and a fourth joins.
    let servers = format!("controller.quorum.bootstrap.servers={}", site.addresses(&[1, 2, 3]));
    site.stop(2);
    site.configure(2, "controller", &servers);
    site.configure(4, "controller", &servers);
    site.format(4, "--no-initial-controllers");
    site.start(&[2, 4]);
    site.wait_quorum(11, "controller 4 follows", |quorum| quorum.observers.contains(&4));
    until_done("controller 4 added", || add(&site, 11, 4));
    until_done("controller 3 removed", || remove(&site, 11, 3, site.disk(3)));
    let quorum = site.wait_quorum(11, "1, 2, 4 vote", |quorum| quorum.voters == [1, 2, 4]);
    site.kill(3);
    if quorum.leader != 1 {
        site.kill(1);
        create_topic(site.port(11), TOPIC, 1);
    }
}

/// A first controller that listens everywhere is known to others by the name of its machine, not as their own `localhost`.
#[test]
fn a_controller_that_listens_everywhere_tells_the_name_of_its_machine() {
    let mut site = Site::new(&[1]);
    let port = site.port(1);
    let everywhere =
        format!("controller.quorum.bootstrap.servers=127.0.0.1:{port}\nlisteners=CONTROLLER://:{port}");
    site.configure(1, "controller", &everywhere);
    site.format(1, "--standalone");
    site.start(&[1]);
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux");
    let quorum = site.wait_quorum(1, "it leads", |quorum| quorum.leader == 1);
    assert_eq!(quorum.hosts[&1], machine.trim());
}
