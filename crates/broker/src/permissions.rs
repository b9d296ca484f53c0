//! What a client is told that it may do with a topic, a group or the cluster, if it asks (KIP-430).
//!
//! The tricky idea: without an authorizer nobody is asked, and everybody may do whatever makes sense with that kind of resource
//! (Kafka: `AuthHelper.authorizedOperations`, `AclEntry.supportedOperations`). Operations are bits, by the codes of `AclOperation`.

/// The answer to those who did not ask.
pub(crate) const NOT_ASKED: i32 = i32::MIN;
/// Everything that can be done with a topic.
pub(crate) const ON_TOPIC: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
/// Everything that can be done with a group.
pub(crate) const ON_GROUP: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
/// Everything that can be done with the cluster.
pub(crate) const ON_CLUSTER: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// `operations` for those who asked.
pub(crate) fn told(is_asked: bool, operations: i32) -> i32 {
    if is_asked { operations } else { NOT_ASKED }
}
