//! Retention: segments at the front that are too old, or too much, go (`UnifiedLog.deleteOldSegments`).
//!
//! The one tricky idea: the active segment may be expired as a whole, too. Then an empty one is begun behind it, so that the log still
//! knows where it ends when everything before is gone.

use std::io;

use super::{DeleteJob, Log, SurveyJob, Surveyed};
use crate::error::{ReadError, StorageError};

impl Log {
    /// Forgets what the configuration says is to be deleted, and segments that lie below the log start. Nothing at or above the high
    /// watermark goes. Waits for the disk only if the active segment is not loaded.
    ///
    /// The new log start has to be durable before the job is run. Retention lets go of no more than `segments_max` at once, so that nobody has
    /// to wait for long while their files go; where the job has as many, there may be more.
    pub fn retain(
        &mut self,
        high_watermark: i64,
        segments_max: usize,
        now: i64,
    ) -> Result<Surveyed<DeleteJob>, StorageError> {
        self.check_healthy()?;
        let expired = match self.expired(high_watermark, segments_max, now) {
            Ok(expired) => expired,
            Err(survey) => return Ok(Surveyed::Unknown(survey)),
        };
        let offset = if expired > self.sealed.len() {
            self.log_end_offset
        } else if expired > 0 {
            self.next_base(expired - 1)
        } else {
            self.log_start_offset
        };
        let whole = expired > self.sealed.len();
        let mut start = offset;
        if (whole || (self.active.size == 0 && offset >= self.active.base_offset))
            && let Err(error) = self.end_with_empty_segment(now)
        {
            let error = self.fail_unless_short(error);
            // To end the log with an empty segment takes a little space, which the segments before its last one may give.
            let last = self.sealed.last().map_or(self.log_start_offset, |segment| segment.base_offset);
            start = if self.active.size > 0 { self.active.base_offset } else { last };
            if self.failed.is_some() || start <= self.log_start_offset {
                return Err(error);
            }
        }
        match self.advance_log_start_offset(start.max(self.log_start_offset)) {
            Ok(job) => Ok(Surveyed::Known(job)),
            Err(ReadError::Storage(error)) => Err(error),
            Err(ReadError::OffsetOutOfRange { .. }) => unreachable!("the offset is within the log"),
        }
    }

    /// How many of the oldest segments are expired, the active one included; not all if there are more than `segments_max`.
    fn expired(&self, high_watermark: i64, segments_max: usize, now: i64) -> Result<usize, SurveyJob> {
        let rules = self.config.retention;
        let mut excess = rules.bytes.and_then(|bytes| self.size().checked_sub(bytes)).unwrap_or(0);
        let mut count = 0;
        while count < segments_max {
            let (end, size) = match self.sealed.get(count) {
                Some(segment) if segment.swapping => break,
                Some(segment) => (self.next_base(count), segment.size),
                None if count == self.sealed.len() && self.active.size > 0 && self.may_roll() => {
                    (self.log_end_offset, self.active.size)
                }
                None => break,
            };
            if end > high_watermark {
                break;
            }
            let too_much = rules.bytes.is_some() && u64::from(size) <= excess;
            if end > self.log_start_offset && !too_much && !self.is_too_old(count, now)? {
                break;
            }
            excess = excess.saturating_sub(u64::from(size));
            count += 1;
        }
        Ok(count)
    }

    /// The segment is sealed, or the active one.
    fn is_too_old(&self, n: usize, now: i64) -> Result<bool, SurveyJob> {
        let Some(retention_ms) = self.config.retention.ms else { return Ok(false) };
        Ok(now.saturating_sub(self.newest_timestamp(n)?) > retention_ms)
    }

    /// The file of the empty segment is what tells the next process where the log ends.
    fn end_with_empty_segment(&mut self, now: i64) -> io::Result<()> {
        if self.active.size > 0 {
            self.try_roll(self.log_end_offset, now)?;
        }
        self.create_active()
    }
}
