//! What the active controller does from time to time: leadership goes back to preferred replicas, and partitions that nobody leads get a
//! leader where their topics allow an unclean election (Kafka: `ReplicationControlManager.maybeBalancePartitionLeaders`,
//! `maybeElectUncleanLeaders`).

use ottla_controller::{Context, Decision, MAX_ELECTIONS_PER_ROUND, balance_leaders, elect_unclean_leaders};
use ottla_metadata::config::MetadataLogSettings;

use super::State;
use super::active::Active;
use crate::effect::{Effects, Millis};

/// When leaders are looked at again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    /// Whether preferred replicas lead.
    balance_at: Millis,
    /// Whether anybody leads.
    unclean_at: Millis,
}

impl Looks {
    pub fn new(settings: &MetadataLogSettings, now: Millis) -> Looks {
        Looks {
            balance_at: settings
                .balance_interval_ms
                .map_or(Millis::MAX, |interval| now.saturating_add(interval)),
            unclean_at: now.saturating_add(settings.unclean_election_interval_ms),
        }
    }
}

type Look = fn(&Context<'_>, usize) -> Decision<bool>;

impl State {
    /// The next look; `None` where there is nobody else who could lead.
    pub(super) fn looks_deadline(&self) -> Option<Millis> {
        let active = self.active.as_ref()?;
        let has_others = active.controller.image().brokers().len() > 1;
        has_others.then(|| active.looks.balance_at.min(active.looks.unclean_at))
    }

    /// Looks at the leaders, if it is time.
    pub(super) fn look_at_leaders(&mut self, now: Millis, out: &mut Effects) -> Result<(), String> {
        let Some(Active { looks, .. }) = self.active else { return Ok(()) };
        let settings = self.config.metadata_log.clone();
        if looks.balance_at <= now {
            let has_more = self.look(balance_leaders, now, out)?;
            if let (Some(interval), Some(active)) = (settings.balance_interval_ms, &mut self.active) {
                active.looks.balance_at = if has_more { now } else { now.saturating_add(interval) };
            }
        }
        if looks.unclean_at <= now {
            let has_more = self.look(elect_unclean_leaders, now, out)?;
            if let Some(active) = &mut self.active {
                let next = now.saturating_add(settings.unclean_election_interval_ms);
                active.looks.unclean_at = if has_more { now } else { next };
            }
        }
        Ok(())
    }

    /// Returns whether there is more to do at once.
    fn look(&mut self, look: Look, now: Millis, out: &mut Effects) -> Result<bool, String> {
        let Some(Active { controller, .. }) = &self.active else { return Ok(false) };
        let decision = look(&controller.context(), MAX_ELECTIONS_PER_ROUND);
        self.append(decision, now, out)
    }
}
