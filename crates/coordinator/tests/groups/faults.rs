//! Appends that fail, and logs that are damaged: nobody waits forever, and what was promised is in the log.

use crate::rig::{Client, INITIAL_DELAY, Rig, SESSION, error};
use ottla_coordinator::{Config, GroupCoordinator};
use ottla_protocol::ErrorCode;

#[test]
fn a_group_that_could_not_be_written_never_was() {
    for (version, instance) in [(9, None), (3, None), (9, Some("i"))] {
        let mut rig = Rig::new();
        rig.fail_next = Some(ErrorCode::NotLeaderOrFollower);
        let client =
            Client { instance: instance.map(String::from), ..Client::new("a").with_join_version(version) };
        let deadline = rig.coordinator.next_deadline();
        assert_eq!(rig.join_error(&client), ErrorCode::NotCoordinator);
        assert_eq!(rig.state("g"), "Dead");
        assert_eq!(rig.coordinator.next_deadline(), deadline, "no timer is left behind");
        rig.stabilize(&mut [client]);
        rig.check_replay();
    }
}

#[test]
fn an_assignment_that_could_not_be_written_is_asked_for_again() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    let waiters: Vec<_> = clients.iter_mut().map(|client| rig.join_parked(client)).collect();
    rig.advance(2 * INITIAL_DELAY);
    for (client, waiter) in clients.iter_mut().zip(waiters) {
        client.generation = rig.joined(waiter).generation_id;
    }
    let follower = rig.sync(&clients[1], &[]);
    rig.fail_next = Some(ErrorCode::NotEnoughReplicas);
    let leader = rig.sync(&clients[0], &[(&clients[0].member_id, b"x")]);
    for waiter in [leader, follower] {
        assert_eq!(error(rig.synced(waiter).error_code), ErrorCode::CoordinatorNotAvailable);
    }
    assert_eq!(rig.state("g"), "PreparingRebalance");
    rig.stabilize(&mut clients);
    assert_eq!(clients[0].generation, 2);
    rig.check_replay();
}

#[test]
fn a_static_member_that_could_not_be_written_is_the_old_one() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a").with_instance("i"), Client::new("b").with_instance("j")];
    rig.stabilize(&mut clients);
    rig.fail_next = Some(ErrorCode::MessageTooLarge);
    let changed = clients[0].restarted().with_protocols(&["range", "more"]);
    let before = rig.coordinator.hard_state();
    assert_eq!(rig.join_error(&changed), ErrorCode::UnknownServerError);
    assert_eq!(rig.coordinator.hard_state(), before);
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::None);
    rig.check_replay();
    rig.advance(SESSION);
    assert_eq!(rig.state("g"), "Empty", "its session runs");
}

#[test]
fn commits_that_could_not_be_written_are_not_there() {
    let mut rig = Rig::new();
    let simple = Client::new("simple");
    rig.fail_next = Some(ErrorCode::RequestTimedOut);
    let errors = rig.commit(&simple, &[("t", 0, 1), ("gone", 0, 1)]);
    assert_eq!(errors, [ErrorCode::CoordinatorNotAvailable, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!((rig.fetch_all("g"), rig.state("g")), (vec![], "Dead".into()));
}

#[test]
fn leaving_and_deleting_report_failure() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    rig.fail_next = Some(ErrorCode::KafkaStorageError);
    let response = rig.leave_members("g", &[(&clients[0].member_id, None)]);
    assert_eq!(error(response.error_code), ErrorCode::NotCoordinator);
    assert_eq!(rig.state("g"), "Empty", "who left has left");
    rig.fail_next = Some(ErrorCode::NotLeaderOrFollower);
    assert_eq!(rig.delete_group("g"), ErrorCode::NotCoordinator);
    assert_eq!(rig.state("g"), "Empty");
}

#[test]
fn damaged_records_are_errors_and_change_nothing() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    rig.commit(&clients[0], &[("t", 0, 1)]);
    let before = rig.replayed().hard_state();
    let mut fresh = rig.replayed();
    let group_key = b"\0\x02\0\x01g";
    let offset_key = b"\0\x01\0\x01g\0\x01t\0\0\0\0";
    let cases: [(&[u8], Option<&[u8]>); 8] = [
        (b"", Some(b"")),
        (b"\0", None),
        (b"\0\x01\0\x05g", None),
        (b"\0\x02\xff\xff", None),
        (group_key, Some(b"")),
        (group_key, Some(b"\0\x09")),
        (group_key, Some(b"\0\x03\0\x08cons")),
        (offset_key, Some(b"\0\x04\0\0")),
    ];
    for (key, value) in cases {
        let error = fresh.replay(key, value, 0, -1).unwrap_err();
        assert!(!error.to_string().is_empty());
        assert_eq!(fresh.hard_state(), before);
    }
}

#[test]
fn no_bytes_bring_replay_down() {
    // Every prefix and every one-byte change of real records, each on its own coordinator.
    let mut rig = Rig::new();
    let mut clients = [Client::new("a").with_instance("i"), Client::new("b")];
    rig.stabilize(&mut clients);
    rig.commit(&clients[0], &[("t", 0, 1)]);
    let mut replayed = 0;
    for logged in &rig.log {
        let crate::rig::Logged::Record { key, value: Some(value), .. } = logged else { continue };
        let mut tries = Vec::new();
        for end in 0..value.len() {
            tries.push((key.clone(), value[..end].to_vec()));
            for bits in [0x01, 0x80, 0xff] {
                let mut changed = value.clone();
                changed[end] ^= bits;
                tries.push((key.clone(), changed));
            }
        }
        for end in 0..key.len() {
            let mut changed = key.clone();
            changed[end] ^= 0x01;
            tries.push((changed, value.clone()));
        }
        for (key, value) in tries {
            let mut fresh = GroupCoordinator::new(Config::default(), 1);
            replayed += u32::from(fresh.replay(&key, Some(&value), 0, -1).is_ok());
            let outcome = fresh.on_loaded(rig.now, &rig.cluster);
            assert!(outcome.replies.is_empty());
            fresh.describe_group("g", 6);
            // Whatever was loaded, it can go through its timers.
            for step in 1..50 {
                let now = rig.now + step * SESSION;
                let outcome = fresh.on_timeout(now, &rig.cluster);
                if !outcome.records.is_empty() {
                    fresh.on_appended(outcome, step, now);
                }
            }
        }
    }
    assert!(replayed > 100, "most changes are readable: {replayed}");
}
