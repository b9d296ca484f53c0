//! Writing back at a steady pace what a log appends, before its flush is due.
//!
//! The one tricky idea: the kernel leaves what was written in the page cache until a flush asks for it, and then writes all of it in one
//! go, which holds up everybody who writes meanwhile. A hint for each megabyte spreads that out, and a flush finds little to do. Nothing
//! depends on it: only a flush makes anything durable.

use std::sync::Arc;

use crate::disk::File;

/// A hint is worth giving for so many bytes.
const WRITE_BACK_BYTES: u64 = 1 << 20;
/// Ranges end at pages: the last one will be written to again.
const PAGE_BYTES: u64 = 4096;

/// How far the active segment's file was given to the disk.
#[derive(Debug, Default)]
pub(crate) struct WrittenBack {
    to: u64,
    /// Shared with the job that is under way: one at a time, so that a slow disk is given larger pieces and not more of them.
    under_way: Arc<()>,
}

impl WrittenBack {
    /// All below `size` was given to the disk, or will be by a flush.
    pub(crate) fn reach(&mut self, size: u64) {
        self.to = size / PAGE_BYTES * PAGE_BYTES;
    }

    /// What is worth a hint, if the file has this size.
    pub(crate) fn begin(&mut self, file: &Arc<dyn File>, size: u64) -> Option<WriteBack> {
        let from = self.to.min(size);
        if size - from < WRITE_BACK_BYTES || Arc::strong_count(&self.under_way) > 1 {
            return None;
        }
        self.reach(size);
        Some(WriteBack {
            file: file.clone(),
            position: from,
            len: self.to - from,
            _under_way: self.under_way.clone(),
        })
    }
}

/// A part of a file that the disk may begin to take; to be run without the log.
#[derive(Debug)]
pub struct WriteBack {
    file: Arc<dyn File>,
    position: u64,
    len: u64,
    _under_way: Arc<()>,
}

impl WriteBack {
    /// Gives the hint. May wait for a place in the disk's queue.
    pub fn run(self) {
        self.file.write_back(self.position, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, OpenMode, SimDisk};
    use std::path::Path;

    #[test]
    fn a_hint_for_each_megabyte_and_one_at_a_time() {
        let file = SimDisk::new(1).open(Path::new("/a"), OpenMode::Create).expect("created");
        let mut written = WrittenBack::default();
        assert!(written.begin(&file, WRITE_BACK_BYTES - 1).is_none(), "too little");
        let first = written.begin(&file, WRITE_BACK_BYTES + 100).expect("enough");
        assert_eq!((first.position, first.len), (0, WRITE_BACK_BYTES));
        assert!(written.begin(&file, 5 * WRITE_BACK_BYTES).is_none(), "one is under way");
        first.run();
        let second = written.begin(&file, 5 * WRITE_BACK_BYTES).expect("what gathered meanwhile");
        assert_eq!((second.position, second.len), (WRITE_BACK_BYTES, 4 * WRITE_BACK_BYTES));
        drop(second);
        written.reach(7 * WRITE_BACK_BYTES);
        assert!(written.begin(&file, 7 * WRITE_BACK_BYTES + 10).is_none(), "a flush has the rest");
        assert!(written.begin(&file, 100).is_none(), "the file was cut");
        let third = written.begin(&file, 9 * WRITE_BACK_BYTES).expect("enough again");
        assert_eq!(third.position, 7 * WRITE_BACK_BYTES);
    }
}
