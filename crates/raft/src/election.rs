//! Elections: who may have a vote, asking for pre-votes and votes, and winning (KIP-595, KIP-996).
//!
//! A pre-vote promises nothing, so anyone may give one whose log is not ahead of the asker's, except a node that hears
//! from a living leader. A vote is given once in an epoch, and leaves this node when it is on disk.

use std::collections::BTreeSet;

use crate::event::Effect;
use crate::leader::Leadership;
use crate::message::{Refusal, VoteRequest, VoteResponse};
use crate::raft::{QuorumState, Raft, ReplicaKey, Role, Step, valid_epoch};

/// A round of questions to the voters.
#[derive(Debug)]
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
        self.role = Role::Prospective(campaign);
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
        let campaign = self.new_campaign(step.now);
        self.role = Role::Candidate(campaign);
        // The own vote counts when it is on disk: on_persisted.
        self.send_votes(step);
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
        match self.state.leader {
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
                assert!(self.state.voted.is_none_or(|voted| voted.matches(&request.candidate)));
                self.state.voted = self.state.voted.or(Some(request.candidate));
                let later = self.election_deadline(step.now);
                if let Role::Unattached { deadline } = &mut self.role {
                    *deadline = later;
                }
            }
        }
        let (epoch, leader) = (self.state.epoch, self.state.leader);
        let response = VoteResponse { refusal: checked.err(), epoch, leader, granted };
        step.send(Effect::RespondVote { token, response });
    }

    /// Kafka's `canGrantVote` of each state; the request's epoch is this node's.
    fn can_grant(&self, request: &VoteRequest, step: &Step<'_>) -> bool {
        let own = step.log_end();
        let theirs = request.log_end;
        let up_to_date = (theirs.epoch, theirs.offset) >= (own.epoch, own.offset);
        match (&self.role, request.pre_vote) {
            (Role::Unattached { .. } | Role::Prospective(_), true) => up_to_date,
            (Role::Candidate(_) | Role::Resigned { .. }, true) => up_to_date,
            (Role::Follower(following), true) => up_to_date && !following.has_fetched,
            (Role::Leader(_), true) => false,
            (Role::Unattached { .. } | Role::Prospective(_), false) => match self.state.voted {
                Some(voted) => voted.is_voted_key_of(&request.candidate),
                None => self.state.leader.is_none() && up_to_date,
            },
            // These voted for themselves, or know who leads.
            (Role::Candidate(_) | Role::Resigned { .. } | Role::Leader(_) | Role::Follower(_), false) => {
                false
            }
        }
    }

    pub(crate) fn on_vote_response(&mut self, from: i32, response: &VoteResponse, step: &mut Step<'_>) {
        if !valid_epoch(response.epoch) || !self.is_voter(from) || from == self.me() {
            return;
        }
        let consistent = self.learn(response.epoch, response.leader, step);
        // Answers from an older epoch of this node count for nothing; what a newer one says was just learned.
        if consistent && response.epoch == self.state.epoch && response.refusal.is_none() {
            self.count_vote(from, response.granted, step);
        }
    }

    /// Counts one answer, and draws the conclusion if there is one. The first answer of a voter counts.
    pub(crate) fn count_vote(&mut self, from: i32, granted: bool, step: &mut Step<'_>) {
        let majority = self.majority();
        let voters = self.settings.voters.len();
        let (Role::Prospective(campaign) | Role::Candidate(campaign)) = &mut self.role else { return };
        if campaign.granted.contains(&from) || campaign.rejected.contains(&from) {
            return;
        }
        if granted {
            campaign.granted.insert(from);
        } else {
            campaign.rejected.insert(from);
        }
        let won = campaign.granted.len() >= majority;
        let lost = campaign.rejected.len() > voters - majority;
        let just_lost = !granted && campaign.rejected.len() == voters - majority + 1;
        assert!(!(won && lost), "an election is not won and lost");
        match self.role {
            Role::Prospective(_) if won => self.become_candidate(step),
            Role::Prospective(_) if lost => self.give_up_prospect(step),
            Role::Candidate(_) if won => self.become_leader(step),
            Role::Candidate(_) if just_lost => {
                // The whole timeout is waited for, and a little more: losers that hurry only disturb the others.
                let pause = self.random(self.settings.election_backoff_max_ms);
                if let Role::Candidate(campaign) = &mut self.role {
                    campaign.deadline += pause;
                    campaign.resend_at = i64::MAX;
                }
            }
            _ => {}
        }
    }

    fn become_leader(&mut self, step: &mut Step<'_>) {
        let Role::Candidate(campaign) = &self.role else { panic!("only a candidate is elected") };
        assert!(campaign.granted.contains(&self.me()), "a leader's own vote is on disk");
        assert!(campaign.granted.len() >= self.majority());
        assert_eq!(self.state.voted.map(|voted| voted.id), Some(self.me()));
        let granted_by: Vec<i32> = campaign.granted.iter().copied().collect();
        let epoch = self.state.epoch;
        let epoch_start_offset = step.log.log_end_offset();
        assert!(step.log.last_epoch() < epoch, "the log has no record of a new epoch");
        assert!(self.high_watermark <= Some(epoch_start_offset), "what is committed is in the leader's log");
        self.state.leader = Some(self.me());
        let leadership = Leadership::new(epoch_start_offset, step.now, &self.settings);
        self.role = Role::Leader(leadership);
        step.perform(Effect::AppendLeaderChange { epoch, granted_by });
        step.perform(Effect::FlushLog);
        step.perform(Effect::BecameLeader { epoch, epoch_start_offset });
        self.send_begin_epoch(step);
    }
}
