//! CreateDelegationToken 1-3, RenewDelegationToken 1-2, ExpireDelegationToken 1-2, DescribeDelegationToken 1-3 (KIP-48).
//!
//! A token stands for who asked for it; on a connection that authenticates nobody there is nobody to stand for, and as in Kafka each of
//! the four is refused with DELEGATION_TOKEN_REQUEST_NOT_ALLOWED. Every listener that is served today is such (PLAINTEXT).

use std::sync::Arc;

use ottla_controller::{principal_parts, token_hmac};
use ottla_metadata::security::DelegationToken;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_delegation_token_request::CreateDelegationTokenRequest;
use ottla_protocol::messages::create_delegation_token_response::CreateDelegationTokenResponse;
use ottla_protocol::messages::describe_delegation_token_request::DescribeDelegationTokenRequest;
use ottla_protocol::messages::describe_delegation_token_response::{
    DescribeDelegationTokenResponse, DescribedDelegationToken, DescribedDelegationTokenRenewer,
};
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
/// The first version that tells who asked apart from whom the token speaks for.
const FIRST_WITH_REQUESTER: i16 = 3;

/// Handles CreateDelegationToken.
pub(crate) fn create(broker: &Broker, call: &mut Call<'_>, request: CreateDelegationTokenRequest<'_>) {
    let tells_requester = call.reply.version >= FIRST_WITH_REQUESTER;
    let Some(requester) = requester(call) else {
        return call.respond(&refused_creation(&request, tells_requester));
    };
    let response = refused_creation(&request, tells_requester);
    let owner = format!("{}:{}", response.principal_type, response.principal_name);
    let is_named = request.owner_principal_name.as_deref().is_some_and(|name| !name.is_empty());
    if is_named && owner != *requester {
        // To speak for somebody else is for whom an authorizer allows it, and there is none.
        let error_code = ErrorCode::DelegationTokenAuthorizationFailed.code();
        return call.respond(&CreateDelegationTokenResponse { error_code, ..response });
    }
    let now = call.now;
    broker.decide(call, |controller| {
        let decision = controller.create_delegation_token(&request, &requester, now);
        decision.map(|mut response| {
            if !tells_requester {
                response.token_requester_principal_type = "".into();
                response.token_requester_principal_name = "".into();
            }
            response
        })
    });
}

/// Who asks, if the connection knows.
fn requester(call: &Call<'_>) -> Option<Arc<str>> {
    call.connection.principal.clone()
}

fn refused_creation<'a>(
    request: &'a CreateDelegationTokenRequest<'_>,
    tells_requester: bool,
) -> CreateDelegationTokenResponse<'a> {
    let named = request.owner_principal_name.as_deref().filter(|name| !name.is_empty());
    let owner = match named {
        Some(name) => (request.owner_principal_type.as_deref().unwrap_or_default(), name),
        None => ANYBODY,
    };
    let requester = if tells_requester { ANYBODY } else { ("", "") };
    CreateDelegationTokenResponse {
        error_code: REFUSED.code(),
        principal_type: owner.0.into(),
        principal_name: owner.1.into(),
        token_requester_principal_type: requester.0.into(),
        token_requester_principal_name: requester.1.into(),
        issue_timestamp_ms: NO_TIMESTAMP,
        expiry_timestamp_ms: NO_TIMESTAMP,
        max_timestamp_ms: NO_TIMESTAMP,
        ..Default::default()
    }
}

/// Handles RenewDelegationToken.
pub(crate) fn renew(broker: &Broker, call: &mut Call<'_>, request: RenewDelegationTokenRequest<'_>) {
    let Some(requester) = requester(call) else {
        return call.respond(&RenewDelegationTokenResponse {
            error_code: REFUSED.code(),
            expiry_timestamp_ms: NO_TIMESTAMP,
            ..Default::default()
        });
    };
    let now = call.now;
    broker.decide(call, |controller| {
        ottla_controller::renew_delegation_token(&controller.context(), &request, &requester, now)
    });
}

/// Handles ExpireDelegationToken.
pub(crate) fn expire(broker: &Broker, call: &mut Call<'_>, request: ExpireDelegationTokenRequest<'_>) {
    let Some(requester) = requester(call) else {
        return call.respond(&ExpireDelegationTokenResponse {
            error_code: REFUSED.code(),
            expiry_timestamp_ms: NO_TIMESTAMP,
            ..Default::default()
        });
    };
    let now = call.now;
    broker.decide(call, |controller| {
        ottla_controller::expire_delegation_token(&controller.context(), &request, &requester, now)
    });
}

/// Handles DescribeDelegationToken: the tokens of these owners (of all, if none are named), as far as who asks has to do with them. More
/// is for whom an authorizer allows it, and there is none.
pub(crate) fn describe(broker: &Broker, call: &mut Call<'_>, request: DescribeDelegationTokenRequest<'_>) {
    let refuse =
        |error: ErrorCode| DescribeDelegationTokenResponse { error_code: error.code(), ..Default::default() };
    let Some(requester) = requester(call) else { return call.respond(&refuse(REFUSED)) };
    let Some(secret) = &broker.config().tokens.secret else {
        return call.respond(&refuse(ErrorCode::DelegationTokenAuthDisabled));
    };
    let owners = request.owners.as_ref().map(|owners| {
        let named = owners.iter().map(|owner| format!("{}:{}", owner.principal_type, owner.principal_name));
        named.collect::<Vec<_>>()
    });
    let is_wanted = |token: &DelegationToken| {
        owners.as_ref().is_none_or(|owners| owners.iter().any(|owner| token.concerns(owner)))
            && token.concerns(&requester)
    };
    let image = broker.image();
    let wanted = image.delegation_tokens().values().filter(|token| is_wanted(token));
    let tells_requester = call.reply.version >= FIRST_WITH_REQUESTER;
    let tokens = wanted.map(|token| tell(token, secret.reveal(), tells_requester)).collect();
    call.respond(&DescribeDelegationTokenResponse { tokens, ..Default::default() });
}

fn tell<'a>(token: &'a DelegationToken, secret: &str, tells_requester: bool) -> DescribedDelegationToken<'a> {
    let owner = principal_parts(&token.owner);
    let requester = if tells_requester { principal_parts(&token.requester) } else { ("", "") };
    let renewers = token.renewers.iter().map(|renewer| {
        let (principal_type, principal_name) = principal_parts(renewer);
        DescribedDelegationTokenRenewer {
            principal_type: principal_type.into(),
            principal_name: principal_name.into(),
        }
    });
    DescribedDelegationToken {
        principal_type: owner.0.into(),
        principal_name: owner.1.into(),
        token_requester_principal_type: requester.0.into(),
        token_requester_principal_name: requester.1.into(),
        issue_timestamp: token.issue_timestamp,
        expiry_timestamp: token.expiration_timestamp,
        max_timestamp: token.max_timestamp,
        token_id: (&*token.token_id).into(),
        hmac: token_hmac(secret, &token.token_id).into(),
        renewers: renewers.collect(),
    }
}
