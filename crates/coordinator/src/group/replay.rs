//! Replay: the only place where what is written changes the state, on the node that wrote it, on one that recovers, and
//! on one that follows.
//!
//! The one subtlety: a group that is being led has soft state (who waits, which members are about to be written) that a
//! record must not wipe out. A record of its own is therefore *absorbed*: of group metadata only the assignment is news.
//! A passive coordinator has no soft state, and there the record *is* the group.

use crate::GroupCoordinator;
use crate::group::classic::group::{Group, State};
use crate::group::classic::member::{Member, Protocol};
use crate::group::offsets::store::Committed;
use crate::group::records::{self, Key, ReplayError};
use ottla_protocol::messages::group_metadata_value::GroupMetadataValue;
use std::sync::Arc;

/// Record types whose key alone names a group of a kind that is not served: share (KIP-932), streams (KIP-1071).
const FOREIGN_GROUP_METADATA: [i16; 2] = [11, 17];

impl GroupCoordinator {
    /// Applies one record of the partition: `offset` is where it is in the log, `producer_id` that of its batch if the
    /// batch is transactional, else -1. An error leaves the state as it was; types that are not known are not errors
    /// (KIP-915).
    pub fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        offset: i64,
        producer_id: i64,
    ) -> Result<(), ReplayError> {
        match records::decode_key(key)? {
            Key::OffsetCommit { group, topic, partition } => match value {
                Some(value) => {
                    let value = records::decode_offset(value)?;
                    let expire_timestamp = Some(value.expire_timestamp).filter(|at| *at != -1);
                    let timestamp = value.commit_timestamp;
                    let committed =
                        Committed::new(value.offset, value.leader_epoch, timestamp, value.topic_id);
                    let mut committed = committed.with_extra(&value.metadata, expire_timestamp);
                    committed.record_offset = offset;
                    // Offsets without a group are those of a "simple" consumer: an empty group that nobody joined.
                    if !self.has_group(&group) {
                        let id: Arc<str> = Arc::from(&*group);
                        self.groups.insert(id.clone(), Group::new(id, None));
                    }
                    if producer_id >= 0 {
                        self.offsets.put_pending(producer_id, &group, &topic, partition, committed);
                    } else {
                        self.offsets.put(&group, &topic, partition, committed);
                    }
                }
                None => self.offsets.remove(&group, &topic, partition),
            },
            Key::Group { group } => match value {
                None => {
                    self.remove_group(&group);
                }
                Some(value) => {
                    let value = records::decode_group(value)?;
                    self.remove_consumer_group(&group);
                    match self.groups.get_mut(&*group) {
                        Some(group) if self.is_active => absorb(group, &value),
                        _ => {
                            let group = load(Arc::from(&*group), &value);
                            self.groups.insert(group.id.clone(), group);
                        }
                    }
                }
            },
            Key::Consumer { group, key } => self.replay_consumer(&group, key, value)?,
            Key::Other { record_type, body } => self.replay_foreign(record_type, body, value.is_some()),
        }
        Ok(())
    }

    /// Applies a transaction marker of the partition: offsets that the producer left pending become committed, or vanish.
    pub fn replay_end_transaction(&mut self, producer_id: i64, commit: bool) {
        self.offsets.end_transaction(producer_id, commit);
    }

    fn replay_foreign(&mut self, record_type: i16, body: &[u8], is_live: bool) {
        *self.foreign_records.by_type.entry(record_type).or_default() += 1;
        let names_group = FOREIGN_GROUP_METADATA.contains(&record_type);
        let Some(group) = records::group_of(body).filter(|_| names_group) else { return };
        if is_live {
            // The group changed its kind; the offsets stay, and no longer stand for a simple consumer.
            self.remove_group(group);
            self.remove_consumer_group(group);
            self.foreign_groups.insert(Arc::from(group), record_type);
        } else if self.foreign_groups.get(group) == Some(&record_type) {
            self.foreign_groups.remove(group);
            if self.offsets.committed.group(group).is_some() {
                let id: Arc<str> = Arc::from(group);
                self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, None));
            }
        }
    }
}

/// A record of the group that this coordinator leads and has just written.
fn absorb(group: &mut Group, value: &GroupMetadataValue<'_>) {
    if group.generation_id != value.generation || group.state != State::CompletingRebalance {
        return;
    }
    for written in &value.members {
        if let Some(member) = group.members.get_mut(&*written.member_id) {
            member.assignment = Arc::from(&*written.assignment);
        }
    }
}

fn load(id: Arc<str>, value: &GroupMetadataValue<'_>) -> Group {
    let timestamp = Some(value.current_state_timestamp).filter(|at| *at != -1);
    let mut group = Group::new(id, timestamp);
    let protocol_type: Option<Arc<str>> =
        Some(&*value.protocol_type).filter(|t| !t.is_empty()).map(Arc::from);
    group.protocol_type = protocol_type.clone();
    group.protocol_name = value.protocol.as_deref().map(Arc::from);
    group.leader_id = value.leader.as_deref().map(Arc::from);
    group.generation_id = value.generation;
    for written in &value.members {
        // A group has each member id and each instance id once; if a record says otherwise the first one counts.
        let instance_id: Option<Arc<str>> = written.group_instance_id.as_deref().map(Arc::from);
        let is_taken =
            instance_id.as_ref().is_some_and(|instance| group.static_members.contains_key(instance));
        if group.members.contains_key(&*written.member_id) || is_taken {
            continue;
        }
        let protocol = group.protocol_name.clone().unwrap_or_else(|| Arc::from(""));
        let has_rebalance_timeout = written.rebalance_timeout != -1;
        let member = Member {
            id: Arc::from(&*written.member_id),
            instance_id,
            client_id: Arc::from(&*written.client_id),
            client_host: Arc::from(&*written.client_host),
            rebalance_timeout_ms: if has_rebalance_timeout {
                written.rebalance_timeout
            } else {
                written.session_timeout
            },
            session_timeout_ms: written.session_timeout,
            protocols: vec![Protocol { name: protocol, metadata: Arc::from(&*written.subscription) }],
            assignment: Arc::from(&*written.assignment),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        };
        group.add_member(member, protocol_type.as_ref());
    }
    if !group.members.is_empty() {
        group.state = State::Stable;
        group.previous_state = State::CompletingRebalance;
    }
    group.subscribed = group.compute_subscribed();
    group
}
