//! CreateAcls and DeleteAcls: what is an entry, what is the same entry, and which ones a filter takes away.

use super::Cluster;
use crate::{Settings, delete_acls};
use ottla_metadata::MetadataVersion;
use ottla_metadata::acl::{ANY, LITERAL, MATCH, PREFIXED};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_acls_request::{AclCreation, CreateAclsRequest};
use ottla_protocol::messages::delete_acls_request::{DeleteAclsFilter, DeleteAclsRequest};

const TOPIC: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const ALLOW: i8 = 3;

fn entry(name: &'static str, pattern: i8, operation: i8) -> AclCreation<'static> {
    AclCreation {
        resource_type: TOPIC,
        resource_name: name.into(),
        resource_pattern_type: pattern,
        principal: "User:ann".into(),
        host: "*".into(),
        operation,
        permission_type: ALLOW,
    }
}

fn any() -> DeleteAclsFilter<'static> {
    DeleteAclsFilter {
        resource_type_filter: ANY,
        pattern_type_filter: ANY,
        operation: ANY,
        permission_type: ANY,
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
    }
}

/// The codes, and how many records.
fn create(cluster: &mut Cluster, creations: Vec<AclCreation<'static>>) -> (Vec<i16>, usize) {
    let decision = cluster.controller.create_acls(&CreateAclsRequest { creations });
    let codes = decision.response.results.iter().map(|result| result.error_code).collect();
    let count = decision.records.len();
    cluster.append(decision);
    (codes, count)
}

/// For each filter the names of what it took away; and how many records.
fn delete(cluster: &mut Cluster, filters: Vec<DeleteAclsFilter<'static>>) -> (Vec<Vec<String>>, usize) {
    let decision = delete_acls(&cluster.controller.context(), &DeleteAclsRequest { filters });
    let names = decision.response.filter_results.iter().map(|result| {
        assert_eq!(result.error_code, 0);
        let mut names: Vec<String> = result
            .matching_acls
            .iter()
            .map(|acl| format!("{}/{}", acl.resource_name, acl.operation))
            .collect();
        names.sort();
        names
    });
    let (names, count) = (names.collect(), decision.records.len());
    cluster.append(decision);
    (names, count)
}

#[test]
fn an_entry_is_there_once() {
    let mut cluster = Cluster::with(1);
    let twice = vec![entry("t", LITERAL, READ), entry("t", LITERAL, READ), entry("t", PREFIXED, READ)];
    assert_eq!(create(&mut cluster, twice), (vec![0, 0, 0], 2));
    assert_eq!(
        create(&mut cluster, vec![entry("t", LITERAL, READ), entry("t", LITERAL, WRITE)]),
        (vec![0, 0], 1)
    );
    assert_eq!(cluster.controller.image().acls().len(), 3);
}

#[test]
fn filters_that_overlap() {
    let mut cluster = Cluster::with(1);
    let entries = ["orders", "orders-eu"].map(|name| entry(name, LITERAL, READ));
    create(&mut cluster, [entries.to_vec(), vec![entry("ord", PREFIXED, WRITE)]].concat());
    let named = |pattern| DeleteAclsFilter {
        resource_type_filter: TOPIC,
        resource_name_filter: Some("orders".into()),
        pattern_type_filter: pattern,
        ..any()
    };
    let nothing = DeleteAclsFilter { principal_filter: Some("User:bob".into()), ..any() };
    assert_eq!(delete(&mut cluster, vec![nothing]), (vec![vec![]], 0));
    let (names, count) = delete(&mut cluster, vec![named(LITERAL), named(MATCH)]);
    assert_eq!(names, [vec!["orders/3".to_owned()], vec!["ord/4".to_owned(), "orders/3".to_owned()]]);
    assert_eq!(count, 2);
    assert_eq!(delete(&mut cluster, vec![any()]), (vec![vec!["orders-eu/3".to_owned()]], 1));
    assert!(cluster.controller.image().acls().is_empty());
}

fn refused(cluster: &mut Cluster, creation: AclCreation<'static>, code: ErrorCode, says: &str) {
    let decision = cluster.controller.create_acls(&CreateAclsRequest { creations: vec![creation] });
    let result = &decision.response.results[0];
    let message = result.error_message.as_deref().unwrap_or_default();
    assert_eq!(result.error_code, code.code(), "{message}");
    assert!(message.contains(says), "{message:?} does not say {says:?}");
    assert_eq!(decision.records, []);
}

#[test]
fn entries_that_say_too_little() {
    let mut cluster = Cluster::with(1);
    let good = || entry("t", LITERAL, READ);
    let mut refuse = |creation, says: &str| refused(&mut cluster, creation, ErrorCode::InvalidRequest, says);
    refuse(AclCreation { resource_type: 4, ..good() }, "only valid name for the CLUSTER resource");
    refuse(AclCreation { resource_name: "".into(), ..good() }, "empty resource name");
    refuse(AclCreation { resource_type: ANY, ..good() }, "Invalid resourceType ANY");
    refuse(AclCreation { resource_type: 8, ..good() }, "Invalid resourceType UNKNOWN");
    refuse(AclCreation { resource_pattern_type: MATCH, ..good() }, "Invalid patternType MATCH");
    refuse(AclCreation { resource_pattern_type: ANY, ..good() }, "Invalid patternType ANY");
    refuse(AclCreation { operation: ANY, ..good() }, "Invalid operation ANY");
    refuse(AclCreation { permission_type: ANY, ..good() }, "Invalid permissionType ANY");
    refuse(AclCreation { principal: "ann".into(), ..good() }, "no colon is present");
    refuse(AclCreation { host: "".into(), ..good() }, "Host pattern cannot be null or empty");
    refuse(
        AclCreation { host: "10.0.0.0/99".into(), ..good() },
        "'10.0.0.0/99': Value [99] not in range [0,32]",
    );
    let mixed =
        vec![AclCreation { host: "10.0.0.0/8".into(), ..good() }, AclCreation { host: "".into(), ..good() }];
    assert_eq!(create(&mut cluster, mixed), (vec![0, ErrorCode::InvalidRequest.code()], 1));
}

#[test]
fn ranges_of_addresses_need_their_level() {
    let mut cluster = Cluster::at(MetadataVersion(31), &[], Settings::default(), 1);
    let ranged = AclCreation { host: "10.0.0.0/8".into(), ..entry("t", LITERAL, READ) };
    refused(&mut cluster, ranged, ErrorCode::UnsupportedVersion, "4.4-IV1");
}

#[test]
fn filters_that_mean_nothing() {
    let cluster = Cluster::with(1);
    let filters = vec![
        DeleteAclsFilter { resource_type_filter: 9, ..any() },
        DeleteAclsFilter { operation: 99, ..any() },
        any(),
    ];
    let decision = delete_acls(&cluster.controller.context(), &DeleteAclsRequest { filters });
    let told = decision.response.filter_results.iter();
    let told: Vec<_> = told.map(|result| (result.error_code, result.error_message.as_deref())).collect();
    let invalid = ErrorCode::InvalidRequest.code();
    let expected =
        [(invalid, Some("Unknown patternFilter.")), (invalid, Some("Unknown entryFilter.")), (0, None)];
    assert_eq!(told, expected);
}

#[test]
fn too_many_at_once() {
    let mut cluster = Cluster::with(1);
    let many = |range: std::ops::Range<u32>| {
        let creations = range.map(|number| AclCreation {
            resource_name: format!("t-{number}").into(),
            ..entry("", LITERAL, READ)
        });
        creations.collect::<Vec<_>>()
    };
    let (codes, count) = create(&mut cluster, many(0..10_001));
    assert_eq!((codes.len(), count), (10_001, 0));
    assert!(codes.iter().all(|code| *code == ErrorCode::PolicyViolation.code()));
    assert_eq!(create(&mut cluster, many(0..10_000)).1, 10_000);
    create(&mut cluster, many(10_000..10_001));
    let request = DeleteAclsRequest { filters: vec![any()] };
    let decision = delete_acls(&cluster.controller.context(), &request);
    assert_eq!(decision.records, []);
    assert_eq!(decision.response.filter_results[0].error_code, ErrorCode::InvalidRequest.code());
}
