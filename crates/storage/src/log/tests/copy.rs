//! A log that is a copy of another: where the two part, what only the original knows, and the name that the copy takes.

use std::path::PathBuf;
use std::sync::Arc;

use super::rig::*;
use crate::disk::SimDisk;
use crate::{AppendOrigin, Log, OpenHints};

const COPY: &str = "/other/topic-0.0-future";

/// Appends `count` records under an epoch that begins here.
fn lead(log: &mut Log, epoch: i32, count: usize) {
    log.begin_epoch(epoch);
    for _ in 0..count {
        let value = log.log_end_offset().to_string();
        log.append(&batch(&[value.as_bytes()]), CLIENT, epoch, NOW).unwrap();
    }
}

fn follow(copy: &mut Log, original: &mut Log, up_to: i64) {
    while copy.log_end_offset() < up_to {
        let slice = original.read(copy.log_end_offset(), 1 << 20, up_to, true).unwrap();
        let bytes = bytes_of(slice).into();
        copy.append(&bytes, AppendOrigin::Replication, -1, NOW).unwrap();
    }
}

fn empty_copy(disk: &SimDisk) -> Log {
    Log::open(Arc::new(disk.clone()), PathBuf::from(COPY), small(), OpenHints::default(), NOW).unwrap().0
}

/// Epochs of an original and of its copy, as (epoch, records); where the two agree.
fn check_common(original: &[(i32, usize)], copied: &[(i32, usize)], expected: i64) {
    let (disk, mut log) = fresh(small());
    let mut copy = empty_copy(&disk);
    original.iter().for_each(|(epoch, count)| lead(&mut log, *epoch, *count));
    copied.iter().for_each(|(epoch, count)| lead(&mut copy, *epoch, *count));
    let end = copy.log_end_offset();
    assert_eq!(copy.cut_to_common(&log, NOW).unwrap(), expected < end, "{original:?}, {copied:?}");
    assert_eq!(copy.log_end_offset(), expected, "{original:?}, {copied:?}");
}

#[test]
fn a_copy_is_cut_where_it_parts_from_its_original() {
    check_common(&[(1, 10)], &[(1, 4)], 4);
    check_common(&[(1, 4)], &[(1, 10)], 4);
    check_common(&[(1, 4), (2, 6)], &[(1, 10)], 4);
    check_common(&[(1, 4), (3, 6)], &[(1, 4), (2, 6)], 4);
    check_common(&[(1, 4), (3, 6)], &[(1, 2), (2, 6)], 2);
    check_common(&[(1, 4), (2, 2), (5, 6)], &[(1, 4), (2, 6), (3, 1)], 6);
    check_common(&[(4, 10)], &[(3, 10)], 0);
    check_common(&[(4, 10)], &[], 0);
}

#[test]
fn what_only_the_original_knows_goes_over_with_the_name() {
    let (disk, mut log) = fresh(small());
    lead(&mut log, 1, 1);
    append(&mut log, &from_producer(7, 0, 3));
    lead(&mut log, 2, 30);
    // An epoch without a record, and a producer whose batches are gone.
    log.begin_epoch(5);
    log.advance_log_start_offset(20).unwrap().remove().unwrap();
    let mut copy = empty_copy(&disk);
    copy.truncate_fully_and_start_at(20, NOW).unwrap();
    follow(&mut copy, &mut log, 34);
    assert_eq!((copy.producers().count(), copy.latest_epoch()), (0, Some(2)));
    copy.flush().unwrap();
    copy.inherit(&log);
    let to = PathBuf::from("/other/topic-0");
    copy.rename(to.clone()).unwrap();
    assert_eq!(copy.producers().collect::<Vec<_>>(), log.producers().collect::<Vec<_>>());
    assert_eq!((copy.epochs(), copy.dir()), (log.epochs(), &*to));
    lead(&mut copy, 5, 3);
    copy.close().unwrap();
    let mut again = Log::open(Arc::new(disk.kill()), to, small(), clean(), NOW).unwrap().0;
    assert_eq!(again.latest_epoch(), Some(5));
    check_filled(&mut again, 20, 37);
}

#[test]
fn a_gap_at_the_end_of_the_original_is_skipped() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 5);
    log.skip_to(3, NOW).unwrap();
    assert_eq!(log.log_end_offset(), 5, "only forward");
    log.skip_to(90, NOW).unwrap();
    assert_eq!(log.flush().unwrap(), 90);
    let hints = OpenHints { recovery_point: 90, ..OpenHints::default() };
    let (mut again, _) = open_with(&disk.crash(), small(), hints);
    assert_eq!(again.log_end_offset(), 90);
    append(&mut again, &batch(&[b"on"]));
    let found: Vec<i64> = records(&mut again, 300).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(found, [0, 1, 2, 3, 4, 90]);
}
