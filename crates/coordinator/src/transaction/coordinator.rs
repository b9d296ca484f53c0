//! The transaction coordinator of one partition: its state, how it is loaded, and how its own records become state.

use super::config::TransactionConfig;
use super::entry::Entry;
use super::markers::Ending;
use super::state::TransactionState;
use super::{TransactionVersion, records};
use crate::coordinator::Coordinator;
use crate::group::{ReplayError, Topics};
use crate::guards::Guard;
use crate::outcome::{Outcome, Reply, response_error};
use ottla_protocol::ErrorCode;
use ottla_protocol::records::NO_SEQUENCE;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Where producer ids come from: every one is given once, ever, in the whole cluster.
pub trait ProducerIds: fmt::Debug + Send + Sync {
    /// The next one; `None` if none is at hand right now.
    fn next(&self) -> Option<i64>;
}

/// Transactional ids of one partition of `__transaction_state`.
///
/// A new coordinator is passive: feed it the log with [`replay`](Coordinator::replay). After
/// [`on_loaded`](Coordinator::on_loaded) it is active: requests may come, and timers run.
#[derive(Debug, Clone)]
pub struct TransactionCoordinator {
    pub(super) config: TransactionConfig,
    pub(super) ids: Arc<dyn ProducerIds>,
    /// The rules that the cluster has agreed upon.
    pub(super) version: TransactionVersion,
    pub(super) coordinator_epoch: i32,
    pub(super) entries: BTreeMap<Arc<str>, Entry>,
    /// Transactions whose markers are being written.
    pub(super) endings: BTreeMap<Arc<str>, Ending>,
    pub(super) last_round: u64,
    /// The transitions behind the records of the outcome that is being appended, in their order.
    decided: VecDeque<Decided>,
    pub(super) abort_pass_at: Option<i64>,
    pub(super) remove_pass_at: Option<i64>,
    pub(super) retries: BTreeSet<(i64, Arc<str>)>,
    is_active: bool,
}

/// A transition of our own. Its record does not hold all of it: the epoch before, and the round of its markers, are soft.
#[derive(Debug, Clone)]
struct Decided {
    id: Arc<str>,
    next: Entry,
    ending: Option<Ending>,
}

impl TransactionCoordinator {
    /// An empty, passive coordinator.
    pub fn new(
        config: TransactionConfig,
        version: TransactionVersion,
        ids: Arc<dyn ProducerIds>,
    ) -> TransactionCoordinator {
        TransactionCoordinator {
            config,
            ids,
            version,
            coordinator_epoch: -1,
            entries: BTreeMap::new(),
            endings: BTreeMap::new(),
            last_round: 0,
            decided: VecDeque::new(),
            abort_pass_at: None,
            remove_pass_at: None,
            retries: BTreeSet::new(),
            is_active: false,
        }
    }

    /// The cluster has agreed upon other rules. Open transactions end by the rules of whoever ends them.
    pub fn set_version(&mut self, version: TransactionVersion) {
        self.version = version;
    }

    /// How many transactional ids are in each state, for metrics and tests: states without any left out.
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        let count = |state| self.entries.values().filter(|entry| entry.state == state).count();
        let counts = TransactionState::ALL.into_iter().map(|state| (state.name(), count(state)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Asks for the record of a transition, and for what has to follow when it is committed.
    pub(super) fn transit(&mut self, id: &Arc<str>, next: Entry, out: &mut Outcome) {
        out.records.push(records::state(id, &next, self.version));
        let ending = next.state.is_ending().then(|| self.begin_ending(id, &next, out));
        let completes_at_once = ending.as_ref().is_some_and(Ending::has_all_markers);
        let completed = completes_at_once.then(|| next.completed(next.last_update_timestamp));
        self.decided.push_back(Decided { id: id.clone(), next, ending });
        if let Some(completed) = completed {
            self.transit(id, completed, out);
        }
    }

    fn enter(&mut self, id: Arc<str>, next: Entry, ending: Option<Ending>) {
        match ending {
            Some(ending) => self.endings.insert(id.clone(), ending),
            None => self.endings.remove(&id),
        };
        self.entries.insert(id, next);
    }

    /// Plans the passes that the state needs.
    fn plan_passes(&mut self, now: i64) {
        let is_open = |entry: &Entry| entry.state == TransactionState::Ongoing;
        if self.abort_pass_at.is_none() && self.entries.values().any(is_open) {
            self.abort_pass_at = Some(now + self.config.abort_interval_ms);
        }
        if self.remove_pass_at.is_none() && !self.entries.is_empty() {
            self.remove_pass_at = Some(now + self.config.remove_interval_ms);
        }
    }
}

impl Coordinator for TransactionCoordinator {
    const BASE_SEQUENCE: i32 = NO_SEQUENCE;

    fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        _offset: i64,
        _producer_id: i64,
    ) -> Result<(), ReplayError> {
        let Some(id) = records::read_key(key)? else { return Ok(()) };
        let Some(value) = value else {
            self.entries.remove(&id);
            self.endings.remove(&id);
            return Ok(());
        };
        let Some(read) = records::read_value(value)? else { return Ok(()) };
        if !self.is_active {
            self.entries.insert(id, read);
            return Ok(());
        }
        let Decided { id: decided, next, ending } =
            self.decided.pop_front().expect("an active coordinator reads its own records");
        assert_eq!(decided, id, "records are replayed in their order");
        assert_eq!(
            (read.state, read.producer_id),
            (next.state, next.producer_id),
            "what was decided is written"
        );
        if let Some(before) = self.entries.get(&id) {
            next.assert_follows(before);
        }
        self.enter(id, next, ending);
        Ok(())
    }

    fn replay_end_transaction(&mut self, _producer_id: i64, _commit: bool) {}

    fn on_loaded(&mut self, coordinator_epoch: i32, now: i64, _topics: &dyn Topics) -> Outcome {
        assert!(!self.is_active, "a coordinator is loaded once");
        self.is_active = true;
        self.coordinator_epoch = coordinator_epoch;
        let mut out = Outcome::default();
        let is_ending = |(_, entry): &(&Arc<str>, &Entry)| entry.state.is_ending();
        let ending: Vec<Arc<str>> = self.entries.iter().filter(is_ending).map(|(id, _)| id.clone()).collect();
        for id in ending {
            if !Guard::LoadResumesMarkers.stands() {
                break;
            }
            let entry = self.entries[&id].clone();
            let ending = self.begin_ending(&id, &entry, &mut out);
            let has_all_markers = ending.has_all_markers();
            self.endings.insert(id.clone(), ending);
            if has_all_markers {
                self.transit(&id, entry.completed(now), &mut out);
            }
        }
        self.plan_passes(now);
        out
    }

    fn on_unloaded(&mut self) -> Vec<Reply> {
        self.is_active = false;
        (self.abort_pass_at, self.remove_pass_at) = (None, None);
        self.retries.clear();
        Vec::new()
    }

    fn on_appended(&mut self, outcome: Outcome, base_offset: i64, now: i64) -> Vec<Reply> {
        assert!(self.is_active, "only an active coordinator appends");
        for (offset, record) in (base_offset..).zip(&outcome.records) {
            let replayed = self.replay(&record.key, record.value.as_deref(), offset, -1);
            replayed.unwrap_or_else(|error| panic!("what we wrote we can read: {error}"));
        }
        assert!(self.decided.is_empty(), "every transition has its record");
        self.plan_passes(now);
        outcome.replies
    }

    fn on_append_failed(&mut self, mut outcome: Outcome, error: ErrorCode, now: i64) -> Vec<Reply> {
        // Nothing happened. What nobody will ask for again has to be tried again: the end of a transaction, and a pass.
        for decided in std::mem::take(&mut self.decided) {
            if self.endings.contains_key(&decided.id) {
                self.retry_markers(decided.id, now);
            }
        }
        self.plan_passes(now);
        outcome.replies.iter_mut().for_each(|reply| reply.fail(response_error(error)));
        outcome.replies
    }

    fn next_deadline(&self) -> Option<i64> {
        let retry = self.retries.first().map(|(at, _)| *at);
        [self.abort_pass_at, self.remove_pass_at, retry].into_iter().flatten().min()
    }

    fn on_timeout(&mut self, now: i64, _topics: &dyn Topics) -> Outcome {
        let mut out = Outcome::default();
        self.resend_markers(now, &mut out);
        if self.abort_pass_at.is_some_and(|at| at <= now) {
            self.abort_timed_out(now, &mut out);
        }
        // One pass that writes is enough for one batch.
        if out.records.is_empty() && self.remove_pass_at.is_some_and(|at| at <= now) {
            self.remove_expired(now, &mut out);
        }
        out
    }
}
