//! Writing, rolling, closing, reopening, truncating, deleting; and disks that fail.

use crate::Lookup;
use std::io;
use std::path::Path;

use ottla_protocol::records::{BatchBuilder, BatchOptions};

use super::rig::*;
use crate::disk::{Disk, Fault, Operation};
use crate::{AppendError, AppendOrigin, LogConfig, Meaning, OpenHints, ReadError};

#[test]
fn rolls_and_reads_back_across_segments() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    assert!(log.segments().count() > 4, "{:?}", log.segments().collect::<Vec<_>>());
    check_filled(&mut log, 0, 60);
    log.close().unwrap();
    for (base, _) in log.segments() {
        for extension in ["log", "index", "timeindex"] {
            let path = format!("{DIR}/{base:020}.{extension}");
            let len = disk.contents(Path::new(&path)).unwrap_or_else(|| panic!("{path}")).len();
            assert_eq!(
                len % [8, 12][usize::from(extension == "timeindex")] * usize::from(extension != "log"),
                0
            );
        }
        let snapshot = format!("{DIR}/{base:020}.snapshot");
        assert_eq!(disk.contents(Path::new(&snapshot)).is_some(), base > 0, "{snapshot}");
    }
    assert!(disk.contents(Path::new(&format!("{DIR}/{:020}.snapshot", 60))).is_some());
    assert_eq!(disk.contents(Path::new(&format!("{DIR}/leader-epoch-checkpoint"))).unwrap(), b"0\n1\n0 0\n");
}

#[test]
fn a_closed_log_opens_without_reading_its_records() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    log.close().unwrap();
    let disk = disk.crash();
    let (mut log, report) = open_with(&disk, small(), clean());
    assert_eq!((report.segments_scanned, report.bytes_truncated), (0, 0));
    assert_eq!(log.open_segments(), 0);
    check_filled(&mut log, 0, 60);
    fill(&mut log, 20);
    check_filled(&mut log, 0, 80);
    assert_eq!(log.epochs().len(), 1);
}

#[test]
fn closing_an_unchanged_log_writes_nothing() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 5);
    log.close().unwrap();
    let (mut log, _) = open_with(&disk, small(), clean());
    let before = disk.counters();
    check_filled(&mut log, 0, 5);
    log.close().unwrap();
    assert_eq!(disk.counters().mutations, before.mutations);
}

#[test]
fn a_killed_log_keeps_everything_that_was_written() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    let (mut again, report) = open_with(&disk.kill(), small(), OpenHints::default());
    check_filled(&mut again, 0, 60);
    assert_eq!((report.segments_scanned, report.bytes_truncated), (log.segments().count(), 0));
    assert_eq!(again.synced_offset(), 60, "what recovery finds is made durable");
}

#[test]
fn recovery_begins_at_the_recovery_point() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    log.flush().unwrap();
    fill(&mut log, 20);
    let hints = OpenHints { recovery_point: 60, ..OpenHints::default() };
    let (mut again, report) = open_with(&disk.kill(), small(), hints);
    assert_eq!((report.segments_scanned, again.segments().count()), (3, 7));
    check_filled(&mut again, 0, 80);
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let (disk, mut log) = fresh(LogConfig::default());
    fill(&mut log, 10);
    let path = format!("{DIR}/{:020}.log", 0);
    let file = disk.open(Path::new(&path), crate::OpenMode::Write).unwrap();
    file.set_len(file.len().unwrap() - 1).unwrap();
    let hints = OpenHints { recovery_point: 10, ..OpenHints::default() };
    let (mut again, report) = open_with(&disk.kill(), LogConfig::default(), hints);
    check_filled(&mut again, 0, 9);
    assert!(report.bytes_truncated > 0);
    assert_eq!(report.lost_synced_offsets, 1, "the disk broke its word");
}

#[test]
fn damage_in_the_middle_ends_the_log_there() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    let second = log.segments().nth(1).unwrap().0;
    let path = format!("{DIR}/{second:020}.log");
    let file = disk.open(Path::new(&path), crate::OpenMode::Write).unwrap();
    file.write_all_at(&[io::IoSlice::new(&[0xff])], 70).unwrap();
    let (mut again, report) = open_with(&disk.kill(), small(), OpenHints::default());
    check_filled(&mut again, 0, second);
    assert_eq!(report.segments_removed, log.segments().count() - 2);
    fill(&mut again, 10);
    check_filled(&mut again, 0, second + 10);
}

#[test]
fn lost_indexes_are_made_anew() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    log.close().unwrap();
    for (base, _) in log.segments() {
        disk.remove_file(Path::new(&format!("{DIR}/{base:020}.index"))).unwrap();
        let times =
            disk.open(Path::new(&format!("{DIR}/{base:020}.timeindex")), crate::OpenMode::Write).unwrap();
        times.set_len(7).unwrap();
    }
    let (mut again, _) = open_with(&disk, small(), clean());
    check_filled(&mut again, 0, 60);
    assert_eq!(again.lookup(Lookup::Timestamp(NOW)).unwrap().unwrap().offset, 0);
    fill(&mut again, 1);
    again.close().unwrap();
}

#[test]
fn damaged_epochs_are_read_from_the_batches() {
    let (disk, mut log) = fresh(small());
    for epoch in [0, 0, 3, 7] {
        for _ in 0..10 {
            log.append(&batch(&[b"x"]), CLIENT, epoch, NOW).unwrap();
        }
    }
    log.close().unwrap();
    crate::disk::write_atomic(&disk, Path::new(&format!("{DIR}/leader-epoch-checkpoint")), b"0\n9\n")
        .unwrap();
    let (again, report) = open_with(&disk, small(), clean());
    assert!(report.epochs_rebuilt);
    let found: Vec<_> = again.epochs().iter().map(|entry| (entry.leader_epoch, entry.start_offset)).collect();
    assert_eq!(found, [(0, 0), (3, 20), (7, 30)]);
    assert_eq!(again.end_offset_for_epoch(3), Some((3, 30)));
    assert_eq!(again.end_offset_for_epoch(5), Some((3, 30)));
    assert_eq!(again.end_offset_for_epoch(7), Some((7, 40)));
}

#[test]
fn truncation_is_durable_and_the_log_goes_on() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    log.flush().unwrap();
    assert!(log.truncate_to(25, NOW).unwrap(), "the recovery point fell");
    check_filled(&mut log, 0, 25);
    let (mut again, _) =
        open_with(&disk.crash(), small(), OpenHints { recovery_point: 25, ..OpenHints::default() });
    check_filled(&mut again, 0, 25);
    fill(&mut log, 30);
    check_filled(&mut log, 0, 55);
    assert!(!log.truncate_to(99, NOW).unwrap());
    assert!(log.truncate_to(0, NOW).is_ok());
    check_filled(&mut log, 0, 0);
    fill(&mut log, 3);
    check_filled(&mut log, 0, 3);
}

#[test]
fn a_batch_across_the_cut_goes_as_a_whole() {
    let (_disk, mut log) = fresh(LogConfig::default());
    for _ in 0..3 {
        append(&mut log, &batch(&[b"a", b"b", b"c"]));
    }
    log.truncate_to(7, NOW).unwrap();
    assert_eq!(log.log_end_offset(), 6);
    let _ = log.advance_log_start_offset(4).unwrap();
    log.truncate_to(5, NOW).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size()), (4, 4, 0));
    append(&mut log, &batch(&[b"d"]));
    assert_eq!(records(&mut log, 100), [(4, b"d".to_vec())]);
}

#[test]
fn a_flush_does_not_speak_for_what_came_after_a_truncation() {
    let (_disk, mut log) = fresh(small());
    fill(&mut log, 20);
    let job = log.begin_flush().unwrap();
    assert!(log.begin_flush().is_none(), "one flush at a time");
    log.truncate_to(10, NOW).unwrap();
    fill(&mut log, 30);
    assert_eq!(log.on_flushed(job.run()).unwrap(), 10);
    assert_eq!(log.flush().unwrap(), 40);
    assert!(log.begin_flush().is_none());
}

#[test]
fn a_log_can_begin_anew_elsewhere() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    log.flush().unwrap();
    log.truncate_fully_and_start_at(1000, NOW).unwrap();
    let (empty, _) = open_with(&disk.crash(), small(), OpenHints::default());
    assert_eq!((empty.log_start_offset(), empty.log_end_offset()), (1000, 1000));
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size()), (1000, 1000, 0));
    fill(&mut log, 5);
    check_filled(&mut log, 1000, 1005);
    log.close().unwrap();
    let (mut again, _) = open_with(&disk.crash(), small(), clean());
    check_filled(&mut again, 1000, 1005);
    assert_eq!(again.epochs()[0].start_offset, 1000);
}

#[test]
fn deleting_from_the_front_removes_whole_segments_later() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 60);
    log.flush().unwrap();
    let bases: Vec<i64> = log.segments().map(|(base, _)| base).collect();
    let start = bases[2] + 1;
    let held = log.read(bases[0], 10_000, 60, true).unwrap();
    let mut job = log.advance_log_start_offset(start).unwrap();
    assert_eq!(job.segments(), 2);
    check_filled(&mut log, start, 60);
    assert!(matches!(log.read(0, 100, 60, true), Err(ReadError::OffsetOutOfRange { .. })));
    job.mark().unwrap();
    let deleted = format!("{DIR}/{:020}.log.deleted", bases[0]);
    assert!(disk.contents(Path::new(&deleted)).is_some());
    job.remove().unwrap();
    assert!(disk.contents(Path::new(&deleted)).is_none());
    assert!(!bytes_of(held).is_empty(), "a reader that has the file open goes on reading");
    let hints = OpenHints { log_start_offset: start, recovery_point: 60, ..OpenHints::default() };
    let (mut again, _) = open_with(&disk.crash(), small(), hints);
    check_filled(&mut again, start, 60);
    assert!(log.advance_log_start_offset(61).is_err());
    assert!(log.advance_log_start_offset(5).unwrap().is_empty());
}

#[test]
fn a_start_checkpoint_above_the_files_begins_an_empty_log() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 10);
    log.close().unwrap();
    let hints = OpenHints { log_start_offset: 500, ..clean() };
    let (mut again, _) = open_with(&disk, small(), hints);
    assert_eq!((again.log_start_offset(), again.log_end_offset()), (500, 500));
    fill(&mut again, 2);
    check_filled(&mut again, 500, 502);
}

#[test]
fn released_logs_hold_nothing_and_come_back() {
    let (disk, mut log) = fresh(LogConfig { tail_cache_bytes: 10_000, ..small() });
    fill(&mut log, 60);
    log.release_files().unwrap();
    assert_eq!(log.open_segments(), 1, "unsynced records keep their file");
    log.flush().unwrap();
    log.release_files().unwrap();
    assert_eq!((log.open_segments(), log.cached_bytes()), (0, 0));
    check_filled(&mut log, 0, 60);
    log.release_files().unwrap();
    fill(&mut log, 10);
    check_filled(&mut log, 0, 70);
    log.close().unwrap();
    let (mut again, report) = open_with(&disk.crash(), small(), clean());
    assert_eq!(report.segments_scanned, 0);
    check_filled(&mut again, 0, 70);
}

#[test]
fn a_failed_write_or_sync_ends_the_log() {
    for operation in [Operation::Write, Operation::Sync, Operation::SyncDir] {
        let (disk, mut log) = fresh(small());
        fill(&mut log, 5);
        disk.inject(Fault { times: 1, ..Fault::always(operation, io::ErrorKind::Other) });
        let wrote = try_append(&mut log, &batch(&[b"x"]));
        let synced = log.flush();
        assert!(wrote.is_err() || synced.is_err());
        if let Err(error) = wrote {
            assert!(error.is_storage_failure());
        }
        let error = try_append(&mut log, &batch(&[b"x"])).unwrap_err();
        assert!(
            matches!(&error, AppendError::Storage(error) if error.meaning() == Meaning::Failure),
            "{error}"
        );
        assert!(log.flush().is_err() && log.close().is_err() && log.read(0, 100, 5, true).is_err());
        disk.heal();
        let (mut again, _) = open_with(&disk.kill(), small(), OpenHints::default());
        let end = again.log_end_offset();
        assert!(end >= 5);
        assert_eq!(records(&mut again, 1000).len() as i64, end);
    }
}

#[test]
fn a_follower_takes_offsets_as_they_are() {
    let (_disk, mut leader) = fresh(LogConfig::default());
    for epoch in [1, 1, 2] {
        leader.append(&batch(&[b"a", b"b"]), CLIENT, epoch, NOW).unwrap();
    }
    let bytes = bytes_of(leader.read(0, 10_000, 6, true).unwrap());
    let (_disk, mut follower) = fresh(LogConfig::default());
    let partial = bytes::Bytes::from([&bytes[..], &bytes[..50]].concat());
    let info = follower.append_as_follower(&partial, 1, NOW).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (0, 3), "the batch of a later epoch is left out");
    let info = follower.append(&partial.slice(info.bytes..), AppendOrigin::Replication, 2, NOW).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (4, 5));
    assert_eq!(records(&mut follower, 100), records(&mut leader, 100));
    assert_eq!(follower.epochs(), leader.epochs());
    let again = follower.append_as_follower(&partial, -1, NOW).unwrap_err();
    assert_eq!(again, AppendError::UnexpectedOffset { found: 0, log_end_offset: 6 });
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let (_disk, mut other) = fresh(LogConfig::default());
    assert!(matches!(other.append_as_follower(&damaged.into(), -1, NOW), Err(AppendError::Corrupt(_))));
    assert_eq!(other.log_end_offset(), 0);
}

#[test]
fn a_follower_of_a_compacted_log_has_gaps() {
    let (disk, mut log) = fresh(small());
    let at = |offset| {
        let mut builder =
            BatchBuilder::new(offset, BatchOptions { leader_epoch: 0, ..BatchOptions::default() });
        builder.push(NOW, None, Some(b"v"), &[]);
        bytes::Bytes::from(builder.finish())
    };
    let offsets = [0, 10, 20, i64::from(i32::MAX) + 50, i64::from(i32::MAX) + 60];
    for offset in offsets {
        log.append_as_follower(&at(offset), -1, NOW).unwrap();
    }
    assert_eq!(log.segments().map(|(base, _)| base).collect::<Vec<_>>(), [0, offsets[3]]);
    let found: Vec<i64> = records(&mut log, 100).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(found, offsets);
    assert_eq!(log.read(11, 10_000, i64::MAX, true).unwrap().next_offset, 21);
    let (mut again, _) = open_with(&disk.kill(), small(), OpenHints::default());
    assert_eq!(records(&mut again, 100).len(), 5);
    again.truncate_to(15, NOW).unwrap();
    assert_eq!(again.log_end_offset(), 15);
    assert_eq!(again.read(11, 100, 15, true).unwrap().next_offset, 15);
}

#[test]
fn the_raft_leader_appends_many_batches_at_once() {
    let (_disk, mut log) = fresh(LogConfig { message_bytes_max: 10, ..LogConfig::default() });
    let two = bytes::Bytes::from([&batch(&[b"0", b"1"])[..], &batch(&[b"2"])[..]].concat());
    let info = log.append(&two, AppendOrigin::RaftLeader, 4, NOW).unwrap();
    assert_eq!((info.first_offset, info.last_offset, info.bytes), (0, 2, two.len()));
    check_filled(&mut log, 0, 3);
    assert_eq!(log.latest_epoch(), Some(4));
}

#[test]
fn segments_roll_by_time_index_size_and_request() {
    let rolled = |config: LogConfig, timestamps: &[i64]| {
        let (_disk, mut log) = fresh(config);
        for timestamp in timestamps {
            log.append(&batch_at(*timestamp, &[b"x"], BatchOptions::default()), CLIENT, 0, NOW).unwrap();
        }
        log.segments().map(|(base, _)| base).collect::<Vec<_>>()
    };
    let by_time = LogConfig { segment_ms: 1000, ..LogConfig::default() };
    assert_eq!(rolled(by_time.clone(), &[NOW - 5000, NOW - 4000, NOW - 3999]), [0, 2]);
    assert_eq!(rolled(by_time, &[NOW, NOW - 5000, NOW]), [0]);
    let by_index = LogConfig { index_interval_bytes: 1, index_bytes_max: 48, ..LogConfig::default() };
    assert_eq!(rolled(by_index, &[NOW; 9]), [0, 7]);
    let (_disk, mut log) = fresh(LogConfig::default());
    fill(&mut log, 2);
    log.roll(NOW).unwrap();
    log.roll(NOW).unwrap();
    fill(&mut log, 2);
    assert_eq!(log.segments().map(|(base, _)| base).collect::<Vec<_>>(), [0, 2]);
    check_filled(&mut log, 0, 4);
}

#[test]
fn space_is_reserved_ahead_for_segments_that_grow() {
    let (disk, mut log) =
        fresh(LogConfig { segment_bytes: 3 << 20, tail_cache_bytes: 0, ..LogConfig::default() });
    let large = batch(&[&[7; 32 << 10]]);
    append(&mut log, &large);
    append(&mut log, &large);
    assert_eq!(disk.counters().bytes_allocated, 0, "small segments reserve nothing");
    for _ in 0..70 {
        append(&mut log, &large);
    }
    assert_eq!(log.segments().count(), 1);
    let size = log.size();
    assert!(
        (2 << 20..=3 << 20).contains(&disk.counters().bytes_allocated),
        "in steps, and not past the segment"
    );
    log.close().unwrap();
    let file = disk.contents(Path::new(&format!("{DIR}/{:020}.log", 0))).unwrap();
    assert_eq!(file.len() as u64, size, "the file ends with its last batch");
}

#[test]
fn segments_do_not_all_roll_at_once() {
    let config = |seed| LogConfig { segment_jitter_ms: 1000, jitter_seed: seed, ..LogConfig::default() };
    let jitters: Vec<i64> = (0..50).map(|n| config(9).jitter_ms(n * 100)).collect();
    assert!(jitters.iter().all(|jitter| (0..=1000).contains(jitter)));
    assert!(jitters.iter().max().unwrap() - jitters.iter().min().unwrap() > 500);
    assert_ne!(config(1).jitter_ms(0), config(2).jitter_ms(0));
    assert_eq!(LogConfig::default().jitter_ms(5), 0);
}

#[test]
fn a_log_may_move_between_threads() {
    fn sendable<T: Send>() {}
    sendable::<crate::Log>();
    sendable::<crate::FlushJob>();
    sendable::<crate::ReadJob>();
}

#[test]
fn an_interrupted_swap_is_finished_and_leftovers_go() {
    let (disk, mut log) = fresh(small());
    fill(&mut log, 30);
    log.close().unwrap();
    let second = log.segments().nth(1).unwrap().0;
    // Compaction had copied the first segment and was about to put the copy in its place.
    let name = |base: i64, rest: &str| format!("{DIR}/{base:020}.{rest}");
    disk.rename(Path::new(&name(0, "log")), Path::new(&name(0, "log.swap"))).unwrap();
    disk.rename(Path::new(&name(0, "index")), Path::new(&name(0, "index.swap"))).unwrap();
    for leftover in [name(second, "log.cleaned"), name(5, "log.deleted"), name(3, "index")] {
        disk.open(Path::new(&leftover), crate::OpenMode::Create).unwrap();
    }
    let (mut again, _) = open_with(&disk, small(), clean());
    check_filled(&mut again, 0, 30);
    let names = disk.list(Path::new(DIR)).unwrap();
    assert!(
        !names.iter().any(|name| name.contains("swap") || name.contains("clean") || name.contains("deleted"))
    );
    assert!(!names.contains(&format!("{:020}.index", 3)), "{names:?}");
}

#[test]
fn a_segment_that_may_not_wait_grows_until_its_name_is_durable() {
    let config = LogConfig { segment_bytes: 500, rolls_may_wait: false, ..small() };
    let (disk, mut log) = fresh(config);
    let before = disk.counters();
    fill(&mut log, 40);
    assert_eq!(log.segments().count(), 1);
    assert!(log.is_overdue());
    let after = disk.counters();
    assert_eq!((after.syncs, after.dir_syncs), (before.syncs, before.dir_syncs), "nobody waited");
    log.flush().unwrap();
    assert!(!log.is_overdue());
    fill(&mut log, 1);
    assert_eq!(log.segments().map(|(base, _)| base).collect::<Vec<_>>(), [0, 40]);
    // While the flush runs the new name is not durable either.
    let flush = log.begin_flush().unwrap();
    fill(&mut log, 39);
    assert_eq!(log.segments().count(), 2);
    let done = flush.run();
    log.on_flushed(done).unwrap();
    fill(&mut log, 1);
    assert_eq!(log.segments().count(), 3);
    check_filled(&mut log, 0, 81);
}

#[test]
fn a_released_log_is_loaded_outside_of_it() {
    let (_disk, mut log) = fresh(small());
    fill(&mut log, 10);
    log.flush().unwrap();
    log.release_files().unwrap();
    assert!(!log.is_loaded());
    let loaded = log.begin_load().unwrap().run().unwrap();
    log.on_loaded(loaded);
    assert!(log.is_loaded() && log.begin_load().is_none());
    // What was loaded before somebody else went on is of no use any more.
    log.release_files().unwrap();
    let stale = log.begin_load().unwrap().run().unwrap();
    fill(&mut log, 2);
    log.on_loaded(stale);
    fill(&mut log, 1);
    check_filled(&mut log, 0, 13);
}
