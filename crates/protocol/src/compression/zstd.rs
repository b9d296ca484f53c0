//! Zstandard frames: with or without content size, one or several, skippable ones between them.
//!
//! A streaming decoder would allocate the window that a frame asks for, up to 128 MiB for a frame of a few bytes. Here the whole
//! input is at hand, so the decoder works in one shot into the output, which serves as its window. How large that output may
//! become is found by walking the block headers: each block is there or is not, and yields at most 128 KiB.
//!
//! Contexts cost more to create than a small batch costs to compress, so each thread keeps one of each kind.

use std::cell::RefCell;
use std::io::Cursor;

use zstd::zstd_safe::{self, CCtx, DCtx};

use super::{CompressionErrorKind, Decompressed, corrupt, take, take_array};

const FRAME_MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
const BLOCK_BYTES_MAX: usize = 128 * 1024;
/// Decoders of clients refuse larger windows (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`).
const WINDOW_BYTES_MAX: u64 = 1 << 27;
/// A compression context that grew beyond this (levels above 12 or so) is not kept.
const KEPT_CONTEXT_BYTES_MAX: usize = 16 << 20;
const LEVEL_DEFAULT: i32 = 3;
/// `ZSTD_error_dstSize_tooSmall`; error numbers below 100 are stable across versions of the library.
const DESTINATION_TOO_SMALL: usize = 70;

thread_local! {
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(level: Option<i32>, source: &[u8], target: &mut Vec<u8>) {
    let level = level.unwrap_or(LEVEL_DEFAULT).clamp(zstd_safe::min_c_level(), zstd_safe::max_c_level());
    let start = target.len();
    target.reserve(zstd_safe::compress_bound(source.len()));
    COMPRESSOR.with_borrow_mut(|slot| {
        let context = slot.get_or_insert_with(CCtx::create);
        let mut end = Cursor::new(&mut *target);
        end.set_position(start as u64);
        context.compress(&mut end, source, level).expect("compressing into a buffer of the maximum size");
        if context.sizeof() > KEPT_CONTEXT_BYTES_MAX {
            *slot = None;
        }
    });
}

pub(super) fn decompress(source: &[u8], limit: usize) -> Decompressed {
    let ceiling = output_ceiling(source)?;
    let mut output = Vec::with_capacity(ceiling.min(limit));
    let result = DECOMPRESSOR
        .with_borrow_mut(|slot| slot.get_or_insert_with(DCtx::create).decompress(&mut output, source));
    match result {
        // The allocator may have given more room than was asked for.
        Ok(_) if output.len() > limit => Err(CompressionErrorKind::TooLarge { limit }),
        Ok(_) => Ok(output),
        Err(code) if code.wrapping_neg() == DESTINATION_TOO_SMALL && ceiling > limit => {
            Err(CompressionErrorKind::TooLarge { limit })
        }
        Err(_) => corrupt("a frame is not zstd"),
    }
}

/// An upper bound of the decompressed size, counted from the blocks which are in the input.
fn output_ceiling(source: &[u8]) -> Result<usize, CompressionErrorKind> {
    let mut rest = source;
    let mut ceiling = 0usize;
    while !rest.is_empty() {
        let magic = u32::from_le_bytes(take_array(&mut rest)?);
        if magic & !0xf == SKIPPABLE_MAGIC {
            let length = u32::from_le_bytes(take_array(&mut rest)?) as usize;
            take(&mut rest, length)?;
        } else if magic == FRAME_MAGIC {
            ceiling = ceiling.saturating_add(frame_ceiling(&mut rest)?);
        } else {
            return corrupt("not a zstd frame");
        }
    }
    Ok(ceiling)
}

fn frame_ceiling(rest: &mut &[u8]) -> Result<usize, CompressionErrorKind> {
    let [descriptor] = take_array(rest)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 {
        return corrupt("a frame uses a reserved bit");
    }
    if !single_segment {
        let [window] = take_array(rest)?;
        let base = 1u64 << (10 + (window >> 3));
        if base + base / 8 * u64::from(window & 7) > WINDOW_BYTES_MAX {
            return corrupt("a frame needs a window of more than 128 MiB");
        }
    }
    take(rest, [0, 1, 2, 4][usize::from(descriptor & 3)])?;
    let content_size = match descriptor >> 6 {
        0 if single_segment => Some(u64::from(u8::from_le_bytes(take_array(rest)?))),
        0 => None,
        1 => Some(u64::from(u16::from_le_bytes(take_array(rest)?)) + 256),
        2 => Some(u64::from(u32::from_le_bytes(take_array(rest)?))),
        _ => Some(u64::from_le_bytes(take_array(rest)?)),
    };
    let mut ceiling = 0usize;
    loop {
        let [a, b, c] = take_array(rest)?;
        let header = u32::from_le_bytes([a, b, c, 0]);
        let length = (header >> 3) as usize;
        let (stored, output) = match (header >> 1) & 3 {
            0 => (length, length),
            1 => (1, length),
            2 => (length, BLOCK_BYTES_MAX),
            _ => return corrupt("a block is of a reserved type"),
        };
        take(rest, stored)?;
        ceiling = ceiling.saturating_add(output);
        if header & 1 != 0 {
            break;
        }
    }
    if descriptor & 0x04 != 0 {
        take(rest, 4)?;
    }
    // The smaller of what the frame says and what it can: a frame which lies upwards is found out by the decoder.
    Ok(content_size.map_or(ceiling, |size| ceiling.min(usize::try_from(size).unwrap_or(usize::MAX))))
}
