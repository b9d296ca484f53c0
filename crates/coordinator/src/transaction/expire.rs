//! What time does: transactions that take too long are aborted, transactional ids that nobody uses are forgotten.

use super::coordinator::TransactionCoordinator;
use super::records;
use super::state::TransactionState;
use crate::guards::Guard;
use crate::outcome::Outcome;
use std::sync::Arc;

impl TransactionCoordinator {
    /// Aborts transactions that are open for longer than their producer said. A pass is bounded; what remains is done by the next one.
    pub(super) fn abort_timed_out(&mut self, now: i64, out: &mut Outcome) {
        self.abort_pass_at = None;
        let late = self.entries.iter().filter(|(_, entry)| {
            entry.state == TransactionState::Ongoing
                && entry.start_timestamp.saturating_add(i64::from(entry.timeout_ms)) < now
        });
        let late: Vec<Arc<str>> = late.map(|(id, _)| id.clone()).take(self.config.pass_records_max).collect();
        if late.len() == self.config.pass_records_max {
            self.abort_pass_at = Some(now);
        } else if self.entries.values().any(|entry| entry.state == TransactionState::Ongoing) {
            self.abort_pass_at = Some(now + self.config.abort_interval_ms);
        }
        for id in late {
            if Guard::TimeoutAborts.stands() && self.abort(&id, now, out).is_err() {
                // There is no producer id at hand to go on with; the next pass finds one.
                self.abort_pass_at = Some(now + self.config.abort_interval_ms);
                break;
            }
        }
    }

    /// Forgets transactional ids that nobody has used for long.
    pub(super) fn remove_expired(&mut self, now: i64, out: &mut Outcome) {
        let limit = now.saturating_sub(self.config.id_expiration_ms);
        let idle = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state.may_expire() && entry.last_update_timestamp <= limit)
            .take(self.config.pass_records_max);
        out.records.extend(idle.map(|(id, _)| records::tombstone(id)));
        let is_more = out.records.len() == self.config.pass_records_max;
        self.remove_pass_at = Some(if is_more { now } else { now + self.config.remove_interval_ms });
    }
}
