//! How much of a log compaction has not looked at, and the list of segments that it starts from (`LogCleanerManager`, `LogToClean`).
//!
//! The one tricky idea: what may be compacted ends at a segment's border: before the active segment, before the last stable offset, before
//! what is not synced, and before the first segment with a record that is too young.

use super::{Log, SurveyJob, Surveyed};
use crate::compact::{Compaction, CompactionMemory, Snapshot, Source};
use crate::error::StorageError;
use crate::index::collect_aborted;

/// What a compaction of a log would deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirt {
    /// Below, no key has a later value that was known at the last compaction.
    pub first_dirty_offset: i64,
    /// Where the dirty part ends that may be compacted now (exclusive).
    pub end_offset: i64,
    /// Bytes of the segments before the dirty part.
    pub clean_bytes: u64,
    /// Bytes of the dirty part.
    pub dirty_bytes: u64,
    /// The oldest dirty record is older than `max.compaction.lag.ms`.
    pub overdue: bool,
}

impl Dirt {
    /// The share of dirty bytes, 0 to 1.
    pub fn ratio(&self) -> f64 {
        let total = self.clean_bytes + self.dirty_bytes;
        if total == 0 { 0.0 } else { self.dirty_bytes as f64 / total as f64 }
    }

    /// Whether compaction is worth while.
    pub fn is_due(&self, dirty_ratio_min: f64) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.ratio() > dirty_ratio_min)
    }
}

impl Log {
    /// Looks how dirty the log is. `cleaned_offset` is where the last compaction ended, if there was one.
    pub fn dirt(
        &mut self,
        cleaned_offset: Option<i64>,
        high_watermark: i64,
        now: i64,
    ) -> Result<Surveyed<Dirt>, StorageError> {
        self.check_healthy()?;
        let stable_end = self.last_stable_offset(high_watermark).min(self.synced_offset);
        Ok(match self.try_dirt(cleaned_offset, stable_end, now) {
            Ok(dirt) => Surveyed::Known(dirt),
            Err(survey) => Surveyed::Unknown(survey),
        })
    }

    fn try_dirt(&self, cleaned_offset: Option<i64>, stable_end: i64, now: i64) -> Result<Dirt, SurveyJob> {
        let in_log = |offset: &i64| (self.log_start_offset..=self.log_end_offset).contains(offset);
        // A checkpoint that is not of this log says nothing; all of it is dirty.
        let first_dirty_offset = cleaned_offset.filter(in_log).unwrap_or(self.log_start_offset);
        let rules = self.config.compaction;
        let first_dirty = self.sealed_at(first_dirty_offset);
        let mut end = self.sealed.iter().take_while(|segment| segment.base_offset < stable_end).count();
        if end > 0 && self.next_base(end - 1) > stable_end {
            end -= 1;
        }
        if rules.lag_min_ms > 0 {
            for n in first_dirty..end {
                if self.newest_timestamp(n)? > now.saturating_sub(rules.lag_min_ms) {
                    end = n;
                    break;
                }
            }
        }
        let mut overdue = false;
        if rules.lag_max_ms < i64::MAX {
            for n in first_dirty..self.sealed.len() {
                let first = self.age(n)?.first;
                overdue |=
                    first.is_some_and(|first| first > 0 && first < now.saturating_sub(rules.lag_max_ms));
            }
        }
        let bytes = |range: std::ops::Range<usize>| {
            self.sealed.get(range).unwrap_or_default().iter().map(|segment| u64::from(segment.size)).sum()
        };
        let mid_segment =
            self.sealed.get(first_dirty).is_some_and(|segment| segment.base_offset < first_dirty_offset);
        let end_offset = if end > first_dirty { self.next_base(end - 1) } else { first_dirty_offset };
        Ok(Dirt {
            first_dirty_offset,
            end_offset: end_offset.max(first_dirty_offset),
            clean_bytes: bytes(0..(first_dirty + usize::from(mid_segment)).min(self.sealed.len())),
            dirty_bytes: if end_offset > first_dirty_offset { bytes(first_dirty..end) } else { 0 },
            overdue,
        })
    }

    /// Starts to compact what [`Log::dirt`] found. `None`: there is nothing, or the last compaction's end is still being written down.
    pub fn begin_compaction(
        &mut self,
        dirt: &Dirt,
        memory: CompactionMemory,
        high_watermark: i64,
        now: i64,
    ) -> Result<Option<Compaction>, StorageError> {
        self.check_healthy()?;
        let count = self.sealed.iter().take_while(|segment| segment.base_offset < dirt.end_offset).count();
        if count == 0 || dirt.dirty_bytes == 0 || self.swap.is_some() {
            return Ok(None);
        }
        let sources = (0..count).map(|n| {
            let segment = &self.sealed[n];
            Source { base_offset: segment.base_offset, size: segment.size, next_base: self.next_base(n) }
        });
        let mut aborted = Vec::new();
        for txns in self.sealed.iter().map(|segment| &segment.aborted).chain([&self.active.aborted]) {
            if collect_aborted(txns, self.sealed[0].base_offset, dirt.end_offset, &mut aborted) {
                break;
            }
        }
        let snapshot = Snapshot {
            place: self.place.clone(),
            config: self.config.clone(),
            sources: sources.collect(),
            first_dirty_offset: dirt.first_dirty_offset,
            end_offset: dirt.end_offset,
            aborted,
            last_records: self.producers.last_records(),
            high_watermark,
            truncations: self.truncations,
            now,
        };
        Ok(Some(Compaction::new(snapshot, memory)))
    }
}
