//! A classic group: its members and the counts that tell when a phase of a rebalance is complete. No clock beyond the
//! `now` of a transition, no timers, no replies: those are the business of [`crate::group::classic::rebalance`].

use crate::group::classic::member::{Member, Protocol};
use crate::group::outcome::Waiting;
use crate::group::subscription;
use crate::guards::Guard;
use ottla_protocol::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Kafka's states of a classic group. (`Dead` is only a word in DescribeGroups: a dead group is not in the map.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    fn may_follow(self, previous: State) -> bool {
        match self {
            State::Empty | State::CompletingRebalance => previous == State::PreparingRebalance,
            State::PreparingRebalance => previous != State::PreparingRebalance,
            State::Stable => previous == State::CompletingRebalance,
        }
    }
}

/// The wait before the first rebalance of an empty group: it is prolonged while members keep coming.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InitialDelay {
    pub delay_ms: i64,
    pub remaining_ms: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub id: Arc<str>,
    pub state: State,
    pub previous_state: State,
    /// When the state was entered, ms; unknown for groups that were loaded from old records.
    pub state_timestamp: Option<i64>,
    pub generation_id: i32,
    /// `None`: nobody ever joined, the group only holds offsets ("simple" consumers).
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub leader_id: Option<Arc<str>>,
    pub members: BTreeMap<Arc<str>, Member>,
    /// Instance id → member id.
    pub static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Were told their member id (79) and have not come back with it yet.
    pub pending_join: BTreeSet<Arc<str>>,
    /// Have not asked for the assignment of this generation yet.
    pub pending_sync: BTreeSet<Arc<str>>,
    awaiting_join_count: usize,
    /// How many members speak each protocol.
    protocol_counts: BTreeMap<Arc<str>, usize>,
    /// Topics that any member subscribes to; `None` if the group is not one of consumers or a subscription is unreadable.
    pub subscribed: Option<BTreeSet<Arc<str>>>,
    pub new_member_added: bool,
    pub initial_delay: Option<InitialDelay>,
}

impl Group {
    pub(crate) fn new(id: Arc<str>, state_timestamp: Option<i64>) -> Group {
        Group {
            id,
            state: State::Empty,
            previous_state: State::Empty,
            state_timestamp,
            generation_id: 0,
            protocol_type: None,
            protocol_name: None,
            leader_id: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            awaiting_join_count: 0,
            protocol_counts: BTreeMap::new(),
            subscribed: None,
            new_member_added: false,
            initial_delay: None,
        }
    }

    pub(crate) fn transition(&mut self, state: State, now: i64) {
        assert!(state.may_follow(self.state), "group {}: {state:?} can not follow {:?}", self.id, self.state);
        self.previous_state = self.state;
        self.state = state;
        self.state_timestamp = Some(now);
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader_id.as_deref() == Some(member_id)
    }

    pub(crate) fn awaiting_join_count(&self) -> usize {
        self.awaiting_join_count
    }

    pub(crate) fn has_all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join_count && self.pending_join.is_empty()
    }

    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(subscription::CONSUMER)
    }

    pub(crate) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms.max(0))).max().unwrap_or(0)
    }

    /// UNKNOWN_MEMBER_ID (25), or FENCED_INSTANCE_ID (82) if another member took over the instance id.
    pub(crate) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if &**current != member_id && Guard::StaticMemberIsFenced.stands() => {
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether a member with these protocols could join: there must remain one that everybody speaks.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let common =
            |p: &Protocol| self.protocol_counts.get(&p.name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(common)
    }

    pub(crate) fn add_member(&mut self, member: Member, protocol_type: Option<&Arc<str>>) {
        if let Some(instance_id) = &member.instance_id {
            let taken = self.static_members.insert(instance_id.clone(), member.id.clone());
            assert!(taken.is_none(), "group {}: instance {instance_id} is taken", self.id);
        }
        if self.members.is_empty() {
            self.protocol_type = protocol_type.cloned();
        }
        if self.leader_id.is_none() {
            self.leader_id = Some(member.id.clone());
        }
        self.pending_join.remove(&member.id);
        self.count_protocols(&member.protocols, true);
        self.awaiting_join_count += usize::from(member.is_awaiting_join());
        let replaced = self.members.insert(member.id.clone(), member);
        assert!(replaced.is_none(), "group {}: a member joins once", self.id);
    }

    /// Forgets a member or a pending member. The caller answers what the removed member still waits for.
    pub(crate) fn remove_member(&mut self, member_id: &str) -> Option<Member> {
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        let member = self.members.remove(member_id)?;
        self.count_protocols(&member.protocols, false);
        self.awaiting_join_count -= usize::from(member.is_awaiting_join());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader_id = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives the place of a static member to a new member id. The caller answers what waits under the old one.
    pub(crate) fn replace_static_member(&mut self, instance_id: &Arc<str>, old_id: &str, new_id: &Arc<str>) {
        let mut member = self.members.remove(old_id).expect("the instance id maps to a member");
        assert!(
            member.awaiting_join.is_none() && member.awaiting_sync.is_none(),
            "waiters are answered before"
        );
        member.id = new_id.clone();
        member.is_new = false;
        self.members.insert(new_id.clone(), member);
        self.static_members.insert(instance_id.clone(), new_id.clone());
        if self.is_leader(old_id) {
            self.leader_id = Some(new_id.clone());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.clone());
        }
    }

    pub(crate) fn set_protocols(&mut self, member_id: &str, protocols: Vec<Protocol>) {
        let member = self.members.get_mut(member_id).expect("the member exists");
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_protocols(&old, false);
        self.count_protocols(&protocols, true);
    }

    fn count_protocols(&mut self, protocols: &[Protocol], add: bool) {
        for protocol in protocols {
            let count = self.protocol_counts.entry(protocol.name.clone()).or_insert(0);
            *count = if add { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.protocol_counts.remove(&protocol.name);
            }
        }
    }

    /// Parks a JoinGroup; returns the one that was parked before it.
    pub(crate) fn park_join(&mut self, member_id: &str, waiting: Waiting) -> Option<Waiting> {
        let member = self.members.get_mut(member_id).expect("the member exists");
        let previous = member.awaiting_join.replace(waiting);
        self.awaiting_join_count += usize::from(previous.is_none());
        previous
    }

    pub(crate) fn take_join(&mut self, member_id: &str) -> Option<Waiting> {
        let waiting = self.members.get_mut(member_id)?.awaiting_join.take();
        self.awaiting_join_count -= usize::from(waiting.is_some());
        waiting
    }

    /// Parks a SyncGroup; returns the one that was parked before it.
    pub(crate) fn park_sync(&mut self, member_id: &str, waiting: Waiting) -> Option<Waiting> {
        self.members.get_mut(member_id).expect("the member exists").awaiting_sync.replace(waiting)
    }

    pub(crate) fn take_sync(&mut self, member_id: &str) -> Option<Waiting> {
        self.members.get_mut(member_id)?.awaiting_sync.take()
    }

    /// If the leader did not come back, somebody who did becomes leader. False if nobody came back.
    pub(crate) fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader_id.as_ref().and_then(|id| self.members.get(id));
        if leader.is_some_and(Member::is_awaiting_join) {
            return true;
        }
        match self.members.values().find(|member| member.is_awaiting_join()) {
            Some(member) => {
                self.leader_id = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// Every member votes for the protocol it likes best among those that all speak; the most votes win, and of equals
    /// the first by name.
    pub(crate) fn select_protocol(&self) -> Option<Arc<str>> {
        let common = |p: &&Protocol| self.protocol_counts.get(&p.name) == Some(&self.members.len());
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().find(common)?;
            *votes.entry(&choice.name).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// The join phase is over: the next generation begins, with whoever is there.
    pub(crate) fn begin_generation(&mut self, now: i64) {
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.transition(State::Empty, now);
        } else {
            self.protocol_name = self.select_protocol();
            assert!(
                self.protocol_name.is_some(),
                "group {}: nobody joins without a common protocol",
                self.id
            );
            self.transition(State::CompletingRebalance, now);
        }
        self.subscribed = self.compute_subscribed();
    }

    pub(crate) fn compute_subscribed(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_deref()?;
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.append(&mut subscription::topics_of(member.metadata(protocol))?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, protocols: &[&str]) -> Member {
        let protocol = |name: &&str| Protocol { name: Arc::from(*name), metadata: Arc::from([]) };
        Member {
            id: Arc::from(id),
            instance_id: None,
            client_id: Arc::from(""),
            client_host: Arc::from(""),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 1,
            protocols: protocols.iter().map(protocol).collect(),
            assignment: crate::group::classic::member::empty_assignment(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    fn check_vote(members: &[&[&str]], expected: Option<&str>) {
        let mut group = Group::new(Arc::from("g"), None);
        for (index, protocols) in members.iter().enumerate() {
            group.add_member(member(&format!("m{index}"), protocols), Some(&Arc::from("consumer")));
        }
        assert_eq!(group.select_protocol().as_deref(), expected);
    }

    #[test]
    fn the_most_voted_common_protocol_wins() {
        check_vote(&[&["range"]], Some("range"));
        check_vote(&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], Some("sticky"));
        check_vote(&[&["roundrobin", "range"], &["range"]], Some("range"));
        check_vote(&[&["b", "a"], &["a", "b"]], Some("a"));
        check_vote(&[&["a"], &["b"]], None);
        check_vote(&[], None);
    }

    #[test]
    fn counts_follow_members_in_and_out() {
        let mut group = Group::new(Arc::from("g"), None);
        group.add_member(member("m1", &["a", "b"]), Some(&Arc::from("consumer")));
        group.add_member(member("m2", &["b"]), None);
        group.state = State::Stable;
        let offer = |name: &str| vec![Protocol { name: Arc::from(name), metadata: Arc::from([]) }];
        assert!(group.supports("consumer", &offer("b")));
        assert!(!group.supports("consumer", &offer("a")));
        assert!(!group.supports("connect", &offer("b")));
        group.remove_member("m2");
        assert!(group.supports("consumer", &offer("a")));
        assert_eq!(group.leader_id.as_deref(), Some("m1"));
        group.remove_member("m1");
        assert_eq!(group.leader_id, None);
    }
}
