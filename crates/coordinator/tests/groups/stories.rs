//! The random stories of groups by one number, and the first of them that misses a rule.

use crate::{consumer_random, offsets_random, random};

/// Steps of a story of offsets, or with members of the consumer protocol.
const STEPS: usize = 150;

/// Every seed is a story of one of four kinds.
pub fn run(seed: u64) {
    match seed % 4 {
        0 => drop(random::run(seed / 4, random::Weather::Fair)),
        1 => drop(random::run(seed / 4, random::Weather::Foul)),
        2 => drop(offsets_random::tell(seed / 4, STEPS)),
        _ => consumer_random::tell(seed / 4, STEPS),
    }
}

/// The first of `most` seeds that misses a rule, and what it says.
#[cfg(feature = "mutations")]
pub fn missed(guard: ottla_coordinator::Guard, most: u64) -> Option<(u64, String)> {
    guard.remove();
    let found = (0..most).find_map(|seed| {
        let cause = std::panic::catch_unwind(|| run(seed)).err()?;
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("");
        Some((seed, text.lines().next().unwrap_or("").chars().take(100).collect()))
    });
    ottla_coordinator::Guard::restore();
    found
}

/// Rules that are missed soon; `cargo xtask sim groups --mutations` takes away all of them.
#[cfg(feature = "mutations")]
#[test]
fn without_any_of_these_rules_a_promise_is_broken() {
    use ottla_coordinator::Guard;
    let soon = [
        Guard::AssignmentWaitsForOwner,
        Guard::RevocationIsConfirmed,
        Guard::MemberLeavesTombstones,
        Guard::StaticMemberIsFenced,
    ];
    for guard in soon {
        assert!(missed(guard, 120).is_some(), "nobody misses {guard:?}");
    }
}
