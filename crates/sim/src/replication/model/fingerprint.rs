//! What makes two models the same: whatever happens next, the same would come of it.

use std::hash::{Hash, Hasher};

use super::Model;
use crate::digest::Digest;
use crate::replication::message::Message;

impl Model {
    /// Feeds what matters into `hasher`.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        self.metadata.latest().hash(hasher);
        self.committed.hash(hasher);
        for node in &self.nodes {
            node.fingerprint(hasher);
            // What it has seen, and what it has yet to see.
            self.metadata.views_from(node.seen.max(1)).hash(hasher);
        }
        // What is under way has no order.
        let one =
            |message: &Message| Digest::of(&message.with_ticket(u32::from(message.is_awaited(&self.nodes))));
        let under_way = self.flight.iter().map(one);
        under_way.fold(0_u64, u64::wrapping_add).hash(hasher);
    }
}
