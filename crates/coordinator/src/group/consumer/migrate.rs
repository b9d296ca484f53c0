//! A group changes its kind while it lives (`group.consumer.migration.policy`).
//!
//! *Upgrade*: the first heartbeat that joins a classic group of consumers turns it into a consumer group. Its members stay
//! members, speak the classic protocol, and have what the last leader assigned; whoever waits for that rebalance hears that
//! there is another one. *Downgrade*: the last member of the consumer protocol goes, and only classic members are left:
//! they become a classic group and rebalance.
//!
//! Either way it is one batch of records: tombstones of the one kind, then the other kind. An empty group just changes.

use crate::group::classic::group::{Group, State};
use crate::group::classic::member::{Member as ClassicMember, empty_assignment};
use crate::group::config::MigrationPolicy;
use crate::group::consumer::fence::only_classic_without;
use crate::group::consumer::group::ConsumerGroup;
use crate::group::consumer::heartbeat::Refusal;
use crate::group::consumer::member::{Classic, Member, Owned, Profile, Progress, Standing, Target};
use crate::group::consumer::records;
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::{Outcome, Record, Then};
use crate::group::records::{group_metadata, group_tombstone};
use crate::group::subscription;
use crate::group::timers::TimerKey;
use crate::group::topics::Topics;
use ottla_protocol::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A consumer group that becomes a classic one.
#[derive(Debug)]
pub(crate) struct Downgrade {
    /// What it becomes. It knows more than its record: all the protocols of its members, not only the one in force.
    group: Group,
    /// Whether the members have to agree on an assignment first.
    rebalances: bool,
}

impl GroupCoordinator {
    /// The consumer group that a member joins, with the records that make it: `None` if there is one already.
    pub(crate) fn consumer_group_to_join(
        &self,
        group_id: &str,
        context: &Context<'_>,
    ) -> Result<Option<(ConsumerGroup, Vec<Record>)>, Refusal> {
        if self.consumer_groups.contains_key(group_id) {
            return Ok(None);
        }
        if self.foreign_groups.contains_key(group_id) {
            return Err(Refusal::other_group(group_id));
        }
        let fresh = || ConsumerGroup::new(Arc::from(group_id));
        match self.groups.get(group_id) {
            None => Ok(Some((fresh(), vec![]))),
            Some(classic) if classic.state == State::Empty => {
                Ok(Some((fresh(), vec![group_tombstone(group_id)])))
            }
            Some(classic) => self.upgraded(classic, context.topics).map(Some),
        }
    }

    fn upgraded(
        &self,
        classic: &Group,
        topics: &dyn Topics,
    ) -> Result<(ConsumerGroup, Vec<Record>), Refusal> {
        let consumer = &self.config.consumer;
        let refuse = |why: &str| {
            let text =
                format!("Cannot upgrade classic group {} to consumer group because {why}.", classic.id);
            Err(Refusal::new(ErrorCode::GroupIdNotFound, text))
        };
        if !consumer.migration_policy.upgrades() {
            return refuse("online upgrade is disabled");
        }
        if !classic.uses_consumer_protocol() {
            return refuse("the group does not use the consumer embedded protocol");
        }
        if classic.members.len() > consumer.max_size {
            return refuse("the group size exceeds the consumer group maximum size");
        }
        let protocol = classic.protocol_name.clone().or_else(|| classic.select_protocol());
        let Some(protocol) = protocol else { return refuse("its members have no protocol in common") };
        let mut group = ConsumerGroup::new(classic.id.clone());
        (group.group_epoch, group.assignment_epoch) = (classic.generation_id, classic.generation_id);
        let mut taken = BTreeSet::new();
        for member in classic.members.values() {
            let Some(subscribed) = subscription::decode(member.metadata(&protocol)) else {
                return refuse("the embedded consumer protocol is malformed");
            };
            let target = match subscription::decode_assignment(&member.assignment) {
                Some(assignment) if assignment.user_data.as_ref().is_some_and(|data| !data.is_empty()) => {
                    return refuse(
                        "an unsupported custom assignor is in use. Please refer to the documentation or switch to a \
                         default assignor before re-attempting the upgrade",
                    );
                }
                Some(assignment) => subscription::assigned(&assignment, topics),
                None => return refuse("the embedded consumer protocol is malformed"),
            };
            // A leader that gave a partition to two members is not followed in that.
            let mut target: Target = target;
            for (topic, partitions) in &mut target {
                partitions.retain(|partition| taken.insert((*topic, *partition)));
            }
            target.retain(|_, partitions| !partitions.is_empty());
            let since =
                |partitions: &BTreeSet<i32>| partitions.iter().map(|p| (*p, classic.generation_id)).collect();
            let assigned: Owned =
                target.iter().map(|(topic, partitions)| (*topic, since(partitions))).collect();
            let profile = Profile {
                instance_id: member.instance_id.clone(),
                rack_id: subscribed.rack_id.as_deref().filter(|rack| !rack.is_empty()).map(Arc::from),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                topics: subscribed.topics.iter().map(|topic| Arc::from(&**topic)).collect(),
                regex: Arc::from(""),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                assignor: None,
                classic: Some(Classic {
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: member.protocols.clone(),
                }),
            };
            let standing = Standing {
                member_epoch: classic.generation_id,
                previous_member_epoch: classic.generation_id,
                progress: Progress::Stable,
                assigned,
                revoking: Owned::new(),
            };
            group.put_target(member.id.clone(), target);
            let (id, profile, standing) = (member.id.clone(), Arc::new(profile), Arc::new(standing));
            group.put_member(Member { id, profile, standing });
        }
        let mut written = vec![group_tombstone(&group.id)];
        written.extend(group.members().values().map(|member| records::profile(&group.id, member)));
        // The hash of the topics is left out: the heartbeat that leads here compares it and finds it different.
        written.push(records::group_epoch(&group.id, group.group_epoch, group.metadata_hash));
        written.extend(group.targets().iter().map(|(id, target)| records::target(&group.id, id, target)));
        written.push(records::target_metadata(&group.id, group.assignment_epoch, group.assignment_timestamp));
        let members = group.members().values();
        written.extend(members.map(|member| records::standing(&group.id, &member.id, &member.standing)));
        Ok((group, written))
    }

    /// The classic group ends: whoever waits for its rebalance joins again, and the sessions of its members go on.
    pub(crate) fn answer_converted(&mut self, group_id: &str, out: &mut Outcome) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let ids: Vec<_> = group.members.keys().cloned().collect();
        for id in &ids {
            if let Some(waiting) = group.take_join(id) {
                out.join_error(waiting, id, ErrorCode::RebalanceInProgress);
            }
            if let Some(waiting) = group.take_sync(id) {
                out.sync_error(waiting, ErrorCode::RebalanceInProgress);
            }
        }
        out.then.push(Then::Upgraded { group: group.id.clone() });
    }

    pub(crate) fn on_upgraded(&mut self, group_id: &Arc<str>, now: i64) {
        let group = &self.consumer_groups[group_id];
        for member in group.members().values() {
            if let Some(classic) = &member.profile.classic {
                let key = TimerKey::Session(group_id.clone(), member.id.clone());
                self.timers.schedule(key, now + i64::from(classic.session_timeout_ms));
            }
        }
    }

    // ---- the way back

    pub(crate) fn may_downgrade(&self, group: &ConsumerGroup, leaving: &[Arc<str>]) -> bool {
        self.config.consumer.migration_policy.downgrades()
            && only_classic_without(group, leaving)
            && group.members().len() - leaving.len() <= self.config.group_max_size
    }

    /// Only classic members are left once these are gone.
    pub(crate) fn downgrade_without(
        &self,
        group_id: &Arc<str>,
        leaving: &[Arc<str>],
        topics: &dyn Topics,
        now: i64,
        out: &mut Outcome,
    ) {
        let group = &self.consumer_groups[group_id];
        tombstones(group, group.members().keys(), &mut out.records);
        let staying = group.members().values().filter(|member| !leaving.contains(&member.id));
        let classic = classic_group(group_id, group.group_epoch, staying, topics, now);
        write_downgrade(classic, true, out);
    }

    pub(crate) fn on_downgraded(&mut self, downgrade: Downgrade, now: i64, out: &mut Outcome) {
        let id = downgrade.group.id.clone();
        let members: Vec<_> = downgrade.group.members.keys().cloned().collect();
        self.groups.insert(id.clone(), downgrade.group);
        let mut room = self.room(&id, now, out).expect("it was just put there");
        members.iter().for_each(|member_id| room.renew_session(member_id));
        if downgrade.rebalances {
            room.prepare_rebalance();
        }
    }
}

/// Writes the group that a consumer group becomes; its tombstones are written already.
pub(crate) fn write_downgrade(group: Group, rebalances: bool, out: &mut Outcome) {
    let assignment = group.members.values().map(|member| (member.id.clone(), member.assignment.clone()));
    let assignment: BTreeMap<_, _> = assignment.collect();
    out.records.push(group_metadata(&group, &assignment));
    out.then.push(Then::Downgraded(Box::new(Downgrade { group, rebalances })));
}

/// Everything that the log knows of a consumer group goes, in the order in which replay wants to see it go.
pub(crate) fn tombstones<'m>(
    group: &ConsumerGroup,
    members: impl Iterator<Item = &'m Arc<str>> + Clone,
    out: &mut Vec<Record>,
) {
    let id = &group.id;
    out.extend(members.clone().map(|member| records::standing_tombstone(id, member)));
    out.extend(members.clone().map(|member| records::target_tombstone(id, member)));
    out.push(records::target_metadata_tombstone(id));
    out.extend(members.map(|member| records::profile_tombstone(id, member)));
    out.extend(group.resolved().keys().map(|regex| records::resolved_tombstone(id, regex)));
    out.push(records::partition_metadata_tombstone(id));
    out.push(records::group_epoch_tombstone(id));
}

/// A stable classic group of these members, all of which speak the classic protocol. Each is assigned what it holds, and
/// not what it was to have: should the group be upgraded again before it has agreed on anything, that is the truth.
pub(crate) fn classic_group<'m>(
    id: &Arc<str>,
    group_epoch: i32,
    members: impl Iterator<Item = &'m Member>,
    topics: &dyn Topics,
    now: i64,
) -> Group {
    let mut group = Group::new(id.clone(), Some(now));
    group.generation_id = group_epoch;
    let consumer = Arc::from(subscription::CONSUMER);
    let mut held = BTreeMap::new();
    for member in members {
        let profile = &*member.profile;
        let classic = profile.classic.as_ref().expect("only classic members are left");
        let mut mine = Target::new();
        for (topic, partition) in member.standing.held() {
            mine.entry(topic).or_default().insert(partition);
        }
        held.insert(member.id.clone(), mine);
        let member = ClassicMember {
            id: member.id.clone(),
            instance_id: profile.instance_id.clone(),
            client_id: profile.client_id.clone(),
            client_host: profile.client_host.clone(),
            rebalance_timeout_ms: profile.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.protocols.clone(),
            assignment: empty_assignment(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        };
        group.add_member(member, Some(&consumer));
    }
    group.state = State::Stable;
    group.previous_state = State::CompletingRebalance;
    group.protocol_name = group.select_protocol();
    assert!(group.protocol_name.is_some(), "group {id}: classic members have a protocol in common");
    group.subscribed = group.compute_subscribed();
    let protocol = group.protocol_name.clone().unwrap_or_else(|| Arc::from(""));
    for (member_id, held) in held {
        let member = group.members.get_mut(&member_id).expect("it was just added");
        let version = subscription::version(member.metadata(&protocol));
        member.assignment = Arc::from(subscription::encode_assignment(&held, version, topics));
    }
    group
}

impl MigrationPolicy {
    fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
    }
}
