//! Retention: every `log.retention.check.interval.ms` all logs forget what is too old or too much (`LogManager.cleanupLogs`).
//!
//! The one tricky idea: one checkpoint for all of them. Only when the new log starts are on disk do the files go.

use super::name_of;
use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::sessions::lock;

impl Broker {
    pub(super) fn retain_all(&self, now: Millis, out: &mut Effects) {
        self.retain_some(false, now, out);
        let at = now + self.config.retention.check_interval_ms;
        lock(&self.upkeep.state).retention_at = Some(at);
        out.push(Effect::Tick { at });
    }

    /// Retention of the logs that are compacted as well, or of the others. Those that are being compacted wait for the next time.
    pub(super) fn retain_some(&self, compacted: bool, now: Millis, out: &mut Effects) {
        let mut deleted = Vec::new();
        let topics = self.topics();
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            let name = name_of(partition);
            if partition.settings().cleanup.compact != compacted || self.upkeep.is_busy(&name) {
                continue;
            }
            // The active segment may have to be rolled, which opens files.
            self.make_room_for_logs(1, now, out);
            match partition.retain(now) {
                None => {}
                Some(Ok(job)) if job.is_empty() => {}
                Some(Ok(job)) => deleted.push((partition.clone(), job)),
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
    }
}
