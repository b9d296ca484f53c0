//! Reading by offset and by time, from memory and from files: bounds are kept, batches are whole.

use crate::Lookup;
use ottla_protocol::compression::Codec;
use ottla_protocol::records::{BatchOptions, TimestampType, batches};

use super::rig::*;
use crate::{Log, LogConfig, OpenHints, ReadError};

/// Ten batches of three records each, in segments of three batches.
fn tens(tail_cache_bytes: usize) -> Log {
    let config = LogConfig { segment_bytes: 400, tail_cache_bytes, ..small() };
    let (_disk, mut log) = fresh(config);
    for n in 0..10 {
        append(&mut log, &batch_at(NOW + n * 100, &[b"aaa", b"bbb", b"ccc"], BatchOptions::default()));
    }
    assert_eq!(log.log_end_offset(), 30);
    log
}

fn bases(log: &mut Log, offset: i64, bytes_max: usize, end: i64, min_one: bool) -> Vec<i64> {
    let slice = log.read(offset, bytes_max, end, min_one).unwrap();
    let next = slice.next_offset;
    let bytes = bytes_of(slice);
    let found: Vec<_> = batches(&bytes).map(|batch| *batch.unwrap().header()).collect();
    assert_eq!(
        batches(&bytes).map(|batch| batch.unwrap().size()).sum::<usize>(),
        bytes.len(),
        "whole batches only"
    );
    match found.last() {
        Some(last) => assert_eq!(next, last.next_offset()),
        None => assert_eq!(next, offset),
    }
    found.iter().map(|header| header.base_offset).collect()
}

#[test]
fn bounds_are_kept_from_files_and_from_memory() {
    let mut cold = tens(0);
    let size = bytes_of(cold.read(0, 1, 30, true).unwrap()).len();
    for log in [&mut cold, &mut tens(1 << 20)] {
        for offset in 0..30 {
            let first = offset / 3 * 3;
            assert_eq!(bases(log, offset, 0, 30, true), [first], "one batch whatever the limit");
            assert!(bases(log, offset, size - 1, 30, false).is_empty());
            assert_eq!(bases(log, offset, size, 30, false), [first]);
            assert!(bases(log, offset, usize::MAX, first + 2, true).is_empty(), "no batch across the bound");
            assert_eq!(bases(log, offset, usize::MAX, first + 3, true), [first]);
        }
        assert_eq!(bases(log, 0, 2 * size, 30, true), [0, 3]);
        assert_eq!(bases(log, 1, 2 * size + 1, 5, true), [0]);
        assert!(bases(log, 30, 100, 30, true).is_empty());
        for offset in [-1, 31] {
            let error = log.read(offset, 100, 30, true).unwrap_err();
            assert_eq!(
                error,
                ReadError::OffsetOutOfRange { offset, log_start_offset: 0, log_end_offset: 30 }
            );
        }
    }
}

#[test]
fn the_tail_is_served_without_the_disk() {
    let (disk, mut log) = fresh(LogConfig { tail_cache_bytes: 600, ..small() });
    fill(&mut log, 45);
    assert_eq!(log.cached_bytes(), 0, "nobody reads");
    log.expect_reader();
    fill(&mut log, 5);
    let before = disk.counters();
    let slice = log.read_cached(48, 10_000, 50, true).unwrap();
    assert_eq!(slice.next_offset, 50);
    assert_eq!(log.read_cached(50, 10_000, 50, true).unwrap().bytes, 0);
    assert_eq!(log.read_cached(10, 10_000, 10, true).unwrap().bytes, 0, "nothing below the bound");
    assert!(log.read_cached(0, 10_000, 50, true).is_none());
    assert!(log.read_cached(51, 10_000, 50, true).is_none());
    assert_eq!(disk.counters().reads, before.reads);
    check_filled(&mut log, 0, 50);
}

#[test]
fn what_the_page_cache_holds_of_the_active_segment_is_read_at_once_and_nothing_else() {
    let (disk, mut log) = fresh(LogConfig { segment_bytes: 2000, tail_cache_bytes: 0, ..small() });
    fill(&mut log, 50);
    let begin = log.active.base_offset;
    assert!((1..45).contains(&begin), "several segments, and some batches in the last one: {begin}");
    assert!(log.read_now(begin, 10_000, 50, true).is_none(), "nobody knows what is in memory");
    disk.set_resident(true);
    for (offset, bytes_max, end) in
        [(begin, 10_000, 50), (begin + 3, 300, 50), (49, 1, 50), (begin, 10_000, 45)]
    {
        let now = log.read_now(offset, bytes_max, end, true).unwrap();
        let waited = log.read(offset, bytes_max, end, true).unwrap();
        assert_eq!((now.bytes, now.next_offset), (waited.bytes, waited.next_offset));
        assert_eq!(bytes_of(now), bytes_of(waited), "offset {offset}");
    }
    assert!(log.read_now(begin - 1, 10_000, 50, true).is_none(), "a sealed segment's index is on the disk");
}

#[test]
fn a_job_reads_without_the_log_while_it_grows() {
    let (_disk, mut log) = fresh(small());
    fill(&mut log, 5);
    let mut job = log.begin_read(2, 10_000, 5, true).unwrap().unwrap();
    fill(&mut log, 5);
    assert_eq!(job.run().unwrap().next_offset, 5);
}

#[test]
fn times_lead_to_the_first_record_that_is_not_older() {
    let mut log = tens(0);
    for n in 0..10 {
        let found = log.lookup(Lookup::Timestamp(NOW + n * 100 - 50)).unwrap().unwrap();
        assert_eq!(
            (found.offset, found.timestamp, found.leader_epoch),
            (n * 3, NOW + n * 100, 0),
            "batch {n}"
        );
        assert_eq!(log.lookup(Lookup::Timestamp(NOW + n * 100)).unwrap().unwrap().offset, n * 3);
    }
    assert_eq!(log.lookup(Lookup::Timestamp(NOW + 901)).unwrap(), None);
    assert_eq!(log.lookup(Lookup::MaxTimestamp).unwrap().unwrap().offset, 27);
    let _ = log.advance_log_start_offset(7).unwrap();
    assert_eq!(log.lookup(Lookup::Timestamp(0)).unwrap().unwrap().offset, 7, "not below the start");
}

#[test]
fn times_within_a_compressed_batch_are_exact_and_disorder_is_no_obstacle() {
    let (disk, mut log) = fresh(LogConfig { timestamp_after_max_ms: i64::MAX, ..small() });
    let options = BatchOptions { codec: Codec::Lz4, ..BatchOptions::default() };
    let times = |log: &mut Log, times: &[i64]| {
        let mut builder = ottla_protocol::records::BatchBuilder::new(0, options);
        for time in times {
            builder.push(*time, Some(b"k"), Some(b"v"), &[]);
        }
        append(log, &builder.finish().into());
    };
    times(&mut log, &[100, 300, 200]);
    times(&mut log, &[50, 60]);
    times(&mut log, &[500, 250]);
    for n in 0..20 {
        times(&mut log, &[n]);
    }
    let check = |log: &mut Log| {
        for (time, offset) in [(0, 0), (101, 1), (250, 1), (301, 5), (500, 5)] {
            assert_eq!(log.lookup(Lookup::Timestamp(time)).unwrap().unwrap().offset, offset, "time {time}");
        }
        assert_eq!(log.lookup(Lookup::Timestamp(501)).unwrap(), None);
        assert_eq!(log.lookup(Lookup::MaxTimestamp).unwrap().unwrap().offset, 5);
    };
    check(&mut log);
    assert!(log.segments().count() > 1);
    check(&mut open_with(&disk.kill(), small(), OpenHints::default()).0);
    log.close().unwrap();
    check(&mut open_with(&disk, small(), clean()).0);
}

#[test]
fn times_lead_into_the_log_whatever_records_are_numbered() {
    let (_disk, mut log) = fresh(small());
    append(&mut log, &batch_at(NOW - 5, &[b"x"], BatchOptions::default()));
    log.append_as_follower(&misnumbered(1, "k", [900_000, 900_001, 900_002]).into(), -1, NOW).unwrap();
    assert_eq!(log.lookup(Lookup::Timestamp(NOW)).unwrap().unwrap().offset, 3);
    assert_eq!(log.log_end_offset(), 4);
}

#[test]
fn an_empty_log_knows_no_times() {
    let (_disk, mut log) = fresh(small());
    assert_eq!(log.lookup(Lookup::Timestamp(0)).unwrap(), None);
    assert_eq!(log.lookup(Lookup::MaxTimestamp).unwrap(), None);
    assert!(log.aborted_transactions(0, 10).is_empty());
}

#[test]
fn the_brokers_clock_rules_under_log_append_time() {
    let config = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..small() };
    let (_disk, mut log) = fresh(config);
    let info = append(&mut log, &batch_at(5, &[b"x", b"y"], BatchOptions::default()));
    assert_eq!(info.log_append_time, NOW);
    let bytes = bytes_of(log.read(0, 1000, 2, true).unwrap());
    let batch = batches(&bytes).next().unwrap().unwrap();
    batch.verify_crc().unwrap();
    assert_eq!((batch.timestamp_type(), batch.max_timestamp), (TimestampType::LogAppendTime, NOW));
    assert_eq!(log.lookup(Lookup::Timestamp(NOW)).unwrap().unwrap().offset, 0);
}
