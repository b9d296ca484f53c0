//! The guard of the hot path: how many instructions a produce, a fetch and the codecs cost, against what they cost when somebody last
//! looked (`instructions.txt` beside this file). `cargo bench -p ottla-broker --bench guard`; with `UPDATE=1` the figures are written
//! anew.
//!
//! The tricky idea: a clock on a shared machine lies, and counters of the processor are seldom to be had. So each piece of work runs in
//! a process of its own that is stepped through one instruction at a time (`ptrace`), which every Linux has and nothing disturbs.
#![allow(
    clippy::disallowed_methods,
    reason = "this reads and writes its own figures, and starts itself anew to be counted"
)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod count;
mod works;

use std::collections::BTreeMap;

/// A count may be this much above the stored one: allocators and memory copies differ a little between processors.
const TOLERANCE: f64 = 1.2;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("instructions are counted on x86-64 Linux alone; here each piece of work only runs");
    for name in works::NAMES {
        works::work(name)();
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != count::BE_COUNTED);
    if arguments.next().is_some() {
        let name = arguments.next().expect("the name of a piece of work");
        return count::be_counted(works::work(&name));
    }
    let counts: BTreeMap<&str, u64> = works::NAMES
        .into_iter()
        .map(|name| {
            (
                name,
                count::instructions(name).unwrap_or_else(|error| {
                    eprintln!("instructions cannot be counted here: {error}");
                    std::process::exit(1)
                }),
            )
        })
        .collect();
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/guard/instructions.txt");
    if std::env::var_os("UPDATE").is_some() {
        let lines: String = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        std::fs::write(place, lines).expect("the figures can be written");
    }
    let stored = std::fs::read_to_string(place).expect("the figures are beside this file");
    let mut is_slower = false;
    for (name, &count) in &counts {
        let line = stored.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let before: u64 =
            line.and_then(|figure| figure.parse().ok()).expect("a figure for each piece of work");
        let verdict = match count as f64 / before as f64 {
            change if change > TOLERANCE => "SLOWER",
            change if change < 1.0 / TOLERANCE => "faster: write the figures anew",
            _ => "as before",
        };
        is_slower |= verdict == "SLOWER";
        println!("{name:<22} {count:>9} instructions, stored {before:>9}: {verdict}");
    }
    if is_slower {
        eprintln!("the hot path takes more than {TOLERANCE} times the instructions that are stored");
        std::process::exit(1);
    }
}
