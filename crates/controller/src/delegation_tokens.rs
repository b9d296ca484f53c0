//! CreateDelegationToken (38), RenewDelegationToken (39), ExpireDelegationToken (40), and the end of tokens that nobody renewed (KIP-48;
//! Kafka's `DelegationTokenControlManager`).
//!
//! The one tricky idea: the log holds no secret. What a client gets as proof is the token's id signed with a key that every node is given,
//! so whoever has the key can find the token that a proof belongs to, and whoever has only the log can not make one.

use crate::context::{Context, Decision};
use crate::dice::Dice;
use hmac::{Hmac, Mac};
use ottla_metadata::config::TokenSettings;
use ottla_metadata::security::DelegationToken;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_delegation_token_request::CreateDelegationTokenRequest;
use ottla_protocol::messages::create_delegation_token_response::CreateDelegationTokenResponse;
use ottla_protocol::messages::delegation_token_record::DelegationTokenRecord;
use ottla_protocol::messages::expire_delegation_token_request::ExpireDelegationTokenRequest;
use ottla_protocol::messages::expire_delegation_token_response::ExpireDelegationTokenResponse;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::remove_delegation_token_record::RemoveDelegationTokenRecord;
use ottla_protocol::messages::renew_delegation_token_request::RenewDelegationTokenRequest;
use ottla_protocol::messages::renew_delegation_token_response::RenewDelegationTokenResponse;
use sha2::Sha512;
use std::borrow::Cow;

/// What is told of the time of a token that there is not.
const NO_TIMESTAMP: i64 = 0;
/// The only kind of principal that may renew a token.
const USER: &str = "User";
/// How many tokens one look removes at most (Kafka's limit); the next look follows at once.
const SWEEP_MAX: usize = 1_000;

/// The proof that belongs to a token: its id, signed with the secret.
pub fn token_hmac(secret: &str, token_id: &str) -> Vec<u8> {
    signature(secret, token_id).finalize().into_bytes().to_vec()
}

fn signature(secret: &str, token_id: &str) -> Hmac<Sha512> {
    let mac = Hmac::<Sha512>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.chain_update(token_id)
}

/// Both halves of `User:ann`.
pub fn principal_parts(principal: &str) -> (&str, &str) {
    principal.split_once(':').unwrap_or(("", principal))
}

/// Decides about a new token. `requester` is who asks, as `User:name`; without an owner of its own the token speaks for them.
pub fn create_delegation_token(
    context: &Context<'_>,
    request: &CreateDelegationTokenRequest<'_>,
    requester: &str,
    now: i64,
    dice: &mut Dice,
) -> Decision<CreateDelegationTokenResponse<'static>> {
    let named = request.owner_principal_name.as_deref().filter(|name| !name.is_empty());
    let owner = match named {
        Some(name) => (request.owner_principal_type.as_deref().unwrap_or_default(), name),
        None => principal_parts(requester),
    };
    let asks = principal_parts(requester);
    let mut response = CreateDelegationTokenResponse {
        principal_type: Cow::Owned(owner.0.to_owned()),
        principal_name: Cow::Owned(owner.1.to_owned()),
        token_requester_principal_type: Cow::Owned(asks.0.to_owned()),
        token_requester_principal_name: Cow::Owned(asks.1.to_owned()),
        ..Default::default()
    };
    let settings = &context.settings.tokens;
    let secret = match usable_secret(context) {
        Ok(secret) if request.renewers.iter().all(|renewer| renewer.principal_type == USER) => secret,
        refused => {
            let error = refused.err().unwrap_or(ErrorCode::InvalidPrincipalType);
            response.error_code = error.code();
            return Decision::without_records(response);
        }
    };
    let lifetime = shorter(settings.max_lifetime_ms, request.max_lifetime_ms);
    let max_timestamp = now.saturating_add(lifetime);
    let expiration_timestamp = max_timestamp.min(now.saturating_add(settings.expiry_ms));
    let token_id = dice.uuid().to_string();
    response.issue_timestamp_ms = now;
    response.expiry_timestamp_ms = expiration_timestamp;
    response.max_timestamp_ms = max_timestamp;
    response.hmac = Cow::Owned(token_hmac(secret, &token_id));
    response.token_id = Cow::Owned(token_id.clone());
    let renewers =
        request.renewers.iter().map(|renewer| Cow::Owned(format!("{USER}:{}", renewer.principal_name)));
    let record = DelegationTokenRecord {
        owner: Cow::Owned(format!("{}:{}", owner.0, owner.1)),
        requester: Cow::Owned(requester.to_owned()),
        renewers: renewers.collect(),
        issue_timestamp: now,
        max_timestamp,
        expiration_timestamp,
        token_id: Cow::Owned(token_id),
    };
    Decision::atomic(vec![MetadataRecord::DelegationTokenRecord(record)], response)
}

/// Decides about a longer life: at most until the token's last day, which was fixed when it was made.
pub fn renew_delegation_token(
    context: &Context<'_>,
    request: &RenewDelegationTokenRequest<'_>,
    requester: &str,
    now: i64,
) -> Decision<RenewDelegationTokenResponse> {
    let answer = |error: ErrorCode, expiry_timestamp_ms| RenewDelegationTokenResponse {
        error_code: error.code(),
        expiry_timestamp_ms,
        ..Default::default()
    };
    let renewed = find(context, &request.hmac).and_then(|token| {
        if is_over(token, now) {
            return Err(ErrorCode::DelegationTokenExpired);
        }
        check_renewer(token, requester)?;
        let period = shorter(context.settings.tokens.expiry_ms, request.renew_period_ms);
        Ok(until(token, token.max_timestamp.min(now.saturating_add(period))))
    });
    match renewed {
        Ok((record, expiry)) => Decision::atomic(vec![record], answer(ErrorCode::None, expiry)),
        Err(error) => Decision::without_records(answer(error, NO_TIMESTAMP)),
    }
}

/// Decides about another end: at once if the period is negative, else after it, as far as the token may live.
pub fn expire_delegation_token(
    context: &Context<'_>,
    request: &ExpireDelegationTokenRequest<'_>,
    requester: &str,
    now: i64,
) -> Decision<ExpireDelegationTokenResponse> {
    let answer = |error: ErrorCode, expiry_timestamp_ms| ExpireDelegationTokenResponse {
        error_code: error.code(),
        expiry_timestamp_ms,
        ..Default::default()
    };
    let period = request.expiry_time_period_ms;
    let expired = find(context, &request.hmac).and_then(|token| {
        check_renewer(token, requester)?;
        if period < 0 {
            return Ok((removal(token), now));
        }
        if is_over(token, now) {
            return Err(ErrorCode::DelegationTokenExpired);
        }
        Ok(until(token, token.max_timestamp.min(now.saturating_add(period))))
    });
    match expired {
        Ok((record, expiry)) => Decision::atomic(vec![record], answer(ErrorCode::None, expiry)),
        Err(error) => Decision::without_records(answer(error, NO_TIMESTAMP)),
    }
}

/// Removes tokens that are over; whether there may be more of them.
pub fn sweep_delegation_tokens(context: &Context<'_>, now: i64) -> Decision<bool> {
    let tokens = context.image.delegation_tokens().values();
    let over = tokens.filter(|token| is_over(token, now)).take(SWEEP_MAX);
    let records: Vec<_> = over.map(|token| removal(token)).collect();
    let is_full = records.len() == SWEEP_MAX;
    Decision::splittable(records, is_full)
}

/// The secret, if there is one and the cluster's level knows tokens.
fn usable_secret<'a>(context: &Context<'a>) -> Result<&'a str, ErrorCode> {
    let TokenSettings { secret, .. } = &context.settings.tokens;
    let secret = secret.as_ref().ok_or(ErrorCode::DelegationTokenAuthDisabled)?;
    if !context.metadata_version().supports_delegation_tokens() {
        return Err(ErrorCode::UnsupportedVersion);
    }
    Ok(secret.reveal())
}

/// The token that a proof belongs to. Comparing takes the same time wherever the proof is wrong.
fn find<'a>(context: &Context<'a>, proof: &[u8]) -> Result<&'a DelegationToken, ErrorCode> {
    let secret = usable_secret(context)?;
    let mut tokens = context.image.delegation_tokens().values();
    let found = tokens.find(|token| signature(secret, &token.token_id).verify_slice(proof).is_ok());
    found.map(|token| &**token).ok_or(ErrorCode::DelegationTokenNotFound)
}

fn check_renewer(token: &DelegationToken, requester: &str) -> Result<(), ErrorCode> {
    match token.may_be_renewed_by(requester) {
        true => Ok(()),
        false => Err(ErrorCode::DelegationTokenOwnerMismatch),
    }
}

fn is_over(token: &DelegationToken, now: i64) -> bool {
    token.max_timestamp < now || token.expiration_timestamp < now
}

/// A wish counts where it is one, and asks for less than the limit.
fn shorter(limit: i64, wish: i64) -> i64 {
    if wish > 0 { limit.min(wish) } else { limit }
}

/// The token with another end.
fn until(token: &DelegationToken, expiration_timestamp: i64) -> (MetadataRecord<'static>, i64) {
    let record = DelegationTokenRecord {
        owner: Cow::Owned(token.owner.to_string()),
        requester: Cow::Owned(token.requester.to_string()),
        renewers: token.renewers.iter().map(|renewer| Cow::Owned(renewer.to_string())).collect(),
        issue_timestamp: token.issue_timestamp,
        max_timestamp: token.max_timestamp,
        expiration_timestamp,
        token_id: Cow::Owned(token.token_id.to_string()),
    };
    (MetadataRecord::DelegationTokenRecord(record), expiration_timestamp)
}

fn removal(token: &DelegationToken) -> MetadataRecord<'static> {
    let token_id = Cow::Owned(token.token_id.to_string());
    MetadataRecord::RemoveDelegationTokenRecord(RemoveDelegationTokenRecord { token_id })
}
