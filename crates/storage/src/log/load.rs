//! Loading a log that let go of its files, without holding up its users.
//!
//! The one tricky idea: like a flush it is three steps. `begin_load` says under the log's lock what is missing, `run` reads it with no lock
//! held, `on_loaded` takes it, if the log is still as it was.

use std::io;

use crate::error::StorageError;
use crate::index::TimestampOffset;
use crate::place::Place;
use crate::segment::ActiveFiles;

/// What has to be read before the log can be appended to.
#[derive(Debug)]
pub struct LoadJob {
    pub(super) place: Place,
    pub(super) base_offset: i64,
    pub(super) size: u32,
    pub(super) max_timestamp: Option<TimestampOffset>,
    pub(super) index_interval_bytes: u32,
}

/// The file and the indexes of an active segment.
#[derive(Debug)]
pub struct Loaded {
    pub(super) base_offset: i64,
    pub(super) size: u32,
    pub(super) files: ActiveFiles,
}

impl LoadJob {
    /// Waits for the disk.
    pub fn run(self) -> Result<Loaded, StorageError> {
        let LoadJob { base_offset, size, .. } = self;
        match self.open() {
            Ok(files) => Ok(Loaded { base_offset, size, files }),
            Err(error) => Err(StorageError::at(&self.place.dir, &error)),
        }
    }

    fn open(&self) -> io::Result<ActiveFiles> {
        let LoadJob { place, base_offset, size, max_timestamp, index_interval_bytes } = self;
        ActiveFiles::open(place, *base_offset, *size, *max_timestamp, *index_interval_bytes)
    }
}
