//! Flushing with group commit: what was appended while one flush ran is covered by the next.
//!
//! The one tricky idea: a flush is three steps. `begin_flush` collects under the log's lock what has to reach the disk; `run` waits for the
//! disk with no lock held; `on_flushed` believes the result. Between the first and the last the log may be truncated, so the log itself
//! remembers up to where the flush may still speak.

use std::io;
use std::sync::Arc;

use crate::disk::{File, replace, write_atomic};
use crate::error::StorageError;
use crate::names::LEADER_EPOCH_CHECKPOINT;
use crate::place::Place;

/// Everything that has to reach the disk before the log is synced up to where it ended when this was collected.
#[derive(Debug)]
#[must_use = "a log whose flush is not run never flushes again"]
pub struct FlushJob {
    pub(crate) place: Place,
    /// Oldest segment first.
    pub(crate) files: Vec<Arc<dyn File>>,
    pub(crate) sync_dir: bool,
    /// The new content of `leader-epoch-checkpoint`.
    pub(crate) epochs: Option<Vec<u8>>,
}

/// How what a closed log has written becomes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseSync {
    /// File by file, before the log counts as closed.
    Files,
    /// By the caller, with one [`crate::Disk::sync_tree`] for many logs. Until then nothing may be said that is true of synced logs only.
    Tree,
}

/// How a flush ended; to be given to [`crate::Log::on_flushed`].
#[derive(Debug)]
#[must_use = "the log has to hear how its flush ended"]
pub struct FlushDone {
    pub(crate) result: Result<(), StorageError>,
    /// What was to be done.
    pub(crate) job: FlushJob,
}

impl FlushJob {
    /// Waits for the disk.
    pub fn run(self) -> FlushDone {
        let result = self.sync().map_err(|error| StorageError::at(&self.place.dir, &error));
        FlushDone { result, job: self }
    }

    /// Does not even try, since something that has to be durable before is not.
    pub fn give_up(self, why: StorageError) -> FlushDone {
        FlushDone { result: Err(why), job: self }
    }

    /// Leaves the syncs to the caller.
    pub(crate) fn write(&self) -> io::Result<()> {
        match &self.epochs {
            Some(epochs) => replace(&*self.place.disk, &self.place.dir.join(LEADER_EPOCH_CHECKPOINT), epochs),
            None => Ok(()),
        }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        if let Some(epochs) = &self.epochs {
            write_atomic(&*self.place.disk, &self.place.dir.join(LEADER_EPOCH_CHECKPOINT), epochs)?;
        }
        if self.sync_dir { self.place.sync() } else { Ok(()) }
    }
}
