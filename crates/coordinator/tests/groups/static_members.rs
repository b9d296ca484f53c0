//! Static members (KIP-345): they come back to their place, and a double is found out.

use crate::rig::{Client, INITIAL_DELAY, REBALANCE, Rig, SESSION, error};
use ottla_protocol::ErrorCode;

fn group_of_two(rig: &mut Rig) -> [Client; 2] {
    let mut clients = [Client::new("a").with_instance("i"), Client::new("b").with_instance("j")];
    rig.stabilize(&mut clients);
    clients
}

#[test]
fn a_static_member_gets_in_at_once_and_its_id_begins_with_its_instance() {
    let mut rig = Rig::new();
    let [a, _] = group_of_two(&mut rig);
    assert!(a.member_id.starts_with("i-"), "{}", a.member_id);
    rig.check_replay();
}

#[test]
fn a_restart_is_no_rebalance_and_fences_the_old_member_id() {
    let mut rig = Rig::new();
    let [a, b] = group_of_two(&mut rig);
    let mut again = b.restarted();
    let waiter = rig.join(&again);
    let joined = rig.joined(waiter);
    assert_eq!((joined.error_code, joined.generation_id), (0, b.generation));
    assert_ne!(joined.member_id, b.member_id);
    assert_eq!((&*joined.leader, joined.members.len()), (&*a.member_id, 0));
    assert!(!joined.skip_assignment);
    again.member_id = joined.member_id.to_string();
    again.generation = joined.generation_id;
    rig.check_replay();
    let synced = rig.sync(&again, &[]);
    assert_eq!(&*rig.synced(synced).assignment, [1], "the assignment it had");
    assert_eq!(rig.heartbeat(&again), ErrorCode::None);
    assert_eq!(rig.heartbeat(&a), ErrorCode::None);
    assert_eq!(rig.heartbeat(&b), ErrorCode::FencedInstanceId);
    assert_eq!(rig.sync_error(&b), ErrorCode::FencedInstanceId);
    assert_eq!(rig.join_error(&b), ErrorCode::FencedInstanceId);
    assert_eq!(rig.commit(&b, &[("t", 0, 1)]), [ErrorCode::FencedInstanceId]);
    assert_eq!(rig.leave(&b), ErrorCode::FencedInstanceId);
    let unheard = Client { instance: Some("k".into()), ..b.clone() };
    assert_eq!(rig.heartbeat(&unheard), ErrorCode::UnknownMemberId);
    rig.check_replay();
    // The old session is over, and nobody notices.
    for _ in 0..3 {
        rig.advance(SESSION - 1);
        assert_eq!((rig.heartbeat(&again), rig.heartbeat(&a)), (ErrorCode::None, ErrorCode::None));
    }
}

#[test]
fn a_leader_that_restarts_is_told_to_skip_the_assignment() {
    let mut rig = Rig::new();
    let [a, _] = group_of_two(&mut rig);
    let waiter = rig.join(&a.restarted());
    let joined = rig.joined(waiter);
    assert!(joined.skip_assignment);
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 2));
    let waiter = rig.join(&Client { join_version: 8, ..a.restarted() });
    let old = rig.joined(waiter);
    assert!(!old.skip_assignment);
    assert_eq!(
        (&old.leader, old.members.len()),
        (&joined.member_id, 0),
        "an old client must not believe that it leads"
    );
    assert_ne!(old.member_id, joined.member_id);
    rig.check_replay();
}

#[test]
fn a_restart_that_changes_the_protocol_is_a_rebalance() {
    let mut rig = Rig::new();
    let mut clients = [
        Client::new("a").with_instance("i").with_protocols(&["range", "sticky"]),
        Client::new("b").with_instance("j").with_protocols(&["range", "sticky"]),
    ];
    rig.stabilize(&mut clients);
    let changed = clients[1].restarted().with_protocols(&["sticky"]);
    let waiters = [rig.join(&changed), rig.join(&clients[0])];
    let joined = waiters.map(|waiter| rig.joined(waiter));
    assert!(joined.iter().all(|j| j.generation_id == 2 && j.protocol_name.as_deref() == Some("sticky")));
}

#[test]
fn a_restart_in_the_sync_phase_begins_again() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a").with_instance("i"), Client::new("b").with_instance("j")];
    let waiters: Vec<_> = clients.iter_mut().map(|client| rig.join_parked(client)).collect();
    rig.advance(2 * INITIAL_DELAY);
    for (client, waiter) in clients.iter_mut().zip(waiters) {
        let joined = rig.joined(waiter);
        client.member_id = joined.member_id.to_string();
        client.generation = joined.generation_id;
    }
    let parked = rig.sync(&clients[1], &[]);
    let again = rig.join(&clients[1].restarted());
    assert_eq!(error(rig.synced(parked).error_code), ErrorCode::FencedInstanceId);
    assert!(rig.is_waiting(again));
    assert_eq!(rig.state("g"), "PreparingRebalance");
    let leader = rig.join(&clients[0]);
    assert_eq!((rig.joined(leader).generation_id, rig.joined(again).generation_id), (2, 2));
}

#[test]
fn two_doubles_in_the_join_phase_the_later_wins() {
    let mut rig = Rig::new();
    let first = rig.join(&Client::new("a").with_instance("i"));
    let second = rig.join(&Client::new("double").with_instance("i"));
    assert_eq!(error(rig.joined(first).error_code), ErrorCode::FencedInstanceId);
    rig.advance(2 * INITIAL_DELAY);
    let joined = rig.joined(second);
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
}

#[test]
fn silence_shorter_than_the_session_is_forgiven_in_a_rebalance() {
    let mut rig = Rig::new();
    let mut clients = [
        Client { session: 120_000, ..Client::new("a").with_instance("i") },
        Client { session: 120_000, ..Client::new("b").with_instance("j") },
    ];
    rig.stabilize(&mut clients);
    let waiter = rig.join(&clients[0]);
    rig.advance(REBALANCE);
    let joined = rig.joined(waiter);
    assert_eq!(
        (joined.generation_id, joined.members.len()),
        (2, 2),
        "the static member is kept without being there"
    );
    rig.advance(60_000);
    assert_eq!(
        rig.heartbeat(&clients[1]),
        ErrorCode::UnknownMemberId,
        "until its session ends, or it never syncs"
    );
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance() {
    let mut rig = Rig::new();
    let [a, b] = group_of_two(&mut rig);
    let response = rig.leave_members("g", &[("", Some("j"))]);
    assert_eq!(response.members[0].error_code, 0);
    assert_eq!(rig.heartbeat(&b), ErrorCode::UnknownMemberId);
    assert_eq!(rig.heartbeat(&a), ErrorCode::RebalanceInProgress);
}

#[test]
fn when_no_static_member_is_back_the_rebalance_waits_for_one() {
    let mut rig = Rig::new();
    let mut clients = [
        Client { session: 200_000, ..Client::new("a").with_instance("i") },
        Client { session: 200_000, ..Client::new("b").with_instance("j") },
        Client::new("c"),
    ];
    rig.stabilize(&mut clients);
    rig.leave(&clients[2]);
    rig.advance(REBALANCE + 1);
    assert_eq!(rig.state("g"), "PreparingRebalance", "nobody is there, nobody is gone");
    let waiter = rig.join(&clients[0]);
    rig.advance(REBALANCE);
    assert_eq!(rig.joined(waiter).members.len(), 2);
}
