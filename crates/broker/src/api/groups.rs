//! The group APIs: each finds the coordinator of its group and hands the request over; what several coordinators answer is joined.

use std::borrow::Cow;

use ottla_coordinator::{offset_fetch_error, offset_fetch_groups, offset_fetch_response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use ottla_protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::describe_groups_response::{DescribeGroupsResponse, DescribedGroup};
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::heartbeat_response::HeartbeatResponse;
use ottla_protocol::messages::join_group_request::JoinGroupRequest;
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::leave_group_request::LeaveGroupRequest;
use ottla_protocol::messages::leave_group_response::LeaveGroupResponse;
use ottla_protocol::messages::list_groups_request::ListGroupsRequest;
use ottla_protocol::messages::list_groups_response::ListGroupsResponse;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequest;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::offset_delete_request::OffsetDeleteRequest;
use ottla_protocol::messages::offset_delete_response::OffsetDeleteResponse;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequest;
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::messages::sync_group_request::SyncGroupRequest;
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;

use crate::Broker;
use crate::call::Call;
use crate::coordination::{ImageTopics, Joint, JointBody};
use crate::permissions::{self, ON_GROUP};

/// The error for a group id that no group can have, or none.
fn bad_group_id(group_id: &str) -> Option<ErrorCode> {
    group_id.is_empty().then_some(ErrorCode::InvalidGroupId)
}

/// JoinGroup 0-9.
pub(crate) fn join_group(broker: &Broker, call: &mut Call<'_>, request: JoinGroupRequest<'_>) {
    let handled = match bad_group_id(&request.group_id) {
        Some(error) => Err(error),
        None => broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
            coordinator.handle_join_group(&request, context)
        }),
    };
    if let Err(error) = handled {
        let protocol_name = (call.reply.version < 7).then_some(Cow::Borrowed(""));
        let response = JoinGroupResponse {
            error_code: error.code(),
            member_id: request.member_id.clone(),
            protocol_name,
            ..Default::default()
        };
        call.respond(&response);
    }
}

/// SyncGroup 0-5.
pub(crate) fn sync_group(broker: &Broker, call: &mut Call<'_>, request: SyncGroupRequest<'_>) {
    let handled = match bad_group_id(&request.group_id) {
        Some(error) => Err(error),
        None => broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
            coordinator.handle_sync_group(&request, context)
        }),
    };
    if let Err(error) = handled {
        call.respond(&SyncGroupResponse { error_code: error.code(), ..Default::default() });
    }
}

/// Heartbeat 0-4.
pub(crate) fn heartbeat(broker: &Broker, call: &mut Call<'_>, request: HeartbeatRequest<'_>) {
    let handled = match bad_group_id(&request.group_id) {
        Some(error) => Err(error),
        None => broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
            coordinator.handle_heartbeat(&request, context)
        }),
    };
    if let Err(error) = handled {
        call.respond(&HeartbeatResponse { error_code: error.code(), ..Default::default() });
    }
}

/// LeaveGroup 0-5.
pub(crate) fn leave_group(broker: &Broker, call: &mut Call<'_>, request: LeaveGroupRequest<'_>) {
    let handled = match bad_group_id(&request.group_id) {
        Some(error) => Err(error),
        None => broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
            coordinator.handle_leave_group(&request, context)
        }),
    };
    if let Err(error) = handled {
        call.respond(&LeaveGroupResponse { error_code: error.code(), ..Default::default() });
    }
}

/// OffsetCommit 2-10.
pub(crate) fn offset_commit(broker: &Broker, call: &mut Call<'_>, request: OffsetCommitRequest<'_>) {
    let handled = broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
        coordinator.handle_offset_commit(&request, context)
    });
    if let Err(error) = handled {
        let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                })
                .collect(),
        });
        call.respond(&OffsetCommitResponse { topics: topics.collect(), ..Default::default() });
    }
}

/// OffsetFetch 1-10.
pub(crate) fn offset_fetch(broker: &Broker, call: &mut Call<'_>, request: OffsetFetchRequest<'_>) {
    let version = call.reply.version;
    let image = broker.image();
    let groups = offset_fetch_groups(&request, version);
    let joint = Joint::new(call.reply, JointBody::OffsetFetch(OffsetFetchResponse::default()));
    let mut answers = Vec::with_capacity(groups.len());
    for asked in &groups {
        let mut answer = None;
        let read = broker.groups().read(broker, &asked.group_id, &joint, call.now, call.out, |coordinator| {
            answer = Some(coordinator.fetch_offsets(
                asked,
                request.require_stable,
                version,
                &ImageTopics::new(&image, broker),
            ));
        });
        answers.push(match (read, answer) {
            (Ok(()), Some(answer)) => answer,
            (Err(error), _) => offset_fetch_error(asked, error, version),
            (Ok(()), None) => unreachable!("a coordinator that is found is read"),
        });
    }
    joint.write(|body| *body = JointBody::OffsetFetch(offset_fetch_response(answers, version)));
    joint.part_done(call.out);
}

/// DescribeGroups 0-6.
pub(crate) fn describe_groups(broker: &Broker, call: &mut Call<'_>, request: DescribeGroupsRequest<'_>) {
    let version = call.reply.version;
    let joint = Joint::new(call.reply, JointBody::Describe(DescribeGroupsResponse::default()));
    let mut described = Vec::with_capacity(request.groups.len());
    for group_id in &request.groups {
        let mut group = None;
        let read = broker.groups().read(broker, group_id, &joint, call.now, call.out, |coordinator| {
            group = Some(coordinator.describe_group(group_id, version));
        });
        described.push(match (read, group) {
            (Ok(()), Some(group)) => {
                let is_told = request.include_authorized_operations && group.error_code == 0;
                DescribedGroup { authorized_operations: permissions::told(is_told, ON_GROUP), ..group }
            }
            (failed, _) => DescribedGroup {
                error_code: failed.err().unwrap_or(ErrorCode::UnknownServerError).code(),
                group_id: group_id.to_string().into(),
                ..Default::default()
            },
        });
    }
    joint.write(|body| {
        *body = JointBody::Describe(DescribeGroupsResponse { groups: described, ..Default::default() })
    });
    joint.part_done(call.out);
}

/// ListGroups 0-5: the groups of all coordinators on this node.
pub(crate) fn list_groups(broker: &Broker, call: &mut Call<'_>, request: ListGroupsRequest<'_>) {
    let joint = Joint::new(call.reply, JointBody::List(ListGroupsResponse::default()));
    let mut groups = Vec::new();
    broker.groups().read_all(broker, &joint, call.now, call.out, |coordinator| {
        groups.extend(coordinator.list_groups(&request.states_filter, &request.types_filter));
    });
    joint.write(|body| *body = JointBody::List(ListGroupsResponse { groups, ..Default::default() }));
    joint.part_done(call.out);
}

/// DeleteGroups 0-3.
pub(crate) fn delete_groups(broker: &Broker, call: &mut Call<'_>, request: DeleteGroupsRequest<'_>) {
    let joint = Joint::new(call.reply, JointBody::Delete(DeleteGroupsResponse::default()));
    let mut names: Vec<&str> = request.groups_names.iter().map(|name| &**name).collect();
    names.sort_unstable();
    names.dedup();
    for group_id in names {
        let handled = match bad_group_id(group_id) {
            Some(error) => Err(error),
            None => broker.groups().handle_part(broker, call, group_id, &joint, |coordinator, context| {
                coordinator.handle_delete_groups(&[group_id], context)
            }),
        };
        if let Err(error) = handled {
            joint.write(|body| {
                if let JointBody::Delete(response) = body {
                    response.results.push(DeletableGroupResult {
                        group_id: group_id.to_string().into(),
                        error_code: error.code(),
                        ..Default::default()
                    });
                }
            });
        }
    }
    joint.part_done(call.out);
}

/// OffsetDelete 0.
pub(crate) fn offset_delete(broker: &Broker, call: &mut Call<'_>, request: OffsetDeleteRequest<'_>) {
    let handled = match bad_group_id(&request.group_id) {
        Some(error) => Err(error),
        None => broker.groups().handle(broker, call, &request.group_id, |coordinator, context| {
            coordinator.handle_offset_delete(&request, context)
        }),
    };
    if let Err(error) = handled {
        call.respond(&OffsetDeleteResponse { error_code: error.code(), ..Default::default() });
    }
}
