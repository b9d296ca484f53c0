//! An error at every single operation of a log's life, and what is left of it: what was acknowledged, and a log that goes on.
//!
//! A log lives through appends, flushes, new epochs, new segments, released files, retention, a cut at its end and a compaction, while one
//! operation (or three in a row) fails. After a shortage the log goes on by itself, or says that it has to be opened anew; after any other
//! error, and after a sync that failed in whatever way, it has failed, and only the next process goes on.

use super::rig::*;
use crate::disk::{Fault, SimDisk};
use crate::{Log, LogConfig, Meaning, OpenHints, RetentionRules, StorageError};
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use std::io::ErrorKind;

/// How often anything is tried again; more often than anything fails.
const TRIES: u32 = 8;

/// The disk does not work any more.
struct Broken(StorageError);

/// Whoever owns a log, as a partition does.
struct Keeper {
    disk: SimDisk,
    config: LogConfig,
    log: Log,
    /// Records below were acknowledged.
    acked: i64,
    start: i64,
    epoch: i32,
    /// Where each epoch began.
    begins: Vec<i64>,
}

impl Keeper {
    fn new(disk: SimDisk) -> Keeper {
        let config = small();
        let log = open_with(&disk, config.clone(), OpenHints::default()).0;
        Keeper { disk, config, log, acked: 0, start: 0, epoch: 0, begins: vec![0] }
    }

    fn hints(&self) -> OpenHints {
        OpenHints { recovery_point: self.acked, log_start_offset: self.start, ..OpenHints::default() }
    }

    /// Does something until it works.
    fn insist<T>(
        &mut self,
        mut act: impl FnMut(&mut Keeper) -> Result<T, StorageError>,
    ) -> Result<T, Broken> {
        for _ in 0..TRIES {
            match act(self) {
                Ok(done) => return Ok(done),
                Err(error) if error.meaning().passes() => {}
                Err(error) => {
                    return Err(Broken(error));
                }
            }
            if let Some(error) = self.log.failure() {
                assert!(error.meaning().passes(), "{error}");
                self.reopen()?;
            }
        }
        panic!("it never works");
    }

    fn reopen(&mut self) -> Result<(), Broken> {
        for _ in 0..TRIES {
            let (disk, dir) = (self.disk.clone(), std::path::PathBuf::from(DIR));
            match Log::open(std::sync::Arc::new(disk), dir, self.config.clone(), self.hints(), NOW) {
                Ok((log, report)) => {
                    assert_eq!(report.lost_synced_offsets, 0);
                    self.log = log;
                    return Ok(());
                }
                Err(error) if error.meaning().passes() => {}
                Err(error) => return Err(Broken(error)),
            }
        }
        panic!("it never opens");
    }

    fn fill(&mut self, count: usize) -> Result<(), Broken> {
        for _ in 0..count {
            self.insist(|keeper| {
                let value = keeper.log.log_end_offset().to_string();
                let appended = keeper.log.append(&batch(&[value.as_bytes()]), CLIENT, keeper.epoch, NOW);
                match appended {
                    Ok(_) => Ok(()),
                    Err(crate::AppendError::Storage(error)) => Err(error),
                    Err(error) => panic!("{error}"),
                }
            })?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Broken> {
        self.acked = self.insist(|keeper| keeper.log.flush())?;
        assert_eq!(self.acked, self.log.log_end_offset());
        Ok(())
    }

    /// Everything that was acknowledged can be read.
    fn read(&mut self) -> Result<(), Broken> {
        let (start, acked) = (self.start, self.acked);
        let mut at = start;
        while at < acked {
            let slice = self.insist(|keeper| match keeper.log.read(at, 300, acked, true) {
                Ok(slice) => Ok(slice),
                Err(crate::ReadError::Storage(error)) => Err(error),
                Err(error) => panic!("{error}"),
            })?;
            assert!(slice.next_offset > at);
            at = slice.next_offset;
        }
        Ok(())
    }

    fn retain(&mut self, bytes: u64) -> Result<(), Broken> {
        self.config.retention = RetentionRules { ms: None, bytes: Some(bytes) };
        self.log.set_config(self.config.clone());
        let mut job = self.insist(|keeper| try_retain(&mut keeper.log, keeper.acked, NOW))?;
        self.start = self.log.log_start_offset();
        self.insist(|_| job.mark_in_order())?;
        self.insist(|_| job.remove())
    }

    fn live(&mut self) -> Result<(), Broken> {
        self.fill(7)?;
        self.flush()?;
        for epoch in 1..4 {
            self.epoch = epoch;
            self.begins.push(self.log.log_end_offset());
            self.log.begin_epoch(epoch);
            self.fill(9)?;
            self.flush()?;
            self.read()?;
            self.insist(|keeper| keeper.log.release_files())?;
        }
        self.retain(1_200)?;
        self.fill(3)?;
        self.flush()?;
        self.read()?;
        // A follower is told to forget what was never acknowledged.
        self.fill(5)?;
        let acked = self.acked;
        self.insist(|keeper| keeper.log.truncate_to(acked, NOW))?;
        self.fill(14)?;
        self.flush()?;
        self.read()?;
        self.insist(|keeper| keeper.log.close())
    }

    /// What the next process finds.
    fn check(&self, image: &SimDisk) {
        let (mut log, report) = open_with(image, small(), self.hints());
        assert_eq!(report.lost_synced_offsets, 0);
        assert!(log.log_end_offset() >= self.acked, "{} < {}", log.log_end_offset(), self.acked);
        let found = records(&mut log, 300);
        let all: Vec<_> = found.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(all, (log.log_start_offset()..log.log_end_offset()).collect::<Vec<_>>());
        assert!(found.iter().all(|(offset, value)| *value == offset.to_string().into_bytes()));
        for offset in log.log_start_offset()..self.acked {
            let epoch = self.begins.iter().rposition(|begin| *begin <= offset).unwrap();
            assert_eq!(log.epoch_at(offset), Some(epoch as i32), "{offset} of {:?}", self.begins);
        }
    }
}

/// Fails `times` operations after the first `skip`, and returns whether they were reached.
fn live_with(kind: ErrorKind, skip: u64, times: u64) -> bool {
    let disk = SimDisk::new(skip);
    let mut keeper = Keeper::new(disk.clone());
    disk.inject(Fault { operation: None, path_contains: String::new(), skip, times, kind });
    let lived = keeper.live();
    let is_over = disk.counters();
    match &lived {
        Ok(()) => {}
        Err(Broken(error)) => {
            let was_sync = error.to_string().contains("may be lost");
            assert!(kind == ErrorKind::Other || was_sync, "{skip}: {error}");
        }
    }
    for image in [disk.crash(), disk.kill()] {
        keeper.check(&image);
    }
    // The story costs as much as it does without errors, or more: a rule that was not reached would be at its end.
    lived.is_err() || is_over.opens + is_over.reads + is_over.mutations > skip
}

#[test]
fn a_shortage_at_any_operation_is_over_when_it_is_over() {
    for times in [1, 3] {
        let mut skip = 0;
        while live_with(ErrorKind::StorageFull, skip, times) {
            skip += 1;
        }
        assert!(skip > 300, "the story has more operations than {skip}");
    }
}

#[test]
fn an_error_at_any_operation_costs_nothing_that_was_acknowledged() {
    let mut skip = 0;
    while live_with(ErrorKind::Other, skip, u64::MAX) {
        skip += 1;
    }
    assert!(skip > 300, "the story has more operations than {skip}");
}

/// The last value of each of ten keys, of a hundred records.
fn last_values(log: &mut Log) -> bool {
    let found = records(log, 1 << 20);
    (90..100).all(|offset| {
        found.iter().any(|(at, value)| (*at, value.as_slice()) == (offset, offset.to_string().as_bytes()))
    })
}

#[test]
fn a_compaction_that_an_error_ends_at_any_operation_loses_nothing_and_ends_well_the_next_time() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let mut skip = 0;
        loop {
            let disk = SimDisk::new(skip);
            let mut keeper = Keeper::new(disk.clone());
            for n in 0..100 {
                let mut builder = BatchBuilder::new(0, BatchOptions::default());
                builder.push(
                    NOW,
                    Some(format!("key{}", n % 10).as_bytes()),
                    Some(n.to_string().as_bytes()),
                    &[],
                );
                append(&mut keeper.log, &builder.finish().into());
            }
            keeper.acked = keeper.log.flush().unwrap();
            let before = disk.counters();
            disk.inject(Fault { operation: None, path_contains: String::new(), skip, times: 1, kind });
            let compacted = keeper.insist(|keeper| match compact(&mut keeper.log, None, NOW) {
                Ok(_) => Ok(()),
                Err(crate::CompactionError::Storage(error)) => Err(error),
                Err(error) => panic!("{error}"),
            });
            let after = disk.counters();
            disk.heal();
            for image in [disk.crash(), disk.kill()] {
                let (mut again, report) = open_with(&image, small(), keeper.hints());
                assert!(report.lost_synced_offsets == 0 && last_values(&mut again), "{kind} {skip}");
            }
            match compacted {
                Ok(()) => {
                    assert!(last_values(&mut keeper.log) && records(&mut keeper.log, 1 << 20).len() < 30)
                }
                Err(Broken(error)) => {
                    assert!(kind == ErrorKind::Other || error.to_string().contains("may be lost"), "{error}");
                    assert_eq!(error.meaning(), Meaning::Failure);
                }
            }
            let operations = (after.opens + after.reads + after.mutations)
                - (before.opens + before.reads + before.mutations);
            if operations <= skip {
                break;
            }
            skip += 1;
        }
        assert!(skip > 60, "a compaction has more operations than {skip}");
    }
}
