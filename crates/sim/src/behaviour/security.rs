//! Credentials, access control and tokens on a node without security: credentials are kept for those who will check them; entries of access
//! control are kept where the node is told so, and refused as Kafka refuses them where it is not.

use super::Rig;
use crate::client::read;
use crate::world::Death;
use ottla_broker::Response;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use ottla_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResponse;
use ottla_protocol::messages::create_acls_request::{AclCreation, CreateAclsRequest};
use ottla_protocol::messages::create_acls_response::CreateAclsResponse;
use ottla_protocol::messages::create_delegation_token_request::CreateDelegationTokenRequest;
use ottla_protocol::messages::create_delegation_token_response::CreateDelegationTokenResponse;
use ottla_protocol::messages::delete_acls_request::{DeleteAclsFilter, DeleteAclsRequest};
use ottla_protocol::messages::delete_acls_response::DeleteAclsResponse;
use ottla_protocol::messages::describe_acls_request::DescribeAclsRequest;
use ottla_protocol::messages::describe_acls_response::DescribeAclsResponse;
use ottla_protocol::messages::describe_delegation_token_request::{
    DescribeDelegationTokenOwner, DescribeDelegationTokenRequest,
};
use ottla_protocol::messages::describe_delegation_token_response::DescribeDelegationTokenResponse;
use ottla_protocol::messages::describe_user_scram_credentials_request::{
    DescribeUserScramCredentialsRequest, UserName,
};
use ottla_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResponse;
use ottla_protocol::messages::expire_delegation_token_request::ExpireDelegationTokenRequest;
use ottla_protocol::messages::expire_delegation_token_response::ExpireDelegationTokenResponse;
use ottla_protocol::messages::renew_delegation_token_request::RenewDelegationTokenRequest;
use ottla_protocol::messages::renew_delegation_token_response::RenewDelegationTokenResponse;

const SHA_256: i8 = 1;
const SHA_512: i8 = 2;

fn upsertion(name: &'static str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion<'static> {
    ScramCredentialUpsertion {
        name: name.into(),
        mechanism,
        iterations,
        salt: (&b"salt"[..]).into(),
        salted_password: (&b"salted"[..]).into(),
    }
}

fn deletion(name: &'static str, mechanism: i8) -> ScramCredentialDeletion<'static> {
    ScramCredentialDeletion { name: name.into(), mechanism }
}

/// The code of each user, in their order.
fn alter(
    rig: &mut Rig,
    deletions: Vec<ScramCredentialDeletion<'static>>,
    upsertions: Vec<ScramCredentialUpsertion<'static>>,
) -> Vec<(String, i16)> {
    let answer = rig.ask(&AlterUserScramCredentialsRequest { deletions, upsertions }, 0);
    let response: AlterUserScramCredentialsResponse<'_> = read(&answer, 0).expect("a response");
    response.results.iter().map(|result| (result.user.to_string(), result.error_code)).collect()
}

/// A user, the code, and the (mechanism, iterations) of the credentials.
type Told = (String, i16, Vec<(i8, i32)>);

fn describe(rig: &mut Rig, users: Option<&[&'static str]>) -> Vec<Told> {
    let users =
        users.map(|users| users.iter().map(|user| UserName { name: (*user).into() }).collect::<Vec<_>>());
    let answer = rig.ask(&DescribeUserScramCredentialsRequest { users }, 0);
    let response: DescribeUserScramCredentialsResponse<'_> = read(&answer, 0).expect("a response");
    assert_eq!(response.error_code, 0);
    let told = response.results.iter().map(|result| {
        let infos = result.credential_infos.iter().map(|info| (info.mechanism, info.iterations));
        (result.user.to_string(), result.error_code, infos.collect())
    });
    told.collect()
}

#[test]
fn credentials_are_kept_and_told_without_their_keys() {
    let mut rig = Rig::new();
    let told =
        alter(&mut rig, vec![], vec![upsertion("ann", SHA_256, 4096), upsertion("bob", SHA_512, 8192)]);
    assert_eq!(told, [("ann".to_owned(), 0), ("bob".to_owned(), 0)]);
    alter(&mut rig, vec![], vec![upsertion("ann", SHA_512, 5000)]);
    rig.world.restart(Death::Kill).expect("it starts again");
    let all = [
        ("ann".to_owned(), 0, vec![(SHA_256, 4096), (SHA_512, 5000)]),
        ("bob".to_owned(), 0, vec![(SHA_512, 8192)]),
    ];
    assert_eq!(describe(&mut rig, None), all);
    assert_eq!(describe(&mut rig, Some(&[])), all);
    let not_found = ErrorCode::ResourceNotFound.code();
    let duplicate = ErrorCode::DuplicateResource.code();
    assert_eq!(describe(&mut rig, Some(&["eve"])), [("eve".to_owned(), not_found, vec![])]);
    assert_eq!(describe(&mut rig, Some(&["bob", "bob"])), [("bob".to_owned(), duplicate, vec![])]);
    assert_eq!(alter(&mut rig, vec![deletion("ann", SHA_256)], vec![]), [("ann".to_owned(), 0)]);
    assert_eq!(alter(&mut rig, vec![deletion("ann", SHA_256)], vec![]), [("ann".to_owned(), not_found)]);
    assert_eq!(describe(&mut rig, Some(&["ann"])), [("ann".to_owned(), 0, vec![(SHA_512, 5000)])]);
}

#[test]
fn credentials_that_are_no_good() {
    let mut rig = Rig::new();
    let mut refused =
        |upsertion: ScramCredentialUpsertion<'static>| alter(&mut rig, vec![], vec![upsertion])[0].1;
    assert_eq!(refused(upsertion("", SHA_256, 4096)), ErrorCode::UnacceptableCredential.code());
    assert_eq!(refused(upsertion("a", 3, 4096)), ErrorCode::UnsupportedSaslMechanism.code());
    assert_eq!(refused(upsertion("a", SHA_256, 4095)), ErrorCode::UnacceptableCredential.code());
    assert_eq!(refused(upsertion("a", SHA_256, 16385)), ErrorCode::UnacceptableCredential.code());
    let twice = alter(&mut rig, vec![], vec![upsertion("a", SHA_256, 4096), upsertion("a", SHA_512, 4096)]);
    assert_eq!(twice, [("a".to_owned(), ErrorCode::DuplicateResource.code())]);
    assert_eq!(describe(&mut rig, None), []);
}

#[test]
fn access_control_without_an_authorizer() {
    let mut rig = Rig::new();
    let disabled = ErrorCode::SecurityDisabled.code();
    for version in 1..=3 {
        let asked = DescribeAclsRequest {
            resource_type_filter: 1,
            pattern_type_filter: 1,
            operation: 1,
            permission_type: 1,
            ..Default::default()
        };
        let answer = rig.ask(&asked, version);
        let told: DescribeAclsResponse<'_> = read(&answer, version).expect("a response");
        assert_eq!((told.error_code, told.resources.len()), (disabled, 0));
        let creation = entry("t", "User:ann");
        let answer = rig.ask(&CreateAclsRequest { creations: vec![creation.clone(), creation] }, version);
        let told: CreateAclsResponse<'_> = read(&answer, version).expect("a response");
        let codes: Vec<i16> = told.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [disabled, disabled]);
        let filters = vec![delete_all()];
        let answer = rig.ask(&DeleteAclsRequest { filters }, version);
        let told: DeleteAclsResponse<'_> = read(&answer, version).expect("a response");
        assert_eq!((told.filter_results.len(), told.filter_results[0].error_code), (1, disabled));
    }
}

fn entry(topic: &'static str, principal: &'static str) -> AclCreation<'static> {
    AclCreation {
        resource_type: 2,
        resource_name: topic.into(),
        resource_pattern_type: 3,
        principal: principal.into(),
        host: "*".into(),
        operation: 3,
        permission_type: 3,
    }
}

fn delete_all() -> DeleteAclsFilter<'static> {
    DeleteAclsFilter {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
    }
}

/// A node that keeps entries and enforces none.
const KEEPS_ACLS: &[(&str, &str)] = &[
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("ottla.authorizer.enforce", "false"),
];

/// Resource and principals of what a filter finds.
fn listed(rig: &mut Rig, topic: Option<&'static str>) -> Vec<(String, Vec<String>)> {
    let asked = DescribeAclsRequest {
        resource_type_filter: 1,
        resource_name_filter: topic.map(Into::into),
        pattern_type_filter: 1,
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
    };
    let answer = rig.ask(&asked, 3);
    let told: DescribeAclsResponse<'_> = read(&answer, 3).expect("a response");
    assert_eq!(told.error_code, 0);
    let resources = told.resources.iter().map(|resource| {
        let mut principals: Vec<String> = resource.acls.iter().map(|acl| acl.principal.to_string()).collect();
        principals.sort();
        (resource.resource_name.to_string(), principals)
    });
    resources.collect()
}

#[test]
fn entries_are_kept_over_a_restart_and_listed_by_resource() {
    let mut rig = Rig::with(KEEPS_ACLS);
    let creations = vec![entry("t", "User:ann"), entry("t", "User:bob"), entry("u", "User:ann")];
    let answer = rig.ask(&CreateAclsRequest { creations }, 3);
    let told: CreateAclsResponse<'_> = read(&answer, 3).expect("a response");
    assert!(told.results.len() == 3 && told.results.iter().all(|result| result.error_code == 0));
    rig.world.restart(Death::PowerLoss).expect("it starts again");
    let of_t = ("t".to_owned(), vec!["User:ann".to_owned(), "User:bob".to_owned()]);
    let of_u = ("u".to_owned(), vec!["User:ann".to_owned()]);
    assert_eq!(listed(&mut rig, None), [of_t, of_u.clone()]);
    assert_eq!(listed(&mut rig, Some("u")), [of_u]);
    let of_bob = DeleteAclsFilter { principal_filter: Some("User:bob".into()), ..delete_all() };
    let answer = rig.ask(&DeleteAclsRequest { filters: vec![of_bob] }, 3);
    let told: DeleteAclsResponse<'_> = read(&answer, 3).expect("a response");
    assert_eq!(told.filter_results[0].matching_acls.len(), 1);
    assert_eq!(listed(&mut rig, Some("t")), [("t".to_owned(), vec!["User:ann".to_owned()])]);
}

#[test]
fn a_number_for_unknown_is_no_request() {
    let mut rig = Rig::with(KEEPS_ACLS);
    let create = CreateAclsRequest { creations: vec![AclCreation { operation: 0, ..entry("t", "User:a") }] };
    let token = rig.send(&create, 3);
    assert!(matches!(rig.world.take_answer(token), Some(Response::Close)));
    assert_eq!(listed(&mut rig, None), []);
}

#[test]
fn nobody_gets_a_token_for_nobody() {
    let mut rig = Rig::new();
    let refused = ErrorCode::DelegationTokenRequestNotAllowed.code();
    for version in 1..=3 {
        let answer = rig.ask(&CreateDelegationTokenRequest::default(), version);
        let told: CreateDelegationTokenResponse<'_> = read(&answer, version).expect("a response");
        assert_eq!((told.error_code, &*told.principal_name), (refused, "ANONYMOUS"));
        assert_eq!((told.expiry_timestamp_ms, told.hmac.len()), (-1, 0));
        let answer = rig.ask(&DescribeDelegationTokenRequest::default(), version);
        let told: DescribeDelegationTokenResponse<'_> = read(&answer, version).expect("a response");
        assert_eq!((told.error_code, told.tokens.len()), (refused, 0));
    }
    for version in 1..=2 {
        let answer = rig.ask(&RenewDelegationTokenRequest::default(), version);
        let told: RenewDelegationTokenResponse = read(&answer, version).expect("a response");
        assert_eq!((told.error_code, told.expiry_timestamp_ms), (refused, -1));
        let answer = rig.ask(&ExpireDelegationTokenRequest::default(), version);
        let told: ExpireDelegationTokenResponse = read(&answer, version).expect("a response");
        assert_eq!((told.error_code, told.expiry_timestamp_ms), (refused, -1));
    }
}

/// The code, the id and the proof.
fn make_token(rig: &mut Rig, owner: Option<&'static str>) -> (i16, String, Vec<u8>) {
    let request = CreateDelegationTokenRequest {
        owner_principal_type: owner.map(|_| "User".into()),
        owner_principal_name: owner.map(Into::into),
        max_lifetime_ms: -1,
        ..Default::default()
    };
    let answer = rig.ask(&request, 3);
    let told: CreateDelegationTokenResponse<'_> = read(&answer, 3).expect("a response");
    (told.error_code, told.token_id.to_string(), told.hmac.to_vec())
}

/// The ids and proofs of the tokens of these owners.
fn tokens(rig: &mut Rig, owners: Option<&[&'static str]>) -> Vec<(String, Vec<u8>)> {
    let owners = owners.map(|owners| {
        let owner = |name: &&'static str| DescribeDelegationTokenOwner {
            principal_type: "User".into(),
            principal_name: (*name).into(),
        };
        owners.iter().map(owner).collect::<Vec<_>>()
    });
    let answer = rig.ask(&DescribeDelegationTokenRequest { owners }, 3);
    let told: DescribeDelegationTokenResponse<'_> = read(&answer, 3).expect("a response");
    assert_eq!(told.error_code, 0);
    told.tokens.iter().map(|token| (token.token_id.to_string(), token.hmac.to_vec())).collect()
}

#[test]
fn tokens_are_for_whom_a_listener_knows() {
    let mut rig = Rig::with(&[("delegation.token.secret.key", "secret")]);
    rig.world.authenticate("User:ann");
    let (code, id, hmac) = make_token(&mut rig, None);
    assert_eq!((code, hmac.len()), (0, 64));
    let for_another = make_token(&mut rig, Some("bob"));
    assert_eq!(for_another.0, ErrorCode::DelegationTokenAuthorizationFailed.code());
    rig.world.restart(Death::PowerLoss).expect("it starts again");
    let mine = [(id.clone(), hmac.clone())];
    assert_eq!(tokens(&mut rig, None), mine);
    assert_eq!(tokens(&mut rig, Some(&["ann", "bob"])), mine);
    assert_eq!(tokens(&mut rig, Some(&["bob"])), []);
    assert_eq!(tokens(&mut rig, Some(&[])), []);
    // Somebody else does not see it, has no say in it, and does not learn that it is there by a wrong proof.
    rig.world.authenticate("User:eve");
    assert_eq!(tokens(&mut rig, None), []);
    let mut renew = |hmac: &[u8]| {
        let answer = rig.ask(&RenewDelegationTokenRequest { hmac: hmac.into(), renew_period_ms: -1 }, 2);
        let told: RenewDelegationTokenResponse = read(&answer, 2).expect("a response");
        told.error_code
    };
    assert_eq!(renew(&hmac), ErrorCode::DelegationTokenOwnerMismatch.code());
    assert_eq!(renew(&[0; 64]), ErrorCode::DelegationTokenNotFound.code());
    rig.world.authenticate("User:ann");
    let expire = ExpireDelegationTokenRequest { hmac: (&hmac[..]).into(), expiry_time_period_ms: -1 };
    let answer = rig.ask(&expire, 2);
    let told: ExpireDelegationTokenResponse = read(&answer, 2).expect("a response");
    assert_eq!(told.error_code, 0);
    assert_eq!(tokens(&mut rig, None), []);
}

#[test]
fn tokens_that_are_over_are_removed_in_time() {
    let mut rig = Rig::with(&[
        ("delegation.token.secret.key", "secret"),
        ("delegation.token.expiry.time.ms", "10000"),
        ("delegation.token.expiry.check.interval.ms", "60000"),
    ]);
    rig.world.authenticate("User:ann");
    make_token(&mut rig, None);
    let before = rig.world.now;
    let step_to = |rig: &mut Rig, until: i64| while rig.world.step(until) {};
    step_to(&mut rig, before + 30_000);
    assert_eq!(tokens(&mut rig, None).len(), 1, "over, and nobody has looked yet");
    step_to(&mut rig, before + 61_000);
    assert_eq!(tokens(&mut rig, None), []);
    // And the next ones as well.
    make_token(&mut rig, None);
    let before = rig.world.now;
    step_to(&mut rig, before + 71_000);
    assert_eq!(tokens(&mut rig, None), []);
}

#[test]
fn without_a_secret_there_are_no_tokens() {
    let mut rig = Rig::new();
    rig.world.authenticate("User:ann");
    let disabled = ErrorCode::DelegationTokenAuthDisabled.code();
    assert_eq!(make_token(&mut rig, None).0, disabled);
    let answer = rig.ask(&DescribeDelegationTokenRequest::default(), 1);
    let told: DescribeDelegationTokenResponse<'_> = read(&answer, 1).expect("a response");
    assert_eq!(told.error_code, disabled);
}
