//! The pace of background work: no more bytes a second than `log.cleaner.io.max.bytes.per.second` allows to all threads together, and none
//! when the node stops.
//!
//! The tricky idea: it is the average since the work began, or its share changed, that is held, so a pause (a slow disk, a sync) is made up
//! for later, and the thread sleeps seldom and for long enough to be worth it. Whoever moves bytes has the same share as all others who do.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_storage::Pace;

/// Shorter waits are put off.
const WAIT_MIN: Duration = Duration::from_millis(20);
/// How long a sleep may be before the thread looks whether the node stops.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The pace of one piece of work on one thread.
pub struct Throttle<'n> {
    /// How many bytes a second there may be now, for everybody.
    limit: &'n dyn Fn() -> f64,
    /// How many share it.
    sharing: &'n AtomicUsize,
    shares: Cell<bool>,
    bytes_per_second: Cell<f64>,
    is_stopping: &'n AtomicBool,
    began: Cell<Instant>,
    bytes: Cell<f64>,
}

impl<'n> Throttle<'n> {
    /// Begins now. `sharing` is the same for all who share the limit.
    pub fn new(
        limit: &'n dyn Fn() -> f64,
        sharing: &'n AtomicUsize,
        is_stopping: &'n AtomicBool,
    ) -> Throttle<'n> {
        Throttle {
            limit,
            sharing,
            shares: Cell::new(false),
            bytes_per_second: Cell::new(limit()),
            is_stopping,
            began: Cell::new(Instant::now()),
            bytes: Cell::new(0.0),
        }
    }

    /// With another share than before, what went before does not count.
    fn follow_limit(&self) {
        let share = (self.limit)() / self.sharing.load(Ordering::Relaxed).max(1) as f64;
        if share != self.bytes_per_second.replace(share) {
            self.began.set(Instant::now());
            self.bytes.set(0.0);
        }
    }
}

impl Drop for Throttle<'_> {
    fn drop(&mut self) {
        if self.shares.get() {
            self.sharing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Pace for Throttle<'_> {
    fn pass(&self, bytes: usize) -> bool {
        if bytes > 0 && !self.shares.replace(true) {
            self.sharing.fetch_add(1, Ordering::Relaxed);
        }
        self.bytes.set(self.bytes.get() + bytes as f64);
        loop {
            self.follow_limit();
            let due = self.bytes.get() / self.bytes_per_second.get();
            if self.is_stopping.load(Ordering::Relaxed) {
                return false;
            }
            // Without a limit, or with a senseless one, there is nothing to wait for.
            let wait = Duration::try_from_secs_f64(due)
                .map_or(Duration::ZERO, |due| due.saturating_sub(self.began.get().elapsed()));
            if wait < WAIT_MIN {
                return true;
            }
            thread::sleep(wait.min(WAIT_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_held_and_a_stop_ends_the_wait() {
        let (is_stopping, sharing) = (AtomicBool::new(false), AtomicUsize::new(0));
        let throttle = Throttle::new(&|| 1_000_000.0, &sharing, &is_stopping);
        for _ in 0..20 {
            assert!(throttle.pass(10_000));
        }
        let took = throttle.began.get().elapsed();
        assert!(took >= Duration::from_millis(180), "{took:?}");
        let unlimited = Throttle::new(&|| f64::MAX, &sharing, &is_stopping);
        assert!(unlimited.pass(usize::MAX));
        is_stopping.store(true, Ordering::Relaxed);
        assert!(!Throttle::new(&|| 1.0, &sharing, &is_stopping).pass(1 << 40));
    }

    #[test]
    fn a_wait_ends_when_the_limit_is_lifted() {
        let (is_stopping, sharing, looks) = (AtomicBool::new(false), AtomicUsize::new(0), Cell::new(0));
        let limit = || if looks.replace(looks.get() + 1) < 2 { 1.0 } else { f64::MAX };
        let throttle = Throttle::new(&limit, &sharing, &is_stopping);
        assert!(throttle.pass(1 << 40), "twelve thousand years would be too long");
        assert!(looks.get() >= 3);
    }

    #[test]
    fn those_who_move_bytes_share_the_limit() {
        let (is_stopping, sharing) = (AtomicBool::new(false), AtomicUsize::new(0));
        let throttle = || Throttle::new(&|| 8_000_000.0, &sharing, &is_stopping);
        let (one, other, idle) = (throttle(), throttle(), throttle());
        for throttle in [&one, &other] {
            assert!(throttle.pass(1));
        }
        assert!(idle.pass(0));
        assert!(one.pass(1) && other.pass(1));
        assert_eq!((one.bytes_per_second.get(), other.bytes_per_second.get()), (4_000_000.0, 4_000_000.0));
        drop(other);
        assert!(one.pass(1));
        assert_eq!(one.bytes_per_second.get(), 8_000_000.0);
    }
}
