//! Retention: every `log.retention.check.interval.ms` all logs forget what is too old or too much (`LogManager.cleanupLogs`).
//!
//! The tricky ideas: one checkpoint for many of them, and only when the new log starts are on disk do the files go. And one turn does only so
//! much; the next one goes on where it ended, after whatever else waits for the thread, so that a thousand segments that expire together
//! do not keep the disk from everybody.

use ottla_storage::PartitionName;

use super::name_of;
use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::sessions::lock;

/// Segments that one turn lets go.
const SEGMENTS_PER_TURN: usize = 128;
/// Logs that one turn looks at.
const LOGS_PER_TURN: usize = 2_000;

impl Broker {
    /// A turn of retention; the next is due at once until all logs were looked at.
    pub(super) fn retain_all(&self, now: Millis, out: &mut Effects) {
        let from = lock(&self.upkeep.state).retention_from.take();
        let rest = self.retain_some(false, from.as_ref(), now, out);
        let at = match rest {
            Some(_) => now,
            None => now + self.config.retention.check_interval_ms,
        };
        let state = &mut *lock(&self.upkeep.state);
        (state.retention_at, state.retention_from) = (Some(at), rest);
        out.push(Effect::Tick { at });
    }

    /// Retention of the logs that are compacted as well, or of the others, in the order of their names; those that are being compacted wait
    /// for the next time. Returns where the next turn has to go on.
    pub(super) fn retain_some(
        &self,
        compacted: bool,
        from: Option<&PartitionName>,
        now: Millis,
        out: &mut Effects,
    ) -> Option<PartitionName> {
        let topics = self.topics();
        let mut named: Vec<_> = topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (name_of(partition), partition))
            .filter(|(name, _)| from.is_none_or(|from| name >= from))
            .collect();
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (mut deleted, mut segments_left, mut logs_left) = (Vec::new(), SEGMENTS_PER_TURN, LOGS_PER_TURN);
        let mut rest = None;
        for (name, partition) in named {
            if partition.settings().cleanup.compact != compacted || self.upkeep.is_busy(&name) {
                continue;
            }
            if logs_left == 0 || segments_left == 0 {
                rest = Some(name);
                break;
            }
            logs_left -= 1;
            // The active segment may have to be rolled, which opens files.
            self.make_room_for_logs(1, now, out);
            let retained = match partition.root() {
                Some(root) => root.reserve.spend(|| partition.retain(segments_left, now).transpose()),
                None => Ok(None),
            };
            match retained.transpose() {
                None => {}
                Some(Ok(job)) if job.is_empty() => {}
                Some(Ok(job)) => {
                    segments_left = segments_left.saturating_sub(job.segments());
                    deleted.push((partition.clone(), job));
                    if segments_left == 0 {
                        // There may be more of it.
                        rest = Some(name);
                        break;
                    }
                }
                Some(Err(error)) => {
                    self.on_storage_error(partition, &error);
                    out.push(Effect::Report(format!("{name}: nothing could be deleted: {error}")))
                }
            }
        }
        if !deleted.is_empty()
            && let Err(error) = self.dispose_of(deleted, now, out)
        {
            out.push(Effect::Report(format!("segments could not be deleted: {error}")));
        }
        rest
    }
}
