//! The primitives that every message is made of: reading without copying, writing into a chain of chunks.

mod chain;
mod error;
mod reader;
mod records;
mod uuid;
pub mod varint;
mod writer;

pub use chain::{Chain, Chunk, FileRange, ReadAt};
pub use error::{CodecError, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use reader::{ELEMENTS_MAX, Reader, STRING_BYTES_MAX, TAGS_MAX, TagScope, Tags};
pub use records::Records;
pub use uuid::{ParseUuidError, Uuid};
pub use writer::{TagStart, Writer};

/// How many elements to make room for at once when so many are announced. They are known to have their bytes, but an
/// element in memory is larger than on the wire: beyond this the vector grows as elements really arrive.
pub(crate) fn reserve(count: usize) -> usize {
    count.min(1024)
}
