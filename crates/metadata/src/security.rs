//! Access control entries, SCRAM credentials and delegation tokens, kept as the metadata log tells them.
//!
//! The tricky idea: these are facts to carry, not to judge; the authorizer and the authenticators read them. Secrets
//! never reach a log line: `Debug` of a credential hides its keys.

use ottla_protocol::Uuid;
use std::sync::Arc;

/// One access control entry (AccessControlEntryRecord); the numbers are those of Kafka's enums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Names the entry for its removal.
    pub id: Uuid,
    /// Topic, group, cluster and so on.
    pub resource_type: i8,
    /// The resource's name, or `*`.
    pub resource_name: Arc<str>,
    /// Literal or prefixed.
    pub pattern_type: i8,
    /// `User:name`.
    pub principal: Arc<str>,
    /// An address, a range, or `*`.
    pub host: Arc<str>,
    /// What is allowed or denied.
    pub operation: i8,
    /// Allow or deny.
    pub permission_type: i8,
}

/// Which credential: a user may have one per mechanism.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScramUser {
    /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
    pub mechanism: i8,
    /// The user's name.
    pub name: Arc<str>,
}

/// A SCRAM credential (UserScramCredentialRecord).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// The salt.
    pub salt: Vec<u8>,
    /// The stored key of RFC 5802.
    pub stored_key: Vec<u8>,
    /// The server key of RFC 5802.
    pub server_key: Vec<u8>,
    /// How often the hash was iterated.
    pub iterations: i32,
}

impl std::fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// A delegation token without its secret, which is derived from the id (DelegationTokenRecord).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationToken {
    /// The token's id.
    pub token_id: Arc<str>,
    /// Whom the token speaks for.
    pub owner: Arc<str>,
    /// Who asked for it.
    pub requester: Arc<str>,
    /// Who may renew it.
    pub renewers: Vec<Arc<str>>,
    /// When it was made, in milliseconds since the epoch.
    pub issue_timestamp: i64,
    /// Beyond which it can not be renewed.
    pub max_timestamp: i64,
    /// When it expires unless renewed.
    pub expiration_timestamp: i64,
}

impl DelegationToken {
    /// Whether this principal may give the token a longer life, or end it.
    pub fn may_be_renewed_by(&self, principal: &str) -> bool {
        *self.owner == *principal || self.renewers.iter().any(|renewer| **renewer == *principal)
    }

    /// Whether this principal has to do with the token: who made it as well.
    pub fn concerns(&self, principal: &str) -> bool {
        *self.requester == *principal || self.may_be_renewed_by(principal)
    }
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text, for whoever computes with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let credential = ScramCredential {
            salt: vec![115],
            stored_key: vec![116],
            server_key: vec![117],
            iterations: 4096,
        };
        let text = format!("{credential:?}");
        assert!(text.contains("4096"));
        assert_eq!(format!("{:?}", Some(Secret::new("plain".to_owned()))), "Some([hidden])");
        assert!(["115", "116", "117"].iter().all(|secret| !text.contains(secret)), "{text}");
    }
}
