//! Consumer groups (KIP-848): who gets what, and when.

use crate::consumer_rig::{Consumer, Owned};
use crate::rig::{Rig, error, topic_id};
use ottla_coordinator::{Config, ConsumerConfig, GroupOverrides};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;

fn two(rig: &mut Rig) -> [Consumer; 2] {
    let mut consumers = [Consumer::new("a", &["t"]), Consumer::new("b", &["t"])];
    rig.settle_consumers(&mut consumers);
    consumers
}

#[test]
fn the_first_member_has_everything_at_once() {
    let mut rig = Rig::new();
    let mut a = Consumer::new("a", &["t"]);
    let response = rig.beat(&mut a);
    assert_eq!((response.member_epoch, response.heartbeat_interval_ms), (2, 5_000));
    assert_eq!(a.owns().len(), 8);
    assert_eq!((rig.epochs("g"), rig.consumer_state("g")), ((2, 2), "Stable".into()));
    rig.check_replay();
    let response = rig.beat(&mut a);
    assert_eq!(response.assignment, None, "nothing changed, nothing is told");
}

#[test]
fn a_newcomer_waits_until_the_others_gave_up() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    rig.beat(&mut a);
    rig.advance(1_000);
    rig.beat(&mut b);
    assert_eq!((b.member_epoch, b.owns()), (3, vec![]), "all is still with the first");
    assert_eq!(rig.consumer_state("g"), "Reconciling");
    // Told to give up half; what it works on meanwhile is still its own.
    let held = a.owned.clone();
    rig.beat(&mut a);
    assert_eq!((a.member_epoch, a.owns().len()), (2, 4));
    rig.beat(&mut b);
    assert_eq!(b.owns(), []);
    // It still claims all of it: nothing moves.
    let half = std::mem::replace(&mut a.owned, held);
    rig.beat(&mut a);
    rig.beat(&mut b);
    assert_eq!((a.member_epoch, b.owns()), (2, vec![]));
    a.owned = half;
    rig.beat(&mut a);
    assert_eq!(a.member_epoch, 3);
    rig.beat(&mut b);
    assert_eq!((b.member_epoch, b.owns().len()), (3, 4));
    assert_eq!(rig.consumer_state("g"), "Stable");
    rig.check_replay();
}

#[test]
fn assignments_are_computed_once_in_an_interval() {
    let mut rig = Rig::new();
    let mut a = Consumer::new("a", &["t"]);
    rig.beat(&mut a);
    let mut late: Vec<Consumer> = ["b", "c", "d"].iter().map(|id| Consumer::new(id, &["t"])).collect();
    late.iter_mut().for_each(|consumer| drop(rig.beat(consumer)));
    assert_eq!((rig.epochs("g"), rig.consumer_state("g")), ((5, 2), "Assigning".into()));
    rig.advance(1_000);
    rig.beat(&mut late[0]);
    assert_eq!(rig.epochs("g"), (5, 5));
    rig.check_replay();
    // A group may have another interval, and 0 means at once.
    let interval = GroupOverrides { assignment_interval_ms: Some(0), ..Default::default() };
    rig.cluster.overrides.insert("h".into(), interval);
    for (n, id) in ["a", "b"].iter().enumerate() {
        let mut consumer = Consumer { group: "h".into(), ..Consumer::new(id, &["t"]) };
        rig.beat(&mut consumer);
        assert_eq!(rig.epochs("h"), (n as i32 + 2, n as i32 + 2));
    }
}

#[test]
fn who_leaves_leaves_everything_to_the_others() {
    let mut rig = Rig::new();
    let [mut a, b] = two(&mut rig);
    assert_eq!(rig.leave_consumer(&b, -1), ErrorCode::None);
    assert_eq!(rig.leave_consumer(&b, -1), ErrorCode::UnknownMemberId);
    rig.settle_consumers(std::slice::from_mut(&mut a));
    assert_eq!(a.owns().len(), 8);
    assert_eq!(rig.leave_consumer(&a, -1), ErrorCode::None);
    assert_eq!(rig.consumer_state("g"), "Empty");
    let (group_epoch, assignment_epoch) = rig.epochs("g");
    assert_eq!(group_epoch, assignment_epoch, "an empty group waits for nothing");
    rig.check_replay();
}

#[test]
fn silence_is_the_end_of_a_session() {
    let mut rig = Rig::new();
    let [mut a, b] = two(&mut rig);
    for _ in 0..5 {
        rig.advance(9_000);
        rig.beat(&mut a);
    }
    assert_eq!(rig.beat_error(&b), ErrorCode::UnknownMemberId);
    rig.settle_consumers(std::slice::from_mut(&mut a));
    assert_eq!(a.owns().len(), 8);
    // A failed append does not make it immortal.
    rig.fail_next = Some(ErrorCode::NotEnoughReplicas);
    rig.advance(45_000);
    assert_eq!(rig.fail_next, None);
    rig.advance(500);
    assert_eq!(rig.consumer_state("g"), "Empty");
    rig.check_replay();
}

#[test]
fn who_does_not_give_up_in_time_is_out() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    rig.beat(&mut a);
    rig.advance(1_000);
    rig.beat(&mut b);
    let held = a.owned.clone();
    rig.beat(&mut a);
    a.owned = held;
    for _ in 0..6 {
        rig.advance(4_900);
        rig.beat(&mut a);
        rig.beat(&mut b);
    }
    rig.advance(1_000);
    assert_eq!(rig.beat_error(&a), ErrorCode::UnknownMemberId, "30 seconds are over");
    rig.settle_consumers(std::slice::from_mut(&mut b));
    assert_eq!(b.owns().len(), 8);
    rig.check_replay();
}

#[test]
fn a_member_that_gave_up_in_time_stays() {
    let mut rig = Rig::new();
    let consumers = &mut two(&mut rig);
    for _ in 0..20 {
        rig.advance(4_000);
        consumers.iter_mut().for_each(|consumer| drop(rig.beat(consumer)));
    }
    assert_eq!(rig.consumer_state("g"), "Stable");
}

#[test]
fn member_epochs_fence() {
    let mut rig = Rig::new();
    let [mut a, _] = two(&mut rig);
    let at = |member_epoch: i32, owned: &Owned| {
        let mut consumer = a.clone();
        (consumer.member_epoch, consumer.owned) = (member_epoch, owned.clone());
        consumer
    };
    assert_eq!(rig.beat_error(&at(a.member_epoch + 1, &a.owned)), ErrorCode::FencedMemberEpoch);
    assert_eq!(rig.beat_error(&at(1, &a.owned)), ErrorCode::FencedMemberEpoch);
    let mut unknown = a.clone();
    unknown.id = "z".into();
    assert_eq!(rig.beat_error(&unknown), ErrorCode::UnknownMemberId);
    unknown.group = "nowhere".into();
    assert_eq!(rig.beat_error(&unknown), ErrorCode::GroupIdNotFound);
    // The answer with the new epoch was lost: the one before is good enough for who owns no more than assigned.
    let mut c = Consumer::new("c", &["t"]);
    rig.beat(&mut c);
    rig.advance(1_000);
    let before = a.clone();
    rig.beat(&mut a);
    rig.beat(&mut a);
    assert!(a.member_epoch > before.member_epoch);
    let mut lost = before.clone();
    lost.owned = a.owned.clone();
    assert_eq!(rig.beat_error(&lost), ErrorCode::None);
    assert_eq!(rig.beat_error(&before), ErrorCode::FencedMemberEpoch, "it owns more than it has");
    // Joining again with nothing is always good, and brings back what it had.
    a.forget();
    rig.beat(&mut a);
    assert!(a.member_epoch > 0 && !a.owned.is_empty());
    rig.check_replay();
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut rig = Rig::new();
    type Change = fn(&mut ConsumerGroupHeartbeatRequest<'static>);
    let table: [(Change, ErrorCode); 12] = [
        (|r| r.group_id = "".into(), ErrorCode::InvalidRequest),
        (|r| r.member_id = "".into(), ErrorCode::InvalidRequest),
        (|r| r.instance_id = Some("".into()), ErrorCode::InvalidRequest),
        (|r| r.rack_id = Some("".into()), ErrorCode::InvalidRequest),
        (|r| r.rebalance_timeout_ms = -1, ErrorCode::InvalidRequest),
        (|r| r.topic_partitions = None, ErrorCode::InvalidRequest),
        (|r| r.subscribed_topic_names = None, ErrorCode::InvalidRequest),
        (|r| r.member_epoch = -3, ErrorCode::InvalidRequest),
        (|r| r.member_epoch = -2, ErrorCode::InvalidRequest),
        (|r| r.server_assignor = Some("magic".into()), ErrorCode::UnsupportedAssignor),
        (|r| r.subscribed_topic_regex = Some("(".into()), ErrorCode::InvalidRegularExpression),
        (|r| r.group_id = "x".repeat(20_000).into(), ErrorCode::InvalidRequest),
    ];
    for (n, (change, expected)) in table.into_iter().enumerate() {
        let mut request = Consumer::new("a", &["t"]).full_request();
        change(&mut request);
        let response = rig.consumer_request(&request, 1);
        assert_eq!(error(response.error_code), expected, "case {n}");
        assert!(response.error_message.is_some());
    }
    assert_eq!(rig.log.len(), 0);
    // Version 0 leaves the member id to the coordinator.
    let mut request = Consumer::new("", &["t"]).full_request();
    request.group_id = "g".into();
    let response = rig.consumer_request(&request, 0);
    assert_eq!((response.error_code, response.member_id.map(|id| id.len())), (0, Some(36)));
}

#[test]
fn a_full_group_takes_nobody_in() {
    let consumer = ConsumerConfig { max_size: 1, ..Default::default() };
    let mut rig = Rig::with_config(Config { consumer, ..Default::default() });
    let mut a = Consumer::new("a", &["t"]);
    rig.beat(&mut a);
    assert_eq!(rig.beat_error(&Consumer::new("b", &["t"])), ErrorCode::GroupMaxSizeReached);
    rig.beat(&mut a);
}

#[test]
fn a_static_member_returns_to_its_place() {
    let mut rig = Rig::new();
    let mut consumers = [Consumer::new("a", &["t"]).with_instance("i"), Consumer::new("b", &["t"])];
    rig.settle_consumers(&mut consumers);
    let [a, mut b] = consumers;
    let again = Consumer { id: "a2".into(), member_epoch: 0, owned: Owned::new(), ..a.clone() };
    assert_eq!(rig.beat_error(&again), ErrorCode::UnreleasedInstanceId);
    let epochs = rig.epochs("g");
    assert_eq!(rig.leave_consumer(&a, -2), ErrorCode::None);
    rig.advance(5_000);
    rig.beat(&mut b);
    assert_eq!((rig.epochs("g"), b.owns().len()), (epochs, 4), "nobody takes its place");
    let mut again = again;
    rig.beat(&mut again);
    assert_eq!((rig.epochs("g"), again.owns()), (epochs, a.owns()), "no rebalance");
    assert_eq!(again.member_epoch, a.member_epoch);
    assert_eq!(rig.beat_error(&a), ErrorCode::FencedInstanceId);
    rig.check_replay();
    // Gone for longer than a session: out.
    assert_eq!(rig.leave_consumer(&again, -2), ErrorCode::None);
    for _ in 0..10 {
        rig.advance(5_000);
        rig.beat(&mut b);
    }
    rig.settle_consumers(std::slice::from_mut(&mut b));
    assert_eq!(b.owns().len(), 8);
    rig.check_replay();
}

#[test]
fn a_static_member_that_returns_under_its_old_id_is_watched() {
    let mut rig = Rig::new();
    let mut a = Consumer::new("a", &["t"]).with_instance("i");
    rig.beat(&mut a);
    assert_eq!(rig.leave_consumer(&a, -2), ErrorCode::None);
    a.forget();
    rig.beat(&mut a);
    assert_eq!(a.owns().len(), 8);
    rig.check_replay();
    rig.advance(45_000);
    assert_eq!(rig.consumer_state("g"), "Empty");
    rig.check_replay();
}

#[test]
fn a_changed_subscription_changes_the_assignment() {
    let mut rig = Rig::new();
    let mut consumers = two(&mut rig);
    let [a, _] = &mut consumers;
    a.topics = Some(vec!["u".into()]);
    let response = rig.consumer_request(&a.full_request(), 1);
    a.learn(&response);
    rig.settle_consumers(&mut consumers);
    assert_eq!(consumers[0].owns(), [(2, 0), (2, 1), (2, 2), (2, 3)]);
    assert_eq!(consumers[1].owns().len(), 8);
    rig.check_replay();
}

#[test]
fn topics_that_change_are_noticed() {
    let mut rig = Rig::new();
    let mut consumers = [Consumer::new("a", &["t", "later"])];
    rig.settle_consumers(&mut consumers);
    let epochs = rig.epochs("g");
    rig.topics_changed(&["t"], false);
    rig.settle_consumers(&mut consumers);
    assert_eq!(rig.epochs("g"), epochs, "it looks as before");
    rig.cluster.topics.insert("later".into(), (topic_id(9), 2));
    rig.topics_changed(&["later"], true);
    rig.settle_consumers(&mut consumers);
    assert_eq!(consumers[0].owns().len(), 10);
    rig.cluster.topics.get_mut("t").unwrap().1 = 9;
    rig.topics_changed(&["t"], false);
    rig.settle_consumers(&mut consumers);
    assert_eq!(consumers[0].owns().len(), 11);
    rig.cluster.racks = vec!["r1".into()];
    rig.topics_changed(&["t"], false);
    let (before, _) = rig.epochs("g");
    rig.settle_consumers(&mut consumers);
    assert_eq!(rig.epochs("g"), (before + 1, before + 1), "racks count too");
    rig.cluster.topics.remove("t");
    rig.topics_changed(&["t"], false);
    rig.settle_consumers(&mut consumers);
    assert_eq!(consumers[0].owns(), [(9, 0), (9, 1)]);
    rig.check_replay();
}

#[test]
fn the_assignor_that_most_members_want_assigns() {
    let mut rig = Rig::new();
    let mut consumers = ["a", "b", "c"]
        .map(|id| Consumer { assignor: Some("range".into()), ..Consumer::new(id, &["t", "u"]) });
    rig.settle_consumers(&mut consumers);
    let described = rig.coordinator.describe_consumer_group("g", &rig.cluster);
    assert_eq!(described.assignor_name, "range");
    assert_eq!(consumers[0].owns(), [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]);
    assert_eq!(consumers[2].owns(), [(1, 6), (1, 7), (2, 3)]);
}

#[test]
fn regular_expressions_are_resolved_soon_and_again() {
    let mut rig = Rig::new();
    let mut consumers = [Consumer::with_regex("a", "[tu]"), Consumer::with_regex("b", "u|v.*")];
    rig.settle_consumers(&mut consumers);
    assert_eq!(consumers[1].owns(), [], "patterns are not resolved twice within ten seconds");
    rig.advance(10_000);
    rig.settle_consumers(&mut consumers);
    let all = |consumers: &[Consumer]| {
        let mut all: Vec<_> = consumers.iter().flat_map(|c| c.owns()).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(all(&consumers).len(), 13);
    assert!(consumers[1].owns().contains(&(3, 0)));
    rig.check_replay();
    rig.cluster.topics.insert("v2".into(), (topic_id(7), 3));
    rig.topics_changed(&["v2"], true);
    rig.advance(10_000);
    rig.settle_consumers(&mut consumers);
    assert_eq!(all(&consumers).len(), 16);
    // The last one to subscribe with a pattern takes it along.
    consumers[1].regex = Some(String::new());
    consumers[1].topics = Some(vec!["v".into()]);
    let response = rig.consumer_request(&consumers[1].full_request(), 1);
    consumers[1].learn(&response);
    rig.settle_consumers(&mut consumers);
    assert_eq!(consumers[1].owns(), [(3, 0)]);
    assert_eq!(consumers[0].owns().len(), 12);
    rig.check_replay();
    rig.fail_over();
    rig.settle_consumers(&mut consumers);
    rig.check_replay();
}

#[test]
fn a_big_cluster_is_searched_in_steps() {
    let mut rig = Rig::new();
    for n in 0..9_000 {
        rig.cluster.topics.insert(format!("big-{n}"), (topic_id(0), 0));
    }
    rig.cluster.topics.insert("zzz".into(), (topic_id(99), 1));
    let mut a = Consumer::with_regex("a", "z+");
    rig.beat(&mut a);
    for step in 0..2 {
        let outcome = rig.coordinator.on_timeout(rig.now + step, &rig.cluster);
        assert!(outcome.records.is_empty(), "not all names in one step");
    }
    rig.advance(1_000);
    rig.beat(&mut a);
    assert_eq!(a.owns(), [(99, 0)]);
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was() {
    let mut rig = Rig::new();
    let (mut a, mut b) = (Consumer::new("a", &["t"]), Consumer::new("b", &["t"]));
    rig.beat(&mut a);
    rig.advance(1_000);
    rig.beat(&mut b);
    let held = a.owned.clone();
    rig.beat(&mut a);
    a.owned = held;
    rig.fail_over();
    // The time to give up runs again, and ends.
    for _ in 0..8 {
        rig.advance(4_500);
        rig.beat(&mut b);
        let _ = rig.consumer_request(&a.request(), 1);
    }
    assert_eq!(rig.beat_error(&a), ErrorCode::UnknownMemberId);
    rig.settle_consumers(std::slice::from_mut(&mut b));
    assert_eq!(b.owns().len(), 8);
    rig.check_replay();
}

#[test]
fn a_failed_append_changes_nothing() {
    let mut rig = Rig::new();
    rig.fail_next = Some(ErrorCode::NotLeaderOrFollower);
    let a = Consumer::new("a", &["t"]);
    assert_eq!(rig.beat_error(&a), ErrorCode::NotCoordinator);
    assert_eq!(rig.coordinator.hard_state(), "");
    let mut consumers = two(&mut rig);
    rig.cluster.topics.get_mut("t").unwrap().1 = 9;
    rig.topics_changed(&["t"], false);
    rig.fail_next = Some(ErrorCode::NotEnoughReplicas);
    let response = rig.consumer_request(&consumers[0].request(), 1);
    assert_eq!(error(response.error_code), ErrorCode::CoordinatorNotAvailable);
    rig.settle_consumers(&mut consumers);
    assert_eq!(consumers.iter().map(|c| c.owns().len()).sum::<usize>(), 9, "it is noticed all the same");
    rig.check_replay();
}
