//! How much a payer used lately, and how long it has to pause (Kafka's `Rate` over a `WindowedSum`).
//!
//! The tricky idea: with `n` windows of one second the elapsed time counts as at least `n - 1` windows, so that the first burst of a
//! client is not taken for its rate; and the pause is just long enough that the average over windows and pause is the limit.

use std::collections::VecDeque;

use ottla_metadata::config::QuotaWindows;

use crate::effect::Millis;

/// How rates are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    /// How many are kept (`quota.window.num`).
    pub count: i64,
    /// How long one is (`quota.window.size.seconds`).
    pub length_ms: Millis,
}

impl Windows {
    /// What the configuration says.
    pub(crate) fn of(settings: QuotaWindows) -> Windows {
        Windows { count: i64::from(settings.count), length_ms: i64::from(settings.seconds) * 1_000 }
    }

    /// Beyond this age nothing is remembered.
    pub(super) fn span_ms(self) -> Millis {
        self.count * self.length_ms
    }
}

/// What was used, window by window.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// When each window began, and what was used in it; oldest first.
    windows: VecDeque<(Millis, f64)>,
}

impl Rate {
    /// Adds what was used now. Returns the pause in milliseconds that brings the rate back to `limit` per second; 0 if it is kept.
    pub(crate) fn charge(&mut self, used: f64, limit: f64, windows: Windows, now: Millis) -> Millis {
        self.add(used, windows, now);
        let begun = self.windows.front().map_or(now, |(begun, _)| *begun);
        let full = (now - begun) / windows.length_ms;
        let missing = (windows.count - 1 - full).max(0) * windows.length_ms;
        let elapsed_ms = ((now - begun) + missing).max(1) as f64;
        let sum: f64 = self.windows.iter().map(|(_, sum)| sum).sum();
        // The time in which that much would have been allowed, less the time that it took. A float becomes an integer by saturation.
        (sum / limit * 1000.0 - elapsed_ms).round().max(0.0) as Millis
    }

    /// Adds what was used now.
    pub(crate) fn add(&mut self, used: f64, windows: Windows, now: Millis) {
        self.forget(windows, now);
        match self.windows.back_mut() {
            Some((begun, sum)) if now - *begun < windows.length_ms => *sum += used,
            _ => self.windows.push_back((now, used)),
        }
    }

    /// What was used in a second, on average over the windows that are kept, of which one counts in full (Kafka: `SimpleRate`).
    pub(crate) fn per_second(&mut self, windows: Windows, now: Millis) -> f64 {
        self.forget(windows, now);
        let begun = self.windows.front().map_or(now, |(begun, _)| *begun);
        let elapsed_ms = (now - begun).max(windows.length_ms).max(1) as f64;
        let sum: f64 = self.windows.iter().map(|(_, sum)| sum).sum();
        sum / elapsed_ms * 1000.0
    }

    /// Whether nothing is remembered any more.
    pub(crate) fn is_idle(&mut self, windows: Windows, now: Millis) -> bool {
        self.forget(windows, now);
        self.windows.is_empty()
    }

    fn forget(&mut self, windows: Windows, now: Millis) {
        while self.windows.pop_front_if(|(begun, _)| now - *begun >= windows.span_ms()).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, length_ms: 1_000 };

    #[test]
    fn a_burst_is_measured_over_all_but_one_window() {
        let mut rate = Rate::default();
        assert_eq!(rate.charge(10_000.0, 1_000.0, WINDOWS, 5), 0, "ten seconds are granted");
        assert_eq!(rate.charge(1_000.0, 1_000.0, WINDOWS, 5), 1_000);
        assert_eq!(rate.charge(1_000.0, 1_000.0, WINDOWS, 1_005), 2_000, "of the ten seconds, one went by");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut rate = Rate::default();
        rate.charge(100_000.0, 1_000.0, WINDOWS, 0);
        assert!(!rate.is_idle(WINDOWS, 10_999));
        assert!(rate.is_idle(WINDOWS, 11_000));
        assert_eq!(rate.charge(1.0, 1_000.0, WINDOWS, 11_000), 0);
    }

    #[test]
    fn who_pauses_as_told_keeps_the_limit() {
        let (mut rate, mut now, mut used) = (Rate::default(), 0, 0.0);
        while now < 60_000 {
            used += 7_000.0;
            now += 3 + rate.charge(7_000.0, 50_000.0, WINDOWS, now);
        }
        let average = used / (now as f64 / 1000.0);
        // The first windows are granted; after that the limit holds.
        assert!((50_000.0..60_000.0).contains(&average), "{average} bytes per second");
        let (before, begun) = (used, now);
        while now < begun + 60_000 {
            used += 7_000.0;
            now += 3 + rate.charge(7_000.0, 50_000.0, WINDOWS, now);
        }
        let average = (used - before) / ((now - begun) as f64 / 1000.0);
        // Whole windows are forgotten at a time, which costs a client a little.
        assert!((45_000.0..50_500.0).contains(&average), "{average} bytes per second");
    }
}
