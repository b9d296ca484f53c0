//! What is done to a partition's log in the background: retention and compaction, for threads that may wait for the disk.
//!
//! The one tricky idea: whoever opens files by their names, or changes the names, holds `settling`; the partition's lock is taken within it
//! and only for as long as memory needs.

use ottla_metadata::config::TopicConfig;
use ottla_storage::{
    CleanedSegment, Compaction, CompactionMemory, DeleteJob, Dirt, Log, StorageError, Surveyed, Swapped,
};
use std::sync::Arc;

use super::{Partition, Role};
use crate::effect::Millis;
use crate::sessions::lock;

impl Partition {
    /// The topic's configuration in force.
    pub(crate) fn settings(&self) -> Arc<TopicConfig> {
        self.lock().settings.clone()
    }

    /// Whether there is, or may be, a log here that background work could be done on.
    pub(crate) fn has_upkeep(&self) -> bool {
        let core = self.lock();
        !core.fresh && !matches!(core.role, Role::Deleted | Role::Offline)
    }

    /// Forgets what the topic's configuration says is to be deleted, `segments_max` at most. `None`: there is no log. The new log start has
    /// to be durable before [`Partition::mark_deleted`] is called with the job.
    pub(crate) fn retain(&self, segments_max: usize, now: Millis) -> Option<Result<DeleteJob, StorageError>> {
        self.survey(now, |log, high_watermark| log.retain(high_watermark, segments_max, now))
    }

    /// Renames the files of deleted segments. `checkpointed`: the new log start is durable.
    pub(crate) fn mark_deleted(&self, job: &mut DeleteJob, checkpointed: bool) -> Result<(), StorageError> {
        let _alone = lock(&self.settling);
        if let Some(log) = &self.lock().log {
            job.keep_if_in(log.dir());
        }
        if checkpointed { job.mark() } else { job.mark_in_order() }
    }

    /// How dirty the log is. `None`: there is no log.
    pub(crate) fn dirt(
        &self,
        cleaned_offset: Option<i64>,
        now: Millis,
    ) -> Option<Result<Dirt, StorageError>> {
        self.survey(now, |log, high_watermark| log.dirt(cleaned_offset, high_watermark, now))
    }

    /// Starts to compact the log. `None`: there is nothing to compact.
    pub(crate) fn begin_compaction(
        &self,
        dirt: &Dirt,
        memory: CompactionMemory,
        now: Millis,
    ) -> Option<Result<Compaction, StorageError>> {
        let mut core = self.lock();
        let high_watermark = core.high_watermark;
        let log = core.log.as_mut()?;
        log.begin_compaction(dirt, memory, high_watermark, now).transpose()
    }

    /// Takes a cleaned segment into the log. `None`: the log is gone, or no longer what the segment was made from.
    pub(crate) fn swap(&self, cleaned: CleanedSegment) -> Result<Option<DeleteJob>, StorageError> {
        let _alone = lock(&self.settling);
        let begun = self.lock().log.as_mut().map(|log| log.begin_swap(cleaned));
        let Some(mut job) = begun.transpose()?.flatten() else { return Ok(None) };
        loop {
            let done = job.run();
            match self.lock().log.as_mut().map(|log| log.on_swapped(done)).transpose()? {
                Some(Swapped::More(next)) => job = next,
                Some(Swapped::Over(replaced)) => return Ok(Some(replaced)),
                Some(Swapped::Finished) | None => return Ok(None),
            }
        }
    }

    /// Asks the log, under the lock, until it knows how old the segments are that matter.
    fn survey<T>(
        &self,
        now: Millis,
        mut ask: impl FnMut(&mut Log, i64) -> Result<Surveyed<T>, StorageError>,
    ) -> Option<Result<T, StorageError>> {
        if !self.has_upkeep() {
            return None;
        }
        // A log that let go of its files stays that way: there may be more logs than files that can be open.
        if self.lock().log.is_none() {
            self.settle(now).ok()?;
        }
        let _alone = lock(&self.settling);
        loop {
            let asked = {
                let mut core = self.lock();
                let high_watermark = core.high_watermark;
                ask(core.log.as_mut()?, high_watermark)
            };
            let job = match asked {
                Ok(Surveyed::Known(known)) => return Some(Ok(known)),
                Ok(Surveyed::Unknown(job)) => job,
                Err(error) => return Some(Err(error)),
            };
            match job.run() {
                Ok(done) => self.lock().log.as_mut()?.on_surveyed(done),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
