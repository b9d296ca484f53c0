//! What a partition has to wait for: its log being opened, loaded, read and searched.
//!
//! The one tricky idea: none of it happens under the partition's lock, which loops take. The lock is held to see what is missing and to
//! take what was found; between the two only `settling` is held, which nobody takes who may not wait.

use ottla_metadata::config::TopicConfig;
use ottla_protocol::ErrorCode;
use ottla_storage::{
    FoundOffset, LoadJob, Log, Lookup, OpenHints, PartitionName, ReadError, Slice, StorageError,
};

use super::{Core, Flush, Leading, Partition, Positions, Role, Wakes};
use crate::effect::{FlushOutcome, FlushTask, Millis};
use crate::sessions::lock;
use crate::store::Root;
use std::sync::Arc;

/// What the disk has to be asked for before the log can be used.
enum Missing {
    Nothing,
    Log(Arc<TopicConfig>),
    Active(LoadJob),
}

/// Why a log is not at hand.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub code: ErrorCode,
    /// For want of something that may come back.
    pub passes: bool,
}

impl From<ErrorCode> for Unsettled {
    fn from(code: ErrorCode) -> Unsettled {
        Unsettled { code, passes: false }
    }
}

impl Partition {
    /// Whether the log can be appended to and asked without waiting for the disk. It stays so for at least one checkpoint interval,
    /// or, when files run short, until all other logs were asked to let go of theirs.
    pub(crate) fn is_at_hand(&self) -> bool {
        let mut core = self.lock();
        core.used = true;
        core.is_at_hand() && !(core.fresh && self.store.open_files_beyond(1) > 0)
    }

    /// Lets go of the log's files unless it was used since it was asked last. When it has to be flushed first, that is all that happens:
    /// the broker has to be told, and the log to be asked again. Waits for the disk, without the lock.
    pub(crate) fn let_go(self: &Arc<Self>) -> Option<FlushOutcome> {
        let mut core = self.lock();
        if std::mem::take(&mut core.used) || self.release(&mut core) {
            return None;
        }
        let task = core.flush_task(self);
        drop(core);
        task.map(FlushTask::run)
    }

    /// Lets go of the log's files if nothing of it has to reach the disk.
    pub(crate) fn let_go_if_flushed(&self) {
        self.release(&mut self.lock());
    }

    /// Lets go of files. False: not now, since something has to reach the disk, or will be needed by somebody who can not wait.
    pub(super) fn release(&self, core: &mut Core) -> bool {
        // Coordinators append at any time, on threads that may not wait: their logs stay loaded.
        let (Some(log), false) = (core.log.as_mut(), self.topic.internal) else { return true };
        if core.flush == Flush::Running || log.synced_offset() < log.log_end_offset() {
            return false;
        }
        if let Err(error) = log.release_files() {
            core.tell_failure(self, &error);
        }
        true
    }

    /// Opens the log if it is not open, and loads what it let go of. Waits for the disk, without the lock.
    pub(crate) fn settle(&self, now: Millis) -> Result<(), ErrorCode> {
        self.try_settle(now).map_err(|unsettled| unsettled.code)
    }

    /// As [`Partition::settle`]; says whether it is worth while to try again.
    pub(crate) fn try_settle(&self, now: Millis) -> Result<(), Unsettled> {
        let _alone = lock(&self.settling);
        let (missing, root, birth) = {
            let mut core = self.lock();
            core.used = true;
            (core.missing()?, core.root.clone(), core.birth.clone())
        };
        let Some(root) = root else { return Ok(()) };
        let failed = |what: &str, error: &StorageError| {
            let code = self.unusable(&root, what, error);
            Unsettled { code, passes: error.meaning().passes() }
        };
        match missing {
            Missing::Nothing => Ok(()),
            Missing::Log(settings) => {
                let take = |log| {
                    self.open_future_beside(&log, now);
                    self.lock().take_up(self, log, now)
                };
                let opened = root.reserve.spend(|| {
                    birth.as_ref().map_or(Ok(()), |birth| birth.complete())?;
                    self.store.open_log(&root, &self.topic, self.index, &settings, now, take)
                });
                Ok(opened.map_err(|error| failed("can not be opened", &error))??)
            }
            Missing::Active(job) => {
                let loaded = job.run().map_err(|error| failed("can not be loaded", &error))?;
                if let Some(log) = self.lock().log.as_mut() {
                    log.on_loaded(loaded);
                }
                Ok(())
            }
        }
    }

    /// If the log failed for want of something, lets go of it, so that whoever needs it opens it anew. Returns who waited for it.
    pub(crate) fn close_failed(&self) -> Wakes {
        let mut core = self.lock();
        let failure = core.log.as_ref().and_then(Log::failure);
        let (Some(root), Some(failure)) = (core.root.clone(), failure) else { return Wakes::default() };
        if !failure.meaning().passes() || core.role == Role::Offline {
            return Wakes::default();
        }
        let Some(log) = core.log.take() else { return Wakes::default() };
        // Where recovery has to begin, and what may not come back.
        let hints = OpenHints {
            recovery_point: log.recovery_point(),
            log_start_offset: log.log_start_offset(),
            ..OpenHints::default()
        };
        root.put_hints(PartitionName::new(&*self.topic.name, self.index), hints);
        core.abandon(ErrorCode::KafkaStorageError)
    }

    /// Looks whether an error that somebody met was the end of the log.
    pub(crate) fn look_at_failure(&self, error: &StorageError) {
        self.lock().tell_failure(self, error);
    }

    /// It may be for want of a file descriptor: then the next request tries again.
    pub(super) fn unusable(&self, root: &Root, what: &str, error: &StorageError) -> ErrorCode {
        self.store.report(format!("{}-{} {what}: {error}", self.topic.name, self.index));
        self.store.fail_if_broken(root, error);
        ErrorCode::KafkaStorageError
    }

    fn unreadable(&self, what: &str, error: &StorageError) -> ErrorCode {
        match self.root() {
            Some(root) => self.unusable(&root, what, error),
            None => ErrorCode::KafkaStorageError,
        }
    }

    /// Reads from files.
    pub(super) fn read_disk(
        &self,
        offset: i64,
        max_bytes: usize,
        bound: i64,
        one: bool,
    ) -> Result<Slice, ErrorCode> {
        let mut at = offset;
        loop {
            let plan = || {
                let planned = {
                    let mut core = self.lock();
                    let log = core.log.as_mut().ok_or(ErrorCode::NotLeaderOrFollower)?;
                    log.begin_read(at, max_bytes, bound, one)
                };
                planned.map_err(|error| match error {
                    ReadError::Storage(error) => self.unreadable("can not be read", &error),
                    other => other.code(),
                })
            };
            let Some(mut job) = plan()? else { return Ok(Slice::empty(at)) };
            // Opening a segment may mean to mend its index, which is for one thread to do; and its files may be changing their names.
            let alone = job.opens_files().then(|| lock(&self.settling));
            if alone.is_some() {
                let Some(again) = plan()? else { return Ok(Slice::empty(at)) };
                job = again;
            }
            let slice = job.run().map_err(|error| self.unreadable("can not be read", &error.into()))?;
            if alone.is_some()
                && let Some(log) = self.lock().log.as_mut()
            {
                log.end_read(job);
            }
            if slice.bytes > 0 || slice.next_offset <= at {
                return Ok(slice);
            }
            at = slice.next_offset;
        }
    }

    /// Looks a record up by time, and says where the log stood when the search began.
    pub(crate) fn lookup(
        &self,
        current_leader_epoch: i32,
        lookup: Lookup,
        now: Millis,
    ) -> Result<(Option<FoundOffset>, Positions), ErrorCode> {
        let positions = self.with_log(current_leader_epoch, now, |_, positions| positions)?;
        let failed = |error: StorageError| self.unreadable("can not be searched", &error);
        let looked = {
            let _alone = lock(&self.settling);
            let job = {
                let mut core = self.lock();
                let log = core.log.as_mut().ok_or(ErrorCode::NotLeaderOrFollower)?;
                log.begin_lookup(lookup).map_err(failed)?
            };
            job.run().map_err(failed)?
        };
        let found = looked.found;
        if let Some(log) = self.lock().log.as_mut() {
            log.end_lookup(looked);
        }
        Ok((found, positions))
    }
}

impl Core {
    pub(super) fn is_at_hand(&self) -> bool {
        self.fresh || self.role == Role::Offline || self.log.as_ref().is_some_and(Log::is_loaded)
    }

    fn missing(&self) -> Result<Missing, ErrorCode> {
        match &self.log {
            _ if self.role == Role::Offline => Err(ErrorCode::KafkaStorageError),
            _ if self.role == Role::Deleted => Err(ErrorCode::UnknownTopicOrPartition),
            _ if self.fresh => Ok(Missing::Nothing),
            // What is being flushed is still being written.
            None if self.flush == Flush::Running => Err(ErrorCode::KafkaStorageError),
            None => Ok(Missing::Log(self.settings.clone())),
            Some(log) => Ok(log.begin_load().map_or(Missing::Nothing, Missing::Active)),
        }
    }

    /// Takes a log that was opened. What it holds is on disk.
    fn take_up(&mut self, of: &Partition, mut log: Log, now: Millis) -> Result<(), ErrorCode> {
        assert!(self.log.is_none() && !self.fresh, "a log is opened once, by whoever holds `settling`");
        if self.role == Role::Deleted {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        self.birth = None;
        // The configuration may have changed meanwhile.
        log.set_config(of.store.log_config(&self.settings));
        let known = self.root.as_ref().map_or(0, |root| root.high_watermark(&of.topic.name, of.index));
        self.begin(log, known, now);
        Ok(())
    }

    /// `known`: the high watermark of an earlier life; this one may have had the log before. Of the only replica all is committed that it has on disk; others have to tell.
    pub(super) fn begin(&mut self, mut log: Log, known: i64, now: Millis) {
        let end = log.log_end_offset();
        let alone = self.leading.as_ref().is_some_and(Leading::is_alone);
        self.high_watermark =
            if alone { end } else { known.max(self.high_watermark).clamp(log.log_start_offset(), end) };
        if self.role == Role::Leader {
            log.begin_epoch(self.leader_epoch);
        }
        if let Some(leading) = &mut self.leading {
            leading.epoch_start_offset = end;
        }
        self.log = Some(log);
        self.uncommitted.retain(|(at, _)| *at <= end);
        self.take_committed();
        let mut wakes = Wakes::default();
        self.advance_own(now, &mut wakes);
        assert!(wakes.is_empty(), "nobody waits for a log that was not open");
    }
}
