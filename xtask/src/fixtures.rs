//! `cargo xtask fixtures kafka-log`: a log directory written by Apache Kafka itself, and a list of what is in it.
//!
//! Left in `target/fixtures/kafka-log`: `clean/` (after an orderly stop), `killed/` (the same broker after kill -9, before
//! its recovery) and `manifest.jsonl`, one record per line, read back by Kafka's own consumer. Never committed.

use crate::broker::{Broker, Kind, class_path, java};
use crate::clients::setup;
use crate::steps::{self, Doing, Trouble, fresh_dir};
use crate::workspace;
use clap::{Args, ValueEnum};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Which fixture
    #[arg(value_enum)]
    fixture: Fixture,
    /// Write it again even if it is there
    #[arg(long)]
    again: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fixture {
    KafkaLog,
}

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let Fixture::KafkaLog = options.fixture;
    setup::all()?;
    let home = kafka_log(options.again)?;
    let (_, failed) = crate::kafka_log::check(&home)?;
    Ok(failed == 0)
}

/// Writes the fixture unless it is there already and its writer has not changed.
pub fn kafka_log(again: bool) -> Result<PathBuf, Trouble> {
    let home = workspace::target().join("fixtures/kafka-log");
    let writer = workspace::suites().join("java/src/FixtureWriter.java");
    let source = fs::read_to_string(&writer).doing(format!("reading {}", writer.display()))?;
    let stamp = home.join(".stamp");
    if !again && fs::read_to_string(&stamp).is_ok_and(|found| found == source) {
        return Ok(home);
    }
    let begun = Instant::now();
    fresh_dir(&home)?;
    let logs = fresh_dir(&workspace::logs("fixtures"))?;
    let scratch = fresh_dir(&workspace::scratch("fixtures"))?;
    let manifest = home.join("manifest.jsonl");
    let mut broker = Broker::new(Kind::Kafka, None, &scratch, &logs)?;
    broker.start()?;
    fixture_writer(&["write", &broker.bootstrap()], &logs.join("write.log"))?;
    broker.kill()?;
    copy_dir(&broker.data(), &home.join("killed"))?;
    broker.start()?;
    fixture_writer(&["list", &broker.bootstrap(), &manifest.display().to_string()], &logs.join("list.log"))?;
    broker.stop()?;
    copy_dir(&broker.data(), &home.join("clean"))?;
    fresh_dir(&scratch)?;
    fs::write(stamp, source)?;
    let count = fs::read(&manifest)?.iter().filter(|byte| **byte == b'\n').count();
    steps::say(&format!("fixture kafka-log: {count} records"), begun.elapsed());
    Ok(home)
}

fn fixture_writer(arguments: &[&str], log: &Path) -> Result<(), Trouble> {
    let classes = workspace::installed().join("java/classes");
    let mut command = java("kafka");
    command
        .arg("-cp")
        .arg(format!("{}:{}", classes.display(), class_path("kafka")))
        .arg("FixtureWriter")
        .args(arguments);
    let ended = steps::run_logged(&mut command, log, Duration::from_secs(180))?;
    if !ended.success() {
        steps::show_end(log, 30);
        return Err(Trouble::new(format!("FixtureWriter {}: {ended}; log: {}", arguments[0], log.display())));
    }
    Ok(())
}

/// Copies with holes kept: a running broker's indexes are ten megabytes of nothing each.
fn copy_dir(source: &Path, target: &Path) -> Result<(), Trouble> {
    let status = Command::new("cp").args(["-r", "--sparse=always"]).arg(source).arg(target).status();
    match status.doing("starting `cp`")? {
        status if status.success() => Ok(()),
        status => Err(Trouble::new(format!("copying {}: {status}", source.display()))),
    }
}
