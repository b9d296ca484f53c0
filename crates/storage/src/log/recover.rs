//! Opening a log: believing what a clean shutdown left, or finding out what an unclean one did (`LogLoader`).
//!
//! The one tricky idea: the segment in which the recovery point lies and all behind it are read once, in order, and everything that can be
//! known of them is made anew on the way: checksums, indexes, epochs, producers, aborted transactions. The first byte that is not right
//! ends the log; nothing behind it was ever synced, so nothing behind it was ever promised.

use std::io;

use ottla_protocol::records::Batch;

use super::Log;
use crate::config::LogConfig;
use crate::disk::{File, OpenMode, create_dir_durable};
use crate::epochs::LeaderEpochs;
use crate::flush::FlushJob;
use crate::index::{AbortedTxn, TimeIndex, decode_aborted};
use crate::names::{self, PRODUCER_SNAPSHOT, SEGMENT_EXTENSIONS, parse_segment_name};
use crate::place::Place;
use crate::producer::{CompletedTxn, Producers, TxnEnd, decode_snapshot};
use crate::scan::{Found, Scan};
use crate::segment::{ActiveSegment, HEADER_PIECE, SealedSegment};
use crate::tail::TailCache;

/// What the checkpoints of the log directory say of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenHints {
    /// Below this offset the files are known to be synced.
    pub recovery_point: i64,
    /// The first readable offset, if it is above the first segment's base.
    pub log_start_offset: i64,
    /// Up to where the log was compacted: segments below may end before the next one begins.
    pub cleaned_offset: i64,
    /// The log was closed before the last process ended, so the recovery point is its end.
    pub clean_shutdown: bool,
    /// What earlier processes wrote has been synced since the last of them ended, so that only repairs are left to sync.
    pub on_disk: bool,
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
    let bases = super::leftovers::clean_up(place)?;
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
        on_disk: hints.on_disk,
        unsynced: Vec::new(),
        report,
    };
    let bases = loader.remove_below_start(bases)?;
    loader.log_start_offset = hints.log_start_offset.max(bases.first().copied().unwrap_or(0));
    let clean_end =
        if hints.clean_shutdown && !loader.report.epochs_rebuilt { loader.clean_end(&bases)? } else { None };
    let (mut active, mut end_offset) = match clean_end {
        Some(clean) => loader.believe(&bases, clean)?,
        None => loader.scan(&bases, hints)?,
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

/// A log of which there is nothing yet.
pub(super) fn create(place: &Place, config: LogConfig, now: i64) -> Log {
    let loader = Loader {
        place,
        config: &config,
        now,
        log_start_offset: 0,
        epochs: LeaderEpochs::default(),
        producers: Producers::default(),
        sealed: Vec::new(),
        on_disk: false,
        unsynced: Vec::new(),
        report: RecoveryReport::default(),
    };
    loader.assemble(ActiveSegment::empty(0, now), 0, false)
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

/// The log while it is being put together.
pub(super) struct Loader<'l> {
    pub(super) place: &'l Place,
    pub(super) config: &'l LogConfig,
    pub(super) now: i64,
    pub(super) log_start_offset: i64,
    pub(super) epochs: LeaderEpochs,
    pub(super) producers: Producers,
    pub(super) sealed: Vec<SealedSegment>,
    /// See [`OpenHints::on_disk`].
    pub(super) on_disk: bool,
    pub(super) unsynced: Vec<std::sync::Arc<dyn File>>,
    pub(super) report: RecoveryReport,
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

    pub(super) fn push_sealed(&mut self, base_offset: i64) -> io::Result<()> {
        let (size, aborted) = (self.log_size(base_offset)?, self.aborted(base_offset)?);
        self.sealed.push(SealedSegment::new(base_offset, size, aborted));
        Ok(())
    }

    /// Restores the producers' state as of `end_offset`, from a snapshot and the batches of the segments that are taken as they are.
    pub(super) fn load_producers(
        &mut self,
        end_offset: i64,
        active: Option<&ActiveSegment>,
    ) -> io::Result<()> {
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
    pub(super) fn remove_stray_snapshots(&self, bases: &[i64]) -> io::Result<()> {
        let snapshots = snapshot_offsets(self.place)?;
        let older = snapshots.split_last().map_or(&[][..], |(_, older)| older);
        for offset in older.iter().filter(|offset| !bases.contains(offset)) {
            self.place.remove(*offset, &[PRODUCER_SNAPSHOT])?;
        }
        Ok(())
    }

    /// Puts the log together; after an unclean end everything that it holds is on the disk first, so that it can be acknowledged.
    fn finish(
        mut self,
        active: ActiveSegment,
        end_offset: i64,
        unclean: bool,
    ) -> io::Result<(Log, RecoveryReport)> {
        let (unsynced, report) = (std::mem::take(&mut self.unsynced), self.report.clone());
        let (place, on_disk) = (self.place.clone(), self.on_disk);
        let mut log = self.assemble(active, end_offset, unclean);
        if unclean {
            let mut files = unsynced;
            if !on_disk {
                files.extend(log.active.files.as_ref().map(|files| files.log.clone()));
            }
            let sync_dir = !on_disk || !files.is_empty();
            let epochs = log.epochs.take_dirty();
            FlushJob { place, files, sync_dir, epochs }.sync()?;
        }
        Ok((log, report))
    }

    fn assemble(self, active: ActiveSegment, end_offset: i64, changed: bool) -> Log {
        let mut log = Log {
            place: self.place.clone(),
            config: self.config.clone(),
            sealed: self.sealed,
            active,
            log_start_offset: self.log_start_offset,
            log_end_offset: end_offset,
            synced_offset: end_offset,
            unflushed_bytes: 0,
            epochs: self.epochs,
            producers: self.producers,
            tail: TailCache::new(self.config.tail_cache_bytes, self.config.tail_budget.clone()),
            unsynced: Vec::new(),
            unsynced_dir: false,
            unsynced_segment: false,
            flushing: None,
            swap: None,
            swaps: 0,
            truncations: 0,
            changed,
            failed: None,
        };
        log.producers.set_end_offset(end_offset.max(log.producers.end_offset()));
        log.assert_invariants();
        log
    }
}
