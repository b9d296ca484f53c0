//! One whole batch, seen through its header, and the walk over a run of batches.
//!
//! A run that comes from a disk or in a fetch response may end within a batch: that is no error, the walk simply ends there.

use std::ops::Deref;

use super::header::{ATTRIBUTES_AT, BatchError, BatchHeader, HEADER_BYTES};
use super::{RecordSet, RecordsError, crc32c};

/// A whole batch: its header, decoded, and its bytes. The fields and methods of [`BatchHeader`] are the batch's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'a> {
    header: BatchHeader,
    /// From the base offset to the last record, `header.size()` of them.
    bytes: &'a [u8],
}

impl Deref for Batch<'_> {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

impl<'a> Batch<'a> {
    /// Takes the batch at the start of `bytes`, all of which must be there; more may follow it. The checksum is not verified.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, BatchError> {
        let header = BatchHeader::read(bytes)?;
        let needed = header.size();
        match bytes.get(..needed) {
            Some(bytes) => Ok(Batch { header, bytes }),
            None => Err(BatchError::Truncated { needed }),
        }
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The bytes of the batch, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes after the header: records, or what the codec made of them.
    pub fn records_payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Compares the checksum with the bytes.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        let stored = self.header.crc;
        if stored == computed { Ok(()) } else { Err(BatchError::Checksum { stored, computed }) }
    }

    /// The records, decompressed to at most `limit` bytes if they are compressed.
    ///
    /// Records which are not compressed are borrowed, and not limited: they are in memory already.
    pub fn records(&self, limit: usize) -> Result<RecordSet<'a>, RecordsError> {
        RecordSet::of(self, limit)
    }
}

/// Walks over the whole batches at the start of `bytes`.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes, position: 0, failed: false }
}

/// Iterator over a run of batches; see [`batches`]. It ends at a partial batch, and after the first error.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// How many bytes the batches took that the walk has yielded so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes not walked over: at the end, the partial batch or what is none.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match Batch::parse(self.rest) {
            Ok(batch) => {
                self.rest = &self.rest[batch.size()..];
                self.position += batch.size();
                Some(Ok(batch))
            }
            Err(BatchError::Truncated { .. }) => {
                self.failed = true;
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
