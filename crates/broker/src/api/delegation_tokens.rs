//! CreateDelegationToken 1-3, RenewDelegationToken 1-2, ExpireDelegationToken 1-2, DescribeDelegationToken 1-3 (KIP-48).
//!
//! A token stands for who asked for it; on a connection that authenticates nobody there is nobody to stand for, and Kafka refuses each of
//! the four with DELEGATION_TOKEN_REQUEST_NOT_ALLOWED. Every listener here is such (PLAINTEXT).

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_delegation_token_request::CreateDelegationTokenRequest;
use ottla_protocol::messages::create_delegation_token_response::CreateDelegationTokenResponse;
use ottla_protocol::messages::describe_delegation_token_request::DescribeDelegationTokenRequest;
use ottla_protocol::messages::describe_delegation_token_response::DescribeDelegationTokenResponse;
use ottla_protocol::messages::expire_delegation_token_request::ExpireDelegationTokenRequest;
use ottla_protocol::messages::expire_delegation_token_response::ExpireDelegationTokenResponse;
use ottla_protocol::messages::renew_delegation_token_request::RenewDelegationTokenRequest;
use ottla_protocol::messages::renew_delegation_token_response::RenewDelegationTokenResponse;

use crate::Broker;
use crate::call::Call;

const REFUSED: ErrorCode = ErrorCode::DelegationTokenRequestNotAllowed;
/// A time that there is not.
const NO_TIMESTAMP: i64 = -1;
/// Who asks on a connection without authentication.
const ANYBODY: (&str, &str) = ("User", "ANONYMOUS");

/// Handles CreateDelegationToken.
pub(crate) fn create(_: &Broker, call: &mut Call<'_>, request: CreateDelegationTokenRequest<'_>) {
    let named = request.owner_principal_name.as_deref().filter(|name| !name.is_empty());
    let owner = match named {
        Some(name) => (request.owner_principal_type.as_deref().unwrap_or_default(), name),
        None => ANYBODY,
    };
    // Before version 3 whoever asks is the owner, and is not told apart.
    let requester = if call.reply.version >= 3 { ANYBODY } else { ("", "") };
    call.respond(&CreateDelegationTokenResponse {
        error_code: REFUSED.code(),
        principal_type: owner.0.into(),
        principal_name: owner.1.into(),
        token_requester_principal_type: requester.0.into(),
        token_requester_principal_name: requester.1.into(),
        issue_timestamp_ms: NO_TIMESTAMP,
        expiry_timestamp_ms: NO_TIMESTAMP,
        max_timestamp_ms: NO_TIMESTAMP,
        ..Default::default()
    });
}

/// Handles RenewDelegationToken.
pub(crate) fn renew(_: &Broker, call: &mut Call<'_>, _: RenewDelegationTokenRequest<'_>) {
    call.respond(&RenewDelegationTokenResponse {
        error_code: REFUSED.code(),
        expiry_timestamp_ms: NO_TIMESTAMP,
        ..Default::default()
    });
}

/// Handles ExpireDelegationToken.
pub(crate) fn expire(_: &Broker, call: &mut Call<'_>, _: ExpireDelegationTokenRequest<'_>) {
    call.respond(&ExpireDelegationTokenResponse {
        error_code: REFUSED.code(),
        expiry_timestamp_ms: NO_TIMESTAMP,
        ..Default::default()
    });
}

/// Handles DescribeDelegationToken.
pub(crate) fn describe(_: &Broker, call: &mut Call<'_>, _: DescribeDelegationTokenRequest<'_>) {
    call.respond(&DescribeDelegationTokenResponse { error_code: REFUSED.code(), ..Default::default() });
}
