//! Between raft's messages and Kafka's: Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch of `__cluster_metadata`, FetchSnapshot,
//! AddRaftVoter, RemoveRaftVoter, UpdateRaftVoter, and the control records (Kafka: `RaftUtil`, `VoterSet`).
//!
//! Pure translation. The one tricky idea: raft knows all listeners of a node, while answers name one address only, that of the listener on
//! which controllers talk to each other; so a [`Wire`] knows which one that is.

mod control;
mod epochs;
mod fetch;
mod snapshot;
#[cfg(test)]
mod tests;
mod voters;
mod votes;

use std::borrow::Cow;
use std::sync::Arc;

use ottla_protocol::{ErrorCode, Uuid};
use ottla_raft::{Endpoint, Endpoints, Leader, Refusal, ReplicaKey};

pub(super) use control::{controls, encode_voters};
pub(crate) use fetch::FETCH_WAIT_MS;
pub(super) use voters::Seen;

/// The one topic of the quorum.
pub(crate) const TOPIC: &str = ottla_metadata::topic_name::CLUSTER_METADATA;

/// What every translation has to know.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    /// Id of the cluster; messages of another one are refused.
    pub cluster_id: Arc<str>,
    /// Name of the listener on which controllers talk to each other (the first of `controller.listener.names`).
    pub listener: Arc<str>,
}

impl Wire {
    fn check_cluster(&self, cluster_id: Option<&str>) -> Result<(), ErrorCode> {
        match cluster_id {
            Some(id) if *id != *self.cluster_id => Err(ErrorCode::InconsistentClusterId),
            _ => Ok(()),
        }
    }

    fn cluster(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&*self.cluster_id))
    }

    /// The address that answers name for a node.
    pub fn address<'e>(&self, endpoints: &'e Endpoints) -> Option<&'e Endpoint> {
        endpoints.iter().find(|endpoint| *endpoint.listener == *self.listener).or_else(|| endpoints.first())
    }

    /// (id, host, port) of a leader that can be reached.
    fn node_endpoint<'l>(&self, leader: Option<&'l Leader>) -> Option<(i32, &'l str, u16)> {
        let leader = leader?;
        self.address(&leader.endpoints).map(|endpoint| (leader.id, &*endpoint.host, endpoint.port))
    }

    /// The leader that an answer names, with the address that it gives, if it does.
    fn leader<'n>(&self, id: i32, mut nodes: impl Iterator<Item = (i32, &'n str, u16)>) -> Option<Leader> {
        (id >= 0).then(|| {
            let found = nodes.find(|(node, _, _)| *node == id);
            let endpoint = found.map(|(_, host, port)| Endpoint {
                listener: self.listener.to_string(),
                host: host.to_owned(),
                port,
            });
            Leader { id, endpoints: endpoint.into_iter().collect() }
        })
    }
}

/// The code of a refusal.
pub(crate) fn code(refusal: Option<Refusal>) -> ErrorCode {
    match refusal {
        None => ErrorCode::None,
        Some(Refusal::FencedEpoch) => ErrorCode::FencedLeaderEpoch,
        Some(Refusal::UnknownEpoch) => ErrorCode::UnknownLeaderEpoch,
        Some(Refusal::NotLeader) => ErrorCode::NotLeaderOrFollower,
        Some(Refusal::InvalidRequest) => ErrorCode::InvalidRequest,
        Some(Refusal::InvalidVoter) => ErrorCode::InvalidVoterKey,
        Some(Refusal::TimedOut) => ErrorCode::RequestTimedOut,
        Some(Refusal::UnsupportedVersion) => ErrorCode::UnsupportedVersion,
        Some(Refusal::DuplicateVoter) => ErrorCode::DuplicateVoter,
        Some(Refusal::VoterNotFound) => ErrorCode::VoterNotFound,
        Some(Refusal::InvalidUpdateVersion) => ErrorCode::InvalidUpdateVersion,
        Some(Refusal::SnapshotNotFound) => ErrorCode::SnapshotNotFound,
        Some(Refusal::PositionOutOfRange) => ErrorCode::PositionOutOfRange,
    }
}

/// The refusal behind a code; one that raft has no word for is no verdict on the sender's state: `Err`.
pub(crate) fn refusal(code: i16) -> Result<Option<Refusal>, ErrorCode> {
    let error = ErrorCode::from_code(code);
    Ok(Some(match error {
        ErrorCode::None => return Ok(None),
        ErrorCode::FencedLeaderEpoch => Refusal::FencedEpoch,
        ErrorCode::UnknownLeaderEpoch => Refusal::UnknownEpoch,
        ErrorCode::NotLeaderOrFollower => Refusal::NotLeader,
        ErrorCode::InvalidRequest => Refusal::InvalidRequest,
        ErrorCode::InvalidVoterKey => Refusal::InvalidVoter,
        ErrorCode::RequestTimedOut => Refusal::TimedOut,
        ErrorCode::UnsupportedVersion => Refusal::UnsupportedVersion,
        ErrorCode::DuplicateVoter => Refusal::DuplicateVoter,
        ErrorCode::VoterNotFound => Refusal::VoterNotFound,
        ErrorCode::InvalidUpdateVersion => Refusal::InvalidUpdateVersion,
        ErrorCode::SnapshotNotFound => Refusal::SnapshotNotFound,
        ErrorCode::PositionOutOfRange => Refusal::PositionOutOfRange,
        other => return Err(other),
    }))
}

/// The one element of a list, if it is the only one.
fn only<T>(items: &[T]) -> Option<&T> {
    match items {
        [item] => Some(item),
        _ => None,
    }
}

fn key(id: i32, directory_id: Uuid) -> ReplicaKey {
    ReplicaKey { id, directory_id: directory_id.0 }
}

/// The receiver that a request names; old versions name none.
fn receiver(id: i32, directory_id: Uuid) -> Option<ReplicaKey> {
    (id >= 0).then(|| key(id, directory_id))
}
