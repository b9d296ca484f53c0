//! When requests are due in an open loop: at fixed times, whatever the broker does. Latency counts from there, so a broker that
//! stalls is charged for everything that should have been sent meanwhile.

use std::time::{Duration, Instant};

/// A fixed rate.
#[derive(Debug)]
pub struct Schedule {
    begin: Instant,
    per_second: f64,
    released: u64,
}

impl Schedule {
    /// `per_second` requests per second from `begin` on.
    pub fn new(begin: Instant, per_second: f64) -> Schedule {
        assert!(per_second > 0.0, "a rate of nothing never ends");
        Schedule { begin, per_second, released: 0 }
    }

    /// The next request that is due at `now`, as the time that it was due at.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next();
        (due <= now).then(|| {
            self.released += 1;
            due
        })
    }

    /// When the next one is due.
    pub fn next(&self) -> Instant {
        self.begin + Duration::from_secs_f64(self.released as f64 / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_nobody_looks() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(begin, 1000.0);
        assert_eq!(schedule.take(begin), Some(begin));
        assert_eq!(schedule.take(begin), None);
        let late = begin + Duration::from_millis(10);
        let due: Vec<_> = std::iter::from_fn(|| schedule.take(late)).collect();
        assert_eq!(due.len(), 10);
        assert_eq!(due[0], begin + Duration::from_millis(1));
    }
}
