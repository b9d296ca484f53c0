//! Reading: from an offset to whole batches, either out of memory or as a stretch of a file.
//!
//! The one tricky idea: a cold read is split in two. Under the log's lock it is only decided which segment is meant ([`ReadJob`]); opening
//! its files and finding the batches' borders, which waits for the disk, happens outside. Borders are found by headers next to the two ends, never by walking over
//! everything between.

use std::io;
use std::sync::Arc;

use ottla_protocol::records::BatchHeader;

use crate::disk::File;
use crate::place::Place;
use crate::scan::{Found, Scan};
use crate::segment::{SealedFiles, search_target};
use ottla_protocol::{Chain, Chunk, FileRange, ReadAt};

/// Bytes read at a time while looking for a border: an index interval and a bit.
const BORDER_PIECE: usize = 8 << 10;

/// Whole batches in a row.
#[derive(Debug, Clone)]
pub struct Slice {
    /// The batches. The first one may begin before the offset that was asked for.
    pub records: Chain,
    /// Their size.
    pub bytes: usize,
    /// The offset after the last batch; the offset that was asked for, if there are none.
    pub next_offset: i64,
}

impl Slice {
    /// Nothing, from `offset` on.
    pub fn empty(offset: i64) -> Slice {
        Slice { records: Chain::default(), bytes: 0, next_offset: offset }
    }

    /// Reads stretches of files into memory, so that whoever sends the slice does not wait for the disk.
    pub fn into_memory(self) -> io::Result<Slice> {
        let mut records = Chain::default();
        for chunk in self.records.chunks() {
            match chunk {
                Chunk::Bytes(bytes) => records.push_bytes(bytes.clone()),
                Chunk::File(range) => {
                    let mut bytes = vec![0; range.len];
                    range.file.read_exact_at(&mut bytes, range.position)?;
                    records.push_bytes(bytes.into());
                }
            }
        }
        Ok(Slice { records, ..self })
    }
}

/// What a reader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) offset: i64,
    pub(crate) bytes_max: usize,
    /// Exclusive: no batch that reaches up to it is returned.
    pub(crate) end_offset: i64,
    /// The first batch comes whole even if it is larger than `bytes_max` (KIP-74).
    pub(crate) min_one: bool,
}

/// A file of which only what is in memory is read; the rest is `WouldBlock`.
#[derive(Debug)]
struct InMemory<'f>(&'f dyn ReadAt);

impl ReadAt for InMemory<'_> {
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        if self.0.read_exact_now(buf, position)? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

/// Where to look for batches and their borders.
#[derive(Debug)]
pub(crate) enum Source {
    /// The active segment. Its borders were found in the index under the lock: where to walk from for the start; for `bytes_max`; for
    /// `end_offset`.
    Active { file: Arc<dyn File>, start: u32, limit: u32, end: u32 },
    /// A sealed segment whose index is searched on disk.
    Sealed(SealedFiles),
    /// A sealed segment whose files have to be opened first.
    Closed { place: Place, index_interval_bytes: u32 },
}

/// A cold read: everything that is needed to perform it without the log.
#[derive(Debug)]
pub struct ReadJob {
    pub(crate) source: Source,
    pub(crate) base_offset: i64,
    /// Where the segment ends: bytes behind are not looked at.
    pub(crate) size: u32,
    /// The offset at which the next segment begins, or the log ends.
    pub(crate) next_base: i64,
    pub(crate) span: Span,
}

impl ReadJob {
    /// Whether files have to be opened. Two reads of one log may not do so at the same time.
    pub fn opens_files(&self) -> bool {
        matches!(self.source, Source::Closed { .. })
    }

    /// Reads; [`crate::Log::end_read`] takes the job afterwards, with the files that it opened. Without a batch in the segment at or
    /// behind the offset (compaction removed it) the slice is empty and its `next_offset` is where to go on.
    pub fn run(&mut self) -> io::Result<Slice> {
        if let Source::Closed { place, index_interval_bytes } = &self.source {
            let files = SealedFiles::open(place, self.base_offset, self.size, *index_interval_bytes)?;
            self.source = Source::Sealed(files);
        }
        self.find(&**self.file())
    }

    /// The same without waiting for the disk. `None`: only [`ReadJob::run`] can tell.
    pub fn run_now(&self) -> io::Result<Option<Slice>> {
        let Source::Active { file, .. } = &self.source else { return Ok(None) };
        match self.find(&InMemory(&**file)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            found => found.map(Some),
        }
    }

    /// The batches of the span, whose borders are read from `file`.
    fn find(&self, file: &dyn ReadAt) -> io::Result<Slice> {
        let Span { offset, bytes_max, end_offset, min_one } = self.span;
        let mut scan = self.scan_from(file, self.start_border()?)?;
        let (start, first) = loop {
            match scan.next_header()? {
                Found::At(position, header) if header.last_offset() >= offset => break (position, header),
                Found::At(..) => {}
                Found::End => return Ok(Slice::empty(self.next_base)),
                Found::Invalid => return Err(self.damaged(scan.position())),
            }
        };
        let min = if min_one { first.size() } else { 0 };
        let limit = start.saturating_add(bytes_max.max(min) as u64);
        if first.last_offset() >= end_offset || start + first.size() as u64 > limit {
            return Ok(Slice::empty(offset));
        }
        let (end, next_offset) = self.find_end(file, start, &first, limit)?;
        let range = FileRange { file: self.file().clone(), position: start, len: (end - start) as usize };
        let mut records = Chain::default();
        records.push_file(range);
        Ok(Slice { records, bytes: (end - start) as usize, next_offset })
    }

    /// Where the last batch ends that fits, and the offset after it.
    fn find_end(
        &self,
        file: &dyn ReadAt,
        start: u64,
        first: &BatchHeader,
        limit: u64,
    ) -> io::Result<(u64, i64)> {
        let mut end = start + first.size() as u64;
        let mut next_offset = first.next_offset();
        let skip_to = self.end_border(limit)?;
        if skip_to > end {
            end = skip_to;
        }
        let mut scan = self.scan_from(file, end)?;
        loop {
            match scan.next_header()? {
                Found::At(position, header)
                    if header.last_offset() < self.span.end_offset
                        && position + header.size() as u64 <= limit =>
                {
                    end = position + header.size() as u64;
                    next_offset = header.next_offset();
                }
                // After a skip the first batch may already be too much: what lies before it ends where it begins.
                Found::At(position, header) if position == end => {
                    return Ok((end, next_offset.max(header.base_offset)));
                }
                Found::At(..) | Found::End => return Ok((end, next_offset)),
                Found::Invalid => return Err(self.damaged(scan.position())),
            }
        }
    }

    fn file(&self) -> &Arc<dyn File> {
        match &self.source {
            Source::Active { file, .. } => file,
            Source::Sealed(files) => &files.log,
            Source::Closed { .. } => unreachable!("files are opened before anything is read"),
        }
    }

    fn start_border(&self) -> io::Result<u64> {
        match &self.source {
            Source::Active { start, .. } => Ok(u64::from(*start)),
            Source::Sealed(files) => {
                Ok(u64::from(files.offsets.floor(search_target(self.base_offset, self.span.offset))?))
            }
            Source::Closed { .. } => unreachable!("files are opened before borders are looked for"),
        }
    }

    /// A batch's position up to which everything surely fits.
    fn end_border(&self, limit: u64) -> io::Result<u64> {
        let (by_bytes, by_offset) = match &self.source {
            Source::Active { limit, end, .. } => (*limit, *end),
            Source::Sealed(files) => {
                let limit = limit.min(u64::from(self.size)) as u32;
                (
                    files.offsets.floor_position(limit)?,
                    files.offsets.floor(search_target(self.base_offset, self.span.end_offset - 1))?,
                )
            }
            Source::Closed { .. } => unreachable!("files are opened before borders are looked for"),
        };
        Ok(u64::from(by_bytes.min(by_offset)))
    }

    fn scan_from<'f>(&self, file: &'f dyn ReadAt, position: u64) -> io::Result<Scan<'f>> {
        if position > u64::from(self.size) {
            return Err(self.damaged(position));
        }
        Ok(Scan::new(file, position, u64::from(self.size), BORDER_PIECE))
    }

    fn damaged(&self, position: u64) -> io::Error {
        let what = format!("{:?}: no batch at position {position} of {}", self.file(), self.size);
        io::Error::new(io::ErrorKind::InvalidData, what)
    }
}
