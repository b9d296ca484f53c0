//! How old segments are: known of those that were sealed by this process, to be read of others.
//!
//! The one tricky idea: whoever asks under the log's lock may not wait for the disk. So a question that needs a file is answered with a job
//! ([`Surveyed::Unknown`]); when it was run and [`Log::on_surveyed`] took what it found, the question is asked again.

use std::io;

use super::Log;
use crate::disk::OpenMode;
use crate::error::StorageError;
use crate::index::TimeIndexFile;
use crate::names::{LOG, TIME_INDEX};
use crate::place::Place;
use crate::scan::{Found, Scan};
use crate::segment::{Age, Indexer};

/// The answer to a question about the age of segments.
#[derive(Debug)]
pub enum Surveyed<T> {
    /// It is this.
    Known(T),
    /// A segment has to be looked at first.
    Unknown(SurveyJob),
}

/// A segment of which it is not known how old it is.
#[derive(Debug)]
pub struct SurveyJob {
    place: Place,
    base_offset: i64,
    size: u32,
}

/// How old a segment is; to be given to [`Log::on_surveyed`].
#[derive(Debug)]
pub struct SurveyDone {
    base_offset: i64,
    size: u32,
    age: Age,
}

impl SurveyJob {
    /// Waits for the disk. No segment of the log may change its name meanwhile.
    pub fn run(self) -> Result<SurveyDone, StorageError> {
        match self.look() {
            Ok(age) => Ok(SurveyDone { base_offset: self.base_offset, size: self.size, age }),
            Err(error) => Err(StorageError::at(&self.place.dir, &error)),
        }
    }

    fn look(&self) -> io::Result<Age> {
        let log = self.place.open(self.base_offset, LOG, OpenMode::Read)?;
        let first = match Scan::new(&*log, 0, u64::from(self.size), 4096).next_header()? {
            Found::At(_, header) => Some(header.max_timestamp).filter(|first| *first >= 0),
            _ => None,
        };
        let times = match self.place.open(self.base_offset, TIME_INDEX, OpenMode::Read) {
            Ok(file) => TimeIndexFile::open(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let newest = match times {
            Some(times) => times.last(self.base_offset)?,
            // One entry is enough; an interval that no segment reaches keeps it at that.
            None => Indexer::rebuild(&*log, self.base_offset, self.size, u32::MAX)?.max_timestamp,
        };
        Ok(Age { first, newest: newest.map_or_else(|| log.modified(), |newest| Ok(newest.timestamp))? })
    }
}

impl Log {
    /// Takes what a survey found, if the segment is still what it was.
    pub fn on_surveyed(&mut self, done: SurveyDone) {
        let SurveyDone { base_offset, size, age } = done;
        if let Some(segment) = self.sealed_like(base_offset, size) {
            segment.note_age(age);
        } else if (self.active.base_offset, self.active.size) == (base_offset, size) {
            self.active.surveyed = Some((size, age));
        }
    }

    /// How old the `n`th segment is, the active one behind the sealed ones.
    pub(super) fn age(&self, n: usize) -> Result<Age, SurveyJob> {
        let (base_offset, size, age) = match self.sealed.get(n) {
            Some(segment) => (segment.base_offset, segment.size, segment.age()),
            None => {
                let (base_offset, size) = (self.active.base_offset, self.active.size);
                let surveyed = self.active.surveyed.filter(|(surveyed, _)| *surveyed == size);
                (base_offset, size, surveyed.map(|(_, age)| age))
            }
        };
        age.ok_or_else(|| SurveyJob { place: self.place.clone(), base_offset, size })
    }

    /// The largest timestamp of the `n`th segment, or when it was last written to.
    pub(super) fn newest_timestamp(&self, n: usize) -> Result<i64, SurveyJob> {
        match self.active.max_timestamp {
            Some(max) if n == self.sealed.len() => Ok(max.timestamp),
            _ => Ok(self.age(n)?.newest),
        }
    }
}
