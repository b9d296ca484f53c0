//! OffsetCommit, versions 2-10, and TxnOffsetCommit, versions 0-6.
//!
//! - OffsetCommit 2-4: the client may ask for a retention. 6+: leader epoch. 7+: `group.instance.id`. 9+: a commit with a
//!   generation to a group that does not exist is GROUP_ID_NOT_FOUND (69), before ILLEGAL_GENERATION (22). 10+: topic ids.
//!   9+ is also the first version in which a member of a consumer group may commit, by its member epoch.
//! - TxnOffsetCommit 3+: member and generation. 6+: topic ids, and GROUP_ID_NOT_FOUND as above (KIP-1319).
//!
//! A topic or partition that does not exist is refused alone; if nothing else is asked for, the group is not even looked
//! at. Every partition of the request is answered once, in the order of the request.

use crate::group::classic::group::{Group, State};
use crate::group::config::NAME_BYTES_MAX;
use crate::group::consumer::group::ConsumerGroup;
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::offsets::store::Committed;
use crate::group::outcome::{Outcome, Response, Transaction};
use crate::group::records;
use crate::group::topics::Topics;
use crate::guards::Guard;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequest;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequest;
use ottla_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use ottla_protocol::{ErrorCode, Uuid};

/// Who commits, and how.
struct Committer<'a> {
    group_id: &'a str,
    member_id: &'a str,
    instance_id: Option<&'a str>,
    generation_id: i32,
    is_transactional: bool,
    api_version: i16,
    /// From this version on a missing group has an error of its own, and so has a stale member epoch (KIP-1319).
    knows_new_errors: bool,
    expire_timestamp: Option<i64>,
}

/// The partitions of one topic in a commit, whichever of the two requests it came in.
struct TopicCommit<'a> {
    /// Name and id, or why all partitions are refused.
    topic: Result<(String, Uuid), ErrorCode>,
    partitions: Vec<PartitionCommit<'a>>,
}

struct PartitionCommit<'a> {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: &'a str,
    error: ErrorCode,
}

/// The topics of either request, which differ in the names of their types alone.
macro_rules! asked {
    ($request:expr, $topics:expr, $by_id:expr) => {
        $request.topics.iter().map(|asked| TopicCommit {
            topic: resolve($topics, $by_id, &asked.name, asked.topic_id),
            partitions: asked
                .partitions
                .iter()
                .map(|p| PartitionCommit {
                    partition: p.partition_index,
                    offset: p.committed_offset,
                    leader_epoch: p.committed_leader_epoch,
                    metadata: p.committed_metadata.as_deref().unwrap_or(""),
                    error: ErrorCode::None,
                })
                .collect(),
        })
    };
}

/// The answer to either request: every partition with its error.
macro_rules! answered {
    ($request:expr, $topics:expr, $Response:ident, $Topic:ident, $Partition:ident) => {{
        let partition =
            |p: &PartitionCommit<'_>| $Partition { partition_index: p.partition, error_code: p.error.code() };
        let answers = $request.topics.iter().zip($topics).map(|(asked, answer)| $Topic {
            name: asked.name.clone().into_owned().into(),
            topic_id: asked.topic_id,
            partitions: answer.partitions.iter().map(partition).collect(),
        });
        $Response { topics: answers.collect(), ..Default::default() }
    }};
}

impl GroupCoordinator {
    /// Handles OffsetCommit.
    pub fn handle_offset_commit(
        &mut self,
        request: &OffsetCommitRequest<'_>,
        context: &Context<'_>,
    ) -> Outcome {
        let retention = Some(request.retention_time_ms).filter(|ms| *ms != -1);
        let committer = Committer {
            group_id: &request.group_id,
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            generation_id: request.generation_id_or_member_epoch,
            is_transactional: false,
            api_version: context.api_version,
            knows_new_errors: context.api_version >= 9,
            expire_timestamp: retention.map(|ms| context.now.saturating_add(ms)),
        };
        let mut topics: Vec<_> = asked!(request, context.topics, context.api_version >= 10).collect();
        let mut out = Outcome::default();
        self.commit(&committer, &mut topics, context, &mut out);
        let response = answered!(
            request,
            &topics,
            OffsetCommitResponse,
            OffsetCommitResponseTopic,
            OffsetCommitResponsePartition
        );
        out.reply(context.waiting(), Response::OffsetCommit(response));
        out
    }

    /// Handles TxnOffsetCommit: the offsets become visible when the transaction commits. The caller has verified the
    /// producer and its transaction, and appends the records as part of [`Outcome::transaction`].
    pub fn handle_txn_offset_commit(
        &mut self,
        request: &TxnOffsetCommitRequest<'_>,
        context: &Context<'_>,
    ) -> Outcome {
        let by_id = context.api_version >= 6;
        let committer = Committer {
            group_id: &request.group_id,
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            generation_id: request.generation_id_or_member_epoch,
            is_transactional: true,
            api_version: context.api_version,
            knows_new_errors: by_id,
            expire_timestamp: None,
        };
        let mut topics: Vec<_> = asked!(request, context.topics, by_id).collect();
        let mut out = Outcome::default();
        self.commit(&committer, &mut topics, context, &mut out);
        if !out.records.is_empty() {
            let (producer_id, producer_epoch) = (request.producer_id, request.producer_epoch);
            out.transaction = Some(Transaction { producer_id, producer_epoch });
        }
        let response = answered!(
            request,
            &topics,
            TxnOffsetCommitResponse,
            TxnOffsetCommitResponseTopic,
            TxnOffsetCommitResponsePartition
        );
        out.reply(context.waiting(), Response::TxnOffsetCommit(response));
        out
    }

    /// Fills in the error of every partition and asks for the records of those that have none.
    fn commit(
        &mut self,
        committer: &Committer<'_>,
        topics: &mut [TopicCommit<'_>],
        context: &Context<'_>,
        out: &mut Outcome,
    ) {
        let mut is_worth_a_look = false;
        for topic in topics.iter_mut() {
            for partition in &mut topic.partitions {
                partition.error = match &topic.topic {
                    Err(error) => *error,
                    Ok((name, _)) if !context.topics.has_partition(name, partition.partition) => {
                        ErrorCode::UnknownTopicOrPartition
                    }
                    Ok(_) => ErrorCode::None,
                };
                is_worth_a_look |= partition.error == ErrorCode::None;
            }
        }
        if !is_worth_a_look {
            return;
        }
        let permitted = self.commit_validate(committer, topics);
        if permitted.is_ok() && !committer.is_transactional {
            self.commit_renew_session(committer, context.now, out);
        }
        for topic in topics {
            let Ok((name, topic_id)) = &topic.topic else { continue };
            for partition in topic.partitions.iter_mut().filter(|p| p.error == ErrorCode::None) {
                if let Err(error) = permitted {
                    partition.error = error;
                } else if is_longer(partition.metadata, self.config.offset_metadata_max) {
                    partition.error = ErrorCode::OffsetMetadataTooLarge;
                } else {
                    let (offset, leader_epoch) = (partition.offset, partition.leader_epoch);
                    let committed = Committed::new(offset, leader_epoch.max(-1), context.now, *topic_id)
                        .with_extra(partition.metadata, committer.expire_timestamp);
                    let record =
                        records::offset_commit(committer.group_id, name, partition.partition, &committed);
                    out.records.push(record);
                }
            }
        }
    }

    fn commit_validate(
        &self,
        committer: &Committer<'_>,
        topics: &[TopicCommit<'_>],
    ) -> Result<(), ErrorCode> {
        let is_simple = committer.generation_id < 0;
        // A plain commit may name the group "": some consumers that assign themselves do.
        if committer.group_id.len() > NAME_BYTES_MAX
            || committer.is_transactional && committer.group_id.is_empty()
        {
            return Err(ErrorCode::InvalidGroupId);
        }
        if self.foreign_groups.contains_key(committer.group_id) {
            let is_anonymous = is_simple && committer.member_id.is_empty() && committer.instance_id.is_none();
            return if is_anonymous { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        }
        if let Some(group) = self.consumer_groups.get(committer.group_id) {
            return commit_validate_consumer(group, committer, topics);
        }
        match self.groups.get(committer.group_id) {
            Some(group) => commit_validate_group(group, committer),
            // Not of a group but of a consumer (or an operator) that only keeps offsets here.
            None if is_simple => Ok(()),
            None if committer.knows_new_errors => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// A member that commits is alive, as long as it is not in the middle of the sync phase.
    fn commit_renew_session(&mut self, committer: &Committer<'_>, now: i64, out: &mut Outcome) {
        if let Some(mut room) = self.room(committer.group_id, now, out)
            && matches!(room.group.state, State::Stable | State::PreparingRebalance)
        {
            room.renew_session(committer.member_id);
        }
    }
}

/// One partition that the member may not commit for is enough to refuse them all.
fn commit_validate_consumer(
    group: &ConsumerGroup,
    committer: &Committer<'_>,
    topics: &[TopicCommit<'_>],
) -> Result<(), ErrorCode> {
    let Committer { member_id, instance_id, generation_id, is_transactional, api_version, .. } = *committer;
    let permit = group.permit_commit(member_id, instance_id, generation_id, is_transactional, api_version);
    let checked = permit.and_then(|permit| {
        for TopicCommit { topic, partitions } in topics {
            let Ok((_, id)) = topic else { continue };
            let mut named = partitions.iter().filter(|p| p.error == ErrorCode::None);
            named.try_for_each(|p| permit.check(*id, p.partition))?;
        }
        Ok(())
    });
    checked.map_err(|error| match error {
        ErrorCode::StaleMemberEpoch if !committer.knows_new_errors => ErrorCode::IllegalGeneration,
        error => error,
    })
}

fn commit_validate_group(group: &Group, committer: &Committer<'_>) -> Result<(), ErrorCode> {
    if committer.generation_id < 0 && group.state == State::Empty {
        return Ok(());
    }
    let is_named = !committer.member_id.is_empty() || committer.instance_id.is_some();
    if committer.generation_id >= 0 || is_named {
        let validated = group.validate_member(committer.member_id, committer.instance_id);
        validated.or_else(|error| if Guard::CommitChecksMember.stands() { Err(error) } else { Ok(()) })?;
        if committer.generation_id != group.generation_id && Guard::CommitChecksGeneration.stands() {
            return Err(ErrorCode::IllegalGeneration);
        }
    } else if !committer.is_transactional {
        // Old transactional requests have no place for a member; an anonymous plain commit to a group that has members
        // comes from somebody who is not one of them.
        return Err(ErrorCode::UnknownMemberId);
    }
    if group.state == State::CompletingRebalance
        && !committer.is_transactional
        && Guard::CommitWaitsForAssignment.stands()
    {
        return Err(ErrorCode::RebalanceInProgress);
    }
    Ok(())
}

fn resolve(topics: &dyn Topics, by_id: bool, name: &str, id: Uuid) -> Result<(String, Uuid), ErrorCode> {
    let name = match by_id {
        true => topics.name_of(id).ok_or(ErrorCode::UnknownTopicId)?,
        false => name.to_string(),
    };
    if !topics.is_allowed(&name) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let id = match by_id {
        true => id,
        false => topics.id_of(&name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
    };
    Ok((name, id))
}

/// Kafka counts the characters of Java strings: UTF-16 units.
fn is_longer(text: &str, max: usize) -> bool {
    text.len() > max && text.encode_utf16().count() > max
}
