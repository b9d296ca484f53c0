//! Bytes in pieces: memory that is shared, and ranges of files that are read only when they are sent.
//!
//! A reply is a chain from the first day, so that record bytes travel from the log to the socket without being copied
//! into the message that carries them.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// Something that can be read at a position, without a cursor: a file, real or simulated.
pub trait ReadAt: Send + Sync + fmt::Debug {
    /// Fills `buf` from `position` on. Fails with `UnexpectedEof` where the file ends too early.
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()>;

    /// The same, but only if all of it is in memory already, so that nothing waits for the disk. `false`: it is not, or nobody can
    /// tell, and `buf` holds anything.
    fn read_exact_now(&self, buf: &mut [u8], position: u64) -> io::Result<bool> {
        let _ = (buf, position);
        Ok(false)
    }
}

/// A stretch of a file. The holder of the range sees to it that the bytes do not change while it lives.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The file.
    pub file: Arc<dyn ReadAt>,
    /// The first byte.
    pub position: u64,
    /// The number of bytes.
    pub len: usize,
}

impl FileRange {
    /// Reads the whole range.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut buf = BytesMut::zeroed(self.len);
        self.file.read_exact_at(&mut buf, self.position)?;
        Ok(buf.freeze())
    }
}

/// Two ranges are equal if they are the same place of the same open file.
impl PartialEq for FileRange {
    fn eq(&self, other: &FileRange) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && self.position == other.position && self.len == other.len
    }
}

/// One piece of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileRange),
}

impl Chunk {
    /// The number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Chunk::Bytes(bytes) => bytes.len(),
            Chunk::File(range) => range.len,
        }
    }

    /// Has it no bytes?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A sequence of chunks, none of them empty. Cloning shares the bytes.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    chunks: Vec<Chunk>,
    len: usize,
    /// Where the time is that a client has to pause, if this is an answer that tells it.
    throttle_at: Option<usize>,
}

impl Chain {
    /// A chain without bytes.
    pub fn new() -> Chain {
        Chain::default()
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Has it no bytes?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The pieces in order, taken out.
    pub fn into_chunks(self) -> Vec<Chunk> {
        self.chunks
    }

    /// Adds a piece at the end. An empty one leaves no trace.
    pub fn push(&mut self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// Adds memory at the end.
    pub fn push_bytes(&mut self, bytes: Bytes) {
        self.push(Chunk::Bytes(bytes));
    }

    /// Adds a stretch of a file at the end.
    pub fn push_file(&mut self, range: FileRange) {
        self.push(Chunk::File(range));
    }

    /// Adds every piece of another chain at the end.
    pub fn append(&mut self, other: Chain) {
        self.len += other.len;
        self.chunks.extend(other.chunks);
    }

    pub(super) fn set_throttle_at(&mut self, at: Option<usize>) {
        self.throttle_at = at;
    }

    /// Has the answer tell a client to pause for so many milliseconds, unless it tells of a longer pause already, or can not tell of one.
    pub fn raise_throttle_time(&mut self, ms: i32) {
        let Some(mut at) = self.throttle_at else { return };
        for chunk in &mut self.chunks {
            match chunk {
                Chunk::Bytes(bytes) if at < bytes.len() => {
                    let place = at..at + size_of::<i32>();
                    let told = bytes.get(place.clone()).and_then(|told| told.try_into().ok());
                    if told.is_some_and(|told| i32::from_be_bytes(told) < ms) {
                        let own = std::mem::take(bytes).try_into_mut();
                        let mut own = own.unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                        own[place].copy_from_slice(&ms.to_be_bytes());
                        *bytes = own.freeze();
                    }
                    return;
                }
                other => match at.checked_sub(other.len()) {
                    Some(rest) => at = rest,
                    None => return,
                },
            }
        }
    }

    /// All bytes in one piece. Reads what is in files; copies only where there is more than one chunk.
    pub fn read(&self) -> io::Result<Bytes> {
        if let [Chunk::Bytes(only)] = &self.chunks[..] {
            return Ok(only.clone());
        }
        let mut all = BytesMut::zeroed(self.len);
        let mut rest = &mut all[..];
        for chunk in &self.chunks {
            let (place, after) = rest.split_at_mut(chunk.len());
            match chunk {
                Chunk::Bytes(bytes) => place.copy_from_slice(bytes),
                Chunk::File(range) => range.file.read_exact_at(place, range.position)?,
            }
            rest = after;
        }
        Ok(all.freeze())
    }

    /// All bytes in one piece, if none of them is in a file.
    pub fn in_memory(&self) -> Option<Bytes> {
        let is_memory = |chunk: &Chunk| matches!(chunk, Chunk::Bytes(_));
        if !self.chunks.iter().all(is_memory) {
            return None;
        }
        self.read().ok()
    }
}

impl From<Bytes> for Chain {
    fn from(bytes: Bytes) -> Chain {
        let mut chain = Chain::new();
        chain.push_bytes(bytes);
        chain
    }
}

impl From<FileRange> for Chain {
    fn from(range: FileRange) -> Chain {
        let mut chain = Chain::new();
        chain.push_file(range);
        chain
    }
}

/// Chains in memory are equal if their bytes are, however they are cut; those with files, if their pieces are.
impl PartialEq for Chain {
    fn eq(&self, other: &Chain) -> bool {
        if self.len != other.len {
            return false;
        }
        match (self.in_memory(), other.in_memory()) {
            (Some(one), Some(two)) => one == two,
            (None, None) => self.chunks == other.chunks,
            _ => false,
        }
    }
}
