//! A partition whose log moves to another log directory while it is written to and read: a copy of the log follows it there, and takes its
//! place when it has everything (`Partition.maybeReplaceCurrentWithFutureReplica`, `LogManager.replaceCurrentWithFutureLog`).
//!
//! The one tricky idea: the copy takes the log's place under the lock, with one rename that is not durable yet. So that no crash finds less
//! than was acknowledged, the log is not flushed any more while the copy prepares for that: what counts as durable stands still at what the
//! copy has on disk, too. It goes on when the copy's new name is durable, and only then the log's old directory goes.
//!
//! ```text
//!   copying ─► telling the controller ─► told ─► turning ─► (the copy is the log)
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use ottla_protocol::{Chunk, ErrorCode, Uuid, records};
use ottla_storage::{
    AppendError, AppendOrigin, DeleteJob, Log, PartitionDirKind, ReadError, Slice, StorageError,
};

use super::future::Future;
use super::{Core, Flush, Partition, Role, Wakes};
use crate::effect::{Effects, Millis};
use crate::sessions::lock;
use crate::store::{Birth, Root};

/// The most bytes that are copied at a time.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// Bytes that may be copied under the lock, at the very end.
const LAST_BYTES: usize = 256 << 10;

/// A move of a partition, as the partition's lock guards it.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) future: Arc<Future>,
    stage: Stage,
    /// The log was cut off there since the copy was looked at: it has to be cut off as well.
    cut: Option<i64>,
    /// The copy was emptied, to begin anew.
    was_emptied: bool,
    /// The log start that the checkpoints of the new directory tell.
    written_start: Option<i64>,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The copy follows the log.
    Copying,
    /// So it does while the controller is told of the new directory.
    Telling,
    /// The controller knows.
    Told,
    /// The log is not flushed any more: the copy is about to take its place.
    Turning,
}

/// A move that will not be finished.
#[derive(Debug)]
#[must_use = "its directory has to go"]
pub(crate) struct Abandoned {
    pub root: Arc<Root>,
    pub path: PathBuf,
    /// The log is where it was.
    pub home: Option<Arc<Root>>,
    /// The controller may believe that the log is in the new directory.
    pub was_told: bool,
}

/// What became of the wish that a log lives elsewhere.
#[derive(Debug)]
pub(crate) struct Altered {
    /// A move that is over by that.
    pub abandoned: Option<Abandoned>,
    pub outcome: Destination,
}

#[derive(Debug)]
pub(crate) enum Destination {
    /// It is there, or on the way.
    Known,
    /// There was nothing to copy: it is there now.
    Housed,
    /// The copy has to be made.
    Begun,
}

/// A piece of the log was copied.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Nothing: the copy has what the log has, unless it was cut.
    pub bytes: usize,
    /// The copy was cut off; the checkpoints have to say so before it goes on.
    pub was_cut: bool,
    /// What the copy does not need any more, once its new start is in the checkpoints.
    pub deleted: Option<DeleteJob>,
}

/// The copy has taken the log's place.
#[derive(Debug)]
pub(crate) struct Turned {
    pub wakes: Wakes,
    /// The old directory, to be removed; or why it could not be set aside.
    pub left: Result<Option<PathBuf>, (Arc<Root>, StorageError)>,
    pub home: Arc<Root>,
}

/// Why a move does not go on.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// There is no such move any more.
    Over,
    /// The copy can not be written.
    Copy(StorageError),
    /// The log can not be read.
    Log(ErrorCode),
}

impl From<StorageError> for Obstacle {
    fn from(error: StorageError) -> Self {
        Obstacle::Copy(error)
    }
}

impl Moving {
    pub(super) fn new(root: Arc<Root>, path: PathBuf, log: Option<Log>) -> Moving {
        let future = Future::new(root, path, log);
        Moving { future, stage: Stage::Copying, cut: None, was_emptied: false, written_start: None }
    }
}

impl Partition {
    /// Wants the log to live in that directory. Waits for the disk.
    pub(crate) fn move_to(
        self: &Arc<Self>,
        root: &Arc<Root>,
        unique: u128,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Altered, ErrorCode> {
        let _alone = lock(&self.settling);
        let (abandoned, settings) = {
            let core = &mut *self.lock();
            match core.role {
                Role::Deleted => return Err(ErrorCode::UnknownTopicOrPartition),
                Role::Offline => return Err(ErrorCode::KafkaStorageError),
                _ => {}
            }
            let home = core.root.clone().ok_or(ErrorCode::ReplicaNotAvailable)?;
            let here = Arc::ptr_eq(&home, root);
            let done = |abandoned, outcome| Ok(Altered { abandoned, outcome });
            if core.fresh {
                if here {
                    return done(None, Destination::Known);
                }
                home.move_out();
                root.move_in();
                core.root = Some(root.clone());
                return done(None, Destination::Housed);
            }
            if core.moving.as_ref().is_some_and(|moving| Arc::ptr_eq(&moving.future.root, root)) {
                return done(None, Destination::Known);
            }
            let abandoned = core.abandon_move();
            core.plan_flush(self, true, now, out);
            if here {
                return done(abandoned, Destination::Known);
            }
            (abandoned, core.settings.clone())
        };
        let made = self.store.create_future(root, &self.topic, self.index, &settings, unique, now);
        let (path, log) = match made {
            Ok(made) => made,
            Err(error) => {
                let code = self.unusable(root, "can not be moved", &error);
                return match abandoned {
                    // The one before is over all the same.
                    Some(abandoned) => {
                        Ok(Altered { abandoned: Some(abandoned), outcome: Destination::Known })
                    }
                    None => Err(code),
                };
            }
        };
        let core = &mut *self.lock();
        if core.role == Role::Offline {
            return Err(ErrorCode::KafkaStorageError);
        }
        core.moving = Some(Moving::new(root.clone(), path, Some(log)));
        Ok(Altered { abandoned, outcome: Destination::Begun })
    }

    /// The copy that is on its way to be the log, and how far it is.
    pub(crate) fn moving(&self) -> Option<(Arc<Future>, Stage)> {
        self.lock().moving.as_ref().map(|moving| (moving.future.clone(), moving.stage))
    }

    /// Whether the log is being moved.
    pub(crate) fn is_moving(&self) -> bool {
        self.lock().moving.is_some()
    }

    /// Leaves a move. Nobody may write to the copy when its directory is removed: whoever does will find out.
    pub(crate) fn leave_move(self: &Arc<Self>, now: Millis, out: &mut Effects) -> Option<Abandoned> {
        let core = &mut *self.lock();
        let abandoned = core.abandon_move();
        core.plan_flush(self, true, now, out);
        abandoned
    }

    /// The move is that far now, if it was `from` and goes to the directory of that id.
    pub(crate) fn advance_move(&self, directory: Uuid, from: Stage, to: Stage) -> bool {
        let mut core = self.lock();
        let moving = core.moving.as_mut().filter(|it| it.future.root.id() == directory && it.stage == from);
        moving.map(|moving| moving.stage = to).is_some()
    }

    /// Goes back from turning: the log is flushed again.
    pub(crate) fn turn_back(self: &Arc<Self>, now: Millis, out: &mut Effects) {
        let core = &mut *self.lock();
        if let Some(moving) = core.moving.as_mut().filter(|moving| moving.stage == Stage::Turning) {
            moving.stage = Stage::Told;
            core.plan_flush(self, true, now, out);
        }
    }

    /// Whether the log's last flush before the copy takes its place has come back.
    pub(crate) fn is_still(&self) -> bool {
        self.lock().flush != Flush::Running
    }

    /// Where the copy begins, as the checkpoints of the new directory say it.
    pub(crate) fn written_start(&self, future: &Arc<Future>) -> Option<i64> {
        self.lock().move_of(future)?.written_start
    }

    /// The checkpoints of the new directory say where the copy begins.
    pub(crate) fn on_start_written(&self, future: &Arc<Future>, start: Option<i64>) {
        if let Some(moving) = self.lock().move_of(future) {
            moving.written_start = start;
        }
    }

    /// Copies the next piece of the log, of at least one batch. Waits for the disk.
    pub(crate) fn copy_piece(
        &self,
        future: &Arc<Future>,
        bytes_max: usize,
        now: Millis,
    ) -> Result<Piece, Obstacle> {
        self.settle(now).map_err(Obstacle::Log)?;
        let (cut, was_emptied, start, end, high_watermark) = {
            let core = &mut *self.lock();
            let moving = core.move_of(future).ok_or(Obstacle::Over)?;
            let (cut, was_emptied) = (moving.cut.take(), moving.was_emptied);
            let log = core.log.as_ref().ok_or(Obstacle::Over)?;
            (cut, was_emptied, log.log_start_offset(), log.log_end_offset(), core.high_watermark)
        };
        let (is_apart, at) = {
            let mut slot = lock(&future.log);
            let copy = slot.as_mut().ok_or(Obstacle::Over)?;
            if let Some(cut) = cut.filter(|cut| *cut < copy.log_end_offset()) {
                copy.truncate_to(cut.max(copy.log_start_offset()), now)?;
                return self.after_copy_cut(future, copy, false);
            }
            let is_empty = copy.size() == 0;
            let begins_later = copy.log_start_offset() > start && !is_empty;
            let ends_before = copy.log_end_offset() < start && !(is_empty && was_emptied);
            (begins_later || ends_before, start.max(copy.log_end_offset()))
        };
        let at = if is_apart { start } else { at };
        let slice = match at < end {
            true => self.read_disk(at, bytes_max, end, true).map_err(Obstacle::Log)?,
            false => Slice::empty(at),
        };
        let next_offset = slice.next_offset;
        let bytes = in_memory(slice).map_err(StorageError::from)?;
        // Nobody else has written to it.
        let mut slot = lock(&future.log);
        let copy = slot.as_mut().ok_or(Obstacle::Over)?;
        if is_apart {
            // The log may begin within a batch.
            let first = records::batches(&bytes).next().and_then(Result::ok);
            let base = first.map_or(start, |batch| batch.base_offset.min(start));
            copy.truncate_fully_and_start_at(base, now)?;
            return self.after_copy_cut(future, copy, true);
        }
        if bytes.is_empty() && at < end && next_offset >= end {
            copy.skip_to(end, now)?;
        }
        if !bytes.is_empty() {
            match copy.append(&bytes, AppendOrigin::Replication, -1, now) {
                Ok(_) => {}
                Err(AppendError::Storage(error)) => return Err(error.into()),
                // It can not be told how the two came apart: the copy begins anew.
                Err(error) => {
                    let name = format!("{}-{}", self.topic.name, self.index);
                    self.store.report(format!("{name} is copied anew: {error}"));
                    copy.truncate_fully_and_start_at(start, now)?;
                    return self.after_copy_cut(future, copy, true);
                }
            }
        }
        // What it remembers of transactions that are decided ends with that.
        let _ = copy.last_stable_offset(high_watermark.min(copy.log_end_offset()));
        let start = start.min(copy.log_end_offset()).max(copy.log_start_offset());
        let deleted = copy.advance_log_start_offset(start).map_err(|error| match error {
            ReadError::Storage(error) => Obstacle::Copy(error),
            ReadError::OffsetOutOfRange { .. } => unreachable!("it is not above the end"),
        })?;
        future.note(copy);
        Ok(Piece { bytes: bytes.len(), was_cut: false, deleted: Some(deleted) })
    }

    fn after_copy_cut(&self, future: &Arc<Future>, copy: &Log, was_emptied: bool) -> Result<Piece, Obstacle> {
        future.note(copy);
        if let Some(moving) = self.lock().move_of(future) {
            moving.was_emptied |= was_emptied;
        }
        Ok(Piece { bytes: 0, was_cut: true, deleted: None })
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
    fn move_of(&mut self, future: &Arc<Future>) -> Option<&mut Moving> {
        self.moving.as_mut().filter(|moving| Arc::ptr_eq(&moving.future, future))
    }

    pub(super) fn abandon_move(&mut self) -> Option<Abandoned> {
        let Moving { future, stage, .. } = self.moving.take()?;
        Some(Abandoned {
            root: future.root.clone(),
            path: future.path.clone(),
            home: self.root.clone(),
            was_told: stage != Stage::Copying,
        })
    }

    /// The log ends earlier: so does the copy, when it is looked at again.
    pub(super) fn cut_copy(&mut self, end: i64) {
        if let Some(moving) = &mut self.moving {
            moving.cut = Some(moving.cut.map_or(end, |cut| cut.min(end)));
        }
    }

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

/// Reads a slice into memory.
fn in_memory(slice: Slice) -> std::io::Result<bytes::Bytes> {
    let slice = slice.into_memory()?;
    let mut bytes = bytes::BytesMut::with_capacity(slice.bytes);
    for chunk in slice.records.chunks() {
        match chunk {
            Chunk::Bytes(part) => bytes.extend_from_slice(part),
            Chunk::File(_) => unreachable!("it was read into memory"),
        }
    }
    Ok(bytes.freeze())
}
