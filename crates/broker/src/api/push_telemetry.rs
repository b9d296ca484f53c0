//! PushTelemetry 0 (KIP-714): a client tells the metrics that it was asked for.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::push_telemetry_request::PushTelemetryRequest;
use ottla_protocol::messages::push_telemetry_response::PushTelemetryResponse;

use crate::call::Call;
use crate::telemetry::{Asker, Push, Telemetry};

/// Handles the request.
pub(crate) fn handle(telemetry: &Telemetry, call: &mut Call<'_>, request: PushTelemetryRequest<'_>) {
    let push = Push {
        instance: request.client_instance_id,
        subscription: request.subscription_id,
        is_last: request.terminating,
        compression: request.compression_type,
        metrics: &request.metrics,
    };
    let error = telemetry.push(&push, &asker(call), call.now).err().unwrap_or(ErrorCode::None);
    call.respond(&PushTelemetryResponse { error_code: error.code(), ..Default::default() });
}

/// Who asks, as subscriptions choose clients by it.
pub(super) fn asker<'c>(call: &'c Call<'_>) -> Asker<'c> {
    Asker {
        client_id: call.client_id,
        software: call.connection.software.as_ref(),
        peer: call.connection.peer,
        token: call.reply.token,
    }
}
