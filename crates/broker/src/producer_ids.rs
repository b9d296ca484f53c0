//! The block of producer ids that this node may give away.

use std::ops::Range;
use std::sync::Mutex;

use crate::sessions::lock;

/// Ids that the controller reserved for this broker and that nobody has yet.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    /// The next id, or `None` when the block is used up.
    pub fn next(&self) -> Option<i64> {
        lock(&self.block).next()
    }

    /// A new block. What was left of the old one is never used.
    pub fn refill(&self, block: Range<i64>) {
        let mut current = lock(&self.block);
        if current.is_empty() {
            *current = block;
        }
    }
}
