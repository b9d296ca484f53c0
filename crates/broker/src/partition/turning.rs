//! The end of a move to another log directory: the copy takes the log's place (`Partition.maybeReplaceCurrentWithFutureReplica`,
//! `LogManager.replaceCurrentWithFutureLog`).
//!
//! The one tricky idea: it does so under the lock, with one rename that is not durable yet. So that no crash finds less than was acknowledged,
//! the log is not flushed any more while the copy prepares for that: what counts as durable stands still at what the copy has on disk, too. It
//! goes on when the copy's new name is durable, and only then the log's old directory goes.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_storage::{AppendError, AppendOrigin, Log, PartitionDirKind, StorageError};

use super::copying::in_memory;
use super::future::Future;
use super::moving::{Obstacle, Stage};
use super::{Core, Flush, Partition, Role, Wakes};
use crate::effect::{Effects, Millis};
use crate::sessions::lock;
use crate::store::{Birth, Root};

/// Bytes that may be copied under the lock, at the very end.
const LAST_BYTES: usize = 256 << 10;

/// The copy has taken the log's place.
#[derive(Debug)]
pub(crate) struct Turned {
    pub wakes: Wakes,
    /// The old directory, to be removed; or why it could not be set aside.
    pub left: Result<Option<PathBuf>, (Arc<Root>, StorageError)>,
    pub home: Arc<Root>,
}

impl Partition {
    /// Whether the log's last flush before the copy takes its place has come back.
    pub(crate) fn is_still(&self) -> bool {
        self.lock().flush != Flush::Running
    }

    /// The copy takes the log's place, if it has everything that counts on disk and what is left to copy is little. `None`: not yet. Waits
    /// for the disk, without the lock.
    pub(crate) fn turn(
        self: &Arc<Self>,
        future: &Arc<Future>,
        unique: u128,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Option<Turned>, Obstacle> {
        // Until the old directory has gone aside nobody may take it for that of another topic.
        let _alone = lock(&self.settling);
        let mut slot = lock(&future.log);
        let (old, home) = {
            let core = &mut *self.lock();
            let copy = slot.as_mut().ok_or(Obstacle::Over)?;
            if !core.prepare_turn(future, copy, now)? {
                return Ok(None);
            }
            let to = future.root.partition_dir(&self.topic.name, self.index);
            copy.rename(to)?;
            let log = core.log.as_mut().expect("a log that is copied is open");
            copy.inherit(log);
            copy.set_config(self.store.log_config(&core.settings));
            // Below it everything is on disk in the old directory, whatever becomes of the new name.
            core.durable_below = Some(log.synced_offset());
            let copy = slot.take().expect("looked at above");
            let old = core.log.replace(copy);
            let home = core.root.replace(future.root.clone()).expect("a log lives somewhere");
            home.move_out();
            future.root.move_in();
            core.birth = Some(Arc::new(Birth::renamed(&future.root, &self.topic.name, self.index)));
            core.moving = None;
            core.plan_flush(self, true, now, out);
            (old, home)
        };
        drop(old);
        if let Err(error) = future.root.sync() {
            // What was written there may never be found again.
            self.store.fail(&future.root, &error);
            return Err(StorageError::from(error).into());
        }
        let mut wakes = Wakes::default();
        {
            let core = &mut *self.lock();
            core.durable_below = None;
            core.advance_own(now, &mut wakes);
        }
        let left = home.set_aside(&self.topic.name, self.index, PartitionDirKind::Delete, unique);
        let left = left.and_then(|path| Ok(home.sync().map(|()| path)?));
        Ok(Some(Turned { wakes, left: left.map_err(|error| (home.clone(), error)), home }))
    }
}

impl Core {
    /// Whether the log must not be flushed, since a copy takes its place.
    pub(super) fn is_turning(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.stage == Stage::Turning)
    }

    /// Up to where the log is durable under its name.
    pub(super) fn durable_end(&self) -> i64 {
        let synced = self.log.as_ref().map_or(0, Log::synced_offset);
        self.durable_below.map_or(synced, |below| synced.min(below))
    }

    /// Copies what little is left. False: the copy can not take the log's place yet.
    fn prepare_turn(&mut self, future: &Arc<Future>, copy: &mut Log, now: Millis) -> Result<bool, Obstacle> {
        let (flush, role) = (self.flush, self.role);
        let moving = self.move_of(future).ok_or(Obstacle::Over)?;
        let (is_ready, written) =
            (moving.stage == Stage::Turning && moving.cut.is_none(), moving.written_start);
        let Some(log) = self.log.as_mut().filter(|_| !matches!(role, Role::Deleted | Role::Offline)) else {
            return Err(Obstacle::Over);
        };
        let start = log.log_start_offset();
        let is_empty = copy.size() == 0 && copy.log_end_offset() == log.log_end_offset();
        let is_ready = is_ready
            && flush != Flush::Running
            && log.failure().is_none()
            && copy.synced_offset() >= log.synced_offset()
            && (copy.log_start_offset() == start || is_empty)
            && written == Some(copy.log_start_offset());
        if !is_ready {
            return Ok(false);
        }
        let (end, mut left) = (log.log_end_offset(), LAST_BYTES);
        while copy.log_end_offset() < end {
            let at = copy.log_end_offset();
            let slice = log.read(at, left, end, false).map_err(|error| Obstacle::Log(error.code()))?;
            let bytes = in_memory(slice).map_err(StorageError::from)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            left -= bytes.len();
            match copy.append(&bytes, AppendOrigin::Replication, -1, now) {
                Ok(_) => {}
                Err(AppendError::Storage(error)) => return Err(error.into()),
                Err(_) => return Ok(false),
            }
        }
        Ok(copy.log_end_offset() == end)
    }
}
