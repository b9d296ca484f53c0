//! FindCoordinator 0-6: which node coordinates a group or a transactional id. Their topics are created by the first question.
//!
//! v4+ asks for many keys at once (KIP-699). Key types: 0 group, 1 transaction, 2 share group (v6).

use ottla_metadata::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};

use crate::Broker;
use crate::call::Call;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: FindCoordinatorRequest<'_>) {
    if request.key_type == GROUP && broker.topics().by_name(CONSUMER_OFFSETS).is_none() && !call.retried {
        return broker.create_offsets_topic(call);
    }
    if request.key_type == TRANSACTION
        && broker.topics().by_name(TRANSACTION_STATE).is_none()
        && !call.retried
    {
        return broker.create_transactions_topic(call);
    }
    let batched = call.reply.version >= 4;
    let keys = if batched { request.coordinator_keys.clone() } else { vec![request.key.clone()] };
    let coordinators = keys.into_iter().map(|key| {
        let found = find(broker, call, request.key_type, &key);
        let (node_id, host, port, error, error_message) = match found {
            Ok((node_id, host, port)) => (node_id, host, port, ErrorCode::None, None),
            Err((error, message)) => (-1, String::new(), -1, error, message),
        };
        Coordinator {
            key,
            node_id,
            host: host.into(),
            port,
            error_code: error.code(),
            error_message: error_message.map(Into::into),
        }
    });
    let mut coordinators: Vec<Coordinator<'_>> = coordinators.collect();
    let response = match coordinators.pop() {
        Some(only) if !batched => FindCoordinatorResponse {
            error_code: only.error_code,
            error_message: only.error_message,
            node_id: only.node_id,
            host: only.host,
            port: only.port,
            ..Default::default()
        },
        last => {
            coordinators.extend(last);
            FindCoordinatorResponse { coordinators, ..Default::default() }
        }
    };
    call.respond(&response);
}

type Found = Result<(i32, String, i32), (ErrorCode, Option<&'static str>)>;

fn find(broker: &Broker, call: &Call<'_>, key_type: i8, key: &str) -> Found {
    let (topic, partition) = match key_type {
        GROUP if key.is_empty() => return Err((ErrorCode::InvalidGroupId, None)),
        GROUP => (CONSUMER_OFFSETS, broker.groups().partition_of(key)),
        TRANSACTION => (TRANSACTION_STATE, broker.transactions().partition_of(key)),
        2 if call.reply.version >= 6 => {
            return Err((ErrorCode::InvalidRequest, Some("share groups are not served by this version")));
        }
        _ => return Err((ErrorCode::InvalidRequest, Some("unknown type of coordinator"))),
    };
    let image = broker.image();
    let not_yet = (ErrorCode::CoordinatorNotAvailable, None);
    let partition = partition.ok_or(not_yet)?;
    let topic = image.topic_by_name(topic).ok_or(not_yet)?;
    let leader = topic
        .partitions
        .get(&ottla_protocol::ids::PartitionId(partition))
        .and_then(|partition| partition.leader);
    let node = leader.and_then(|leader| image.broker(leader)).ok_or(not_yet)?;
    let endpoint = node.endpoint(&call.connection.listener).ok_or(not_yet)?;
    Ok((node.id.0, endpoint.host.to_string(), i32::from(endpoint.port)))
}
