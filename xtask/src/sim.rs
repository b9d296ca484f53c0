//! `cargo xtask sim`: repeats one simulated run (`--seed`), or sweeps many (`--seeds`); of a whole node, of three of them (`cluster`), or
//! of the metadata quorum alone (`raft`).

use crate::steps::{Doing, Trouble};
use crate::workspace;
use clap::{Args, ValueEnum};
use std::io::{IsTerminal, Write};
use std::process::Command;
use std::time::Instant;

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// One node with its disk and its clients
    Node,
    /// Three nodes, their disks, and the network between them
    Cluster,
    /// Quorums of controllers: the raft state machines alone
    Raft,
}

/// Which seeds.
#[derive(Args)]
pub struct Options {
    /// What is simulated
    #[arg(value_enum, default_value_t = Subject::Node)]
    subject: Subject,
    /// Takes away one guard of the protocol after the other, and expects each to be missed within the seeds (raft)
    #[arg(long, conflicts_with = "seed")]
    mutations: bool,
    /// Explores all interleavings of a small quorum, up to this many states (raft)
    #[arg(long, conflicts_with_all = ["seed", "mutations"])]
    states: Option<u64>,
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
    if options.subject == Subject::Raft {
        return raft(&options);
    }
    if options.mutations || options.states.is_some() {
        return Err(Trouble::new("--mutations and --states are for raft: cargo xtask sim raft"));
    }
    if let Some(seed) = options.seed {
        let Told { acknowledged, faults, trace } =
            tell(options.subject, seed).map_err(|broken| Trouble::new(format!("seed {seed}: {broken}")))?;
        println!("seed {seed}: {acknowledged} records acknowledged, {faults} faults, trace {trace:016x}");
        return Ok(true);
    }
    let begun = Instant::now();
    let (mut acknowledged, mut faults, mut broken) = (0, 0, 0);
    let named = if options.subject == Subject::Cluster { "sim cluster" } else { "sim" };
    for seed in options.first..options.first + options.seeds {
        match tell(options.subject, seed) {
            Ok(report) => {
                acknowledged += report.acknowledged;
                faults += report.faults;
            }
            Err(promise) => {
                broken += 1;
                println!("seed {seed}: {promise}\n    repeat: cargo xtask {named} --seed {seed}");
            }
        }
        if std::io::stdout().is_terminal() {
            print!("\r{} of {} seeds", seed - options.first + 1, options.seeds);
            std::io::stdout().flush()?;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "\rsim: {} seeds, {faults} faults, {acknowledged} records acknowledged, {broken} broken, {took:.1} s",
        options.seeds
    );
    Ok(broken == 0)
}

/// What a run did.
struct Told {
    acknowledged: u64,
    faults: u64,
    trace: u64,
}

fn tell(subject: Subject, seed: u64) -> Result<Told, String> {
    if subject == Subject::Cluster {
        let ottla_sim::ClusterReport { trace, acknowledged, faults } = ottla_sim::run_cluster(seed)?;
        return Ok(Told { acknowledged: acknowledged as u64, faults, trace });
    }
    let ottla_sim::Report { trace, acknowledged, deaths } = ottla_sim::run(seed)?;
    Ok(Told { acknowledged, faults: deaths, trace })
}

/// The quorum's simulator is a test target of its crate: the one without a harness does the heavy work.
fn raft(options: &Options) -> Result<bool, Trouble> {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace::root()).args(["test", "--quiet", "--release", "--package", "ottla-raft"]);
    if options.mutations {
        command.args(["--features", "mutations"]);
    }
    command.args(["--test", "sweep", "--"]);
    match (options.seed, options.states) {
        (Some(seed), _) => command.args(["seed".to_owned(), seed.to_string()]),
        (None, Some(states)) => command.args(["states".to_owned(), states.to_string()]),
        (None, None) if options.mutations => {
            command.args(["mutations".to_owned(), options.seeds.to_string()])
        }
        (None, None) => {
            command.args(["sweep".to_owned(), options.first.to_string(), options.seeds.to_string()])
        }
    };
    let status = command.status().doing("running cargo")?;
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    Ok(status.success())
}
