//! What is compacted and what is not, and what happens when something else happens to the log meanwhile.

use bytes::Bytes;
use ottla_protocol::records::{Batch, BatchBuilder, BatchOptions};

use super::rig::*;
use crate::disk::{Disk, Fault, Operation, SimDisk};
use crate::{
    AppendOrigin, CompactionError, CompactionMemory, CompactionRules, Log, LogConfig, OpenHints, Pace,
    Swapped,
};

fn keyed(key: &str, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    builder.push(NOW, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    builder.finish().into()
}

/// `count` records with ten keys, everything synced.
fn filled(count: i64) -> (SimDisk, Log) {
    let (disk, mut log) = fresh(small());
    for n in 0..count {
        append(&mut log, &keyed(&format!("key{}", n % 10), &n.to_string()));
    }
    log.flush().unwrap();
    (disk, log)
}

fn offsets(log: &mut Log) -> Vec<i64> {
    records(log, 1 << 20).into_iter().map(|(offset, _)| offset).collect()
}

#[test]
fn the_last_value_of_each_key_stays_at_its_offset() {
    let (disk, mut log) = filled(100);
    let end = log.segments().last().unwrap().0;
    assert_eq!(compact(&mut log, None, NOW).unwrap(), Some(end));
    let expected: Vec<i64> = (end - 10..100).collect();
    assert_eq!(offsets(&mut log), expected);
    assert_eq!(
        log.segments().next().unwrap().1,
        61,
        "of a segment without records its last batch stays, as a header"
    );
    assert_eq!(compact(&mut log, Some(end), NOW).unwrap(), Some(end), "nothing is dirty");
    for clean_shutdown in [false, true] {
        if clean_shutdown {
            log.close().unwrap();
        }
        let (mut again, _) =
            open_with(&disk.kill(), small(), OpenHints { clean_shutdown, ..OpenHints::default() });
        assert_eq!(offsets(&mut again), expected);
    }
    let names = disk.list(std::path::Path::new(DIR)).unwrap();
    assert!(
        names
            .iter()
            .all(|name| !name.contains(".cleaned") && !name.contains(".swap") && !name.contains(".deleted"))
    );
}

#[test]
fn dirt_ends_before_what_is_undecided_unsynced_or_young() {
    let (_disk, mut log) = filled(100);
    let bases: Vec<i64> = log.segments().map(|(base, _)| base).collect();
    let end = |log: &mut Log, high_watermark| dirt(log, None, high_watermark, NOW).end_offset;
    assert_eq!(end(&mut log, 100), *bases.last().unwrap(), "the active segment is left alone");
    assert_eq!(end(&mut log, bases[2]), bases[2]);
    assert_eq!(end(&mut log, bases[2] - 1), bases[1], "a segment that is not committed as a whole");
    let clean = dirt(&mut log, Some(bases[3]), 100, NOW);
    assert_eq!(clean.first_dirty_offset, bases[3]);
    assert!(clean.ratio() < 1.0 && clean.clean_bytes > 0 && clean.dirty_bytes > 0);
    assert_eq!(dirt(&mut log, Some(101), 100, NOW).first_dirty_offset, 0, "a checkpoint of another log");
    let lag = |lag_min_ms, lag_max_ms| LogConfig {
        compaction: CompactionRules { lag_min_ms, lag_max_ms, ..CompactionRules::default() },
        ..small()
    };
    log.set_config(lag(1000, i64::MAX));
    assert_eq!(dirt(&mut log, None, 100, NOW + 999).dirty_bytes, 0);
    assert!(dirt(&mut log, None, 100, NOW + 1001).dirty_bytes > 0);
    log.set_config(lag(0, 1000));
    assert!(!dirt(&mut log, None, 100, NOW + 1000).overdue);
    let overdue = dirt(&mut log, None, 100, NOW + 1001);
    assert!(overdue.overdue && overdue.is_due(1.0));
    let options = BatchOptions {
        producer_id: 1,
        producer_epoch: 0,
        base_sequence: 0,
        transactional: true,
        ..BatchOptions::default()
    };
    append(&mut log, &batch_at(NOW, &[b"open"], options));
    log.roll(NOW).unwrap();
    log.flush().unwrap();
    log.append(&keyed("a", "b"), CLIENT, 0, NOW).unwrap();
    assert!(dirt(&mut log, None, 101, NOW).end_offset <= 100, "an open transaction");
}

#[test]
fn a_small_map_takes_several_rounds() {
    let (_disk, mut log) = filled(200);
    let memory = CompactionMemory { map_bytes: 24 * 6, ..MEMORY };
    let mut cleaned = None;
    let end = log.segments().last().unwrap().0;
    let mut rounds = 0;
    while cleaned != Some(end) {
        let dirt = dirt(&mut log, cleaned, 200, NOW);
        let mut compaction = log.begin_compaction(&dirt, memory, 200, NOW).unwrap().unwrap();
        while let Some(segment) = compaction.next_segment(&Unhurried).unwrap() {
            let mut job = log.begin_swap(segment).unwrap().unwrap();
            while let Swapped::More(next) = log.on_swapped(job.run()).unwrap() {
                job = next;
            }
        }
        assert!(cleaned < Some(compaction.cleaned_offset()));
        cleaned = Some(compaction.cleaned_offset());
        rounds += 1;
    }
    assert!(rounds > 10);
    assert_eq!(offsets(&mut log), (end - 10..200).collect::<Vec<_>>());
}

/// Stops when it has seen some bytes.
struct Impatient(std::cell::Cell<usize>);

impl Pace for Impatient {
    fn pass(&self, bytes: usize) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

#[test]
fn a_compaction_that_is_stopped_leaves_nothing_behind() {
    let (disk, mut log) = filled(60);
    let before = all_batches(&mut log);
    for bytes in (0..8000).step_by(500) {
        let dirt = dirt(&mut log, None, 60, NOW);
        let mut compaction = log.begin_compaction(&dirt, MEMORY, 60, NOW).unwrap().unwrap();
        match compaction.next_segment(&Impatient(std::cell::Cell::new(bytes))) {
            Err(error) => assert_eq!(error, CompactionError::Stopped),
            Ok(segment) => assert!(segment.is_some() && bytes > 4000),
        }
        assert_eq!(all_batches(&mut log), before);
    }
    let dirt = dirt(&mut log, None, 60, NOW);
    disk.inject(Fault {
        path_contains: ".cleaned".into(),
        ..Fault::always(Operation::Write, std::io::ErrorKind::StorageFull)
    });
    let mut compaction = log.begin_compaction(&dirt, MEMORY, 60, NOW).unwrap().unwrap();
    assert!(matches!(compaction.next_segment(&Unhurried), Err(CompactionError::Storage(_))));
    assert!(log.failure().is_none(), "a full disk is no harm to the log");
    assert_eq!(all_batches(&mut log), before);
}

#[test]
fn a_log_that_changed_meanwhile_refuses_what_was_made_of_it() {
    for what in ["truncated", "emptied", "deleted from", "swapped"] {
        let (disk, mut log) = filled(60);
        let dirt = dirt(&mut log, None, 60, NOW);
        let begin = |log: &mut Log| log.begin_compaction(&dirt, MEMORY, 60, NOW).unwrap().unwrap();
        let mut compaction = begin(&mut log);
        let cleaned = compaction.next_segment(&Unhurried).unwrap().unwrap();
        let mut start = 0;
        match what {
            "truncated" => drop(log.truncate_to(50, NOW).unwrap()),
            "emptied" => drop(log.truncate_fully_and_start_at(7, NOW).unwrap()),
            "deleted from" => {
                start = log.segments().nth(1).unwrap().0;
                drop(log.advance_log_start_offset(start).unwrap());
            }
            _ => {
                let mut other = begin(&mut log);
                let cleaned = other.next_segment(&Unhurried).unwrap().unwrap();
                let job = log.begin_swap(cleaned).unwrap();
                assert!(job.is_some() && log.begin_compaction(&dirt, MEMORY, 60, NOW).unwrap().is_none());
            }
        }
        let before = all_batches(&mut log);
        assert!(log.begin_swap(cleaned).unwrap().is_none(), "{what}");
        assert_eq!(all_batches(&mut log), before, "{what}");
        let hints = OpenHints { log_start_offset: start, ..OpenHints::default() };
        let (mut again, _) = open_with(&disk.kill(), small(), hints);
        assert_eq!(all_batches(&mut again), before, "{what}");
    }
}

/// The swap that is under way when something else needs the files is finished first, and its own thread finds that out.
#[test]
fn a_swap_is_finished_by_whoever_needs_it_to_be_over() {
    for steps in 0..4 {
        for truncate in [false, true] {
            let (disk, mut log) = filled(60);
            let dirt = dirt(&mut log, None, 60, NOW);
            let mut compaction = log.begin_compaction(&dirt, MEMORY, 60, NOW).unwrap().unwrap();
            let cleaned = compaction.next_segment(&Unhurried).unwrap().unwrap();
            // Reads that have to open files are kept apart from swaps by the caller.
            all_batches(&mut log);
            let mut held = log.begin_read(0, 1 << 20, 60, true).unwrap().unwrap();
            let mut job = log.begin_swap(cleaned).unwrap().unwrap();
            for _ in 0..steps {
                let Swapped::More(next) = log.on_swapped(job.run()).unwrap() else { panic!() };
                job = next;
                log.release_files().unwrap();
                assert!(!all_batches(&mut log).is_empty());
            }
            assert!(log.advance_log_start_offset(1).unwrap().is_empty());
            assert!(
                !bytes_of(held.run().unwrap()).is_empty(),
                "whoever has the old files open goes on reading them"
            );
            let done = job.run();
            if truncate {
                log.truncate_to(58, NOW).unwrap();
                assert!(matches!(log.on_swapped(done).unwrap(), Swapped::Finished));
            } else {
                log.close().unwrap();
            }
            let before = all_batches(&mut log);
            log.close().unwrap();
            let hints = OpenHints { log_start_offset: 1, clean_shutdown: true, ..OpenHints::default() };
            let (mut again, report) = open_with(&disk.crash(), small(), hints);
            assert_eq!((report.segments_scanned, report.bytes_truncated), (0, 0));
            assert_eq!(all_batches(&mut again), before);
            let names = disk.list(std::path::Path::new(DIR)).unwrap();
            assert!(
                names.iter().all(|name| !name.ends_with(".swap") && !name.ends_with(".deleted")),
                "{names:?}"
            );
        }
    }
}

#[test]
fn damage_is_left_alone() {
    let (disk, mut log) = filled(60);
    let path = format!("{DIR}/{:020}.log", log.segments().nth(1).unwrap().0);
    let file = disk.open(std::path::Path::new(&path), crate::OpenMode::Write).unwrap();
    file.write_all_at(&[std::io::IoSlice::new(&[0xff])], 70).unwrap();
    assert!(matches!(compact(&mut log, None, NOW), Err(CompactionError::Uncleanable(_))));
    assert_eq!(log.swaps(), 0);
}

/// A leader that does not look into compressed batches lets them pass, and files of Kafka may have others.
#[test]
fn a_batch_whose_records_have_no_offsets_of_their_own_stays_whole() {
    for deltas in [[0, 0, 0], [0, 2, 1], [0, 1, 900_000]] {
        let (_, mut log) = fresh(small());
        append(&mut log, &keyed("key0", "old"));
        let bytes = misnumbered(1, "key0", deltas);
        log.append_as_follower(&bytes.clone().into(), -1, NOW).unwrap();
        for n in 0..100 {
            append(&mut log, &keyed(&format!("key{}", n % 10), "new"));
        }
        log.flush().unwrap();
        compact(&mut log, None, NOW).unwrap();
        let kept = all_batches(&mut log);
        assert!(kept.contains(&bytes), "{deltas:?}");
    }
}

#[test]
fn a_resent_batch_is_still_a_duplicate_when_its_records_are_gone() {
    let (disk, mut log) = fresh(small());
    let sent = from_producer(1, 0, 2);
    append(&mut log, &sent);
    for n in 0..60 {
        append(&mut log, &keyed(if n % 2 == 0 { "key" } else { "other" }, "value"));
    }
    log.flush().unwrap();
    compact(&mut log, None, NOW).unwrap();
    let first = all_batches(&mut log).remove(0);
    let header = *Batch::parse(&first).unwrap().header();
    assert_eq!((header.producer_id, header.record_count, header.last_sequence()), (1, 0, 1));
    let (mut again, _) = open_with(&disk.kill(), small(), OpenHints::default());
    assert!(append(&mut again, &sent).duplicate);
    assert!(!append(&mut again, &from_producer(1, 2, 1)).duplicate);
    let replicated = again.append(&keyed("x", "y"), AppendOrigin::COORDINATOR, 0, NOW).unwrap();
    assert_eq!(replicated.first_offset, 63);
}
