//! Deleting from the front: DeleteRecords, retention, metadata snapshots.
//!
//! The one tricky idea: the log start offset moves in memory at once; the files go later, in a job outside of the lock. If the process dies
//! before, the checkpointed log start offset makes recovery remove what is left, in whatever order the disk forgot it.

use std::io;
use std::path::Path;

use super::Log;
use crate::error::{ReadError, StorageError};
use crate::names;
use crate::place::Place;

/// Files of segments that the log no longer knows.
#[derive(Debug)]
#[must_use = "files that are not removed come back when the log is opened"]
pub struct DeleteJob {
    place: Place,
    base_offsets: Vec<i64>,
    marked: bool,
}

impl DeleteJob {
    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.base_offsets.is_empty()
    }

    /// How many segments will go.
    pub fn segments(&self) -> usize {
        self.base_offsets.len()
    }

    /// Keeps the oldest segments, as many, and gives away the others.
    pub fn split_off(&mut self, segments: usize) -> DeleteJob {
        let at = segments.min(self.base_offsets.len());
        DeleteJob {
            place: self.place.clone(),
            base_offsets: self.base_offsets.split_off(at),
            marked: self.marked,
        }
    }

    /// Files that have been renamed already.
    pub(super) fn marked(place: Place, base_offsets: Vec<i64>) -> DeleteJob {
        DeleteJob { place, base_offsets, marked: true }
    }

    /// Renames the files to `.deleted`. The caller has made the new log start offset durable (`log-start-offset-checkpoint`) before.
    /// Readers that have files open go on reading. If it fails it can be done again.
    pub fn mark(&mut self) -> Result<(), StorageError> {
        if self.marked || self.is_empty() {
            return Ok(());
        }
        // The segment behind may be new, and is what says where the log ends.
        self.place.sync().map_err(|error| StorageError::at(&self.place.dir, &error))?;
        self.each(|path| {
            let mut target = path.as_os_str().to_owned();
            target.push(names::DELETED);
            match self.place.disk.rename(path, target.as_ref()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })?;
        self.marked = true;
        Ok(())
    }

    /// As [`DeleteJob::mark`], where the new log start could not be made durable, for want of space: segment by segment, each durably,
    /// so that power loss in between leaves no hole. It may bring segments back that were not renamed yet.
    pub fn mark_in_order(&mut self) -> Result<(), StorageError> {
        for base_offset in &self.base_offsets {
            DeleteJob { place: self.place.clone(), base_offsets: vec![*base_offset], marked: self.marked }
                .mark()?;
        }
        self.marked = true;
        Ok(())
    }

    /// Forgets the files unless they are in that directory: a log that moved left them behind with all others.
    pub fn keep_if_in(&mut self, dir: &Path) {
        if *self.place.dir != *dir {
            self.base_offsets.clear();
        }
    }

    /// Removes the files that [`DeleteJob::mark`] renamed; usually `file.delete.delay.ms` later. The directory may be gone. If it
    /// fails it can be done again.
    pub fn remove(&self) -> Result<(), StorageError> {
        let exists = self.place.disk.exists(&self.place.dir);
        if !exists.map_err(|error| StorageError::at(&self.place.dir, &error))? {
            return Ok(());
        }
        self.each(|path| {
            let mut target = path.as_os_str().to_owned();
            target.push(names::DELETED);
            crate::disk::remove_if_exists(&*self.place.disk, target.as_ref())
        })
    }

    /// Removes the files, oldest first and each segment durably, for a log whose start no checkpoint tells: whenever the power fails,
    /// what is left has no hole.
    pub fn remove_in_order(self) -> Result<(), StorageError> {
        if !self.is_empty() {
            // As in `mark`: the segment behind may be new.
            self.place.sync().map_err(|error| StorageError::at(&self.place.dir, &error))?;
        }
        for base_offset in self.base_offsets {
            let one = DeleteJob { place: self.place.clone(), base_offsets: vec![base_offset], marked: false };
            one.each(|path| crate::disk::remove_if_exists(&*one.place.disk, path))?;
        }
        Ok(())
    }

    fn each(&self, act: impl Fn(&std::path::Path) -> io::Result<()>) -> Result<(), StorageError> {
        let run = || {
            for base_offset in &self.base_offsets {
                for extension in names::SEGMENT_EXTENSIONS.iter().chain(&[names::PRODUCER_SNAPSHOT]) {
                    act(&self.place.path(*base_offset, extension))?;
                }
            }
            self.place.sync()
        };
        if self.is_empty() {
            return Ok(());
        }
        run().map_err(|error| StorageError::at(&self.place.dir, &error))
    }
}

impl Log {
    /// Makes `offset` the first readable one, if it is above the present one; the caller has checked it against the high watermark.
    /// Whole segments below are forgotten at once; their files are for the job to remove.
    pub fn advance_log_start_offset(&mut self, offset: i64) -> Result<DeleteJob, ReadError> {
        self.check_healthy()?;
        let (log_start_offset, log_end_offset) = (self.log_start_offset, self.log_end_offset);
        if offset > log_end_offset {
            return Err(ReadError::OffsetOutOfRange { offset, log_start_offset, log_end_offset });
        }
        if offset > log_start_offset {
            self.log_start_offset = offset;
            self.synced_offset = self.synced_offset.max(offset);
            self.epochs.truncate_from_start(offset);
            self.producers.on_log_start(offset);
            self.changed = true;
        }
        // One that is being swapped in keeps its names until that is over, and goes the next time.
        let is_gone = |n: &usize| self.next_base(*n) <= self.log_start_offset && !self.sealed[*n].swapping;
        let gone = (0..self.sealed.len()).take_while(is_gone).count();
        let base_offsets = self.sealed.drain(..gone).map(|segment| segment.base_offset).collect();
        self.assert_invariants();
        Ok(DeleteJob { place: self.place.clone(), base_offsets, marked: false })
    }
}
