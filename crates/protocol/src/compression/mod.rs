//! The four codecs of Kafka's record batches, each bounded on the way out.
//!
//! What travels: gzip members (RFC 1952), snappy in xerial's framing, LZ4 frames with independent blocks, zstd frames. The one
//! tricky idea: nothing that the input says about its own length decides how much memory is taken. Every decoder either grows its
//! output as bytes really appear, or derives a ceiling from the blocks that are really there, and stops at the caller's limit.

mod gzip;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod xxh32;
mod zstd;

use std::fmt;

/// How the records of a batch are compressed: bits 0-2 of the batch's attributes (Kafka's `CompressionType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Codec {
    /// Records stand in the batch as they are.
    #[default]
    None = 0,
    /// RFC 1952, one or several members.
    Gzip = 1,
    /// Snappy blocks in xerial's framing; raw snappy is also read.
    Snappy = 2,
    /// LZ4 frames of independent blocks.
    Lz4 = 3,
    /// Zstandard frames (KIP-110).
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of the ids.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The id as it stands in batch attributes.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The codec of an id; ids 5-7 name nothing.
    pub const fn from_id(id: u8) -> Option<Codec> {
        match id {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// The name used in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec named by `compression.type`, without the two values which are no codec (`producer`, `uncompressed`).
    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionError {
    /// The codec that was asked to read them.
    pub codec: Codec,
    /// What went wrong.
    pub kind: CompressionErrorKind,
}

/// The two ways in which decompression fails: the caller's choices are to call the batch corrupt or to call it too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionErrorKind {
    /// The bytes are not what the codec writes; the text says which rule they break.
    Corrupt(&'static str),
    /// The output would be longer than the caller's limit.
    TooLarge {
        /// The limit, in bytes of output.
        limit: usize,
    },
}

impl fmt::Display for CompressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CompressionErrorKind::Corrupt(rule) => write!(f, "corrupt {} data: {rule}", self.codec),
            CompressionErrorKind::TooLarge { limit } => {
                write!(f, "{} data decompresses to more than {limit} bytes", self.codec)
            }
        }
    }
}

impl std::error::Error for CompressionError {}

/// Appends the compressed form of `source` to `target`.
///
/// `level` follows the topic configurations `compression.gzip.level` (1-9), `compression.zstd.level` (-131072..22); `None` and, for
/// gzip, -1 mean the codec's default. Levels outside of the range are clamped; snappy and LZ4 know one speed only.
pub fn compress(codec: Codec, level: Option<i32>, source: &[u8], target: &mut Vec<u8>) {
    match codec {
        Codec::None => target.extend_from_slice(source),
        Codec::Gzip => gzip::compress(level, source, target),
        Codec::Snappy => snappy::compress(source, target),
        Codec::Lz4 => lz4::compress(source, target),
        Codec::Zstd => zstd::compress(level, source, target),
    }
}

/// Decompresses all of `source`, to at most `limit` bytes.
///
/// Work and memory are bounded by the limit (and by the length of `source`), whatever the input claims.
pub fn decompress(codec: Codec, source: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let result = match codec {
        Codec::None if source.len() > limit => Err(CompressionErrorKind::TooLarge { limit }),
        Codec::None => Ok(source.to_vec()),
        Codec::Gzip => gzip::decompress(source, limit),
        Codec::Snappy => snappy::decompress(source, limit),
        Codec::Lz4 => lz4::decompress(source, limit),
        Codec::Zstd => zstd::decompress(source, limit),
    };
    if let Ok(output) = &result {
        assert!(output.len() <= limit, "{codec} decompressed past its limit");
    }
    result.map_err(|kind| CompressionError { codec, kind })
}

/// What the codecs' own files return; the codec is added at the door.
type Decompressed = Result<Vec<u8>, CompressionErrorKind>;

/// Shorthand of the codecs' own files.
fn corrupt<T>(rule: &'static str) -> Result<T, CompressionErrorKind> {
    Err(CompressionErrorKind::Corrupt(rule))
}

/// Takes `count` bytes from the front, or says that the input is cut off.
fn take<'a>(source: &mut &'a [u8], count: usize) -> Result<&'a [u8], CompressionErrorKind> {
    match source.split_at_checked(count) {
        Some((taken, rest)) => {
            *source = rest;
            Ok(taken)
        }
        None => corrupt("the input is cut off"),
    }
}

/// Takes an array of `N` bytes from the front, or says that the input is cut off.
fn take_array<const N: usize>(source: &mut &[u8]) -> Result<[u8; N], CompressionErrorKind> {
    match source.split_first_chunk::<N>() {
        Some((taken, rest)) => {
            *source = rest;
            Ok(*taken)
        }
        None => corrupt("the input is cut off"),
    }
}
