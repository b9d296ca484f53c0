//! A token bucket (Kafka's `TokenBucket`, KIP-599): what a quota grants in a second flows in, up to what it grants in all windows together.
//!
//! The tricky idea: whoever has anything left may spend more than that, and is in debt then until enough has flowed in. So a request that
//! is larger than the bucket is possible at all.

use super::Windows;
use crate::effect::Millis;

/// What a payer may still spend. A new one is full.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    /// What flows in, in a second.
    limit: f64,
    updated: Millis,
}

impl Bucket {
    /// A full one.
    pub(crate) fn full(limit: f64, windows: Windows, now: Millis) -> Bucket {
        Bucket { tokens: burst(limit, windows), limit, updated: now }
    }

    /// Lets in what is granted since the last time. Returns the time in milliseconds until the debt is paid; 0 without one.
    pub(crate) fn debt_ms(&mut self, limit: f64, windows: Windows, now: Millis) -> Millis {
        let seconds = (now - self.updated).max(0) as f64 / 1000.0;
        self.tokens = (self.tokens + limit * seconds).min(burst(limit, windows));
        (self.limit, self.updated) = (limit, now);
        // A float becomes an integer by saturation.
        (-self.tokens / limit * 1000.0).round().max(0.0) as Millis
    }

    /// Takes out so many, into debt if there are not enough.
    pub(crate) fn spend(&mut self, tokens: f64) {
        self.tokens -= tokens;
    }

    /// Whether nobody needs to remember it: a new one would not differ.
    pub(crate) fn is_full(&mut self, windows: Windows, now: Millis) -> bool {
        self.debt_ms(self.limit, windows, now);
        self.tokens >= burst(self.limit, windows)
    }
}

fn burst(limit: f64, windows: Windows) -> f64 {
    limit * windows.span_ms() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 10, length_ms: 1_000 };

    #[test]
    fn who_has_anything_may_go_into_debt_and_waits_until_it_is_paid() {
        let mut bucket = Bucket::full(2.0, WINDOWS, 0);
        bucket.spend(19.0);
        assert_eq!(bucket.debt_ms(2.0, WINDOWS, 0), 0, "one is left");
        bucket.spend(11.0);
        assert_eq!(bucket.debt_ms(2.0, WINDOWS, 0), 5_000);
        assert_eq!(bucket.debt_ms(2.0, WINDOWS, 4_000), 1_000);
        assert_eq!(bucket.debt_ms(2.0, WINDOWS, 5_000), 0);
        assert!(!bucket.is_full(WINDOWS, 14_000));
        assert!(bucket.is_full(WINDOWS, 15_000));
    }

    #[test]
    fn a_smaller_limit_takes_what_is_beyond_it() {
        let mut bucket = Bucket::full(100.0, WINDOWS, 0);
        assert_eq!(bucket.debt_ms(1.0, WINDOWS, 0), 0);
        bucket.spend(11.0);
        assert_eq!(bucket.debt_ms(1.0, WINDOWS, 0), 1_000, "ten were left");
    }
}
