//! Power loss after every single disk operation of a script that appends, rolls, flushes, truncates, deletes and closes.
//!
//! What was declared synced must be there; what is there must be what was written.

use super::rig::*;
use crate::disk::SimDisk;
use crate::{Log, LogConfig, OpenHints, StorageError};

/// What the outside world was told so far.
#[derive(Debug, Default)]
struct Told {
    synced: i64,
    /// Nothing above was ever written, or it was taken back.
    written: i64,
    log_start: i64,
    recovery_point: i64,
    clean: bool,
    /// The log was being truncated, and the recovery point was not written down since.
    truncating: bool,
}

/// The value at an offset: set by the generation that wrote it last.
fn value(generation: u8, offset: i64) -> Vec<u8> {
    format!("{generation}:{offset}").into_bytes()
}

fn write(log: &mut Log, told: &mut Told, generation: u8, count: usize) -> Result<(), StorageError> {
    for _ in 0..count {
        let offset = log.log_end_offset();
        told.written = told.written.max(offset + 1);
        let bytes = batch(&[&value(generation, offset)]);
        log.append(&bytes, CLIENT, i32::from(generation), NOW).map_err(|error| match error {
            crate::AppendError::Storage(error) => error,
            error => panic!("{error}"),
        })?;
    }
    Ok(())
}

fn flush(log: &mut Log, told: &mut Told) -> Result<(), StorageError> {
    told.synced = log.flush()?;
    told.recovery_point = told.synced;
    Ok(())
}

fn script(disk: &SimDisk, config: &LogConfig, told: &mut Told) -> Result<(), StorageError> {
    let (mut log, _) =
        Log::open(std::sync::Arc::new(disk.clone()), DIR.into(), config.clone(), OpenHints::default(), NOW)?;
    log.begin_epoch(1);
    write(&mut log, told, 1, 12)?;
    flush(&mut log, told)?;
    write(&mut log, told, 1, 15)?;
    flush(&mut log, told)?;
    write(&mut log, told, 1, 5)?;
    // The promise shrinks before the log does.
    (told.synced, told.truncating) = (15, true);
    if log.truncate_to(15, NOW)? {
        told.recovery_point = told.recovery_point.min(15);
    }
    (told.written, told.truncating) = (15, false);
    write(&mut log, told, 2, 20)?;
    flush(&mut log, told)?;
    let start = log.segments().nth(2).unwrap().0;
    told.log_start = start;
    let mut job = log.advance_log_start_offset(start).unwrap();
    job.mark()?;
    write(&mut log, told, 2, 5)?;
    job.remove()?;
    log.close()?;
    (told.synced, told.recovery_point, told.clean) = (log.log_end_offset(), log.log_end_offset(), true);
    Ok(())
}

fn check(mut log: Log, told: &Told, context: &str) {
    let end = log.log_end_offset();
    assert!(end >= told.synced, "{context}: synced {} and found {end}", told.synced);
    assert_eq!(log.log_start_offset(), told.log_start, "{context}");
    let mut expected = told.log_start;
    for (offset, found) in records(&mut log, 500) {
        assert_eq!(offset, expected, "{context}: a gap");
        let generations: &[u8] = if offset < 15 { &[1] } else { &[1, 2] };
        assert!(
            generations.iter().any(|generation| value(*generation, offset) == found),
            "{context}: {offset}"
        );
        expected += 1;
    }
    assert_eq!(expected, end, "{context}");
    let last_epoch = log.latest_epoch();
    log.append(&batch(&[b"on"]), CLIENT, 3, NOW).unwrap();
    assert!(last_epoch.is_none_or(|epoch| epoch <= 2));
    assert_eq!(log.flush().unwrap(), end + 1, "{context}: the log goes on");
}

#[test]
fn after_every_operation() {
    let config = LogConfig { segment_bytes: 500, ..small() };
    let disk = SimDisk::new(0);
    script(&disk, &config, &mut Told::default()).unwrap();
    let operations = disk.counters().mutations;
    assert!(operations > 100, "{operations}");
    for seed in 0..2 {
        for fuse in 0..=operations {
            let disk = SimDisk::new(seed);
            disk.fail_after(fuse);
            let mut told = Told::default();
            let finished = script(&disk, &config, &mut told);
            assert_eq!(finished.is_ok(), fuse == operations);
            let hints = OpenHints {
                recovery_point: told.recovery_point,
                log_start_offset: told.log_start,
                clean_shutdown: told.clean,
                ..OpenHints::default()
            };
            for (image, what) in [(disk.crash(), "crash"), (disk.kill(), "kill")] {
                let context = format!("{what} after {fuse} operations, seed {seed}");
                let opened = Log::open(std::sync::Arc::new(image), DIR.into(), config.clone(), hints, NOW);
                let (log, report) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(report.lost_synced_offsets == 0 || told.truncating, "{context}: {report:?}");
                check(log, &told, &context);
            }
        }
    }
}

#[test]
fn a_recovery_that_crashes_can_be_recovered() {
    let config = LogConfig { segment_bytes: 500, ..small() };
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open_with(&disk, config.clone(), OpenHints::default());
        let mut told = Told::default();
        write(&mut log, &mut told, 1, 10).unwrap();
        flush(&mut log, &mut told).unwrap();
        write(&mut log, &mut told, 1, 30).unwrap();
        let mut image = disk.crash();
        let hints = OpenHints { recovery_point: 10, ..OpenHints::default() };
        for fuse in 0..12 {
            image.fail_after(fuse);
            let _ = Log::open(std::sync::Arc::new(image.clone()), DIR.into(), config.clone(), hints, NOW);
            image = image.crash();
        }
        let (log, _) = open_with(&image, config.clone(), hints);
        check(log, &told, &format!("seed {seed}"));
    }
}
