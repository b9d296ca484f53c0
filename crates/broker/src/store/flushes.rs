//! Flushes that nobody waits for: partitions by the time at which what they hold is flushed all the same.
//!
//! The one tricky idea: only some of them are given to the disk at once, and each that comes back makes room for the next. When more comes
//! due than the disk can do, the rest stays here, where whoever needs a flush sooner can still have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::effect::Millis;
use crate::partition::Partition;
use crate::sessions::lock;

/// Periodic flushes that are under way at once: fewer than the shell has threads that flush, so that whoever waits for one finds a thread.
const UNDER_WAY_MAX: usize = 16;

/// The partitions that were promised a flush.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listed: BTreeMap<(Millis, u64), Arc<Partition>>,
    under_way: usize,
}

impl Flushes {
    /// Promises a flush at that time.
    pub fn list(&self, partition: Arc<Partition>, at: Millis) {
        let listed = &mut lock(&self.state).listed;
        let number =
            listed.range((at, 0)..=(at, u64::MAX)).next_back().map_or(0, |((_, number), _)| number + 1);
        listed.insert((at, number), partition);
    }

    /// A partition whose flush is due, if one more may be under way: it is, until [`Flushes::end`].
    pub fn begin(&self, now: Millis) -> Option<Arc<Partition>> {
        let state = &mut *lock(&self.state);
        let first = state.listed.first_entry().filter(|first| first.key().0 <= now);
        let due = first.filter(|_| state.under_way < UNDER_WAY_MAX)?.remove();
        state.under_way += 1;
        Some(due)
    }

    /// One came back, or was not needed any more.
    pub fn end(&self) {
        let state = &mut *lock(&self.state);
        state.under_way = state.under_way.checked_sub(1).expect("a flush ends that was begun");
    }

    /// When the next one is due, unless it has to wait for others to come back.
    pub fn next_due(&self) -> Option<Millis> {
        let state = lock(&self.state);
        state.listed.keys().next().map(|(at, _)| *at).filter(|_| state.under_way < UNDER_WAY_MAX)
    }
}
