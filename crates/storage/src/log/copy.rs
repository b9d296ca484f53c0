//! A log that is a copy of another, and takes its place: moves between log directories (`ReplicaAlterLogDirsThread`).
//!
//! The one tricky idea: a copy made of batches knows less than the original. Producers whose batches are gone, and where an epoch began
//! that left no record, are taken from the original itself when the copy takes its place.

use std::io;
use std::path::PathBuf;

use super::Log;
use crate::error::StorageError;

impl Log {
    /// Cuts off what `original` does not have, as far as epochs and ends tell (KIP-101). Returns whether anything was cut off. Waits for
    /// the disk.
    pub fn cut_to_common(&mut self, original: &Log, now: i64) -> Result<bool, StorageError> {
        let mut end = self.log_end_offset.min(original.log_end_offset);
        let mut agree = self.epochs().is_empty();
        for entry in self.epochs().iter().rev() {
            match original.end_offset_for_epoch(entry.leader_epoch) {
                Some((epoch, theirs)) if epoch == entry.leader_epoch => {
                    end = end.min(theirs);
                    agree = true;
                    break;
                }
                _ => end = end.min(entry.start_offset),
            }
        }
        let end = if agree { end } else { self.log_start_offset };
        if end >= self.log_end_offset {
            return Ok(false);
        }
        self.truncate_to(end.max(self.log_start_offset), now)?;
        Ok(true)
    }

    /// Ends the log at `offset`, although there is no record up to there (compaction removed what the original had). Waits for the disk.
    pub fn skip_to(&mut self, offset: i64, now: i64) -> Result<(), StorageError> {
        if offset <= self.log_end_offset {
            return Ok(());
        }
        self.flush()?;
        let skipped = self.try_roll(offset, now).and_then(|()| self.create_active());
        self.changed = true;
        skipped.map_err(|error| self.fail_unless_short(error))
    }

    /// Takes over what only the original knows. Both end at the same offset.
    pub fn inherit(&mut self, original: &Log) {
        assert_eq!(self.log_end_offset, original.log_end_offset, "a copy is whole before it takes over");
        self.epochs = original.epochs.clone();
        self.epochs.truncate_from_start(self.log_start_offset);
        self.epochs.mark_dirty();
        self.producers = original.producers.clone();
        self.changed = true;
        self.assert_invariants();
    }

    /// Gives the log's directory another name in the same log directory. Durable once that was synced. Waits for nothing.
    pub fn rename(&mut self, to: PathBuf) -> Result<(), StorageError> {
        self.check_healthy()?;
        if self.flushing.is_some() {
            let error = io::Error::other("renamed while it was being flushed");
            return Err(StorageError::at(&self.place.dir, &error));
        }
        let renamed = self.place.disk.rename(&self.place.dir, &to);
        renamed.map_err(|error| StorageError::at(&self.place.dir, &error))?;
        self.place.dir = to.into();
        Ok(())
    }
}
