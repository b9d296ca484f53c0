//! `cargo xtask exchange`: one data directory goes from Apache Kafka to Ottla and back.
//!
//! Kafka formats it (with its default features, and once more with a quorum that can change; a third time Ottla does that) and writes
//! records and a group's offsets; Ottla opens it in place, reads everything, goes on writing and leaves snapshots of the metadata; Kafka's dump tool reads those, and
//! Kafka itself starts on the directory again and finds what both wrote.

use crate::broker::{Broker, Kind, java};
use crate::clients::setup;
use crate::clients::suites::Tally;
use crate::steps::{self, Trouble, fresh_dir};
use crate::workspace;
use std::fs;
use std::path::Path;
use std::time::Duration;

const TOPIC: &str = "exchanged";
/// Records that each of the two brokers writes.
const RECORDS: usize = 500;
/// How many of them the group reads while Kafka runs.
const READ_BY_GROUP: usize = 200;

/// The subcommand: both kinds of quorum.
pub fn run() -> Result<bool, Trouble> {
    setup::all()?;
    check().map(|(_, failed)| failed == 0)
}

/// Passed and failed exchanges.
pub fn check() -> Result<(u32, u32), Trouble> {
    let mut tally = Tally::default();
    for start in [Start::FixedQuorum, Start::Quorum, Start::QuorumByOttla] {
        let name = format!("a data directory with {}, from Kafka to Ottla and back", start.name());
        tally.count(&name, exchange(start)?);
    }
    Ok((tally.passed, tally.failed))
}

/// How the directory was formatted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    FixedQuorum,
    Quorum,
    QuorumByOttla,
}

impl Start {
    fn name(self) -> &'static str {
        match self {
            Start::FixedQuorum => "a fixed quorum",
            Start::Quorum => "a quorum that can change",
            Start::QuorumByOttla => "a quorum that can change, formatted by Ottla",
        }
    }
}

fn exchange(start: Start) -> Result<Result<(), String>, Trouble> {
    let home = fresh_dir(&workspace::scratch("exchange"))?;
    let logs = match start {
        Start::FixedQuorum => "exchange-fixed",
        Start::Quorum => "exchange-dynamic",
        Start::QuorumByOttla => "exchange-formatted",
    };
    let logs = fresh_dir(&workspace::logs(logs))?;
    let mut kafka = Broker::new(Kind::Kafka, None, &home, &logs.join("kafka"))?;
    if start != Start::FixedQuorum {
        kafka.let_quorum_change();
    }
    if start == Start::QuorumByOttla {
        kafka.let_ottla_format();
    }
    kafka.start()?;
    let by_kafka = produce(&kafka, &logs.join("produce-kafka.log"))?;
    let early = consume(&kafka, &["--group", "g"], READ_BY_GROUP, &logs.join("group-kafka.log"))?;
    kafka.stop()?;

    let mut ottla = Broker::new(Kind::Ottla, None, &home, &logs.join("ottla"))?;
    ottla.set(&[("metadata.log.max.record.bytes.between.snapshots", "1")]);
    ottla.start()?;
    let written = by_kafka + produce(&ottla, &logs.join("produce-ottla.log"))?;
    let everything = consume(&ottla, &["--from-beginning"], written, &logs.join("all-ottla.log"))?;
    let rest = written - early;
    let late = consume(&ottla, &["--group", "g"], rest, &logs.join("group-ottla.log"))?;
    ottla.kill()?;
    ottla.start()?;
    ottla.stop()?;
    let dumped = dump_newest_snapshot(&ottla.data().join("__cluster_metadata-0"), &logs.join("dump.log"))?;

    kafka.start()?;
    let again = consume(&kafka, &["--from-beginning"], written, &logs.join("all-kafka.log"))?;
    kafka.stop()?;
    let found = (everything, late, again);
    let expected = (written, rest, written);
    Ok(dumped.and_then(|()| {
        if found == expected {
            Ok(())
        } else {
            Err(format!(
                "records read by (Ottla, the group on Ottla, Kafka): {found:?} instead of {expected:?}"
            ))
        }
    }))
}

/// How many records were acknowledged: the tool does not repeat those that come before a new topic has its leader.
fn produce(broker: &Broker, log: &Path) -> Result<usize, Trouble> {
    let mut command = java("tools");
    command.arg("org.apache.kafka.tools.VerifiableProducer");
    command.args(["--topic", TOPIC, "--acks", "-1", "--max-messages", &RECORDS.to_string()]);
    command.args(["--bootstrap-server", &broker.bootstrap()]);
    let ended = steps::run_logged(&mut command, log, Duration::from_secs(120))?;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    let acknowledged = text.lines().filter(|line| line.contains("\"producer_send_success\"")).count();
    if ended.success() && acknowledged > READ_BY_GROUP {
        return Ok(acknowledged);
    }
    steps::show_end(log, 20);
    Err(Trouble::new(format!("VerifiableProducer: {ended}; log: {}", log.display())))
}

/// Reads until there are `count` records, or none come any more; how many came.
fn consume(broker: &Broker, how: &[&str], count: usize, log: &Path) -> Result<usize, Trouble> {
    let mut command = java("tools");
    command.arg("org.apache.kafka.tools.consumer.ConsoleConsumer").args(how);
    command.args(["--topic", TOPIC, "--bootstrap-server", &broker.bootstrap()]);
    command.args(["--max-messages", &count.to_string(), "--timeout-ms", "30000"]);
    if how.contains(&"--group") {
        command.args(["--command-property", "auto.offset.reset=earliest"]);
    }
    steps::run_logged(&mut command, log, Duration::from_secs(120))?;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    // VerifiableProducer numbers its records.
    Ok(text.lines().filter(|line| line.parse::<u64>().is_ok()).count())
}

/// The newest snapshot decodes with Kafka's schemas, and tells of the topic.
fn dump_newest_snapshot(dir: &Path, log: &Path) -> Result<Result<(), String>, Trouble> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "checkpoint") {
            found.push(path);
        }
    }
    found.sort();
    let Some(newest) =
        found.pop().filter(|path| !path.ends_with("00000000000000000000-0000000000.checkpoint"))
    else {
        return Ok(Err("Ottla left no snapshot of the metadata".into()));
    };
    let mut command = java("tools");
    command.arg("org.apache.kafka.tools.DumpLogSegments").args(["--cluster-metadata-decoder", "--files"]);
    command.arg(&newest);
    let ended = steps::run_logged(&mut command, log, Duration::from_secs(120))?;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    let wanted =
        ["SnapshotHeader", "SnapshotFooter", "FEATURE_LEVEL_RECORD", "REGISTER_BROKER_RECORD", TOPIC];
    let missing = wanted.iter().find(|wanted| !text.contains(**wanted));
    Ok(match missing {
        _ if !ended.success() => Err(format!("the dump tool: {ended}")),
        Some(missing) => Err(format!("no {missing} in the dump of {}", newest.display())),
        None if text.contains("isvalid: false") || text.contains("Could not decode") => {
            Err(format!("{} is not valid", newest.display()))
        }
        None => Ok(()),
    })
}
