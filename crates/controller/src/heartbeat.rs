//! BrokerHeartbeat (63), versions 0-2: a broker says what it has read and what it wants; the answer says what it may.
//!
//! ```text
//!   fenced ──caught up, wants no fence──► unfenced ──wants shutdown, leads something──► controlled shutdown
//!     ▲                                      │                                            │ leads nothing more
//!     └────── wants fence, session over ─────┘──wants shutdown, leads nothing──► may stop ◄─┘
//! ```
//!
//! The tricky idea: a broker that leads nothing any more may stop only when every active broker has read that far
//! in the metadata log; else some would still send it requests. That offset is soft state, so the caller supplies it.

use crate::broker_lifecycle::{
    begin_controlled_shutdown, directories_failed, fence_broker, leads_any, leave_directories, unfence_broker,
};
use crate::context::{Context, Decision};
use crate::error::ApiError;
use ottla_protocol::ErrorCode;
use ottla_protocol::Uuid;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use ottla_protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use ottla_protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;

/// Decides about a heartbeat. `others_caught_up`: every other active broker has read the metadata log up to where
/// this broker's controlled shutdown began (true when there are none).
pub fn heartbeat(
    context: &Context<'_>,
    request: &BrokerHeartbeatRequest,
    others_caught_up: bool,
) -> Result<Decision<BrokerHeartbeatResponse>, ApiError> {
    let id = NodeId(request.broker_id);
    context.check_broker_epoch(id, request.broker_epoch)?;
    let unknown = || ApiError::plain(ErrorCode::BrokerIdNotRegistered);
    let broker = context.image.broker(id).ok_or_else(unknown)?;
    let caught_up = request.current_metadata_offset >= broker.broker_epoch;
    let failed: Vec<Uuid> = match context.metadata_version().supports_directory_assignment() {
        true => {
            broker.log_dirs.iter().copied().filter(|dir| request.offline_log_dirs.contains(dir)).collect()
        }
        false => Vec::new(),
    };

    let (mut fenced, mut may_stop) = (broker.fenced, false);
    let mut step = Decision::splittable(Vec::new(), ());
    if broker.fenced {
        if request.want_shut_down {
            may_stop = true;
        } else if !request.want_fence && caught_up && failed.is_empty() {
            // Not while directories fail: it could be elected for what is in them. The next heartbeat will see.
            step = unfence_broker(context, id)?;
            fenced = false;
        }
    } else if broker.in_controlled_shutdown {
        if !leads_any(context, id) && others_caught_up {
            step = fence_broker(context, id)?;
            (fenced, may_stop) = (true, true);
        }
    } else if request.want_fence || (request.want_shut_down && !leads_any(context, id)) {
        step = fence_broker(context, id)?;
        (fenced, may_stop) = (true, request.want_shut_down);
    } else if request.want_shut_down {
        step = begin_controlled_shutdown(context, id)?;
    }
    if !failed.is_empty() {
        if step.records.is_empty() {
            step.records = leave_directories(context, id, &failed);
        }
        step.records.push(directories_failed(broker, &failed));
    }
    step.records.extend(cordoned(context, request, broker.cordoned_log_dirs.as_deref(), &broker.log_dirs));
    let response = BrokerHeartbeatResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None.code(),
        is_caught_up: caught_up,
        is_fenced: fenced,
        should_shut_down: may_stop,
    };
    Ok(Decision::splittable(step.records, response))
}

/// The broker tells which directories take no new replicas (KIP-1066); only what changed becomes a record.
fn cordoned(
    context: &Context<'_>,
    request: &BrokerHeartbeatRequest,
    before: Option<&[Uuid]>,
    log_dirs: &[Uuid],
) -> Option<MetadataRecord<'static>> {
    let now = request.cordoned_log_dirs.as_ref()?;
    if !context.metadata_version().supports_cordoned_log_dirs() || before == Some(now) || log_dirs.is_empty()
    {
        return None;
    }
    if before.is_none() && now.is_empty() {
        return None;
    }
    Some(MetadataRecord::BrokerRegistrationChangeRecord(BrokerRegistrationChangeRecord {
        broker_id: request.broker_id,
        broker_epoch: request.broker_epoch,
        cordoned_log_dirs: Some(now.clone()),
        ..Default::default()
    }))
}
