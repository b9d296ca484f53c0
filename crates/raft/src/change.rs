//! The leader changes who votes, and the level of kraft.version (KIP-853).
//!
//! A change is a VotersRecord in the log, and counts from the moment that it is appended. Three conditions make that safe:
//! it differs from the set before by one voter; the set before is committed; and the leader has committed a record of its
//! own epoch, without which two leaders could each build on a set that the other does not know of.

use crate::event::Effect;
use crate::guard::Guard;
use crate::leader::Leadership;
use crate::message::{
    AddVoterRequest, QuorumResponse, Refusal, RemoveVoterRequest, SupportedVersions, UpdateVoterRequest,
};
use crate::raft::{Raft, Role, Step};
use crate::voters::{Control, Voter, Voters};

/// A change that is under way; there is one at a time.
#[derive(Debug, Clone)]
pub(crate) struct PendingChange {
    /// Who is to be answered; `None` if that is done.
    token: Option<u64>,
    stage: Stage,
    /// When the request is over, if nothing has happened before.
    pub deadline: i64,
}

#[derive(Debug, Clone, Hash)]
pub(crate) enum Stage {
    /// The new voter was asked what it supports.
    Asked { request: u64, addition: AddVoterRequest },
    /// The record is in the log at this offset.
    Appended { offset: i64 },
}

impl PendingChange {
    /// What it waits for, for comparing states.
    pub(crate) fn stage(&self) -> Option<i64> {
        match self.stage {
            Stage::Asked { .. } => None,
            Stage::Appended { offset } => Some(offset),
        }
    }
}

impl Raft {
    pub(crate) fn on_add_voter(&mut self, token: u64, request: AddVoterRequest, step: &mut Step<'_>) {
        let complete = request.voter.is_complete() && !request.endpoints.is_empty();
        let checked = self.check_leads(self.state.epoch).and_then(|()| {
            if complete { Ok(()) } else { Err(Refusal::InvalidRequest) }?;
            self.check_change(step.now)?;
            let taken = self.voters().get(request.voter.id).is_some();
            if Guard::AddOnce.holds(!taken) { Ok(()) } else { Err(Refusal::DuplicateVoter) }
        });
        if checked.is_err() {
            return self.respond_voters(token, checked.err(), step);
        }
        self.request_last += 1;
        let ask = self.request_last;
        let deadline = step.now + self.settings.request_timeout_ms.max(1);
        let Role::Leader(leadership) = &mut self.role else { panic!("checked above") };
        let (to, endpoints) = (request.voter, request.endpoints.clone());
        let stage = Stage::Asked { request: ask, addition: request };
        leadership.pending = Some(PendingChange { token: Some(token), stage, deadline });
        step.send(Effect::SendApiVersions { request: ask, to, endpoints });
    }

    pub(crate) fn on_api_versions(
        &mut self,
        request: u64,
        kraft_versions: SupportedVersions,
        step: &mut Step<'_>,
    ) {
        let Role::Leader(leadership) = &mut self.role else { return };
        let asked = |pending: &mut PendingChange| matches!(&pending.stage, Stage::Asked { request: asked, .. } if *asked == request);
        let Some(mut pending) = leadership.pending.take_if(asked) else { return };
        let Stage::Asked { addition, .. } = &pending.stage else { panic!("looked at above") };
        let token = pending.token.take().expect("it is answered after this");
        let refusal = match kraft_versions {
            None => Some(Refusal::TimedOut),
            Some(range) if !range.contains(self.kraft_version()) => Some(Refusal::InvalidRequest),
            // One that lags would hold up every commit until it has caught up.
            Some(_) if !Guard::AddCaughtUp.holds(self.has_caught_up(addition, step.now)) => {
                Some(Refusal::TimedOut)
            }
            Some(_) => None,
        };
        let (Some(kraft_versions), None) = (kraft_versions, refusal) else {
            return self.respond_voters(token, refusal, step);
        };
        let voter = Voter { key: addition.voter, endpoints: addition.endpoints.clone(), kraft_versions };
        let voters = self.history.voters().with_added(voter).expect("no voter has this id: on_add_voter");
        let waits = addition.ack_when_committed;
        pending.token = Some(token).filter(|_| waits);
        self.append_voters(voters, Some(pending), step);
        if !waits {
            self.respond_voters(token, None, step);
        }
    }

    /// Whether a replica that shall vote was caught up, and fetched within the hour.
    fn has_caught_up(&self, addition: &AddVoterRequest, now: i64) -> bool {
        const RECENT_MS: i64 = 3_600_000;
        let Role::Leader(leadership) = &self.role else { return false };
        let Some(progress) = leadership.replicas.get(&addition.voter) else { return false };
        let recently = progress.fetched_at.is_some_and(|at| at > now - RECENT_MS);
        recently && progress.caught_up_at.is_some()
    }

    pub(crate) fn on_remove_voter(&mut self, token: u64, request: &RemoveVoterRequest, step: &mut Step<'_>) {
        let rest = self.check_leads(self.state.epoch).and_then(|()| {
            if request.voter.is_complete() { Ok(()) } else { Err(Refusal::InvalidRequest) }?;
            self.check_change(step.now)?;
            self.history.voters().without(&request.voter).ok_or(Refusal::VoterNotFound)
        });
        match rest {
            Err(refusal) => self.respond_voters(token, Some(refusal), step),
            Ok(voters) => {
                let deadline = step.now + self.settings.request_timeout_ms.max(1);
                let stage = Stage::Appended { offset: step.log.log_end_offset() };
                self.append_voters(voters, Some(PendingChange { token: Some(token), stage, deadline }), step);
            }
        }
    }

    pub(crate) fn on_update_voter(&mut self, token: u64, request: &UpdateVoterRequest, step: &mut Step<'_>) {
        let updated = self.check_leads(request.epoch).and_then(|()| self.updated_voters(request, step.now));
        let refusal = updated.as_ref().err().copied();
        if let Ok(voters) = updated {
            if self.kraft_version() == 0 {
                let Role::Leader(leadership) = &mut self.role else { panic!("checked above") };
                leadership.volatile = Some(voters);
            } else if voters != *self.history.voters() {
                self.append_voters(voters, None, step);
            }
            self.on_replica_heard(&request.voter.key, step);
        }
        self.respond_voters(token, refusal, step);
    }

    fn updated_voters(&self, request: &UpdateVoterRequest, now: i64) -> Result<Voters, Refusal> {
        let voter = &request.voter;
        let range = voter.kraft_versions;
        let possible = range.min >= 0 && range.max >= range.min;
        if !possible || !voter.key.is_complete() || voter.endpoints.is_empty() {
            return Err(Refusal::InvalidRequest);
        }
        self.check_pending(now)?;
        if !self.has_committed_own_epoch() {
            return Err(Refusal::TimedOut);
        }
        let Role::Leader(leadership) = &self.role else { return Err(Refusal::NotLeader) };
        let ignoring_directory = self.kraft_version() == 0;
        let voters = if ignoring_directory {
            leadership.volatile.as_ref().ok_or(Refusal::TimedOut)?
        } else {
            self.check_change(now)?;
            self.history.voters()
        };
        if !range.contains(self.kraft_version()) {
            return Err(Refusal::InvalidRequest);
        }
        voters.with_updated(voter, ignoring_directory).ok_or(Refusal::VoterNotFound)
    }

    /// Raises kraft.version: from 1 on the voters are in the log, with their disks.
    pub(crate) fn on_upgrade(&mut self, level: i16, step: &mut Step<'_>) {
        if let Ok(Some(voters)) = self.upgraded_voters(level) {
            self.append_control(vec![Control::KRaftVersion(level), Control::Voters(voters)], step);
            let Role::Leader(leadership) = &mut self.role else { panic!("checked above") };
            leadership.volatile = None;
        }
    }

    /// Whether [`Event::UpgradeKRaftVersion`](crate::Event::UpgradeKRaftVersion) would be obeyed now; the level that there is
    /// may always be asked for.
    ///
    /// # Errors
    /// [`Refusal::NotLeader`]; or [`Refusal::InvalidUpdateVersion`]: there is no way to that level, or not all voters
    /// have told this leader their disk and that they support it.
    pub fn may_upgrade(&self, level: i16) -> Result<(), Refusal> {
        self.upgraded_voters(level).map(drop)
    }

    /// The voters to write with the new level; nobody if it is the one there is.
    fn upgraded_voters(&self, level: i16) -> Result<Option<Voters>, Refusal> {
        self.check_leads(self.state.epoch)?;
        if level == self.kraft_version() {
            return Ok(None);
        }
        let Role::Leader(leadership) = &self.role else { return Err(Refusal::NotLeader) };
        let voters = leadership.volatile.as_ref().filter(|_| level == 1);
        let voters = voters.ok_or(Refusal::InvalidUpdateVersion)?;
        let ready = |voter: &Voter| voter.key.is_complete() && voter.kraft_versions.contains(level);
        if voters.iter().all(ready) { Ok(Some(voters.clone())) } else { Err(Refusal::InvalidUpdateVersion) }
    }

    fn check_pending(&self, now: i64) -> Result<(), Refusal> {
        match &self.role {
            Role::Leader(Leadership { pending: Some(pending), .. }) if now < pending.deadline => {
                Err(Refusal::TimedOut)
            }
            _ => Ok(()),
        }
    }

    /// Whether the voters may change now.
    fn check_change(&self, now: i64) -> Result<(), Refusal> {
        self.check_pending(now)?;
        if !Guard::ChangeAfterCommit.holds(self.has_committed_own_epoch()) {
            return Err(Refusal::TimedOut);
        }
        if self.kraft_version() == 0 {
            return Err(Refusal::UnsupportedVersion);
        }
        let committed = self.history.voters_offset() < self.high_watermark;
        if Guard::OneChange.holds(committed) { Ok(()) } else { Err(Refusal::TimedOut) }
    }

    fn append_voters(&mut self, voters: Voters, pending: Option<PendingChange>, step: &mut Step<'_>) {
        let offset = self.append_control(vec![Control::Voters(voters)], step);
        self.expire_pending_change(step);
        let Role::Leader(leadership) = &mut self.role else { panic!("only a leader appends") };
        if let Some(pending) = pending {
            leadership.pending = Some(PendingChange { stage: Stage::Appended { offset }, ..pending });
        }
    }

    /// Appends control records as one batch; returns the offset of the last.
    fn append_control(&mut self, control: Vec<Control>, step: &mut Step<'_>) -> i64 {
        let base = step.log.log_end_offset();
        for (offset, record) in (base..).zip(control.iter().cloned()) {
            self.history.add(offset, record);
        }
        self.follow_voters(step.now);
        let last = base + control.len() as i64 - 1;
        step.perform(Effect::AppendControl { epoch: self.state.epoch, control });
        step.perform(Effect::FlushLog);
        last
    }

    /// The high watermark moved: a change that is committed is answered.
    pub(crate) fn answer_committed_change(&mut self, step: &mut Step<'_>) {
        let committed = self.high_watermark;
        let done = |pending: &mut PendingChange| pending.stage().is_some_and(|at| committed > Some(at));
        let Role::Leader(leadership) = &mut self.role else { return };
        let token = leadership.pending.take_if(done).and_then(|pending| pending.token);
        if let Some(token) = token {
            self.respond_voters(token, None, step);
        }
    }

    /// A request is given up when its time is over; what was appended for it may yet be committed.
    pub(crate) fn expire_pending_change(&mut self, step: &mut Step<'_>) {
        let over = |pending: &mut PendingChange| step.now >= pending.deadline;
        let Role::Leader(leadership) = &mut self.role else { return };
        if let Some(token) = leadership.pending.take_if(over).and_then(|pending| pending.token) {
            self.respond_voters(token, Some(Refusal::TimedOut), step);
        }
    }

    /// This node stopped leading: whoever waited for a change must ask the next leader whether it was made.
    pub(crate) fn refuse_pending_change(&mut self, left: Leadership, step: &mut Step<'_>) {
        if let Some(token) = left.pending.and_then(|pending| pending.token) {
            self.respond_voters(token, Some(Refusal::NotLeader), step);
        }
    }

    fn respond_voters(&mut self, token: u64, refusal: Option<Refusal>, step: &mut Step<'_>) {
        let response: QuorumResponse = self.quorum_response(refusal);
        step.send(Effect::RespondVoters { token, response });
    }
}
