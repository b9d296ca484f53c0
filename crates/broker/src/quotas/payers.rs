//! Who is remembered, and what of each: as many as a limit allows, and all others as one.
//!
//! The tricky idea: whoever has nothing to pay for is forgotten, but only when there is no room, and then all of them at once and seldom;
//! so a request costs one look, however many payers there are.

use std::collections::BTreeMap;

use crate::effect::Millis;

/// Payers that are remembered at once; those beyond pay together.
const PAYERS_MAX: usize = 10_000;
/// Time in milliseconds between two searches for those that can be forgotten.
const SWEEP_MS: Millis = 1_000;

/// What is remembered of each payer.
#[derive(Debug)]
pub(super) struct Payers<K, V> {
    /// `None`: all for whom there was no room.
    known: BTreeMap<Option<K>, V>,
    sweep_at: Millis,
}

impl<K, V> Default for Payers<K, V> {
    fn default() -> Self {
        Payers { known: BTreeMap::new(), sweep_at: 0 }
    }
}

impl<K: Ord, V> Payers<K, V> {
    /// What is remembered of that payer, or what a `fresh` one has; `is_idle` tells whom nobody needs to remember.
    pub(super) fn of(
        &mut self,
        payer: K,
        now: Millis,
        is_idle: impl Fn(&mut V) -> bool,
        fresh: impl FnOnce() -> V,
    ) -> &mut V {
        let mut key = Some(payer);
        if self.known.len() >= PAYERS_MAX && !self.known.contains_key(&key) {
            if self.sweep_at <= now {
                self.known.retain(|_, value| !is_idle(value));
                self.sweep_at = now + SWEEP_MS;
            }
            if self.known.len() >= PAYERS_MAX {
                key = None;
            }
        }
        self.known.entry(key).or_insert_with(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_beyond_the_limit_are_one_until_others_are_forgotten() {
        let mut payers: Payers<usize, u32> = Payers::default();
        let mut count = |payer: usize, now: Millis| {
            let value = payers.of(payer, now, |value| *value == 1, || 0);
            *value += 1;
            *value
        };
        assert_eq!((count(0, 0), count(0, 0)), (1, 2));
        // Two times each, so that none of them is idle.
        for payer in 1..PAYERS_MAX {
            assert_eq!((count(payer, 0), count(payer, 0)), (1, 2));
        }
        assert_eq!((count(PAYERS_MAX, 0), count(PAYERS_MAX + 1, 0)), (1, 2), "they pay together");
        assert_eq!(count(7, 0), 3, "who was there before does not pay with them");
        let mut payers: Payers<usize, u32> = Payers::default();
        for payer in 0..PAYERS_MAX {
            *payers.of(payer, 0, |value| *value == 1, || 0) += 1;
        }
        assert_eq!(*payers.of(PAYERS_MAX, 0, |value| *value == 1, || 0), 0);
        assert_eq!(payers.known.len(), 1, "all the others were idle");
    }
}
