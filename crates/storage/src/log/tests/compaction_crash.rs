//! Power loss after every single disk operation of a script that appends, compacts, retains and goes on.
//!
//! Whatever the moment: the last committed value of every key is there, nothing is there that was not written, aborted records stay
//! hidden, and what a finished compaction removed does not come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ottla_protocol::records::{Batch, BatchBuilder, BatchOptions, EndTxnMarker, end_txn_batch};

use super::rig::*;
use crate::disk::{Disk, SimDisk};
use crate::{AppendOrigin, CompactionError, CompactionRules, Log, LogConfig, OpenHints, RetentionRules};

/// What the outside world was told so far.
#[derive(Debug, Default)]
struct Told {
    /// Every record that was ever appended, by offset: key, value, whether it is to be seen.
    written: BTreeMap<i64, (String, Option<String>, bool)>,
    synced: i64,
    recovery_point: i64,
    log_start: i64,
    cleaned: Option<i64>,
    clean_shutdown: bool,
}

fn put(
    log: &mut Log,
    told: &mut Told,
    key: u8,
    value: Option<&str>,
    aborting: bool,
) -> Result<(), CompactionError> {
    let offset = log.log_end_offset();
    let options = match aborting {
        false => BatchOptions::default(),
        true => BatchOptions {
            producer_id: 9,
            producer_epoch: 0,
            base_sequence: 0,
            transactional: true,
            ..BatchOptions::default()
        },
    };
    let mut builder = BatchBuilder::new(0, options);
    let key = format!("k{key}");
    builder.push(NOW, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    told.written.insert(offset, (key, value.map(str::to_owned), !aborting));
    let origin = if aborting { AppendOrigin::COORDINATOR } else { CLIENT };
    log.append(&builder.finish().into(), origin, 1, NOW).map_err(storage)?;
    Ok(())
}

fn storage(error: crate::AppendError) -> CompactionError {
    match error {
        crate::AppendError::Storage(error) => CompactionError::Storage(error),
        error => panic!("{error}"),
    }
}

fn abort(log: &mut Log) -> Result<(), CompactionError> {
    let bytes = end_txn_batch(0, NOW, false, EndTxnMarker { coordinator_epoch: 0 }, 9, 0, 0);
    log.append(&bytes.into(), AppendOrigin::Marker { bumps_epoch: false }, 1, NOW).map_err(storage)?;
    Ok(())
}

fn flush(log: &mut Log, told: &mut Told) -> Result<(), CompactionError> {
    told.synced = log.flush().map_err(CompactionError::Storage)?;
    Ok(())
}

fn script(disk: &SimDisk, config: &LogConfig, told: &mut Told) -> Result<(), CompactionError> {
    let storage = CompactionError::Storage;
    let (mut log, _) =
        Log::open(Arc::new(disk.clone()), DIR.into(), config.clone(), OpenHints::default(), NOW)
            .map_err(storage)?;
    for round in 0..3u8 {
        for n in 0..8 {
            put(&mut log, told, n % 5, Some(&format!("{round}.{n}")), false)?;
            put(&mut log, told, n % 3, Some("never"), true)?;
            if n == 4 {
                put(&mut log, told, 4, None, false)?;
            }
        }
        abort(&mut log)?;
        flush(&mut log, told)?;
        if round == 0 {
            told.recovery_point = told.synced;
        }
        let now = NOW + i64::from(round) * 3000;
        told.cleaned = compact(&mut log, told.cleaned, now)?;
    }
    // Everything before the last segment is too much.
    log.set_config(LogConfig { retention: RetentionRules { ms: None, bytes: Some(0) }, ..config.clone() });
    let mut job = {
        let high_watermark = log.synced_offset() - 1;
        try_retain(&mut log, high_watermark, NOW).map_err(storage)?
    };
    assert!(!job.is_empty());
    told.log_start = log.log_start_offset();
    job.mark().map_err(storage)?;
    job.remove().map_err(storage)?;
    put(&mut log, told, 7, Some("end"), false)?;
    log.close().map_err(storage)?;
    told.synced = log.log_end_offset();
    told.clean_shutdown = true;
    Ok(())
}

/// Key and value of every record that a reader of committed records sees, by offset.
fn seen(log: &mut Log, stable_end: i64) -> BTreeMap<i64, (String, Option<String>)> {
    let mut seen = BTreeMap::new();
    let mut aborted: Vec<i64> = log
        .aborted_transactions(log.log_start_offset(), log.log_end_offset())
        .into_iter()
        .map(|(_, first)| first)
        .collect();
    aborted.sort_unstable();
    let mut hidden = false;
    for bytes in all_batches(log) {
        let batch = Batch::parse(&bytes).unwrap();
        hidden |=
            aborted.first().is_some_and(|first| *first <= batch.last_offset()) && batch.producer_id == 9;
        if batch.is_control() {
            if hidden {
                aborted.remove(0);
            }
            hidden = false;
            continue;
        }
        if hidden && batch.producer_id == 9 || batch.base_offset >= stable_end {
            continue;
        }
        for record in &batch.records(1 << 20).unwrap() {
            let record = record.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            seen.insert(record.offset, (text(record.key.unwrap()), record.value.map(text)));
        }
    }
    seen
}

fn check(mut log: Log, told: &Told, context: &str) {
    let end = log.log_end_offset();
    assert!(end >= told.synced, "{context}: synced {} and found {end}", told.synced);
    assert!(log.log_start_offset() >= told.log_start, "{context}");
    // Behind it the fate of a transaction is open.
    let stable_end = log.last_stable_offset(end);
    let seen = seen(&mut log, stable_end);
    for (offset, (key, value)) in &seen {
        let written = &told.written[offset];
        assert_eq!((&written.0, &written.1, written.2), (key, value, true), "{context}: {offset}");
    }
    let mut last = BTreeMap::new();
    let visible = told.written.iter().filter(|(offset, (_, _, visible))| *visible && **offset < stable_end);
    for (offset, (key, value, _)) in visible {
        last.insert(key, (*offset, value));
    }
    for (key, (offset, value)) in &last {
        // A tombstone may have gone for good.
        if *offset >= log.log_start_offset() && value.is_some() {
            assert!(seen.contains_key(offset), "{context}: the last value of {key} at {offset} is lost");
        }
    }
    let mut last_clean = BTreeMap::new();
    let cleaned = told.cleaned.unwrap_or(0);
    for (offset, (key, _, _)) in
        told.written.iter().filter(|(offset, written)| written.2 && **offset < cleaned)
    {
        last_clean.insert(key, *offset);
    }
    for (offset, (key, _)) in seen.iter().filter(|(offset, _)| **offset < cleaned) {
        assert_eq!(last_clean[key], *offset, "{context}: {key} came back");
    }
    log.append(&batch(&[b"on"]), CLIENT, 3, NOW).unwrap();
    assert_eq!(log.flush().unwrap(), end + 1, "{context}: the log goes on");
    compact(&mut log, told.cleaned, NOW).unwrap_or_else(|error| panic!("{context}: {error}"));
}

fn config() -> LogConfig {
    let compaction = CompactionRules { delete_retention_ms: 2000, ..CompactionRules::default() };
    LogConfig { segment_bytes: 500, compacted: true, compaction, ..small() }
}

#[test]
fn after_every_operation() {
    let disk = SimDisk::new(0);
    let mut told = Told::default();
    script(&disk, &config(), &mut told).unwrap();
    assert!(told.cleaned.is_some_and(|cleaned| cleaned > 30) && told.log_start > 0);
    let operations = disk.counters().mutations;
    assert!(operations > 300, "{operations}");
    for fuse in 0..operations {
        let disk = SimDisk::new(fuse);
        disk.fail_after(fuse);
        let mut told = Told::default();
        assert!(script(&disk, &config(), &mut told).is_err());
        let hints = OpenHints {
            recovery_point: told.recovery_point,
            log_start_offset: told.log_start,
            clean_shutdown: told.clean_shutdown,
            ..OpenHints::default()
        };
        for (image, what) in [(disk.crash(), "crash"), (disk.kill(), "kill")] {
            let context = format!("{what} after {fuse} operations");
            let opened = Log::open(Arc::new(image), DIR.into(), config(), hints, NOW);
            let (log, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(report.lost_synced_offsets, 0, "{context}: {report:?}");
            check(log, &told, &context);
        }
    }
}

/// A swap whose end is interrupted as well, after every operation of the recovery.
#[test]
fn a_recovery_that_crashes_can_be_recovered() {
    let disk = SimDisk::new(0);
    script(&disk, &config(), &mut Told::default()).unwrap();
    let operations = disk.counters().mutations;
    let mut interrupted = 0;
    for fuse in 0..operations {
        let disk = SimDisk::new(fuse);
        disk.fail_after(fuse);
        let mut told = Told::default();
        assert!(script(&disk, &config(), &mut told).is_err());
        let image = disk.crash();
        if !image.list(Path::new(DIR)).is_ok_and(|names| names.iter().any(|name| name.ends_with(".swap"))) {
            continue;
        }
        let hints = OpenHints {
            recovery_point: told.recovery_point,
            log_start_offset: told.log_start,
            ..OpenHints::default()
        };
        // Every third operation, another third each time: the images are alike.
        for cut in (fuse % 3..24).step_by(3) {
            let first = image.kill();
            first.fail_after(cut);
            let _ = Log::open(Arc::new(first.clone()), DIR.into(), config(), hints, NOW);
            interrupted += 1;
            let (log, _) = open_with(&first.crash(), config(), hints);
            check(log, &told, &format!("after {fuse} operations, recovery cut after {cut}"));
        }
    }
    assert!(interrupted > 200, "{interrupted}");
}
