//! The pace of background work: no more bytes a second than `log.cleaner.io.max.bytes.per.second`, and none when the node stops.
//!
//! The tricky idea: it is the average since the work began, or the limit changed, that is held, so a pause (a slow disk, a sync) is made up for later, and the
//! thread sleeps seldom and for long enough to be worth it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla_storage::Pace;

/// Shorter waits are put off.
const WAIT_MIN: Duration = Duration::from_millis(20);
/// How long a sleep may be before the thread looks whether the node stops.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// The pace of one piece of work on one thread.
pub struct Throttle<'n> {
    /// How many bytes a second there may be now.
    limit: &'n dyn Fn() -> f64,
    bytes_per_second: Cell<f64>,
    is_stopping: &'n AtomicBool,
    began: Cell<Instant>,
    bytes: Cell<f64>,
}

impl<'n> Throttle<'n> {
    /// Begins now.
    pub fn new(limit: &'n dyn Fn() -> f64, is_stopping: &'n AtomicBool) -> Throttle<'n> {
        Throttle {
            limit,
            bytes_per_second: Cell::new(limit()),
            is_stopping,
            began: Cell::new(Instant::now()),
            bytes: Cell::new(0.0),
        }
    }

    /// With another limit than before, what went before does not count.
    fn follow_limit(&self) {
        let limit = (self.limit)();
        if limit != self.bytes_per_second.replace(limit) {
            self.began.set(Instant::now());
            self.bytes.set(0.0);
        }
    }
}

impl Pace for Throttle<'_> {
    fn pass(&self, bytes: usize) -> bool {
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
        let is_stopping = AtomicBool::new(false);
        let throttle = Throttle::new(&|| 1_000_000.0, &is_stopping);
        for _ in 0..20 {
            assert!(throttle.pass(10_000));
        }
        let took = throttle.began.get().elapsed();
        assert!(took >= Duration::from_millis(180), "{took:?}");
        let unlimited = Throttle::new(&|| f64::MAX, &is_stopping);
        assert!(unlimited.pass(usize::MAX));
        is_stopping.store(true, Ordering::Relaxed);
        assert!(!Throttle::new(&|| 1.0, &is_stopping).pass(1 << 40));
    }

    #[test]
    fn a_wait_ends_when_the_limit_is_lifted() {
        let (is_stopping, looks) = (AtomicBool::new(false), Cell::new(0));
        let limit = || if looks.replace(looks.get() + 1) < 2 { 1.0 } else { f64::MAX };
        let throttle = Throttle::new(&limit, &is_stopping);
        assert!(throttle.pass(1 << 40), "twelve thousand years would be too long");
        assert!(looks.get() >= 3);
    }
}
