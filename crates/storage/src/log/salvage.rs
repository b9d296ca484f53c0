//! Recovery after an unclean end: reading what is there, batch by batch, and keeping what is whole.
//!
//! The one tricky idea: it is not enough that every batch is whole. Blocks reach the disk in any order, so a segment may have lost its end
//! while the one behind it was kept; such a hole ends the log as damage does.

use std::io;

use super::recover::{Loader, OpenHints};
use crate::disk::OpenMode;
use crate::index::AbortedTxn;
use crate::names::{self, PRODUCER_SNAPSHOT, SEGMENT_EXTENSIONS};
use crate::producer::{Producers, TxnEnd};
use crate::scan::{Found, Scan};
use crate::segment::{
    ActiveFiles, ActiveSegment, Indexer, SealedSegment, fits, write_aborted, write_indexes,
};

/// Bytes that recovery reads at a time.
const RECOVERY_PIECE: usize = 1 << 20;

/// A segment whose every batch was checked.
struct Scanned {
    segment: ActiveSegment,
    end_offset: i64,
    /// Something behind the last batch was cut off.
    damaged: bool,
    /// Every offset has its record: compaction was never here.
    dense: bool,
}

impl Scanned {
    /// Whether the segment at `next_base` can follow. One that begins before this one ends was made of another history. One that begins
    /// later shows that batches are missing which were never synced (their blocks reached the disk after those behind them), unless
    /// compaction made the gap (as Kafka's does), or it lies below the recovery point, or is too wide for one segment.
    fn is_continued_by(&self, next_base: i64, whole_below: i64) -> bool {
        let gap = next_base > self.end_offset;
        let explained =
            !self.dense || next_base <= whole_below || !fits(self.segment.base_offset, next_base - 1);
        !self.damaged && next_base >= self.end_offset && (!gap || explained)
    }
}

impl Loader<'_> {
    /// Reads everything from the segment of the recovery point on, and ends the log at the first thing that is not right.
    pub(super) fn scan(&mut self, bases: &[i64], hints: OpenHints) -> io::Result<(ActiveSegment, i64)> {
        if bases.is_empty() {
            self.producers = Producers::starting_at(self.log_start_offset);
            self.epochs.clear();
            return Ok((ActiveSegment::empty(self.log_start_offset, self.now), self.log_start_offset));
        }
        let recovery_point = if self.report.epochs_rebuilt { i64::MIN } else { hints.recovery_point };
        let whole_below = recovery_point.max(hints.cleaned_offset);
        // Strictly before: if the recovery point is a segment's first offset, a flush may have ended there before that segment was
        // begun, and the indexes of the one before it were not part of that flush.
        let first = bases.partition_point(|base| *base < recovery_point).saturating_sub(1);
        for &base_offset in &bases[..first] {
            self.push_sealed(base_offset)?;
        }
        self.epochs.truncate_from_end(bases[first]);
        self.load_producers(bases[first], None)?;
        self.remove_stray_snapshots(bases)?;
        let mut active: Option<Scanned> = None;
        for (n, &base_offset) in bases.iter().enumerate().skip(first) {
            let mut start = base_offset;
            if let Some(previous) = active.take() {
                if !previous.is_continued_by(base_offset, whole_below) {
                    self.remove_from(&bases[n..])?;
                    active = Some(previous);
                    break;
                }
                start = start.max(previous.end_offset);
                self.seal(previous.segment, base_offset)?;
            }
            active = Some(self.scan_segment(base_offset, start)?);
        }
        let Scanned { segment, end_offset, .. } = active.expect("the first segment is scanned and stays");
        Ok((segment, end_offset))
    }

    /// Removes the segments behind damage, the last one first and each durably, so that no hole can be left between what stays.
    fn remove_from(&mut self, bases: &[i64]) -> io::Result<()> {
        for base_offset in bases.iter().rev() {
            self.place.remove(*base_offset, &SEGMENT_EXTENSIONS)?;
            self.place.remove(*base_offset, &[PRODUCER_SNAPSHOT])?;
            self.place.sync()?;
            self.report.segments_removed += 1;
        }
        Ok(())
    }

    /// A scanned segment has another behind it.
    fn seal(&mut self, active: ActiveSegment, next_base: i64) -> io::Result<()> {
        let base_offset = active.base_offset;
        let mut sealed = SealedSegment::new(base_offset, active.size, active.aborted);
        let files = active.files.expect("a scanned segment is open");
        if !self.on_disk {
            self.unsynced.push(files.log);
        }
        self.unsynced.extend(write_indexes(self.place, base_offset, &files.indexer)?);
        self.unsynced.extend(write_aborted(self.place, base_offset, &sealed.aborted)?);
        sealed.release();
        self.sealed.push(sealed);
        self.producers.set_end_offset(next_base);
        self.unsynced.push(self.place.write(next_base, PRODUCER_SNAPSHOT, &self.producers.snapshot())?);
        Ok(())
    }

    fn scan_segment(&mut self, base_offset: i64, start: i64) -> io::Result<Scanned> {
        let file = self.place.open(base_offset, names::LOG, OpenMode::Write)?;
        let len = file.len()?;
        let mut indexer = Indexer::default();
        let mut aborted: Vec<AbortedTxn> = Vec::new();
        let mut end_offset = start;
        let mut dense = true;
        let mut scan = Scan::new(&*file, 0, len, RECOVERY_PIECE);
        let mut valid = 0;
        while let Found::At(position, batch) = scan.next_batch()? {
            let whole = batch.base_offset >= end_offset
                && fits(base_offset, batch.last_offset())
                && position <= i32::MAX as u64
                && batch.verify_crc().is_ok();
            if !whole {
                break;
            }
            dense &= batch.base_offset == end_offset && batch.record_count == batch.last_offset_delta + 1;
            indexer.add(base_offset, self.config.index_interval_bytes, &batch, position as u32);
            if batch.leader_epoch >= 0
                && self.epochs.latest().is_none_or(|latest| batch.leader_epoch > latest.leader_epoch)
            {
                self.epochs.assign(batch.leader_epoch, batch.base_offset);
            }
            let end = if batch.is_control() { TxnEnd::read(&batch) } else { None };
            aborted.extend(self.producers.apply(&batch, end).filter(|txn| txn.aborted).map(AbortedTxn::from));
            end_offset = batch.next_offset();
            valid = position + batch.size() as u64;
        }
        let damaged = valid < len;
        if damaged {
            file.set_len(valid)?;
            self.unsynced.push(file.clone());
            self.report.bytes_truncated += len - valid;
        }
        self.report.segments_scanned += 1;
        self.report.bytes_scanned += valid;
        indexer.note_max_timestamp(base_offset);
        let mut segment = ActiveSegment::empty(base_offset, self.now);
        segment.size = u32::try_from(valid).map_err(|_| io::Error::other("a segment of more than 4 GiB"))?;
        segment.aborted = aborted;
        segment.max_timestamp = indexer.max_timestamp;
        segment.files = Some(ActiveFiles::new(file, indexer));
        Ok(Scanned { segment, end_offset, damaged, dense })
    }
}
