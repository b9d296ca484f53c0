//! One member of a group: who it is, what it speaks, what it was assigned, and which of its requests waits.

use crate::group::outcome::Waiting;
use std::sync::Arc;

/// A protocol that a member offers ("range", "cooperative-sticky", …) with what it says in it, opaque to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub name: Arc<str>,
    pub metadata: Arc<[u8]>,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub id: Arc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Arc<[u8]>,
    pub(crate) awaiting_join: Option<Waiting>,
    pub(crate) awaiting_sync: Option<Waiting>,
    /// Joined in this rebalance: its session runs even while it is parked, for it can not send heartbeats yet.
    pub is_new: bool,
}

impl Member {
    pub(crate) fn is_awaiting_join(&self) -> bool {
        self.awaiting_join.is_some()
    }

    /// What the member says in this protocol, empty if it does not speak it.
    pub(crate) fn metadata(&self, protocol: &str) -> &[u8] {
        self.protocols.iter().find(|p| &*p.name == protocol).map_or(&[], |p| &p.metadata)
    }

    /// A parked member can not send heartbeats, so parking is as good as one, except for a new member.
    pub(crate) fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}

pub(crate) fn empty_assignment() -> Arc<[u8]> {
    Arc::from([])
}
