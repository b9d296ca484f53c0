//! Members go: they leave, their session ends, they take too long to give partitions up. The group gets another epoch, and
//! if only members of the classic protocol remain it may become a classic group again.

use crate::group::consumer::group::{ConsumerGroup, count_matches, count_names};
use crate::group::consumer::heartbeat::{Refusal, find};
use crate::group::consumer::member::{LEAVE_STATIC, Member, Owned, Progress, Standing};
use crate::group::consumer::{epochs, records};
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::{Outcome, Then};
use crate::group::timers::TimerKey;
use crate::group::topics::Topics;
use crate::guards::Guard;
use ottla_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use ottla_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Members that one pass takes out of a group.
const TIMEOUTS_MAX: usize = 256;

impl GroupCoordinator {
    /// A heartbeat that says good-bye.
    pub(crate) fn consumer_leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        context: &Context<'_>,
        out: &mut Outcome,
    ) -> Result<ConsumerGroupHeartbeatResponse<'static>, Refusal> {
        let group = self.consumer_group(&request.group_id)?;
        let member = find(group, &request.member_id, request.instance_id.as_deref())?;
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(member.id.to_string().into()),
            member_epoch: request.member_epoch,
            ..Default::default()
        };
        if request.member_epoch == LEAVE_STATIC && request.instance_id.is_some() {
            let gone = Standing {
                member_epoch: LEAVE_STATIC,
                assigned: from_the_beginning(&member.standing.assigned),
                revoking: Owned::new(),
                ..Standing::clone(&member.standing)
            };
            out.records.push(records::standing(&group.id, &member.id, &gone));
            out.then.push(Then::Moved { group: group.id.clone(), member: member.id.clone() });
        } else {
            let (group, member) = (group.id.clone(), member.id.clone());
            self.fence_members(&group, &[member], context.topics, context.now, out);
        }
        Ok(response)
    }

    /// Removes members of a consumer group, all of which are in it.
    pub(crate) fn fence_members(
        &mut self,
        group_id: &Arc<str>,
        leaving: &[Arc<str>],
        topics: &dyn Topics,
        now: i64,
        out: &mut Outcome,
    ) {
        if leaving.is_empty() {
            return;
        }
        let group = &self.consumer_groups[group_id];
        if self.may_downgrade(group, leaving) {
            self.downgrade_without(group_id, leaving, topics, now, out);
            return;
        }
        for member in leaving.iter().filter(|_| Guard::MemberLeavesTombstones.stands()) {
            out.records.extend(records::remove_member(group_id, member));
        }
        let gone: Vec<&Member> = leaving.iter().map(|id| &group.members()[id]).collect();
        let mut subscriptions = group.subscriptions().clone();
        let mut regexes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in &gone {
            count_names(&mut subscriptions, member, -1);
            if let Some(regex) = member.regex() {
                *regexes.entry(regex).or_default() += 1;
            }
        }
        for (regex, count) in regexes {
            if group.regexes().get(regex) == Some(&count) {
                out.records.push(records::resolved_tombstone(group_id, regex));
                if let Some(resolved) = group.resolved().get(regex) {
                    count_matches(&mut subscriptions, resolved, -1);
                }
            }
        }
        let metadata_hash = self.topic_hashes.of_group(&subscriptions, topics);
        let group_epoch = epochs::next(group.group_epoch);
        out.records.push(records::group_epoch(group_id, group_epoch, metadata_hash));
        if group.members().len() == leaving.len() {
            // Nobody is left to assign to, and the next one to come is not to wait for an assignment interval.
            out.records.push(records::target_metadata(group_id, group_epoch, 0));
        }
    }

    /// The time of a member of a consumer group is over, and of those of the same group whose time is over too: they go
    /// together, for one epoch.
    pub(crate) fn on_member_timeouts(
        &mut self,
        first: TimerKey,
        now: i64,
        topics: &dyn Topics,
        out: &mut Outcome,
    ) {
        let Some((group_id, _)) = first.member() else { return };
        let group_id = group_id.clone();
        let mut timers = vec![first];
        let is_mine = |key: &TimerKey| key.member().is_some_and(|(group, _)| *group == group_id);
        while timers.len() < TIMEOUTS_MAX
            && let Some(key) = self.timers.pop_due_if(now, is_mine)
        {
            timers.push(key);
        }
        let Some(group) = self.consumer_groups.get(&group_id) else { return };
        timers.retain(|key| {
            let member = key.member().and_then(|(_, id)| group.member(id));
            let has_given_up = matches!(key, TimerKey::Revocation(..)) && !member.is_some_and(is_giving_up);
            let may_stay = matches!(key, TimerKey::Session(..)) && !Guard::SessionEnds.stands();
            member.is_some() && !has_given_up && !may_stay
        });
        let leaving: BTreeSet<_> =
            timers.iter().filter_map(|key| key.member()).map(|(_, id)| id.clone()).collect();
        let leaving: Vec<_> = leaving.into_iter().collect();
        self.fence_members(&group_id, &leaving, topics, now, out);
        if !timers.is_empty() {
            out.then.push(Then::TimedOut { timers });
        }
    }

    /// The standing of a member changed: while it has partitions to give up, its time for that runs.
    pub(crate) fn on_moved(&mut self, group_id: &Arc<str>, member_id: &Arc<str>, now: i64) {
        let member = self.consumer_groups.get(group_id).and_then(|group| group.member(member_id));
        let Some(member) = member.filter(|member| !member.is_classic()) else { return };
        let key = TimerKey::Revocation(group_id.clone(), member_id.clone());
        if is_giving_up(member) && Guard::RevocationTimesOut.stands() {
            let timeout_ms = i64::from(member.profile.rebalance_timeout_ms.max(0));
            self.timers.schedule(key, now + timeout_ms);
        } else {
            self.timers.cancel(&key);
        }
    }

    /// Takes every timer of a member of a consumer group away.
    pub(crate) fn cancel_member_timers(&mut self, group_id: &Arc<str>, member_id: &Arc<str>) {
        for key in [TimerKey::Session, TimerKey::Revocation, TimerKey::ClassicJoin, TimerKey::ClassicSync] {
            self.timers.cancel(&key(group_id.clone(), member_id.clone()));
        }
    }
}

/// Whether the member has partitions to give up and is here to do so.
fn is_giving_up(member: &Member) -> bool {
    member.standing.progress == Progress::Unrevoked && member.standing.member_epoch != LEAVE_STATIC
}

/// A static member that returns gets what it had, and commits under its first member epoch are good for all of it.
fn from_the_beginning(assigned: &Owned) -> Owned {
    let partitions = |partitions: &BTreeMap<i32, i32>| partitions.keys().map(|p| (*p, 0)).collect();
    assigned.iter().map(|(topic, owned)| (*topic, partitions(owned))).collect()
}

/// Whether all members but these speak the classic protocol, and there are any.
pub(crate) fn only_classic_without(group: &ConsumerGroup, leaving: &[Arc<str>]) -> bool {
    let classic = leaving.iter().filter(|id| group.members()[*id].is_classic()).count();
    let left = group.members().len() - leaving.len();
    left > 0 && group.classic_count() - classic == left
}
