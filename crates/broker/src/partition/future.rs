//! The copy of a partition's log that is going to take its place: what it holds, and what others may know of it.
//!
//! The one tricky idea: whoever copies waits for the disk with the copy in hand, and nobody else waits for them: what is asked of a copy in
//! between is answered from what was noted last.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ottla_storage::{CloseSync, Log, PartitionName};

use super::moving::Obstacle;
use super::{Checkpointed, Partition};
use crate::effect::Millis;
use crate::sessions::lock;
use crate::store::Root;

/// The copy that is going to be the log.
#[derive(Debug)]
pub(crate) struct Future {
    pub root: Arc<Root>,
    pub(super) path: PathBuf,
    /// Held while its files are written, within `settling` and around the partition's lock. Only who copies, one at a time, writes to it.
    /// `None`: it was found when the node started, and is opened together with the log; or it is the log by now.
    pub(super) log: Mutex<Option<Log>>,
    known: Mutex<Option<Known>>,
}

/// What others may know of a copy without waiting for it.
#[derive(Debug, Clone, Copy)]
struct Known {
    recovery_point: i64,
    log_start_offset: i64,
    log_end_offset: i64,
    bytes: u64,
}

impl Future {
    pub(super) fn new(root: Arc<Root>, path: PathBuf, log: Option<Log>) -> Arc<Future> {
        let known = log.as_ref().map(Known::of);
        Arc::new(Future { root, path, log: Mutex::new(log), known: Mutex::new(known) })
    }

    pub(super) fn note(&self, copy: &Log) {
        *lock(&self.known) = Some(Known::of(copy));
    }

    /// Makes what was copied durable. Waits for the disk.
    pub fn flush(&self) -> Result<(), Obstacle> {
        let mut slot = lock(&self.log);
        let copy = slot.as_mut().ok_or(Obstacle::Over)?;
        copy.flush()?;
        self.note(copy);
        Ok(())
    }

    /// Where the copy begins.
    pub fn log_start_offset(&self) -> Option<i64> {
        lock(&self.known).map(|known| known.log_start_offset)
    }
}

impl Known {
    fn of(copy: &Log) -> Known {
        Known {
            recovery_point: copy.recovery_point(),
            log_start_offset: copy.log_start_offset(),
            log_end_offset: copy.log_end_offset(),
            bytes: copy.size(),
        }
    }
}

impl Partition {
    /// The directory in which there is a copy, its bytes, and by how many offsets it is behind (-1: nobody knows yet).
    pub(crate) fn future(&self) -> Option<(Arc<Root>, u64, i64)> {
        let core = self.lock();
        let future = &core.moving.as_ref()?.future;
        let known = *lock(&future.known);
        let lag = known.zip(core.log.as_ref()).map_or(-1, |(known, log)| {
            // A copy that has to be cut off is not ahead.
            (log.log_end_offset() - known.log_end_offset).max(0)
        });
        Some((future.root.clone(), known.map_or(0, |known| known.bytes), lag))
    }

    /// Opens the copy that was found when the node started, beside the log that was just opened, and cuts off what that does not have.
    pub(super) fn open_future_beside(&self, log: &Log, now: Millis) {
        let (future, settings) = {
            let core = self.lock();
            let Some(moving) = &core.moving else { return };
            (moving.future.clone(), core.settings.clone())
        };
        if lock(&future.known).is_some() {
            return;
        }
        let mut slot = lock(&future.log);
        let opened = self.store.open_future(&future.root, &self.topic, self.index, &settings, now);
        let opened = opened.and_then(|mut copy| {
            copy.cut_to_common(log, now)?;
            copy.flush()?;
            Ok(copy)
        });
        match opened {
            Ok(copy) => {
                future.note(&copy);
                *slot = Some(copy);
                // Not before: whoever writes checkpoints looks here first.
                future.root.forget_future(&PartitionName::new(&*self.topic.name, self.index));
            }
            Err(error) => {
                self.unusable(&future.root, "is not moved on: its copy can not be opened", &error);
                self.lock().moving = None;
            }
        }
    }

    /// Flushes and closes the copy, on the way down.
    pub(crate) fn close_future(&self, sync: CloseSync) -> Option<(Arc<Root>, Result<Checkpointed, String>)> {
        let (future, high_watermark) = {
            let core = self.lock();
            (core.moving.as_ref()?.future.clone(), core.high_watermark)
        };
        let mut copy = lock(&future.log).take()?;
        let closed = copy.close_with(sync).map_err(|error| error.to_string());
        let known = Known::of(&copy);
        let high_watermark = high_watermark.min(known.log_end_offset);
        let known = (known.recovery_point, known.log_start_offset, high_watermark);
        Some((future.root.clone(), closed.map(|()| known)))
    }

    /// What the checkpoints of its directory say of the copy.
    pub(crate) fn checkpoint_future(&self) -> Option<(Arc<Root>, Checkpointed)> {
        let core = self.lock();
        let future = &core.moving.as_ref()?.future;
        let known = (*lock(&future.known))?;
        let high_watermark = core.high_watermark.min(known.log_end_offset);
        Some((future.root.clone(), (known.recovery_point, known.log_start_offset, high_watermark)))
    }
}
