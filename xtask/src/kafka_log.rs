//! Whether our storage reads what Apache Kafka wrote: every log of the fixture is opened, after an orderly stop and after kill -9, and
//! compared record by record with what Kafka's own consumer saw.
//!
//! The files are put on the simulated disk first: opening a log may repair it, and the fixture is to stay as Kafka left it.

use crate::steps::{Doing, Trouble};
use ottla_protocol::records::{self, TimestampType};
use ottla_storage::{Checkpoint, Disk, Log, LogConfig, LogDir, OpenHints, OpenMode, PartitionName, SimDisk};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

/// Where the files are put on the simulated disk.
const ROOT: &str = "/kafka";
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// Bytes of one decompressed batch.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// A wall clock for opening; nothing in the fixture depends on it.
const NOW: i64 = 2_000_000_000_000;

/// Compares both states of the fixture. Returns how many logs were read back as they were, and prints those that were not.
pub fn check(fixture: &Path) -> Result<(u32, u32), Trouble> {
    let expected = manifest(&fixture.join("manifest.jsonl"))?;
    let (mut passed, mut failed) = (0, 0);
    for state in ["clean", "killed"] {
        let disk = load(&fixture.join(state))?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let dir = LogDir::open(disk.clone(), Path::new(ROOT)).map_err(Trouble::new)?;
        let clean = dir.take_clean_shutdown().map_err(Trouble::new)?.is_some();
        if clean != (state == "clean") {
            return Err(Trouble::new(format!("{state}: the clean-shutdown file says {clean}")));
        }
        for (topic, records) in &expected {
            match compare(&disk, &dir, topic, records, clean) {
                Ok(()) => passed += 1,
                Err(reason) => {
                    failed += 1;
                    println!("  FAIL {state} {topic}: {reason}");
                }
            }
        }
    }
    println!("  {passed} logs of Apache Kafka read back as they were, {failed} did not");
    Ok((passed, failed))
}

/// The records of each topic, in order.
fn manifest(path: &Path) -> Result<BTreeMap<String, Vec<Value>>, Trouble> {
    let text = fs::read_to_string(path).doing(format!("reading {}", path.display()))?;
    let mut topics: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).map_err(Trouble::new)?;
        let topic = record["topic"].as_str().unwrap_or_default().to_owned();
        topics.entry(topic).or_default().push(record);
    }
    if topics.is_empty() {
        return Err(Trouble::new(format!("{} is empty", path.display())));
    }
    Ok(topics)
}

fn load(dir: &Path) -> Result<SimDisk, Trouble> {
    let disk = SimDisk::new(1);
    let mut dirs = vec![(dir.to_path_buf(), Path::new(ROOT).to_path_buf())];
    while let Some((from, to)) = dirs.pop() {
        disk.create_dir_all(&to)?;
        for entry in fs::read_dir(&from).doing(format!("listing {}", from.display()))? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                dirs.push((entry.path(), target));
            } else if entry.file_name() != ".lock" {
                let bytes = fs::read(entry.path())?;
                disk.open(&target, OpenMode::Create)?.write_all_at(&[IoSlice::new(&bytes)], 0)?;
            }
        }
    }
    Ok(disk)
}

fn compare(
    disk: &Arc<dyn Disk>,
    dir: &LogDir,
    topic: &str,
    expected: &[Value],
    clean: bool,
) -> Result<(), String> {
    let name = PartitionName::new(topic, 0);
    let offset_of = |checkpoint: Checkpoint| {
        dir.read_checkpoint(checkpoint)
            .map(|offsets| offsets.get(&name).copied().unwrap_or(0))
            .map_err(|error| error.to_string())
    };
    let hints = OpenHints {
        recovery_point: offset_of(Checkpoint::RecoveryPoint)?,
        log_start_offset: offset_of(Checkpoint::LogStart)?,
        clean_shutdown: clean,
        ..OpenHints::default()
    };
    let path = Path::new(ROOT).join(format!("{topic}-0"));
    let opened = Log::open(disk.clone(), path, LogConfig::default(), hints, NOW);
    let (mut log, _) = opened.map_err(|error| error.to_string())?;
    let mut left = expected.iter();
    let mut offset = log.log_start_offset();
    let end = log.log_end_offset();
    while offset < end {
        let slice = log.read(offset, READ_BYTES, end, true).map_err(|error| error.to_string())?;
        let bytes = slice.records.read().map_err(|error| error.to_string())?;
        let mut aborted = log.aborted_transactions(offset, slice.next_offset);
        for batch in records::batches(&bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            if batch.is_control() {
                // As consumers do it: the marker ends the oldest transaction of its producer; a later one is another matter.
                let ended = |(producer, first): &(i64, i64)| {
                    *producer == batch.producer_id && *first <= batch.base_offset
                };
                if let Some(at) = aborted.iter().position(ended) {
                    aborted.remove(at);
                }
                continue;
            }
            let set = batch.records(BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
            for record in set.iter() {
                let record = record.map_err(|error| format!("{error:?}"))?;
                // A consumer starts within a batch; the log gives the whole batch.
                if record.offset < offset {
                    continue;
                }
                let in_append_time = batch.timestamp_type() == TimestampType::LogAppendTime;
                let is_aborted = batch.is_transactional()
                    && aborted
                        .iter()
                        .any(|(producer, first)| *producer == batch.producer_id && *first <= record.offset);
                let found = serde_json::json!({
                    "topic": topic,
                    "offset": record.offset,
                    "timestamp": if in_append_time { batch.max_timestamp } else { record.timestamp },
                    "timestamp_type": if in_append_time { "LogAppendTime" } else { "CreateTime" },
                    "key": record.key.map(text),
                    "value": record.value.map(text),
                    "headers": record.headers.iter()
                        .map(|header| serde_json::json!([text(header.key), header.value.map(text)]))
                        .collect::<Vec<_>>(),
                    "committed": !is_aborted,
                });
                let wanted = left.next().ok_or_else(|| format!("a record too many: {found}"))?;
                if found != *wanted {
                    return Err(format!("found {found}, Kafka has {wanted}"));
                }
            }
        }
        if slice.next_offset <= offset {
            return Err(format!("reading stands still at offset {offset}"));
        }
        offset = slice.next_offset;
    }
    match left.next() {
        Some(missing) => Err(format!("missing: {missing}")),
        None => Ok(()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
