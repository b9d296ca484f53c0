//! Compaction: the dirtiest of all logs that are worth it is compacted, then the next one; if there is none, compaction rests for
//! `log.cleaner.backoff.ms` (`LogCleaner`, `LogCleanerManager`).
//!
//! The one tricky idea: a log that can not be compacted is put aside, so that it does not keep the others from their turn.

use std::cell::Cell;
use std::sync::Arc;

use ottla_storage::{CompactionError, CompactionMemory, CompactionStats, Dirt, Pace, PartitionName};

use super::{Doomed, name_of};
use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::Partition;
use crate::sessions::lock;

/// Bytes between two looks whether the partition is still there.
const LOOK_BYTES: usize = 1 << 20;

/// The pace of the thread, as long as the partition exists.
struct WhileThere<'p> {
    pace: &'p dyn Pace,
    partition: &'p Partition,
    unlooked: Cell<usize>,
}

impl Pace for WhileThere<'_> {
    fn pass(&self, bytes: usize) -> bool {
        let unlooked = self.unlooked.get() + bytes;
        let looks = unlooked >= LOOK_BYTES;
        self.unlooked.set(if looks { 0 } else { unlooked });
        self.pace.pass(bytes) && (!looks || self.partition.has_upkeep() && !self.partition.is_moving())
    }
}

impl Broker {
    pub(super) fn compact_dirtiest(&self, pace: &dyn Pace, now: Millis, out: &mut Effects) {
        let backoff_ms = self.live_config().cleaner.backoff_ms;
        let found = self.take_dirtiest(now);
        let at = match found {
            Some((partition, dirt)) => {
                let compacted = self.compact_partition(&partition, &dirt, pace, now, out);
                lock(&self.upkeep.state).busy.remove(&name_of(&partition));
                if compacted { now } else { now + backoff_ms }
            }
            None => {
                // Logs with `compact,delete` are looked after by whoever compacts.
                let from = lock(&self.upkeep.state).compacted_from.take();
                let rest = self.retain_some(true, from.as_ref(), now, out);
                let at = if rest.is_some() { now } else { now + backoff_ms };
                lock(&self.upkeep.state).compacted_from = rest;
                at
            }
        };
        let mut state = lock(&self.upkeep.state);
        state.compactions -= 1;
        state.compaction_at = state.compaction_at.min(at);
        out.push(Effect::Tick { at: state.compaction_at });
    }

    /// The log with the largest share of dirty bytes among those that are due; it is busy from here on.
    fn take_dirtiest(&self, now: Millis) -> Option<(Arc<Partition>, Dirt)> {
        let topics = self.topics();
        let mut dirtiest: Option<(Arc<Partition>, Dirt)> = None;
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            let settings = partition.settings();
            if !settings.cleanup.compact || partition.is_moving() {
                continue;
            }
            let name = name_of(partition);
            let cleaned_offset = {
                let state = lock(&self.upkeep.state);
                if state.busy.contains(&name) || state.uncleanable.contains(&name) {
                    continue;
                }
                state.cleaned.get(&name).copied()
            };
            // What can not be read now is looked at again the next time.
            let Some(Ok(dirt)) = partition.dirt(cleaned_offset, now) else { continue };
            let dirtier = dirtiest.as_ref().is_none_or(|(_, other)| dirt.ratio() > other.ratio());
            if dirt.is_due(settings.min_cleanable_dirty_ratio) && dirtier {
                dirtiest = Some((partition.clone(), dirt));
            }
        }
        // Two threads may have found the same one. One that moves is copied as it is: whoever moves it looks the other way
        // around, first for the move and then for this.
        dirtiest.filter(|(partition, _)| {
            let is_mine = lock(&self.upkeep.state).busy.insert(name_of(partition));
            let is_moving = partition.is_moving();
            if is_mine && is_moving {
                lock(&self.upkeep.state).busy.remove(&name_of(partition));
            }
            is_mine && !is_moving
        })
    }

    /// Whether it succeeded, so that it is worth while to look for the next one at once.
    fn compact_partition(
        &self,
        partition: &Arc<Partition>,
        dirt: &Dirt,
        pace: &dyn Pace,
        now: Millis,
        out: &mut Effects,
    ) -> bool {
        let name = name_of(partition);
        match self.compact(partition, dirt, pace, now, out) {
            Ok(Some((cleaned_offset, stats))) => {
                self.note_cleaned(partition, name.clone(), cleaned_offset);
                self.write_cleaner_checkpoints(out);
                out.push(Effect::Report(describe(&name, cleaned_offset, &stats)));
                return true;
            }
            Ok(None) | Err(CompactionError::Stopped | CompactionError::Superseded) => {}
            // There may be space, or open files, the next time.
            Err(CompactionError::Storage(error)) if error.meaning().passes() => {
                self.on_storage_error(partition, &error);
                out.push(Effect::Report(format!("{name} is not compacted: {error}")));
            }
            Err(error @ (CompactionError::Uncleanable(_) | CompactionError::Storage(_))) => {
                if let CompactionError::Storage(error) = &error {
                    self.on_storage_error(partition, error);
                }
                lock(&self.upkeep.state).uncleanable.insert(name.clone());
                out.push(Effect::Report(format!(
                    "{name} is not compacted any more until the node is started again: {error}"
                )));
            }
        }
        false
    }

    /// Returns up to where the log is clean now.
    fn compact(
        &self,
        partition: &Arc<Partition>,
        dirt: &Dirt,
        pace: &dyn Pace,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Option<(i64, CompactionStats)>, CompactionError> {
        let live = self.live_config();
        let cleaner = &live.cleaner;
        let memory = CompactionMemory {
            map_bytes: (cleaner.dedupe_buffer_bytes / i64::from(cleaner.threads.max(1))).unsigned_abs(),
            load_factor: cleaner.load_factor,
            secret: self.upkeep.secret,
        };
        let Some(begun) = partition.begin_compaction(dirt, memory, now) else { return Ok(None) };
        let mut compaction = begun.map_err(CompactionError::Storage)?;
        let pace = WhileThere { pace, partition, unlooked: Cell::new(0) };
        let delay_ms = partition.settings().file_delete_delay_ms;
        while let Some(cleaned) = compaction.next_segment(&pace)? {
            let swapped = partition.swap(cleaned).map_err(CompactionError::Storage)?;
            let replaced = swapped.ok_or(CompactionError::Superseded)?;
            if let Some(root) = partition.root() {
                self.store.doom(Doomed::Segments(root, replaced), now + delay_ms, out);
            }
        }
        Ok(Some((compaction.cleaned_offset(), compaction.stats())))
    }

    /// Takes note of it, unless the partition was deleted meanwhile.
    fn note_cleaned(&self, partition: &Arc<Partition>, name: PartitionName, cleaned_offset: i64) {
        let mut state = lock(&self.upkeep.state);
        let current = self.topics().partition_by_name(&name.topic, name.partition);
        if current.is_ok_and(|current| Arc::ptr_eq(&current, partition)) {
            state.cleaned.insert(name, cleaned_offset);
            state.cleaned_changed = true;
        }
    }
}

fn describe(name: &PartitionName, cleaned_offset: i64, stats: &CompactionStats) -> String {
    let CompactionStats { keys, bytes_before, bytes_after, segments_before, segments_after } = stats;
    format!(
        "{name} is compacted up to offset {cleaned_offset}: {keys} keys, {bytes_before} bytes in {segments_before} segments became \
         {bytes_after} in {segments_after}"
    )
}
