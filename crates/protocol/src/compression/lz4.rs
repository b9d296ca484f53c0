//! LZ4 frames as Kafka's clients write and accept them (KIP-57).
//!
//! ```text
//! 04 22 4D 18 | FLG | BD | [content size u64] | HC | { length u32 | block | [checksum] }... | 0 u32 | [content checksum]
//! ```
//!
//! Blocks must be independent: the Java client refuses linked ones, so they are refused here, too. Each block is decompressed
//! straight into the output, so the frame costs no memory beyond the output and one block. Numbers are little-endian.

use lz4_flex::block::{DecompressError, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::xxh32::xxh32;
use super::{CompressionErrorKind, Decompressed, corrupt, take, take_array};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Version 1, independent blocks, no checksums, no content size.
const FLG: u8 = 0x60;
/// Blocks of at most 64 KiB.
const BD: u8 = 0x40;
const BLOCK_BYTES: usize = 64 * 1024;

/// The bit of a block's length which says that the block stands there uncompressed.
const STORED: u32 = 1 << 31;

pub(super) fn compress(source: &[u8], target: &mut Vec<u8>) {
    target.extend_from_slice(&MAGIC);
    target.extend_from_slice(&[FLG, BD, header_checksum(&[FLG, BD])]);
    let mut table = lz4_flex::block::CompressTable::large();
    for block in source.chunks(BLOCK_BYTES) {
        let length_at = target.len();
        let block_at = length_at + 4;
        target.resize(block_at + get_maximum_output_size(block.len()), 0);
        let length = compress_into_with_table(block, &mut target[block_at..], &mut table)
            .expect("a block into a buffer of its maximum size");
        let word = if length < block.len() {
            target.truncate(block_at + length);
            length as u32
        } else {
            target.truncate(block_at);
            target.extend_from_slice(block);
            block.len() as u32 | STORED
        };
        target[length_at..block_at].copy_from_slice(&word.to_le_bytes());
    }
    target.extend_from_slice(&[0; 4]);
}

pub(super) fn decompress(source: &[u8], limit: usize) -> Decompressed {
    let mut rest = source;
    let mut output = Vec::new();
    // An empty input is no frame; after the first frame more may follow.
    loop {
        decompress_frame(&mut rest, &mut output, limit)?;
        if rest.is_empty() {
            return Ok(output);
        }
    }
}

/// What the descriptor of a frame says.
struct Descriptor {
    block_bytes_max: usize,
    block_checksums: bool,
    content_size: Option<u64>,
    content_checksum: bool,
}

fn decompress_frame(
    rest: &mut &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), CompressionErrorKind> {
    let descriptor = read_descriptor(rest)?;
    let frame_start = output.len();
    loop {
        let word = u32::from_le_bytes(take_array(rest)?);
        if word == 0 {
            break;
        }
        let length = (word & !STORED) as usize;
        if length > descriptor.block_bytes_max {
            return corrupt("a block is longer than the frame allows");
        }
        let block = take(rest, length)?;
        if descriptor.block_checksums && u32::from_le_bytes(take_array(rest)?) != xxh32(block) {
            return corrupt("the checksum of a block does not match");
        }
        let room = limit - output.len();
        if word & STORED != 0 {
            if length > room {
                return Err(CompressionErrorKind::TooLarge { limit });
            }
            output.extend_from_slice(block);
        } else {
            decompress_block(block, output, descriptor.block_bytes_max, room, limit)?;
        }
    }
    let content = &output[frame_start..];
    if descriptor.content_size.is_some_and(|size| size != content.len() as u64) {
        return corrupt("the content is not as long as the frame says");
    }
    if descriptor.content_checksum && u32::from_le_bytes(take_array(rest)?) != xxh32(content) {
        return corrupt("the checksum of the content does not match");
    }
    Ok(())
}

fn read_descriptor(rest: &mut &[u8]) -> Result<Descriptor, CompressionErrorKind> {
    if take_array(rest)? != MAGIC {
        return corrupt("not an LZ4 frame");
    }
    let start = *rest;
    let [flg, bd] = take_array(rest)?;
    if flg >> 6 != 1 || flg & 0x02 != 0 || bd & 0x8f != 0 {
        return corrupt("the frame is of an unknown version");
    }
    if flg & 0x20 == 0 {
        return corrupt("the blocks depend on each other");
    }
    if flg & 0x01 != 0 {
        return corrupt("the frame needs a dictionary");
    }
    let block_bytes_max = match bd >> 4 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return corrupt("the frame has an unknown block size"),
    };
    let content_size = if flg & 0x08 != 0 { Some(u64::from_le_bytes(take_array(rest)?)) } else { None };
    let described = &start[..start.len() - rest.len()];
    let [checksum] = take_array(rest)?;
    if checksum != header_checksum(described) {
        return corrupt("the checksum of the header does not match");
    }
    Ok(Descriptor {
        block_bytes_max,
        block_checksums: flg & 0x10 != 0,
        content_size,
        content_checksum: flg & 0x04 != 0,
    })
}

fn decompress_block(
    block: &[u8],
    output: &mut Vec<u8>,
    block_bytes_max: usize,
    room: usize,
    limit: usize,
) -> Result<(), CompressionErrorKind> {
    let start = output.len();
    // A byte of a match length stands for at most 255 bytes, so short blocks do not need the whole block size.
    let claim = block_bytes_max.min(block.len().saturating_mul(255)).min(room);
    output.resize(start + claim, 0);
    match decompress_into(block, &mut output[start..]) {
        Ok(written) => {
            output.truncate(start + written);
            Ok(())
        }
        Err(DecompressError::OutputTooSmall { .. }) if claim == room => {
            Err(CompressionErrorKind::TooLarge { limit })
        }
        Err(_) => corrupt("a block is not LZ4"),
    }
}

/// The second byte of the descriptor's hash.
fn header_checksum(descriptor: &[u8]) -> u8 {
    (xxh32(descriptor) >> 8) as u8
}
