//! The broker's files, read by Apache Kafka's own dump tool.
//!
//! Suites leave notes of what they wrote (`NOTES/TOPIC-PARTITION` holds a count of records); every record must be found
//! in the segments by a deep iteration, every batch must be valid, and every index must agree with its segment.

use super::suites::Tally;
use crate::broker::java;
use crate::steps::{self, Doing, Trouble};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Checks all of it. `data` is the log directory of a stopped broker.
pub fn check(data: &Path, notes: &Path, logs: &Path) -> Result<Tally, Trouble> {
    let mut tally = Tally::default();
    println!("files, read by kafka-dump-log");
    for partition in names(notes)? {
        let noted = fs::read_to_string(notes.join(&partition))?;
        let folder = data.join(&partition);
        let outcome = match noted.trim().parse::<usize>() {
            Ok(expected) => noted_partition(&folder, expected, logs)?,
            Err(error) => Err(format!("the note is no number: {error}")),
        };
        tally.count(&format!("dump-log of {partition}"), outcome);
    }
    tally.count("dump-log of __consumer_offsets", consumer_offsets(data, logs)?);
    tally.count("dump-log of __cluster_metadata", cluster_metadata(data, logs)?);
    Ok(tally)
}

/// All segments, indexes and producer snapshots of one partition.
fn noted_partition(folder: &Path, expected: usize, logs: &Path) -> Result<Result<(), String>, Trouble> {
    let segments = files(folder, &["log"])?;
    let text = dump(&segments, &["--deep-iteration"], &logs.join("dump-records.log"))?;
    let others = files(folder, &["index", "timeindex", "txnindex", "snapshot"])?;
    let indexes = dump(&others, &["--verify-index-only"], &logs.join("dump-indexes.log"))?;
    let sane = dump(&files(folder, &["index"])?, &["--index-sanity-check"], &logs.join("dump-sanity.log"))?;
    Ok(segments_are_whole(&text).and_then(|()| {
        let found = record_lines(&text).count();
        if found != expected {
            return Err(format!("{found} records in {} segments, {expected} were written", segments.len()));
        }
        if segments.len() < 2 {
            return Err("only one segment: the case was to show a roll".into());
        }
        let passed = sane.lines().filter(|line| line.ends_with("passed sanity check.")).count();
        if passed != segments.len() {
            return Err(format!("{passed} of {} indexes passed the sanity check", segments.len()));
        }
        indexes_agree(&indexes)
    }))
}

/// Groups and offsets decode with Kafka's schemas, and the groups of the suites are among them.
fn consumer_offsets(data: &Path, logs: &Path) -> Result<Result<(), String>, Trouble> {
    let text = internal(data, "__consumer_offsets-", "--offsets-decoder", logs)?;
    Ok(segments_are_whole(&text).and_then(|()| {
        expect_lines(
            &text,
            &["offset_commit", "group_metadata", "key: {\"type\":\"1\"", "key: {\"type\":\"2\""],
            2,
        )
    }))
}

/// The metadata log decodes with Kafka's schemas, and tells of this node and its topics.
fn cluster_metadata(data: &Path, logs: &Path) -> Result<Result<(), String>, Trouble> {
    let text = internal(data, "__cluster_metadata-0", "--cluster-metadata-decoder", logs)?;
    Ok(segments_are_whole(&text).and_then(|()| {
        for record in [
            "REGISTER_BROKER_RECORD",
            "FEATURE_LEVEL_RECORD",
            "TOPIC_RECORD",
            "PARTITION_RECORD",
            "CONFIG_RECORD",
        ] {
            if !text.contains(&format!("\"type\":\"{record}\"")) {
                return Err(format!("no {record} in the metadata log"));
            }
        }
        if text.contains("Could not decode") || text.contains("Error at") {
            return Err("a record did not decode".into());
        }
        Ok(())
    }))
}

fn internal(data: &Path, prefix: &str, decoder: &str, logs: &Path) -> Result<String, Trouble> {
    let mut segments = Vec::new();
    for folder in names(data)?.iter().filter(|name| name.starts_with(prefix)) {
        segments.extend(files(&data.join(folder), &["log"])?);
    }
    dump(&segments, &[decoder], &logs.join(format!("dump{decoder}.log")))
}

fn expect_lines(text: &str, any: &[&str], at_least: usize) -> Result<(), String> {
    let found = any.iter().filter(|wanted| text.contains(**wanted)).count();
    if found < at_least { Err(format!("expected {at_least} of {any:?}, found {found}")) } else { Ok(()) }
}

fn segments_are_whole(text: &str) -> Result<(), String> {
    let bad = text.lines().find(|line| {
        line.contains("isvalid: false") || line.contains("invalid bytes") || line.contains("Exception")
    });
    match bad {
        Some(line) => Err(line.chars().take(200).collect()),
        None if text.contains("baseOffset:") => Ok(()),
        None => Err("no batches at all".into()),
    }
}

fn indexes_agree(text: &str) -> Result<(), String> {
    let marks = ["Mismatches in", "mismatch", "out of order", "could not be found", "Exception"];
    match text.lines().find(|line| marks.iter().any(|mark| line.contains(mark))) {
        Some(line) => Err(line.chars().take(200).collect()),
        None => Ok(()),
    }
}

fn record_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("| offset:"))
}

/// Runs the tool over many files at once; a JVM per file would be slow.
fn dump(files: &[PathBuf], options: &[&str], log: &Path) -> Result<String, Trouble> {
    if files.is_empty() {
        return Ok(String::new());
    }
    let list: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let mut command = java("tools");
    command.arg("org.apache.kafka.tools.DumpLogSegments").args(options).arg("--files").arg(list.join(","));
    let ended = steps::run_logged(&mut command, log, Duration::from_secs(120))?;
    let mut text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    if !ended.success() {
        text.push_str(&format!("\nException: the tool ended with {ended}"));
    }
    Ok(text)
}

fn names(folder: &Path) -> Result<Vec<String>, Trouble> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).doing(format!("reading {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Trouble> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let has = |name: &String| extensions.iter().any(|wanted| name.ends_with(&format!(".{wanted}")));
    Ok(names(folder)?.into_iter().filter(has).map(|name| folder.join(name)).collect())
}
