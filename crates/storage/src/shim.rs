//! Stand-ins until the wire module lands.
#![allow(missing_docs)]
use bytes::Bytes;
use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;
pub trait ReadAt: Send + Sync + Debug {
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()>;
}
#[derive(Debug, Clone)]
pub struct FileRange {
    pub file: Arc<dyn ReadAt>,
    pub position: u64,
    pub len: usize,
}
#[derive(Debug, Clone)]
pub enum Chunk {
    Bytes(Bytes),
    File(FileRange),
}
#[derive(Debug, Clone, Default)]
pub struct Chain {
    chunks: Vec<Chunk>,
    len: usize,
}
impl Chain {
    pub fn new() -> Chain {
        Chain::default()
    }
    pub fn push_bytes(&mut self, b: Bytes) {
        self.len += b.len();
        self.chunks.push(Chunk::Bytes(b));
    }
    pub fn push_file(&mut self, f: FileRange) {
        self.len += f.len;
        self.chunks.push(Chunk::File(f));
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }
}
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Uuid(pub [u8; 16]);
impl Uuid {
    pub const ZERO: Uuid = Uuid([0; 16]);
}
const A: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = u128::from_be_bytes(self.0);
        let mut s = String::new();
        for i in 0..21 {
            s.push(A[((v >> (128 - 6 * (i + 1))) & 63) as usize] as char);
        }
        s.push(A[((v & 3) << 4) as usize] as char);
        f.write_str(&s)
    }
}
impl std::str::FromStr for Uuid {
    type Err = ();
    fn from_str(s: &str) -> Result<Uuid, ()> {
        if s.len() != 22 {
            return Err(());
        }
        let mut v: u128 = 0;
        for (i, c) in s.bytes().enumerate() {
            let d = A.iter().position(|a| *a == c).ok_or(())? as u128;
            if i < 21 {
                v |= d << (128 - 6 * (i + 1));
            } else {
                v |= d >> 4;
            }
        }
        Ok(Uuid(v.to_be_bytes()))
    }
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i16)]
pub enum ErrorCode {
    UnknownServerError = -1,
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    MessageTooLarge = 10,
    RecordListTooLarge = 18,
    InvalidTimestamp = 32,
    OutOfOrderSequenceNumber = 45,
    InvalidProducerEpoch = 47,
    InvalidTxnState = 48,
    TransactionCoordinatorFenced = 52,
    KafkaStorageError = 56,
    UnsupportedCompressionType = 76,
    InvalidRecord = 87,
}
