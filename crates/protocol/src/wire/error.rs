//! Why bytes are no message, and why a message can not be written. Both are small and cheap: a peer can provoke the
//! first kind as often as it likes.

use std::fmt;

/// Bytes that are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The message that was to be read, or an empty text outside of any.
    pub message: &'static str,
    /// The version that was to be read.
    pub version: i16,
    /// The byte, counted from the start of the reader's input, at which it became clear.
    pub position: usize,
    /// What is wrong.
    pub kind: DecodeErrorKind,
}

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The input ends within a value.
    Truncated,
    /// The message has no such version.
    UnsupportedVersion,
    /// Null for a value that can not be null.
    Null,
    /// Text that is not UTF-8.
    Utf8,
    /// Text of more than 32767 bytes.
    StringTooLong,
    /// More elements than the bytes that are left could hold, or than Kafka admits.
    TooManyElements,
    /// More tagged fields than Kafka admits.
    TooManyTags,
    /// A tag that does not ascend, or occurs twice.
    TagOrder,
    /// A tagged field whose value is shorter than its length.
    TagSize,
    /// A varint that does not fit its type.
    VarintTooLong,
    /// Bytes behind the end of the message.
    TrailingBytes,
    /// A metadata record in a frame of an unknown version.
    UnknownFrame,
    /// A record of an unknown type.
    UnknownType,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DecodeErrorKind::Truncated => "the input ends too early",
            DecodeErrorKind::UnsupportedVersion => "there is no such version",
            DecodeErrorKind::Null => "null where a value is required",
            DecodeErrorKind::Utf8 => "text is not UTF-8",
            DecodeErrorKind::StringTooLong => "text is too long",
            DecodeErrorKind::TooManyElements => "more elements than there can be",
            DecodeErrorKind::TooManyTags => "more tagged fields than there can be",
            DecodeErrorKind::TagOrder => "tags do not ascend",
            DecodeErrorKind::TagSize => "a tagged field does not fill its length",
            DecodeErrorKind::VarintTooLong => "a variable-length number is too long",
            DecodeErrorKind::TrailingBytes => "bytes are left over at the end",
            DecodeErrorKind::UnknownFrame => "the frame has an unknown version",
            DecodeErrorKind::UnknownType => "the record has an unknown type",
        };
        let name = if self.message.is_empty() { "input" } else { self.message };
        write!(f, "{name} v{} at byte {}: {what}", self.version, self.position)
    }
}

impl std::error::Error for DecodeError {}

/// A message that its version can not express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The message that was to be written.
    pub message: &'static str,
    /// The version that was to be written.
    pub version: i16,
    /// The field at fault, in snake case; empty where the message as a whole is.
    pub field: &'static str,
    /// What is wrong.
    pub kind: EncodeErrorKind,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeErrorKind {
    /// The message has no such version.
    UnsupportedVersion,
    /// A field has a value, must not be dropped, and does not exist in this version.
    FieldNotInVersion,
    /// A field is null and this version can not say so.
    Null,
    /// Text of more than 32767 bytes, or something else of more than 2 GiB.
    TooLong,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            EncodeErrorKind::UnsupportedVersion => "there is no such version",
            EncodeErrorKind::FieldNotInVersion => "the version lacks a field that has a value",
            EncodeErrorKind::Null => "the version can not write null here",
            EncodeErrorKind::TooLong => "a value is too long",
        };
        write!(f, "{} v{} {}: {what}", self.message, self.version, self.field)
    }
}

impl std::error::Error for EncodeError {}

/// Either of the two, for code that reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// Reading failed.
    Decode(DecodeError),
    /// Writing failed.
    Encode(EncodeError),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Decode(error) => error.fmt(f),
            CodecError::Encode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CodecError {}

impl From<DecodeError> for CodecError {
    fn from(error: DecodeError) -> CodecError {
        CodecError::Decode(error)
    }
}

impl From<EncodeError> for CodecError {
    fn from(error: EncodeError) -> CodecError {
        CodecError::Encode(error)
    }
}
