//! The time as the broker sees it: milliseconds since 1970 that never run backwards.
//!
//! The tricky idea: the wall clock tells the time when the process starts, and the monotonic clock carries it on, so that an
//! operator who sets the clock back does not stop every timeout. A wall clock that runs ahead by more than a second (a machine that
//! slept, a clock that was wrong at boot) is followed at once.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ottla_broker::Millis;

/// How far the wall clock may run ahead before it is followed.
const AHEAD_MS_MAX: Millis = 1000;

/// The node's clock.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// The time at `start`.
    base: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { start: Instant::now(), base: AtomicI64::new(wall_clock()) }
    }
}

impl Clock {
    /// The time.
    pub fn now(&self) -> Millis {
        let elapsed = millis(self.start.elapsed().as_millis());
        let now = self.base.load(Ordering::Relaxed) + elapsed;
        let wall = wall_clock();
        if wall > now + AHEAD_MS_MAX {
            self.base.fetch_max(wall - elapsed, Ordering::Relaxed);
            return wall;
        }
        now
    }

    /// Milliseconds since the process started.
    pub fn uptime_ms(&self) -> u128 {
        self.start.elapsed().as_millis()
    }
}

fn wall_clock() -> Millis {
    // A clock before 1970 reads as 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| millis(time.as_millis()))
}

fn millis(value: u128) -> Millis {
    Millis::try_from(value).unwrap_or(Millis::MAX)
}

/// Renders a time as `2026-11-22T14:14:03.123Z`.
pub fn rfc3339(time: Millis) -> String {
    let (days, ms) = (time.div_euclid(86_400_000), time.rem_euclid(86_400_000));
    // Days to year, month and day in the calendar that begins its years on the first of March, where leap days come last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_795_357_443_123, "2026-11-22T14:24:03.123Z"),
        ] {
            assert_eq!(rfc3339(time), text);
        }
    }

    #[test]
    fn a_wall_clock_ahead_is_followed_and_one_behind_is_not() {
        let clock = Clock::default();
        clock.base.fetch_sub(3_600_000, Ordering::Relaxed);
        assert!((clock.now() - wall_clock()).abs() <= AHEAD_MS_MAX);
        clock.base.fetch_add(3_600_000, Ordering::Relaxed);
        let ahead = clock.now();
        assert!(ahead >= wall_clock() + 3_500_000);
        assert!(clock.now() >= ahead);
    }
}
