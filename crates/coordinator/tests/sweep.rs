//! The work of `cargo xtask sim groups`: the random stories of groups, many of them. Without arguments there is nothing to do: the fast
//! tests have their own few dozen seeds.
//!
//! `sweep FIRST COUNT` runs many seeds, `seed N` one, `mutations MOST` (with the feature of that name) takes away one rule of the
//! coordinator after the other.

// The stories share a rig with tests that need more of it.
#[allow(dead_code)]
#[path = "groups/classic_consumer.rs"]
mod classic_consumer;
#[path = "groups/consumer_random.rs"]
mod consumer_random;
#[allow(dead_code)]
#[path = "groups/consumer_rig.rs"]
mod consumer_rig;
#[path = "groups/dice.rs"]
mod dice;
#[allow(dead_code)]
#[path = "groups/holdings.rs"]
mod holdings;
#[allow(dead_code)]
#[path = "groups/ledger.rs"]
mod ledger;
#[allow(dead_code)]
#[path = "groups/offset_rig.rs"]
mod offset_rig;
#[path = "groups/offsets_random.rs"]
mod offsets_random;
#[path = "groups/random.rs"]
mod random;
#[allow(dead_code)]
#[path = "groups/rig.rs"]
mod rig;
#[path = "groups/stories.rs"]
mod stories;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().skip(1).flat_map(|text| text.parse()).collect();
    let good = match (arguments.first().map(String::as_str), numbers.as_slice()) {
        (Some("sweep"), [first, count]) => sweep(*first..first + count),
        (Some("seed"), [seed]) => {
            stories::run(*seed);
            println!("seed {seed} keeps its promises");
            true
        }
        #[cfg(feature = "mutations")]
        (Some("mutations"), [most]) => miss_rules(*most) == 0,
        _ => true,
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sweep(seeds: std::ops::Range<u64>) -> bool {
    let count = seeds.end - seeds.start;
    let mut broken = 0;
    for seed in seeds {
        if std::panic::catch_unwind(|| stories::run(seed)).is_err() {
            broken += 1;
            println!("seed {seed} breaks a promise; repeat: cargo xtask sim groups --seed {seed}");
        }
    }
    println!("groups: {count} seeds, {broken} broken");
    broken == 0
}

/// All rules of groups, one after the other; returns how many are not missed.
#[cfg(feature = "mutations")]
fn miss_rules(most: u64) -> usize {
    // An assertion that fails is what is expected here, and no news.
    std::panic::set_hook(Box::new(|_| {}));
    let mut escaped = 0;
    for &guard in ottla_coordinator::Guard::GROUPS {
        match stories::missed(guard, most) {
            Some((seed, text)) => println!("{guard:?}: seed {seed}: {text}"),
            None => {
                escaped += 1;
                println!("{guard:?}: NOT MISSED in {most} seeds");
            }
        }
    }
    println!("mutations: {} rules of groups, {escaped} not missed", ottla_coordinator::Guard::GROUPS.len());
    escaped
}
