//! Rebalances: how phases end, with whom, and when.

use crate::rig::{Client, INITIAL_DELAY, REBALANCE, Rig, SESSION, error};
use ottla_protocol::ErrorCode;

#[test]
fn three_join_together_and_only_the_leader_sees_members() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b"), Client::new("c")];
    let waiters: Vec<_> = clients.iter_mut().map(|client| rig.join_parked(client)).collect();
    rig.advance(INITIAL_DELAY);
    assert!(waiters.iter().all(|waiter| rig.is_waiting(*waiter)), "newcomers prolong the first wait");
    rig.advance(INITIAL_DELAY);
    let joined: Vec<_> = waiters.into_iter().map(|waiter| rig.joined(waiter)).collect();
    assert_eq!(joined[0].leader, clients[0].member_id, "who comes first leads");
    assert_eq!(joined.iter().map(|j| j.members.len()).collect::<Vec<_>>(), [3, 0, 0]);
    assert!(joined.iter().all(|j| j.generation_id == 1));
}

#[test]
fn the_first_wait_ends_with_the_rebalance_timeout() {
    let mut rig = Rig::new();
    let newcomer = |n: i32| Client { rebalance: 10_000, ..Client::new(&format!("c{n}")) };
    let mut waiters = vec![rig.join_parked(&mut newcomer(0))];
    for n in 1..5 {
        rig.advance(2_000);
        waiters.push(rig.join_parked(&mut newcomer(n)));
        assert!(rig.is_waiting(waiters[0]));
    }
    // 3 s + 3 s + 3 s and the rest of the ten: a newcomer every two seconds can not make it longer.
    rig.advance(2_000);
    assert!(waiters.iter().all(|waiter| !rig.is_waiting(*waiter)));
}

#[test]
fn a_newcomer_makes_everybody_join_again() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    rig.stabilize(&mut clients[..1]);
    let newcomer = rig.join_parked(&mut clients[1]);
    assert!(rig.is_waiting(newcomer));
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::RebalanceInProgress);
    let old = rig.join(&clients[0]);
    let (old, newcomer) = (rig.joined(old), rig.joined(newcomer));
    assert_eq!((old.generation_id, newcomer.generation_id), (2, 2), "no delay: all that are known are there");
    assert_eq!(old.leader, clients[0].member_id);
    for client in &mut clients {
        client.generation = 2;
    }
    rig.sync_all(&clients, &old.leader);
    rig.check_replay();
}

#[test]
fn who_does_not_come_back_is_out_and_the_lead_passes_on() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b"), Client::new("c")];
    rig.stabilize(&mut clients);
    let waiters = [rig.join(&clients[0])];
    assert!(rig.is_waiting(waiters[0]), "the leader that joins starts a rebalance");
    // It goes silent after all: its parked request is as good as heartbeats, so it stays; the others do not.
    for _ in 0..7 {
        rig.advance(SESSION - 1);
        if rig.is_waiting(waiters[0]) {
            rig.heartbeat(&clients[1]);
        }
    }
    let joined = rig.joined(waiters[0]);
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
    assert_eq!(rig.heartbeat(&clients[1]), ErrorCode::UnknownMemberId);

    let mut clients = [Client::new("x"), Client::new("y")].map(|client| client.in_group("h"));
    rig.stabilize(&mut clients);
    let [x, y] = &clients;
    let leader_first = rig.coordinator.hard_state();
    assert!(leader_first.contains(&format!("leader {}", x.member_id)));
    let mut z = Client::new("z").in_group("h");
    let waiters = [rig.join_parked(&mut z), rig.join(y)];
    rig.advance(REBALANCE);
    let joined = waiters.map(|waiter| rig.joined(waiter));
    assert_ne!(joined[0].leader, x.member_id);
    assert_eq!(joined[0].leader, joined[1].leader);
    assert_eq!(joined.iter().map(|j| j.members.len()).max(), Some(2));
}

#[test]
fn removal_during_the_join_phase_completes_it() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b"), Client::new("c")];
    rig.stabilize(&mut clients);
    let waiters = [rig.join(&clients[0]), rig.join(&clients[1])];
    assert!(rig.is_waiting(waiters[0]));
    rig.leave(&clients[2]);
    assert!(waiters.into_iter().all(|waiter| rig.joined(waiter).generation_id == 2), "by leaving");

    let mut clients =
        [Client::new("a"), Client::new("b"), Client::new("c")].map(|client| client.in_group("h"));
    rig.stabilize(&mut clients);
    let waiters = [rig.join(&clients[0]), rig.join(&clients[1])];
    rig.advance(SESSION);
    assert!(waiters.into_iter().all(|waiter| rig.joined(waiter).generation_id == 2), "by silence");

    let mut clients = [Client::new("a")].map(|client| client.in_group("i"));
    rig.stabilize(&mut clients);
    let told = rig.join(&Client::new("p").in_group("i"));
    assert_eq!(error(rig.joined(told).error_code), ErrorCode::MemberIdRequired);
    let waiter = rig.join(&clients[0]);
    assert!(rig.is_waiting(waiter), "somebody was told an id and will come");
    rig.advance(SESSION);
    assert_eq!(rig.joined(waiter).generation_id, 2, "or will not");
}

#[test]
fn a_silent_member_of_a_stable_group_is_out_after_its_session() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    rig.stabilize(&mut clients);
    rig.advance(SESSION / 2);
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::None);
    rig.advance(SESSION / 2);
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::RebalanceInProgress);
    assert_eq!(rig.heartbeat(&clients[1]), ErrorCode::UnknownMemberId);
    rig.stabilize(&mut clients[..1]);
    assert_eq!(clients[0].generation, 2);
    rig.check_replay();
    rig.advance(SESSION);
    assert_eq!(rig.state("g"), "Empty");
    rig.check_replay();
}

#[test]
fn commits_keep_a_session_alive() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    for offset in 0..5 {
        rig.advance(SESSION - 1);
        assert_eq!(rig.commit(&clients[0], &[("t", 0, offset)]), [ErrorCode::None]);
    }
    assert_eq!(rig.state("g"), "Stable");
}

#[test]
fn a_join_in_the_sync_phase_begins_again() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    let waiters: Vec<_> = clients.iter_mut().map(|client| rig.join_parked(client)).collect();
    rig.advance(2 * INITIAL_DELAY);
    for (client, waiter) in clients.iter_mut().zip(waiters) {
        client.generation = rig.joined(waiter).generation_id;
    }
    let parked = rig.sync(&clients[1], &[]);
    assert!(rig.is_waiting(parked));
    let mut c = Client::new("c");
    let newcomer = rig.join_parked(&mut c);
    assert_eq!(error(rig.synced(parked).error_code), ErrorCode::RebalanceInProgress);
    assert_eq!(rig.sync_error(&clients[0]), ErrorCode::RebalanceInProgress);
    let waiters = [newcomer, rig.join(&clients[0]), rig.join(&clients[1])];
    assert!(waiters.into_iter().all(|waiter| rig.joined(waiter).generation_id == 2));
}

#[test]
fn a_member_that_missed_its_answer_gets_it_again() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    let waiters: Vec<_> = clients.iter_mut().map(|client| rig.join_parked(client)).collect();
    rig.advance(2 * INITIAL_DELAY);
    let first = rig.joined(waiters[0]);
    let again = rig.join(&clients[0]);
    assert_eq!(rig.joined(again), first, "in the sync phase, leader included");
    for client in &mut clients {
        client.generation = 1;
    }
    rig.sync_all(&clients, &first.leader);
    let again = rig.join(&clients[1]);
    let again = rig.joined(again);
    assert_eq!((again.generation_id, again.members.len()), (1, 0), "in a stable group, followers only");
    assert_eq!(rig.state("g"), "Stable");
    let changed = clients[1].clone().with_topics(&["t", "u"]);
    let waiter = rig.join(&changed);
    assert!(rig.is_waiting(waiter), "another subscription is another assignment");
    assert_eq!(rig.state("g"), "PreparingRebalance");
}

#[test]
fn a_request_sent_twice_leaves_nobody_waiting() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    rig.stabilize(&mut clients);
    let first = rig.join(&clients[0]);
    let second = rig.join(&clients[0]);
    assert_eq!(error(rig.joined(first).error_code), ErrorCode::RebalanceInProgress);
    let other = rig.join(&clients[1]);
    assert_eq!(rig.joined(second).generation_id, 2);
    assert_eq!(rig.joined(other).generation_id, 2);
    let follower = Client { generation: 2, ..clients[1].clone() };
    let first = rig.sync(&follower, &[]);
    let second = rig.sync(&follower, &[]);
    assert_eq!(error(rig.synced(first).error_code), ErrorCode::RebalanceInProgress);
    assert!(rig.is_waiting(second));
}

#[test]
fn a_leader_that_dies_while_it_assigns_is_replaced() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    let waiters: Vec<_> = clients.iter_mut().map(|client| rig.join_parked(client)).collect();
    rig.advance(2 * INITIAL_DELAY);
    for (client, waiter) in clients.iter_mut().zip(waiters) {
        client.generation = rig.joined(waiter).generation_id;
    }
    let follower = rig.sync(&clients[1], &[]);
    rig.advance(SESSION);
    assert_eq!(error(rig.synced(follower).error_code), ErrorCode::RebalanceInProgress);
    let again = rig.join(&clients[1]);
    let joined = rig.joined(again);
    assert_eq!((joined.generation_id, &*joined.leader), (2, &*clients[1].member_id));
}

#[test]
fn members_that_never_ask_for_their_assignment_are_out() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    let waiters: Vec<_> = clients.iter_mut().map(|client| rig.join_parked(client)).collect();
    rig.advance(2 * INITIAL_DELAY);
    for (client, waiter) in clients.iter_mut().zip(waiters) {
        client.generation = rig.joined(waiter).generation_id;
    }
    let leader = rig.sync(&clients[0], &[(&clients[0].member_id, b"x")]);
    assert_eq!(&*rig.synced(leader).assignment, b"x");
    assert_eq!(rig.state("g"), "Stable");
    for _ in 0..7 {
        rig.advance(REBALANCE / 7 + 1);
        clients.iter().for_each(|client| {
            rig.heartbeat(client);
        });
    }
    assert_eq!(rig.heartbeat(&clients[1]), ErrorCode::UnknownMemberId, "it beat, but never asked");
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::RebalanceInProgress);
}

#[test]
fn the_protocol_that_all_speak_is_chosen() {
    let mut rig = Rig::new();
    let mut clients = [
        Client::new("a").with_protocols(&["range", "sticky"]),
        Client::new("b").with_protocols(&["sticky", "range"]),
        Client::new("c").with_protocols(&["sticky", "range", "own"]),
    ];
    rig.stabilize(&mut clients);
    assert_eq!(rig.coordinator.describe_group("g", 6).protocol_data, "sticky");
    let mut d = Client::new("d").with_protocols(&["range"]);
    let mut waiters = vec![rig.join_parked(&mut d)];
    waiters.extend(clients.iter().map(|client| rig.join(client)));
    for waiter in waiters {
        assert_eq!(rig.joined(waiter).protocol_name.as_deref(), Some("range"));
    }
}

#[test]
fn a_new_leader_goes_on_from_the_log() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    rig.stabilize(&mut clients);
    rig.fail_over();
    for client in &clients {
        assert_eq!(rig.heartbeat(client), ErrorCode::None);
    }
    let waiter = rig.sync(&clients[1], &[]);
    assert_eq!(&*rig.synced(waiter).assignment, [1]);
    rig.check_replay();

    // In the middle of a rebalance the log has the generation before; members find out and join again.
    let parked = rig.join(&clients[0]);
    rig.fail_over();
    assert_eq!(error(rig.joined(parked).error_code), ErrorCode::NotCoordinator);
    assert_eq!(rig.heartbeat(&clients[1]), ErrorCode::None);
    rig.advance(SESSION);
    assert_eq!(rig.state("g"), "Empty", "sessions start when the log is loaded");
}
