//! Whether two replicas would do the same from here on, if all deadlines were reached in the same order: what an explorer
//! of all interleavings compares. Clock readings and the numbers of requests are left out.

use std::hash::{Hash, Hasher};

use crate::fetch::Fetch;
use crate::raft::{Raft, Role};

impl Raft {
    /// Feeds what matters into `hasher`.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        self.state.hash(hasher);
        self.role().hash(hasher);
        self.high_watermark.hash(hasher);
        self.flushed_end.hash(hasher);
        self.is_persisted().hash(hasher);
        self.voters().hash(hasher);
        self.history.voters_offset().hash(hasher);
        (self.asked.0 - self.persisted).hash(hasher);
        for (after, effect) in &self.withheld {
            (self.asked.0 - after).hash(hasher);
            std::mem::discriminant(effect).hash(hasher);
        }
        match self.fetch {
            Fetch::Idle => 0.hash(hasher),
            Fetch::Sent { bootstrap, .. } => (1, bootstrap).hash(hasher),
            Fetch::Flushing => 2.hash(hasher),
            Fetch::Paused { bootstrap, .. } => (3, bootstrap).hash(hasher),
        }
        match &self.role {
            Role::Unattached { .. } => {}
            Role::Prospective(campaign) | Role::Candidate(campaign) => {
                campaign.granted.hash(hasher);
                campaign.rejected.hash(hasher);
            }
            Role::Leader(leadership) => {
                leadership.epoch_start_offset.hash(hasher);
                leadership.announced.hash(hasher);
                leadership.pending.as_ref().map(|pending| pending.stage()).hash(hasher);
                for (key, progress) in &leadership.replicas {
                    (key, progress.end_offset, progress.caught_up_at.is_some()).hash(hasher);
                }
            }
            Role::Follower(following) => {
                (following.has_fetched, following.leader_high_watermark, following.download).hash(hasher);
            }
            Role::Resigned { untold, preferred, .. } => (untold, preferred).hash(hasher),
        }
    }

    /// Whether the answer to this fetch would be listened to.
    pub fn awaits_fetch(&self, request: u64) -> bool {
        self.fetch.awaits(request)
    }
}
