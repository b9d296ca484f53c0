//! The deadlines of one loop: a heap, and a way to keep it from filling up with deadlines that no longer matter.
//!
//! The tricky idea: deadlines are not cancelled when their request is answered, they are forgotten in bulk. When the heap has
//! doubled since the last clean-up, those that nobody waits for are thrown out, which costs a constant amount per deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ottla_broker::{Millis, Token};

use super::slab::Key;

/// Below this many deadlines a clean-up is not worth it.
const CLEANUP_MIN: usize = 1024;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A request has waited long enough.
    Request(Token),
    /// A connection may have been idle for too long.
    Idle(Key),
    /// A peer may have stopped in the middle of something.
    Stuck(Key),
    /// A muted connection may go on.
    Muted(Key),
}

/// Deadlines, earliest first.
#[derive(Debug)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Millis, Timer)>>,
    cleanup_at: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new(), cleanup_at: CLEANUP_MIN }
    }
}

impl Timers {
    /// Adds a deadline; `is_awaited` tells whether an old one still matters. Returns whether the new one is now the earliest.
    pub fn push(&mut self, at: Millis, timer: Timer, is_awaited: impl Fn(&Timer) -> bool) -> bool {
        if self.heap.len() >= self.cleanup_at {
            self.heap.retain(|Reverse((_, timer))| is_awaited(timer));
            self.heap.shrink_to(self.heap.len() * 2);
            self.cleanup_at = CLEANUP_MIN.max(self.heap.len() * 2);
        }
        let is_earliest = self.next().is_none_or(|next| at < next);
        self.heap.push(Reverse((at, timer)));
        is_earliest
    }

    /// When the earliest deadline is.
    pub fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the earliest deadline if it has come.
    pub fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(slot: u64) -> Timer {
        Timer::Request(Token { shard: 0, connection: 0, generation: 0, slot })
    }

    #[test]
    fn in_order_of_time() {
        let mut timers = Timers::default();
        assert!(timers.push(30, request(3), |_| true));
        assert!(timers.push(10, request(1), |_| true));
        assert!(!timers.push(20, request(2), |_| true));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(25), Some(request(1)));
        assert_eq!(timers.pop_due(25), Some(request(2)));
        assert_eq!(timers.pop_due(25), None);
        assert_eq!(timers.next(), Some(30));
    }

    #[test]
    fn answered_requests_do_not_pile_up() {
        let mut timers = Timers::default();
        for slot in 0..100_000 {
            timers.push(30_000, request(slot), |timer| *timer >= request(slot - 100));
        }
        assert!(timers.heap.len() <= CLEANUP_MIN + 1);
    }
}
