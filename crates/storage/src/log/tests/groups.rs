//! Groups: batches that are appended together leave exactly what they leave one by one: the same answers, the same files.

use super::rig::*;
use crate::disk::{Disk, Fault, Operation, SimDisk};
use crate::{AppendInfo, Log, LogConfig, OpenHints};
use bytes::Bytes;
use std::io::ErrorKind;
use std::path::Path;

/// Every file of the log, by name.
fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new(DIR)).unwrap();
    let read = |name: String| {
        let file = disk.open(&Path::new(DIR).join(&name), crate::OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// Plain batches, producers that go on, send again, skip, and bytes that are no batch.
fn mixture(seed: u64, count: usize) -> Vec<Bytes> {
    let mut sequences = [0; 3];
    (0..count)
        .map(|index| {
            let draw =
                (seed + 1).wrapping_mul(6_364_136_223_846_793_005).wrapping_mul(index as u64 + 7) >> 40;
            let producer = (draw / 8 % 3) as usize;
            match draw % 8 {
                0 | 1 => batch(&[&vec![b'x'; (draw / 100 % 300) as usize]]),
                2 => batch_at(NOW + 700 * index as i64, &[b"later"], Default::default()),
                3 => from_producer(producer as i64, (sequences[producer] - 2).max(0), 2),
                4 => from_producer(producer as i64, sequences[producer] + 5, 2),
                5 => Bytes::from_static(b"no batch at all"),
                _ => {
                    sequences[producer] += 2;
                    from_producer(producer as i64, sequences[producer] - 2, 2)
                }
            }
        })
        .collect()
}

fn append_together(log: &mut Log, batches: &[Bytes]) -> Vec<Option<AppendInfo>> {
    let results = log.append_group(batches.iter().map(|bytes| (bytes, CLIENT)), 3, NOW);
    results.into_iter().map(Result::ok).collect()
}

#[test]
fn together_or_one_by_one_is_the_same() {
    for seed in 0..40 {
        let config = LogConfig { segment_ms: 30_000, index_bytes_max: 120, ..small() };
        let (disk, mut log) = fresh(config.clone());
        let (other_disk, mut other) = fresh(config);
        let batches = mixture(seed, 60);
        for group in batches.chunks(1 + seed as usize % 9) {
            let one_by_one: Vec<_> =
                group.iter().map(|bytes| log.append(bytes, CLIENT, 3, NOW).ok()).collect();
            assert_eq!(append_together(&mut other, group), one_by_one, "seed {seed}");
        }
        assert!(log.segments().count() > 3, "seed {seed}: segments end within groups");
        assert_eq!(files(&other_disk), files(&disk), "seed {seed}");
        log.close().unwrap();
        other.close().unwrap();
        assert_eq!(files(&other_disk), files(&disk), "seed {seed}: closed");
    }
}

#[test]
fn a_group_is_one_write() {
    let (disk, mut log) = fresh(LogConfig { segment_bytes: 1 << 20, ..small() });
    fill(&mut log, 1);
    let before = disk.counters().writes;
    let batches = vec![batch(&[b"value"]); 20];
    assert_eq!(append_together(&mut log, &batches).len(), 20);
    assert_eq!(disk.counters().writes - before, 1);
    assert_eq!(log.log_end_offset(), 21);
}

#[test]
fn a_disk_that_fills_up_refuses_what_it_did_not_take() {
    for skip in 0..12 {
        let (disk, mut log) = fresh(small());
        fill(&mut log, 2);
        disk.inject(Fault { skip, times: 1, ..Fault::always(Operation::Write, ErrorKind::StorageFull) });
        let batches: Vec<Bytes> = (0..20).map(|_| batch(&[&[b'v'; 150]])).collect();
        let results = append_together(&mut log, &batches);
        let accepted: Vec<i64> = results.iter().flatten().map(|info| info.first_offset).collect();
        assert!(log.failure().is_none());
        assert_eq!(accepted, (2..2 + accepted.len() as i64).collect::<Vec<_>>(), "no offset is lost");
        assert_eq!(log.log_end_offset(), 2 + accepted.len() as i64);
        assert_eq!(records(&mut log, 300).len(), 2 + accepted.len());
        log.flush().unwrap();
        let hints = OpenHints { recovery_point: 2, ..OpenHints::default() };
        assert_eq!(records(&mut open_with(&disk.crash(), small(), hints).0, 300).len(), 2 + accepted.len());
    }
}
