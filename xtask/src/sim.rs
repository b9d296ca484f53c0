//! `cargo xtask sim`: repeats one simulated run (`--seed`), or sweeps many (`--seeds`); of a whole node, of three of them (`cluster`), of
//! the metadata quorum alone (`raft`), of the replicas of a partition and their controller (`replication`), of transactions between
//! coordinators and partitions (`transactions`), or of a group coordinator with its members (`groups`).

use crate::steps::{Doing, Trouble};
use crate::workspace;
use clap::{Args, ValueEnum};
use ottla_sim::{replication, transactions};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The replicas of a partition, and the controller that chooses their leader
    Replication,
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
    /// Explores all interleavings at a small scope, up to this many states (raft, replication, transactions)
    #[arg(long, conflicts_with_all = ["seed", "mutations"])]
    states: Option<u64>,
    /// Run this seed alone, and say what happened
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds; by default 1,000, and with --mutations as many as it takes, up to 100,000
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed of a sweep
    #[arg(long, default_value_t = 0)]
    first: u64,
}

impl Options {
    fn seeds(&self) -> u64 {
        self.seeds.unwrap_or(if self.mutations { 100_000 } else { 1_000 })
    }
}

/// Runs the chore.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let is_short = options.seed.is_some() || (options.seeds() <= SHORT && !options.mutations);
    let is_here = !matches!(options.subject, Subject::Raft | Subject::Groups);
    if cfg!(debug_assertions) && is_here && !is_short {
        return optimised();
    }
    match options.subject {
        Subject::Raft => return test_target("ottla-raft", &options),
        Subject::Groups if options.states.is_none() => return test_target("ottla-coordinator", &options),
        Subject::Groups => return Err(Trouble::new("--states is for raft, replication and transactions")),
        Subject::Transactions => return Ok(model(&options, &TRANSACTIONS)),
        Subject::Replication => return Ok(model(&options, &REPLICATION)),
        Subject::Node | Subject::Cluster if options.mutations || options.states.is_some() => {
            let text = "--mutations and --states are not for a node: cargo xtask sim raft, replication, transactions, groups";
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
    let named = if options.subject == Subject::Cluster { "sim cluster" } else { "sim" };
    let (told, broken) = sweep(named, &options, |seed| tell(options.subject, seed));
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let (faults, acknowledged) = (sum(|told| told.faults), sum(|told| told.acknowledged));
    let committed = sum(|told| told.committed);
    println!(
        "sim: {} seeds, {faults} faults, {acknowledged} records acknowledged, {committed} transactions committed, {broken} broken, {:.1} s",
        options.seeds(),
        begun.elapsed().as_secs_f64()
    );
    Ok(broken == 0)
}

/// Runs the seeds on all cores. Returns what became of those that keep their promises, in no order, and how many do not.
fn sweep<T: Send>(
    named: &str,
    options: &Options,
    run: impl Fn(u64) -> Result<T, String> + Sync,
) -> (Vec<T>, usize) {
    let next = AtomicU64::new(options.first);
    let end = options.first + options.seeds();
    let work = || {
        let (mut good, mut broken) = (Vec::new(), 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return (good, broken);
            }
            match caught(|| run(seed)) {
                Ok(told) => good.push(told),
                Err(promise) => {
                    broken += 1;
                    println!("seed {seed}: {promise}\n    repeat: cargo xtask {named} --seed {seed}");
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("panics are caught")).collect()
    });
    let broken = parts.iter().map(|(_, broken)| broken).sum();
    (parts.into_iter().flat_map(|(good, _)| good).collect(), broken)
}

/// An assertion that fails is as good as a broken promise.
fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("");
        Err(format!("an assertion: {text}"))
    })
}

/// Seeds that are run as the tool was built; more are worth a build with optimisation, which runs twenty times as many in the same time.
const SHORT: u64 = 20;

fn optimised() -> Result<bool, Trouble> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(workspace::root()).args(["run", "--quiet", "--release", "--package", "xtask", "--"]);
    Ok(command.args(std::env::args().skip(1)).status().doing("running cargo")?.success())
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

/// What happened in a run, and whether promises were kept.
type Story = (Vec<String>, Result<(), String>);
/// A rule, and the seed that misses it, with what it says.
type Missed = (String, Option<(u64, String)>);

/// A model that is part of the simulator.
struct Model {
    name: &'static str,
    run: fn(u64) -> Result<(), String>,
    tell: fn(u64) -> Story,
    /// Explores every scope up to so many states, and says of each what was seen.
    explore: fn(usize) -> Vec<Result<String, String>>,
    /// Takes away each rule for so many seeds.
    miss: fn(u64) -> Vec<Missed>,
}

const TRANSACTIONS: Model = Model {
    name: "transactions",
    run: transactions::run,
    tell: transactions::tell,
    explore: |states| {
        let explore = |scope| transactions::explore(scope, states, CALM_IN);
        transactions::Scope::ALL.into_iter().map(|scope| said(scope, explore(scope))).collect()
    },
    miss: |most| {
        let missed = |rule| (format!("{rule:?}"), transactions::first_broken(rule, most));
        transactions::rules().into_iter().map(missed).collect()
    },
};

const REPLICATION: Model = Model {
    name: "replication",
    run: replication::run,
    tell: replication::tell,
    explore: |states| {
        let explore = |scope| replication::explore(scope, states);
        replication::Scope::ALL.into_iter().map(|scope| said(scope, explore(scope))).collect()
    },
    miss: |most| {
        let missed = |rule| (format!("{rule:?}"), replication::first_broken(rule, most));
        replication::rules().into_iter().map(missed).collect()
    },
};

fn said(scope: impl Debug, explored: Result<impl Debug, String>) -> Result<String, String> {
    explored
        .map(|explored| format!("{scope:?}: {explored:?}"))
        .map_err(|broken| format!("{scope:?}: {broken}"))
}

/// One state in so many is followed by calm.
const CALM_IN: u64 = 8;

fn model(options: &Options, model: &Model) -> bool {
    let begun = Instant::now();
    let name = model.name;
    let good = match (options.seed, options.states) {
        (Some(seed), _) => {
            let (story, result) = (model.tell)(seed);
            story.iter().for_each(|step| println!("{step}"));
            println!(
                "seed {seed}: {}",
                result.as_ref().err().map_or("keeps its promises", |broken| broken.as_str())
            );
            result.is_ok()
        }
        (None, Some(states)) => {
            let explored = (model.explore)(usize::try_from(states).unwrap_or(usize::MAX));
            explored.iter().for_each(|said| println!("{}", said.as_ref().unwrap_or_else(|broken| broken)));
            explored.iter().all(Result::is_ok)
        }
        (None, None) if options.mutations => miss_rules(model, options.seeds()),
        (None, None) => {
            let (_, broken) = sweep(&format!("sim {name}"), options, model.run);
            println!("{name}: {} seeds, {broken} broken", options.seeds());
            broken == 0
        }
    };
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    good
}

fn miss_rules(model: &Model, most: u64) -> bool {
    // An assertion that fails is what is expected here, and no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let missed = (model.miss)(most);
    std::panic::set_hook(hook);
    for (rule, found) in &missed {
        match found {
            Some((seed, text)) => {
                println!("{rule}: seed {seed}: {}", text.chars().take(100).collect::<String>())
            }
            None => println!("{rule}: NOT MISSED in {most} seeds"),
        }
    }
    let escaped = missed.iter().filter(|(_, found)| found.is_none()).count();
    println!("mutations: {} rules of {}, {escaped} not missed", missed.len(), model.name);
    escaped == 0
}

/// These simulators are test targets of their crates: the one without a harness does the heavy work.
fn test_target(package: &str, options: &Options) -> Result<bool, Trouble> {
    let begun = Instant::now();
    let target = |mode: &[String]| {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(workspace::root()).args(["test", "--quiet", "--release", "--package", package]);
        if options.mutations {
            command.args(["--features", "mutations"]);
        }
        command.args(["--test", "sweep"]).args(mode);
        command
    };
    let one = |mode: &str, number: u64| vec![vec!["--".to_owned(), mode.to_owned(), number.to_string()]];
    let modes = match (options.seed, options.states) {
        (Some(seed), _) => one("seed", seed),
        (None, Some(states)) => one("states", states),
        (None, None) if options.mutations => one("mutations", options.seeds()),
        (None, None) => parts(options.first, options.seeds())
            .map(|(first, count)| {
                vec!["--".to_owned(), "sweep".to_owned(), first.to_string(), count.to_string()]
            })
            .collect(),
    };
    // Built once, before there are several of them.
    let mut good = target(&["--no-run".to_owned()]).status().doing("running cargo")?.success();
    let processes: Result<Vec<_>, _> = modes.iter().map(|mode| target(mode).spawn()).collect();
    for mut process in processes.doing("running cargo")? {
        good &= process.wait().doing("running cargo")?.success();
    }
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    Ok(good)
}

/// The seeds in as many parts as there are cores: the first of each part, and how many.
fn parts(first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let at = move |part: u64| first + count * part / cores;
    (0..cores).map(move |part| (at(part), at(part + 1) - at(part))).filter(|(_, count)| *count > 0)
}
