//! `cargo xtask sim`: repeats one simulated run (`--seed`), or sweeps many (`--seeds`).

use crate::steps::Trouble;
use clap::Args;
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Which seeds.
#[derive(Args)]
pub struct Options {
    /// Run this seed alone, and say what happened
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed of a sweep
    #[arg(long, default_value_t = 0)]
    first: u64,
}

/// Runs the chore.
pub fn run(options: Options) -> Result<bool, Trouble> {
    if let Some(seed) = options.seed {
        let report = ottla_sim::run(seed).map_err(|broken| Trouble::new(format!("seed {seed}: {broken}")))?;
        println!(
            "seed {seed}: {} records acknowledged, {} deaths, trace {:016x}",
            report.acknowledged, report.deaths, report.trace
        );
        return Ok(true);
    }
    let begun = Instant::now();
    let (mut acknowledged, mut deaths, mut broken) = (0, 0, 0);
    for seed in options.first..options.first + options.seeds {
        match ottla_sim::run(seed) {
            Ok(report) => {
                acknowledged += report.acknowledged;
                deaths += report.deaths;
            }
            Err(promise) => {
                broken += 1;
                println!("seed {seed}: {promise}\n    repeat: cargo xtask sim --seed {seed}");
            }
        }
        if std::io::stdout().is_terminal() {
            print!("\r{} of {} seeds", seed - options.first + 1, options.seeds);
            std::io::stdout().flush()?;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "\rsim: {} seeds, {deaths} deaths, {acknowledged} records acknowledged, {broken} broken, {took:.1} s",
        options.seeds
    );
    Ok(broken == 0)
}
