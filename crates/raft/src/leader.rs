//! Leading: making itself known, following the followers, committing, and giving up when nobody follows.
//!
//! The high watermark is the offset that a majority of voters have on disk, the leader's own log among them if it is a
//! voter, and only once that includes a record of the leader's own epoch: records of older epochs are committed by it,
//! not by counting (KAFKA-12619 was an off-by-one here).

use std::collections::{BTreeMap, BTreeSet};

use crate::change::PendingChange;
use crate::event::Effect;
use crate::guard::Guard;
use crate::message::{BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse, Refusal};
use crate::raft::{Raft, Role, Settings, Step};
use crate::replica::{OffsetAndEpoch, ReplicaKey};
use crate::voters::Voters;

/// Observers that a leader knows; of more, the one that was silent longest is forgotten.
const OBSERVERS_MAX: usize = 4096;
/// How long an observer is remembered without a fetch.
const OBSERVER_SESSION_MS: i64 = 300_000;
/// Bytes that are not kept waiting for more.
const LINGER_BYTES_MAX: u64 = 8 << 20;

/// What a leader knows of the others.
#[derive(Debug, Clone)]
pub(crate) struct Leadership {
    /// Offset of the leader-change record.
    pub epoch_start_offset: i64,
    /// Every other voter, and the observers that fetched lately. A voter has the key that the voters have for it.
    pub replicas: BTreeMap<ReplicaKey, Progress>,
    /// Voters that fetched in the current check-quorum round.
    fetched: BTreeSet<i32>,
    /// When a majority must have fetched; never as long as the leader is the only voter.
    check_deadline: i64,
    /// When what was appended is flushed, and how many bytes that is.
    linger: Option<(i64, u64)>,
    /// The change of the voters that is under way.
    pub pending: Option<PendingChange>,
    /// The voters as they describe themselves while kraft.version is 0 and there is no record for that.
    pub volatile: Option<Voters>,
    /// Whether the epoch's first record is committed and the leader speaks for the quorum.
    pub announced: bool,
}

/// What a leader knows of one other replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Its log, as far as it matches and is on its disk.
    pub end_offset: Option<i64>,
    /// When a voter is told of the epoch again, unless it fetches before.
    begin_at: i64,
    /// When it fetched last.
    pub fetched_at: Option<i64>,
    /// The end of the leader's log then.
    leader_end: i64,
    /// When its log last was as long as the leader's had been at the fetch before.
    pub caught_up_at: Option<i64>,
}

impl Leadership {
    pub fn new(epoch_start_offset: i64, raft: &Raft) -> Leadership {
        let volatile = raft.history.voters().with_updated(&raft.own_voter(), true);
        Leadership {
            epoch_start_offset,
            replicas: BTreeMap::new(),
            fetched: BTreeSet::new(),
            check_deadline: i64::MAX,
            linger: None,
            pending: None,
            volatile: volatile.filter(|_| raft.history.kraft_version() == 0),
            announced: false,
        }
    }

    pub fn next_deadline(&self) -> i64 {
        let begin = self.replicas.values().map(|progress| progress.begin_at).min().unwrap_or(i64::MAX);
        let linger = self.linger.map_or(i64::MAX, |(at, _)| at);
        let pending = self.pending.as_ref().map_or(i64::MAX, |pending| pending.deadline);
        begin.min(self.check_deadline).min(linger).min(pending)
    }
}

impl Progress {
    fn fetched(&mut self, now: i64, offset: i64, leader_end: i64) {
        if offset >= leader_end {
            self.caught_up_at = Some(now);
        } else if self.leader_end > 0 && offset >= self.leader_end {
            self.caught_up_at = self.caught_up_at.max(self.fetched_at);
        }
        self.leader_end = leader_end;
        self.fetched_at = Some(now);
        self.end_offset = Some(offset);
    }
}

/// How long a leader does without hearing from a majority.
fn check_quorum_ms(settings: &Settings) -> i64 {
    settings.fetch_timeout_ms + settings.fetch_timeout_ms / 2
}

impl Raft {
    /// The header of an answer to a fetch, as of now: for fetches that waited.
    pub fn fetch_response(&self) -> FetchResponse {
        let leadership = match &self.role {
            Role::Leader(leadership) => Some(leadership),
            _ => None,
        };
        let start = leadership.map(|leadership| leadership.epoch_start_offset);
        FetchResponse {
            refusal: leadership.is_none().then_some(Refusal::NotLeader),
            epoch: self.state.epoch,
            leader: self.known_leader(),
            // What an earlier leader committed is not passed on: only an own record shows that nothing is missing.
            high_watermark: self
                .high_watermark
                .filter(|committed| Some(*committed) > start && start.is_some()),
            diverging: None,
            snapshot: None,
            records: None,
        }
    }

    /// Offset of the leader-change record of the epoch that this node leads.
    pub fn epoch_start_offset(&self) -> Option<i64> {
        match &self.role {
            Role::Leader(leadership) => Some(leadership.epoch_start_offset),
            _ => None,
        }
    }

    /// Whether this node leads and has committed a record of its epoch.
    pub(crate) fn has_committed_own_epoch(&self) -> bool {
        self.epoch_start_offset().is_some_and(|start| self.high_watermark > Some(start))
    }

    pub(crate) fn on_appended(&mut self, bytes: u64, step: &mut Step<'_>) {
        let Role::Leader(leadership) = &mut self.role else { panic!("only a leader appends") };
        let (at, waiting) = leadership.linger.unwrap_or((step.now + self.settings.append_linger_ms, 0));
        leadership.linger = Some((at, waiting.saturating_add(bytes)));
        self.flush_lingering(step);
    }

    fn flush_lingering(&mut self, step: &mut Step<'_>) {
        let Role::Leader(leadership) = &mut self.role else { return };
        let due = |(at, bytes): &mut (i64, u64)| step.now >= *at || *bytes >= LINGER_BYTES_MAX;
        if leadership.linger.take_if(due).is_some() {
            step.perform(Effect::FlushLog);
        }
    }

    pub(crate) fn on_leader_timeout(&mut self, step: &mut Step<'_>) {
        let Role::Leader(leadership) = &mut self.role else { return };
        if step.now >= leadership.check_deadline {
            leadership.check_deadline = i64::MAX;
            if Guard::CheckQuorum.stands() {
                // Behind a partition somebody else may lead by now: stop answering for the quorum.
                self.resign(step);
                return;
            }
        }
        leadership.replicas.retain(|_, progress| {
            let silent = progress.fetched_at.is_none_or(|at| step.now - at >= OBSERVER_SESSION_MS);
            progress.begin_at != i64::MAX || !silent
        });
        self.flush_lingering(step);
        self.expire_pending_change(step);
        self.send_begin_epoch(step);
    }

    /// Follows the voters of the log: everyone among them is told of the epoch, and nobody else.
    pub(crate) fn follow_voters(&mut self, now: i64) {
        let voters = self.voters().clone();
        let me = self.me();
        let alone = voters.len() == 1 && self.is_voter();
        let check_quorum = check_quorum_ms(&self.settings);
        let Role::Leader(leadership) = &mut self.role else { return };
        leadership.check_deadline = match leadership.check_deadline {
            _ if alone => i64::MAX,
            i64::MAX => now + check_quorum,
            running => running,
        };
        // With kraft.version 1 a voter gets a name with its disk, and what was known of the one without is of nobody.
        let renamed = |key: &ReplicaKey| voters.get(key.id).is_some_and(|voter| voter.key != *key);
        leadership.replicas.retain(|key, _| key.is_complete() || !renamed(key));
        for progress in leadership.replicas.values_mut() {
            progress.begin_at = i64::MAX;
        }
        for voter in voters.iter().filter(|voter| voter.key.id != me) {
            leadership.replicas.entry(voter.key).or_default().begin_at = now;
        }
        leadership.fetched.retain(|id| voters.get(*id).is_some());
    }

    /// Tells those voters of the epoch that have not fetched for half a fetch timeout.
    pub(crate) fn send_begin_epoch(&mut self, step: &mut Step<'_>) {
        let pause = (self.settings.fetch_timeout_ms / 2).max(1);
        let leader = self.known_leader().expect("a leader knows itself");
        let epoch = self.state.epoch;
        let Role::Leader(leadership) = &mut self.role else { return };
        for (to, progress) in &mut leadership.replicas {
            if step.now >= progress.begin_at {
                progress.begin_at = step.now + pause;
                let request = BeginQuorumEpochRequest { epoch, leader: leader.clone(), voter: Some(*to) };
                step.send(Effect::SendBeginQuorumEpoch { to: *to, request });
            }
        }
    }

    pub(crate) fn on_fetch_request(&mut self, token: u64, request: &FetchRequest, step: &mut Step<'_>) {
        let log_end = request.log_end;
        let possible = log_end.offset >= 0 && log_end.epoch >= 0 && log_end.epoch <= request.epoch;
        let checked = if possible { self.check_leads(request.epoch) } else { Err(Refusal::InvalidRequest) };
        if let Err(refusal) = checked {
            let response = FetchResponse { refusal: Some(refusal), ..self.fetch_response() };
            step.send(Effect::RespondFetch { token, response });
            return;
        }
        let mut response = self.fetch_response();
        response.snapshot = snapshot_instead(log_end, step);
        if response.snapshot.is_none() {
            response.diverging = divergence(log_end, step);
        }
        self.on_replica_heard(&request.replica, step);
        let matches = response.snapshot.is_none() && response.diverging.is_none();
        if Guard::ReceiptOfSameLog.holds(matches) {
            self.on_replica_fetched(request, step);
        }
        if matches {
            let (offset, high_watermark) = (log_end.offset, request.high_watermark);
            step.send(Effect::ServeFetch { token, offset, high_watermark });
        } else {
            step.send(Effect::RespondFetch { token, response });
        }
    }

    /// The key that a replica is known by: that of the voters, if it is one of them.
    fn known_as(&self, replica: &ReplicaKey) -> ReplicaKey {
        match self.voters().get(replica.id) {
            Some(voter) if Guard::ReceiptOfVoter.holds(voter.key.covers(replica)) => voter.key,
            _ => *replica,
        }
    }

    /// A fetch, of records or of a snapshot, is a sign of life of a voter.
    pub(crate) fn on_replica_heard(&mut self, replica: &ReplicaKey, step: &mut Step<'_>) {
        let (check_quorum, pause) = (check_quorum_ms(&self.settings), self.settings.fetch_timeout_ms / 2);
        let key = self.known_as(replica);
        let others = self.voters().majority() - usize::from(self.is_voter());
        let voter = replica.id != self.me() && self.voters().contains(&key);
        let Role::Leader(leadership) = &mut self.role else { return };
        if !voter {
            return;
        }
        if let Some(progress) = leadership.replicas.get_mut(&key) {
            progress.begin_at = step.now + pause.max(1);
        }
        leadership.fetched.insert(key.id);
        if leadership.fetched.len() >= others {
            leadership.fetched.clear();
            leadership.check_deadline = step.now + check_quorum;
        }
    }

    /// A fetch by a log that matches is a receipt for everything before it.
    fn on_replica_fetched(&mut self, request: &FetchRequest, step: &mut Step<'_>) {
        let key = self.known_as(&request.replica);
        let me = self.me();
        let Role::Leader(leadership) = &mut self.role else { return };
        if key.id == me || key.id < 0 {
            return;
        }
        if !leadership.replicas.contains_key(&key) && leadership.replicas.len() >= OBSERVERS_MAX {
            let observers = leadership.replicas.iter().filter(|(_, progress)| progress.begin_at == i64::MAX);
            let Some(oldest) = observers.min_by_key(|(_, progress)| progress.fetched_at) else { return };
            let oldest = *oldest.0;
            leadership.replicas.remove(&oldest);
        }
        let observer = Progress { begin_at: i64::MAX, ..Progress::default() };
        let progress = leadership.replicas.entry(key).or_insert(observer);
        progress.fetched(step.now, request.log_end.offset, step.log.log_end_offset());
        self.advance_high_watermark(step);
    }

    pub(crate) fn advance_high_watermark(&mut self, step: &mut Step<'_>) {
        let Role::Leader(leadership) = &self.role else { return };
        let own_end =
            if !Guard::LeaderFlushed.stands() { step.log.log_end_offset() } else { self.flushed_end };
        let end_of = |key: &ReplicaKey| match leadership.replicas.get(key) {
            Some(progress) => progress.end_offset.unwrap_or(-1),
            None if key.covers(&self.settings.me) => own_end,
            None => -1,
        };
        let mut ends: Vec<i64> = self.voters().iter().map(|voter| end_of(&voter.key)).collect();
        if !Guard::RemovedNotCounted.stands() && !self.is_voter() {
            ends.push(own_end);
        }
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let needed = if !Guard::CommitByMajority.stands() { 1 } else { self.voters().majority() };
        let replicated = ends[needed - 1];
        if Guard::CommitOwnEpoch.holds(replicated > leadership.epoch_start_offset)
            && Some(replicated) > self.high_watermark
        {
            assert!(replicated <= step.log.log_end_offset(), "what is committed is in the leader's log");
            self.high_watermark = Some(replicated);
            step.perform(Effect::HighWatermark { offset: replicated });
            self.on_committed(step);
        }
    }

    /// The high watermark of this leader moved: a record of its epoch is committed.
    fn on_committed(&mut self, step: &mut Step<'_>) {
        let epoch = self.state.epoch;
        let Role::Leader(leadership) = &mut self.role else { return };
        if !leadership.announced {
            leadership.announced = true;
            let epoch_start_offset = leadership.epoch_start_offset;
            step.perform(Effect::BecameLeader { epoch, epoch_start_offset });
        }
        self.answer_committed_change(step);
        let voters_committed = self.history.voters_offset() < self.high_watermark;
        if voters_committed && !Guard::RemovedResigns.holds(self.is_voter()) {
            self.resign(step);
        }
    }

    /// Gives up leading; the voters whose logs are longest should stand next.
    pub(crate) fn resign(&mut self, step: &mut Step<'_>) {
        let Role::Leader(leadership) = &self.role else { return };
        let end_of =
            |peer: &ReplicaKey| leadership.replicas.get(peer).and_then(|progress| progress.end_offset);
        let mut preferred = self.peers();
        preferred.sort_by_key(|peer| std::cmp::Reverse(end_of(peer)));
        self.become_resigned(preferred, step);
    }

    pub(crate) fn send_end_epoch(&mut self, step: &mut Step<'_>) {
        let (epoch, peers) = (self.state.epoch, self.peers());
        let leader = self.known_leader().expect("who resigned knows itself");
        let Role::Resigned { resend_at, untold, preferred, .. } = &mut self.role else { return };
        *resend_at = step.now + self.settings.request_timeout_ms.max(1);
        for to in peers.into_iter().filter(|peer| untold.contains(&peer.id)) {
            let request =
                EndQuorumEpochRequest { epoch, leader: leader.clone(), preferred: preferred.clone() };
            step.send(Effect::SendEndQuorumEpoch { to, request });
        }
    }
}

/// The snapshot that a log needs which ends where the leader's does not begin yet, or which is empty: a snapshot is
/// always the quicker way then (KIP-630). The one that a new log began with is not given away.
fn snapshot_instead(theirs: OffsetAndEpoch, step: &Step<'_>) -> Option<OffsetAndEpoch> {
    let latest = step.log.latest_snapshot().filter(|id| id.offset > 0)?;
    if theirs.offset == 0 {
        return Some(latest);
    }
    let start = step.log.log_start_offset();
    let earliest = step.log.earliest_snapshot()?;
    let before = theirs.offset < start
        || (theirs.offset == start && theirs.epoch != earliest.epoch)
        || theirs.epoch < earliest.epoch;
    (start > 0 && before && Guard::SnapshotBeforeStart.stands()).then_some(latest)
}

/// Where the asker's log and the leader's part, if they do (KIP-595; KIP-320 for data partitions).
fn divergence(theirs: OffsetAndEpoch, step: &Step<'_>) -> Option<OffsetAndEpoch> {
    if theirs.offset == 0 && step.log.log_start_offset() == 0 {
        return None;
    }
    let ours = step.log.end_offset_for_epoch(theirs.epoch);
    let same = Guard::DivergingEpoch.holds(ours.epoch == theirs.epoch)
        && Guard::DivergingOffset.holds(ours.offset >= theirs.offset);
    (!same).then_some(ours)
}
