//! Following: fetch, append or truncate, flush, fetch again. At any time there is one fetch on its way, or one write
//! being flushed, or a pause; so an answer that nobody waits for any more is recognized by its number and dropped.

use crate::event::Effect;
use crate::message::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, FetchResponse, QuorumEpochResponse, Refusal,
};
use crate::raft::{OffsetAndEpoch, QuorumState, Raft, Role, Step, valid_epoch};

/// What a follower knows of its leader.
#[derive(Debug)]
pub(crate) struct Following {
    /// When the leader is taken for lost, unless a fetch succeeds before.
    pub fetch_deadline: i64,
    /// Whether a fetch succeeded in this epoch: then the leader lives, and others get no pre-vote.
    pub has_fetched: bool,
    /// What the leader has committed, once a fetch showed that this log is a beginning of the leader's.
    leader_high_watermark: Option<i64>,
    fetch: Fetch,
}

#[derive(Debug)]
enum Fetch {
    /// A request is on its way; at the deadline it counts as lost.
    Sent { request: u64, deadline: i64 },
    /// The log is being flushed.
    Flushing,
    /// The leader refused; ask again later.
    Paused { until: i64 },
}

impl Following {
    pub fn next_deadline(&self) -> i64 {
        match self.fetch {
            Fetch::Sent { deadline: at, .. } | Fetch::Paused { until: at } => self.fetch_deadline.min(at),
            Fetch::Flushing => self.fetch_deadline,
        }
    }
}

impl Raft {
    pub(crate) fn become_follower(&mut self, epoch: i32, leader: i32, step: &mut Step<'_>) {
        assert!(epoch >= self.state.epoch, "epochs never go back");
        assert!(leader != self.me(), "nobody follows itself");
        if epoch > self.state.epoch {
            self.state = QuorumState { epoch, leader: None, voted: None };
        }
        assert!(self.state.leader.is_none_or(|known| known == leader), "an epoch has one leader");
        self.state.leader = Some(leader);
        self.role = Role::Follower(Following {
            fetch_deadline: step.now + self.settings.fetch_timeout_ms,
            has_fetched: false,
            leader_high_watermark: None,
            fetch: Fetch::Flushing,
        });
        if self.flushed_end < step.log.log_end_offset() {
            step.perform(Effect::FlushLog);
        } else {
            self.send_fetch(step);
        }
    }

    /// A fetch is a receipt: it says only what is on disk.
    fn send_fetch(&mut self, step: &mut Step<'_>) {
        assert_eq!(self.flushed_end, step.log.log_end_offset(), "a follower fetches when its log is flushed");
        self.request_last += 1;
        let request = FetchRequest {
            request: self.request_last,
            replica: self.settings.me,
            epoch: self.state.epoch,
            log_end: step.log_end(),
            high_watermark: self.high_watermark,
        };
        let deadline = step.now + self.settings.request_timeout_ms.max(1);
        let Role::Follower(following) = &mut self.role else { panic!("only a follower fetches") };
        following.fetch = Fetch::Sent { request: request.request, deadline };
        let to = self.state.leader.expect("a follower has a leader");
        step.send(Effect::SendFetch { to, request });
    }

    pub(crate) fn on_follower_timeout(&mut self, step: &mut Step<'_>) {
        let Role::Follower(following) = &self.role else { return };
        match following.fetch {
            _ if step.now >= following.fetch_deadline => self.become_prospective(step),
            Fetch::Sent { deadline: at, .. } | Fetch::Paused { until: at } if step.now >= at => {
                self.send_fetch(step);
            }
            _ => {}
        }
    }

    pub(crate) fn on_fetch_response(&mut self, request: u64, response: &FetchResponse, step: &mut Step<'_>) {
        if !valid_epoch(response.epoch) {
            return;
        }
        let epoch = self.state.epoch;
        let consistent = self.learn(response.epoch, response.leader, step);
        let retry_at = step.now + self.settings.retry_backoff_ms.max(1);
        let fetch_deadline = step.now + self.settings.fetch_timeout_ms;
        let own_end = step.log.log_end_offset();
        let Role::Follower(following) = &mut self.role else { return };
        let awaited = matches!(following.fetch, Fetch::Sent { request: sent, .. } if sent == request);
        if !consistent || !awaited || response.epoch != epoch || self.state.epoch != epoch {
            return;
        }
        if response.refusal.is_some() {
            following.fetch = Fetch::Paused { until: retry_at };
            return;
        }
        following.fetch_deadline = fetch_deadline;
        following.has_fetched = true;
        if let Some(diverging) = response.diverging {
            // What the leader has committed says nothing about this log as long as the two differ.
            self.truncate(diverging, step);
            return;
        }
        following.leader_high_watermark = following.leader_high_watermark.max(response.high_watermark);
        if response.has_records {
            following.fetch = Fetch::Flushing;
            step.perform(Effect::AppendFetched { request });
            step.perform(Effect::FlushLog);
        } else {
            assert_eq!(self.flushed_end, own_end, "a follower fetches when its log is flushed");
            self.follow_high_watermark(step);
            self.send_fetch(step);
        }
    }

    /// Cuts off what the leader does not have. What is committed is never cut off (KAFKA-12460).
    fn truncate(&mut self, diverging: OffsetAndEpoch, step: &mut Step<'_>) {
        let own = step.log.end_offset_for_epoch(diverging.epoch);
        let common = if own.epoch == diverging.epoch { own.offset.min(diverging.offset) } else { own.offset };
        let end_offset = common.clamp(step.log.log_start_offset(), step.log.log_end_offset());
        let Role::Follower(following) = &mut self.role else { return };
        following.fetch = Fetch::Flushing;
        if let Some(high_watermark) = self.high_watermark.filter(|committed| end_offset < *committed) {
            step.perform(Effect::Halt { high_watermark, diverging });
            return;
        }
        self.flushed_end = self.flushed_end.min(end_offset);
        step.perform(Effect::TruncateLog { end_offset });
        step.perform(Effect::FlushLog);
    }

    pub(crate) fn on_follower_flushed(&mut self, step: &mut Step<'_>) {
        let Role::Follower(following) = &self.role else { return };
        if self.flushed_end == step.log.log_end_offset() {
            let waiting = matches!(following.fetch, Fetch::Flushing);
            self.follow_high_watermark(step);
            if waiting {
                self.send_fetch(step);
            }
        }
    }

    /// What the leader says is committed, is, as far as this log reaches.
    fn follow_high_watermark(&mut self, step: &mut Step<'_>) {
        let Role::Follower(following) = &self.role else { return };
        let Some(committed) = following.leader_high_watermark else { return };
        let offset = committed.min(self.flushed_end);
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
        let mut checked = self.check_leader_request(request.epoch, request.leader);
        if checked.is_ok() {
            checked = self.check_request(request.epoch, request.voter);
        }
        if checked.is_ok() && !self.learn(request.epoch, Some(request.leader), step) {
            checked = Err(Refusal::InvalidRequest);
        }
        if checked.is_ok() && matches!(self.role, Role::Unattached { .. } | Role::Prospective(_)) {
            // It was taken for lost, and is not.
            self.become_follower(request.epoch, request.leader, step);
        }
        let response = self.epoch_response(checked.err());
        step.send(Effect::RespondBeginQuorumEpoch { token, response });
    }

    pub(crate) fn on_end_epoch(&mut self, token: u64, request: &EndQuorumEpochRequest, step: &mut Step<'_>) {
        let mut checked = self.check_leader_request(request.epoch, request.leader);
        if checked.is_ok() && !self.learn(request.epoch, Some(request.leader), step) {
            checked = Err(Refusal::InvalidRequest);
        }
        if checked.is_ok() && matches!(self.role, Role::Follower(_)) {
            // The first of the list stands at once, the others in turn, so that they do not split the votes.
            let named = request.preferred.iter().position(|replica| replica.id == self.me());
            let turn = named.unwrap_or(request.preferred.len().max(1)).min(self.settings.voters.len()) as i64;
            let backoff = self.settings.election_backoff_max_ms;
            let pause = turn * backoff + if turn > 0 { self.random(backoff) } else { 0 };
            if let Role::Follower(following) = &mut self.role {
                following.fetch_deadline = following.fetch_deadline.min(step.now + pause);
            }
        }
        let response = self.epoch_response(checked.err());
        step.send(Effect::RespondEndQuorumEpoch { token, response });
    }

    fn check_leader_request(&self, epoch: i32, leader: i32) -> Result<(), Refusal> {
        self.check_request(epoch, None)?;
        if leader == self.me() || !self.is_voter(leader) {
            return Err(Refusal::InvalidRequest);
        }
        Ok(())
    }

    fn epoch_response(&self, refusal: Option<Refusal>) -> QuorumEpochResponse {
        QuorumEpochResponse { refusal, epoch: self.state.epoch, leader: self.state.leader }
    }
}
