//! The three indexes of a segment, in memory while the segment is written to, as sorted files when it is sealed.
//!
//! The one tricky idea: the files are plain sorted arrays of fixed-size entries, so a sealed segment's index is never loaded: a binary
//! search reads a handful of entries straight from the file, and idle segments cost no memory.

mod offset;
mod time;
mod txn;

pub(crate) use offset::{OffsetIndex, OffsetIndexFile};
pub use time::TimestampOffset;
pub(crate) use time::{TimeIndex, TimeIndexFile};
pub use txn::AbortedTxn;
pub(crate) use txn::{collect_aborted, decode_aborted, encode_aborted};

use std::io;

/// The largest `n` below `count` whose entry is at or below the target (`at_or_below(n)`), entries being sorted.
fn floor_entry(count: u32, mut at_or_below: impl FnMut(u32) -> io::Result<bool>) -> io::Result<Option<u32>> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if at_or_below(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low.checked_sub(1))
}
