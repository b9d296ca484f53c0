//! The work of `cargo xtask sim raft`, at full speed. Without arguments there is nothing to do: the fast tests have their own
//! few hundred seeds.
//!
//! `sweep FIRST COUNT` runs many seeds, `seed N` tells what happens in one, `states MOST` explores all interleavings
//! of a small quorum, `mutations MOST` (with the feature of that name) takes away one guard of the protocol after the other.

#[cfg(feature = "mutations")]
#[path = "sim/mutations.rs"]
mod mutations;
mod sim;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = arguments.iter().skip(1).flat_map(|text| text.parse()).collect();
    let good = match (arguments.first().map(String::as_str), numbers.as_slice()) {
        (Some("sweep"), [first, count]) => sweep(*first..first + count),
        (Some("seed"), [seed]) => {
            println!("{:?}", sim::scenario::tell(*seed, Some(1), true));
            true
        }
        (Some("states"), [states]) => {
            let scope = sim::explore::Scope {
                nodes: 3,
                epoch_last: 2,
                records: 1,
                changes: 1,
                crashes: 1,
                states: *states,
            };
            println!("{:?}", sim::explore::explore(scope));
            true
        }
        #[cfg(feature = "mutations")]
        (Some("mutations"), [most]) => mutations::sweep(*most) == 0,
        _ => true,
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sweep(seeds: std::ops::Range<u64>) -> bool {
    let count = seeds.end - seeds.start;
    let (mut committed, mut events, mut beyond_repair, mut broken) = (0, 0, 0, 0);
    for seed in seeds {
        match std::panic::catch_unwind(|| sim::scenario::run(seed, None)) {
            Ok(outcome) => {
                committed += outcome.committed;
                events += outcome.events;
                beyond_repair += u64::from(outcome.beyond_repair);
            }
            Err(_) => {
                broken += 1;
                println!("seed {seed} breaks a promise; repeat: cargo xtask sim raft --seed {seed}");
            }
        }
    }
    println!(
        "raft: {count} seeds, {events} events, {committed} records committed, {beyond_repair} lost too many disks, \
         {broken} broken"
    );
    broken == 0
}
