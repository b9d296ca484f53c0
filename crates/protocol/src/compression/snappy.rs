//! Snappy in the framing of xerial's snappy-java, the one that Kafka's clients speak.
//!
//! ```text
//! 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 = 1 | compatible i32 = 1 | { length i32 | raw snappy block }...
//! ```
//!
//! All integers are big-endian; the writer cuts blocks at 32 KiB of input. Some clients send one raw snappy block without any
//! framing, and some concatenate framed streams; both are read. A raw block starts with its own decompressed length, which is
//! believed only as far as the block's bytes could possibly yield it.

use super::{CompressionErrorKind, Decompressed, corrupt, take, take_array};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: [u8; 4] = [0, 0, 0, 1];
const BLOCK_BYTES: usize = 32 * 1024;

/// The densest element of raw snappy copies 64 bytes and takes 3: no block yields more than this many bytes per byte.
const YIELD_MAX: usize = 22;

pub(super) fn compress(source: &[u8], target: &mut Vec<u8>) {
    target.extend_from_slice(&MAGIC);
    target.extend_from_slice(&VERSION);
    target.extend_from_slice(&VERSION);
    let mut encoder = snap::raw::Encoder::new();
    for block in source.chunks(BLOCK_BYTES) {
        let length_at = target.len();
        let block_at = length_at + 4;
        target.resize(block_at + snap::raw::max_compress_len(block.len()), 0);
        let length = encoder
            .compress(block, &mut target[block_at..])
            .expect("a block of 32 KiB into a buffer of its maximum size");
        target[length_at..block_at].copy_from_slice(&(length as u32).to_be_bytes());
        target.truncate(block_at + length);
    }
}

pub(super) fn decompress(source: &[u8], limit: usize) -> Decompressed {
    let mut output = Vec::new();
    let mut decoder = snap::raw::Decoder::new();
    if !source.starts_with(&MAGIC) {
        decompress_block(&mut decoder, source, &mut output, limit)?;
        return Ok(output);
    }
    let mut rest = source;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            take(&mut rest, MAGIC.len())?;
            let _version: [u8; 4] = take_array(&mut rest)?;
            if i32::from_be_bytes(take_array(&mut rest)?) > 1 {
                return corrupt("the stream needs a newer snappy framing");
            }
            continue;
        }
        let length = i32::from_be_bytes(take_array(&mut rest)?);
        let Ok(length) = usize::try_from(length) else {
            return corrupt("a block has a negative length");
        };
        decompress_block(&mut decoder, take(&mut rest, length)?, &mut output, limit)?;
    }
    Ok(output)
}

fn decompress_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), CompressionErrorKind> {
    if block.is_empty() {
        return corrupt("a block is empty");
    }
    let Ok(length) = snap::raw::decompress_len(block) else {
        return corrupt("a block has no valid length");
    };
    if length > block.len().saturating_mul(YIELD_MAX) {
        return corrupt("a block claims more than it can hold");
    }
    let start = output.len();
    if length > limit - start {
        return Err(CompressionErrorKind::TooLarge { limit });
    }
    output.resize(start + length, 0);
    match decoder.decompress(block, &mut output[start..]) {
        Ok(written) if written == length => Ok(()),
        _ => corrupt("a block is not raw snappy"),
    }
}
