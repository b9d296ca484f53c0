//! Which access control entries somebody means: the filters of DescribeAcls and DeleteAcls (KIP-140, KIP-290).
//!
//! The one tricky idea is a pattern type of MATCH: it asks which entries would *apply* to a resource of that name, that is the literal
//! ones, those for `*`, and the prefixes. Every other pattern type asks for entries that are written just so.

use crate::security::Acl;
use ottla_protocol::messages::delete_acls_request::DeleteAclsFilter;
use ottla_protocol::messages::describe_acls_request::DescribeAclsRequest;

/// Whatever is not one of the numbers below.
pub const UNKNOWN: i8 = 0;
/// As a resource type, pattern type, operation or permission of a filter: all of them.
pub const ANY: i8 = 1;
/// The name that means all resources of a type.
pub const WILDCARD: &str = "*";

/// Kafka's `ResourceType`: 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user.
pub const RESOURCE_TYPES: std::ops::RangeInclusive<i8> = 2..=7;
/// The whole cluster, whose only name is [`CLUSTER_NAME`].
pub const CLUSTER: i8 = 4;
/// The name of the one resource of type [`CLUSTER`].
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// Pattern type of a filter: everything that applies to the name.
pub const MATCH: i8 = 2;
/// Pattern type: the name itself, or `*`.
pub const LITERAL: i8 = 3;
/// Pattern type: whatever begins with the name.
pub const PREFIXED: i8 = 4;

/// Kafka's `AclOperation`: 2 all, 3 read, 4 write, 5 create, 6 delete, 7 alter, 8 describe, 9 cluster action, 10 describe configs, 11 alter
/// configs, 12 idempotent write, 13 create tokens, 14 describe tokens, 15 two-phase commit.
pub const OPERATIONS: std::ops::RangeInclusive<i8> = 2..=15;
/// Kafka's `AclPermissionType`: 2 deny, 3 allow.
pub const PERMISSIONS: std::ops::RangeInclusive<i8> = 2..=3;

/// What an entry must look like; texts that are missing may be any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AclFilter<'a> {
    /// A resource type or [`ANY`].
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Option<&'a str>,
    /// [`LITERAL`], [`PREFIXED`], [`MATCH`] or [`ANY`].
    pub pattern_type: i8,
    /// `User:name`.
    pub principal: Option<&'a str>,
    /// An address, a range, or `*`, as the entry has it.
    pub host: Option<&'a str>,
    /// An operation or [`ANY`].
    pub operation: i8,
    /// A permission or [`ANY`].
    pub permission_type: i8,
}

impl<'a> From<&'a DescribeAclsRequest<'_>> for AclFilter<'a> {
    fn from(asked: &'a DescribeAclsRequest<'_>) -> AclFilter<'a> {
        AclFilter {
            resource_type: asked.resource_type_filter,
            resource_name: asked.resource_name_filter.as_deref(),
            pattern_type: asked.pattern_type_filter,
            principal: asked.principal_filter.as_deref(),
            host: asked.host_filter.as_deref(),
            operation: asked.operation,
            permission_type: asked.permission_type,
        }
    }
}

impl<'a> From<&'a DeleteAclsFilter<'_>> for AclFilter<'a> {
    fn from(asked: &'a DeleteAclsFilter<'_>) -> AclFilter<'a> {
        AclFilter {
            resource_type: asked.resource_type_filter,
            resource_name: asked.resource_name_filter.as_deref(),
            pattern_type: asked.pattern_type_filter,
            principal: asked.principal_filter.as_deref(),
            host: asked.host_filter.as_deref(),
            operation: asked.operation,
            permission_type: asked.permission_type,
        }
    }
}

impl AclFilter<'_> {
    /// Whether a number is the one for "unknown", which no client sends: Kafka closes the connection.
    pub fn has_unknown(&self) -> bool {
        [self.resource_type, self.pattern_type, self.operation, self.permission_type].contains(&UNKNOWN)
    }

    /// Whether the numbers of the resource are among those that exist.
    pub fn is_resource_known(&self) -> bool {
        (self.resource_type == ANY || RESOURCE_TYPES.contains(&self.resource_type))
            && (ANY..=PREFIXED).contains(&self.pattern_type)
    }

    /// Whether the numbers of the entry are among those that exist.
    pub fn is_entry_known(&self) -> bool {
        (self.operation == ANY || OPERATIONS.contains(&self.operation))
            && (self.permission_type == ANY || PERMISSIONS.contains(&self.permission_type))
    }

    /// Whether the entry is meant (Kafka's `AclBindingFilter.matches`).
    pub fn matches(&self, acl: &Acl) -> bool {
        let number = |wanted: i8, found: i8| wanted == ANY || wanted == found;
        let text = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        number(self.resource_type, acl.resource_type)
            && self.matches_name(acl)
            && text(self.principal, &acl.principal)
            && text(self.host, &acl.host)
            && number(self.operation, acl.operation)
            && number(self.permission_type, acl.permission_type)
    }

    fn matches_name(&self, acl: &Acl) -> bool {
        let is_match = self.pattern_type == MATCH;
        if !is_match && self.pattern_type != ANY && self.pattern_type != acl.pattern_type {
            return false;
        }
        let Some(name) = self.resource_name else { return true };
        match acl.pattern_type {
            _ if !is_match => name == &*acl.resource_name,
            LITERAL => name == &*acl.resource_name || &*acl.resource_name == WILDCARD,
            PREFIXED => name.starts_with(&*acl.resource_name),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::Uuid;

    fn acl(resource_type: i8, name: &str, pattern_type: i8) -> Acl {
        Acl {
            id: Uuid([1; 16]),
            resource_type,
            resource_name: name.into(),
            pattern_type,
            principal: "User:ann".into(),
            host: WILDCARD.into(),
            operation: 3,
            permission_type: 3,
        }
    }

    const ALL: AclFilter<'_> = AclFilter {
        resource_type: ANY,
        resource_name: None,
        pattern_type: ANY,
        principal: None,
        host: None,
        operation: ANY,
        permission_type: ANY,
    };

    #[test]
    fn patterns() {
        let entries = [
            acl(2, "orders", LITERAL),
            acl(2, "orders-eu", LITERAL),
            acl(2, "ord", PREFIXED),
            acl(2, "orders", PREFIXED),
            acl(2, WILDCARD, LITERAL),
            acl(2, "x", PREFIXED),
            acl(3, "orders", LITERAL),
        ];
        let check = |filter: AclFilter<'_>, expected: &[usize]| {
            let found = entries.iter().enumerate().filter(|(_, acl)| filter.matches(acl));
            assert_eq!(found.map(|(at, _)| at).collect::<Vec<_>>(), expected, "{filter:?}");
        };
        let named = AclFilter { resource_type: 2, resource_name: Some("orders"), ..ALL };
        check(ALL, &[0, 1, 2, 3, 4, 5, 6]);
        check(named, &[0, 3]);
        check(AclFilter { resource_type: ANY, ..named }, &[0, 3, 6]);
        check(AclFilter { pattern_type: LITERAL, ..named }, &[0]);
        check(AclFilter { pattern_type: PREFIXED, ..named }, &[3]);
        check(AclFilter { pattern_type: MATCH, ..named }, &[0, 2, 3, 4]);
        check(AclFilter { pattern_type: MATCH, resource_name: Some(WILDCARD), ..named }, &[4]);
        check(AclFilter { pattern_type: MATCH, resource_name: None, ..named }, &[0, 1, 2, 3, 4, 5]);
        check(AclFilter { pattern_type: PREFIXED, resource_name: None, ..named }, &[2, 3, 5]);
        check(AclFilter { resource_type: 9, ..ALL }, &[]);
    }

    #[test]
    fn entries() {
        let check = |filter: AclFilter<'_>, expected: bool| {
            assert_eq!(filter.matches(&acl(2, "t", LITERAL)), expected, "{filter:?}");
        };
        check(AclFilter { principal: Some("User:ann"), ..ALL }, true);
        check(AclFilter { principal: Some("User:*"), ..ALL }, false);
        check(AclFilter { host: Some(WILDCARD), ..ALL }, true);
        check(AclFilter { host: Some("10.0.0.1"), ..ALL }, false);
        check(AclFilter { operation: 3, permission_type: 3, ..ALL }, true);
        check(AclFilter { operation: 2, ..ALL }, false);
        check(AclFilter { permission_type: 2, ..ALL }, false);
    }

    #[test]
    fn numbers_that_are_none() {
        assert!(!ALL.has_unknown() && ALL.is_resource_known() && ALL.is_entry_known());
        assert!(AclFilter { operation: UNKNOWN, ..ALL }.has_unknown());
        assert!(!AclFilter { resource_type: 8, ..ALL }.is_resource_known());
        assert!(!AclFilter { pattern_type: 5, ..ALL }.is_resource_known());
        assert!(!AclFilter { operation: 16, ..ALL }.is_entry_known());
        assert!(!AclFilter { permission_type: -1, ..ALL }.is_entry_known());
    }
}
