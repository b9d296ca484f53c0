//! What operators see and do: describe, list, delete.

use crate::rig::{Client, Rig, error, subscription};
use ottla_coordinator::Response;
use ottla_protocol::ErrorCode;

fn delete(rig: &mut Rig, groups: &[&str]) -> Vec<(String, ErrorCode)> {
    let waiter = rig.request("admin", 2, |c, context| c.handle_delete_groups(groups, context));
    let Response::DeleteGroups(response) = rig.answer(waiter) else { panic!() };
    response.results.iter().map(|result| (result.group_id.to_string(), error(result.error_code))).collect()
}

#[test]
fn describe_shows_members_with_what_they_said_and_got() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a").with_instance("i")];
    rig.stabilize(&mut clients);
    let group = rig.coordinator.describe_group("g", 6);
    assert_eq!((group.error_code, &*group.group_state), (0, "Stable"));
    assert_eq!((&*group.protocol_type, &*group.protocol_data), ("consumer", "range"));
    let member = &group.members[0];
    assert_eq!(member.member_id, clients[0].member_id);
    assert_eq!(member.group_instance_id.as_deref(), Some("i"));
    assert_eq!((&*member.client_id, &*member.client_host), ("a", "/a.test"));
    assert_eq!((&*member.member_metadata, &*member.member_assignment), (&*subscription(&["t"]), &[0][..]));

    let waiter = rig.join(&clients[0]);
    let joined = rig.joined(waiter);
    assert_eq!(joined.generation_id, 2);
    let group = rig.coordinator.describe_group("g", 6);
    assert_eq!((&*group.group_state, &*group.protocol_data), ("CompletingRebalance", ""));
    assert!(group.members[0].member_metadata.is_empty());
}

#[test]
fn a_group_that_is_not_there_is_dead_and_since_version_six_an_error() {
    let rig = Rig::new();
    let old = rig.coordinator.describe_group("x", 5);
    assert_eq!((old.error_code, &*old.group_state), (0, "Dead"));
    let new = rig.coordinator.describe_group("x", 6);
    assert_eq!((error(new.error_code), &*new.group_state), (ErrorCode::GroupIdNotFound, "Dead"));
    assert_eq!(new.error_message.as_deref(), Some("Group x not found."));
}

#[test]
fn list_filters_by_state_and_type_whatever_the_case() {
    let mut rig = Rig::new();
    rig.stabilize(&mut [Client::new("a").in_group("stable")]);
    rig.commit(&Client::new("b").in_group("simple"), &[("t", 0, 1)]);
    let check = |states: &[&str], types: &[&str], expected: &[&str]| {
        let states: Vec<_> = states.iter().map(|name| (*name).into()).collect();
        let types: Vec<_> = types.iter().map(|name| (*name).into()).collect();
        let listed = rig.coordinator.list_groups(&states, &types);
        let names: Vec<_> = listed.iter().map(|group| &*group.group_id).collect();
        assert_eq!(names, expected);
    };
    check(&[], &[], &["simple", "stable"]);
    check(&["STABLE"], &[], &["stable"]);
    check(&["stable", "Empty"], &["Classic"], &["simple", "stable"]);
    check(&[], &["consumer"], &[]);
    check(&["Dead"], &[], &[]);
    check(&[], &["nonsense"], &[]);
    let listed = rig.coordinator.list_groups(&["Empty".into()], &["classic".into()]);
    assert_eq!((&*listed[0].protocol_type, &*listed[0].group_state), ("", "Empty"));
    assert_eq!(listed[0].group_type, "classic");
    assert_eq!(rig.coordinator.group_counts(), [("Empty", 1), ("Stable", 1)]);
}

#[test]
fn only_empty_groups_are_deleted() {
    let mut rig = Rig::new();
    let mut clients = [Client::new("a")];
    rig.stabilize(&mut clients);
    rig.commit(&clients[0], &[("t", 0, 1), ("u", 1, 2)]);
    let expected = [("g", ErrorCode::NonEmptyGroup), ("x", ErrorCode::GroupIdNotFound)];
    assert_eq!(delete(&mut rig, &["g", "x", "g"]), expected.map(|(id, error)| (id.to_string(), error)));
    rig.leave(&clients[0]);
    assert_eq!(delete(&mut rig, &["g"]), [("g".to_string(), ErrorCode::None)]);
    assert_eq!((rig.state("g"), rig.coordinator.offset_count()), ("Dead".into(), 0));
    rig.check_replay();
    let mut again = [clients[0].restarted()];
    rig.stabilize(&mut again);
    assert_eq!(again[0].generation, 1);
    assert_eq!(rig.fetch_all("g"), []);
    rig.check_replay();
}

#[test]
fn groups_of_other_kinds_are_let_alone() {
    let mut rig = Rig::new();
    // Group metadata of a share group (type 11), as KIP-932 writes it, then a member (10) and something unheard of.
    let key = |record_type: i16, group: &str| {
        let mut key = record_type.to_be_bytes().to_vec();
        key.extend((group.len() as i16).to_be_bytes());
        key.extend(group.as_bytes());
        key
    };
    for (record_type, group) in [(11, "new"), (10, "new"), (99, "?")] {
        let value = Some(vec![0, 0, 0, 0, 0, 7]);
        rig.log.push(crate::rig::Logged::Record { key: key(record_type, group), value, producer_id: -1 });
    }
    rig.fail_over();
    let seen = &rig.coordinator.foreign_records().by_type;
    assert_eq!(seen.iter().map(|(t, n)| (*t, *n)).collect::<Vec<_>>(), [(10, 1), (11, 1), (99, 1)]);
    assert_eq!(rig.join_error(&Client::new("a").in_group("new")), ErrorCode::InconsistentGroupProtocol);
    let simple = Client::new("s").in_group("new");
    assert_eq!(rig.commit(&simple, &[("t", 0, 3)]), [ErrorCode::None]);
    let member = Client { member_id: "m".into(), generation: 4, ..simple };
    assert_eq!(rig.commit(&member, &[("t", 0, 3)]), [ErrorCode::UnknownMemberId]);
    assert_eq!(delete(&mut rig, &["new"]), [("new".to_string(), ErrorCode::NonEmptyGroup)]);
    rig.advance(rig.config.offsets_retention_ms * 2);
    assert_eq!(rig.fetch_all("new").len(), 1, "its offsets are not ours to expire");
    rig.check_replay();
}
