//! Opening a log: believing what a clean shutdown left, or finding out what an unclean one did (`LogLoader`).
//!
//! The one tricky idea: the segment in which the recovery point lies and all behind it are read once, in order, and everything that can be
//! known of them is made anew on the way: checksums, indexes, epochs, producers, aborted transactions. The first byte that is not right
//! ends the log; nothing behind it was ever synced, so nothing behind it was ever promised.

use std::io;

use ottla_protocol::records::Batch;

use super::Log;
use crate::config::LogConfig;
use crate::disk::{File, OpenMode, create_dir_durable, remove_if_exists};
use crate::epochs::LeaderEpochs;
use crate::flush::FlushJob;
use crate::index::{AbortedTxn, TimeIndex, decode_aborted};
use crate::names::{self, CLEANED, DELETED, PRODUCER_SNAPSHOT, SEGMENT_EXTENSIONS, SWAP, parse_segment_name};
use crate::place::Place;
use crate::producer::{CompletedTxn, Producers, TxnEnd, decode_snapshot};
use crate::scan::{Found, Scan};
use crate::segment::{
    ActiveFiles, ActiveSegment, HEADER_PIECE, Indexer, SealedSegment, fits, write_aborted, write_indexes,
};
use crate::tail::TailCache;

/// Bytes that recovery reads at a time.
const RECOVERY_PIECE: usize = 1 << 20;

/// What the checkpoints of the log directory say of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenHints {
    /// Below this offset the files are known to be synced.
    pub recovery_point: i64,
    /// The first readable offset, if it is above the first segment's base.
    pub log_start_offset: i64,
    /// The log was closed before the last process ended, so the recovery point is its end.
    pub clean_shutdown: bool,
}

/// What opening a log found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments whose every batch was checked.
    pub segments_scanned: usize,
    /// Their bytes.
    pub bytes_scanned: u64,
    /// Bytes cut off behind the last valid batch, not counting removed segments.
    pub bytes_truncated: u64,
    /// Segments removed: behind damage, or below the log start offset.
    pub segments_removed: usize,
    /// By how much the log ends below its recovery point. Unless a truncation was interrupted, something that was synced is gone: the
    /// disk broke its word, and what was acknowledged may be lost here.
    pub lost_synced_offsets: i64,
    /// `leader-epoch-checkpoint` was damaged and made anew from the batches.
    pub epochs_rebuilt: bool,
}

impl From<CompletedTxn> for AbortedTxn {
    fn from(txn: CompletedTxn) -> AbortedTxn {
        let CompletedTxn { producer_id, first_offset, last_offset, last_stable_offset, .. } = txn;
        AbortedTxn { producer_id, first_offset, last_offset, last_stable_offset }
    }
}

pub(super) fn open(
    place: &Place,
    config: LogConfig,
    hints: OpenHints,
    now: i64,
) -> io::Result<(Log, RecoveryReport)> {
    create_dir_durable(&*place.disk, &place.dir)?;
    let mut report = RecoveryReport::default();
    let bases = clean_up(place)?;
    let epochs = LeaderEpochs::read(&*place.disk, &place.dir)?;
    report.epochs_rebuilt = epochs.is_none();
    let mut loader = Loader {
        place,
        config: &config,
        now,
        log_start_offset: hints.log_start_offset,
        epochs: epochs.unwrap_or_default(),
        producers: Producers::default(),
        sealed: Vec::new(),
        unsynced: Vec::new(),
        report,
    };
    let bases = loader.remove_below_start(bases)?;
    loader.log_start_offset = hints.log_start_offset.max(bases.first().copied().unwrap_or(0));
    let clean_end =
        if hints.clean_shutdown && !loader.report.epochs_rebuilt { loader.clean_end(&bases)? } else { None };
    let (mut active, mut end_offset) = match clean_end {
        Some(clean) => loader.believe(&bases, clean)?,
        None => loader.scan(&bases, hints.recovery_point)?,
    };
    loader.report.lost_synced_offsets =
        (hints.recovery_point - end_offset.max(loader.log_start_offset)).max(0);
    if end_offset < loader.log_start_offset {
        // Files are gone that the checkpoint knew of. There is nothing to read below the start, so begin there.
        loader.remove_all(active.base_offset)?;
        active = ActiveSegment::empty(loader.log_start_offset, now);
        end_offset = loader.log_start_offset;
        loader.epochs.clear();
        loader.producers = Producers::starting_at(end_offset);
    }
    loader.epochs.truncate_from_end(end_offset);
    loader.epochs.truncate_from_start(loader.log_start_offset);
    loader.finish(active, end_offset, clean_end.is_none())
}

/// Removes what deletion and compaction left half-done, finishes a swap that had begun, and returns the segments' base offsets.
fn clean_up(place: &Place) -> io::Result<Vec<i64>> {
    let mut names = place.disk.list(&place.dir)?;
    let mut changed = false;
    let offset_of = |name: &str| parse_segment_name(name).map(|(offset, _)| offset);
    let cleaned: Vec<i64> =
        names.iter().filter(|name| name.ends_with(CLEANED)).filter_map(|name| offset_of(name)).collect();
    let first_cleaned = cleaned.iter().min().copied().unwrap_or(i64::MAX);
    let mut swaps = Vec::new();
    for name in &names {
        let Some(offset) = offset_of(name) else { continue };
        // A swap at or behind a file that was still being written belongs to a split that did not finish.
        let unfinished = name.ends_with(SWAP) && offset >= first_cleaned;
        if name.ends_with(DELETED) || name.ends_with(CLEANED) || unfinished {
            remove_if_exists(&*place.disk, &place.dir.join(name))?;
            changed = true;
        } else if name.ends_with(SWAP) {
            swaps.push((offset, name.clone()));
        }
    }
    if !swaps.is_empty() {
        finish_swap(place, &names, &swaps)?;
        changed = true;
    }
    if changed {
        place.sync()?;
        names = place.disk.list(&place.dir)?;
    }
    let segments = names.iter().filter_map(|name| parse_segment_name(name));
    let bases: Vec<i64> =
        segments.filter(|(_, extension)| *extension == names::LOG).map(|(base, _)| base).collect();
    for name in &names {
        if let Some((base, extension)) = parse_segment_name(name)
            && SEGMENT_EXTENSIONS[1..].contains(&extension)
            && !bases.contains(&base)
        {
            remove_if_exists(&*place.disk, &place.dir.join(name))?;
        }
    }
    Ok(bases)
}

/// The swapped segments are complete: what they replace goes, then they take their names.
fn finish_swap(place: &Place, names: &[String], swaps: &[(i64, String)]) -> io::Result<()> {
    let (mut from, mut to) = (i64::MAX, i64::MIN);
    for (offset, name) in swaps.iter().filter(|(_, name)| name.ends_with(".log.swap")) {
        let file = place.disk.open(&place.dir.join(name), OpenMode::Read)?;
        let mut scan = Scan::new(&*file, 0, file.len()?, HEADER_PIECE);
        let mut end = *offset;
        while let Found::At(_, header) = scan.next_header()? {
            end = header.next_offset();
        }
        from = from.min(*offset);
        to = to.max(end);
    }
    for name in names {
        if let Some((offset, extension)) = parse_segment_name(name)
            && SEGMENT_EXTENSIONS.contains(&extension)
            && (from..to).contains(&offset)
        {
            remove_if_exists(&*place.disk, &place.dir.join(name))?;
        }
    }
    for (_, name) in swaps {
        let target = name.strip_suffix(SWAP).unwrap_or(name);
        place.disk.rename(&place.dir.join(name), &place.dir.join(target))?;
    }
    Ok(())
}

/// The offsets of the producer snapshots in the directory, ascending.
pub(super) fn snapshot_offsets(place: &Place) -> io::Result<Vec<i64>> {
    let names = place.disk.list(&place.dir)?;
    let found = names.iter().filter_map(|name| parse_segment_name(name));
    Ok(found.filter(|(_, extension)| *extension == PRODUCER_SNAPSHOT).map(|(offset, _)| offset).collect())
}

/// The newest snapshot that can be read, or no producers at the log's start. Damaged ones are removed.
pub(super) fn load_producers(
    place: &Place,
    offsets: Vec<i64>,
    log_start_offset: i64,
    now: i64,
    expiry_ms: i64,
) -> io::Result<Producers> {
    for offset in offsets.into_iter().rev().take_while(|offset| *offset >= log_start_offset) {
        match place.read(offset, PRODUCER_SNAPSHOT)?.as_deref().and_then(decode_snapshot) {
            Some(entries) => {
                let mut producers = Producers::from_snapshot(entries, offset);
                producers.expire(now, expiry_ms);
                return Ok(producers);
            }
            None => place.remove(offset, &[PRODUCER_SNAPSHOT])?,
        }
    }
    Ok(Producers::starting_at(log_start_offset))
}

/// Applies the batches of a segment from `offset` on, without checking or writing anything.
pub(super) fn replay(
    place: &Place,
    base_offset: i64,
    size: u32,
    offset: i64,
    producers: &mut Producers,
) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    let file = place.open(base_offset, names::LOG, OpenMode::Read)?;
    let mut scan = Scan::new(&*file, 0, u64::from(size), HEADER_PIECE);
    while let Found::At(position, header) = scan.next_header()? {
        if header.last_offset() < offset {
            continue;
        }
        let mut end = None;
        if header.is_control() && header.has_producer_id() {
            let mut bytes = vec![0; header.size()];
            file.read_exact_at(&mut bytes, position)?;
            end = Batch::parse(&bytes).ok().and_then(|batch| TxnEnd::read(&batch));
        }
        producers.apply(&header, end);
    }
    Ok(())
}

/// Where a cleanly closed log ends.
#[derive(Debug, Clone, Copy)]
struct CleanEnd {
    end_offset: i64,
    size: u32,
}

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
    /// compaction made the gap, or it lies below the recovery point, or is too wide for one segment.
    fn is_continued_by(&self, next_base: i64, recovery_point: i64) -> bool {
        let gap = next_base > self.end_offset;
        let explained =
            !self.dense || next_base <= recovery_point || !fits(self.segment.base_offset, next_base - 1);
        !self.damaged && next_base >= self.end_offset && (!gap || explained)
    }
}

/// The log while it is being put together.
struct Loader<'l> {
    place: &'l Place,
    config: &'l LogConfig,
    now: i64,
    log_start_offset: i64,
    epochs: LeaderEpochs,
    producers: Producers,
    sealed: Vec<SealedSegment>,
    unsynced: Vec<std::sync::Arc<dyn File>>,
    report: RecoveryReport,
}

impl Loader<'_> {
    /// Removes segments of which nothing is readable any more.
    fn remove_below_start(&mut self, bases: Vec<i64>) -> io::Result<Vec<i64>> {
        let gone = bases.windows(2).take_while(|pair| pair[1] <= self.log_start_offset).count();
        for base_offset in &bases[..gone] {
            self.place.remove(*base_offset, &SEGMENT_EXTENSIONS)?;
            self.place.remove(*base_offset, &[PRODUCER_SNAPSHOT])?;
        }
        if gone > 0 {
            self.place.sync()?;
            self.report.segments_removed += gone;
        }
        Ok(bases[gone..].to_vec())
    }

    fn remove_all(&mut self, active_base: i64) -> io::Result<()> {
        let mut bases: Vec<i64> = self.sealed.drain(..).map(|segment| segment.base_offset).collect();
        bases.push(active_base);
        self.report.segments_removed += bases.len();
        for base_offset in bases.into_iter().rev() {
            self.place.remove(base_offset, &SEGMENT_EXTENSIONS)?;
        }
        for offset in snapshot_offsets(self.place)? {
            self.place.remove(offset, &[PRODUCER_SNAPSHOT])?;
        }
        self.unsynced.clear();
        self.place.sync()
    }

    fn log_size(&self, base_offset: i64) -> io::Result<u32> {
        let len = self.place.open(base_offset, names::LOG, OpenMode::Read)?.len()?;
        u32::try_from(len).map_err(|_| io::Error::other(format!("segment {base_offset} has {len} bytes")))
    }

    fn aborted(&self, base_offset: i64) -> io::Result<Vec<AbortedTxn>> {
        let Some(bytes) = self.place.read(base_offset, names::TXN_INDEX)? else { return Ok(Vec::new()) };
        decode_aborted(&bytes, base_offset).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the transaction index of segment {base_offset} is damaged"),
            )
        })
    }

    /// Finds the end of a log that was closed: from the last index entry by headers. `None` if the files do not look closed.
    fn clean_end(&self, bases: &[i64]) -> io::Result<Option<CleanEnd>> {
        let Some(&last) = bases.last() else {
            return Ok(Some(CleanEnd { end_offset: self.log_start_offset, size: 0 }));
        };
        let size = self.log_size(last)?;
        if size == 0 {
            return Ok(Some(CleanEnd { end_offset: last, size }));
        }
        let file = self.place.open(last, names::LOG, OpenMode::Read)?;
        let index = self.place.read(last, names::OFFSET_INDEX)?;
        let index =
            index.and_then(|bytes| crate::index::OffsetIndex::decode(&bytes, size)).unwrap_or_default();
        let mut scan = Scan::new(&*file, u64::from(index.last_position()), u64::from(size), HEADER_PIECE);
        let mut end_offset = last;
        loop {
            match scan.next_header()? {
                Found::At(_, header) if header.base_offset >= end_offset => end_offset = header.next_offset(),
                Found::End => return Ok(Some(CleanEnd { end_offset, size })),
                Found::At(..) | Found::Invalid => return Ok(None),
            }
        }
    }

    /// Takes the files as a clean shutdown left them.
    fn believe(&mut self, bases: &[i64], clean: CleanEnd) -> io::Result<(ActiveSegment, i64)> {
        let Some((&last, sealed)) = bases.split_last() else {
            self.producers = Producers::starting_at(clean.end_offset);
            return Ok((ActiveSegment::empty(clean.end_offset, self.now), clean.end_offset));
        };
        for &base_offset in sealed {
            self.push_sealed(base_offset)?;
        }
        let mut active = ActiveSegment::empty(last, self.now);
        active.size = clean.size;
        active.aborted = self.aborted(last)?;
        if clean.size > 0 {
            let times = self.place.read(last, names::TIME_INDEX)?.and_then(|bytes| TimeIndex::decode(&bytes));
            active.max_timestamp = match times {
                Some(times) => times.last(last),
                None => active.load(self.place, self.config)?.indexer.max_timestamp,
            };
            active.files = None;
        }
        self.load_producers(clean.end_offset, Some(&active))?;
        self.remove_stray_snapshots(bases)?;
        Ok((active, clean.end_offset))
    }

    fn push_sealed(&mut self, base_offset: i64) -> io::Result<()> {
        let (size, aborted) = (self.log_size(base_offset)?, self.aborted(base_offset)?);
        self.sealed.push(SealedSegment::new(base_offset, size, aborted));
        Ok(())
    }

    /// Restores the producers' state as of `end_offset`, from a snapshot and the batches of the segments that are taken as they are.
    fn load_producers(&mut self, end_offset: i64, active: Option<&ActiveSegment>) -> io::Result<()> {
        let mut snapshots = snapshot_offsets(self.place)?;
        for stale in snapshots.extract_if(.., |offset| *offset > end_offset) {
            self.place.remove(stale, &[PRODUCER_SNAPSHOT])?;
        }
        let expiry = self.config.producer_id_expiration_ms;
        let mut producers = load_producers(self.place, snapshots, self.log_start_offset, self.now, expiry)?;
        let from = producers.end_offset();
        if from < end_offset {
            let ends = self.sealed.iter().skip(1).map(|segment| segment.base_offset);
            let ends: Vec<i64> =
                ends.chain([active.map_or(end_offset, |active| active.base_offset)]).collect();
            for (segment, end) in self.sealed.iter().zip(ends) {
                if end > from {
                    replay(self.place, segment.base_offset, segment.size, from, &mut producers)?;
                }
            }
            if let Some(active) = active {
                replay(self.place, active.base_offset, active.size, from, &mut producers)?;
            }
            producers.expire(self.now, expiry);
        }
        producers.set_end_offset(end_offset.max(producers.end_offset()));
        self.producers = producers;
        Ok(())
    }

    /// Removes snapshots that belong to no segment, except the newest: that is the last shutdown's.
    fn remove_stray_snapshots(&self, bases: &[i64]) -> io::Result<()> {
        let snapshots = snapshot_offsets(self.place)?;
        let older = snapshots.split_last().map_or(&[][..], |(_, older)| older);
        for offset in older.iter().filter(|offset| !bases.contains(offset)) {
            self.place.remove(*offset, &[PRODUCER_SNAPSHOT])?;
        }
        Ok(())
    }

    /// Reads everything from the segment of the recovery point on, and ends the log at the first thing that is not right.
    fn scan(&mut self, bases: &[i64], recovery_point: i64) -> io::Result<(ActiveSegment, i64)> {
        if bases.is_empty() {
            self.producers = Producers::starting_at(self.log_start_offset);
            self.epochs.clear();
            return Ok((ActiveSegment::empty(self.log_start_offset, self.now), self.log_start_offset));
        }
        let recovery_point = if self.report.epochs_rebuilt { i64::MIN } else { recovery_point };
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
                if !previous.is_continued_by(base_offset, recovery_point) {
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
        self.unsynced.push(files.log);
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

    /// Puts the log together; after an unclean end everything it holds is synced first, so that it can be acknowledged.
    fn finish(
        self,
        active: ActiveSegment,
        end_offset: i64,
        unclean: bool,
    ) -> io::Result<(Log, RecoveryReport)> {
        let mut log = Log {
            place: self.place.clone(),
            config: self.config.clone(),
            sealed: self.sealed,
            active,
            log_start_offset: self.log_start_offset,
            log_end_offset: end_offset,
            synced_offset: end_offset,
            epochs: self.epochs,
            producers: self.producers,
            tail: TailCache::new(self.config.tail_cache_bytes),
            unsynced: Vec::new(),
            unsynced_dir: false,
            unsynced_segment: false,
            flushing: None,
            changed: unclean,
            failed: None,
        };
        if unclean {
            let mut files = self.unsynced;
            files.extend(log.active.files.as_ref().map(|files| files.log.clone()));
            let epochs = log.epochs.take_dirty();
            FlushJob { place: self.place.clone(), files, sync_dir: true, epochs }.sync()?;
        }
        log.producers.set_end_offset(end_offset.max(log.producers.end_offset()));
        log.assert_invariants();
        Ok((log, self.report))
    }
}
