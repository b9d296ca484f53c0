//! What DescribeQuorum tells: who leads, what is committed, and how far everybody is.

use crate::raft::{Raft, Role};
use crate::replica::ReplicaKey;

/// The quorum as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumDescription {
    /// The leader.
    pub leader: i32,
    /// The epoch that it leads.
    pub epoch: i32,
    /// What is committed, once the epoch has something that is.
    pub high_watermark: Option<i64>,
    /// The voters, by id.
    pub voters: Vec<ReplicaDescription>,
    /// Replicas that fetched lately and do not vote.
    pub observers: Vec<ReplicaDescription>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaDescription {
    /// Node and disk; of a voter that is known by configuration only, the disk is not known.
    pub key: ReplicaKey,
    /// The end of its log on disk, if it was heard of.
    pub log_end_offset: Option<i64>,
    /// When it fetched last.
    pub fetched_at: Option<i64>,
    /// When its log last had everything that the leader's had.
    pub caught_up_at: Option<i64>,
}

impl Raft {
    /// The quorum; `None` while this node does not lead it.
    pub fn describe(&self, now: i64) -> Option<QuorumDescription> {
        let Role::Leader(leadership) = &self.role else { return None };
        let describe = |key: &ReplicaKey| {
            if key.id == self.me() {
                let own = ReplicaDescription {
                    key: *key,
                    log_end_offset: Some(self.flushed_end),
                    fetched_at: Some(now),
                    caught_up_at: Some(now),
                };
                return own;
            }
            let progress = leadership.replicas.get(key).cloned().unwrap_or_default();
            ReplicaDescription {
                key: *key,
                log_end_offset: progress.end_offset,
                fetched_at: progress.fetched_at,
                caught_up_at: progress.caught_up_at,
            }
        };
        let voters = self.voters();
        let is_observer = |key: &&ReplicaKey| voters.get(key.id).is_none_or(|voter| voter.key != **key);
        let mut observers: Vec<_> = leadership.replicas.keys().filter(is_observer).map(describe).collect();
        if !self.is_voter() {
            observers.push(describe(&self.settings.me));
        }
        Some(QuorumDescription {
            leader: self.me(),
            epoch: self.state.epoch,
            high_watermark: self.fetch_response().high_watermark,
            voters: voters.iter().map(|voter| describe(&voter.key)).collect(),
            observers,
        })
    }
}
