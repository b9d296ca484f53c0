//! Single partitions: from a state and a wish to a record, case by case.

use crate::{Election, PartitionChange};
use ottla_metadata::topic::nodes;
use ottla_metadata::{LeaderRecoveryState, MetadataVersion, Partition};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{LeaderEpoch, NodeId, PartitionId, TopicId};

/// Replicas 1, 2, 3; led by the first of the ISR, or nobody.
fn partition(isr: &[i32], elr: &[i32], last: &[i32]) -> Partition {
    Partition {
        replicas: nodes(&[1, 2, 3]),
        directories: vec![Uuid::ZERO; 3],
        isr: nodes(isr),
        elr: nodes(elr),
        last_known_elr: nodes(last),
        leader: isr.first().map(|id| NodeId(*id)),
        leader_epoch: LeaderEpoch(5),
        partition_epoch: 9,
        ..Default::default()
    }
}

struct Wish<'a> {
    isr: &'a [i32],
    alive: &'a [i32],
    election: Election,
    elr: bool,
    version: i16,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Wish { isr: &[], alive: &[1, 2, 3], election: Election::Online, elr: true, version: 33 }
    }
}

/// The partition after the change; `None` if there is no record.
fn after(before: &Partition, wish: &Wish<'_>) -> Option<Partition> {
    let may_lead = |id: NodeId, _: Uuid| wish.alive.contains(&id.0);
    let change = PartitionChange {
        partition: before,
        topic_id: TopicId(Uuid::ZERO),
        index: PartitionId(0),
        target: Partition { isr: nodes(wish.isr), ..before.clone() },
        election: wish.election,
        unclean_shutdown: None,
        elr_enabled: wish.elr,
        min_isr: 2,
        metadata_version: MetadataVersion(wish.version),
        may_lead: &may_lead,
    };
    Some(before.changed(&change.record()?).expect("valid"))
}

#[test]
fn nothing_to_do() {
    assert_eq!(after(&partition(&[1, 2], &[], &[]), &Wish { isr: &[1, 2], ..Wish::default() }), None);
    let leaderless = partition(&[], &[2], &[2]);
    assert_eq!(after(&leaderless, &Wish { alive: &[1, 3], ..Wish::default() }), None);
}

#[test]
fn a_smaller_isr() {
    let before = partition(&[1, 2, 3], &[], &[]);
    let enough = after(&before, &Wish { isr: &[1, 3], ..Wish::default() }).expect("changed");
    assert_eq!((enough.isr, enough.elr, enough.leader_epoch), (nodes(&[1, 3]), nodes(&[]), LeaderEpoch(5)));
    let few = after(&before, &Wish { isr: &[1], ..Wish::default() }).expect("changed");
    assert_eq!((few.isr, few.elr), (nodes(&[1]), nodes(&[2, 3])));
    // Back above the minimum, nobody needs to be remembered.
    let more = after(&few_state(), &Wish { isr: &[1, 2], ..Wish::default() }).expect("changed");
    assert_eq!((more.isr, more.elr), (nodes(&[1, 2]), nodes(&[])));
    // Old brokers needed a new epoch.
    let old =
        after(&before, &Wish { isr: &[1, 3], elr: false, version: 11, ..Wish::default() }).expect("changed");
    assert_eq!((old.leader, old.leader_epoch), (Some(NodeId(1)), LeaderEpoch(6)));
}

fn few_state() -> Partition {
    partition(&[1], &[2, 3], &[])
}

#[test]
fn the_leader_is_gone() {
    let before = partition(&[1, 2], &[], &[]);
    let wish = Wish { isr: &[2], alive: &[2, 3], ..Wish::default() };
    let elected = after(&before, &wish).expect("changed");
    assert_eq!((elected.leader, elected.isr, elected.elr), (Some(NodeId(2)), nodes(&[2]), nodes(&[1])));
    assert_eq!((elected.leader_epoch, elected.partition_epoch), (LeaderEpoch(6), 10));
    let nobody = after(&few_state(), &Wish { alive: &[], ..Wish::default() }).expect("changed");
    assert_eq!((nobody.leader, nobody.isr, nobody.elr), (None, nodes(&[]), nodes(&[1, 2, 3])));
    assert_eq!(nobody.last_known_elr, nodes(&[1]));
    let kept = after(&partition(&[1], &[], &[]), &Wish { alive: &[], elr: false, ..Wish::default() })
        .expect("changed");
    assert_eq!((kept.leader, kept.isr), (None, nodes(&[1])));
}

#[test]
fn an_eligible_replica_leads_without_loss() {
    let before = partition(&[], &[2, 3], &[1]);
    let elected = after(&before, &Wish { alive: &[3], ..Wish::default() }).expect("changed");
    assert_eq!((elected.leader, elected.isr, elected.elr), (Some(NodeId(3)), nodes(&[3]), nodes(&[2])));
    assert_eq!(
        (elected.last_known_elr, elected.leader_recovery_state),
        (nodes(&[]), LeaderRecoveryState::Recovered)
    );
}

#[test]
fn eligible_replicas_wait_until_the_isr_is_empty() {
    // Its directory failed: 1 can not lead, but nobody has taken it out of the ISR yet.
    let before = partition(&[1], &[2, 3], &[]);
    let nobody = after(&before, &Wish { isr: &[1], alive: &[2, 3], ..Wish::default() }).expect("changed");
    assert_eq!((nobody.leader, nobody.isr, nobody.elr), (None, nodes(&[1]), nodes(&[2, 3])));
}

#[test]
fn the_last_leader_is_believed_when_nobody_else_is_left() {
    let before = partition(&[], &[], &[2]);
    let elected = after(&before, &Wish { alive: &[1, 2], ..Wish::default() }).expect("changed");
    assert_eq!((elected.leader, elected.isr), (Some(NodeId(2)), nodes(&[2])));
    assert_eq!(elected.leader_recovery_state, LeaderRecoveryState::Recovering);
    // Not while an eligible replica may come back, which has everything.
    assert_eq!(after(&partition(&[], &[3], &[2]), &Wish { alive: &[1, 2], ..Wish::default() }), None);
    // Of several last known replicas none is.
    assert_eq!(after(&partition(&[], &[], &[1, 2]), &Wish::default()), None);
    assert_eq!(after(&before, &Wish { alive: &[1], ..Wish::default() }), None);
}

#[test]
fn unclean_elections() {
    let before = partition(&[], &[], &[2]);
    let wish = Wish { alive: &[1, 3], election: Election::Unclean, ..Wish::default() };
    let elected = after(&before, &wish).expect("changed");
    assert_eq!(
        (elected.leader, elected.isr, elected.last_known_elr),
        (Some(NodeId(1)), nodes(&[1]), nodes(&[]))
    );
    assert_eq!(elected.leader_recovery_state, LeaderRecoveryState::Recovering);
    // Not while somebody complete is there.
    let complete = partition(&[], &[3], &[2]);
    assert_eq!(after(&complete, &wish).expect("changed").leader, Some(NodeId(3)));
}

#[test]
fn preferred_elections() {
    let mut before = partition(&[2, 1], &[], &[]);
    assert_eq!(before.leader, Some(NodeId(2)));
    let wish = Wish { isr: &[2, 1], election: Election::Preferred, ..Wish::default() };
    assert_eq!(after(&before, &wish).expect("changed").leader, Some(NodeId(1)));
    let absent = Wish { alive: &[2, 3], ..wish };
    assert_eq!(after(&before, &absent), None);
    before.isr = nodes(&[2, 3]);
    assert_eq!(after(&before, &Wish { isr: &[2, 3], ..absent }), None);
}
