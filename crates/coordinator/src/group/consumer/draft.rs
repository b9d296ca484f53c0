//! A heartbeat under way: the group as it is in the log, one member as it will be, and the records that lead there.
//!
//! A static member that returns under a new member id is in here too: the records that give it the old place are written
//! already, while the group still knows the place by the old id ([`Draft::replaces`]).

use crate::group::consumer::group::{ConsumerGroup, Subscriptions, count_matches};
use crate::group::consumer::member::{Member, Standing, Target};
use crate::group::consumer::records;
use crate::group::outcome::Record;
use ottla_protocol::Uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Draft<'a> {
    pub group: &'a ConsumerGroup,
    /// The member as the log has it; after the records of a return, if it returns.
    pub before: Member,
    /// The member as it will be.
    pub member: Member,
    /// The id under which the group still knows the place that this member takes.
    pub replaces: Option<Arc<str>>,
    /// The group epoch as it will be.
    pub group_epoch: i32,
    pub records: Vec<Record>,
}

impl<'a> Draft<'a> {
    /// A member that is in the group, or a new one.
    pub(crate) fn of(group: &'a ConsumerGroup, member: Member) -> Draft<'a> {
        let before = member.clone();
        let group_epoch = group.group_epoch;
        Draft { group, before, member, replaces: None, group_epoch, records: Vec::new() }
    }

    /// A static member in the place of `old`: the same in everything but its id, and at the beginning of its epochs.
    pub(crate) fn replacing(group: &'a ConsumerGroup, old: &Member, id: Arc<str>) -> Draft<'a> {
        let standing =
            Standing { member_epoch: 0, previous_member_epoch: 0, ..Standing::clone(&old.standing) };
        let member = Member { id, profile: old.profile.clone(), standing: Arc::new(standing) };
        let target = group.target(&old.id).cloned().unwrap_or_default();
        let mut draft = Draft::of(group, member.clone());
        draft.records.extend(records::remove_member(&group.id, &old.id));
        draft.records.push(records::profile(&group.id, &member));
        draft.records.push(records::target(&group.id, &member.id, &target));
        draft.records.push(records::standing(&group.id, &member.id, &member.standing));
        draft.replaces = Some(old.id.clone());
        draft
    }

    /// The id under which the group knows the member's place.
    pub(crate) fn known_as(&self) -> &Arc<str> {
        self.replaces.as_ref().unwrap_or(&self.member.id)
    }

    /// All members as they will be.
    pub(crate) fn members(&self) -> BTreeMap<&Arc<str>, &Member> {
        let mut members: BTreeMap<_, _> = self.group.members().iter().collect();
        members.remove(self.known_as());
        members.insert(&self.member.id, &self.member);
        members
    }

    /// How many members there will be.
    pub(crate) fn member_count(&self) -> usize {
        self.group.members().len() + usize::from(self.group.member(self.known_as()).is_none())
    }

    /// The target of this member that is in force.
    pub(crate) fn target(&self) -> Arc<Target> {
        self.group.target(self.known_as()).cloned().unwrap_or_default()
    }

    /// Whether nobody but this member holds the partition.
    pub(crate) fn is_free(&self, topic: Uuid, partition: i32) -> bool {
        self.group
            .owner(topic, partition)
            .is_none_or(|owner| owner == self.known_as() || *owner == self.member.id)
    }

    /// The pattern that nobody will subscribe with any more.
    pub(crate) fn abandoned_regex(&self) -> Option<&Arc<str>> {
        let old = self.before.regex()?;
        let is_last = self.group.regexes().get(old) == Some(&1);
        (is_last && self.member.regex() != Some(old)).then_some(old)
    }

    /// How many members will subscribe with each pattern.
    pub(crate) fn regexes(&self) -> BTreeMap<Arc<str>, usize> {
        let mut regexes = self.group.regexes().clone();
        if self.before.regex() != self.member.regex() {
            if let Some(old) = self.before.regex()
                && let Some(count) = regexes.get_mut(old)
            {
                *count -= 1;
            }
            if let Some(new) = self.member.regex() {
                *regexes.entry(new.clone()).or_default() += 1;
            }
            regexes.retain(|_, count| *count > 0);
        }
        regexes
    }

    /// The subscriptions of the group as they will be.
    pub(crate) fn subscriptions(&self) -> Subscriptions {
        let mut subscriptions = self.group.subscriptions_with(Some(&self.before), Some(&self.member));
        let abandoned = self.abandoned_regex().and_then(|regex| self.group.resolved().get(regex));
        if let Some(resolved) = abandoned {
            count_matches(&mut subscriptions, resolved, -1);
        }
        subscriptions
    }
}
