//! Swapping a cleaned segment in for those that it replaces (`LocalLog.replaceSegments`).
//!
//! ```text
//!   step        names of the new segment   names of the old ones      after power loss
//!   begun       *.cleaned -> *.swap                                   old, or as below
//!   retiring    *.swap                     * -> *.deleted             new: the swap is finished by `leftovers`
//!   placing     log.swap -> log                                       new
//!   completing  the indexes follow                                    new
//! ```
//!
//! In memory the new segment counts from the first step on: it says the same as the old ones. Each step renames under the log's lock
//! and is made durable without it, so nobody who appends or reads waits for the disk.
//!
//! The one tricky idea: the log itself knows how far the names have come. Whoever must not meet a half-done swap (truncation, closing)
//! finishes it first; the thread that was waiting for a sync then finds that its swap is over.

use std::io;

use super::{DeleteJob, Log};
use crate::compact::CleanedSegment;
use crate::error::StorageError;
use crate::names::{CLEANED, DELETED, LOG, PRODUCER_SNAPSHOT, SEGMENT_EXTENSIONS, SWAP};
use crate::place::Place;

/// How far the names have come; each step is durable before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begun,
    Retiring,
    Placing,
    Completing,
}

/// A swap that is not over.
#[derive(Debug, Clone)]
pub(super) struct Swap {
    number: u64,
    step: Step,
    /// Base offsets of the segments that are replaced; the new one has the first.
    old: Vec<i64>,
}

/// A step of a swap that has to become durable; then [`Log::on_swapped`] takes the next one.
#[derive(Debug)]
#[must_use = "a swap whose steps are not made durable never ends"]
pub struct SwapJob {
    place: Place,
    number: u64,
}

/// How a step ended.
#[derive(Debug)]
#[must_use = "the log has to hear how a step of its swap ended"]
pub struct SwapDone {
    number: u64,
    result: Result<(), StorageError>,
}

/// What comes after a step of a swap.
#[derive(Debug)]
pub enum Swapped {
    /// The next step.
    More(SwapJob),
    /// It is over; the replaced files are to be removed, usually `file.delete.delay.ms` later.
    Over(DeleteJob),
    /// The log finished it in the meantime.
    Finished,
}

impl SwapJob {
    /// Waits for the disk.
    pub fn run(self) -> SwapDone {
        let result = self.place.sync().map_err(|error| StorageError::at(&self.place.dir, &error));
        SwapDone { number: self.number, result }
    }
}

/// Renames a file of a segment, if it exists.
fn rename(place: &Place, base_offset: i64, from: &str, to: &str) -> io::Result<()> {
    match place.disk.rename(&place.path(base_offset, from), &place.path(base_offset, to)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(extension: &str, suffix: &str) -> String {
    format!("{extension}{suffix}")
}

impl Log {
    /// Takes a cleaned segment in. From here on it is read instead of those that it replaces. `None`: they are not what they were, and
    /// the cleaned segment is thrown away.
    ///
    /// No job that opens files by their names (a read, a lookup, a survey) may have been begun before and run afterwards, or run while
    /// the swap is under way.
    pub fn begin_swap(&mut self, cleaned: CleanedSegment) -> Result<Option<SwapJob>, StorageError> {
        self.check_healthy()?;
        let base_offset = cleaned.segment.base_offset;
        let Some(first) = self.find_sources(&cleaned).filter(|_| self.swap.is_none()) else {
            crate::compact::remove_cleaned(&self.place, base_offset)
                .map_err(|error| StorageError::at(&self.place.dir, &error))?;
            return Ok(None);
        };
        for extension in SEGMENT_EXTENSIONS {
            rename(&self.place, base_offset, &with_suffix(extension, CLEANED), &with_suffix(extension, SWAP))
                .map_err(|error| self.fail(error))?;
        }
        let mut segment = cleaned.segment;
        segment.swapping = true;
        let count = cleaned.sources.len();
        let end_offset = self.next_base(first + count - 1);
        self.sealed.splice(first..first + count, [segment]);
        // What the cache holds may belong to transactions whose abort is no longer in the index.
        self.tail.forget_below(end_offset);
        self.swaps += 1;
        let old = cleaned.sources.iter().map(|source| source.base_offset).collect();
        self.swap = Some(Swap { number: self.swaps, step: Step::Begun, old });
        self.changed = true;
        self.assert_invariants();
        Ok(Some(self.swap_job()))
    }

    /// How many cleaned segments were ever taken in: whoever reads a file without the log's lock can tell whether its segment was
    /// replaced meanwhile, and with it the aborted transactions that belong to it.
    pub fn swaps(&self) -> u64 {
        self.swaps
    }

    /// Where the sources of a cleaned segment are, if they are still there as they were.
    fn find_sources(&self, cleaned: &CleanedSegment) -> Option<usize> {
        let first = cleaned.sources.first()?;
        let at = self.sealed.binary_search_by_key(&first.base_offset, |segment| segment.base_offset).ok()?;
        let found = self.sealed.get(at..at + cleaned.sources.len())?;
        let same = found.iter().zip(&cleaned.sources).all(|(segment, source)| {
            (segment.base_offset, segment.size) == (source.base_offset, source.size)
        });
        (same && cleaned.truncations == self.truncations).then_some(at)
    }

    fn swap_job(&self) -> SwapJob {
        SwapJob { place: self.place.clone(), number: self.swaps }
    }

    /// Takes the outcome of a step, and the next step.
    pub fn on_swapped(&mut self, done: SwapDone) -> Result<Swapped, StorageError> {
        self.check_healthy()?;
        if self.swap.as_ref().is_none_or(|swap| swap.number != done.number) {
            return Ok(Swapped::Finished);
        }
        if let Err(error) = done.result {
            self.failed.get_or_insert(error);
            self.check_healthy()?;
        }
        let over = self.next_swap_step().map_err(|error| self.fail(error))?;
        Ok(over.map_or_else(|| Swapped::More(self.swap_job()), Swapped::Over))
    }

    /// Goes on after a step that is durable. Returns the replaced files after the last one.
    fn next_swap_step(&mut self) -> io::Result<Option<DeleteJob>> {
        let Some(swap) = self.swap.as_mut() else { unreachable!("the caller looked") };
        let base_offset = swap.old[0];
        match swap.step {
            Step::Begun => {
                swap.step = Step::Retiring;
                for (n, old) in swap.old.iter().enumerate() {
                    let snapshot = (n > 0).then_some(PRODUCER_SNAPSHOT);
                    for extension in SEGMENT_EXTENSIONS.into_iter().chain(snapshot) {
                        rename(&self.place, *old, extension, &with_suffix(extension, DELETED))?;
                    }
                }
            }
            Step::Retiring => {
                swap.step = Step::Placing;
                rename(&self.place, base_offset, &with_suffix(LOG, SWAP), LOG)?;
            }
            Step::Placing => {
                swap.step = Step::Completing;
                for extension in &SEGMENT_EXTENSIONS[1..] {
                    rename(&self.place, base_offset, &with_suffix(extension, SWAP), extension)?;
                }
            }
            Step::Completing => {
                let swap = self.swap.take().expect("matched above");
                let segment = self.sealed.iter_mut().find(|segment| segment.base_offset == base_offset);
                segment.expect("segments that are being swapped stay").swapping = false;
                return Ok(Some(DeleteJob::marked(self.place.clone(), swap.old)));
            }
        }
        Ok(None)
    }

    /// Brings a swap that was begun to its end, waiting for the disk. The replaced files are removed at once.
    pub(super) fn finish_swap(&mut self) -> io::Result<()> {
        while self.swap.is_some() {
            self.place.sync()?;
            if let Some(job) = self.next_swap_step()? {
                job.remove().map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}
