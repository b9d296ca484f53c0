//! `cargo xtask nemesis --minutes N --seed S`: a cluster of real processes under real clients, while nodes are killed, paused, restarted, cut
//! off, and run out of disk; then the question what became of the promises.
//!
//! The seed fixes the faults (`schedule`), not what the machine makes of them. Two judges look at the end: the journal, a producer of
//! millions of records that remembers where each was acknowledged, and `ottla-checker`, which has the histories of all other clients and
//! the anomalies of Jepsen's Kafka workload.

pub mod cluster;
pub mod load;
mod network;
mod report;
mod schedule;

use crate::players;
use crate::small_disk::SmallDisk;
use crate::steps::{self, Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use cluster::{Cluster, Role};
use load::Load;
use network::Side;
use report::{Happened, Summary};
use rustix::time::{ClockId, clock_gettime};
use schedule::{Fault, Kind, Schedule};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// How long faults come
    #[arg(long, default_value_t = 20.0)]
    pub minutes: f64,
    /// Seed of the faults
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Three controllers and so many brokers; 0: three nodes that are both
    #[arg(long, default_value_t = 0)]
    pub brokers: usize,
    /// Records per second of the journal
    #[arg(long, default_value_t = 8_000)]
    pub rate: u32,
    /// Records per second of the source that copiers and members read
    #[arg(long, default_value_t = 100)]
    pub steady: u32,
    /// Writes the report there as well
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl Options {
    /// As much as a minute has room for.
    pub fn smoke() -> Options {
        Options { minutes: 0.5, seed: 1, binary: None, brokers: 0, rate: 4_000, steady: 100, report: None }
    }
}

/// Kafka's defaults, but for what a cluster of three needs to lose a node without losing anything.
const SETTINGS: &[(&str, &str)] = &[
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("group.consumer.session.timeout.ms", "6000"),
];
/// How long a cluster may take to be whole again after the last fault.
const HEAL_PATIENCE: Duration = Duration::from_secs(120);

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    players::set_up()?;
    let outcome = plague_and_check(&options)?;
    match &outcome {
        Ok(summary) => println!("ok   nemesis: {summary}"),
        Err(reason) => println!("FAIL nemesis: {reason}"),
    }
    Ok(outcome.is_ok())
}

/// The whole run and the verdict; the inner error is a broken promise, the outer one a rig that did not work.
pub fn plague_and_check(options: &Options) -> Result<Result<String, String>, Trouble> {
    let logs = fresh_dir(&workspace::logs("nemesis"))?;
    let home = SmallDisk::fresh_home(&workspace::scratch("nemesis"))?;
    let binary = options.binary.clone().unwrap_or_else(workspace::ottla);
    let roles: Vec<Role> = match options.brokers {
        0 => vec![Role::Both; 3],
        brokers => [vec![Role::Controller; 3], vec![Role::Broker; brokers]].concat(),
    };
    let mut cluster = Cluster::new(binary, &home, &logs, &roles, SETTINGS)?;
    cluster.make_breakable();
    cluster.start_all()?;
    let mut load = Load::start(&cluster.bootstrap(), options.rate, options.steady, &logs)?;
    load.wait_for_begin()?;
    let (has_network, has_disk) = (cluster.network.is_some(), cluster.has_small_disk());
    let is_possible: fn(Kind) -> bool = match (has_network, has_disk) {
        (true, true) => |_| true,
        (true, false) => |kind| kind != Kind::FillDisk,
        (false, true) => |kind| !kind.needs_network(),
        (false, false) => |kind| !kind.needs_network() && kind != Kind::FillDisk,
    };
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(options.minutes * 60.0);
    let mut happened = Vec::new();
    for fault in Schedule::new(options.seed, is_possible) {
        if Instant::now() >= end {
            break;
        }
        let at = now();
        let whom = strike(&mut cluster, fault)?;
        println!(
            "{:>6.1} s  {} ({whom}), {:.1} s",
            begun.elapsed().as_secs_f64(),
            fault.kind.name(),
            fault.lasts.as_secs_f64()
        );
        std::thread::sleep(fault.lasts);
        let died = cluster.has_died();
        cluster.heal()?;
        happened.push(Happened { fault, at });
        std::thread::sleep(fault.rest);
        if let Some(node) = died.or_else(|| cluster.has_died()) {
            cluster.show_end(node);
            return Ok(Err(format!("{} ended by itself", cluster.name(node))));
        }
        load.tend()?;
        if let Some(who) = load.has_ended()? {
            return Ok(Err(format!("{who} gave up; see {}", logs.display())));
        }
    }
    let played = begun.elapsed();
    cluster.heal()?;
    let healed = match cluster.wait_whole(HEAL_PATIENCE)? {
        Ok(took) => took,
        Err(missing) => {
            return Ok(Err(format!(
                "not whole {} s after the last fault: {missing}",
                HEAL_PATIENCE.as_secs()
            )));
        }
    };
    println!("whole again after {:.1} s; {} acknowledged", healed.as_secs_f64(), load.acknowledged()?);
    let outcome = load.finish()?;
    let summary = Summary::new(options, &happened, &outcome, played, healed, (has_network, has_disk));
    if let Some(path) = &options.report {
        std::fs::write(path, summary.page())?;
    }
    steps::say(&format!("{} faults", happened.len()), begun.elapsed());
    Ok(summary.verdict())
}

/// Does it; returns whom it met.
fn strike(cluster: &mut Cluster, fault: Fault) -> Result<String, Trouble> {
    let nodes = cluster.len();
    let whom = fault.whom % nodes;
    // Another one than the first.
    let beside = (whom + 1 + fault.beside % (nodes - 1)) % nodes;
    let others: Vec<usize> = (0..nodes).filter(|node| *node != whom).collect();
    let brokers = cluster.brokers();
    let broker = brokers[fault.whom % brokers.len()];
    let mut cut = |pairs: Vec<(Side, Side)>| {
        let network = cluster.network.as_mut().ok_or_else(|| Trouble::new("there is no network to cut"))?;
        pairs.into_iter().try_for_each(|(from, to)| network.cut(from, to))
    };
    let (node, clients) = (Side::Node, Side::Clients);
    let out = others.iter().map(|other| (node(whom), node(*other)));
    let into = others.iter().map(|other| (node(*other), node(whom)));
    let met = match fault.kind {
        Kind::Isolate => cut(out.chain(into).collect()).map(|()| vec![whom]),
        Kind::Mute => cut(out.collect()).map(|()| vec![whom]),
        Kind::Deafen => cut(into.collect()).map(|()| vec![whom]),
        Kind::Part => {
            cut(vec![(node(whom), node(beside)), (node(beside), node(whom))]).map(|()| vec![whom, beside])
        }
        Kind::HideFromClients => {
            cut(vec![(node(broker), clients), (clients, node(broker))]).map(|()| vec![broker])
        }
        Kind::Kill => cluster.kill(whom).map(|()| vec![whom]),
        Kind::KillTwo => cluster.kill(whom).and_then(|()| cluster.kill(beside)).map(|()| vec![whom, beside]),
        Kind::KillAll => (0..nodes).try_for_each(|node| cluster.kill(node)).map(|()| (0..nodes).collect()),
        Kind::Pause => cluster.pause(whom).map(|()| vec![whom]),
        Kind::Restart => cluster.stop(whom).map(|()| vec![whom]),
        Kind::FillDisk => cluster.fill_disk().map(|()| vec![nodes - 1]),
    }?;
    Ok(met.iter().map(|node| cluster.name(*node)).collect::<Vec<_>>().join(", "))
}

/// CLOCK_MONOTONIC, as the clients write it.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
