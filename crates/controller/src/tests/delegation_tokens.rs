//! Delegation tokens: who may make, renew and end them, how long they live, and what is left of them in the log.

use super::Cluster;
use crate::{Settings, expire_delegation_token, renew_delegation_token, sweep_delegation_tokens, token_hmac};
use ottla_metadata::MetadataVersion;
use ottla_metadata::security::Secret;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_delegation_token_request::{
    CreatableRenewers, CreateDelegationTokenRequest,
};
use ottla_protocol::messages::create_delegation_token_response::CreateDelegationTokenResponse;
use ottla_protocol::messages::expire_delegation_token_request::ExpireDelegationTokenRequest;
use ottla_protocol::messages::renew_delegation_token_request::RenewDelegationTokenRequest;

const SECRET: &str = "the secret";
const ANN: &str = "User:ann";
const BOB: &str = "User:bob";
const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

/// Tokens live ten hours, and for three until they have to be renewed.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.tokens.secret = Some(Secret::new(SECRET.to_owned()));
    settings.tokens.max_lifetime_ms = 10 * HOUR;
    settings.tokens.expiry_ms = 3 * HOUR;
    settings
}

fn cluster() -> Cluster {
    Cluster::bare(&[], settings(), 1)
}

fn request(renewers: &[&'static str], max_lifetime_ms: i64) -> CreateDelegationTokenRequest<'static> {
    let renewers = renewers.iter().map(|renewer| {
        let (kind, name) = renewer.split_once(':').expect("a principal");
        CreatableRenewers { principal_type: kind.into(), principal_name: name.into() }
    });
    CreateDelegationTokenRequest {
        owner_principal_type: None,
        owner_principal_name: None,
        renewers: renewers.collect(),
        max_lifetime_ms,
    }
}

fn create(
    cluster: &mut Cluster,
    request: &CreateDelegationTokenRequest<'_>,
) -> CreateDelegationTokenResponse<'static> {
    let decision = cluster.controller.create_delegation_token(request, ANN, NOW);
    cluster.append(decision)
}

/// The code, and the new end.
fn renew(cluster: &mut Cluster, hmac: &[u8], period: i64, who: &str, now: i64) -> (i16, i64) {
    let request = RenewDelegationTokenRequest { hmac: hmac.into(), renew_period_ms: period };
    let decision = renew_delegation_token(&cluster.controller.context(), &request, who, now);
    let response = cluster.append(decision);
    (response.error_code, response.expiry_timestamp_ms)
}

fn expire(cluster: &mut Cluster, hmac: &[u8], period: i64, who: &str, now: i64) -> (i16, i64) {
    let request = ExpireDelegationTokenRequest { hmac: hmac.into(), expiry_time_period_ms: period };
    let decision = expire_delegation_token(&cluster.controller.context(), &request, who, now);
    let response = cluster.append(decision);
    (response.error_code, response.expiry_timestamp_ms)
}

fn refused(error: ErrorCode) -> (i16, i64) {
    (error.code(), 0)
}

#[test]
fn a_token_is_kept_without_its_proof() {
    let mut cluster = cluster();
    let made = create(&mut cluster, &request(&[BOB], -1));
    assert_eq!(
        (made.error_code, &*made.principal_name, &*made.token_requester_principal_name),
        (0, "ann", "ann")
    );
    let times = (made.issue_timestamp_ms, made.expiry_timestamp_ms, made.max_timestamp_ms);
    assert_eq!(times, (NOW, NOW + 3 * HOUR, NOW + 10 * HOUR));
    assert_eq!(*made.hmac, token_hmac(SECRET, &made.token_id));
    assert_ne!(*made.hmac, token_hmac("another", &made.token_id));
    let tokens = cluster.controller.image().delegation_tokens();
    let token = &tokens[&*made.token_id];
    assert_eq!((&*token.owner, &*token.requester, &*token.renewers[0]), (ANN, ANN, BOB));
    let short = create(&mut cluster, &request(&[], HOUR));
    assert_eq!((short.expiry_timestamp_ms, short.max_timestamp_ms), (NOW + HOUR, NOW + HOUR));
    let long = create(&mut cluster, &request(&[], i64::MAX));
    assert_eq!(long.max_timestamp_ms, NOW + 10 * HOUR);
    let owned = CreateDelegationTokenRequest {
        owner_principal_type: Some("User".into()),
        owner_principal_name: Some("carol".into()),
        ..request(&[], -1)
    };
    let made = create(&mut cluster, &owned);
    let token = &cluster.controller.image().delegation_tokens()[&*made.token_id];
    assert_eq!((&*token.owner, &*token.requester), ("User:carol", ANN));
}

#[test]
fn what_is_not_made() {
    let mut cluster = cluster();
    let made = create(&mut cluster, &request(&["Group:a"], -1));
    assert_eq!((made.error_code, made.hmac.len()), (ErrorCode::InvalidPrincipalType.code(), 0));
    let mut without = Cluster::bare(&[], Settings::default(), 1);
    let made = create(&mut without, &request(&[], -1));
    assert_eq!((made.error_code, made.token_id.len()), (ErrorCode::DelegationTokenAuthDisabled.code(), 0));
    let disabled = refused(ErrorCode::DelegationTokenAuthDisabled);
    assert_eq!(renew(&mut without, b"x", -1, ANN, NOW), disabled);
    assert_eq!(expire(&mut without, b"x", -1, ANN, NOW), disabled);
    let mut old = Cluster::at(MetadataVersion(13), &[], settings(), 1);
    let made = create(&mut old, &request(&[], -1));
    assert_eq!(made.error_code, ErrorCode::UnsupportedVersion.code());
    assert!(old.controller.image().delegation_tokens().is_empty());
}

#[test]
fn renewing_goes_to_the_last_day_at_most() {
    let mut cluster = cluster();
    let made = create(&mut cluster, &request(&[BOB], -1));
    let hmac = &made.hmac;
    assert_eq!(renew(&mut cluster, hmac, -1, ANN, NOW + HOUR), (0, NOW + 4 * HOUR));
    assert_eq!(renew(&mut cluster, hmac, HOUR, BOB, NOW + 2 * HOUR), (0, NOW + 3 * HOUR));
    assert_eq!(renew(&mut cluster, hmac, i64::MAX, BOB, NOW + 3 * HOUR), (0, NOW + 6 * HOUR));
    assert_eq!(renew(&mut cluster, hmac, -1, BOB, NOW + 6 * HOUR), (0, NOW + 9 * HOUR));
    assert_eq!(renew(&mut cluster, hmac, -1, BOB, NOW + 9 * HOUR), (0, NOW + 10 * HOUR));
    let over = refused(ErrorCode::DelegationTokenExpired);
    assert_eq!(renew(&mut cluster, hmac, -1, BOB, NOW + 10 * HOUR + 1), over);
    assert_eq!(
        renew(&mut cluster, hmac, -1, "User:eve", NOW),
        refused(ErrorCode::DelegationTokenOwnerMismatch)
    );
    let wrong = [&hmac[..63], &[hmac[63] ^ 1]].concat();
    for proof in [&wrong[..], &hmac[..32], b""] {
        assert_eq!(renew(&mut cluster, proof, -1, ANN, NOW), refused(ErrorCode::DelegationTokenNotFound));
    }
    let token = &cluster.controller.image().delegation_tokens()[&*made.token_id];
    assert_eq!((token.expiration_timestamp, &*token.renewers[0]), (NOW + 10 * HOUR, BOB));
}

#[test]
fn a_token_ends_when_it_is_told_to() {
    let mut cluster = cluster();
    let made = create(&mut cluster, &request(&[BOB], -1));
    let hmac = &made.hmac;
    assert_eq!(
        expire(&mut cluster, hmac, -1, "User:eve", NOW),
        refused(ErrorCode::DelegationTokenOwnerMismatch)
    );
    assert_eq!(expire(&mut cluster, hmac, HOUR, ANN, NOW), (0, NOW + HOUR));
    assert_eq!(expire(&mut cluster, hmac, i64::MAX, ANN, NOW), (0, NOW + 10 * HOUR));
    assert_eq!(expire(&mut cluster, hmac, 0, BOB, NOW), (0, NOW));
    let late = expire(&mut cluster, hmac, HOUR, ANN, NOW + 1);
    assert_eq!(late, refused(ErrorCode::DelegationTokenExpired));
    // At once, even when it is over.
    assert_eq!(expire(&mut cluster, hmac, -1, ANN, NOW + HOUR), (0, NOW + HOUR));
    assert!(cluster.controller.image().delegation_tokens().is_empty());
    assert_eq!(expire(&mut cluster, hmac, -1, ANN, NOW), refused(ErrorCode::DelegationTokenNotFound));
}

#[test]
fn what_nobody_renewed_is_removed_a_thousand_at_a_time() {
    let mut cluster = cluster();
    for _ in 0..1001 {
        create(&mut cluster, &request(&[], HOUR));
    }
    let kept = create(&mut cluster, &request(&[], -1));
    let sweep = |cluster: &mut Cluster, now| {
        let decision = sweep_delegation_tokens(&cluster.controller.context(), now);
        let count = decision.records.len();
        (count, cluster.append(decision))
    };
    assert_eq!(sweep(&mut cluster, NOW + HOUR), (0, false));
    assert_eq!(sweep(&mut cluster, NOW + HOUR + 1), (1000, true));
    assert_eq!(sweep(&mut cluster, NOW + HOUR + 1), (1, false));
    let left: Vec<_> =
        cluster.controller.image().delegation_tokens().keys().map(|id| id.to_string()).collect();
    assert_eq!(left, [kept.token_id.to_string()]);
}
