//! DeleteGroups, versions 0-3, OffsetDelete, version 0, and everything else that makes offsets and groups go away: expiry
//! (KIP-211) and the deletion of topics.

use crate::group::classic::group::State;
use crate::group::classic::rebalance::owned;
use crate::group::consumer::tombstones;
use crate::group::coordinator::{Context, GroupCoordinator};
use crate::group::offsets::store::Committed;
use crate::group::outcome::{Outcome, Record, Response, Then};
use crate::group::records;
use crate::group::timers::TimerKey;
use crate::guards::Guard;
use ottla_protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use ottla_protocol::messages::offset_delete_request::OffsetDeleteRequest;
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::BTreeSet;

impl GroupCoordinator {
    /// Deletes groups that live on this partition: GROUP_ID_NOT_FOUND (69), NON_EMPTY_GROUP (68). The reply holds one result
    /// per distinct group; a request for groups of several partitions is put together by the caller.
    pub fn handle_delete_groups(&mut self, group_ids: &[&str], context: &Context<'_>) -> Outcome {
        let mut out = Outcome::default();
        let mut seen = BTreeSet::new();
        let mut results = Vec::new();
        for group_id in group_ids.iter().filter(|id| seen.insert(**id)) {
            let error = match () {
                // Its members are not ours to see: better refuse than delete under their feet.
                _ if self.foreign_groups.contains_key(*group_id) => ErrorCode::NonEmptyGroup,
                _ if !self.has_group(group_id) => ErrorCode::GroupIdNotFound,
                _ if !self.is_empty_group(group_id) && Guard::MembersKeepTheirGroup.stands() => {
                    ErrorCode::NonEmptyGroup
                }
                _ => {
                    self.delete_group(group_id, &mut out.records);
                    ErrorCode::None
                }
            };
            let group_id = owned(group_id);
            results.push(DeletableGroupResult { group_id, error_code: error.code(), ..Default::default() });
        }
        let response = DeleteGroupsResponse { results, ..Default::default() };
        out.reply(context.waiting(), Response::DeleteGroups(response));
        out
    }

    fn delete_group(&self, group_id: &str, out: &mut Vec<Record>) {
        let committed =
            self.offsets.committed.group(group_id).filter(|_| Guard::OffsetsGoWithTheirGroup.stands());
        for (topic, partitions) in committed.into_iter().flatten() {
            out.extend(
                partitions.iter().map(|(partition, _)| records::offset_tombstone(group_id, topic, partition)),
            );
        }
        for (topic, partition) in self.offsets.pending_of(group_id) {
            if self.offsets.committed.get(group_id, topic, partition).is_none() {
                out.push(records::offset_tombstone(group_id, topic, partition));
            }
        }
        self.write_group_tombstones(group_id, out);
    }

    /// An empty group of either kind.
    fn is_empty_group(&self, group_id: &str) -> bool {
        match self.consumer_groups.get(group_id) {
            Some(group) => group.members().is_empty(),
            None => self.groups.get(group_id).is_some_and(|group| group.state == State::Empty),
        }
    }

    /// Tombstones of a group of either kind, without its offsets.
    pub(crate) fn write_group_tombstones(&self, group_id: &str, out: &mut Vec<Record>) {
        match self.consumer_groups.get(group_id) {
            Some(group) => tombstones(group, group.members().keys(), out),
            None => out.push(records::group_tombstone(group_id)),
        }
    }

    /// Handles OffsetDelete: offsets of topics that members subscribe to stay (GROUP_SUBSCRIBED_TO_TOPIC, 86).
    pub fn handle_offset_delete(
        &mut self,
        request: &OffsetDeleteRequest<'_>,
        context: &Context<'_>,
    ) -> Outcome {
        let mut out = Outcome::default();
        let group_id = &*request.group_id;
        let mut response = OffsetDeleteResponse::default();
        match self.offset_delete_group(group_id) {
            Err(error) => response.error_code = error.code(),
            Ok(()) => {
                for topic in &request.topics {
                    let is_subscribed = self.is_subscribed(group_id, &topic.name);
                    let mut partitions = Vec::with_capacity(topic.partitions.len());
                    for asked in &topic.partitions {
                        let partition = asked.partition_index;
                        let error = match () {
                            () if !context.topics.is_allowed(&topic.name) => {
                                ErrorCode::TopicAuthorizationFailed
                            }
                            () if !context.topics.has_partition(&topic.name, partition) => {
                                ErrorCode::UnknownTopicOrPartition
                            }
                            () if is_subscribed => ErrorCode::GroupSubscribedToTopic,
                            () => ErrorCode::None,
                        };
                        let exists = self.offsets.committed.get(group_id, &topic.name, partition).is_some()
                            || self.offsets.is_pending(group_id, &topic.name, partition);
                        if error == ErrorCode::None && exists {
                            out.records.push(records::offset_tombstone(group_id, &topic.name, partition));
                        }
                        partitions.push(OffsetDeleteResponsePartition {
                            partition_index: partition,
                            error_code: error.code(),
                        });
                    }
                    response.topics.push(OffsetDeleteResponseTopic { name: owned(&topic.name), partitions });
                }
            }
        }
        out.reply(context.waiting(), Response::OffsetDelete(response));
        out
    }

    fn offset_delete_group(&self, group_id: &str) -> Result<(), ErrorCode> {
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        if self.consumer_groups.contains_key(group_id) {
            return Ok(());
        }
        let group = self.groups.get(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        // Of other protocols than the consumers' the coordinator does not know which topics are in use.
        if group.state != State::Empty && !group.uses_consumer_protocol() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        Ok(())
    }

    /// Whether the members of a group, of either kind, read this topic.
    fn is_subscribed(&self, group_id: &str, topic: &str) -> bool {
        match self.consumer_groups.get(group_id) {
            Some(group) => group.is_subscribed_to(topic),
            None => self.groups.get(group_id).is_some_and(|group| group.is_subscribed_to(topic)),
        }
    }

    /// Topics are gone, and so are the offsets in them. Offsets that were committed to another topic of the same name stay.
    pub fn on_topics_deleted(&mut self, topics: &[(Uuid, &str)], now: i64) -> Outcome {
        let mut out = Outcome::default();
        self.deleted_topics.extend(topics.iter().map(|(id, name)| (*id, name.to_string())));
        if self.is_active {
            let done = self.clean_up_deleted_topics(&mut out);
            self.clean_up_more(now, done, &mut out);
        }
        out
    }

    /// One pass: offsets of deleted topics, expired offsets, groups that have nothing left.
    pub(crate) fn clean_up(&mut self, now: i64, out: &mut Outcome) {
        self.timers.schedule(TimerKey::CleanUp, now + self.config.offsets_retention_check_interval_ms);
        let done = self.clean_up_deleted_topics(out);
        for id in self.groups.keys().chain(self.consumer_groups.keys()) {
            if out.records.len() >= self.config.cleanup_records_max {
                break;
            }
            let has_nothing_left = self.expire_offsets(id, now, &mut out.records);
            let is_awaited = self.groups.get(id).is_some_and(|group| !group.pending_join.is_empty());
            if has_nothing_left && self.is_empty_group(id) && !is_awaited {
                self.write_group_tombstones(id, &mut out.records);
            }
        }
        self.clean_up_more(now, done, out);
    }

    /// A pass that found as much as it may: the next one follows at once.
    fn clean_up_more(&mut self, now: i64, deleted_topics: Vec<(Uuid, String)>, out: &mut Outcome) {
        if out.records.len() >= self.config.cleanup_records_max {
            self.timers.schedule(TimerKey::CleanUp, now);
        }
        if !out.records.is_empty() {
            out.then.push(Then::CleanUp { deleted_topics });
        }
    }

    /// Returns the topics of which nothing is left once these records are appended.
    fn clean_up_deleted_topics(&mut self, out: &mut Outcome) -> Vec<(Uuid, String)> {
        if self.deleted_topics.is_empty() {
            return Vec::new();
        }
        let max = self.config.cleanup_records_max;
        let maps = std::iter::once(&self.offsets.committed).chain(self.offsets.pending().map(|(_, map)| map));
        let mut seen = BTreeSet::new();
        for (group, topics) in maps.flat_map(|map| map.groups()) {
            for (id, name) in &self.deleted_topics {
                for (partition, committed) in topics.get(&**name).into_iter().flat_map(|p| p.iter()) {
                    let is_of_topic = committed.topic_id == Uuid::ZERO || committed.topic_id == *id;
                    if is_of_topic && seen.insert((group.clone(), name.clone(), partition)) {
                        out.records.push(records::offset_tombstone(group, name, partition));
                        if out.records.len() >= max {
                            return Vec::new();
                        }
                    }
                }
            }
        }
        std::mem::take(&mut self.deleted_topics)
    }

    /// Asks for tombstones of the offsets whose time is over. True if the group has no offset left after that.
    fn expire_offsets(&self, group_id: &str, now: i64, out: &mut Vec<Record>) -> bool {
        let has_pending = self.offsets.has_pending(group_id);
        let Some(topics) = self.offsets.committed.group(group_id) else { return !has_pending };
        let Some(unused_since) = self.unused_since(group_id) else { return false };
        let retention_ms = self.config.offsets_retention_ms;
        let mut has_nothing_left = !has_pending;
        for (topic, partitions) in topics {
            if self.is_subscribed(group_id, topic) && Guard::SubscribedOffsetsStay.stands() {
                has_nothing_left = false;
                continue;
            }
            for (partition, committed) in partitions.iter() {
                let is_over = match committed.expire_timestamp() {
                    Some(at) => now >= at,
                    None => now.saturating_sub(unused_since(committed)) >= retention_ms,
                };
                let is_expired = is_over && !self.offsets.is_pending(group_id, topic, partition);
                if is_expired && out.len() < self.config.cleanup_records_max {
                    out.push(records::offset_tombstone(group_id, topic, partition));
                } else {
                    has_nothing_left = false;
                }
            }
        }
        has_nothing_left
    }

    /// Since when an offset counts as unused; `None`: as long as the group is like this, nothing expires.
    fn unused_since(&self, group_id: &str) -> Option<impl Fn(&Committed) -> i64> {
        let empty_since = match self.groups.get(group_id) {
            // A consumer group says which topics it reads, so whatever else it has is unused since it was committed.
            None => None,
            Some(group) if group.protocol_type.is_none() => None,
            Some(group) if group.state == State::Empty => group.state_timestamp,
            Some(group)
                if group.state == State::Stable
                    && group.uses_consumer_protocol()
                    && group.subscribed.is_some() =>
            {
                None
            }
            Some(_) => return None,
        };
        Some(move |committed: &Committed| empty_since.unwrap_or(committed.commit_timestamp))
    }
}
