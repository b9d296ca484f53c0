//! `cargo xtask growth`: one node becomes three and then five while unchanged Java clients write and read; then every node is restarted,
//! one is removed, and one gets a new disk. Last, ten thousand partitions on three nodes (`many`).
//!
//! Everything is done as an operator does it: nodes are formatted and started, Kafka's own tools move partitions. What may not happen is
//! told by the clients' diaries (`load`): an error that reaches a program, a record that is lost, or there twice.

mod load;
mod many;
mod ration;
mod report;
mod tools;

use crate::nemesis::cluster::{Cluster, Role};
use crate::players;
use crate::steps::{Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use load::{Player, judge};
use ration::Ration;
use report::{Page, Rate};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tools::{Tools, spread};

#[derive(Args)]
pub struct Options {
    /// Partitions that are moved
    #[arg(long, default_value_t = 100)]
    pub partitions: i32,
    /// Records per second that are written all the time
    #[arg(long, default_value_t = 1_000)]
    pub rate: u32,
    /// Part of a processor that each node has while throughput is measured
    #[arg(long, default_value_t = 0.05)]
    pub share: f64,
    /// Partitions of replication factor 3 that are created on three nodes at the end; 0 leaves this out
    #[arg(long, default_value_t = 10_000)]
    pub many: i32,
    /// Only that
    #[arg(long)]
    pub only_many: bool,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Writes the report there as well
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// As much as half a minute has room for: three nodes, no throughput
    #[arg(long)]
    pub short: bool,
}

impl Options {
    /// The short run.
    pub fn smoke() -> Options {
        Options {
            partitions: 20,
            rate: 500,
            share: 0.05,
            many: 0,
            only_many: false,
            binary: None,
            report: None,
            short: true,
        }
    }
}

/// Kafka's defaults, but for what a cluster that begins with one node and loses one later needs.
const SETTINGS: &[(&str, &str)] = &[
    ("min.insync.replicas", "2"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
];
/// Three nodes that are both, and two that are brokers.
const ROLES: [Role; 5] = [Role::Both, Role::Both, Role::Both, Role::Broker, Role::Broker];
/// What is written and read all the time.
const ORDERS: &str = "orders";
/// What throughput is measured on.
const PARCELS: &str = "parcels";
const PARCELS_PARTITIONS: i32 = 30;
const OFFSETS: (&str, i32) = ("__consumer_offsets", 4);
/// How long a cluster may take to be whole again.
const WHOLE_PATIENCE: Duration = Duration::from_secs(120);
/// How long clients may take to get on.
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// How long throughput is measured.
const MEASURED: Duration = Duration::from_secs(8);
const FIRST_RECORDS: u64 = 10_000;

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    players::set_up()?;
    let outcome = grow_and_check(&options)?;
    match &outcome {
        Ok(summary) => println!("ok   growth: {summary}"),
        Err(reason) => println!("FAIL growth: {reason}"),
    }
    Ok(outcome.is_ok())
}

/// The whole run and the verdict; the inner error is a broken promise, the outer one a rig that did not work.
pub fn grow_and_check(options: &Options) -> Result<Result<String, String>, Trouble> {
    let logs = fresh_dir(&workspace::logs("growth"))?;
    let home = fresh_dir(&workspace::scratch("growth"))?;
    let mut page = Page::new(options.rate, options.share);
    if !options.only_many {
        Growth::begin(options, &home, &logs, &mut page)?.play(options)?;
    }
    if options.many > 0 {
        let binary = options.binary.clone().unwrap_or_else(workspace::ottla);
        page.many = Some(many::measure(binary, options.many, &home.join("many"), &logs)?);
    }
    fs::remove_dir_all(&home)?;
    if let Some(path) = &options.report {
        fs::write(path, page.text())?;
    }
    Ok(page.verdict())
}

/// A cluster, what runs against it, and what is known so far.
struct Growth<'a> {
    cluster: Cluster,
    tools: Tools,
    logs: &'a Path,
    producer: Player,
    consumer: Player,
    /// Topics that are moved, with their partitions.
    topics: Vec<(&'static str, i32)>,
    page: &'a mut Page,
}

impl<'a> Growth<'a> {
    /// One node, and clients that write and read.
    fn begin(
        options: &Options,
        home: &Path,
        logs: &'a Path,
        page: &'a mut Page,
    ) -> Result<Growth<'a>, Trouble> {
        let binary = options.binary.clone().unwrap_or_else(workspace::ottla);
        let roles = if options.short { &ROLES[..3] } else { &ROLES[..] };
        let mut cluster = Cluster::new(binary, home, logs, roles, SETTINGS)?;
        cluster.let_quorum_grow();
        add(&mut cluster, 0)?;
        let mut tools = Tools::new(cluster.client_address(0), logs);
        tools.create(ORDERS, options.partitions)?;
        let mut topics = vec![(ORDERS, options.partitions), OFFSETS];
        if !options.short {
            tools.create(PARCELS, PARCELS_PARTITIONS)?;
            topics.push((PARCELS, PARCELS_PARTITIONS));
        }
        let bootstrap = cluster.bootstrap();
        let producer = Player::producer(&bootstrap, ORDERS, options.rate, logs)?;
        let consumer = Player::consumer(&bootstrap, ORDERS, "group", logs)?;
        let mut growth = Growth { cluster, tools, logs, producer, consumer, topics, page };
        growth.get_on("1 node serves")?;
        Ok(growth)
    }

    fn play(mut self, options: &Options) -> Result<(), Trouble> {
        self.measure(options, 1, 1)?;
        let started = Instant::now();
        (1..3).try_for_each(|node| add(&mut self.cluster, node))?;
        self.wait_voters(3)?;
        self.page.step("nodes 2 and 3 join, as brokers and as voters of the quorum", started.elapsed());
        if !options.short {
            self.spread(&[1, 2, 3], 1)?;
            self.measure(options, 3, 1)?;
        }
        self.spread(&[1, 2, 3], 3)?;
        self.measure(options, 3, 3)?;
        if !options.short {
            let started = Instant::now();
            (3..5).try_for_each(|node| add(&mut self.cluster, node))?;
            self.page.step("nodes 4 and 5 join, as brokers", started.elapsed());
            self.spread(&[1, 2, 3, 4, 5], 3)?;
            self.measure(options, 5, 3)?;
            self.spread_parcels(&[1, 2, 3, 4, 5], 1)?;
            self.measure(options, 5, 1)?;
            self.spread_parcels(&[1, 2, 3, 4, 5], 3)?;
        }
        (0..self.cluster.len()).try_for_each(|node| self.restart(node))?;
        self.tools.elect_preferred()?;
        if !options.short {
            self.remove(4)?;
        }
        self.replace_disk(self.cluster.len() - if options.short { 1 } else { 2 })?;
        self.finish()
    }

    /// Waits until both clients have got on since now.
    fn get_on(&mut self, what: &str) -> Result<(), Trouble> {
        let begun = Instant::now();
        let before = (self.producer.written()?, self.consumer.written()?);
        while self.producer.written()? <= before.0 || self.consumer.written()? <= before.1 {
            if self.producer.has_ended()? || self.consumer.has_ended()? {
                return Err(Trouble::new(format!(
                    "{what}, and a client ended; logs: {}",
                    self.logs.display()
                )));
            }
            if begun.elapsed() > CLIENT_PATIENCE {
                return Err(Trouble::new(format!("{what}, and clients do not get on")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        println!("{what}; clients get on");
        Ok(())
    }

    /// Waits until so many controllers vote.
    fn wait_voters(&mut self, count: usize) -> Result<(), Trouble> {
        let begun = Instant::now();
        loop {
            let text =
                self.tools.run("org.apache.kafka.tools.MetadataQuorumCommand", &["describe", "--status"])?;
            let voters = text.lines().find(|line| line.starts_with("CurrentVoters:")).unwrap_or_default();
            if voters.matches("\"id\"").count() == count {
                return Ok(());
            }
            if begun.elapsed() > WHOLE_PATIENCE {
                return Err(Trouble::new(format!("there are not {count} voters: {text}")));
            }
        }
    }

    fn wait_whole(&mut self, what: &str) -> Result<(), Trouble> {
        self.cluster
            .wait_whole(WHOLE_PATIENCE)?
            .map_err(|missing| Trouble::new(format!("{what}, and the cluster is not whole: {missing}")))?;
        self.get_on(what)
    }

    /// Moves everything to these nodes.
    fn spread(&mut self, nodes: &[i32], factor: usize) -> Result<(), Trouble> {
        let topics = self.topics.clone();
        self.spread_topics(&topics, nodes, factor)
    }

    fn spread_parcels(&mut self, nodes: &[i32], factor: usize) -> Result<(), Trouble> {
        self.spread_topics(&[(PARCELS, PARCELS_PARTITIONS)], nodes, factor)
    }

    fn spread_topics(&mut self, topics: &[(&str, i32)], nodes: &[i32], factor: usize) -> Result<(), Trouble> {
        let names: Vec<&str> = topics.iter().map(|(topic, _)| *topic).collect();
        let what = format!("{} on nodes {nodes:?}, {factor} replicas each", names.join(", "));
        let moved = self.tools.reassign(&spread(topics, nodes, factor))?;
        self.tools.elect_preferred()?;
        self.page.moved(&what, moved);
        self.wait_whole(&what)
    }

    /// The throughput of the nodes that there are.
    fn measure(&mut self, options: &Options, nodes: usize, replicas: usize) -> Result<(), Trouble> {
        if options.short {
            return Ok(());
        }
        let pids = (0..nodes).map(|node| self.cluster.pid(node)).collect::<Result<Vec<u32>, Trouble>>()?;
        let Some(ration) = Ration::new(&pids, options.share) else { return Ok(()) };
        let rate = match self.tools.throughput(PARCELS, FIRST_RECORDS)? {
            Ok(rate) => self.tools.throughput(PARCELS, (rate * MEASURED.as_secs_f64()) as u64)?,
            failed => failed,
        };
        drop(ration);
        match rate {
            Ok(records_per_s) => {
                println!("{nodes} nodes, {replicas} replicas: {records_per_s:.0} records/s");
                self.page.rates.push(Rate { nodes, replicas, records_per_s });
            }
            Err(told) => {
                self.page.wrong.push(format!("while throughput of {nodes} nodes was measured: {told}"))
            }
        }
        Ok(())
    }

    /// SIGTERM and start.
    fn restart(&mut self, node: usize) -> Result<(), Trouble> {
        let begun = Instant::now();
        self.cluster.stop(node)?;
        self.cluster.start(node)?;
        self.cluster.wait_ready(node)?;
        let what = format!("node {} restarted", node + 1);
        self.wait_whole(&what)?;
        self.page.step(&what, begun.elapsed());
        Ok(())
    }

    /// Moves everything off the last node, and forgets it.
    fn remove(&mut self, node: usize) -> Result<(), Trouble> {
        assert_eq!(node + 1, self.cluster.len(), "the others keep their places");
        let rest: Vec<i32> = (1..=node as i32).collect();
        self.spread(&rest, 3)?;
        let begun = Instant::now();
        let id = node as i32 + 1;
        self.cluster.stop(node)?;
        self.tools.unregister(id)?;
        let listed = self.tools.endpoints()?;
        if listed.lines().any(|line| line.split_whitespace().next() == Some(&id.to_string())) {
            self.page.wrong.push(format!("node {id} is listed after it was unregistered: {listed}"));
        }
        let what = format!("node {id} stopped and unregistered");
        self.wait_whole(&what)?;
        self.page.step(&what, begun.elapsed());
        Ok(())
    }

    /// kill -9, an empty disk, the same node id.
    fn replace_disk(&mut self, node: usize) -> Result<(), Trouble> {
        let begun = Instant::now();
        let dir = self.cluster.log_dir(node);
        let (id, logs) = (directory_id(&dir)?, logs_with_records(&dir)?);
        self.cluster.kill(node)?;
        fs::remove_dir_all(&dir)?;
        add(&mut self.cluster, node)?;
        let what = format!("node {} began again with an empty disk", node + 1);
        self.wait_whole(&what)?;
        let (new_id, new_logs) = (directory_id(&dir)?, logs_with_records(&dir)?);
        if new_id == id {
            self.page.wrong.push(format!("the new disk of node {} has the id of the old one", node + 1));
        }
        if let Some(log) = logs.difference(&new_logs).next() {
            self.page.wrong.push(format!("the new disk lacks {log}, although all are in sync"));
        }
        self.page
            .step(&format!("{what}: {} replicas with records filled again", new_logs.len()), begun.elapsed());
        Ok(())
    }

    /// Ends the clients, reads everything, and compares.
    fn finish(mut self) -> Result<(), Trouble> {
        self.producer.finish()?;
        let records = self.tools.end(ORDERS)?;
        let mut reader = Player::reader(&self.cluster.bootstrap(), ORDERS, records, self.logs)?;
        reader.wait()?;
        let produced = self.producer.diary()?;
        let begun = Instant::now();
        let consumed = loop {
            let consumed = self.consumer.diary()?;
            if consumed.records.len() as u64 >= records || begun.elapsed() > CLIENT_PATIENCE {
                break consumed;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        self.consumer.finish()?;
        self.page.wrong.extend(judge(&produced, &consumed, &reader.diary()?));
        self.page.hidden = self.producer.warnings()? + self.consumer.warnings()?;
        self.page.clients(&produced, &consumed);
        Ok(())
    }
}

/// Formats the disk of a node and starts it.
fn add(cluster: &mut Cluster, node: usize) -> Result<(), Trouble> {
    cluster.format(node)?;
    cluster.start(node)?;
    cluster.wait_ready(node)
}

/// `directory.id` of a log directory.
fn directory_id(dir: &Path) -> Result<String, Trouble> {
    let text = fs::read_to_string(dir.join("meta.properties"))?;
    let id = text.lines().find_map(|line| line.strip_prefix("directory.id="));
    id.map(String::from).ok_or_else(|| Trouble::new("a log directory without an id"))
}

/// The partitions that have records in a log directory: an empty one may have no files.
fn logs_with_records(dir: &Path) -> Result<BTreeSet<String>, Trouble> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_own = |topic: &str| name.strip_prefix(topic).is_some_and(|rest| rest.starts_with('-'));
        if name.ends_with("-delete") || ![ORDERS, PARCELS, OFFSETS.0].into_iter().any(is_own) {
            continue;
        }
        for file in fs::read_dir(entry.path())? {
            let file = file?;
            if file.path().extension().is_some_and(|extension| extension == "log")
                && file.metadata()?.len() > 0
            {
                found.insert(name.clone());
            }
        }
    }
    Ok(found)
}
