//! A partition whose log moves to another log directory while it is written to and read: a copy of the log follows it there (`copying`), and
//! takes its place when it has everything (`turning`).
//!
//! ```text
//!   copying ─► telling the controller ─► told ─► turning ─► (the copy is the log)
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use ottla_protocol::{ErrorCode, Uuid};
use ottla_storage::{Log, StorageError};

use super::future::Future;
use super::{Core, Partition, Role};
use crate::effect::{Effects, Millis};
use crate::sessions::lock;
use crate::store::Root;

/// A move of a partition, as the partition's lock guards it.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) future: Arc<Future>,
    pub(super) stage: Stage,
    /// The log was cut off there since the copy was looked at: it has to be cut off as well.
    pub(super) cut: Option<i64>,
    /// The copy was emptied, to begin anew.
    pub(super) was_emptied: bool,
    /// The log start that the checkpoints of the new directory tell.
    pub(super) written_start: Option<i64>,
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
}

impl Core {
    pub(super) fn move_of(&mut self, future: &Arc<Future>) -> Option<&mut Moving> {
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
}
