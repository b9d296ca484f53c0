//! Leading: making itself known, following the followers, committing, and giving up when nobody follows.
//!
//! The high watermark is the offset that a majority of voters have on disk, the leader's own log among them, and only
//! once that includes a record of the leader's own epoch: records of older epochs are committed by it, not by
//! counting (KAFKA-12619 was an off-by-one here).

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Effect;
use crate::message::{BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse, Refusal};
use crate::raft::{OffsetAndEpoch, Raft, ReplicaKey, Role, Settings, Step};

/// What a leader knows of the others.
#[derive(Debug)]
pub(crate) struct Leadership {
    /// Offset of the leader-change record.
    pub epoch_start_offset: i64,
    followers: BTreeMap<i32, Progress>,
    /// Voters that fetched in the current check-quorum round.
    fetched: BTreeSet<i32>,
    /// When a majority must have fetched; never on a quorum of one.
    check_deadline: i64,
}

/// What a leader knows of one other voter.
#[derive(Debug)]
struct Progress {
    /// Its log, as far as it matches and is on its disk.
    end_offset: Option<i64>,
    /// When it is told of the epoch again, unless it fetches before.
    begin_at: i64,
}

impl Leadership {
    pub fn new(epoch_start_offset: i64, now: i64, settings: &Settings) -> Leadership {
        let others = settings.voters.iter().filter(|voter| voter.id != settings.me.id);
        let followers: BTreeMap<i32, Progress> =
            others.map(|voter| (voter.id, Progress { end_offset: None, begin_at: now })).collect();
        let check_deadline = if followers.is_empty() { i64::MAX } else { now + check_quorum_ms(settings) };
        Leadership { epoch_start_offset, followers, fetched: BTreeSet::new(), check_deadline }
    }

    pub fn next_deadline(&self) -> i64 {
        let begin = self.followers.values().map(|progress| progress.begin_at).min();
        begin.unwrap_or(i64::MAX).min(self.check_deadline)
    }
}

/// How long a leader does without hearing from a majority.
fn check_quorum_ms(settings: &Settings) -> i64 {
    settings.fetch_timeout_ms + settings.fetch_timeout_ms / 2
}

impl Raft {
    /// The header of an answer to a fetch, as of now: for fetches that waited.
    pub fn fetch_response(&self) -> FetchResponse {
        FetchResponse {
            refusal: (!matches!(self.role, Role::Leader(_))).then_some(Refusal::NotLeader),
            epoch: self.state.epoch,
            leader: self.state.leader,
            high_watermark: self.high_watermark,
            diverging: None,
            has_records: false,
        }
    }

    /// How far each voter's log is on disk as this leader knows it, the own one included; `None` if it never fetched.
    /// Nothing while this node does not lead (for DescribeQuorum).
    pub fn positions(&self) -> Vec<(ReplicaKey, Option<i64>)> {
        let Role::Leader(leadership) = &self.role else { return Vec::new() };
        let position = |voter: &ReplicaKey| match leadership.followers.get(&voter.id) {
            Some(progress) => (*voter, progress.end_offset),
            None => (*voter, Some(self.flushed_end)),
        };
        self.settings.voters.iter().map(position).collect()
    }

    /// Offset of the leader-change record of the epoch that this node leads.
    pub fn epoch_start_offset(&self) -> Option<i64> {
        match &self.role {
            Role::Leader(leadership) => Some(leadership.epoch_start_offset),
            _ => None,
        }
    }

    pub(crate) fn on_leader_timeout(&mut self, step: &mut Step<'_>) {
        let Role::Leader(leadership) = &self.role else { return };
        if step.now >= leadership.check_deadline {
            // Behind a partition somebody else may lead by now: stop answering for the quorum.
            self.resign(step);
        } else {
            self.send_begin_epoch(step);
        }
    }

    /// Tells those voters of the epoch that have not fetched for half a fetch timeout.
    pub(crate) fn send_begin_epoch(&mut self, step: &mut Step<'_>) {
        let (epoch, leader, peers) = (self.state.epoch, self.me(), self.peers());
        let pause = (self.settings.fetch_timeout_ms / 2).max(1);
        let Role::Leader(leadership) = &mut self.role else { return };
        for to in peers {
            let progress = leadership.followers.get_mut(&to.id).expect("every other voter is a follower");
            if step.now >= progress.begin_at {
                progress.begin_at = step.now + pause;
                let request = BeginQuorumEpochRequest { epoch, leader, voter: Some(to) };
                step.send(Effect::SendBeginQuorumEpoch { to, request });
            }
        }
    }

    pub(crate) fn on_fetch_request(&mut self, token: u64, request: &FetchRequest, step: &mut Step<'_>) {
        let refusal = match self.check_request(request.epoch, None) {
            Err(refusal) => Some(refusal),
            Ok(()) if request.epoch > self.state.epoch => Some(Refusal::UnknownEpoch),
            Ok(()) if !matches!(self.role, Role::Leader(_)) => Some(Refusal::NotLeader),
            Ok(()) if request.log_end.offset < 0 || request.log_end.epoch > request.epoch => {
                Some(Refusal::InvalidRequest)
            }
            Ok(()) => None,
        };
        if refusal.is_some() {
            let response = FetchResponse { refusal, ..self.fetch_response() };
            step.send(Effect::RespondFetch { token, response });
            return;
        }
        let diverging = divergence(request.log_end, step);
        self.on_follower_fetched(request, diverging.is_none(), step);
        match diverging {
            Some(_) => {
                let response = FetchResponse { diverging, ..self.fetch_response() };
                step.send(Effect::RespondFetch { token, response });
            }
            None => {
                let (offset, high_watermark) = (request.log_end.offset, request.high_watermark);
                step.send(Effect::ServeFetch { token, offset, high_watermark });
            }
        }
    }

    /// A fetch is a sign of life of its sender; if the logs match, it is also a receipt for everything before it.
    fn on_follower_fetched(&mut self, request: &FetchRequest, matches: bool, step: &mut Step<'_>) {
        let voter = self.settings.voters.iter().any(|voter| voter.matches(&request.replica));
        let majority = self.majority();
        let check_quorum = check_quorum_ms(&self.settings);
        let pause = (self.settings.fetch_timeout_ms / 2).max(1);
        let Role::Leader(leadership) = &mut self.role else { return };
        let Some(progress) = leadership.followers.get_mut(&request.replica.id).filter(|_| voter) else {
            return;
        };
        progress.begin_at = step.now + pause;
        if matches {
            progress.end_offset = Some(request.log_end.offset);
        }
        leadership.fetched.insert(request.replica.id);
        if leadership.fetched.len() + 1 >= majority {
            leadership.fetched.clear();
            leadership.check_deadline = step.now + check_quorum;
        }
        if matches {
            self.advance_high_watermark(step);
        }
    }

    pub(crate) fn advance_high_watermark(&mut self, step: &mut Step<'_>) {
        let majority = self.majority();
        let Role::Leader(leadership) = &self.role else { return };
        let others = leadership.followers.values().map(|progress| progress.end_offset.unwrap_or(-1));
        let mut ends: Vec<i64> = others.chain([self.flushed_end]).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let replicated = ends[majority - 1];
        if replicated > leadership.epoch_start_offset && Some(replicated) > self.high_watermark {
            assert!(replicated <= step.log.log_end_offset(), "what is committed is in the leader's log");
            self.high_watermark = Some(replicated);
            step.perform(Effect::HighWatermark { offset: replicated });
        }
    }

    /// Gives up leading; the voters whose logs are longest should stand next.
    pub(crate) fn resign(&mut self, step: &mut Step<'_>) {
        let Role::Leader(leadership) = &self.role else { return };
        let mut preferred = self.peers();
        preferred.sort_by_key(|peer| std::cmp::Reverse(leadership.followers[&peer.id].end_offset));
        self.become_resigned(preferred, step);
    }

    pub(crate) fn send_end_epoch(&mut self, step: &mut Step<'_>) {
        let (epoch, leader, peers) = (self.state.epoch, self.me(), self.peers());
        let Role::Resigned { resend_at, untold, preferred, .. } = &mut self.role else { return };
        *resend_at = step.now + self.settings.request_timeout_ms.max(1);
        for to in peers.into_iter().filter(|peer| untold.contains(&peer.id)) {
            let request = EndQuorumEpochRequest { epoch, leader, preferred: preferred.clone() };
            step.send(Effect::SendEndQuorumEpoch { to, request });
        }
    }
}

/// Where the asker's log and the leader's part, if they do (KIP-595; KIP-320 for data partitions).
fn divergence(theirs: OffsetAndEpoch, step: &Step<'_>) -> Option<OffsetAndEpoch> {
    if theirs.offset == 0 {
        return None;
    }
    let ours = step.log.end_offset_for_epoch(theirs.epoch);
    let parted = ours.epoch != theirs.epoch || ours.offset < theirs.offset;
    parted.then_some(ours)
}
