//! `cargo xtask sim`: repeats one simulated run (`--seed`), or sweeps many (`--seeds`); of a whole node, of three of them (`cluster`), of
//! the metadata quorum alone (`raft`), of transactions between coordinators and partitions (`transactions`), or of a group coordinator
//! with its members (`groups`).

use crate::steps::{Doing, Trouble};
use crate::workspace;
use clap::{Args, ValueEnum};
use ottla_sim::transactions;
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
    /// Transactions: the coordinators and the producers' state of partitions alone
    Transactions,
    /// Groups of both protocols: a group coordinator and its members
    Groups,
}

/// Which seeds.
#[derive(Args)]
pub struct Options {
    /// What is simulated
    #[arg(value_enum, default_value_t = Subject::Node)]
    subject: Subject,
    /// Takes away one guard of the protocol after the other, and expects each to be missed within the seeds (not of a node)
    #[arg(long, conflicts_with = "seed")]
    mutations: bool,
    /// Explores all interleavings at a small scope, up to this many states (raft, transactions)
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
    match options.subject {
        Subject::Raft => return test_target("ottla-raft", &options),
        Subject::Groups if options.states.is_none() => return test_target("ottla-coordinator", &options),
        Subject::Groups => return Err(Trouble::new("--states is for raft and transactions")),
        Subject::Transactions => return model(&options),
        Subject::Node | Subject::Cluster if options.mutations || options.states.is_some() => {
            let text =
                "--mutations and --states are not for a node: cargo xtask sim raft, transactions, groups";
            return Err(Trouble::new(text));
        }
        Subject::Node | Subject::Cluster => {}
    }
    if let Some(seed) = options.seed {
        let Told { acknowledged, committed, faults, trace } =
            tell(options.subject, seed).map_err(|broken| Trouble::new(format!("seed {seed}: {broken}")))?;
        println!(
            "seed {seed}: {acknowledged} records acknowledged, {committed} transactions committed, {faults} faults, trace {trace:016x}"
        );
        return Ok(true);
    }
    let begun = Instant::now();
    let (mut acknowledged, mut committed, mut faults, mut broken) = (0, 0, 0, 0);
    let named = if options.subject == Subject::Cluster { "sim cluster" } else { "sim" };
    for seed in options.first..options.first + options.seeds {
        match tell(options.subject, seed) {
            Ok(report) => {
                acknowledged += report.acknowledged;
                committed += report.committed;
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
        "\rsim: {} seeds, {faults} faults, {acknowledged} records acknowledged, {committed} transactions committed, {broken} broken, {took:.1} s",
        options.seeds
    );
    Ok(broken == 0)
}

/// What a run did.
struct Told {
    acknowledged: u64,
    /// Transactions, where there are any.
    committed: u64,
    faults: u64,
    trace: u64,
}

fn tell(subject: Subject, seed: u64) -> Result<Told, String> {
    if subject == Subject::Cluster {
        // Plain producers alone, whose load the first seeds were found with, and then transactions beside them.
        let plain = ottla_sim::run_cluster(seed)?;
        let whole = ottla_sim::run_cluster_transactions(seed).map_err(|it| format!("transactions: {it}"))?;
        return Ok(Told {
            acknowledged: (plain.acknowledged + whole.acknowledged) as u64,
            committed: whole.committed as u64,
            faults: plain.faults + whole.faults,
            trace: plain.trace ^ whole.trace,
        });
    }
    let ottla_sim::Report { trace, acknowledged, deaths } = ottla_sim::run(seed)?;
    Ok(Told { acknowledged, committed: 0, faults: deaths, trace })
}

/// The model of transactions is part of the simulator.
fn model(options: &Options) -> Result<bool, Trouble> {
    let begun = Instant::now();
    let good = match (options.seed, options.states) {
        (Some(seed), _) => {
            let (story, result) = transactions::tell(seed);
            story.iter().for_each(|step| println!("{step}"));
            println!(
                "seed {seed}: {}",
                result.as_ref().err().map_or("keeps its promises", |broken| broken.as_str())
            );
            result.is_ok()
        }
        (None, Some(states)) => explore(states),
        (None, None) if options.mutations => miss_rules(options.seeds),
        (None, None) => {
            let mut broken = 0;
            for seed in options.first..options.first + options.seeds {
                if let Err(promise) = transactions::run(seed) {
                    broken += 1;
                    println!(
                        "seed {seed}: {promise}\n    repeat: cargo xtask sim transactions --seed {seed}"
                    );
                }
            }
            println!("transactions: {} seeds, {broken} broken", options.seeds);
            broken == 0
        }
    };
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    Ok(good)
}

/// One state in so many is followed by calm.
const CALM_IN: u64 = 8;

fn explore(states: u64) -> bool {
    let explored = transactions::Scope::ALL.into_iter().map(|scope| {
        let explored = transactions::explore(scope, usize::try_from(states).unwrap_or(usize::MAX), CALM_IN);
        match &explored {
            Ok(explored) => println!("{scope:?}: {explored:?}"),
            Err(broken) => println!("{broken}"),
        }
        explored.is_ok()
    });
    explored.filter(|good| !good).count() == 0
}

fn miss_rules(most: u64) -> bool {
    // An assertion that fails is what is expected here, and no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let rules = transactions::rules();
    let missed = rules.iter().filter(|rule| match transactions::first_broken(**rule, most) {
        Some((seed, text)) => {
            println!("{rule:?}: seed {seed}: {}", text.chars().take(100).collect::<String>());
            true
        }
        None => {
            println!("{rule:?}: NOT MISSED in {most} seeds");
            false
        }
    });
    let missed = missed.count();
    std::panic::set_hook(hook);
    println!("mutations: {} rules of transactions, {} not missed", rules.len(), rules.len() - missed);
    missed == rules.len()
}

/// These simulators are test targets of their crates: the one without a harness does the heavy work.
fn test_target(package: &str, options: &Options) -> Result<bool, Trouble> {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace::root()).args(["test", "--quiet", "--release", "--package", package]);
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
