//! GetTelemetrySubscriptions 0 (KIP-714): a client learns which metrics it is asked for, and how often.

use ottla_protocol::messages::get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest;
use ottla_protocol::messages::get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponse;

use super::push_telemetry::asker;
use crate::call::Call;
use crate::telemetry::{CODECS, Telemetry};

/// Handles the request.
pub(crate) fn handle(telemetry: &Telemetry, call: &mut Call<'_>, request: GetTelemetrySubscriptionsRequest) {
    let response = match telemetry.ask(request.client_instance_id, &asker(call), call.now) {
        Ok(wanted) => GetTelemetrySubscriptionsResponse {
            client_instance_id: wanted.instance,
            subscription_id: wanted.subscription,
            accepted_compression_types: CODECS.iter().map(|codec| codec.id().cast_signed()).collect(),
            push_interval_ms: wanted.interval_ms,
            telemetry_max_bytes: i32::try_from(telemetry.bytes_max).unwrap_or(i32::MAX),
            delta_temporality: true,
            requested_metrics: wanted.metrics.into_iter().map(Into::into).collect(),
            ..Default::default()
        },
        Err(error) => GetTelemetrySubscriptionsResponse { error_code: error.code(), ..Default::default() },
    };
    call.respond(&response);
}
