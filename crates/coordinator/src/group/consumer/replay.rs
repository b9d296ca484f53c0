//! What each record of a consumer group does to the state.
//!
//! A tombstone of something that is not there does nothing: compaction may have taken the rest already. A record that
//! makes something makes the group, too; of a group that changed its kind the later record is right.

use crate::group::consumer::group::ConsumerGroup;
use crate::group::consumer::member::{LEAVE, Member, Owned, Progress, Standing};
use crate::group::consumer::records::{self, Key};
use crate::group::coordinator::GroupCoordinator;
use crate::group::records::ReplayError;
use std::sync::Arc;

impl GroupCoordinator {
    pub(crate) fn replay_consumer(
        &mut self,
        group_id: &str,
        key: Key<'_>,
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        let Some(value) = value else {
            self.replay_consumer_tombstone(group_id, key);
            return Ok(());
        };
        match key {
            Key::Group => {
                let (group_epoch, metadata_hash) = records::decode_group_epoch(value)?;
                let group = self.consumer_group_of(group_id);
                (group.group_epoch, group.metadata_hash) = (group_epoch, metadata_hash);
            }
            Key::PartitionMetadata => self.consumer_group_of(group_id).has_partition_metadata = true,
            Key::Member(id) => {
                let profile = Arc::new(records::decode_profile(value)?);
                let group = self.consumer_group_of(group_id);
                let member = group.member(&id).cloned().unwrap_or_else(|| Member::new(Arc::from(&*id)));
                group.put_member(Member { profile, ..member });
            }
            Key::TargetMetadata => {
                let (assignment_epoch, timestamp) = records::decode_target_metadata(value)?;
                let group = self.consumer_group_of(group_id);
                (group.assignment_epoch, group.assignment_timestamp) = (assignment_epoch, timestamp);
            }
            Key::TargetMember(id) => {
                let target = records::decode_target(value)?;
                self.consumer_group_of(group_id).put_target(Arc::from(&*id), target);
            }
            Key::CurrentAssignment(id) => {
                let standing = Arc::new(records::decode_standing(value)?);
                let group = self.consumer_group_of(group_id);
                let member = group.member(&id).cloned().unwrap_or_else(|| Member::new(Arc::from(&*id)));
                group.put_member(Member { standing, ..member });
            }
            Key::Regex(regex) => {
                let resolved = records::decode_resolved(value)?;
                self.consumer_group_of(group_id).put_resolved(&Arc::from(&*regex), Some(resolved));
            }
        }
        Ok(())
    }

    fn replay_consumer_tombstone(&mut self, group_id: &str, key: Key<'_>) {
        let Some(group) = self.consumer_groups.get_mut(group_id) else { return };
        match key {
            Key::Group => self.remove_consumer_group(group_id),
            Key::PartitionMetadata => group.has_partition_metadata = false,
            Key::Member(id) => {
                group.remove_member(&id);
                let (group, member) = (group.id.clone(), Arc::from(&*id));
                self.cancel_member_timers(&group, &member);
            }
            Key::TargetMetadata => (group.assignment_epoch, group.assignment_timestamp) = (-1, 0),
            Key::TargetMember(id) => group.remove_target(&id),
            Key::CurrentAssignment(id) => {
                // The rest of the member goes with the records behind this one.
                let Some(member) = group.member(&id).cloned() else { return };
                let standing = Standing {
                    member_epoch: LEAVE,
                    previous_member_epoch: LEAVE,
                    progress: Progress::Stable,
                    assigned: Owned::new(),
                    revoking: Owned::new(),
                };
                group.put_member(Member { standing: Arc::new(standing), ..member });
            }
            Key::Regex(regex) => group.put_resolved(&Arc::from(&*regex), None),
        }
    }

    /// The group that a record is about, made if need be.
    fn consumer_group_of(&mut self, group_id: &str) -> &mut ConsumerGroup {
        if !self.consumer_groups.contains_key(group_id) {
            self.remove_group(group_id);
            self.foreign_groups.remove(group_id);
            let id: Arc<str> = Arc::from(group_id);
            self.consumer_groups.insert(id.clone(), ConsumerGroup::new(id));
        }
        self.consumer_groups.get_mut(group_id).expect("it is there")
    }

    pub(crate) fn remove_consumer_group(&mut self, group_id: &str) {
        let Some(group) = self.consumer_groups.remove(group_id) else { return };
        group.members().keys().for_each(|member| self.cancel_member_timers(&group.id, member));
    }
}
