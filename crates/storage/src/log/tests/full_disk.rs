//! A full disk: appends are refused and nothing else happens; when there is space again, they go on.

use super::rig::*;
use crate::disk::{Fault, Operation, SimDisk};
use crate::{Log, LogConfig, OpenHints, RetentionRules};
use std::io::ErrorKind;

fn full(skip: u64, times: u64) -> Fault {
    Fault { skip, times, ..Fault::always(Operation::Write, ErrorKind::StorageFull) }
}

/// Appends records whose values are their offsets, again and again if they are refused.
fn fill_in_spite(log: &mut Log, count: usize) -> usize {
    let mut refused = 0;
    for _ in 0..count {
        let value = log.log_end_offset().to_string();
        while let Err(error) = try_append(log, &batch(&[value.as_bytes()])) {
            assert!(error.is_storage_failure() && log.failure().is_none(), "{error}");
            refused += 1;
        }
    }
    refused
}

#[test]
fn appends_are_refused_until_there_is_space_whatever_was_being_written() {
    for skip in 0..70 {
        let disk = SimDisk::new(skip);
        let (mut log, _) = open_with(&disk, small(), OpenHints::default());
        fill(&mut log, 5);
        log.flush().unwrap();
        disk.inject(full(skip, 3));
        let refused = fill_in_spite(&mut log, 30);
        assert!(refused == 3 || skip > 30, "{skip}: {refused}");
        log.flush().unwrap();
        check_filled(&mut log, 0, 35);
        let hints = OpenHints { recovery_point: 5, ..OpenHints::default() };
        for image in [disk.crash(), disk.kill()] {
            check_filled(&mut open_with(&image, small(), hints).0, 0, 35);
        }
        disk.heal();
        log.close().unwrap();
        check_filled(&mut open_with(&disk.crash(), small(), clean()).0, 0, 35);
    }
}

#[test]
fn reads_and_retention_go_on_and_make_space() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    log.flush().unwrap();
    disk.inject(full(0, u64::MAX));
    assert!(try_append(&mut log, &batch(&[b"60"])).is_err());
    check_filled(&mut log, 0, 60);
    log.release_files().unwrap();
    log.set_config(LogConfig { retention: RetentionRules { ms: None, bytes: Some(1000) }, ..small() });
    let mut job = retain(&mut log, 60, NOW);
    let start = log.log_start_offset();
    assert!(job.segments() > 2 && start > 0);
    // There is no space for a checkpoint either.
    job.mark_in_order().unwrap();
    for image in [disk.crash(), disk.kill()] {
        let hints = OpenHints { recovery_point: 60, ..OpenHints::default() };
        check_filled(&mut open_with(&image, small(), hints).0, start, 60);
    }
    job.remove().unwrap();
    disk.heal();
    fill(&mut log, 20);
    check_filled(&mut log, start, 80);
}

/// Whole segments go in order, so that power loss in between leaves a log without a hole.
#[test]
fn segments_that_go_without_a_checkpoint_leave_no_hole() {
    for fuse in 0..60 {
        let disk = SimDisk::new(fuse);
        let (mut log, _) = open_with(&disk, small(), OpenHints::default());
        fill(&mut log, 60);
        log.flush().unwrap();
        let start = log.segments().nth(4).unwrap().0;
        let mut job = log.advance_log_start_offset(start).unwrap();
        disk.fail_after(fuse);
        let marked = job.mark_in_order();
        let (mut again, report) =
            open_with(&disk.crash(), small(), OpenHints { recovery_point: 60, ..OpenHints::default() });
        assert_eq!(report.lost_synced_offsets, 0);
        let found = again.log_start_offset();
        assert!(found <= start && (marked.is_err() || found == start));
        check_filled(&mut again, found, 60);
    }
}

#[test]
fn any_other_error_is_the_end_of_the_log() {
    for operation in [Operation::Write, Operation::Sync] {
        let (disk, mut log) = fresh(small());
        fill(&mut log, 5);
        disk.inject(Fault { times: 1, ..Fault::always(operation, ErrorKind::Other) });
        let failed =
            try_append(&mut log, &batch(&[b"5"])).map_err(drop).and_then(|_| log.flush().map_err(drop));
        assert!(failed.is_err() && log.failure().is_some());
        assert!(try_append(&mut log, &batch(&[b"5"])).is_err(), "nothing is tried again");
    }
    let (disk, mut log) = fresh(small());
    fill(&mut log, 5);
    disk.inject(Fault { times: 1, ..Fault::always(Operation::Sync, ErrorKind::StorageFull) });
    assert!(
        log.flush().is_err() && log.failure().is_some(),
        "a sync that failed may have lost pages, whatever it says"
    );
}
