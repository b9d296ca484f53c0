//! Elections: who may have a vote, asking for pre-votes and votes, and winning (KIP-595, KIP-996).
//!
//! A pre-vote promises nothing, so anyone may give one whose log is not ahead of the asker's, except a node that hears
//! from a living leader. A vote is given once in an epoch, and leaves this node when it is on disk.

use std::collections::BTreeSet;

use crate::event::Effect;
use crate::guard::Guard;
use crate::leader::Leadership;
use crate::message::{Refusal, VoteRequest, VoteResponse};
use crate::raft::{Raft, Role, Step, valid_epoch};
use crate::replica::{QuorumState, ReplicaKey};
use crate::voters::{Control, Endpoints};

/// A round of questions to the voters.
#[derive(Debug, Clone)]
pub(crate) struct Campaign {
    pub granted: BTreeSet<i32>,
    pub rejected: BTreeSet<i32>,
    /// When the round is over.
    pub deadline: i64,
    /// When those who did not answer are asked again.
    pub resend_at: i64,
}

impl Campaign {
    pub fn next_deadline(&self) -> i64 {
        self.deadline.min(self.resend_at)
    }
}

impl Raft {
    pub(crate) fn become_prospective(&mut self, step: &mut Step<'_>) {
        let campaign = self.new_campaign(step.now);
        self.enter(Role::Prospective(campaign), step);
        // A pre-vote is not remembered, so the own one counts at once; alone, it is a majority.
        self.count_vote(self.me(), true, step);
        if let Role::Prospective(_) = self.role {
            self.send_votes(step);
        }
    }

    pub(crate) fn become_candidate(&mut self, step: &mut Step<'_>) {
        assert!(!matches!(self.role, Role::Leader(_)), "a leader does not stand for election");
        let epoch = self.state.epoch.checked_add(1).expect("there is a next epoch");
        self.state = QuorumState { epoch, leader: None, voted: Some(self.settings.me) };
        self.leader_endpoints = Endpoints::from([]);
        let campaign = self.new_campaign(step.now);
        self.enter(Role::Candidate(campaign), step);
        self.send_votes(step);
        self.count_own_vote(step);
    }

    /// A candidate's own vote counts when it is on disk.
    pub(crate) fn count_own_vote(&mut self, step: &mut Step<'_>) {
        let standing = matches!(self.role, Role::Candidate(_));
        if standing && Guard::OwnVotePersisted.holds(self.is_persisted()) {
            self.count_vote(self.me(), true, step);
        }
    }

    fn new_campaign(&mut self, now: i64) -> Campaign {
        let deadline = self.election_deadline(now);
        let resend_at = now + self.settings.request_timeout_ms;
        Campaign { granted: BTreeSet::new(), rejected: BTreeSet::new(), deadline, resend_at }
    }

    /// Asks every voter that has not answered yet.
    fn send_votes(&mut self, step: &mut Step<'_>) {
        let (campaign, pre_vote) = match &self.role {
            Role::Prospective(campaign) => (campaign, true),
            Role::Candidate(campaign) => (campaign, false),
            _ => return,
        };
        let silent =
            |peer: &ReplicaKey| !campaign.granted.contains(&peer.id) && !campaign.rejected.contains(&peer.id);
        for to in self.peers().into_iter().filter(silent) {
            let request = VoteRequest {
                epoch: self.state.epoch,
                candidate: self.settings.me,
                voter: Some(to),
                log_end: step.log_end(),
                pre_vote,
            };
            step.send(Effect::SendVote { to, request });
        }
    }

    pub(crate) fn on_campaign_timeout(&mut self, step: &mut Step<'_>) {
        let (Role::Prospective(campaign) | Role::Candidate(campaign)) = &mut self.role else { return };
        if step.now < campaign.deadline {
            if step.now >= campaign.resend_at {
                campaign.resend_at = step.now + self.settings.request_timeout_ms;
                self.send_votes(step);
            }
            return;
        }
        match self.role {
            Role::Candidate(_) => self.become_prospective(step),
            _ => self.give_up_prospect(step),
        }
    }

    /// Nobody wants this node: back to the leader, if there is one, or to waiting for a whole election timeout.
    fn give_up_prospect(&mut self, step: &mut Step<'_>) {
        match self.known_leader().filter(|leader| !leader.endpoints.is_empty()) {
            Some(leader) => self.become_follower(self.state.epoch, leader, step),
            None => self.become_unattached(self.state.epoch, step),
        }
    }

    pub(crate) fn on_vote_request(&mut self, token: u64, request: &VoteRequest, step: &mut Step<'_>) {
        let checked = self.check_request(request.epoch, request.voter).and_then(|()| {
            // A candidate stands in an epoch that its log has no record of; a prospect may still be in it.
            let (last, epoch) = (request.log_end.epoch, request.epoch);
            let possible = if request.pre_vote { last <= epoch } else { last < epoch };
            if possible && request.log_end.offset >= 0 { Ok(()) } else { Err(Refusal::InvalidRequest) }
        });
        let mut granted = false;
        if checked.is_ok() {
            self.learn(request.epoch, None, step);
            granted = self.can_grant(request, step);
            if granted && !request.pre_vote {
                self.state.voted = Some(self.state.voted.unwrap_or(request.candidate));
                // The candidate is as good as this node: let it have its time.
                let later = self.election_deadline(step.now);
                let own_turn = match &mut self.role {
                    Role::Unattached { deadline } => Some(deadline),
                    Role::Prospective(campaign) => Some(&mut campaign.deadline),
                    _ => None,
                };
                if let Some(deadline) = own_turn.filter(|deadline| **deadline != i64::MAX) {
                    *deadline = later;
                }
            }
        }
        let (epoch, leader) = (self.state.epoch, self.known_leader());
        let response = VoteResponse { refusal: checked.err(), epoch, leader, granted };
        step.send(Effect::RespondVote { token, response });
    }

    /// Kafka's `canGrantVote` of each state; the request's epoch is this node's. One thing differs: a follower that heard
    /// from its leader denies a pre-vote until its fetch timeout, not for ever. Of a voter that is the same, as it stops
    /// following then; but an observer follows on, and may be a voter by a record that it does not have yet.
    fn can_grant(&self, request: &VoteRequest, step: &Step<'_>) -> bool {
        let mut up_to_date = request.log_end.is_up_to_date_with(&step.log_end());
        if !request.pre_vote {
            up_to_date = Guard::VoteUpToDate.holds(up_to_date);
        }
        match (&self.role, request.pre_vote) {
            (Role::Unattached { .. } | Role::Prospective(_), true) => up_to_date,
            (Role::Candidate(_) | Role::Resigned { .. }, true) => up_to_date,
            (Role::Follower(following), true) => {
                let heard = following.has_fetched && step.now < following.fetch_deadline;
                up_to_date && Guard::PreVoteOfFollower.holds(!heard)
            }
            (Role::Leader(_), true) => false,
            (Role::Unattached { .. } | Role::Prospective(_), false) => match self.state.voted {
                Some(voted) => Guard::VoteOnce.holds(voted.covers(&request.candidate)),
                None => self.state.leader.is_none() && up_to_date,
            },
            // These voted for themselves, or know who leads.
            (Role::Candidate(_) | Role::Resigned { .. } | Role::Leader(_) | Role::Follower(_), false) => {
                false
            }
        }
    }

    pub(crate) fn on_vote_response(&mut self, from: i32, response: &VoteResponse, step: &mut Step<'_>) {
        if !valid_epoch(response.epoch) || self.voters().get(from).is_none() || from == self.me() {
            return;
        }
        let consistent = self.learn(response.epoch, response.leader.as_ref(), step);
        // Answers from an older epoch of this node count for nothing; what a newer one says was just learned. A pre-vote
        // and a vote are told apart by that too: a candidate is in the epoch after the one that it asked in.
        let current = Guard::VoteOfThisEpoch.holds(response.epoch == self.state.epoch);
        if consistent && current && response.refusal.is_none() {
            self.count_vote(from, response.granted, step);
        }
    }

    /// Whether those who did not reject it are no majority any more.
    pub(crate) fn is_lost(&self, campaign: &Campaign) -> bool {
        campaign.rejected.len() + self.voters().majority() > self.voters().len()
    }

    /// Counts one answer, and draws the conclusion if there is one. The first answer of a voter counts.
    pub(crate) fn count_vote(&mut self, from: i32, granted: bool, step: &mut Step<'_>) {
        let majority = self.voters().majority();
        let (Role::Prospective(campaign) | Role::Candidate(campaign)) = &mut self.role else { return };
        if campaign.granted.contains(&from) || campaign.rejected.contains(&from) {
            return;
        }
        if granted {
            campaign.granted.insert(from);
        } else {
            campaign.rejected.insert(from);
        }
        let (Role::Prospective(campaign) | Role::Candidate(campaign)) = &self.role else { return };
        let lost = self.is_lost(campaign);
        let by_majority = campaign.granted.len() >= majority;
        match self.role {
            Role::Prospective(_) if by_majority => self.become_candidate(step),
            Role::Prospective(_) if lost => self.give_up_prospect(step),
            Role::Candidate(_) if Guard::ElectedByMajority.holds(by_majority) => self.become_leader(step),
            // The whole timeout is waited for: losers that hurry only disturb the others.
            Role::Candidate(_) if lost && !Guard::LoserWaits.stands() => self.become_prospective(step),
            Role::Candidate(_) if lost => {
                if let Role::Candidate(campaign) = &mut self.role {
                    campaign.resend_at = i64::MAX;
                }
            }
            _ => {}
        }
    }

    fn become_leader(&mut self, step: &mut Step<'_>) {
        let Role::Candidate(campaign) = &self.role else { panic!("only a candidate is elected") };
        let majority = campaign.granted.len() >= self.voters().majority();
        assert!(Guard::ElectedByMajority.holds(majority), "a leader is elected by a majority");
        assert!(Guard::ElectedByMajority.holds(campaign.granted.contains(&self.me())));
        assert_eq!(self.state.voted.map(|voted| voted.id), Some(self.me()));
        let granted_by: Vec<i32> = campaign.granted.iter().copied().collect();
        let epoch = self.state.epoch;
        let epoch_start_offset = step.log.log_end_offset();
        assert!(step.log.last_epoch() < epoch, "the log has no record of a new epoch");
        assert!(self.high_watermark <= Some(epoch_start_offset), "what is committed is in the leader's log");
        self.state.leader = Some(self.me());
        let voters: Vec<i32> = self.voters().iter().map(|voter| voter.key.id).collect();
        let control = self.epoch_start_control();
        let leadership = Leadership::new(epoch_start_offset, self);
        self.enter(Role::Leader(leadership), step);
        for (offset, record) in (epoch_start_offset + 1..).zip(control.iter().cloned()) {
            self.history.add(offset, record);
        }
        self.follow_voters(step.now);
        step.perform(Effect::AppendLeaderChange { epoch, voters, granted_by, control });
        step.perform(Effect::FlushLog);
        self.send_begin_epoch(step);
    }

    /// What a new leader writes about the voters: all of it if the log has nothing of it yet (only the snapshot that the
    /// log began with does), or what it has to correct about itself.
    fn epoch_start_control(&self) -> Vec<Control> {
        let (level, own) = (self.history.kraft_version(), self.own_voter());
        let voters = self.history.voters();
        let missing = self.history.voters_offset() == Some(-1);
        if level == 0 || !(missing || voters.needs_update(&own)) {
            return Vec::new();
        }
        let voters = voters.with_updated(&own, false).expect("a leader is a voter");
        vec![Control::KRaftVersion(level), Control::Voters(voters)]
    }
}
