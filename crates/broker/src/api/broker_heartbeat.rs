//! BrokerHeartbeat 0-2 (KIP-631): a broker says that it is alive, how far it has read, and what it wants; v1 names directories that failed
//! (KIP-858), v2 those that take no new replicas.

use ottla_controller::Decision;
use ottla_protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use ottla_protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;

use crate::Broker;
use crate::call::Call;
use crate::quorum::Deciding;

/// Decided by the controller; answered when the records are committed.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: BrokerHeartbeatRequest) {
    broker.decide_as_controller(call, |deciding| decide(deciding, &request));
}

/// Decides, and takes note of the sign of life.
pub(crate) fn decide(
    deciding: &mut Deciding<'_>,
    request: &BrokerHeartbeatRequest,
) -> Decision<BrokerHeartbeatResponse> {
    let (id, image) = (request.broker_id, deciding.controller.image().clone());
    let others_caught_up = deciding.sessions.have_others_caught_up(&image, id);
    match deciding.controller.heartbeat(request, others_caught_up) {
        Ok(decision) => {
            let offset = request.current_metadata_offset;
            deciding.sessions.touch(id, request.broker_epoch, offset, deciding.now);
            if request.want_shut_down {
                // What hands its partitions over is written before this offset.
                let end = deciding.next_offset + decision.records.len() as i64;
                deciding.sessions.begin_shutdown(id, end);
            }
            if decision.response.should_shut_down {
                deciding.sessions.farewell(id);
            }
            decision
        }
        Err(error) => {
            let error_code = error.code.code();
            Decision::without_records(BrokerHeartbeatResponse { error_code, ..Default::default() })
        }
    }
}
