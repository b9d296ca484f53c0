//! ConsumerGroupHeartbeat, versions 0-1: joining (member epoch 0), following, leaving (-1), leaving for now (-2, static
//! members).
//!
//! - 1+: the client makes up the member id (KIP-1082), and may subscribe by regular expression.
//!
//! A request says only what changed since the last one; the answer holds the assignment only if it changed, or if the
//! request was a full one. A heartbeat with nothing to tell costs a few look-ups.

use crate::group::classic::join::truncated;
use crate::group::config::NAME_BYTES_MAX;
use crate::group::consumer::draft::Draft;
use crate::group::consumer::group::ConsumerGroup;
use crate::group::consumer::member::{JOIN, LEAVE, LEAVE_STATIC, Member, Owned, Profile, Standing};
use crate::group::consumer::reconcile::{Claimed, reconcile};
use crate::group::consumer::regex::{self, RegexChange};
use crate::group::consumer::{epochs, records, target};
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::outcome::{Outcome, Response, Then};
use crate::group::timers::TimerKey;
use crate::guards::Guard;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use ottla_protocol::messages::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why a request about a consumer group is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub error: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(error: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { error, message: message.into() }
    }

    /// A group of another kind.
    pub(crate) fn other_group(group_id: &str) -> Refusal {
        Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} is not a consumer group."))
    }

    /// No group at all; `kind` is what was looked for.
    fn no_group(kind: &str, group_id: &str) -> Refusal {
        Refusal::new(ErrorCode::GroupIdNotFound, format!("{kind} {group_id} not found."))
    }

    pub(crate) fn unknown_member(group_id: &str, member_id: &str) -> Refusal {
        let text = format!("Member {member_id} is not a member of group {group_id}.");
        Refusal::new(ErrorCode::UnknownMemberId, text)
    }
}

impl GroupCoordinator {
    /// Handles ConsumerGroupHeartbeat.
    pub fn handle_consumer_group_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        context: &Context<'_>,
    ) -> Outcome {
        let mut out = Outcome::default();
        let answer =
            self.consumer_validate(request, context.api_version).and_then(|()| match request.member_epoch {
                LEAVE | LEAVE_STATIC => self.consumer_leave(request, context, &mut out),
                _ => self.consumer_heartbeat(request, context, &mut out),
            });
        let response = answer.unwrap_or_else(|refusal| {
            assert!(out.records.is_empty(), "a refused heartbeat changes nothing");
            ConsumerGroupHeartbeatResponse {
                error_code: refusal.error.code(),
                error_message: Some(refusal.message.into()),
                ..Default::default()
            }
        });
        out.reply(context.waiting(), Response::ConsumerGroupHeartbeat(response));
        out
    }

    fn consumer_validate(
        &self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        api_version: i16,
    ) -> Result<(), Refusal> {
        let refuse = |text: &str| Err(Refusal::new(ErrorCode::InvalidRequest, text));
        let is_empty = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref() == Some("");
        let is_member = request.member_epoch > JOIN || request.member_epoch == LEAVE;
        if (api_version >= 1 || is_member) && request.member_id.is_empty() {
            return refuse("MemberId can't be empty.");
        }
        if request.group_id.is_empty() {
            return refuse("GroupId can't be empty.");
        }
        if is_empty(&request.instance_id) {
            return refuse("InstanceId can't be empty.");
        }
        if is_empty(&request.rack_id) {
            return refuse("RackId can't be empty.");
        }
        let names = [Some(&request.group_id), Some(&request.member_id), request.instance_id.as_ref()];
        if names.into_iter().flatten().any(|name| name.len() > NAME_BYTES_MAX) {
            return refuse("A name is too long.");
        }
        match request.member_epoch {
            JOIN => {
                if request.rebalance_timeout_ms == -1 {
                    return refuse("RebalanceTimeoutMs must be provided in first request.");
                }
                if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                    return refuse("TopicPartitions must be empty when (re-)joining.");
                }
                if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                    return refuse(
                        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                    );
                }
            }
            LEAVE_STATIC if request.instance_id.is_none() => return refuse("InstanceId can't be null."),
            ..LEAVE_STATIC => return refuse("MemberEpoch is invalid."),
            _ => {}
        }
        if let Some(name) = request.server_assignor.as_deref()
            && !self.config.consumer.assignors.iter().any(|offered| offered == name)
        {
            let offered = self.config.consumer.assignors.join(", ");
            let text = format!("ServerAssignor {name} is not supported. Supported assignors: {offered}.");
            return Err(Refusal::new(ErrorCode::UnsupportedAssignor, text));
        }
        Ok(())
    }

    fn consumer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        context: &Context<'_>,
        out: &mut Outcome,
    ) -> Result<ConsumerGroupHeartbeatResponse<'static>, Refusal> {
        let (group_id, now) = (&*request.group_id, context.now);
        let joins = request.member_epoch == JOIN;
        let fresh = if joins { self.consumer_group_to_join(group_id, context)? } else { None };
        let (group, conversion) = match &fresh {
            Some((group, records)) => (group, &records[..]),
            None => match self.consumer_groups.get(group_id) {
                Some(group) => (group, &[][..]),
                None if self.has_group(group_id) => return Err(Refusal::other_group(group_id)),
                None => return Err(Refusal::no_group("Consumer group", group_id)),
            },
        };
        let instance_id = request.instance_id.as_deref();
        check_size(group, &request.member_id, instance_id, self.config.consumer.max_size)?;
        let claimed: Option<Vec<_>> = request
            .topic_partitions
            .as_ref()
            .map(|owned| owned.iter().map(|t| (t.topic_id, &t.partitions[..])).collect());
        let claimed: Claimed<'_> = claimed.as_deref();

        let mut draft = match instance_id {
            _ if joins => {
                let id = match &*request.member_id {
                    "" => self.ids.uuid(|id| group.member(id).is_none()),
                    given => given.to_string(),
                };
                admit(group, &id, instance_id)?
            }
            _ => {
                let member = find(group, &request.member_id, instance_id)?;
                check_member_epoch(&member.standing, request.member_epoch, claimed)?;
                Draft::of(group, member.clone())
            }
        };
        if let Some(profile) = updated(&draft.before.profile, request, context) {
            draft.member.profile = Arc::new(profile);
            draft.records.push(records::profile(group_id, &draft.member));
        }
        let consumer = &self.config.consumer;
        let new_names = draft.before.profile.topics != draft.member.profile.topics;
        let regex_change = regex::change(&mut draft)?;
        let default_assignor = &*consumer.assignors[0];
        let new_assignor = draft.before.profile.assignor != draft.member.profile.assignor && {
            let now = epochs::preferred_assignor(group.assignors()).map_or(default_assignor, |name| name);
            let counts = epochs::assignors_with(&draft);
            now != epochs::preferred_assignor(&counts).map_or(default_assignor, |name| name)
        };
        let new_names = new_names && Guard::SubscriptionBumpsGroupEpoch.stands();
        let needs_epoch = new_names || regex_change == RegexChange::Resolved || new_assignor;
        let looks_again = needs_epoch || group.is_stale();
        if looks_again {
            let metadata_hash = self.topic_hashes.of_group(&draft.subscriptions(), context.topics);
            epochs::advance(&mut draft, needs_epoch, metadata_hash);
        }
        let overrides = context.topics.group_overrides(group_id);
        let interval_ms = overrides.assignment_interval_ms.unwrap_or(consumer.assignment_interval_ms);
        let goal = target::update(&mut draft, default_assignor, interval_ms, now, context.topics);
        let has_new_subscription = new_names || regex_change != RegexChange::None;
        let standing = reconcile(&draft, &goal, has_new_subscription, claimed, context.topics)?;
        let is_moved = standing != *draft.member.standing;
        if is_moved {
            draft.records.push(records::standing(group_id, &draft.member.id, &standing));
        }

        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && claimed.is_some();
        let is_told = joins || is_full || standing.assigned != draft.before.standing.assigned;
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(draft.member.id.to_string().into()),
            member_epoch: standing.member_epoch,
            heartbeat_interval_ms: overrides.heartbeat_interval_ms.unwrap_or(consumer.heartbeat_interval_ms),
            assignment: is_told.then(|| assignment(&standing.assigned)),
            ..Default::default()
        };

        let regexes = regex::due(
            &draft,
            regex_change,
            now,
            self.new_topics_version,
            consumer.regex_refresh_interval_ms,
        );
        let (member_id, group_epoch) = (draft.member.id.clone(), draft.group_epoch);
        let (mut written, id) = (std::mem::take(&mut draft.records), group.id.clone());
        out.records.extend_from_slice(conversion);
        out.records.append(&mut written);
        if looks_again && let Some(group) = self.consumer_groups.get_mut(group_id) {
            group.checked_at = Some(group_epoch);
        }
        if is_moved {
            out.then.push(Then::Moved { group: id.clone(), member: member_id.clone() });
        }
        if !conversion.is_empty() {
            self.answer_converted(group_id, out);
        }
        self.start_regex_job(group_id, regexes, context.topics, now);
        let session_ms = overrides.session_timeout_ms.unwrap_or(self.config.consumer.session_timeout_ms);
        let session_ends = now + i64::from(session_ms);
        match out.records.is_empty() {
            true => self.timers.schedule(TimerKey::Session(id, member_id), session_ends),
            false => out.then.push(Then::Heard { group: id, member: member_id, session_ends }),
        }
        Ok(response)
    }

    /// A consumer group, or GROUP_ID_NOT_FOUND (69).
    pub(crate) fn consumer_group(&self, group_id: &str) -> Result<&ConsumerGroup, Refusal> {
        self.consumer_groups.get(group_id).ok_or_else(|| match self.has_group(group_id) {
            true => Refusal::other_group(group_id),
            false => Refusal::no_group("Group", group_id),
        })
    }
}

/// GROUP_MAX_SIZE_REACHED (81), but not for those who have a place already.
pub(crate) fn check_size(
    group: &ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
    max_size: usize,
) -> Result<(), Refusal> {
    let has_place = group.member(member_id).is_some()
        || instance_id.is_some_and(|instance_id| group.static_member(instance_id).is_some());
    if has_place || group.members().len() < max_size {
        return Ok(());
    }
    let text = format!("The consumer group has reached its maximum capacity of {max_size} members.");
    Err(Refusal::new(ErrorCode::GroupMaxSizeReached, text))
}

/// A member that joins: one that is here already, a new one, or a static one that returns under a new member id.
fn admit<'a>(group: &'a ConsumerGroup, id: &str, instance_id: Option<&str>) -> Result<Draft<'a>, Refusal> {
    let holder = instance_id.and_then(|instance_id| group.static_member(instance_id));
    match holder {
        Some(holder)
            if !holder.is_classic()
                && holder.standing.member_epoch != LEAVE_STATIC
                && Guard::InstanceIsReleasedFirst.stands() =>
        {
            let text = format!(
                "Static member {id} with instance id {} cannot join the group because the instance id is owned by {} \
                 member.",
                instance_id.unwrap_or(""),
                holder.id
            );
            Err(Refusal::new(ErrorCode::UnreleasedInstanceId, text))
        }
        Some(holder) => Ok(Draft::replacing(group, holder, Arc::from(id))),
        None => {
            let known = group.member(id).cloned();
            Ok(Draft::of(group, known.unwrap_or_else(|| Member::new(Arc::from(id)))))
        }
    }
}

/// UNKNOWN_MEMBER_ID (25), FENCED_INSTANCE_ID (82).
pub(crate) fn find<'a>(
    group: &'a ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
) -> Result<&'a Member, Refusal> {
    let Some(instance_id) = instance_id else {
        return group.member(member_id).ok_or_else(|| Refusal::unknown_member(&group.id, member_id));
    };
    let member = group.static_member(instance_id).ok_or_else(|| {
        Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))
    })?;
    if *member.id != *member_id && Guard::StaticMemberIsFenced.stands() {
        let text = format!(
            "Static member {member_id} with instance id {instance_id} was fenced by member {}.",
            member.id
        );
        return Err(Refusal::new(ErrorCode::FencedInstanceId, text));
    }
    Ok(member)
}

/// FENCED_MEMBER_EPOCH (110). A member that comes with the epoch before its current one may have missed the last answer:
/// it is let through if it owns no more than it was assigned.
fn check_member_epoch(standing: &Standing, received: i32, claimed: Claimed<'_>) -> Result<(), Refusal> {
    let is_subset = |claimed: &[(ottla_protocol::Uuid, &[i32])]| {
        claimed.iter().all(|(topic, partitions)| {
            let assigned = standing.assigned.get(topic);
            partitions.iter().all(|p| assigned.is_some_and(|assigned| assigned.contains_key(p)))
        })
    };
    let how = match received {
        _ if received == standing.member_epoch || !Guard::HeartbeatChecksMemberEpoch.stands() => {
            return Ok(());
        }
        _ if received > standing.member_epoch => "greater",
        _ if received == standing.previous_member_epoch && claimed.is_some_and(is_subset) => return Ok(()),
        _ => "smaller",
    };
    let text = format!(
        "The consumer group member has a {how} member epoch ({received}) than the one known by the group coordinator \
         ({}). The member must abandon all its partitions and rejoin.",
        standing.member_epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, text))
}

/// What the member said of itself, if it is anything new.
fn updated(
    old: &Profile,
    request: &ConsumerGroupHeartbeatRequest<'_>,
    context: &Context<'_>,
) -> Option<Profile> {
    let is_new = |told: Option<&str>, known: Option<&str>| told.is_some() && told != known;
    let names = request.subscribed_topic_names.as_ref();
    let names: Option<BTreeSet<&str>> = names.map(|names| names.iter().map(|name| &**name).collect());
    let new_names = names.filter(|names| !names.iter().copied().eq(old.topics.iter().map(|topic| &**topic)));
    let (client_id, client_host) = (truncated(context.client_id), context.client_host);
    let is_unchanged = new_names.is_none()
        && !is_new(request.instance_id.as_deref(), old.instance_id.as_deref())
        && !is_new(request.rack_id.as_deref(), old.rack_id.as_deref())
        && !is_new(request.subscribed_topic_regex.as_deref(), Some(&old.regex))
        && !is_new(request.server_assignor.as_deref(), old.assignor.as_deref())
        && (request.rebalance_timeout_ms == -1 || request.rebalance_timeout_ms == old.rebalance_timeout_ms)
        && *old.client_id == *client_id
        && *old.client_host == *client_host
        && old.classic.is_none();
    if is_unchanged {
        return None;
    }
    let shared = |told: Option<&str>, known: &Option<Arc<str>>| told.map(Arc::from).or_else(|| known.clone());
    Some(Profile {
        instance_id: shared(request.instance_id.as_deref(), &old.instance_id),
        rack_id: shared(request.rack_id.as_deref(), &old.rack_id),
        client_id: Arc::from(client_id),
        client_host: Arc::from(client_host),
        topics: match new_names {
            Some(names) => names.into_iter().map(Arc::from).collect(),
            None => old.topics.clone(),
        },
        regex: request.subscribed_topic_regex.as_deref().map_or_else(|| old.regex.clone(), Arc::from),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => old.rebalance_timeout_ms,
            told => told,
        },
        assignor: shared(request.server_assignor.as_deref(), &old.assignor),
        classic: None,
    })
}

fn assignment(assigned: &Owned) -> Assignment {
    let topic = |(id, partitions): (&ottla_protocol::Uuid, &BTreeMap<i32, i32>)| TopicPartitions {
        topic_id: *id,
        partitions: partitions.keys().copied().collect(),
    };
    Assignment { topic_partitions: assigned.iter().map(topic).collect() }
}
