//! `cargo xtask bench`: Ottla and Apache Kafka (or another broker) side by side, in turns, on this machine; results go to docs/benchmarks.
//!
//! The tricky idea: no single number of a shared machine can be trusted, but the ratio of two runs right after each other can, if it is
//! taken often enough. So everything is done in pairs, and what is told is the median of the pairs' ratios and their ends.

pub mod figure;
mod ledger;
mod machine;
pub mod peer;
mod plot;
mod quick;
mod report;
pub mod scenario;
mod work;

use crate::broker::Kind;
use crate::clients::setup;
use crate::steps::{Trouble, fresh_dir};
use crate::workspace;
use clap::{Args, ValueEnum};
use figure::Figures;
use ledger::Ledger;
use peer::Peer;
use scenario::{Durability, SCENARIOS, Scenario};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Ottla alone against what it cost when docs/benchmarks was written; under a minute
    #[arg(long)]
    quick: bool,
    /// All scenarios, seven pairs each
    #[arg(long)]
    full: bool,
    /// Only scenarios whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Pairs of runs for each scenario
    #[arg(long)]
    pairs: Option<usize>,
    /// Seconds that the JVM is warmed before anything is measured
    #[arg(long, default_value_t = 60.0)]
    warm_seconds: f64,
    /// Whom to stand beside. Tansu (a broker in Rust that keeps its topics in memory) is built first, which takes ten minutes
    #[arg(long, value_enum, default_value = "kafka")]
    beside: Beside,
    /// Measure nothing: make the page in docs/benchmarks of the pairs that are there, of an interrupted run too
    #[arg(long)]
    render: bool,
    /// Leave docs/benchmarks as it is; the pairs go to target/bench
    #[arg(long)]
    dry_run: bool,
}

/// Whom Ottla is measured beside.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Beside {
    Kafka,
    Tansu,
}

impl Beside {
    fn kind(self) -> Kind {
        match self {
            Beside::Kafka => Kind::Kafka,
            Beside::Tansu => Kind::Tansu,
        }
    }
}

/// A scenario and its pairs: Ottla, the other.
pub struct Outcome {
    scenario: &'static Scenario,
    pairs: Vec<(Figures, Figures)>,
}

/// Runs the chore.
pub fn run(options: &Options) -> Result<bool, Trouble> {
    let other = options.beside.kind();
    if options.render {
        report::write(&Ledger::new(&report::folder(other), other, 0))?;
        return Ok(true);
    }
    work::check_built()?;
    if options.quick {
        return quick::run();
    }
    if other == Kind::Tansu {
        setup::tansu()?;
    }
    let wanted = |scenario: &&Scenario| {
        let is_named = options.only.iter().any(|name| scenario.name.contains(name.as_str()));
        if options.only.is_empty() { options.full || scenario.is_core } else { is_named }
    };
    let scenarios: Vec<&'static Scenario> = SCENARIOS.iter().filter(wanted).collect();
    let pairs = options.pairs.unwrap_or(if options.full { 7 } else { 5 });
    let scratch = workspace::scratch("bench");
    let bench = Bench {
        home: fresh_dir(&scratch)?,
        logs: fresh_dir(&workspace::logs("bench"))?,
        pairs,
        warm_seconds: options.warm_seconds,
        ledger: Ledger::new(
            &if options.dry_run { scratch } else { report::folder(other) },
            other,
            seconds_since_1970(),
        ),
        other,
        is_dry: options.dry_run,
        progress: Progress {
            done: std::cell::Cell::new(0),
            all: scenarios.len() * pairs,
            begun: Instant::now(),
        },
    };
    for durability in [Durability::PageCache, Durability::Flushed] {
        let warm = scenarios.iter().filter(|scenario| scenario.durability == durability);
        let warm: Vec<_> = warm.copied().filter(|scenario| !work::is_alone(scenario)).collect();
        if !warm.is_empty() {
            bench.run_warm(durability, &warm)?;
        }
    }
    for scenario in scenarios.iter().copied().filter(|scenario| work::is_alone(scenario)) {
        bench.run_alone(scenario)?;
    }
    bench.progress.clear();
    Ok(true)
}

struct Bench {
    home: PathBuf,
    logs: PathBuf,
    pairs: usize,
    warm_seconds: f64,
    /// Whom Ottla is measured beside.
    other: Kind,
    ledger: Ledger,
    is_dry: bool,
    progress: Progress,
}

impl Bench {
    /// Scenarios that share two warm processes.
    fn run_warm(&self, durability: Durability, scenarios: &[&'static Scenario]) -> Result<(), Trouble> {
        let home = fresh_dir(&self.home.join(format!("{durability:?}")))?;
        let mut ottla = Peer::new(Kind::Ottla, durability, true, &home, &self.logs)?;
        let mut other = Peer::new(self.other, durability, true, &home, &self.logs)?;
        ottla.broker.start()?;
        other.broker.start()?;
        if self.other == Kind::Kafka {
            self.progress.show("warming the JVM");
            work::warm(&mut other, self.warm_seconds)?;
        }
        for &scenario in scenarios {
            let mut pairs = Vec::new();
            for _ in 0..self.pairs {
                self.progress.show(scenario.name);
                let pair = (work::run(&mut ottla, scenario)?, work::run(&mut other, scenario)?);
                self.note(scenario, pair, &mut pairs)?;
            }
            self.finish(scenario, pairs)?;
        }
        ottla.broker.stop()?;
        other.broker.stop()?;
        Ok(())
    }

    /// A scenario that has a process of its own for each run.
    fn run_alone(&self, scenario: &'static Scenario) -> Result<(), Trouble> {
        let mut pairs = Vec::new();
        for _ in 0..self.pairs {
            self.progress.show(scenario.name);
            let run = |kind| work::run_alone(kind, scenario, &self.home, &self.logs);
            self.note(scenario, (run(Kind::Ottla)?, run(self.other)?), &mut pairs)?;
        }
        self.finish(scenario, pairs)?;
        Ok(())
    }

    /// A pair has ended.
    fn note(
        &self,
        scenario: &Scenario,
        pair: (Figures, Figures),
        pairs: &mut Vec<(Figures, Figures)>,
    ) -> Result<(), Trouble> {
        self.ledger.append(scenario, &pair, &machine::describe(self.other))?;
        pairs.push(pair);
        self.progress.step();
        Ok(())
    }

    /// All pairs of a scenario have ended.
    fn finish(&self, scenario: &'static Scenario, pairs: Vec<(Figures, Figures)>) -> Result<(), Trouble> {
        self.progress.clear();
        println!("{}", report::line(&Outcome { scenario, pairs }));
        if self.is_dry { Ok(()) } else { report::write(&self.ledger) }
    }
}

fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How far the whole is, on the terminal's last line.
struct Progress {
    done: std::cell::Cell<usize>,
    all: usize,
    begun: Instant,
}

impl Progress {
    const WIDTH: usize = 24;

    fn step(&self) {
        self.done.set(self.done.get() + 1);
    }

    fn show(&self, what: &str) {
        if !std::io::stdout().is_terminal() {
            return;
        }
        let filled = (self.done.get() * Self::WIDTH).checked_div(self.all).unwrap_or(0);
        let bar: String = (0..Self::WIDTH).map(|at| if at < filled { '█' } else { '░' }).collect();
        let seconds = self.begun.elapsed().as_secs();
        print!(
            "\r\x1b[K{bar} {}/{} {:>3}:{:02} {what}",
            self.done.get(),
            self.all,
            seconds / 60,
            seconds % 60
        );
        // A terminal that has gone away is no reason to stop measuring.
        let _ = std::io::stdout().flush();
    }

    fn clear(&self) {
        if std::io::stdout().is_terminal() {
            print!("\r\x1b[K");
        }
    }
}
