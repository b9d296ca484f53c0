//! CreateAcls (30), versions 1-3: access control entries are added (KIP-140, KIP-290; Kafka's `AclControlManager`).
//!
//! The one tricky idea: an entry that is there already, or comes twice in a request, is created with success and without a record. Each
//! entry stands for itself: a bad one does not spoil its neighbours.

use crate::context::{Context, Decision, MAX_RECORDS_PER_BATCH};
use crate::dice::Dice;
use crate::error::{ApiError, code_and_message};
use ottla_metadata::acl;
use ottla_metadata::security::Acl;
use ottla_protocol::messages::access_control_entry_record::AccessControlEntryRecord;
use ottla_protocol::messages::create_acls_request::{AclCreation, CreateAclsRequest};
use ottla_protocol::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::{ErrorCode, Uuid};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

/// What makes two entries the same: everything but their ids.
type Substance<'a> = (i8, &'a str, i8, &'a str, &'a str, i8, i8);

/// Decides about new entries. Needs the dice, for their ids.
pub fn create_acls(
    context: &Context<'_>,
    request: &CreateAclsRequest<'_>,
    dice: &mut Dice,
) -> Decision<CreateAclsResponse<'static>> {
    let mut known: BTreeSet<Substance<'_>> =
        context.image.acls().values().map(|entry| substance_of(entry)).collect();
    let mut records = Vec::new();
    let mut results = Vec::new();
    for creation in &request.creations {
        let outcome = check(context, creation).map(|()| {
            if known.insert(substance(creation)) {
                records.push(record(creation, new_id(context, dice)));
            }
        });
        let (error_code, error_message) = code_and_message(&outcome);
        results.push(AclCreationResult { error_code, error_message });
    }
    if records.len() > MAX_RECORDS_PER_BATCH {
        let message = "Unable to perform excessively large batch operation.";
        let refused = Err(ApiError::new(ErrorCode::PolicyViolation, message));
        let (error_code, error_message) = code_and_message(&refused);
        results.fill(AclCreationResult { error_code, error_message });
        records.clear();
    }
    Decision::atomic(records, CreateAclsResponse { results, ..Default::default() })
}

fn substance<'a>(creation: &'a AclCreation<'_>) -> Substance<'a> {
    (
        creation.resource_type,
        &creation.resource_name,
        creation.resource_pattern_type,
        &creation.principal,
        &creation.host,
        creation.operation,
        creation.permission_type,
    )
}

fn substance_of(entry: &Acl) -> Substance<'_> {
    (
        entry.resource_type,
        &entry.resource_name,
        entry.pattern_type,
        &entry.principal,
        &entry.host,
        entry.operation,
        entry.permission_type,
    )
}

fn new_id(context: &Context<'_>, dice: &mut Dice) -> Uuid {
    loop {
        let id = dice.uuid();
        if !context.image.acls().contains_key(&id) {
            return id;
        }
    }
}

fn record(creation: &AclCreation<'_>, id: Uuid) -> MetadataRecord<'static> {
    MetadataRecord::AccessControlEntryRecord(AccessControlEntryRecord {
        id,
        resource_type: creation.resource_type,
        resource_name: Cow::Owned(creation.resource_name.to_string()),
        pattern_type: creation.resource_pattern_type,
        principal: Cow::Owned(creation.principal.to_string()),
        host: Cow::Owned(creation.host.to_string()),
        operation: creation.operation,
        permission_type: creation.permission_type,
    })
}

/// An entry has to say for certain what it is about: no ANY, no MATCH.
fn check(context: &Context<'_>, creation: &AclCreation<'_>) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    if creation.resource_type == acl::CLUSTER && creation.resource_name != acl::CLUSTER_NAME {
        return invalid("The only valid name for the CLUSTER resource is kafka-cluster".to_owned());
    }
    if creation.resource_name.is_empty() {
        return invalid("Invalid empty resource name".to_owned());
    }
    if !acl::RESOURCE_TYPES.contains(&creation.resource_type) {
        return invalid(format!("Invalid resourceType {}", unsettled(creation.resource_type)));
    }
    if ![acl::LITERAL, acl::PREFIXED].contains(&creation.resource_pattern_type) {
        return invalid(match creation.resource_pattern_type {
            acl::MATCH => "Invalid patternType MATCH".to_owned(),
            other => format!("Invalid patternType {}", unsettled(other)),
        });
    }
    if !acl::OPERATIONS.contains(&creation.operation) {
        return invalid(format!("Invalid operation {}", unsettled(creation.operation)));
    }
    if !acl::PERMISSIONS.contains(&creation.permission_type) {
        return invalid(format!("Invalid permissionType {}", unsettled(creation.permission_type)));
    }
    let principal = &creation.principal;
    if !principal.contains(':') {
        return invalid(format!(
            "Could not parse principal from `{principal}` (no colon is present separating the principal type from \
             the principal name)"
        ));
    }
    check_host(context, &creation.host)
}

fn unsettled(number: i8) -> &'static str {
    if number == acl::ANY { "ANY" } else { "UNKNOWN" }
}

/// A host is `*`, an address (which is not looked at: Kafka takes any text), or a range of addresses.
fn check_host(context: &Context<'_>, host: &str) -> Result<(), ApiError> {
    if host.is_empty() {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "Host pattern cannot be null or empty"));
    }
    let Some((address, length)) = host.split_once('/') else { return Ok(()) };
    if !context.metadata_version().supports_address_ranges() {
        let message = "CIDR-based ACL host patterns require metadata version 4.4-IV1 or higher.";
        return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
    }
    check_range(address, length).map_err(|wrong| {
        let reason = match wrong {
            Some((number, max)) => format!("Value [{number}] not in range [0,{max}]"),
            None => format!("Could not parse [{host}]"),
        };
        ApiError::new(ErrorCode::InvalidRequest, format!("Invalid CIDR notation '{host}': {reason}"))
    })
}

/// An address and the length of a prefix of it, in the notation that Kafka takes. If one of the numbers is too large, it and what it may be
/// at most.
fn check_range(address: &str, length: &str) -> Result<(), Option<(u32, u32)>> {
    let check = |text: &str, digits: usize, max: u32| {
        let is_number = (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| is_number).ok_or(None)?;
        if number <= max { Ok(()) } else { Err(Some((number, max))) }
    };
    if address.contains(':') {
        address.parse::<Ipv6Addr>().map_err(|_| None)?;
        return check(length, 3, 128);
    }
    let octets: Vec<&str> = address.split('.').collect();
    if octets.len() != 4 {
        return Err(None);
    }
    octets.into_iter().try_for_each(|octet| check(octet, 3, 255))?;
    check(length, 2, 32)
}

#[cfg(test)]
mod tests {
    use super::check_range;

    #[test]
    fn ranges_of_addresses() {
        let check = |text: &str, expected| {
            let (address, length) = text.split_once('/').expect("a range");
            assert_eq!(check_range(address, length).is_ok(), expected, "{text}");
        };
        for good in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "255.255.255.255/32",
            "010.0.0.1/8",
            "::/0",
            "2001:db8::/32",
            "::1/128",
        ] {
            check(good, true);
        }
        for bad in [
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.256/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "a.b.c.d/8",
            "/8",
            "::/129",
            ":::/1",
            "10.0.0.0/8/8",
            "10.0.0.0.0/8",
            "10..0.0/8",
        ] {
            check(bad, false);
        }
        assert_eq!(check_range("10.0.0.0", "99"), Err(Some((99, 32))));
        assert_eq!(check_range("10.0.0.300", "8"), Err(Some((300, 255))));
    }
}
