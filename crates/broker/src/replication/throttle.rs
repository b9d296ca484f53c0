//! Throttles of replication: so that replicas which catch up, after a reassignment or a long absence, leave room for everybody else (KIP-73;
//! Kafka: `ReplicationQuotaManager`).
//!
//! The one tricky idea: nobody who is in sync is ever held back, since clients wait for it. The bytes of such replicas count all the same.

use std::sync::Mutex;

use ottla_metadata::config::QuotaWindows;

use crate::effect::Millis;
use crate::quotas::{Rate, Windows};
use crate::sessions::lock;

/// What throttled replicas moved lately.
#[derive(Debug)]
pub(crate) struct Throttle {
    windows: Windows,
    rate: Mutex<Rate>,
}

/// The throttles of a node: of what its leaders give, and of what its followers take.
#[derive(Debug)]
pub(crate) struct Throttles {
    pub leader: Throttle,
    pub follower: Throttle,
}

impl Throttles {
    pub fn new(settings: QuotaWindows) -> Throttles {
        Throttles { leader: Throttle::new(settings), follower: Throttle::new(settings) }
    }
}

impl Throttle {
    pub fn new(settings: QuotaWindows) -> Throttle {
        Throttle { windows: Windows::of(settings), rate: Mutex::default() }
    }

    /// So many bytes were moved.
    pub fn note(&self, bytes: usize, now: Millis) {
        lock(&self.rate).add(bytes as f64, self.windows, now);
    }

    /// Whether it was more than `limit` bytes per second.
    pub fn is_exceeded(&self, limit: i64, now: Millis) -> bool {
        limit < i64::MAX && lock(&self.rate).per_second(self.windows, now) > limit as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_has_to_be_made_up_for() {
        let throttles = Throttles::new(QuotaWindows { count: 11, seconds: 1 });
        let throttle = throttles.leader;
        assert!(!throttle.is_exceeded(0, 0), "nothing was moved");
        throttle.note(5_000, 0);
        assert!(throttle.is_exceeded(1_000, 0) && throttle.is_exceeded(1_000, 4_999));
        assert!(!throttle.is_exceeded(1_000, 5_000));
        throttle.note(2_000, 5_000);
        assert!(throttle.is_exceeded(1_000, 6_999) && !throttle.is_exceeded(1_000, 7_000));
        assert!(!throttle.is_exceeded(i64::MAX, 5_000));
        assert!(!throttle.is_exceeded(1, 60_000), "it is forgotten");
    }
}
