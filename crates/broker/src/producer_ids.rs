//! The block of producer ids that this node may give away.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sessions::lock;

/// Ids that the controller reserved for this broker and that nobody has yet.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    block: Mutex<Range<i64>>,
    /// Somebody wanted an id and there was none.
    starved: AtomicBool,
}

impl ProducerIds {
    /// The next id, or `None` when the block is used up.
    pub fn next(&self) -> Option<i64> {
        let next = lock(&self.block).next();
        if next.is_none() {
            self.starved.store(true, Ordering::Release);
        }
        next
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.block).is_empty()
    }

    /// Whether somebody wanted an id in vain since [`ProducerIds::take_starved`].
    pub fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Acquire)
    }

    /// Whether a block has to be asked for.
    pub fn take_starved(&self) -> bool {
        self.starved.swap(false, Ordering::AcqRel)
    }

    /// A new block. What was left of the old one is never used.
    pub fn refill(&self, block: Range<i64>) {
        let mut current = lock(&self.block);
        if current.is_empty() {
            *current = block;
        }
    }
}

impl ottla_coordinator::ProducerIds for ProducerIds {
    fn next(&self) -> Option<i64> {
        ProducerIds::next(self)
    }
}
