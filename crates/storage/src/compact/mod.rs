//! Compaction: of all records with one key only the last one is kept (`Cleaner`).
//!
//! ```text
//!   0        first_dirty_offset        end_offset   active segment
//!   [ clean  ][ dirty        ][ dirty  ][ too young ][ ...
//!             `-- 1. keys are mapped --'
//!   `-- 2. what the map does not supersede is copied: *.cleaned -'
//!   `-- 3. the copy takes the place of the originals: log/swap ---'
//! ```
//!
//! This is straight code for a thread that may wait for the disk. It holds no lock and no part of the log: it works on a list of sealed
//! segments, which nobody writes to, and what it made counts only when [`crate::Log::begin_swap`] finds that list unchanged.
//!
//! The one tricky idea: the last batch of a cleaned segment always stays, if only as a header. So segments never end before the next one
//! begins, and recovery goes on taking a hole between two segments for what it is: a loss.

mod filter;
mod key_hash;
mod key_map;
mod output;
mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::ControlFlow;

use ottla_protocol::records::{Batch, BatchHeader, HEADER_BYTES, empty_batch};

pub use key_hash::HashSecret;
pub use output::CleanedSegment;
pub(crate) use output::remove_cleaned;

use crate::config::LogConfig;
use crate::disk::OpenMode;
use crate::error::StorageError;
use crate::index::AbortedTxn;
use crate::names::LOG;
use crate::place::Place;
use crate::producer::LastRecord;
use crate::scan::{Found, Scan};
use crate::segment::fits;
use filter::{Filter, Left};
use key_map::KeyMap;
use output::Output;
use transactions::Transactions;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// How a compaction is to go about its work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionMemory {
    /// Bytes that the map of keys may take.
    pub map_bytes: u64,
    /// How full the map may get, 0 to 1.
    pub load_factor: f64,
    /// Drawn once by each process.
    pub secret: HashSecret,
}

/// Whoever runs a compaction: told of its work as it goes on, and asked whether it shall.
pub trait Pace {
    /// Bytes were read or written; waits if that was too fast. `false`: the compaction is to end here.
    fn pass(&self, bytes: usize) -> bool;
}

/// Why a compaction ended early. Nothing was changed since the last segment that was swapped in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompactionError {
    /// Its [`Pace`] said so.
    Stopped,
    /// Segments disappeared meanwhile: they were deleted or truncated.
    Superseded,
    /// The log holds something that compaction must not touch; it will fail again.
    Uncleanable(String),
    /// The disk failed.
    Storage(StorageError),
}

impl fmt::Display for CompactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompactionError::Stopped => f.write_str("it was stopped"),
            CompactionError::Superseded => f.write_str("its segments are gone"),
            CompactionError::Uncleanable(reason) => f.write_str(reason),
            CompactionError::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CompactionError {}

/// What a compaction did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionStats {
    /// Different keys in the dirty part.
    pub keys: usize,
    /// Bytes of the segments that were gone through.
    pub bytes_before: u64,
    /// Bytes of those that took their place.
    pub bytes_after: u64,
    /// Segments before.
    pub segments_before: usize,
    /// Segments after.
    pub segments_after: usize,
}

/// A sealed segment, as compaction found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) base_offset: i64,
    pub(crate) size: u32,
    pub(crate) next_base: i64,
}

/// What [`crate::Log::begin_compaction`] found: everything that is needed to go on without the log.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) place: Place,
    pub(crate) config: LogConfig,
    /// All sealed segments that begin below `end_offset`, oldest first.
    pub(crate) sources: Vec<Source>,
    pub(crate) first_dirty_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) aborted: Vec<AbortedTxn>,
    pub(crate) last_records: BTreeMap<i64, LastRecord>,
    pub(crate) high_watermark: i64,
    pub(crate) truncations: u64,
    pub(crate) now: i64,
}

/// One compaction of one log.
#[derive(Debug)]
pub struct Compaction {
    snapshot: Snapshot,
    state: State,
    stats: CompactionStats,
}

#[derive(Debug)]
enum State {
    Unmapped(CompactionMemory),
    Cleaning { filter: Box<Filter>, groups: VecDeque<Vec<Source>> },
}

impl Compaction {
    pub(crate) fn new(snapshot: Snapshot, memory: CompactionMemory) -> Compaction {
        Compaction { snapshot, state: State::Unmapped(memory), stats: CompactionStats::default() }
    }

    /// Cleans the next group of segments into a new one, to be given to [`crate::Log::begin_swap`]. `None`: everything is done.
    pub fn next_segment(&mut self, pace: &dyn Pace) -> Result<Option<CleanedSegment>, CompactionError> {
        if let State::Unmapped(memory) = self.state {
            let filter = self.map_keys(memory, pace)?;
            let mapped_end = filter.mapped_end;
            if mapped_end <= self.snapshot.first_dirty_offset {
                let reason = "the keys of a single batch do not fit into the memory for keys".to_owned();
                return Err(CompactionError::Uncleanable(reason));
            }
            let sources = self.snapshot.sources.iter().filter(|source| source.base_offset < mapped_end);
            let groups = group(&sources.copied().collect::<Vec<_>>(), &self.snapshot.config);
            self.stats.keys = filter.map.len();
            self.state = State::Cleaning { filter: Box::new(filter), groups };
        }
        let State::Cleaning { filter, groups } = &mut self.state else { unreachable!("mapped above") };
        let Some(sources) = groups.pop_front() else { return Ok(None) };
        let cleaned = clean(&self.snapshot, &sources, filter, pace)?;
        self.stats.bytes_before += sources.iter().map(|source| u64::from(source.size)).sum::<u64>();
        self.stats.bytes_after += u64::from(cleaned.size);
        self.stats.segments_before += sources.len();
        self.stats.segments_after += 1;
        Ok(Some(cleaned))
    }

    /// Up to where the log is clean once all segments are swapped in.
    pub fn cleaned_offset(&self) -> i64 {
        match &self.state {
            State::Unmapped(_) => self.snapshot.first_dirty_offset,
            State::Cleaning { filter, .. } => filter.mapped_end,
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> CompactionStats {
        self.stats
    }

    /// Notes the last offset of every key in the dirty part, or in as much of it as fits.
    fn map_keys(&self, memory: CompactionMemory, pace: &dyn Pace) -> Result<Filter, CompactionError> {
        let Snapshot { first_dirty_offset: start, end_offset: end, .. } = self.snapshot;
        // No more keys than offsets.
        let keys = u64::try_from(end - start).unwrap_or(0);
        let mut map = KeyMap::new(memory.map_bytes, memory.load_factor, keys, memory.secret);
        let ahead = self.snapshot.aborted.iter().filter(|txn| txn.last_offset >= start);
        let mut walk = Transactions::new(ahead.copied().collect());
        let mut mapped_end = start;
        let limit = self.snapshot.config.decompressed_bytes_max;
        for source in self.snapshot.sources.iter().filter(|source| source.next_base > start) {
            let mut full = false;
            self.snapshot.walk(source, pace, |batch| {
                if batch.last_offset() < start {
                    return Ok(ControlFlow::Continue(()));
                }
                if batch.is_control() {
                    walk.on_control(batch).ok_or_else(|| unreadable(source, batch))?;
                } else if !walk.on_data(batch)
                    && let Ok(records) = batch.records(limit)
                {
                    full = !Filter::map_keys(&mut map, batch, &records, start);
                }
                if full {
                    return Ok(ControlFlow::Break(()));
                }
                mapped_end = batch.next_offset();
                Ok(ControlFlow::Continue(()))
            })?;
            if full {
                break;
            }
            mapped_end = mapped_end.max(source.next_base);
        }
        Ok(Filter {
            map,
            mapped_end,
            transactions: Transactions::new(self.snapshot.aborted.clone()),
            last_records: self.snapshot.last_records.clone(),
            high_watermark: self.snapshot.high_watermark,
            now: self.snapshot.now,
            delete_retention_ms: self.snapshot.config.compaction.delete_retention_ms,
            decompressed_bytes_max: limit,
        })
    }
}

fn unreadable(source: &Source, batch: &Batch<'_>) -> CompactionError {
    CompactionError::Uncleanable(format!(
        "the batch at offset {} of segment {} can not be read",
        batch.base_offset, source.base_offset
    ))
}

/// Copies what is left of some segments into one new segment.
fn clean(
    snapshot: &Snapshot,
    sources: &[Source],
    filter: &mut Filter,
    pace: &dyn Pace,
) -> Result<CleanedSegment, CompactionError> {
    let base_offset = sources.first().expect("a group has a segment").base_offset;
    let finished = Output::create(&snapshot.place, base_offset, snapshot.config.index_interval_bytes)
        .map_err(|error| snapshot.io(&error))
        .and_then(|mut output| {
            let modified = copy(snapshot, sources, filter, pace, &mut output)?;
            let kept = filter.transactions.take_kept();
            output
                .finish(&snapshot.place, sources.to_vec(), kept, modified)
                .map_err(|error| snapshot.io(&error))
        });
    match finished {
        Ok(cleaned) => Ok(CleanedSegment { truncations: snapshot.truncations, ..cleaned }),
        Err(error) => {
            // Whatever is left of it is in nobody's way, and goes when the log is opened.
            let _ = output::remove_cleaned(&snapshot.place, base_offset);
            Err(error)
        }
    }
}

/// Returns when the last of the segments was written to.
fn copy(
    snapshot: &Snapshot,
    sources: &[Source],
    filter: &mut Filter,
    pace: &dyn Pace,
    output: &mut Output,
) -> Result<Option<i64>, CompactionError> {
    let mut modified = None;
    let mut dropped: Option<BatchHeader> = None;
    for source in sources {
        modified = snapshot.walk(source, pace, |batch| {
            let left = filter.next(batch).ok_or_else(|| unreadable(source, batch))?;
            let bytes: &[u8] = match &left {
                Left::Nothing => {
                    dropped = Some(*batch.header());
                    return Ok(ControlFlow::Continue(()));
                }
                Left::Whole => batch.bytes(),
                Left::Header(bytes) => bytes,
                Left::Rewritten(bytes) => bytes,
            };
            dropped = None;
            output.push(bytes).map_err(|error| snapshot.io(&error))?;
            if pace.pass(bytes.len()) { Ok(ControlFlow::Continue(())) } else { Err(CompactionError::Stopped) }
        })?;
    }
    if let Some(last) = dropped {
        output.push(&empty_batch(&last)).map_err(|error| snapshot.io(&error))?;
    }
    Ok(modified)
}

impl Snapshot {
    /// Shows every batch of a source, none of which is damaged, to `visit`. Returns when the source was written to.
    fn walk(
        &self,
        source: &Source,
        pace: &dyn Pace,
        mut visit: impl FnMut(&Batch<'_>) -> Result<ControlFlow<()>, CompactionError>,
    ) -> Result<Option<i64>, CompactionError> {
        let file =
            self.place.open(source.base_offset, LOG, OpenMode::Read).map_err(|error| self.io(&error))?;
        let mut scan = Scan::new(&*file, 0, u64::from(source.size), PIECE);
        loop {
            let at = scan.position();
            let damaged = || {
                let name = self.place.path(source.base_offset, LOG);
                CompactionError::Uncleanable(format!("{} is damaged at position {at}", name.display()))
            };
            match scan.next_batch().map_err(|error| self.io(&error))? {
                Found::At(_, batch) => {
                    batch.verify_crc().map_err(|_| damaged())?;
                    if !pace.pass(batch.size()) {
                        return Err(CompactionError::Stopped);
                    }
                    if visit(&batch)?.is_break() {
                        break;
                    }
                }
                Found::End => break,
                Found::Invalid => return Err(damaged()),
            }
        }
        Ok(file.modified().ok())
    }

    fn io(&self, error: &io::Error) -> CompactionError {
        match error.kind() {
            // A deletion or truncation came first; or the file is shorter now than it was.
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => CompactionError::Superseded,
            io::ErrorKind::InvalidData => CompactionError::Uncleanable(error.to_string()),
            _ => CompactionError::Storage(StorageError::at(&self.place.dir, error)),
        }
    }
}

/// Splits segments into runs that become one segment each: none grows beyond what the configuration allows a segment
/// (`groupSegmentsBySize`).
fn group(sources: &[Source], config: &LogConfig) -> VecDeque<Vec<Source>> {
    let bytes_max = u64::from(config.segment_bytes.min(i32::MAX as u32));
    let index_bytes_max = u64::from(config.index_bytes_max);
    // No index entry without an interval between it and the one before; an entry of a time index takes twelve bytes.
    let index_bytes = |source: &Source| {
        12 * (u64::from(source.size) / u64::from(config.index_interval_bytes.max(HEADER_BYTES as u32)) + 1)
    };
    let mut groups = VecDeque::new();
    let mut sources = sources.iter().peekable();
    while let Some(first) = sources.next() {
        let (mut bytes, mut indexed) = (u64::from(first.size), index_bytes(first));
        let mut group = vec![*first];
        while let Some(next) = sources.next_if(|next| {
            bytes + u64::from(next.size) <= bytes_max
                && indexed + index_bytes(next) <= index_bytes_max
                && fits(first.base_offset, next.next_base - 1)
        }) {
            bytes += u64::from(next.size);
            indexed += index_bytes(next);
            group.push(*next);
        }
        groups.push_back(group);
    }
    groups
}
