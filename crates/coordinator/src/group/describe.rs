//! DescribeGroups, versions 0-6, and ListGroups, versions 0-5: what operators see. Questions only, asked per group, for one
//! request may name groups of several partitions.

use crate::group::classic::group::State;
use crate::group::classic::rebalance::owned;
use crate::group::coordinator::GroupCoordinator;
use crate::group::subscription;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::messages::list_groups_response::ListedGroup;
use std::borrow::Cow;
use std::fmt::Write;

/// Types of groups, as ListGroups calls them.
const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

impl GroupCoordinator {
    /// Describes one group. An unknown group is `Dead`, and since version 6 also an error (GROUP_ID_NOT_FOUND, 69). The
    /// caller fills in the authorized operations.
    pub fn describe_group(&self, group_id: &str, api_version: i16) -> DescribedGroup<'static> {
        let mut described = DescribedGroup { group_id: owned(group_id), ..Default::default() };
        let Some(group) = self.groups.get(group_id) else {
            described.group_state = "Dead".into();
            if api_version >= 6 {
                described.error_code = ErrorCode::GroupIdNotFound.code();
                let why = if self.has_group(group_id) { "is not a classic group" } else { "not found" };
                described.error_message = Some(format!("Group {group_id} {why}.").into());
            }
            return described;
        };
        let is_stable = group.state == State::Stable;
        let protocol = group.protocol_name.as_deref().filter(|_| is_stable);
        described.group_state = group.state.name().into();
        described.protocol_type = owned(group.protocol_type.as_deref().unwrap_or(""));
        described.protocol_data = owned(protocol.unwrap_or(""));
        for member in group.members.values() {
            let metadata = protocol.map_or(&[][..], |protocol| member.metadata(protocol));
            described.members.push(DescribedGroupMember {
                member_id: owned(&member.id),
                group_instance_id: member.instance_id.as_deref().map(owned),
                client_id: owned(&member.client_id),
                client_host: owned(&member.client_host),
                member_metadata: Cow::Owned(metadata.to_vec()),
                member_assignment: Cow::Owned(member.assignment.to_vec()),
            });
        }
        described
    }

    /// The groups of this partition in one of these states (4+) and of one of these types (5+); no filter, no restriction.
    /// Both filters ignore case. A state or type that does not exist matches nothing.
    pub fn list_groups(&self, states: &[Cow<'_, str>], types: &[Cow<'_, str>]) -> Vec<ListedGroup<'static>> {
        let is_among = |names: &[Cow<'_, str>], name: &str| {
            names.is_empty() || names.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        let list =
            |id: &str, protocol_type: &str, state: &'static str, group_type: &'static str| ListedGroup {
                group_id: owned(id),
                protocol_type: owned(protocol_type),
                group_state: state.into(),
                group_type: group_type.into(),
            };
        let mut listed = Vec::new();
        if is_among(types, CLASSIC) {
            let groups = self.groups.values().filter(|group| is_among(states, group.state.name()));
            listed.extend(groups.map(|group| {
                let protocol_type = group.protocol_type.as_deref().unwrap_or("");
                list(&group.id, protocol_type, group.state.name(), CLASSIC)
            }));
        }
        if is_among(types, CONSUMER) {
            let groups = self.consumer_groups.values().map(|group| (group, group.state().name()));
            let groups = groups.filter(|(_, state)| is_among(states, state));
            listed.extend(
                groups.map(|(group, state)| list(&group.id, subscription::CONSUMER, state, CONSUMER)),
            );
        }
        listed
    }

    /// Everything that a replay of the log must bring back, as text, one line per fact: for simulations and tests. Groups
    /// in the middle of a rebalance show only that they are: what they will be is not written yet.
    pub fn hard_state(&self) -> String {
        let mut text = String::new();
        for group in self.groups.values() {
            let quoted = |name: &Option<std::sync::Arc<str>>| name.as_deref().unwrap_or("-").to_string();
            let (id, state) = (&group.id, group.state.name());
            match group.state {
                State::PreparingRebalance | State::CompletingRebalance => {
                    let _ = writeln!(text, "group {id} rebalancing");
                    continue;
                }
                State::Empty | State::Stable => {}
            }
            let (protocol_type, protocol) = (quoted(&group.protocol_type), quoted(&group.protocol_name));
            let (generation, leader) = (group.generation_id, quoted(&group.leader_id));
            let _ =
                writeln!(text, "group {id} {state} {generation} {protocol_type} {protocol} leader {leader}");
            for member in group.members.values() {
                let (client_id, host) = (&member.client_id, &member.client_host);
                let (rebalance, session) = (member.rebalance_timeout_ms, member.session_timeout_ms);
                let instance = quoted(&member.instance_id);
                let metadata = member.metadata(group.protocol_name.as_deref().unwrap_or(""));
                let assignment = &member.assignment;
                let _ = writeln!(
                    text,
                    "  member {} {instance} {client_id} {host} {rebalance} {session} {metadata:?} {assignment:?}",
                    member.id
                );
            }
        }
        self.consumer_hard_state(&mut text);
        for (group, topics) in self.offsets.committed.groups() {
            for (topic, partitions) in topics {
                for (partition, committed) in partitions.iter() {
                    let _ = writeln!(text, "offset {group} {topic}-{partition} {committed:?}");
                }
            }
        }
        for (producer, offsets) in self.offsets.pending() {
            for (group, topics) in offsets.groups() {
                for (topic, partitions) in topics {
                    for (partition, committed) in partitions.iter() {
                        let _ =
                            writeln!(text, "pending {producer} {group} {topic}-{partition} {committed:?}");
                    }
                }
            }
        }
        text
    }
}
