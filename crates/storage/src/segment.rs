//! Segments: one that is written to, and sealed ones before it.
//!
//! The one tricky idea: the two are different types. The active segment has its indexes in memory and an open file; a sealed one is
//! three numbers until somebody reads it, and its indexes are searched on disk.

use std::io;
use std::sync::Arc;

use ottla_protocol::records::BatchHeader;

use crate::config::LogConfig;
use crate::disk::{File, OpenMode};
use crate::index::{
    AbortedTxn, OffsetIndex, OffsetIndexFile, TimeIndex, TimeIndexFile, TimestampOffset, encode_aborted,
};
use crate::meaning::rewritable;
use crate::names;
use crate::place::Place;
use crate::scan::{Found, Scan};
use crate::write_back::WrittenBack;

/// Bytes that a walk over headers reads at a time.
pub(crate) const HEADER_PIECE: usize = 64 << 10;
/// Nothing is allocated ahead for a segment below this size: most partitions stay small.
const ALLOCATE_FROM: u64 = 64 << 10;

/// The indexes of a segment under construction: appending, recovery and rebuilding all feed this.
#[derive(Debug, Clone, Default)]
pub(crate) struct Indexer {
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    pub(crate) max_timestamp: Option<TimestampOffset>,
    /// The largest timestamp of the first batch: `segment.ms` counts from it.
    pub(crate) first_timestamp: Option<i64>,
}

impl Indexer {
    /// Adds the batch at `position`.
    pub(crate) fn add(&mut self, base_offset: i64, interval: u32, header: &BatchHeader, position: u32) {
        let relative_offset = relative(base_offset, header.last_offset());
        if position == 0 {
            self.first_timestamp = Some(header.max_timestamp);
        }
        if self.max_timestamp.is_none_or(|max| header.max_timestamp > max.timestamp)
            && header.max_timestamp >= 0
        {
            self.max_timestamp =
                Some(TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset() });
        }
        if position - self.offsets.last_position() > interval {
            self.offsets.push(relative_offset, position);
            self.note_max_timestamp(base_offset);
        }
    }

    /// Writes the largest timestamp so far into the time index.
    pub(crate) fn note_max_timestamp(&mut self, base_offset: i64) {
        if let Some(max) = self.max_timestamp {
            self.times.push(max.timestamp, relative(base_offset, max.offset));
        }
    }

    /// Walks over the headers of a `.log`.
    pub(crate) fn rebuild(
        file: &dyn File,
        base_offset: i64,
        size: u32,
        interval: u32,
    ) -> io::Result<Indexer> {
        let mut indexer = Indexer::default();
        let mut scan = Scan::new(file, 0, u64::from(size), HEADER_PIECE);
        while let Found::At(position, header) = scan.next_header()? {
            if !fits(base_offset, header.last_offset()) {
                break;
            }
            indexer.add(base_offset, interval, &header, position as u32);
        }
        indexer.note_max_timestamp(base_offset);
        Ok(indexer)
    }
}

/// Whether an offset can be written relative to a segment's base.
pub(crate) fn fits(base_offset: i64, offset: i64) -> bool {
    (0..=i64::from(i32::MAX)).contains(&(offset - base_offset))
}

fn relative(base_offset: i64, offset: i64) -> u32 {
    assert!(fits(base_offset, offset), "offset {offset} is not within reach of the segment at {base_offset}");
    (offset - base_offset) as u32
}

/// The target of a search relative to a segment's base; offsets beyond its reach search for its end.
pub(crate) fn search_target(base_offset: i64, offset: i64) -> u32 {
    (offset - base_offset).clamp(0, i64::from(i32::MAX)) as u32
}

/// How old the records of a segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age {
    /// The largest timestamp of the first batch, if it has one.
    pub(crate) first: Option<i64>,
    /// The largest timestamp; or, if no record has one, when the file was last written to.
    pub(crate) newest: i64,
}

impl Age {
    /// What the indexes say; nothing, if no record has a timestamp.
    pub(crate) fn of(indexer: &Indexer) -> Option<Age> {
        let first = indexer.first_timestamp.filter(|first| *first >= 0);
        indexer.max_timestamp.map(|max| Age { first, newest: max.timestamp })
    }
}

/// A segment that is no longer written to.
#[derive(Debug)]
pub(crate) struct SealedSegment {
    pub(crate) base_offset: i64,
    pub(crate) size: u32,
    pub(crate) aborted: Vec<AbortedTxn>,
    /// Its files are changing their names: they are only reached through the handles that are open.
    pub(crate) swapping: bool,
    /// `None` until it is read from the time index.
    max_timestamp: Option<Option<TimestampOffset>>,
    age: Option<Age>,
    files: Option<SealedFiles>,
}

/// The open files of a sealed segment.
#[derive(Debug, Clone)]
pub(crate) struct SealedFiles {
    pub(crate) log: Arc<dyn File>,
    pub(crate) offsets: OffsetIndexFile,
    pub(crate) times: TimeIndexFile,
}

impl SealedFiles {
    /// Opens a segment's files, and makes the indexes anew if they are missing or cannot be right. Waits for the disk. Two may not do
    /// this for one segment at a time.
    pub(crate) fn open(place: &Place, base_offset: i64, size: u32, interval: u32) -> io::Result<SealedFiles> {
        let log = place.open(base_offset, names::LOG, OpenMode::Read)?;
        if let Some((offsets, times)) = open_indexes(place, base_offset, size)? {
            return Ok(SealedFiles { log, offsets, times });
        }
        let indexer = Indexer::rebuild(&*log, base_offset, size, interval)?;
        for file in write_indexes(place, base_offset, &indexer)? {
            file.sync_data().map_err(rewritable)?;
        }
        let (offsets, times) = open_indexes(place, base_offset, size)?
            .ok_or_else(|| io::Error::other("an index that was just written is not readable"))?;
        Ok(SealedFiles { log, offsets, times })
    }
}

fn open_indexes(
    place: &Place,
    base_offset: i64,
    size: u32,
) -> io::Result<Option<(OffsetIndexFile, TimeIndexFile)>> {
    let open = |extension| match place.open(base_offset, extension, OpenMode::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let (Some(offsets), Some(times)) = (open(names::OFFSET_INDEX)?, open(names::TIME_INDEX)?) else {
        return Ok(None);
    };
    let (offsets, times) = (OffsetIndexFile::open(offsets, size)?, TimeIndexFile::open(times)?);
    Ok(offsets.zip(times))
}

impl SealedSegment {
    pub(crate) fn new(base_offset: i64, size: u32, aborted: Vec<AbortedTxn>) -> SealedSegment {
        SealedSegment {
            base_offset,
            size,
            aborted,
            swapping: false,
            max_timestamp: None,
            age: None,
            files: None,
        }
    }

    /// A segment that compaction made, with its files open under whatever names they have.
    pub(crate) fn cleaned(
        base_offset: i64,
        size: u32,
        aborted: Vec<AbortedTxn>,
        indexer: &Indexer,
        files: SealedFiles,
    ) -> SealedSegment {
        SealedSegment {
            max_timestamp: Some(indexer.max_timestamp),
            age: Age::of(indexer),
            files: Some(files),
            ..SealedSegment::new(base_offset, size, aborted)
        }
    }

    /// The files, if they are open.
    pub(crate) fn opened(&self) -> Option<&SealedFiles> {
        self.files.as_ref()
    }

    /// Takes files that were opened elsewhere.
    pub(crate) fn keep(&mut self, files: SealedFiles) {
        self.files.get_or_insert(files);
    }

    /// The largest timestamp and the last offset of the batch that has it; the outer `None`: nobody read it yet.
    pub(crate) fn known_max_timestamp(&self) -> Option<Option<TimestampOffset>> {
        self.max_timestamp
    }

    /// Notes what was read from the time index.
    pub(crate) fn note_max_timestamp(&mut self, max_timestamp: Option<TimestampOffset>) {
        self.max_timestamp.get_or_insert(max_timestamp);
    }

    /// How old its records are; `None`: nobody looked yet.
    pub(crate) fn age(&self) -> Option<Age> {
        self.age
    }

    /// Notes how old its records are.
    pub(crate) fn note_age(&mut self, age: Age) {
        self.age.get_or_insert(age);
    }

    pub(crate) fn release(&mut self) {
        if !self.swapping {
            self.files = None;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.files.is_some()
    }
}

/// Writes `.index` and `.timeindex`, not yet durable.
pub(crate) fn write_indexes(
    place: &Place,
    base_offset: i64,
    indexer: &Indexer,
) -> io::Result<[Arc<dyn File>; 2]> {
    Ok([
        place.write(base_offset, names::OFFSET_INDEX, &indexer.offsets.encode())?,
        place.write(base_offset, names::TIME_INDEX, &indexer.times.encode())?,
    ])
}

/// Writes `.txnindex`, not yet durable; a segment without aborted transactions has none.
pub(crate) fn write_aborted(
    place: &Place,
    base_offset: i64,
    aborted: &[AbortedTxn],
) -> io::Result<Option<Arc<dyn File>>> {
    if aborted.is_empty() {
        place.remove(base_offset, &[names::TXN_INDEX])?;
        return Ok(None);
    }
    place.write(base_offset, names::TXN_INDEX, &encode_aborted(aborted)).map(Some)
}

/// The segment at the end of the log.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) base_offset: i64,
    /// Bytes of batches; the file ends here, whatever is allocated behind.
    pub(crate) size: u32,
    pub(crate) aborted: Vec<AbortedTxn>,
    pub(crate) max_timestamp: Option<TimestampOffset>,
    /// How old it was when it had that size, if anybody had to look.
    pub(crate) surveyed: Option<(u32, Age)>,
    /// When this process began to write it, for `segment.ms` where timestamps say nothing.
    pub(crate) created_at: i64,
    /// `None`: not created yet if `size` is 0, otherwise released.
    pub(crate) files: Option<ActiveFiles>,
}

/// The active segment's open file and its indexes.
#[derive(Debug)]
pub(crate) struct ActiveFiles {
    pub(crate) log: Arc<dyn File>,
    pub(crate) indexer: Indexer,
    /// Blocks are reserved up to here.
    allocated: u64,
    pub(crate) written_back: WrittenBack,
}

impl ActiveFiles {
    pub(crate) fn new(log: Arc<dyn File>, indexer: Indexer) -> ActiveFiles {
        ActiveFiles { log, indexer, allocated: 0, written_back: WrittenBack::default() }
    }

    /// Opens a segment of `size` bytes whose files were let go of. Waits for the disk.
    pub(crate) fn open(
        place: &Place,
        base_offset: i64,
        size: u32,
        max_timestamp: Option<TimestampOffset>,
        interval: u32,
    ) -> io::Result<ActiveFiles> {
        let log = place.open(base_offset, names::LOG, OpenMode::Write)?;
        let indexer = match read_indexes(place, &*log, base_offset, size, max_timestamp)? {
            Some(indexer) => indexer,
            None => Indexer::rebuild(&*log, base_offset, size, interval)?,
        };
        Ok(ActiveFiles::new(log, indexer))
    }

    /// Reserves blocks for a write of `count` bytes at `size`: nothing for small segments, then in growing steps. It is a hint: if the
    /// file system refuses, the write will say what matters.
    pub(crate) fn allocate_ahead(&mut self, size: u32, count: usize, segment_bytes: u32) {
        let (size, end) = (u64::from(size), u64::from(size) + count as u64);
        if size < ALLOCATE_FROM || end <= self.allocated {
            return;
        }
        let step: u64 = match size >> 20 {
            0..16 => 1 << 20,
            16..256 => 16 << 20,
            _ => 64 << 20,
        };
        let start = self.allocated.max(size);
        let target = (start + step).min(u64::from(segment_bytes)).max(end);
        self.allocated = match self.log.allocate(start, target - start) {
            Ok(()) => target,
            Err(_) => u64::MAX,
        };
    }
}

fn read_indexes(
    place: &Place,
    log: &dyn File,
    base_offset: i64,
    size: u32,
    max_timestamp: Option<TimestampOffset>,
) -> io::Result<Option<Indexer>> {
    let offsets = place.read(base_offset, names::OFFSET_INDEX)?;
    let times = place.read(base_offset, names::TIME_INDEX)?;
    let offsets = offsets.and_then(|bytes| OffsetIndex::decode(&bytes, size));
    let times = times.and_then(|bytes| TimeIndex::decode(&bytes));
    let (Some(offsets), Some(times)) = (offsets, times) else { return Ok(None) };
    let mut scan = Scan::new(log, 0, u64::from(size), 4096);
    let first_timestamp = match scan.next_header()? {
        Found::At(_, header) => Some(header.max_timestamp),
        _ => None,
    };
    let max_timestamp = max_timestamp.or_else(|| times.last(base_offset));
    Ok(Some(Indexer { offsets, times, max_timestamp, first_timestamp }))
}

impl ActiveSegment {
    pub(crate) fn empty(base_offset: i64, now: i64) -> ActiveSegment {
        ActiveSegment {
            base_offset,
            size: 0,
            aborted: Vec::new(),
            max_timestamp: None,
            surveyed: None,
            created_at: now,
            files: None,
        }
    }

    /// Opens a released segment's files; its indexes are read, or made anew if they are missing or cannot be right.
    pub(crate) fn load(&mut self, place: &Place, config: &LogConfig) -> io::Result<&mut ActiveFiles> {
        if self.files.is_none() {
            assert!(self.size > 0, "an empty segment is created, not loaded");
            let (base_offset, size) = (self.base_offset, self.size);
            let interval = config.index_interval_bytes;
            self.files = Some(ActiveFiles::open(place, base_offset, size, self.max_timestamp, interval)?);
        }
        Ok(self.files.as_mut().expect("opened above"))
    }

    /// Writes the indexes out, with the largest timestamp as the last entry of the time index.
    pub(crate) fn write_indexes(&mut self, place: &Place) -> io::Result<Vec<Arc<dyn File>>> {
        let Some(files) = &mut self.files else { return Ok(Vec::new()) };
        files.indexer.note_max_timestamp(self.base_offset);
        let mut written = Vec::from(write_indexes(place, self.base_offset, &files.indexer)?);
        written.extend(write_aborted(place, self.base_offset, &self.aborted)?);
        Ok(written)
    }

    /// Gives back what was allocated behind the last batch.
    pub(crate) fn trim(&mut self) -> io::Result<()> {
        match &mut self.files {
            Some(files) if files.allocated > 0 => {
                files.allocated = 0;
                files.log.set_len(u64::from(self.size))
            }
            _ => Ok(()),
        }
    }

    /// Trims the segment and writes its indexes, so that it can be sealed. The files returned are not durable yet.
    pub(crate) fn write_to_seal(&mut self, place: &Place) -> io::Result<Vec<Arc<dyn File>>> {
        self.trim()?;
        let mut unsynced = self.write_indexes(place)?;
        unsynced.extend(self.files.as_ref().map(|files| files.log.clone()));
        Ok(unsynced)
    }

    /// Cuts off what a write left that failed.
    pub(crate) fn cut_back(&mut self) -> io::Result<()> {
        match &mut self.files {
            Some(files) => {
                files.allocated = 0;
                files.log.set_len(u64::from(self.size))
            }
            None => Ok(()),
        }
    }

    /// Ends the segment, which is loaded and written out.
    pub(crate) fn seal(mut self) -> SealedSegment {
        let files = self.files.take().expect("the caller loaded it");
        let mut sealed = SealedSegment::new(self.base_offset, self.size, self.aborted);
        sealed.max_timestamp = Some(files.indexer.max_timestamp);
        sealed.age = Age::of(&files.indexer);
        sealed
    }
}
