//! Kafka's wire and record formats: primitives, every message, record batches, codecs, error codes.
//!
//! This crate knows bytes, not what they do: that a cluster exists is news to it. The messages are generated at build
//! time from the files in `schemas`; see `ottla-schema` for the notation.

pub mod api_key;
pub mod compression;
pub mod error_code;
mod header;
pub mod ids;
mod message;
pub mod messages;
pub mod records;
pub mod wire;

pub use api_key::{ApiKey, Listener};
pub use error_code::ErrorCode;
pub use message::{Message, Request};
pub use wire::{
    Chain, Chunk, CodecError, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, FileRange, ReadAt,
    Reader, Records, Uuid, Writer,
};
