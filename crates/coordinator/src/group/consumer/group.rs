//! A consumer group as its records tell it, with the counts that spare a look at all members.
//!
//! The tricky idea is the map of owners: it is kept by what members hold (assigned or still to be given up), so that one
//! look says whether a partition is free. While a log is replayed whose older records are compacted away, two members may
//! seem to hold one partition for a moment; the later record wins, and a member only ever takes away its own entries.

use crate::group::consumer::member::{Member, Target};
use crate::group::consumer::regex::Resolved;
use ottla_protocol::Uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many members name a topic, and how many patterns of the group match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SubscriptionCount {
    pub by_name: usize,
    pub by_regex: usize,
}

pub(crate) type Subscriptions = BTreeMap<Arc<str>, SubscriptionCount>;

/// States of a consumer group, as tools see them. (`Dead` is only a word: a dead group is not in the map.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Assigning => "Assigning",
            State::Reconciling => "Reconciling",
            State::Stable => "Stable",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ConsumerGroup {
    pub id: Arc<str>,
    pub group_epoch: i32,
    /// What the subscribed topics looked like at this group epoch, see `hash.rs`.
    pub metadata_hash: i64,
    /// -1 before the first assignment.
    pub assignment_epoch: i32,
    /// When the target assignment was computed, 0 if that does not matter for the next one.
    pub assignment_timestamp: i64,
    members: BTreeMap<Arc<str>, Member>,
    /// Instance id → member id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    targets: BTreeMap<Arc<str>, Arc<Target>>,
    /// Who holds a partition.
    owners: BTreeMap<(Uuid, i32), Arc<str>>,
    subscriptions: Subscriptions,
    /// Pattern → members that subscribe with it.
    regexes: BTreeMap<Arc<str>, usize>,
    resolved: BTreeMap<Arc<str>, Resolved>,
    assignors: BTreeMap<Arc<str>, usize>,
    classic_count: usize,
    /// Protocol → classic members that speak it.
    classic_protocols: BTreeMap<Arc<str>, usize>,
    /// A record of type 4 is in the log: Kafka wrote it before the hash took its place, and it is to be removed.
    pub has_partition_metadata: bool,
    /// Soft: the group epoch that the last comparison of the hash led to. `None`, or one that the group has not reached (its
    /// record was not appended): compare again.
    pub checked_at: Option<i32>,
}

impl ConsumerGroup {
    pub(crate) fn new(id: Arc<str>) -> ConsumerGroup {
        ConsumerGroup {
            id,
            group_epoch: 1,
            metadata_hash: 0,
            assignment_epoch: -1,
            assignment_timestamp: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            regexes: BTreeMap::new(),
            resolved: BTreeMap::new(),
            assignors: BTreeMap::new(),
            classic_count: 0,
            classic_protocols: BTreeMap::new(),
            has_partition_metadata: false,
            checked_at: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        if self.members.is_empty() {
            State::Empty
        } else if self.group_epoch > self.assignment_epoch {
            State::Assigning
        } else if self.members.values().all(|member| member.standing.is_reconciled_to(self.assignment_epoch))
        {
            State::Stable
        } else {
            State::Reconciling
        }
    }

    /// Whether topics of the group may have changed since the hash was last compared.
    pub(crate) fn is_stale(&self) -> bool {
        self.checked_at.is_none_or(|group_epoch| self.group_epoch < group_epoch)
    }

    pub(crate) fn members(&self) -> &BTreeMap<Arc<str>, Member> {
        &self.members
    }

    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    pub(crate) fn static_member(&self, instance_id: &str) -> Option<&Member> {
        let id = self.static_members.get(instance_id)?;
        Some(self.members.get(id).expect("an instance id maps to a member"))
    }

    pub(crate) fn targets(&self) -> &BTreeMap<Arc<str>, Arc<Target>> {
        &self.targets
    }

    pub(crate) fn target(&self, member_id: &str) -> Option<&Arc<Target>> {
        self.targets.get(member_id)
    }

    pub(crate) fn owner(&self, topic: Uuid, partition: i32) -> Option<&Arc<str>> {
        self.owners.get(&(topic, partition))
    }

    pub(crate) fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscriptions.contains_key(topic)
    }

    /// Pattern → members that subscribe with it.
    pub(crate) fn regexes(&self) -> &BTreeMap<Arc<str>, usize> {
        &self.regexes
    }

    pub(crate) fn resolved(&self) -> &BTreeMap<Arc<str>, Resolved> {
        &self.resolved
    }

    pub(crate) fn assignors(&self) -> &BTreeMap<Arc<str>, usize> {
        &self.assignors
    }

    pub(crate) fn classic_count(&self) -> usize {
        self.classic_count
    }

    /// Whether a classic member with these protocols could join: there must remain one that all classic members speak.
    pub(crate) fn supports_classic<'p>(&self, mut protocols: impl Iterator<Item = &'p str>) -> bool {
        protocols.any(|name| self.classic_protocols.get(name).copied().unwrap_or(0) == self.classic_count)
    }

    /// The subscriptions of the group once `old` is replaced by `new`. The patterns of the group stay.
    pub(crate) fn subscriptions_with(&self, old: Option<&Member>, new: Option<&Member>) -> Subscriptions {
        let mut subscriptions = self.subscriptions.clone();
        if let Some(old) = old {
            count_names(&mut subscriptions, old, -1);
        }
        if let Some(new) = new {
            count_names(&mut subscriptions, new, 1);
        }
        subscriptions
    }

    // ---- changes; only replay and the conversion of a classic group call these

    pub(crate) fn put_member(&mut self, member: Member) {
        self.detach(&member.id.clone());
        if let Some(instance_id) = &member.profile.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        count_names(&mut self.subscriptions, &member, 1);
        if let Some(regex) = member.regex() {
            count(&mut self.regexes, regex, 1);
        }
        if let Some(assignor) = &member.profile.assignor {
            count(&mut self.assignors, assignor, 1);
        }
        if let Some(classic) = &member.profile.classic {
            self.classic_count += 1;
            classic.protocols.iter().for_each(|p| count(&mut self.classic_protocols, &p.name, 1));
        }
        for (topic, partition) in member.standing.held() {
            self.owners.insert((topic, partition), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    pub(crate) fn remove_member(&mut self, id: &str) {
        self.detach(id);
        self.members.remove(id);
    }

    /// Takes a member out of all counts.
    fn detach(&mut self, id: &str) {
        let Some(member) = self.members.get(id).cloned() else { return };
        if let Some(instance_id) = &member.profile.instance_id
            && self.static_members.get(instance_id).is_some_and(|current| **current == *id)
        {
            self.static_members.remove(instance_id);
        }
        count_names(&mut self.subscriptions, &member, -1);
        if let Some(regex) = member.regex() {
            count(&mut self.regexes, regex, -1);
        }
        if let Some(assignor) = &member.profile.assignor {
            count(&mut self.assignors, assignor, -1);
        }
        if let Some(classic) = &member.profile.classic {
            self.classic_count -= 1;
            classic.protocols.iter().for_each(|p| count(&mut self.classic_protocols, &p.name, -1));
        }
        for held in member.standing.held() {
            if self.owners.get(&held).is_some_and(|owner| **owner == *id) {
                self.owners.remove(&held);
            }
        }
    }

    pub(crate) fn put_target(&mut self, member_id: Arc<str>, target: Target) {
        self.targets.insert(member_id, Arc::new(target));
    }

    pub(crate) fn remove_target(&mut self, member_id: &str) {
        self.targets.remove(member_id);
    }

    /// `None` takes the resolution away.
    pub(crate) fn put_resolved(&mut self, regex: &Arc<str>, resolved: Option<Resolved>) {
        if let Some(old) = self.resolved.remove(regex) {
            count_matches(&mut self.subscriptions, &old, -1);
        }
        if let Some(new) = resolved {
            count_matches(&mut self.subscriptions, &new, 1);
            self.resolved.insert(regex.clone(), new);
        }
    }
}

fn count(counts: &mut BTreeMap<Arc<str>, usize>, key: &Arc<str>, by: isize) {
    let count = counts.entry(key.clone()).or_default();
    *count = count.checked_add_signed(by).expect("what leaves was counted when it came");
    if *count == 0 {
        counts.remove(key);
    }
}

fn count_subscription(
    subscriptions: &mut Subscriptions,
    topic: &Arc<str>,
    field: impl Fn(&mut SubscriptionCount) -> &mut usize,
    by: isize,
) {
    let count = subscriptions.entry(topic.clone()).or_default();
    let value = field(count);
    *value = value.checked_add_signed(by).expect("what leaves was counted when it came");
    if *count == SubscriptionCount::default() {
        subscriptions.remove(topic);
    }
}

/// Counts the topics that a member names, up or down.
pub(crate) fn count_names(subscriptions: &mut Subscriptions, member: &Member, by: isize) {
    for topic in &member.profile.topics {
        count_subscription(subscriptions, topic, |count| &mut count.by_name, by);
    }
}

/// Counts the topics that a pattern matches, up or down.
pub(crate) fn count_matches(subscriptions: &mut Subscriptions, resolved: &Resolved, by: isize) {
    for topic in resolved.topics.iter() {
        count_subscription(subscriptions, topic, |count| &mut count.by_regex, by);
    }
}

impl ConsumerGroup {
    /// Counts everything again and compares: what is kept beside the members says the same as they do.
    pub(crate) fn check_counts(&self) {
        let mut again = ConsumerGroup::new(self.id.clone());
        self.resolved.iter().for_each(|(regex, resolved)| again.put_resolved(regex, Some(resolved.clone())));
        self.members.values().for_each(|member| again.put_member(member.clone()));
        assert_eq!(self.subscriptions, again.subscriptions, "group {}: subscriptions", self.id);
        assert_eq!(self.owners, again.owners, "group {}: owners", self.id);
        assert_eq!(self.regexes, again.regexes, "group {}: regular expressions", self.id);
        assert_eq!(self.assignors, again.assignors, "group {}: assignors", self.id);
        assert_eq!(self.static_members, again.static_members, "group {}: static members", self.id);
        assert_eq!(self.classic_count, again.classic_count, "group {}: classic members", self.id);
        assert_eq!(self.classic_protocols, again.classic_protocols, "group {}: protocols", self.id);
    }
}
