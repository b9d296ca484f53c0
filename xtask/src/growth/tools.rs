//! Kafka's own command-line tools, each a process, as an operator runs them.

use crate::broker::java;
use crate::steps::{Doing, Trouble, run_logged};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A tool that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a reassignment may take.
const MOVE_PATIENCE: Duration = Duration::from_secs(240);

/// Replicas of each partition of some topics, the preferred leader first.
pub type Plan = BTreeMap<(String, i32), Vec<i32>>;

/// How a reassignment went.
pub struct Moved {
    pub partitions: usize,
    pub took: Duration,
    /// When the tool was asked, and how many partitions it called completed.
    pub progress: Vec<(Duration, usize)>,
}

/// The tools, aimed at a cluster.
pub struct Tools {
    bootstrap: String,
    logs: PathBuf,
    runs: u32,
}

impl Tools {
    /// For the cluster whose nodes are reached there.
    pub fn new(bootstrap: String, logs: &Path) -> Tools {
        Tools { bootstrap, logs: logs.into(), runs: 0 }
    }

    /// Runs one to its end; what it printed, or why it failed.
    pub fn run(&mut self, class: &str, arguments: &[&str]) -> Result<String, Trouble> {
        self.runs += 1;
        let name = class.rsplit('.').next().unwrap_or(class);
        let log = self.logs.join(format!("tool-{:03}-{name}.log", self.runs));
        let mut command = java("tools");
        command.arg(class).args(["--bootstrap-server", &self.bootstrap]).args(arguments);
        let ended = run_logged(&mut command, &log, PATIENCE)?;
        let text = fs::read_to_string(&log).doing(format!("reading {}", log.display()))?;
        if ended.success() {
            return Ok(text);
        }
        Err(Trouble::new(format!("{name} {}: {ended}: {}", arguments.join(" "), text.trim_end())))
    }

    /// Creates a topic.
    pub fn create(&mut self, topic: &str, partitions: i32) -> Result<(), Trouble> {
        let (partitions, factor) = (partitions.to_string(), "1");
        let arguments = ["--create", "--topic", topic, "--partitions", &partitions];
        self.run(
            "org.apache.kafka.tools.TopicCommand",
            &[&arguments[..], &["--replication-factor", factor]].concat(),
        )
        .map(drop)
    }

    /// Moves partitions (`kafka-reassign-partitions --execute`, then `--verify` until it says that all are done).
    pub fn reassign(&mut self, plan: &Plan) -> Result<Moved, Trouble> {
        let class = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
        let file = self.logs.join(format!("plan-{:03}.json", self.runs));
        fs::write(&file, json(plan)).doing(format!("writing {}", file.display()))?;
        let file = file.display().to_string();
        let begun = Instant::now();
        self.run(class, &["--execute", "--reassignment-json-file", &file])?;
        let mut progress = Vec::new();
        loop {
            let text = self.run(class, &["--verify", "--reassignment-json-file", &file])?;
            let count = |end: &str| {
                text.lines()
                    .filter(|line| line.starts_with("Reassignment of ") && line.ends_with(end))
                    .count()
            };
            let (completed, running) = (count(" is completed."), count(" is still in progress."));
            progress.push((begun.elapsed(), completed));
            println!(
                "{:>8.1} s  {completed} of {} partitions moved",
                begun.elapsed().as_secs_f64(),
                plan.len()
            );
            if completed == plan.len() {
                return Ok(Moved { partitions: plan.len(), took: begun.elapsed(), progress });
            }
            if completed + running != plan.len() {
                return Err(Trouble::new(format!("a reassignment failed: {text}")));
            }
            if begun.elapsed() > MOVE_PATIENCE {
                return Err(Trouble::new(format!("{running} partitions are still moved: {text}")));
            }
        }
    }

    /// Lets preferred leaders lead (`kafka-leader-election`).
    pub fn elect_preferred(&mut self) -> Result<(), Trouble> {
        let arguments = ["--election-type", "preferred", "--all-topic-partitions"];
        self.run("org.apache.kafka.tools.LeaderElectionCommand", &arguments).map(drop)
    }

    /// Forgets a broker (`kafka-cluster unregister`).
    pub fn unregister(&mut self, id: i32) -> Result<(), Trouble> {
        self.cluster(&["unregister", "--id", &id.to_string()]).map(drop)
    }

    /// What `kafka-cluster list-endpoints` prints.
    pub fn endpoints(&mut self) -> Result<String, Trouble> {
        self.cluster(&["list-endpoints", "--include-fenced-brokers"])
    }

    /// This tool wants its verb before the address.
    fn cluster(&mut self, arguments: &[&str]) -> Result<String, Trouble> {
        self.runs += 1;
        let log = self.logs.join(format!("tool-{:03}-ClusterTool.log", self.runs));
        let mut command = java("tools");
        command.arg("org.apache.kafka.tools.ClusterTool").args(&arguments[..1]);
        command.args(["--bootstrap-server", &self.bootstrap]).args(&arguments[1..]);
        let ended = run_logged(&mut command, &log, PATIENCE)?;
        let text = fs::read_to_string(&log).doing(format!("reading {}", log.display()))?;
        match ended.success() {
            true => Ok(text),
            false => Err(Trouble::new(format!("kafka-cluster {}: {ended}: {text}", arguments.join(" ")))),
        }
    }

    /// How many records a topic was ever given.
    pub fn end(&mut self, topic: &str) -> Result<u64, Trouble> {
        let text = self.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", topic])?;
        let ends = text.lines().filter(|line| line.starts_with(topic));
        let end = |line: &str| line.rsplit(':').next().and_then(|end| end.parse::<u64>().ok());
        ends.map(end)
            .sum::<Option<u64>>()
            .ok_or_else(|| Trouble::new(format!("ends of {topic} can not be read: {text}")))
    }

    /// Records per second of Kafka's producer (`kafka-producer-perf-test`, acks=all, idempotent). The inner error: what a client was told.
    pub fn throughput(&mut self, topic: &str, records: u64) -> Result<Result<f64, String>, Trouble> {
        self.runs += 1;
        let log = self.logs.join(format!("tool-{:03}-perf.log", self.runs));
        let mut command = java("tools");
        command.arg("org.apache.kafka.tools.ProducerPerformance");
        command.args(["--topic", topic, "--num-records", &records.to_string(), "--throughput", "-1"]);
        command.args(["--record-size", RECORD_BYTES, "--producer-props", "acks=all"]);
        command.args(["linger.ms=0", "batch.size=4096", "enable.idempotence=true"]);
        command.arg(format!("bootstrap.servers={}", self.bootstrap));
        let ended = run_logged(&mut command, &log, PATIENCE)?;
        let text = fs::read_to_string(&log).doing(format!("reading {}", log.display()))?;
        let told = text.lines().find(|line| line.contains("Exception"));
        let rate = text.lines().rev().find(|line| line.contains("records/sec"));
        let rate = rate.and_then(|line| line.split("records sent, ").nth(1)?.split(' ').next());
        let rate = rate.and_then(|rate| rate.replace(',', ".").parse().ok());
        Ok(match (ended.success(), told, rate) {
            (true, None, Some(rate)) => Ok(rate),
            (_, told, _) => {
                Err(format!("kafka-producer-perf-test: {ended}: {}", told.unwrap_or(text.trim_end())))
            }
        })
    }
}

/// Bytes of a record whose throughput is measured.
pub const RECORD_BYTES: &str = "1000";

/// The file that `kafka-reassign-partitions` reads.
fn json(plan: &Plan) -> String {
    let rows = plan.iter().map(|((topic, partition), replicas)| {
        format!(r#"{{"topic":"{topic}","partition":{partition},"replicas":{replicas:?}}}"#)
    });
    format!(r#"{{"version":1,"partitions":[{}]}}"#, rows.collect::<Vec<_>>().join(","))
}

/// `factor` replicas of every partition on these nodes, round and round, so that all lead and keep about as many.
pub fn spread(topics: &[(&str, i32)], nodes: &[i32], factor: usize) -> Plan {
    assert!(factor <= nodes.len(), "more replicas than nodes");
    let mut plan = Plan::new();
    for (topic, count) in topics {
        for partition in 0..*count {
            let first = partition as usize;
            let replicas = (0..factor).map(|at| nodes[(first + at) % nodes.len()]).collect();
            plan.insert(((*topic).to_owned(), partition), replicas);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_spread_evenly_and_written_as_the_tool_reads_them() {
        let plan = spread(&[("a", 4)], &[1, 3, 5], 2);
        let replicas: Vec<&[i32]> = plan.values().map(Vec::as_slice).collect();
        assert_eq!(replicas, [&[1, 3], &[3, 5], &[5, 1], &[1, 3]]);
        let json = json(&spread(&[("a", 1)], &[2], 1));
        assert_eq!(json, r#"{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[2]}]}"#);
    }
}
