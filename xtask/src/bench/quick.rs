//! The short grade: Ottla alone, against what docs/benchmarks says it cost, in under a minute.
//!
//! The tricky idea: seconds of another machine, or of a busier hour, say nothing. So each scenario's CPU time is told as a ratio to the
//! geometric mean of all of them in the same run, and that ratio is compared with the stored one: it shows which path has become dear
//! beside the others. (A slowdown of everything at once is the guard's matter: `cargo bench -p ottla-broker --bench guard`.)

use super::figure::{self, Figure, Figures};
use super::ledger::Ledger;
use super::peer::Peer;
use super::scenario::{Durability, Placement, SCENARIOS, Scenario, Work};
use super::{report, work};
use crate::broker::Kind;
use crate::steps::{Trouble, fresh_dir};
use crate::workspace;
use serde_json::{Map, Value};

/// Runs of each scenario; the cheapest counts, as the one that was disturbed least.
const RUNS: usize = 2;
/// A ratio may be this much above the stored one.
const TOLERANCE: f64 = 1.6;

/// Whether no path has become dear.
pub fn run() -> Result<bool, Trouble> {
    let stored = report::summary(&Ledger::new(&report::folder(Kind::Kafka), Kind::Kafka, 0))?;
    let home = fresh_dir(&workspace::scratch("bench-quick"))?;
    let mut ottla = Peer::new(
        Kind::Ottla,
        Durability::PageCache,
        true,
        &home,
        &fresh_dir(&workspace::logs("bench-quick"))?,
    )?;
    ottla.broker.start()?;
    let mut costs = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| is_quick(scenario)) {
        let Some(before) = stored_cost(&stored, scenario) else { continue };
        let mut cheapest = f64::INFINITY;
        for _ in 0..RUNS {
            cheapest = cheapest.min(cost(&work::run(&mut ottla, scenario)?).unwrap_or(f64::INFINITY));
        }
        costs.push((scenario.name, cheapest, before));
    }
    ottla.broker.stop()?;
    if costs.is_empty() {
        return Err(Trouble::new(
            "docs/benchmarks has no pairs to compare with: cargo xtask bench writes them",
        ));
    }
    let mean = |side: fn(&(&str, f64, f64)) -> f64| {
        (costs.iter().map(|cost| side(cost).ln()).sum::<f64>() / costs.len() as f64).exp()
    };
    let (mean_now, mean_before) = (mean(|cost| cost.1), mean(|cost| cost.2));
    let mut is_fine = true;
    for (name, now, before) in &costs {
        let change = (now / mean_now) / (before / mean_before);
        let verdict = if change > TOLERANCE { "DEARER" } else { "as before" };
        is_fine &= change <= TOLERANCE;
        println!("{name:<46} {now:>9.2} µs per request, {change:.2} of its stored share: {verdict}");
    }
    Ok(is_fine)
}

fn is_quick(scenario: &Scenario) -> bool {
    scenario.placement == Placement::Apart && matches!(scenario.work, Work::Produce { .. })
}

fn cost(figures: &Figures) -> Option<f64> {
    figures.get(figure())
}

fn figure() -> &'static Figure {
    &figure::CPU_PER_REQUEST
}

fn stored_cost(stored: &Map<String, Value>, scenario: &Scenario) -> Option<f64> {
    stored.get(scenario.name)?["figures"][figure().key]["ottla"].as_f64()
}
