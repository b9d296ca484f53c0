//! `sync_file_range`, for which no crate has a safe function.
#![allow(unsafe_code)] // one call, whose arguments are numbers

use std::fs::File;
use std::os::fd::AsRawFd;

/// Has the kernel begin to write a range to the disk. Returns when all of it is queued there, not when it is done.
///
/// No error is lost with the result: one of writing stays with the file, and the next `fdatasync` tells it; one of the call
/// itself (a file system that knows no such thing) means that nothing was begun, which is what a hint may come to.
pub(super) fn begin(file: &File, position: u64, len: u64) {
    let (Ok(position), Ok(len)) = (i64::try_from(position), i64::try_from(len)) else { return };
    // SAFETY: the descriptor is open as long as `file` is borrowed, and the call neither takes nor gives a pointer. Without the flags
    // that wait (`SYNC_FILE_RANGE_WAIT_*`) it does not take note of errors either, so that they are still there for `fdatasync`.
    unsafe { libc::sync_file_range(file.as_raw_fd(), position, len, libc::SYNC_FILE_RANGE_WRITE) };
}
