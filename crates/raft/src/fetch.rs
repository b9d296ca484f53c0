//! Following: fetch, append or truncate, flush, fetch again. At any time there is one fetch on its way, or one write
//! being flushed, or a pause; so an answer that nobody waits for any more is recognized by its number and dropped.
//!
//! The same fetch finds the leader: a replica that knows none, or gets no answer from the one it knows, asks a server of
//! the configured list, and is told who leads.

use crate::download::Download;
use crate::event::{Destination, Effect};
use crate::guard::Guard;
use crate::message::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse, FetchedRecords, Leader,
    Refusal,
};
use crate::raft::{Raft, Role, Step, valid_epoch};
use crate::replica::{OffsetAndEpoch, QuorumState, ReplicaKey};

/// What a follower knows of its leader.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    /// When the leader is taken for lost, unless a fetch succeeds before. It is nothing to an observer.
    pub fetch_deadline: i64,
    /// Whether a fetch succeeded in this epoch: then the leader lives, and others get no pre-vote.
    pub has_fetched: bool,
    /// What the leader has committed, once a fetch showed that this log is a beginning of the leader's.
    pub leader_high_watermark: Option<i64>,
    /// The snapshot that is fetched in place of the log.
    pub download: Option<Download>,
    /// When to see whether the leader should be told something about this replica as a voter.
    pub update_at: i64,
    /// Whether the leader knows this voter's disk and levels though the log does not (kraft.version 0).
    pub has_updated: bool,
}

/// The one fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fetch {
    /// This role does not fetch.
    Idle,
    /// A request is on its way, to the leader or to another server; at the deadline it counts as lost.
    Sent { request: u64, deadline: i64, bootstrap: bool },
    /// The log is being flushed.
    Flushing,
    /// It was refused or lost; ask again later.
    Paused { until: i64, bootstrap: bool },
}

impl Fetch {
    pub fn next_deadline(&self) -> i64 {
        match self {
            Fetch::Sent { deadline: at, .. } | Fetch::Paused { until: at, .. } => *at,
            Fetch::Idle | Fetch::Flushing => i64::MAX,
        }
    }

    pub fn awaits(&self, request: u64) -> bool {
        matches!(self, Fetch::Sent { request: sent, .. } if *sent == request)
    }
}

impl Raft {
    pub(crate) fn become_follower(&mut self, epoch: i32, leader: Leader, step: &mut Step<'_>) {
        assert!(epoch >= self.state.epoch, "epochs never go back");
        assert!(leader.id != self.me(), "nobody follows itself");
        assert!(!leader.endpoints.is_empty(), "who can not be reached can not be followed");
        if epoch > self.state.epoch {
            self.state = QuorumState { epoch, leader: None, voted: None };
        }
        assert!(self.state.leader.is_none_or(|known| known == leader.id), "an epoch has one leader");
        self.state.leader = Some(leader.id);
        self.leader_endpoints = leader.endpoints;
        let following = Following {
            fetch_deadline: step.now + self.settings.fetch_timeout_ms,
            has_fetched: false,
            leader_high_watermark: None,
            download: None,
            update_at: step.now + self.settings.fetch_timeout_ms.max(1),
            has_updated: false,
        };
        self.enter(Role::Follower(following), step);
        self.fetch_next(false, step);
    }

    /// Fetches, or has the log flushed first: a fetch is a receipt, and says only what is on disk.
    pub(crate) fn fetch_next(&mut self, bootstrap: bool, step: &mut Step<'_>) {
        if !Guard::FollowerFlushed.holds(self.flushed_end == step.log.log_end_offset()) {
            self.fetch = Fetch::Flushing;
            step.perform(Effect::FlushLog);
            return;
        }
        let leader = self.known_leader().filter(|_| matches!(self.role, Role::Follower(_)));
        let servers = self.settings.bootstrap_servers;
        let to = match leader {
            Some(leader) if !bootstrap || servers == 0 => Destination::Leader(leader),
            None if servers == 0 => {
                self.fetch = Fetch::Idle;
                return;
            }
            _ => Destination::Bootstrap(self.random(servers as i64 - 1) as usize),
        };
        self.request_last += 1;
        let request = self.request_last;
        let deadline = step.now + self.settings.request_timeout_ms.max(1);
        let bootstrap = matches!(to, Destination::Bootstrap(_));
        self.fetch = Fetch::Sent { request, deadline, bootstrap };
        if let (Role::Follower(Following { download: Some(download), .. }), Destination::Leader(leader)) =
            (&self.role, &to)
        {
            let (to, request) = (leader.clone(), download.request(request, self));
            step.send(Effect::SendFetchSnapshot { to, request });
            return;
        }
        let request = FetchRequest {
            request,
            replica: self.settings.me,
            epoch: self.state.epoch,
            log_end: step.log_end(),
            high_watermark: self.high_watermark,
        };
        step.send(Effect::SendFetch { to, request });
    }

    pub(crate) fn pause_fetch(&mut self, bootstrap: bool, step: &Step<'_>) {
        self.fetch = Fetch::Paused { until: step.now + self.settings.retry_backoff_ms.max(1), bootstrap };
    }

    pub(crate) fn on_fetch_timeout(&mut self, step: &mut Step<'_>) {
        match self.fetch {
            // Who does not answer may not lead any more: ask another, then it again.
            Fetch::Sent { deadline, bootstrap, .. } if step.now >= deadline => {
                self.fetch_next(!bootstrap, step);
            }
            Fetch::Paused { until, bootstrap } if step.now >= until => self.fetch_next(bootstrap, step),
            _ => {}
        }
    }

    pub(crate) fn on_fetch_failed(&mut self, request: u64, step: &mut Step<'_>) {
        match self.fetch {
            Fetch::Sent { request: sent, bootstrap, .. } if sent == request => {
                self.pause_fetch(!bootstrap, step);
            }
            _ => {}
        }
    }

    pub(crate) fn on_follower_timeout(&mut self, step: &mut Step<'_>) {
        let stands = self.stands_for_election();
        let Role::Follower(following) = &self.role else { return };
        if stands && step.now >= following.fetch_deadline {
            self.become_prospective(step);
            return;
        }
        if step.now >= following.update_at {
            self.tell_leader(step);
        }
        self.on_fetch_timeout(step);
    }

    pub(crate) fn on_fetch_response(&mut self, request: u64, response: FetchResponse, step: &mut Step<'_>) {
        if !valid_epoch(response.epoch) {
            return;
        }
        let epoch = self.state.epoch;
        let consistent = self.learn(response.epoch, response.leader.as_ref(), step);
        let awaited = Guard::FetchAwaited.holds(self.fetch.awaits(request));
        if !consistent || !awaited || response.epoch != epoch || self.state.epoch != epoch {
            return;
        }
        let fetch_deadline = step.now + self.settings.fetch_timeout_ms;
        let Role::Follower(following) = &mut self.role else {
            // Whoever was asked knows no leader either.
            if matches!(self.role, Role::Unattached { .. }) {
                self.pause_fetch(true, step);
            }
            return;
        };
        if response.refusal.is_some() {
            self.pause_fetch(false, step);
            return;
        }
        following.fetch_deadline = fetch_deadline;
        following.has_fetched = true;
        if let Some(diverging) = response.diverging {
            // What the leader has committed says nothing about this log as long as the two differ.
            self.truncate(diverging, step);
        } else if let Some(id) = response.snapshot {
            self.begin_download(id, step);
        } else {
            following.leader_high_watermark = following.leader_high_watermark.max(response.high_watermark);
            match response.records {
                Some(records) => self.append_fetched(request, records, step),
                None => {
                    self.follow_high_watermark(step);
                    self.fetch_next(false, step);
                }
            }
        }
    }

    fn append_fetched(&mut self, request: u64, records: FetchedRecords, step: &mut Step<'_>) {
        let end = step.log_end();
        let follow = records.base_offset == end.offset;
        let epochs = end.epoch <= records.first_epoch
            && records.first_epoch <= records.end.epoch
            && records.end.epoch <= self.state.epoch;
        let inside = |(offset, _): &(i64, _)| (records.base_offset..records.end.offset).contains(offset);
        let ordered =
            records.control.is_sorted_by(|(a, _), (b, _)| a < b) && records.control.iter().all(inside);
        if !follow || !epochs || !ordered || records.end.offset <= records.base_offset {
            // The leader answered something else than what it was asked.
            self.pause_fetch(false, step);
            return;
        }
        for (offset, control) in records.control {
            self.history.add(offset, control);
        }
        self.fetch = Fetch::Flushing;
        step.perform(Effect::AppendFetched { request });
        step.perform(Effect::FlushLog);
    }

    /// Cuts off what the leader does not have. What is committed is never cut off (KAFKA-12460).
    fn truncate(&mut self, diverging: OffsetAndEpoch, step: &mut Step<'_>) {
        let own = step.log.end_offset_for_epoch(diverging.epoch);
        let common = if own.epoch == diverging.epoch { own.offset.min(diverging.offset) } else { own.offset };
        let end_offset = common.clamp(0, step.log.log_end_offset());
        self.fetch = Fetch::Flushing;
        if let Some(high_watermark) = self.high_watermark.filter(|committed| end_offset < *committed) {
            step.perform(Effect::Halt { high_watermark, diverging });
            return;
        }
        if !Guard::TruncateDiverging.stands() {
            self.fetch_next(false, step);
            return;
        }
        self.flushed_end = self.flushed_end.min(end_offset);
        if Guard::VotersTruncated.stands() {
            self.history.truncate(end_offset);
        }
        step.perform(Effect::TruncateLog { end_offset });
        step.perform(Effect::FlushLog);
    }

    pub(crate) fn on_fetcher_flushed(&mut self, step: &mut Step<'_>) {
        if self.flushed_end == step.log.log_end_offset() {
            self.follow_high_watermark(step);
            if matches!(self.fetch, Fetch::Flushing) {
                self.fetch_next(matches!(self.role, Role::Unattached { .. }), step);
            }
        }
    }

    /// What the leader says is committed, is, as far as this log reaches.
    pub(crate) fn follow_high_watermark(&mut self, step: &mut Step<'_>) {
        let Role::Follower(following) = &self.role else { return };
        let Some(committed) = following.leader_high_watermark else { return };
        let own = if !Guard::CommitOwnLog.stands() { committed } else { self.flushed_end };
        let offset = committed.min(own);
        if Some(offset) > self.high_watermark {
            self.high_watermark = Some(offset);
            step.perform(Effect::HighWatermark { offset });
        }
    }

    pub(crate) fn on_begin_epoch(
        &mut self,
        token: u64,
        request: &BeginQuorumEpochRequest,
        step: &mut Step<'_>,
    ) {
        let leader = &request.leader;
        let mut checked = self.check_leader_request(request.epoch, leader, request.voter);
        if checked.is_ok() && !self.learn(request.epoch, Some(leader), step) {
            checked = Err(Refusal::InvalidRequest);
        }
        if checked.is_ok() && matches!(self.role, Role::Unattached { .. } | Role::Prospective(_)) {
            // It was taken for lost, and is not.
            if let Some(leader) = self.known_leader().filter(|leader| !leader.endpoints.is_empty()) {
                self.become_follower(request.epoch, leader, step);
            }
        }
        let response = self.quorum_response(checked.err());
        step.send(Effect::RespondBeginQuorumEpoch { token, response });
    }

    pub(crate) fn on_end_epoch(&mut self, token: u64, request: &EndQuorumEpochRequest, step: &mut Step<'_>) {
        let mut checked = self.check_leader_request(request.epoch, &request.leader, None);
        if checked.is_ok() && !self.learn(request.epoch, Some(&request.leader), step) {
            checked = Err(Refusal::InvalidRequest);
        }
        let pause = self.successor_backoff(&request.preferred);
        if let (Ok(()), Role::Follower(following)) = (checked, &mut self.role) {
            following.fetch_deadline = step.now + pause;
        }
        let response = self.quorum_response(checked.err());
        step.send(Effect::RespondEndQuorumEpoch { token, response });
    }

    /// How long a successor waits: the first of the list stands at once, the others in turn, each twice as long as the
    /// one before, so that they do not split the votes.
    fn successor_backoff(&self, preferred: &[ReplicaKey]) -> i64 {
        let longest = self.settings.election_backoff_max_ms;
        match preferred.iter().position(|replica| replica.covers(&self.settings.me)) {
            Some(0) => 0,
            Some(turn) => {
                let halvings = (preferred.len() - turn).min(62) as u32;
                longest.checked_shr(halvings).unwrap_or(0).max(0)
            }
            None => longest,
        }
    }

    fn check_leader_request(
        &self,
        epoch: i32,
        leader: &Leader,
        receiver: Option<ReplicaKey>,
    ) -> Result<(), Refusal> {
        self.check_request(epoch, receiver)?;
        if leader.id == self.me() || leader.id < 0 { Err(Refusal::InvalidRequest) } else { Ok(()) }
    }
}
