//! Suites of real clients against one broker, in three rounds: a first start, after an orderly restart, after kill -9.
//!
//! A suite is a program in its client's language (`tests/clients/`); it is given the bootstrap address, the run's name
//! and the round, prints `ok NAME` or `FAIL NAME: reason` per case, and exits with 0 when nothing failed. All state that a
//! suite carries from one round to the next is in the broker, under names made from the run's name: that is the point.

mod dump_log;
pub mod setup;
pub mod suites;

use crate::broker::{Broker, Kind};
use crate::steps::{self, Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use suites::{Round, Run, Suite, Tally};

#[derive(Args)]
pub struct Options {
    /// The broker under test
    #[arg(long, value_enum, default_value = "ottla")]
    pub against: Kind,
    /// Only these suites
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Suite>,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    pub case: String,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Only the first round: no restarts, no dump of files
    #[arg(long)]
    pub one_round: bool,
    /// Only install the clients
    #[arg(long)]
    pub setup: bool,
}

/// The subcommand: sets up, runs, prints the summary line.
pub fn run(options: Options) -> Result<bool, Trouble> {
    setup::all()?;
    if options.setup {
        return Ok(true);
    }
    let tally = run_suites(&options)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// Runs the chosen suites in their rounds, then reads the broker's files with Apache Kafka's own tool.
pub fn run_suites(options: &Options) -> Result<Tally, Trouble> {
    let logs = fresh_dir(&workspace::logs("clients"))?;
    let home = fresh_dir(&workspace::scratch("clients"))?;
    let notes = fresh_dir(&home.join("notes"))?;
    let chosen = if options.only.is_empty() { Suite::all() } else { options.only.clone() };
    let mut broker = Broker::new(options.against, options.binary.clone(), &home, &logs)?;
    let bootstrap = broker.bootstrap();
    let run =
        Run { bootstrap, name: run_name()?, case: &options.case, notes: notes.clone(), logs: logs.clone() };
    let mut tally = Tally::default();

    let took = broker.start()?;
    steps::say(&format!("{} ready at {}", broker.name(), broker.bootstrap()), took);
    let rounds: &[Round] = if options.one_round { &[Round::First] } else { Round::all() };
    for round in rounds {
        if *round != Round::First {
            restart(&mut broker, *round)?;
        }
        let begun = Instant::now();
        let results = suites::run_round(&chosen, *round, &run)?;
        tally.add(&results);
        steps::say(
            &format!("round {}: {} ok, {} failed", round.number(), results.passed, results.failed),
            begun.elapsed(),
        );
        if !broker.is_alive() {
            println!("FAIL the broker died in round {}; its log: {}", round.number(), broker.log().display());
            steps::show_end(&broker.log(), 30);
            tally.failed += 1;
            return Ok(tally);
        }
    }
    let took = broker.stop()?;
    steps::say(&format!("{} stopped", broker.name()), took);
    if !options.one_round {
        tally.add(&dump_log::check(&broker.data(), &notes, &logs)?);
    }
    Ok(tally)
}

fn restart(broker: &mut Broker, round: Round) -> Result<(), Trouble> {
    let how = match round {
        Round::AfterKill => {
            broker.kill()?;
            "kill -9"
        }
        _ => {
            broker.stop()?;
            "SIGTERM"
        }
    };
    let took = broker.start()?;
    steps::say(&format!("restarted after {how}"), took);
    Ok(())
}

/// Names of topics and groups begin with this, so that runs against one data directory do not meet.
fn run_name() -> Result<String, Trouble> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Trouble::new)?;
    Ok(format!("r{}", now.as_secs() % 100_000))
}
