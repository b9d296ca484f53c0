//! The log of one partition: segments one after the other, of which the last is written to (`UnifiedLog`, `LocalLog`).
//!
//! ```text
//!        log_start_offset        synced_offset       log_end_offset
//!               v                      v                   v
//!   [ sealed ][ sealed      ][ sealed       ][ active      )
//!   0         base          base             base
//! ```
//!
//! One owner calls it with `&mut self`; there are no locks inside. The one tricky idea: memory says what the page cache holds, and
//! `synced_offset` how much of that would survive power loss. If it is no longer known what the files hold the log has failed for good: for
//! want of something that comes back ([`Meaning::Shortage`]) it can be opened anew, for anything else its directory is out of use.

mod append;
mod copy;
mod delete;
mod dirt;
mod leftovers;
mod load;
mod lookup;
mod recover;
mod retain;
mod salvage;
mod survey;
mod swap;
mod truncate;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_protocol::records::BatchHeader;

pub use append::AppendInfo;
pub use delete::DeleteJob;
pub use dirt::Dirt;
pub use load::{LoadJob, Loaded};
pub use lookup::{FoundOffset, Looked, Lookup, LookupJob};
pub use recover::{OpenHints, RecoveryReport};
pub use survey::{SurveyDone, SurveyJob, Surveyed};
pub use swap::{SwapDone, SwapJob, Swapped};

use crate::config::LogConfig;
use crate::disk::{Disk, File};
use crate::epochs::{EpochEntry, LeaderEpochs};
use crate::error::{AppendError, ReadError, StorageError};
use crate::flush::{CloseSync, FlushDone, FlushJob};
use crate::meaning::Meaning;
use crate::names;
use crate::place::Place;
use crate::producer::{Admission, ProducerSummary, Producers};
use crate::read::{ReadJob, Slice, Source, Span};
use crate::segment::{ActiveSegment, SealedSegment, search_target};
use crate::tail::TailCache;
use crate::write_back::WriteBack;

/// The log of one partition.
#[derive(Debug)]
pub struct Log {
    place: Place,
    config: LogConfig,
    /// Oldest first.
    sealed: Vec<SealedSegment>,
    active: ActiveSegment,
    log_start_offset: i64,
    log_end_offset: i64,
    synced_offset: i64,
    /// Bytes that were written since a flush was begun; those that were cut off again count as well.
    unflushed_bytes: u64,
    epochs: LeaderEpochs,
    producers: Producers,
    tail: TailCache,
    /// Files apart from the active `.log` that the next flush has to sync, oldest first.
    unsynced: Vec<Arc<dyn File>>,
    /// Names in the directory changed since it was synced.
    unsynced_dir: bool,
    /// A segment was created whose name is not durable.
    unsynced_segment: bool,
    flushing: Option<Flushing>,
    /// A cleaned segment is taking the place of others.
    swap: Option<swap::Swap>,
    /// How many cleaned segments were taken in.
    swaps: u64,
    /// How often the end was cut off.
    truncations: u64,
    /// Something changed that a clean shutdown has to write out.
    changed: bool,
    failed: Option<StorageError>,
}

/// A flush that is running.
#[derive(Debug, Clone, Copy)]
struct Flushing {
    /// Up to where it may declare the log synced.
    end_offset: i64,
    /// It makes the name of a new segment durable.
    new_segment: bool,
}

impl Log {
    /// Opens the log in a directory, which is created if need be, and repairs what an unclean end left. Everything that the log holds
    /// afterwards is durable.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        config: LogConfig,
        hints: OpenHints,
        now: i64,
    ) -> Result<(Log, RecoveryReport), StorageError> {
        let place = Place { disk, dir: dir.into() };
        recover::open(&place, config, hints, now).map_err(|error| StorageError::at(&place.dir, &error))
    }

    /// A new log in a directory that was just created and is empty. Neither waits for the disk nor asks it for anything.
    pub fn create(disk: Arc<dyn Disk>, dir: PathBuf, config: LogConfig, now: i64) -> Log {
        recover::create(&Place { disk, dir: dir.into() }, config, now)
    }

    /// The log's directory.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The first readable offset.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    /// Everything below would survive power loss.
    pub fn synced_offset(&self) -> i64 {
        self.synced_offset
    }

    /// Where recovery has to begin after an unclean end; goes into the recovery-point checkpoint.
    pub fn recovery_point(&self) -> i64 {
        self.synced_offset
    }

    /// Offsets that were appended and are not synced (`flush.messages` counts them).
    pub fn unflushed_records(&self) -> i64 {
        self.log_end_offset - self.synced_offset
    }

    /// Bytes that were appended since a flush was begun: about as many as the next one has to write.
    pub fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes
    }

    /// Bytes of all segments' records.
    pub fn size(&self) -> u64 {
        self.sealed.iter().map(|segment| u64::from(segment.size)).sum::<u64>() + u64::from(self.active.size)
    }

    /// Base offset and bytes of each segment, oldest first; the last one is the active one.
    pub fn segments(&self) -> impl Iterator<Item = (i64, u32)> + '_ {
        let sealed = self.sealed.iter().map(|segment| (segment.base_offset, segment.size));
        sealed.chain([(self.active.base_offset, self.active.size)])
    }

    /// The configuration in force.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the configuration, from the next append on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.tail.set_bytes_max(config.tail_cache_bytes);
        self.config = config;
    }

    /// Whether a flush was begun and its outcome not taken yet.
    pub fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// Why the log is out of use, if it is.
    pub fn failure(&self) -> Option<&StorageError> {
        self.failed.as_ref()
    }

    /// Bytes that the tail cache holds.
    pub fn cached_bytes(&self) -> usize {
        self.tail.bytes()
    }

    /// Lets go of everything that can be had back from the disk: open files, indexes, cached batches. For logs that are idle; one with
    /// unsynced records keeps its active file.
    pub fn release_files(&mut self) -> Result<(), StorageError> {
        self.check_healthy()?;
        self.tail.clear();
        for segment in &mut self.sealed {
            segment.release();
        }
        let idle =
            self.synced_offset == self.log_end_offset && self.unsynced.is_empty() && self.flushing.is_none();
        if idle && self.active.size > 0 && self.active.files.is_some() {
            match self.active.trim().and_then(|()| self.active.write_indexes(&self.place)) {
                Ok(_) => {
                    // Not synced: only a clean shutdown makes anybody trust these files, and it writes them again.
                    self.changed = true;
                    self.active.files = None;
                }
                // The indexes stay in memory until there is space for them.
                Err(error) if Meaning::of(&error).passes() => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(())
    }

    /// How many segments have open files.
    pub fn open_segments(&self) -> usize {
        self.sealed.iter().filter(|segment| segment.is_open()).count()
            + usize::from(self.active.files.is_some())
    }

    // Epochs

    /// Notes that this node leads from here on under an epoch (`maybeAssignEpochStartOffset`). Durable with the next flush, and before
    /// any record of the epoch is.
    pub fn begin_epoch(&mut self, leader_epoch: i32) {
        self.epochs.assign(leader_epoch, self.log_end_offset);
    }

    /// The epoch of the last record, or the one that began after it.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs.latest().map(|entry| entry.leader_epoch)
    }

    /// All epochs and where they began, oldest first.
    pub fn epochs(&self) -> &[EpochEntry] {
        self.epochs.entries()
    }

    /// The epoch under which the record at an offset was appended.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.epochs.epoch_at(offset)
    }

    /// The largest epoch that is not above the one asked for, and its end offset (OffsetForLeaderEpoch, diverging epochs in Fetch).
    pub fn end_offset_for_epoch(&self, leader_epoch: i32) -> Option<(i32, i64)> {
        self.epochs.end_offset_for(leader_epoch, self.log_end_offset)
    }

    // Producers

    /// The last stable offset under a high watermark: nothing below belongs to an undecided transaction.
    pub fn last_stable_offset(&mut self, high_watermark: i64) -> i64 {
        self.producers.on_high_watermark(high_watermark);
        match self.producers.first_unstable_offset(high_watermark) {
            Some(offset) => offset.max(self.log_start_offset).min(high_watermark),
            None => high_watermark,
        }
    }

    /// The admission that a transactional batch needs to be the first of its transaction in this log, or `None` if the transaction is
    /// open already (KIP-890). Whoever gets one asks the transaction's coordinator, and then appends with it.
    pub fn apply_for_admission(
        &mut self,
        header: &BatchHeader,
        bumps_epoch: bool,
        now: i64,
    ) -> Result<Option<Admission>, AppendError> {
        self.producers.apply_for_admission(header, bumps_epoch, now)
    }

    /// The producers that are known, by id.
    pub fn producers(&self) -> impl Iterator<Item = ProducerSummary> + '_ {
        self.producers.summaries()
    }

    /// Forgets producers that have been idle for too long.
    pub fn expire_producers(&mut self, now: i64) {
        self.producers.expire(now, self.config.producer_id_expiration_ms);
    }

    // Reading

    /// Whole batches from the one that holds `offset` on, out of memory. `None`: only the disk can tell, see [`Log::read`].
    ///
    /// No batch that reaches up to `end_offset` is returned. `bytes_max` is kept, unless `min_one` and the first batch is larger.
    pub fn read_cached(
        &self,
        offset: i64,
        bytes_max: usize,
        end_offset: i64,
        min_one: bool,
    ) -> Option<Slice> {
        if self.failed.is_some() || offset < self.log_start_offset || offset > self.log_end_offset {
            return None;
        }
        if offset >= end_offset.min(self.log_end_offset) {
            return Some(Slice::empty(offset));
        }
        self.tail.read(offset, bytes_max, end_offset, min_one)
    }

    /// Somebody waits at the end of the log for what comes next: it is worth being kept in memory.
    pub fn expect_reader(&mut self) {
        self.tail.expect_reader();
    }

    /// Like [`Log::read_cached`], and from the active segment's file if what is needed of it is in the page cache. `None`: only the
    /// disk can tell.
    pub fn read_now(
        &mut self,
        offset: i64,
        bytes_max: usize,
        end_offset: i64,
        min_one: bool,
    ) -> Option<Slice> {
        let cached = self.read_cached(offset, bytes_max, end_offset, min_one);
        if cached.is_some() || offset < self.active.base_offset || self.active.files.is_none() {
            return cached;
        }
        let job = self.begin_read(offset, bytes_max, end_offset, min_one).ok()??;
        // Whatever is wrong will be met, and told, by the read that may wait.
        job.run_now().ok()?.filter(|slice| slice.bytes > 0)
    }

    /// Like [`Log::read_cached`], and from the disk if need be: this may wait.
    pub fn read(
        &mut self,
        offset: i64,
        bytes_max: usize,
        end_offset: i64,
        min_one: bool,
    ) -> Result<Slice, ReadError> {
        let mut at = offset;
        loop {
            if let Some(slice) = self.read_cached(at, bytes_max, end_offset, min_one) {
                return Ok(slice);
            }
            let Some(mut job) = self.begin_read(at, bytes_max, end_offset, min_one)? else {
                return Ok(Slice::empty(self.log_end_offset));
            };
            let slice = job.run().map_err(|error| StorageError::at(&self.place.dir, &error))?;
            self.end_read(job);
            if slice.bytes > 0 || slice.next_offset <= at {
                return Ok(slice);
            }
            at = slice.next_offset;
        }
    }

    /// Prepares a read from the disk, to be run without the log. `None`: nothing stands between `offset` and the log's end. Waits for
    /// the disk only if the active segment is not loaded (see [`Log::begin_load`]).
    pub fn begin_read(
        &mut self,
        offset: i64,
        bytes_max: usize,
        end_offset: i64,
        min_one: bool,
    ) -> Result<Option<ReadJob>, ReadError> {
        self.check_healthy()?;
        let (log_start_offset, log_end_offset) = (self.log_start_offset, self.log_end_offset);
        if offset < log_start_offset || offset > log_end_offset {
            return Err(ReadError::OffsetOutOfRange { offset, log_start_offset, log_end_offset });
        }
        let span = Span { offset, bytes_max, end_offset: end_offset.min(log_end_offset), min_one };
        let job = if offset < self.active.base_offset {
            Ok(self.sealed_job(span))
        } else if self.active.size > 0 {
            self.active_job(span)
        } else {
            return Ok(None);
        };
        job.map(Some).map_err(|error| ReadError::Storage(StorageError::at(&self.place.dir, &error)))
    }

    /// Takes a job that was run, to keep the files that it opened.
    pub fn end_read(&mut self, job: ReadJob) {
        if let Source::Sealed(files) = job.source
            && let Some(segment) = self.sealed_like(job.base_offset, job.size)
        {
            segment.keep(files);
        }
    }

    /// The sealed segment of which a job spoke, unless it is gone or was replaced meanwhile.
    fn sealed_like(&mut self, base_offset: i64, size: u32) -> Option<&mut SealedSegment> {
        let found = self.sealed.binary_search_by_key(&base_offset, |segment| segment.base_offset);
        found.ok().map(|n| &mut self.sealed[n]).filter(|segment| segment.size == size)
    }

    fn active_job(&mut self, span: Span) -> io::Result<ReadJob> {
        let (base_offset, size, next_base) = (self.active.base_offset, self.active.size, self.log_end_offset);
        let files = self.active.load(&self.place, &self.config)?;
        let offsets = &files.indexer.offsets;
        let start = offsets.floor(search_target(base_offset, span.offset));
        let limit = u64::from(start).saturating_add(span.bytes_max as u64).min(u64::from(size)) as u32;
        let source = Source::Active {
            file: files.log.clone(),
            start,
            limit: offsets.floor_position(limit),
            end: offsets.floor(search_target(base_offset, span.end_offset - 1)),
        };
        Ok(ReadJob { source, base_offset, size, next_base, span })
    }

    fn sealed_job(&self, span: Span) -> ReadJob {
        let n = self.sealed_at(span.offset);
        let segment = &self.sealed[n];
        let source = match segment.opened() {
            Some(files) => Source::Sealed(files.clone()),
            None => Source::Closed {
                place: self.place.clone(),
                index_interval_bytes: self.config.index_interval_bytes,
            },
        };
        let (base_offset, size) = (segment.base_offset, segment.size);
        ReadJob { source, base_offset, size, next_base: self.next_base(n), span }
    }

    /// The sealed segment that holds an offset below the active segment's.
    fn sealed_at(&self, offset: i64) -> usize {
        let count = self.sealed.partition_point(|segment| segment.base_offset <= offset);
        count.saturating_sub(1)
    }

    /// The offset at which the segment after the `n`th sealed one begins.
    fn next_base(&self, n: usize) -> i64 {
        self.sealed.get(n + 1).map_or(self.active.base_offset, |next| next.base_offset)
    }

    // Loading

    /// Whether an append or a read at the end needs nothing from the disk: the active segment's file and indexes are at hand.
    pub fn is_loaded(&self) -> bool {
        self.active.size == 0 || self.active.files.is_some()
    }

    /// Prepares what has to be read before [`Log::is_loaded`], to be run without the log.
    pub fn begin_load(&self) -> Option<LoadJob> {
        (!self.is_loaded()).then(|| LoadJob {
            place: self.place.clone(),
            base_offset: self.active.base_offset,
            size: self.active.size,
            max_timestamp: self.active.max_timestamp,
            index_interval_bytes: self.config.index_interval_bytes,
        })
    }

    /// Takes what was loaded, unless somebody else was faster.
    pub fn on_loaded(&mut self, loaded: Loaded) {
        let Loaded { base_offset, size, files } = loaded;
        if self.active.files.is_none() && (self.active.base_offset, self.active.size) == (base_offset, size) {
            self.active.files = Some(files);
        }
    }

    // Flushing

    /// Collects what has to reach the disk. `None` if nothing has to, or a flush is running (the next one will cover what came meanwhile).
    pub fn begin_flush(&mut self) -> Option<FlushJob> {
        if self.failed.is_some() || self.flushing.is_some() {
            return None;
        }
        let unsynced_records = self.log_end_offset > self.synced_offset;
        if !unsynced_records && self.unsynced.is_empty() && !self.unsynced_dir && !self.epochs.is_dirty() {
            return None;
        }
        self.unflushed_bytes = 0;
        let mut files = std::mem::take(&mut self.unsynced);
        if let (true, Some(active)) = (unsynced_records, &mut self.active.files) {
            active.written_back.reach(self.active.size.into());
            files.push(active.log.clone());
        }
        let new_segment = std::mem::take(&mut self.unsynced_segment);
        self.flushing = Some(Flushing { end_offset: self.log_end_offset, new_segment });
        let sync_dir = std::mem::take(&mut self.unsynced_dir);
        Some(FlushJob { place: self.place.clone(), files, sync_dir, epochs: self.epochs.take_dirty() })
    }

    /// What the disk may begin to take, so that the flush that is due later has less to wait for. `None` while that is little.
    pub fn begin_write_back(&mut self) -> Option<WriteBack> {
        let active = self.active.files.as_mut()?;
        active.written_back.begin(&active.log, self.active.size.into())
    }

    /// Takes the outcome of a flush and says up to where the log is synced now. After a shortage, of which [`Log::failure`] says nothing,
    /// all of it is left to the next flush; any other error ends the log.
    pub fn on_flushed(&mut self, done: FlushDone) -> Result<i64, StorageError> {
        let flushed = self.flushing.take().expect("a flush ends that was begun");
        let FlushDone { result, job } = done;
        match result {
            Err(error) if error.meaning().passes() && self.failed.is_none() => {
                self.postpone(job, flushed);
                return Err(error);
            }
            Err(error) => drop(self.failed.get_or_insert(error)),
            Ok(()) => {}
        }
        self.check_healthy()?;
        self.synced_offset = self.synced_offset.max(flushed.end_offset);
        self.assert_invariants();
        Ok(self.synced_offset)
    }

    /// What a flush did not do is for the next one to do. Files that were synced are synced again, which costs nothing.
    fn postpone(&mut self, job: FlushJob, begun: Flushing) {
        let FlushJob { files, sync_dir, epochs, .. } = job;
        // The next flush finds the active file by itself.
        let is_active = |file: &Arc<dyn File>| {
            self.active.files.as_ref().is_some_and(|active| Arc::ptr_eq(&active.log, file))
        };
        let left = files.into_iter().filter(|file| !is_active(file)).collect();
        let later = std::mem::replace(&mut self.unsynced, left);
        self.unsynced.extend(later);
        self.unsynced_dir |= sync_dir;
        self.unsynced_segment |= begun.new_segment;
        if epochs.is_some() {
            self.epochs.mark_dirty();
        }
    }

    /// Flushes and waits for it: for recovery tools, tests and single-threaded callers.
    pub fn flush(&mut self) -> Result<i64, StorageError> {
        self.check_healthy()?;
        match self.begin_flush() {
            Some(job) => {
                let done = job.run();
                self.on_flushed(done)
            }
            None => Ok(self.synced_offset),
        }
    }

    /// Whether closing the log writes anything.
    pub fn is_changed(&self) -> bool {
        self.changed || self.log_end_offset > self.synced_offset || self.epochs.is_dirty()
    }

    /// Writes everything out, durably, so that the log can be opened without recovery. Waits for the disk. No [`FlushJob`] of this log
    /// may be running meanwhile.
    pub fn close(&mut self) -> Result<(), StorageError> {
        self.close_with(CloseSync::Files)
    }

    /// As [`Log::close`]; how it becomes durable is for the caller to say.
    pub fn close_with(&mut self, sync: CloseSync) -> Result<(), StorageError> {
        self.check_healthy()?;
        if self.flushing.is_some() {
            // What the flush took with it is not known to be on disk: this log was not left in order.
            let error = io::Error::other("closed while it was being flushed");
            return Err(StorageError::at(&self.place.dir, &error));
        }
        self.finish_swap().map_err(|error| self.fail(error))?;
        if self.is_changed() {
            self.close_changed(sync).map_err(|error| self.fail(error))?;
        }
        self.tail.clear();
        self.active.files = None;
        for segment in &mut self.sealed {
            segment.release();
        }
        Ok(())
    }

    fn close_changed(&mut self, sync: CloseSync) -> io::Result<()> {
        if self.active.size > 0 {
            self.active.load(&self.place, &self.config)?;
            self.active.trim()?;
            let written = self.active.write_indexes(&self.place)?;
            self.unsynced.extend(written);
            let files = self.active.files.as_ref().expect("loaded above");
            self.unsynced.push(files.log.clone());
        }
        if self.log_end_offset > 0 {
            self.producers.set_end_offset(self.log_end_offset);
            self.write_snapshot(self.log_end_offset)?;
        }
        let files = std::mem::take(&mut self.unsynced);
        let epochs = self.epochs.take_dirty();
        let job = FlushJob { place: self.place.clone(), files, sync_dir: true, epochs };
        match sync {
            CloseSync::Files => job.sync()?,
            CloseSync::Tree => job.write()?,
        }
        self.unsynced_dir = false;
        self.unsynced_segment = false;
        self.changed = false;
        self.synced_offset = self.log_end_offset;
        Ok(())
    }

    /// Writes the producers' state, not yet durable.
    fn write_snapshot(&mut self, offset: i64) -> io::Result<()> {
        let file = self.place.write(offset, names::PRODUCER_SNAPSHOT, &self.producers.snapshot())?;
        self.unsynced.push(file);
        self.unsynced_dir = true;
        Ok(())
    }

    // Failing

    fn check_healthy(&self) -> Result<(), StorageError> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    /// Poisons the log: what the disk holds is no longer known, and only recovery can tell.
    fn fail(&mut self, error: io::Error) -> StorageError {
        let error = StorageError::at(&self.place.dir, &error);
        self.tail.clear();
        self.failed.get_or_insert(error).clone()
    }

    /// As [`Log::fail`], unless it was a shortage and the file could be cut back to its last batch: then nothing has changed, and the
    /// next try may succeed.
    fn fail_unless_short(&mut self, error: io::Error) -> StorageError {
        if Meaning::of(&error).passes() && self.active.cut_back().is_ok() {
            return StorageError::at(&self.place.dir, &error);
        }
        self.fail(error)
    }

    fn assert_invariants(&self) {
        let first = self.sealed.first().map_or(self.active.base_offset, |segment| segment.base_offset);
        assert!(first <= self.log_start_offset, "the log starts in its first segment or later");
        assert!(self.log_start_offset <= self.synced_offset, "what was deleted needs no sync");
        assert!(self.synced_offset <= self.log_end_offset, "only what was written can be synced");
        assert!(self.active.base_offset <= self.log_end_offset, "the log ends in its active segment");
        assert!(self.sealed.last().is_none_or(|last| last.base_offset < self.active.base_offset));
        assert!(self.producers.end_offset() <= self.log_end_offset, "producers know only what is in the log");
    }
}

#[cfg(test)]
mod tests;
