//! gzip as Java's streams write it: one or several members, read until the input ends.
//!
//! The output grows as bytes appear, so the limit is a matter of asking for one byte more than allowed and looking whether it came.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{CompressionErrorKind, Decompressed, corrupt};

pub(super) fn compress(level: Option<i32>, source: &[u8], target: &mut Vec<u8>) {
    let level = match level {
        None | Some(-1) => Compression::default(),
        Some(level) => Compression::new(level.clamp(1, 9) as u32),
    };
    let mut encoder = GzEncoder::new(target, level);
    encoder
        .write_all(source)
        .and_then(|()| encoder.finish().map(|_| ()))
        .expect("writing into a Vec does not fail");
}

pub(super) fn decompress(source: &[u8], limit: usize) -> Decompressed {
    let allowed = (limit as u64).saturating_add(1);
    let mut output = Vec::new();
    let mut decoder = MultiGzDecoder::new(source).take(allowed);
    if decoder.read_to_end(&mut output).is_err() {
        return corrupt("not a sequence of gzip members");
    }
    if output.len() > limit {
        return Err(CompressionErrorKind::TooLarge { limit });
    }
    Ok(output)
}
