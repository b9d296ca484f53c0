//! What retention deletes: by time, by size, by log start; never what is not committed.

use ottla_protocol::records::BatchOptions;

use super::rig::*;
use crate::{Log, LogConfig, OpenHints, RetentionRules};

fn rules(ms: Option<i64>, bytes: Option<u64>) -> LogConfig {
    LogConfig { retention: RetentionRules { ms, bytes }, ..small() }
}

/// One record a second, everything synced.
fn filled(config: LogConfig, count: i64) -> (crate::SimDisk, Log) {
    let (disk, mut log) = fresh(config);
    for n in 0..count {
        let value = n.to_string();
        append(&mut log, &batch_at(NOW + n * 1000, &[value.as_bytes()], BatchOptions::default()));
    }
    log.flush().unwrap();
    (disk, log)
}

#[test]
fn by_time_whole_segments_go_whose_newest_record_is_too_old() {
    let (disk, mut log) = filled(rules(Some(20_000), None), 60);
    let bases: Vec<i64> = log.segments().map(|(base, _)| base).collect();
    assert!(retain(&mut log, 60, NOW + 20_000).is_empty());
    // The newest record of the second segment is just not old enough.
    let now = NOW + (bases[2] - 1) * 1000 + 20_000;
    let mut job = retain(&mut log, 60, now);
    assert_eq!((job.segments(), log.log_start_offset()), (1, bases[1]));
    job.mark().unwrap();
    job.remove().unwrap();
    let mut job = retain(&mut log, 60, now + 1);
    assert_eq!((job.segments(), log.log_start_offset()), (1, bases[2]));
    assert!(
        retain(&mut log, bases[3] - 1, i64::MAX / 2).is_empty(),
        "nothing at or above the high watermark"
    );
    job.mark().unwrap();
    check_filled(&mut log, bases[2], 60);
    let hints = OpenHints { log_start_offset: bases[2], recovery_point: 60, ..OpenHints::default() };
    check_filled(&mut open_with(&disk.crash(), small(), hints).0, bases[2], 60);
}

#[test]
fn by_size_the_oldest_go_while_enough_is_left() {
    let (_disk, mut log) = filled(rules(None, Some(2000)), 60);
    let total = log.size();
    let job = retain(&mut log, 60, NOW);
    assert!(job.segments() > 0 && log.size() >= 2000 && log.size() < total);
    let first = u64::from(log.segments().next().unwrap().1);
    assert!(log.size() - first < 2000, "one more would be too many");
    assert!(retain(&mut log, 60, NOW).is_empty());
}

#[test]
fn only_so_many_go_at_once() {
    let (_disk, mut log) = filled(rules(Some(1000), None), 60);
    let bases: Vec<i64> = log.segments().map(|(base, _)| base).collect();
    let mut begins = Vec::new();
    loop {
        let crate::Surveyed::Known(mut job) = log.retain(60, 2, i64::MAX / 2).unwrap() else {
            panic!("segments of this life are known");
        };
        let (whole, rest) = (job.segments(), job.split_off(1));
        assert_eq!((job.segments() + rest.segments(), rest.segments()), (whole, whole.saturating_sub(1)));
        begins.push(log.log_start_offset());
        if whole < 2 {
            break;
        }
    }
    let expected: Vec<i64> = bases.iter().copied().skip(2).step_by(2).chain([60]).collect();
    assert_eq!(begins[..expected.len()], expected);
    assert_eq!(log.log_start_offset(), 60, "all in the end");
}

#[test]
fn a_log_that_expired_as_a_whole_goes_on_where_it_ended() {
    for checkpointed in [true, false] {
        let (disk, mut log) = filled(rules(Some(1000), None), 30);
        let mut job = retain(&mut log, 30, NOW + 1_000_000);
        assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size()), (30, 30, 0));
        job.mark().unwrap();
        job.remove().unwrap();
        assert!(retain(&mut log, 30, NOW + 1_000_000).is_empty(), "an empty log has nothing to delete");
        let log_start_offset = if checkpointed { 30 } else { 0 };
        let hints = OpenHints { log_start_offset, recovery_point: 30, ..OpenHints::default() };
        for image in [disk.crash(), disk.kill()] {
            let (mut again, _) = open_with(&image, small(), hints);
            assert_eq!((again.log_start_offset(), again.log_end_offset()), (30, 30));
            assert_eq!(append(&mut again, &batch(&[b"30"])).first_offset, 30);
        }
    }
}

#[test]
fn records_without_a_time_are_as_old_as_their_file() {
    let (disk, mut log) = fresh(rules(Some(5000), None));
    for _ in 0..30 {
        append(&mut log, &batch_at(-1, &[b"?"], BatchOptions::default()));
    }
    log.flush().unwrap();
    disk.set_time(NOW + 9000);
    append(&mut log, &batch_at(-1, &[b"?"], BatchOptions::default()));
    log.flush().unwrap();
    assert!(retain(&mut log, 31, 5000).is_empty());
    let segments = log.segments().count();
    assert_eq!(
        retain(&mut log, 31, 5001).segments(),
        segments - 1,
        "all but the one that was written to later"
    );
}

#[test]
fn without_rules_only_what_lies_below_the_log_start_goes() {
    let (_disk, mut log) = filled(rules(None, None), 60);
    assert!(retain(&mut log, 60, i64::MAX / 2).is_empty());
    let start = log.segments().nth(2).unwrap().0;
    assert_eq!(log.advance_log_start_offset(start + 1).unwrap().segments(), 2);
    assert!(retain(&mut log, 60, i64::MAX / 2).is_empty());
}
