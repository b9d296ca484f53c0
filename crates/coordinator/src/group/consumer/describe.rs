//! ConsumerGroupDescribe, versions 0-1: what operators see of a consumer group. 1+: which protocol a member speaks.

use crate::group::classic::rebalance::owned;
use crate::group::consumer::epochs::preferred_assignor;
use crate::group::consumer::group::ConsumerGroup;
use crate::group::consumer::heartbeat::Refusal;
use crate::group::consumer::member::{Member, Target};
use crate::group::coordinator::GroupCoordinator;
use crate::group::subscription;
use crate::group::topics::Topics;
use ottla_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use std::fmt::Write;

/// The member type of ConsumerGroupDescribe.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

impl GroupCoordinator {
    /// Describes one consumer group; GROUP_ID_NOT_FOUND (69) for groups of other kinds too. The caller fills in the
    /// authorized operations.
    pub fn describe_consumer_group(&self, group_id: &str, topics: &dyn Topics) -> DescribedGroup<'static> {
        let group = match self.consumer_group(group_id) {
            Ok(group) => group,
            Err(Refusal { error, message }) => {
                return DescribedGroup {
                    group_id: owned(group_id),
                    error_code: error.code(),
                    error_message: Some(message.into()),
                    ..Default::default()
                };
            }
        };
        let assignor = preferred_assignor(group.assignors()).map(|name| name.to_string());
        DescribedGroup {
            group_id: owned(group_id),
            group_state: group.state().name().into(),
            group_epoch: group.group_epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: assignor.unwrap_or_else(|| self.config.consumer.assignors[0].clone()).into(),
            members: group.members().values().map(|member| describe(group, member, topics)).collect(),
            ..Default::default()
        }
    }

    /// The hard state of consumer groups, one line per fact.
    pub(crate) fn consumer_hard_state(&self, text: &mut String) {
        for group in self.consumer_groups.values() {
            let (id, hash, timestamp) = (&group.id, group.metadata_hash, group.assignment_timestamp);
            let _ = writeln!(
                text,
                "consumer group {id} epoch {} assignment {} at {timestamp} hash {hash:x} legacy {}",
                group.group_epoch, group.assignment_epoch, group.has_partition_metadata
            );
            for member in group.members().values() {
                let _ = writeln!(text, "  member {} {:?} {:?}", member.id, member.profile, member.standing);
            }
            for (id, target) in group.targets() {
                let _ = writeln!(text, "  target {id} {target:?}");
            }
            for (regex, resolved) in group.resolved() {
                let _ = writeln!(text, "  regex {regex} {resolved:?}");
            }
            group.check_counts();
        }
    }
}

fn describe(group: &ConsumerGroup, member: &Member, topics: &dyn Topics) -> DescribedMember<'static> {
    let (profile, standing) = (&*member.profile, &*member.standing);
    // Until it gave them up the member answers for partitions that it is to lose, too.
    let mut held = subscription::target_of(&standing.assigned);
    for (topic, partitions) in subscription::target_of(&standing.revoking) {
        held.entry(topic).or_default().extend(partitions);
    }
    let target = group.target(&member.id).map(|target| assignment(target, topics));
    DescribedMember {
        member_id: owned(&member.id),
        instance_id: profile.instance_id.as_deref().map(owned),
        rack_id: profile.rack_id.as_deref().map(owned),
        member_epoch: standing.member_epoch,
        client_id: owned(&profile.client_id),
        client_host: owned(&profile.client_host),
        subscribed_topic_names: profile.topics.iter().map(|topic| owned(topic)).collect(),
        subscribed_topic_regex: Some(owned(&profile.regex)),
        assignment: assignment(&held, topics),
        target_assignment: target.unwrap_or_default(),
        member_type: if member.is_classic() { CLASSIC } else { CONSUMER },
    }
}

/// Topics that are gone are left out.
fn assignment(target: &Target, topics: &dyn Topics) -> Assignment<'static> {
    let topic = |(id, partitions): (&ottla_protocol::Uuid, &std::collections::BTreeSet<i32>)| {
        Some(TopicPartitions {
            topic_id: *id,
            topic_name: topics.name_of(*id)?.into(),
            partitions: partitions.iter().copied().collect(),
        })
    };
    Assignment { topic_partitions: target.iter().filter_map(topic).collect() }
}
