//! The sides of a pair as processes, each with its best settings, and where they may run.
//!
//! The tricky idea: a JVM sizes itself by the processors that it sees when it starts, so both are started on all of them, and are
//! moved (every thread of theirs) right before a run.

use super::scenario::{Durability, Placement};
use crate::broker::{Broker, Kind};
use crate::steps::{Doing, Trouble, run_logged};
use crate::workspace;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What Kafka's own start script gives the JVM, with a larger heap that is touched at the start.
const JVM_FOR_LOAD: &[&str] = &[
    "-Xms2g",
    "-Xmx2g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:+AlwaysPreTouch",
    "-Djava.awt.headless=true",
];
/// What Kafka's own start script gives the JVM.
pub const JVM_AS_SHIPPED: &[&str] = &[
    "-Xms1G",
    "-Xmx1G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
/// Deleted files go at once in both, so that memory and disk are free for the next run.
const DELETE_NOW: (&str, &str) = ("log.segment.delete.delay.ms", "0");
/// A run that takes longer than this hangs.
const RUN_PATIENCE: Duration = Duration::from_secs(900);

/// One broker under load.
pub struct Peer {
    kind: Kind,
    pub broker: Broker,
    logs: PathBuf,
    topic_config: Vec<&'static str>,
    runs: u32,
}

impl Peer {
    /// A stopped one. `for_load`: with a large, warm heap instead of what is shipped.
    pub fn new(
        kind: Kind,
        durability: Durability,
        for_load: bool,
        home: &Path,
        logs: &Path,
    ) -> Result<Peer, Trouble> {
        let mut broker = Broker::new(kind, None, &home.join(kind.folder()), &logs.join(kind.folder()))?;
        broker.set(&[DELETE_NOW]);
        let mut topic_config = vec!["file.delete.delay.ms=0", "retention.ms=-1"];
        match (kind, durability) {
            (Kind::Ottla, Durability::PageCache) => broker.set(&[("ottla.durability", "replicated")]),
            (Kind::Ottla, Durability::Flushed) => broker.set(&[("ottla.durability", "flushed")]),
            (Kind::Kafka, Durability::PageCache) | (Kind::Tansu, _) => {}
            (Kind::Kafka, Durability::Flushed) => topic_config.push("flush.messages=1"),
        }
        broker.set_jvm(if for_load { JVM_FOR_LOAD } else { JVM_AS_SHIPPED });
        Ok(Peer { kind, broker, logs: logs.join(kind.folder()), topic_config, runs: 0 })
    }

    /// Creates a topic that no run has used.
    pub fn create_topic(&mut self, partitions: u32) -> Result<String, Trouble> {
        self.runs += 1;
        let topic = format!("bench-{}", self.runs);
        let mut arguments = vec!["--partitions".to_owned(), partitions.to_string()];
        for pair in &self.topic_config {
            arguments.extend(["--config".to_owned(), (*pair).to_owned()]);
        }
        self.generate("create", &topic, &arguments)?;
        Ok(topic)
    }

    /// Deletes it.
    pub fn delete_topic(&mut self, topic: &str) -> Result<(), Trouble> {
        self.generate("delete", topic, &[]).map(drop)
    }

    /// Runs the load generator against this broker and returns what it reported.
    pub fn load(
        &mut self,
        verb: &str,
        topic: &str,
        arguments: &str,
        cpu: Option<usize>,
    ) -> Result<Value, Trouble> {
        let mut all: Vec<String> = arguments.split_whitespace().map(String::from).collect();
        all.extend(["--pid".to_owned(), self.broker.pid()?.to_string()]);
        if let Some(cpu) = cpu {
            all.extend(["--cpu".to_owned(), cpu.to_string()]);
        }
        let text = self.generate(verb, topic, &all)?;
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .map_err(|error| Trouble::new(format!("ottla-bench {verb}: {error}: {last}")))
    }

    fn generate(&mut self, verb: &str, topic: &str, arguments: &[String]) -> Result<String, Trouble> {
        let mut command = self.generator(verb, topic);
        command.args(arguments);
        self.run(&mut command, verb)
    }

    /// The load generator, aimed at this broker.
    pub fn generator(&self, verb: &str, topic: &str) -> Command {
        let mut command = Command::new(workspace::load_generator());
        command.args([verb, "--bootstrap", &self.broker.bootstrap(), "--topic", topic]);
        if self.kind == Kind::Tansu && matches!(verb, "produce" | "end-to-end") {
            // The newest that it knows.
            command.args(["--produce-version", "11"]);
        }
        command
    }

    /// Runs a program to its end and returns what it printed.
    pub fn run(&mut self, command: &mut Command, name: &str) -> Result<String, Trouble> {
        let log = self.logs.join(format!("{name}.log"));
        let ended = run_logged(command, &log, RUN_PATIENCE)?;
        let text = fs::read_to_string(&log).doing(format!("reading {}", log.display()))?;
        if ended.success() {
            return Ok(text);
        }
        let end = text.lines().last().unwrap_or_default();
        Err(Trouble::new(format!("{name} against {}: {ended}: {end}", self.broker.name())))
    }

    /// Puts every thread of the broker where the scenario wants it; returns the CPU of the load, if it is to have one of its own.
    pub fn place(&self, placement: Placement) -> Result<Option<usize>, Trouble> {
        let all = sched_getaffinity(None).map_err(Trouble::new)?;
        let mut mine = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu));
        let (set, load) = match (placement, mine.next(), mine.next()) {
            (Placement::Apart, Some(first), Some(second)) => {
                let mut set = CpuSet::new();
                set.set(second);
                (set, Some(first))
            }
            _ => (all, None),
        };
        for task in fs::read_dir(format!("/proc/{}/task", self.broker.pid()?))? {
            let name = task?.file_name();
            let task = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            // A thread may have ended since it was listed.
            if let Some(task) = task {
                let _ = sched_setaffinity(Some(task), &set);
            }
        }
        Ok(load)
    }
}
