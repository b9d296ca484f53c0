//! Joining and leaving: who gets in, under which id, and what others are told.

use crate::rig::{Client, INITIAL_DELAY, REBALANCE, Rig, SESSION, error};
use ottla_coordinator::{Config, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::leave_group_request::LeaveGroupRequest;

#[test]
fn one_consumer_joins_syncs_and_beats() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    let waiter = rig.join_parked(&mut clients[0]);
    assert!(clients[0].member_id.starts_with("a-"), "client id, dash, uuid: {}", clients[0].member_id);
    rig.advance(INITIAL_DELAY - 1);
    assert!(rig.is_waiting(waiter), "the first join waits for others");
    rig.advance(1);
    let joined = rig.joined(waiter);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.member_id, clients[0].member_id);
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(&*joined.members[0].metadata, crate::rig::subscription(&["t"]));
    assert!(!joined.skip_assignment);
    clients[0].generation = joined.generation_id;
    assert_eq!(rig.state("g"), "CompletingRebalance");
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::None, "beats are welcome while the leader assigns");
    rig.sync_all(&clients, &joined.leader);
    assert_eq!(rig.state("g"), "Stable");
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::None);
    rig.check_replay();
}

#[test]
fn before_version_four_a_member_needs_no_second_round() {
    let mut rig = Rig::new();
    let client = Client::new("old").with_join_version(3);
    let waiter = rig.join(&client);
    rig.advance(INITIAL_DELAY);
    let joined = rig.joined(waiter);
    assert_eq!(joined.error_code, 0);
    assert!(joined.member_id.starts_with("old-"));
}

#[test]
fn version_zero_has_the_session_for_a_rebalance_timeout() {
    let mut rig = Rig::new();
    let mut client = Client::new("ancient").with_join_version(0);
    client.rebalance = -1;
    let waiter = rig.join(&client);
    rig.advance(INITIAL_DELAY);
    let joined = rig.joined(waiter);
    client.member_id = joined.member_id.to_string();
    client.generation = joined.generation_id;
    rig.sync_all(std::slice::from_ref(&client), &joined.leader);
    let described = rig.coordinator.hard_state();
    assert!(described.contains(&format!(" {SESSION} {SESSION} ")), "{described}");
}

#[test]
fn bad_joins_are_refused_in_kafkas_words() {
    let mut rig = Rig::new();
    let good = Client::new("a");
    assert_eq!(rig.join_error(&Client { group: String::new(), ..good.clone() }), ErrorCode::InvalidGroupId);
    assert_eq!(rig.join_error(&Client { session: 5_999, ..good.clone() }), ErrorCode::InvalidSessionTimeout);
    assert_eq!(
        rig.join_error(&Client { session: 1_800_001, ..good.clone() }),
        ErrorCode::InvalidSessionTimeout
    );
    assert_eq!(rig.join_error(&good.clone().with_protocols(&[])), ErrorCode::InconsistentGroupProtocol);
    let untyped = Client { protocol_type: String::new(), ..good.clone() };
    assert_eq!(rig.join_error(&untyped), ErrorCode::InconsistentGroupProtocol);
    let stranger = Client { member_id: "a-1".into(), ..good.clone() };
    assert_eq!(rig.join_error(&stranger), ErrorCode::UnknownMemberId);
    assert_eq!(rig.state("g"), "Dead", "none of these made a group");
    assert!(rig.log.is_empty());

    rig.stabilize(&mut [good.clone().with_protocols(&["range", "sticky"])]);
    assert_eq!(rig.join_error(&stranger), ErrorCode::UnknownMemberId);
    assert_eq!(
        rig.join_error(&Client::new("b").with_protocols(&["other"])),
        ErrorCode::InconsistentGroupProtocol
    );
    let connect = Client { protocol_type: "connect".into(), ..Client::new("b") };
    assert_eq!(rig.join_error(&connect), ErrorCode::InconsistentGroupProtocol);
    assert_eq!(rig.state("g"), "Stable");
    rig.check_replay();
}

#[test]
fn errors_before_version_seven_have_an_empty_protocol_since_then_none() {
    let mut rig = Rig::new();
    for (version, expected) in [(6, Some("")), (7, None)] {
        let waiter = rig.join(&Client { session: 1, ..Client::new("a").with_join_version(version) });
        assert_eq!(rig.joined(waiter).protocol_name.as_deref(), expected);
    }
}

#[test]
fn who_you_are_comes_before_generation_before_rebalance() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b")];
    rig.stabilize(&mut clients);
    let [a, b] = &clients;
    let stranger = Client { member_id: "x".into(), generation: 99, ..a.clone() };
    let stale = Client { generation: a.generation - 1, ..a.clone() };
    let elsewhere = Client { group: "nowhere".into(), ..a.clone() };
    let nameless = Client { group: String::new(), ..a.clone() };
    assert_eq!(rig.heartbeat(&stranger), ErrorCode::UnknownMemberId);
    assert_eq!(rig.heartbeat(&stale), ErrorCode::IllegalGeneration);
    assert_eq!(rig.heartbeat(&elsewhere), ErrorCode::UnknownMemberId);
    assert_eq!(rig.heartbeat(&nameless), ErrorCode::InvalidGroupId);
    assert_eq!(rig.sync_error(&stranger), ErrorCode::UnknownMemberId);
    assert_eq!(rig.sync_error(&stale), ErrorCode::IllegalGeneration);
    assert_eq!(rig.sync_error(&elsewhere), ErrorCode::UnknownMemberId);
    assert_eq!(rig.sync_error(&nameless), ErrorCode::InvalidGroupId);
    let mistyped = Client { protocol_type: "connect".into(), ..a.clone() };
    assert_eq!(rig.sync_error(&mistyped), ErrorCode::InconsistentGroupProtocol);

    assert_eq!(rig.leave(b), ErrorCode::None);
    assert_eq!(rig.state("g"), "PreparingRebalance");
    assert_eq!(rig.heartbeat(a), ErrorCode::RebalanceInProgress);
    assert_eq!(rig.heartbeat(&stale), ErrorCode::IllegalGeneration);
    assert_eq!(rig.heartbeat(b), ErrorCode::UnknownMemberId);
    assert_eq!(rig.sync_error(a), ErrorCode::RebalanceInProgress);
    assert_eq!(rig.sync_error(&stale), ErrorCode::IllegalGeneration);
}

#[test]
fn the_last_member_leaves_an_empty_group() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    assert_eq!(rig.leave(&clients[0]), ErrorCode::None);
    assert_eq!(rig.state("g"), "Empty");
    assert_eq!(rig.leave(&clients[0]), ErrorCode::UnknownMemberId);
    assert_eq!(rig.heartbeat(&clients[0]), ErrorCode::UnknownMemberId);
    assert_eq!(rig.sync_error(&clients[0]), ErrorCode::UnknownMemberId);
    rig.check_replay();
    let mut again = [clients[0].restarted()];
    rig.stabilize(&mut again);
    assert_eq!(again[0].generation, 3, "generations go on: one for leaving, one for joining");
    rig.check_replay();
}

#[test]
fn several_members_leave_at_once_and_each_is_answered() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b"), Client::new("s").with_instance("i")];
    rig.stabilize(&mut clients);
    let pending = {
        let waiter = rig.join(&Client::new("c"));
        rig.joined(waiter).member_id.to_string()
    };
    let a = clients[0].member_id.clone();
    let leaving =
        [(&*a, None), ("x", None), ("", Some("i")), ("", Some("j")), (&*pending, None), (&*a, None)];
    let response = rig.leave_members("g", &leaving);
    let errors: Vec<_> = response.members.iter().map(|member| error(member.error_code)).collect();
    let (ok, unknown) = (ErrorCode::None, ErrorCode::UnknownMemberId);
    assert_eq!(errors, [ok, unknown, ok, unknown, ok, unknown]);
    assert_eq!(response.members[2].group_instance_id.as_deref(), Some("i"));
    assert_eq!(rig.coordinator.describe_group("g", 6).members.len(), 1);
    let response = rig.leave_members("nowhere", &[("a", None)]);
    assert_eq!((response.error_code, error(response.members[0].error_code)), (0, unknown));
}

#[test]
fn before_version_three_leave_has_one_member_and_one_error() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    for (member_id, expected) in
        [("x", ErrorCode::UnknownMemberId), (&*clients[0].member_id, ErrorCode::None)]
    {
        let request =
            LeaveGroupRequest { group_id: "g".into(), member_id: member_id.into(), ..Default::default() };
        let waiter = rig.request("a", 2, |c, context| c.handle_leave_group(&request, context));
        let Response::LeaveGroup(response) = rig.answer(waiter) else { panic!() };
        assert_eq!(error(response.error_code), expected);
        assert!(response.members.is_empty());
    }
}

#[test]
fn a_member_that_was_told_its_id_and_never_came_is_forgotten() {
    let mut rig = Rig::new();
    let waiter = rig.join(&Client::new("a"));
    let member_id = rig.joined(waiter).member_id.to_string();
    rig.advance(SESSION - 1);
    let mut late = Client { member_id, ..Client::new("a") };
    rig.advance(1);
    assert_eq!(rig.join_error(&late), ErrorCode::UnknownMemberId);
    assert_eq!(rig.state("g"), "Empty");
    rig.check_replay();
    late.member_id.clear();
    rig.stabilize(&mut [late]);
}

#[test]
fn a_full_group_takes_no_more_members_but_keeps_those_it_has() {
    let mut rig = Rig::with_config(Config { group_max_size: 2, ..Config::default() });
    let mut clients = [Client::new("a"), Client::new("b")];
    rig.stabilize(&mut clients);
    assert_eq!(rig.join_error(&Client::new("c")), ErrorCode::GroupMaxSizeReached);
    assert_eq!(rig.join_error(&Client::new("d").with_instance("i")), ErrorCode::GroupMaxSizeReached);
    let waiters = [rig.join(&clients[0]), rig.join(&clients[1])];
    let errors = waiters.map(|waiter| error(rig.joined(waiter).error_code));
    assert_eq!(errors, [ErrorCode::None; 2]);
}

#[test]
fn a_loaded_group_that_is_too_large_keeps_the_first_that_return() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a"), Client::new("b"), Client::new("c")];
    rig.stabilize(&mut clients);
    rig.config.group_max_size = 2;
    rig.fail_over();
    assert_eq!(rig.state("g"), "PreparingRebalance");
    let waiters: Vec<_> = clients.iter().map(|client| rig.join(client)).collect();
    let errors: Vec<_> = waiters.into_iter().map(|waiter| error(rig.joined(waiter).error_code)).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::None, ErrorCode::GroupMaxSizeReached]);
}

#[test]
fn a_parked_new_member_is_not_waited_for_forever() {
    let mut rig = Rig::new();
    let mut clients = [Client { rebalance: 1_000_000, ..Client::new("a") }];
    rig.stabilize(&mut clients);
    let mut b = Client { rebalance: 1_000_000, ..Client::new("b") };
    let waiter = rig.join_parked(&mut b);
    for _ in 0..60 {
        rig.advance(5_000);
        rig.heartbeat(&clients[0]);
    }
    assert_eq!(error(rig.joined(waiter).error_code), ErrorCode::UnknownMemberId, "five minutes are enough");
    assert_eq!(rig.coordinator.describe_group("g", 6).members.len(), 1);
}

#[test]
fn a_thousand_members_come_and_go() {
    let mut rig = Rig::new();
    let mut clients: Vec<_> = (0..1_000).map(|n| Client::new(&format!("c{n}"))).collect();
    rig.stabilize(&mut clients);
    assert_eq!(rig.coordinator.describe_group("g", 6).members.len(), 1_000);
    rig.check_replay();
    let rest = clients.split_off(500);
    for client in &rest {
        assert_eq!(rig.leave(client), ErrorCode::None);
    }
    rig.stabilize(&mut clients);
    assert_eq!(clients[0].generation, 2);
    rig.check_replay();
    rig.advance(SESSION + REBALANCE);
    assert_eq!(rig.state("g"), "Empty");
    rig.check_replay();
}
