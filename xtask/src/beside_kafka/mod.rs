//! `cargo xtask beside-kafka`: brokers of Apache Kafka and of Ottla in one KRaft cluster, with a controller of either.
//!
//! The controller's log begins with a snapshot, so that everybody who joins has to fetch it. Ottla registers, follows and leads beside
//! Kafka, partitions are moved both ways with Kafka's tools, and under the load of `nemesis` (a journal, groups, exactly-once copiers, readers)
//! each node is stopped in order, comes back, is killed, and comes back. At the end nothing acknowledged may be missing, all replicas of a
//! partition must be the same bytes, and Kafka's dump tool must read the same from the metadata log that Ottla kept as from Kafka's.

mod cluster;
mod tools;

use crate::broker::Kind;
use crate::nemesis::load::Load;
use crate::players;
use crate::steps::{self, Doing, Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use cluster::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tools::{Tools, files, leaders};

#[derive(Args)]
pub struct Options {
    /// The controller (default: first Apache Kafka, then Ottla)
    #[arg(long, value_enum)]
    pub controller: Option<Kind>,
    /// How often every node is stopped and killed
    #[arg(long, default_value_t = 2)]
    pub rounds: u32,
    /// Voters are named in the configuration, instead of a quorum that may change (KIP-853)
    #[arg(long)]
    pub fixed_quorum: bool,
    /// Only what a minute has room for: Kafka's broker and its controller are not killed
    #[arg(long)]
    pub brief: bool,
    /// Records per second of the journal
    #[arg(long, default_value_t = 4_000)]
    pub rate: u32,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
}

impl Options {
    /// One round with Kafka's controller: as much as a minute has room for.
    pub fn smoke() -> Options {
        Options {
            controller: Some(Kind::Kafka),
            rounds: 1,
            fixed_quorum: false,
            brief: true,
            rate: 2_000,
            binary: None,
        }
    }
}

/// How long the cluster may take to have all replicas in sync.
const WHOLE_PATIENCE: Duration = Duration::from_secs(60);
/// Records per second that copiers and members read.
const STEADY_RATE: u32 = 100;
/// Records of each topic that is moved.
const RECORDS: usize = 500;
/// Records of metadata that a broker may be behind.
const LAG_MAX: u64 = 5;
/// The broker that is Kafka's, and the two that are Ottla's.
const KAFKA: u16 = 2;
const OTTLA: u16 = 3;
const LATE_OTTLA: u16 = 4;

/// The subcommand.
pub fn run(options: &Options) -> Result<bool, Trouble> {
    players::set_up()?;
    check(options).map(|(_, failed)| failed == 0)
}

/// Passed and failed clusters.
pub fn check(options: &Options) -> Result<(u32, u32), Trouble> {
    let controllers = options.controller.map_or(vec![Kind::Kafka, Kind::Ottla], |kind| vec![kind]);
    let (mut passed, mut failed) = (0, 0);
    for controller in controllers {
        println!("brokers of both kinds, the controller is {}", controller.name());
        match live_together(options, controller) {
            Ok(summary) => {
                println!("  ok   beside-kafka, controller {}: {summary}", controller.name());
                passed += 1;
            }
            Err(trouble) => {
                println!("FAIL beside-kafka, controller {}: {trouble}", controller.name());
                failed += 1;
            }
        }
    }
    Ok((passed, failed))
}

fn live_together(options: &Options, controller: Kind) -> Result<String, Trouble> {
    let logs = fresh_dir(&workspace::logs(&format!("beside-{}", controller.folder())))?;
    let home = fresh_dir(&workspace::scratch("beside-kafka"))?;
    let binary = options.binary.clone().unwrap_or_else(workspace::ottla);
    let begun = Instant::now();
    let kinds = [controller, Kind::Kafka, Kind::Ottla, Kind::Ottla];
    let mut cluster = Cluster::new(binary, &kinds, options.fixed_quorum, &home, &logs)?;
    let mut tools = Tools::start(&home, &logs)?;
    step("four directories are formatted", begun);

    let snapshot = begin_with_snapshot(&mut cluster)?;
    join(&mut cluster, &mut tools, snapshot)?;
    move_both_ways(&mut cluster, &mut tools)?;
    let mut load = Load::start(&cluster.bootstrap(), options.rate, STEADY_RATE, &logs)?;
    load.wait_for_begin()?;
    // The topics of coordinators need three brokers to be created.
    tools.until("topics --list", &cluster.bootstrap(), |text| {
        ["__transaction_state", "__consumer_offsets"].iter().all(|topic| text.contains(topic))
    })?;
    for round in 1..=options.rounds {
        disturb(&mut cluster, &mut tools, &mut load, (round, options.brief))?;
    }
    let summary = judge(load)?;
    compare(&mut cluster, &mut tools)?;
    steps::say("all of it", begun.elapsed());
    Ok(summary)
}

/// Has the controller's log begin with a snapshot: what was before it is gone, as it is after a long life. Returns its end offset.
fn begin_with_snapshot(cluster: &mut Cluster) -> Result<u64, Trouble> {
    let begun = Instant::now();
    cluster.start(1)?;
    let folder = cluster.node(1).metadata();
    let has_snapshot = || -> Result<bool, Trouble> {
        Ok(files(&folder, "checkpoint")?.pop().is_some_and(|path| end_offset(&path) > Some(0)))
    };
    while !has_snapshot()? {
        if begun.elapsed() > WHOLE_PATIENCE {
            return Err(Trouble::new("the controller makes no snapshot"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.node(1).stop()?;
    // A stop may have made another one.
    let newest = files(&folder, "checkpoint")?.pop().ok_or_else(|| Trouble::new("the snapshot is gone"))?;
    for entry in fs::read_dir(&folder).doing("reading the metadata log")? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path != newest && path.is_file() && name != "quorum-state" && name != "partition.metadata" {
            fs::remove_file(&path).doing(format!("removing {}", path.display()))?;
        }
    }
    cluster.start(1)?;
    let offset = end_offset(&newest).ok_or_else(|| Trouble::new("a snapshot without an end offset"))?;
    step(&format!("the controller's log begins with a snapshot at offset {offset}"), begun);
    Ok(offset)
}

/// `<end offset>-<epoch>.checkpoint`
fn end_offset(snapshot: &Path) -> Option<u64> {
    snapshot.file_stem()?.to_str()?.split_once('-')?.0.parse().ok()
}

/// Brokers join, from the snapshot on; Kafka's tools see them as observers, whomever they ask.
fn join(cluster: &mut Cluster, tools: &mut Tools, snapshot: u64) -> Result<(), Trouble> {
    for id in [KAFKA, OTTLA, LATE_OTTLA] {
        let took = cluster.start(id)?;
        let node = cluster.node(id);
        steps::say(&format!("{} joins", node.name()), took);
        let first = files(&node.metadata(), "log")?.into_iter().next();
        let base =
            first.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if base.is_none_or(|base| base < snapshot) {
            return Err(Trouble::new(format!(
                "the metadata log of {} begins at {base:?}, before the snapshot at {snapshot}",
                node.name()
            )));
        }
    }
    let begun = Instant::now();
    let addresses: Vec<String> = cluster.brokers().map(|node| node.address()).collect();
    for address in &addresses {
        follow(tools, address)?;
        let status = tools.ask("metadata-quorum describe --status", address)?;
        if !status.lines().any(|line| line.starts_with("LeaderId:") && line.ends_with(" 1")) {
            return Err(Trouble::new(format!("node 1 does not lead the quorum:\n{status}")));
        }
        tools.ask("features describe", address)?;
        tools.ask("broker-api-versions", address)?;
    }
    step("kafka-metadata-quorum and kafka-features, asked of each broker", begun);
    Ok(())
}

/// Waits until every broker follows the metadata log to its end, or nearly: it grows while it is asked.
fn follow(tools: &mut Tools, address: &str) -> Result<(), Trouble> {
    let line = "metadata-quorum describe --replication";
    tools.until(line, address, |text| {
        let observers = text.lines().filter(|line| line.contains("Observer"));
        let near = observers.filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3)?.parse::<u64>().ok()? <= LAG_MAX).then_some(fields[0])
        });
        near.collect::<BTreeSet<_>>() == BTreeSet::from(["2", "3", "4"])
    })?;
    Ok(())
}

/// One topic begins on Kafka alone, one on Ottla alone; kafka-reassign-partitions moves each to the other side and to both.
fn move_both_ways(cluster: &mut Cluster, tools: &mut Tools) -> Result<(), Trouble> {
    let bootstrap = cluster.bootstrap();
    for (topic, from, to) in [("of-kafka", KAFKA, OTTLA), ("of-ottla", OTTLA, KAFKA)] {
        let begun = Instant::now();
        let settings = "--config min.insync.replicas=1";
        tools.ask(
            &format!("topics --create --topic {topic} --replica-assignment {from} {settings}"),
            &bootstrap,
        )?;
        tools.until(&format!("topics --describe --topic {topic}"), &bootstrap, |text| {
            leaders(text).iter().all(|(_, leader)| *leader == i32::from(from))
        })?;
        tools.produce(topic, RECORDS, &bootstrap)?;
        let both = format!("[{to},{from}]");
        for (place, replicas) in [format!("[{to}]"), both].iter().enumerate() {
            let json = format!(
                "@{{\"version\":1,\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":0,\"replicas\":{replicas}}}]}}"
            );
            // Asked of the one and of the other.
            let asked = cluster.node(if place == 0 { from } else { to }).address();
            tools.ask(&format!("reassign-partitions --execute --reassignment-json-file {json}"), &asked)?;
            let verify = format!("reassign-partitions --verify --reassignment-json-file {json}");
            tools.until(&verify, &asked, |text| text.contains("is completed"))?;
            tools.consume(topic, RECORDS * (place + 1), "", &asked)?;
            tools.produce(topic, RECORDS, &asked)?;
        }
        let group = format!("--group g-{topic}");
        tools.consume(topic, 3 * RECORDS, &group, &bootstrap)?;
        let group = format!("{group}-848 --command-property group.protocol=consumer");
        tools.consume(topic, 3 * RECORDS, &group, &bootstrap)?;
        tools.ask("leader-election --election-type preferred --all-topic-partitions", &bootstrap)?;
        step(&format!("{topic}: written on {from}, moved to {to}, then to both"), begun);
    }
    tools.ask("consumer-groups --describe --all-groups", &bootstrap)?;
    cluster.wait_whole(WHOLE_PATIENCE)?;
    Ok(())
}

/// Under load, brokers of both kinds are stopped in order and killed, and the controller is killed.
fn disturb(
    cluster: &mut Cluster,
    tools: &mut Tools,
    load: &mut Load,
    (round, is_brief): (u32, bool),
) -> Result<(), Trouble> {
    cluster.wait_whole(WHOLE_PATIENCE)?;
    let all = [(OTTLA, true), (KAFKA, true), (OTTLA, false), (KAFKA, false), (1, false)];
    for (id, in_order) in all.into_iter().take(if is_brief { 3 } else { all.len() }) {
        let begun = Instant::now();
        let (bootstrap, acknowledged) = (cluster.bootstrap(), load.acknowledged()?);
        tools.until("topics --describe", &bootstrap, |text| {
            id == 1 || leaders(text).iter().any(|(_, leader)| *leader == i32::from(id))
        })?;
        let node = cluster.node(id);
        let name = node.name();
        let ended = if in_order {
            let took = node.stop()?;
            // It did not go before it led nothing: nobody has to wait until it is missed.
            let described = tools.ask("topics --describe", &cluster.bootstrap())?;
            let left: Vec<_> =
                leaders(&described).into_iter().filter(|(_, leader)| *leader == i32::from(id)).collect();
            if !left.is_empty() {
                return Err(Trouble::new(format!("{name} went in order, and still leads {left:?}")));
            }
            format!("stopped in {:.1} s", took.as_secs_f64())
        } else {
            node.kill()?;
            "killed".to_owned()
        };
        let ready = cluster.start(id)?;
        let whole = cluster.wait_whole(WHOLE_PATIENCE)?;
        tools
            .ask("leader-election --election-type preferred --all-topic-partitions", &cluster.bootstrap())?;
        follow(tools, &cluster.bootstrap())?;
        load.tend()?;
        if let Some(who) = load.has_ended()? {
            return Err(Trouble::new(format!("{who} gave up")));
        }
        let more = load.acknowledged()?.saturating_sub(acknowledged);
        let (ready, whole) = (ready.as_secs_f64(), whole.as_secs_f64());
        step(
            &format!("{round}: {name} {ended}, ready {ready:.1} s, in sync {whole:.1} s; {more} acked"),
            begun,
        );
    }
    Ok(())
}

/// The load comes to its end, everything is read again, and the judges speak.
fn judge(load: Load) -> Result<String, Trouble> {
    let begun = Instant::now();
    let outcome = load.finish()?;
    step("the load ends, everything is read again", begun);
    if !outcome.report.is_good() || !outcome.complaints.is_empty() {
        return Err(Trouble::new(format!("{}; {:?}", outcome.report, outcome.complaints)));
    }
    let longest = outcome.waits.iter().map(|(_, took)| *took).max().unwrap_or_default();
    Ok(format!(
        "{}; journal {}, longest wait {:.1} s; copiers replaced {}",
        outcome.report,
        outcome.journal,
        longest.as_secs_f64(),
        outcome.replaced.len()
    ))
}

/// All nodes stop; what they keep is the same.
fn compare(cluster: &mut Cluster, tools: &mut Tools) -> Result<(), Trouble> {
    let begun = Instant::now();
    cluster.wait_whole(WHOLE_PATIENCE)?;
    for id in [LATE_OTTLA, OTTLA, KAFKA, 1] {
        cluster.node(id).stop()?;
    }
    step("all nodes stop in order", begun);
    let begun = Instant::now();
    let mut replicas: BTreeMap<String, Vec<(u16, Vec<u8>)>> = BTreeMap::new();
    for node in &cluster.nodes[1..] {
        for entry in fs::read_dir(node.data()).doing("reading a log directory")? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_partition =
                path.is_dir() && name.rsplit('-').next().is_some_and(|it| it.parse::<u32>().is_ok());
            if is_partition && !name.starts_with("__cluster_metadata") {
                let segments = files(&path, "log")?;
                let bytes = segments.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?.concat();
                replicas.entry(name).or_default().push((node.id, bytes));
            }
        }
    }
    for (partition, copies) in &replicas {
        // What a coordinator tidies up when the others are gone already is on the last one alone.
        let is_internal = partition.starts_with("__");
        let longest = copies.iter().max_by_key(|(_, bytes)| bytes.len()).map(|(_, bytes)| bytes.as_slice());
        for (id, bytes) in copies {
            let longest = longest.unwrap_or_default();
            if !longest.starts_with(bytes) || (!is_internal && longest.len() != bytes.len()) {
                return Err(Trouble::new(format!(
                    "{partition} on node {id} ({} bytes) is not what others have ({} bytes)",
                    bytes.len(),
                    longest.len()
                )));
            }
        }
    }
    let shared = replicas.values().filter(|copies| copies.len() > 1).count();
    step(&format!("{shared} partitions are the same bytes on both kinds"), begun);
    compare_metadata(cluster, tools)
}

/// kafka-dump-log reads the same records from every metadata log, and every snapshot.
fn compare_metadata(cluster: &mut Cluster, tools: &mut Tools) -> Result<(), Trouble> {
    let begun = Instant::now();
    let of_controller = tools.dump_metadata(&files(&cluster.node(1).metadata(), "log")?)?;
    for id in [OTTLA, LATE_OTTLA] {
        let folder = cluster.node(id).metadata();
        let own = tools.dump_metadata(&files(&folder, "log")?)?;
        let snapshot = files(&folder, "checkpoint")?.pop();
        let snapshot = snapshot.ok_or_else(|| Trouble::new(format!("node {id} keeps no snapshot")))?;
        if tools.dump_metadata(&[snapshot])?.is_empty() {
            return Err(Trouble::new(format!("the snapshot of node {id} is empty")));
        }
        let both: Vec<_> = own.iter().filter(|(offset, _)| of_controller.contains_key(offset)).collect();
        if both.is_empty() {
            return Err(Trouble::new(format!("node {id} and the controller have no offset in common")));
        }
        if let Some((offset, record)) =
            both.iter().find(|(offset, record)| of_controller[*offset] != **record)
        {
            return Err(Trouble::new(format!(
                "offset {offset} of the metadata is {record} on node {id}, {} on the controller",
                of_controller[*offset]
            )));
        }
        step(
            &format!("kafka-dump-log: node {id} kept {} records of metadata as they are", both.len()),
            begun,
        );
    }
    Ok(())
}

fn step(name: &str, begun: Instant) {
    steps::say(name, begun.elapsed());
}
