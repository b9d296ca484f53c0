//! A walk over the batches in a stretch of a `.log` file: by headers only, or with all their bytes.
//!
//! The one tricky idea: the walk holds one buffer and reads large pieces; a batch is looked at where it lies in the buffer. A batch
//! that claims to end behind the stretch is invalid before a byte of it is read, so nothing is sized by what damaged bytes say.

use std::io;

use ottla_protocol::records::{Batch, BatchHeader, HEADER_BYTES};

use ottla_protocol::ReadAt;

/// What the walk found next.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// A batch, at this position of the file.
    At(u64, T),
    /// The stretch ends exactly where the last batch ended.
    End,
    /// What stands here is no whole batch.
    Invalid,
}

/// A walk over the batches of `file` from `position` to `end`.
#[derive(Debug)]
pub(crate) struct Scan<'f> {
    file: &'f dyn ReadAt,
    position: u64,
    end: u64,
    piece: usize,
    buffer: Vec<u8>,
    /// The file position of the buffer's first byte.
    buffer_at: u64,
}

impl<'f> Scan<'f> {
    /// Starts a walk that reads at least `piece` bytes at a time.
    pub(crate) fn new(file: &'f dyn ReadAt, position: u64, end: u64, piece: usize) -> Scan<'f> {
        assert!(position <= end && piece >= HEADER_BYTES);
        Scan { file, position, end, piece, buffer: Vec::new(), buffer_at: position }
    }

    /// Where the next batch is expected: everything before it was valid.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Looks at the next batch's header and steps over the batch.
    pub(crate) fn next_header(&mut self) -> io::Result<Found<BatchHeader>> {
        let at = self.position;
        match self.peek_header()? {
            Some(header) => {
                self.position += header.size() as u64;
                Ok(Found::At(at, header))
            }
            None if at == self.end => Ok(Found::End),
            None => Ok(Found::Invalid),
        }
    }

    /// Looks at the next batch as a whole and steps over it. Its checksum is not verified.
    pub(crate) fn next_batch(&mut self) -> io::Result<Found<Batch<'_>>> {
        let at = self.position;
        let Some(header) = self.peek_header()? else {
            return Ok(if at == self.end { Found::End } else { Found::Invalid });
        };
        self.fill(header.size())?;
        self.position += header.size() as u64;
        let start = (at - self.buffer_at) as usize;
        match Batch::parse(&self.buffer[start..]) {
            Ok(batch) => Ok(Found::At(at, batch)),
            Err(_) => Ok(Found::Invalid),
        }
    }

    /// The header at the position, if a whole batch with a sensible header lies before the end.
    fn peek_header(&mut self) -> io::Result<Option<BatchHeader>> {
        let left = self.end - self.position;
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        self.fill(HEADER_BYTES)?;
        let start = (self.position - self.buffer_at) as usize;
        let header = BatchHeader::read(&self.buffer[start..]).ok();
        Ok(header.filter(|header| {
            header.size() as u64 <= left && header.last_offset_delta >= 0 && header.base_offset >= 0
        }))
    }

    /// Makes the buffer hold `count` bytes from the position on; they lie before the end.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        let buffer_end = self.buffer_at + self.buffer.len() as u64;
        if self.position >= self.buffer_at && self.position + count as u64 <= buffer_end {
            return Ok(());
        }
        let kept = if self.position >= self.buffer_at && self.position < buffer_end {
            let start = (self.position - self.buffer_at) as usize;
            self.buffer.copy_within(start.., 0);
            self.buffer.len() - start
        } else {
            0
        };
        let wanted = (self.end - self.position).min(self.piece.max(count) as u64) as usize;
        self.buffer.resize(wanted, 0);
        self.buffer_at = self.position;
        self.file.read_exact_at(&mut self.buffer[kept..], self.position + kept as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, OpenMode, SimDisk};
    use ottla_protocol::records::{BatchBuilder, BatchOptions};
    use std::io::IoSlice;
    use std::path::Path;

    #[test]
    fn walks_batches_of_all_sizes_and_stops_at_damage() {
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/l"), OpenMode::Create).unwrap();
        let mut bytes = Vec::new();
        for (offset, size) in [(0, 10), (1, 5000), (2, 70), (3, 100_000)] {
            let mut builder = BatchBuilder::new(offset, BatchOptions::default());
            builder.push(7, None, Some(&vec![1; size]), &[]);
            bytes.extend_from_slice(&builder.finish());
        }
        file.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
        let end = bytes.len() as u64;
        for piece in [61, 1000, 1 << 20] {
            let mut headers = Scan::new(&*file, 0, end, piece);
            let mut whole = Scan::new(&*file, 0, end, piece);
            for offset in 0..4 {
                let Found::At(at, header) = headers.next_header().unwrap() else { panic!() };
                let Found::At(at_too, batch) = whole.next_batch().unwrap() else { panic!() };
                assert_eq!((at, header.base_offset), (at_too, offset));
                assert!(batch.verify_crc().is_ok());
                assert_eq!(*batch.header(), header);
            }
            assert!(matches!(headers.next_header().unwrap(), Found::End));
            assert!(matches!(whole.next_batch().unwrap(), Found::End));
            let mut cut = Scan::new(&*file, 0, end - 1, piece);
            for _ in 0..3 {
                assert!(matches!(cut.next_batch().unwrap(), Found::At(..)));
            }
            assert!(matches!(cut.next_batch().unwrap(), Found::Invalid));
        }
    }
}
