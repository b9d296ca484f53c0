//! Members of the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup tell them what
//! heartbeats tell the others.
//!
//! ```text
//! a heartbeat answered with REBALANCE_IN_PROGRESS: there is something to follow
//! JoinGroup  (its subscription says what it owns): one step of `reconcile.rs`; the generation is the member epoch
//! SyncGroup  hands out what is assigned
//! ```
//!
//! To its client the group looks like one with another leader. Nothing is parked.

use crate::group::classic::join::{Join, truncated};
use crate::group::classic::rebalance::owned as text;
use crate::group::config::MigrationPolicy;
use crate::group::consumer::draft::Draft;
use crate::group::consumer::group::ConsumerGroup;
use crate::group::consumer::heartbeat::{Refusal, check_size, find};
use crate::group::consumer::member::{Classic, Member, Profile, Progress};
use crate::group::consumer::migrate::{classic_group, tombstones, write_downgrade};
use crate::group::consumer::reconcile::reconcile;
use crate::group::consumer::regex::{self, RegexChange};
use crate::group::consumer::target::{self, Goal};
use crate::group::consumer::{epochs, records};
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::Outcome;
use crate::group::subscription;
use crate::group::timers::TimerKey;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::sync_group_request::SyncGroupRequest;
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use std::sync::Arc;

impl GroupCoordinator {
    /// JoinGroup to a consumer group that has members.
    pub(crate) fn classic_join(
        &mut self,
        group_id: &str,
        join: &Join<'_>,
        context: &Context<'_>,
        out: &mut Outcome,
    ) {
        let before = out.records.len();
        match self.classic_join_step(group_id, join, context, out) {
            Ok(response) => out.join(join.waiting, response),
            Err(refusal) => {
                assert_eq!(out.records.len(), before, "a refused request changes nothing");
                out.join_error(join.waiting, "", refusal.error);
            }
        }
    }

    fn classic_join_step(
        &mut self,
        group_id: &str,
        join: &Join<'_>,
        context: &Context<'_>,
        out: &mut Outcome,
    ) -> Result<JoinGroupResponse<'static>, Refusal> {
        let refuse = |text: &str| Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, text));
        let (config, now, topics) = (&self.config.consumer, context.now, context.topics);
        if config.migration_policy == MigrationPolicy::Disabled {
            return refuse("Groups do not change their kind here.");
        }
        let group = &self.consumer_groups[group_id];
        let is_unknown = join.member_id.is_empty();
        let member_id: Arc<str> = match is_unknown {
            true => {
                let prefix = join.instance_id.unwrap_or(join.client_id);
                Arc::from(self.ids.generate(prefix, |id| group.member(id).is_none()))
            }
            false => Arc::from(join.member_id),
        };
        check_size(group, &member_id, join.instance_id, config.max_size)?;
        let names = join.protocols.iter().map(|protocol| &*protocol.name);
        if join.protocol_type != subscription::CONSUMER || !group.supports_classic(names) {
            return refuse("The member's protocols are not supported.");
        }
        if is_unknown && join.instance_id.is_none() && context.api_version >= 4 {
            return Ok(JoinGroupResponse {
                error_code: ErrorCode::MemberIdRequired.code(),
                member_id: text(&member_id),
                ..Default::default()
            });
        }
        let Some(subscribed) = subscription::decode(&join.protocols[0].metadata) else {
            return refuse("The subscription is malformed.");
        };
        let claimed = subscription::owned(&subscribed, topics);

        let mut draft = classic_admit(group, &member_id, join.instance_id, is_unknown)?;
        let downgrades = draft.replaces.as_ref().is_some_and(|old| {
            let others = group.members().len() - 1;
            !group.members()[old].is_classic()
                && group.classic_count() == others
                && config.migration_policy.downgrades()
                && group.members().len() <= self.config.group_max_size
        });
        let old = draft.before.profile.clone();
        let rack = subscribed.rack_id.as_deref().filter(|rack| !rack.is_empty());
        let profile = Profile {
            instance_id: join.instance_id.map(Arc::from).or_else(|| old.instance_id.clone()),
            rack_id: rack.map(Arc::from).or_else(|| old.rack_id.clone()),
            client_id: Arc::from(truncated(context.client_id)),
            client_host: Arc::from(context.client_host),
            topics: subscribed.topics.iter().map(|topic| Arc::from(&**topic)).collect(),
            regex: Arc::from(""),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            assignor: old.assignor.clone(),
            classic: Some(Classic {
                session_timeout_ms: join.session_timeout_ms,
                protocols: join.protocols.clone(),
            }),
        };
        if profile != *old {
            draft.member.profile = Arc::new(profile);
            draft.records.push(records::profile(group_id, &draft.member));
        }
        let new_names = old.topics != draft.member.profile.topics;
        let regex_change = regex::change(&mut draft)?;
        let has_new_subscription = new_names || regex_change != RegexChange::None;
        let looks_again = has_new_subscription || group.is_stale();
        if looks_again {
            let metadata_hash = self.topic_hashes.of_group(&draft.subscriptions(), topics);
            epochs::advance(&mut draft, has_new_subscription, metadata_hash);
        }
        let follows = !downgrades || group.assignment_epoch >= draft.group_epoch;
        let goal = if downgrades {
            Goal { assignment_epoch: group.assignment_epoch, target: draft.target() }
        } else {
            let overrides = topics.group_overrides(group_id);
            let interval_ms = overrides.assignment_interval_ms.unwrap_or(config.assignment_interval_ms);
            target::update(&mut draft, &config.assignors[0], interval_ms, now, topics)
        };
        if follows {
            let standing = reconcile(&draft, &goal, has_new_subscription, Some(&claimed), topics)?;
            if standing != *draft.member.standing {
                draft.records.push(records::standing(group_id, &draft.member.id, &standing));
                draft.member.standing = Arc::new(standing);
            }
        }

        out.records.append(&mut draft.records);
        if downgrades {
            let members = draft.members();
            tombstones(group, members.keys().copied(), &mut out.records);
            // Who has not caught up with the assignment would never hear of the rest of it.
            let settled = |member: &&Member| member.standing.is_reconciled_to(group.assignment_epoch);
            let rebalances = !follows || !members.values().all(settled);
            let classic = classic_group(&group.id, group.group_epoch, members.values().copied(), topics, now);
            write_downgrade(classic, rebalances, out);
        } else {
            let key = (group.id.clone(), member_id.clone());
            self.timers.cancel(&TimerKey::ClassicJoin(key.0.clone(), key.1.clone()));
            let session = TimerKey::Session(key.0.clone(), key.1.clone());
            self.timers.schedule(session, now + i64::from(join.session_timeout_ms));
            let sync = TimerKey::ClassicSync(key.0, key.1);
            self.timers.schedule(sync, now + i64::from(join.rebalance_timeout_ms.max(0)));
        }
        let response = JoinGroupResponse {
            generation_id: draft.member.standing.member_epoch,
            protocol_type: Some(subscription::CONSUMER.into()),
            protocol_name: Some(text(&join.protocols[0].name)),
            member_id: text(&member_id),
            ..Default::default()
        };
        let group_epoch = draft.group_epoch;
        if looks_again && let Some(group) = self.consumer_groups.get_mut(group_id) {
            group.checked_at = Some(group_epoch);
        }
        Ok(response)
    }

    /// SyncGroup of a member of a consumer group.
    pub(crate) fn classic_sync(
        &mut self,
        request: &SyncGroupRequest<'_>,
        context: &Context<'_>,
    ) -> Result<SyncGroupResponse<'static>, ErrorCode> {
        let group = &self.consumer_groups[&*request.group_id];
        let (member, classic) =
            classic_member(group, &request.member_id, request.group_instance_id.as_deref())?;
        if member.standing.member_epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = &classic.protocols[0];
        let differs = |theirs: Option<&str>, ours: &str| theirs.is_some_and(|theirs| theirs != ours);
        if differs(request.protocol_type.as_deref(), subscription::CONSUMER)
            || differs(request.protocol_name.as_deref(), &protocol.name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_behind = group.assignment_epoch > member.standing.member_epoch;
        let key = (group.id.clone(), member.id.clone());
        if is_behind && member.standing.progress != Progress::Unrevoked {
            let timeout_ms = i64::from(member.profile.rebalance_timeout_ms.max(0));
            self.timers.schedule_if_absent(TimerKey::ClassicJoin(key.0, key.1), context.now + timeout_ms);
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.timers.cancel(&TimerKey::ClassicSync(key.0.clone(), key.1.clone()));
        let session_ms = i64::from(classic.session_timeout_ms);
        self.timers.schedule(TimerKey::Session(key.0, key.1), context.now + session_ms);
        let assigned = subscription::target_of(&member.standing.assigned);
        let version = subscription::version(&protocol.metadata);
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.as_deref().map(text),
            protocol_name: request.protocol_name.as_deref().map(text),
            assignment: subscription::encode_assignment(&assigned, version, context.topics).into(),
            ..Default::default()
        })
    }

    /// Heartbeat of a member of a consumer group: REBALANCE_IN_PROGRESS (27) when a JoinGroup would bring it further.
    pub(crate) fn classic_heartbeat(
        &mut self,
        request: &HeartbeatRequest<'_>,
        now: i64,
    ) -> Result<(), ErrorCode> {
        let group = &self.consumer_groups[&*request.group_id];
        let (member, classic) =
            classic_member(group, &request.member_id, request.group_instance_id.as_deref())?;
        let standing = &*member.standing;
        if standing.member_epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let key = (group.id.clone(), member.id.clone());
        let session = TimerKey::Session(key.0.clone(), key.1.clone());
        self.timers.schedule(session, now + i64::from(classic.session_timeout_ms));
        let has_to_join = standing.member_epoch < group.assignment_epoch
            || match standing.progress {
                Progress::Unrevoked => true,
                Progress::Unreleased => !waits_for_others(group, member),
                Progress::Stable | Progress::Unknown => false,
            };
        if has_to_join {
            let timeout_ms = i64::from(member.profile.rebalance_timeout_ms.max(0));
            self.timers.schedule_if_absent(TimerKey::ClassicJoin(key.0, key.1), now + timeout_ms);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// LeaveGroup to a consumer group: an error for each of (member id, instance id). Without a member id an operator
    /// removes a static member.
    pub(crate) fn classic_leave(
        &mut self,
        group_id: &str,
        leaving: &[(&str, Option<&str>)],
        context: &Context<'_>,
        out: &mut Outcome,
    ) -> Vec<ErrorCode> {
        let group = &self.consumer_groups[group_id];
        let mut errors = Vec::with_capacity(leaving.len());
        let mut gone: Vec<Arc<str>> = Vec::new();
        for (member_id, instance_id) in leaving {
            let found = match instance_id {
                Some(instance_id) if member_id.is_empty() => {
                    let unknown = || Refusal::unknown_member(group_id, member_id);
                    group.static_member(instance_id).ok_or_else(unknown)
                }
                _ => find(group, member_id, *instance_id),
            };
            errors.push(found.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.error));
            if let Ok(member) = found
                && !gone.contains(&member.id)
            {
                gone.push(member.id.clone());
            }
        }
        let id = group.id.clone();
        self.fence_members(&id, &gone, context.topics, context.now, out);
        errors
    }
}

/// The member that a JoinGroup is about.
fn classic_admit<'a>(
    group: &'a ConsumerGroup,
    member_id: &Arc<str>,
    instance_id: Option<&str>,
    is_unknown: bool,
) -> Result<Draft<'a>, Refusal> {
    let new = || Draft::of(group, Member::new(member_id.clone()));
    match instance_id {
        None => Ok(group.member(member_id).map_or_else(new, |member| Draft::of(group, member.clone()))),
        Some(instance_id) if is_unknown => match group.static_member(instance_id) {
            Some(old) => Ok(Draft::replacing(group, old, member_id.clone())),
            None => Ok(new()),
        },
        Some(_) => find(group, member_id, instance_id).map(|member| Draft::of(group, member.clone())),
    }
}

/// A member that speaks the classic protocol: UNKNOWN_MEMBER_ID (25), FENCED_INSTANCE_ID (82).
fn classic_member<'g>(
    group: &'g ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
) -> Result<(&'g Member, &'g Classic), ErrorCode> {
    let member = find(group, member_id, instance_id).map_err(|refusal| refusal.error)?;
    let classic = member.profile.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
    Ok((member, classic))
}

/// Whether anything that the member is to have is still held by somebody.
fn waits_for_others(group: &ConsumerGroup, member: &Member) -> bool {
    let Some(target) = group.target(&member.id) else { return false };
    target.iter().any(|(topic, partitions)| {
        let assigned = member.standing.assigned.get(topic);
        partitions.iter().any(|partition| {
            !assigned.is_some_and(|assigned| assigned.contains_key(partition))
                && group.owner(*topic, *partition).is_some()
        })
    })
}
