//! The state machine as a whole: what it remembers, how an event is taken, and the changes of role that all roles
//! share. Elections, leading and following have files of their own.

use std::collections::{BTreeSet, VecDeque};

use crate::election::Campaign;
use crate::event::{Effect, Event};
use crate::follower::Following;
use crate::leader::Leadership;
use crate::message::Refusal;

/// A replica: a node and the disk that it votes with. A node whose disk was wiped is another replica, so that it can
/// not vote twice (KIP-853).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaKey {
    /// Node id.
    pub id: i32,
    /// `directory.id` of its metadata log directory; all zero if not known.
    pub directory_id: [u8; 16],
}

impl ReplicaKey {
    /// Whether both may be the same replica: equal ids, and directories that are equal or not known.
    pub fn matches(&self, other: &ReplicaKey) -> bool {
        let unknown = [0; 16];
        let directories = self.directory_id == other.directory_id
            || self.directory_id == unknown
            || other.directory_id == unknown;
        self.id == other.id && directories
    }

    /// Whether a vote that was given to `self` is a vote for `candidate`: the same disk, unless none was named.
    pub(crate) fn is_voted_key_of(&self, candidate: &ReplicaKey) -> bool {
        self.id == candidate.id
            && (self.directory_id == [0; 16] || self.directory_id == candidate.directory_id)
    }
}

/// A position in a log: an end, exclusive, and the epoch of the record before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAndEpoch {
    /// Offset, exclusive.
    pub offset: i64,
    /// Quorum epoch.
    pub epoch: i32,
}

/// What is remembered over restarts (the file `quorum-state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuorumState {
    /// The newest epoch that this node has seen.
    pub epoch: i32,
    /// The leader of that epoch, if known.
    pub leader: Option<i32>,
    /// Whom this node voted for in that epoch.
    pub voted: Option<ReplicaKey>,
}

/// What the state machine asks about the log; it never writes to it, but by effects.
pub trait EpochLog {
    /// Offset that the next record will get.
    fn log_end_offset(&self) -> i64;
    /// First offset that can still be read.
    fn log_start_offset(&self) -> i64;
    /// Epoch of the last record; 0 for an empty log.
    fn last_epoch(&self) -> i32;
    /// The largest epoch that has records and is not beyond `epoch`, with the end of its records; `(start, 0)` of the
    /// log if there is none.
    fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch;
}

/// Who takes part, and how long to wait. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This replica.
    pub me: ReplicaKey,
    /// All voters, this replica among them.
    pub voters: Vec<ReplicaKey>,
    /// Shortest time without a leader before standing for election; a random part of up to the same is added.
    pub election_timeout_ms: i64,
    /// Time without a successful fetch after which a follower stands for election; half as much again is how long a
    /// leader does without a majority.
    pub fetch_timeout_ms: i64,
    /// Longest random pause after a lost election.
    pub election_backoff_max_ms: i64,
    /// Time after which an unanswered request is sent again.
    pub request_timeout_ms: i64,
    /// Pause before a refused fetch is repeated.
    pub retry_backoff_ms: i64,
    /// Seed of all randomness; another one at every start.
    pub seed: u64,
}

/// Messages that wait for the quorum state to be on disk; more are dropped, as a network would.
const WITHHELD_MAX: usize = 4096;

/// One replica of the quorum.
#[derive(Debug)]
pub struct Raft {
    pub(crate) settings: Settings,
    pub(crate) state: QuorumState,
    pub(crate) role: Role,
    pub(crate) high_watermark: Option<i64>,
    /// The own log is on disk up to here.
    pub(crate) flushed_end: i64,
    pub(crate) request_last: u64,
    /// The newest state that was handed out to be persisted, with its number.
    asked: (u64, QuorumState),
    persisted: u64,
    /// Messages, each with the number of the state that must be on disk before it may leave.
    withheld: VecDeque<(u64, Effect)>,
    announced: (i32, Option<i32>),
    started: bool,
    dice: u64,
}

#[derive(Debug)]
pub(crate) enum Role {
    Unattached { deadline: i64 },
    Prospective(Campaign),
    Candidate(Campaign),
    Leader(Leadership),
    Follower(Following),
    Resigned { deadline: i64, resend_at: i64, untold: BTreeSet<i32>, preferred: Vec<ReplicaKey> },
}

/// The roles by name, for descriptions and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleName {
    /// Knows no leader and stands not for election.
    Unattached,
    /// Asks whether it would be elected.
    Prospective,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Follows a leader.
    Follower,
    /// Led, and gave it up.
    Resigned,
}

/// One event being taken: the time, the log, and where effects go.
pub(crate) struct Step<'a> {
    pub now: i64,
    pub log: &'a dyn EpochLog,
    out: &'a mut Vec<Effect>,
    messages: Vec<Effect>,
}

impl Step<'_> {
    /// A deed of this node itself.
    pub fn perform(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    /// A message, which speaks for what this node remembers and so leaves when that is on disk.
    pub fn send(&mut self, effect: Effect) {
        self.messages.push(effect);
    }

    pub fn log_end(&self) -> OffsetAndEpoch {
        OffsetAndEpoch { offset: self.log.log_end_offset(), epoch: self.log.last_epoch() }
    }
}

impl Raft {
    /// A replica that remembers `state`. [`Event::Start`] sets it going.
    ///
    /// # Panics
    /// If this replica is not among the voters, or two voters have one id.
    pub fn new(settings: Settings, state: QuorumState) -> Raft {
        let ids: BTreeSet<i32> = settings.voters.iter().map(|voter| voter.id).collect();
        assert_eq!(ids.len(), settings.voters.len(), "each voter has its own id");
        assert!(settings.voters.iter().any(|voter| voter.matches(&settings.me)), "this replica is a voter");
        let dice = settings.seed ^ (settings.me.id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut raft = Raft {
            settings,
            state,
            role: Role::Unattached { deadline: i64::MAX },
            high_watermark: None,
            flushed_end: 0,
            request_last: 0,
            asked: (0, state),
            persisted: 0,
            withheld: VecDeque::new(),
            announced: (state.epoch, state.leader),
            started: false,
            dice,
        };
        // Numbers of an earlier life must not be taken for those of this one.
        raft.request_last = raft.dice.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 2;
        raft
    }

    /// Takes one event and appends what is to be done to `out`. `now` never goes back.
    pub fn on(&mut self, event: Event, now: i64, log: &dyn EpochLog, out: &mut Vec<Effect>) {
        assert!(self.started != matches!(event, Event::Start), "Start is the first event, and comes once");
        let (epoch, high_watermark, led) = (self.state.epoch, self.high_watermark, self.leading_epoch());
        let voted = self.state.voted;
        let mut step = Step { now, log, out, messages: Vec::new() };
        match event {
            Event::Start => self.start(&mut step),
            Event::Timeout => self.on_timeout(&mut step),
            Event::QuorumStatePersisted { sequence } => self.on_persisted(sequence, &mut step),
            Event::LogFlushed { end_offset } => self.on_log_flushed(end_offset, &mut step),
            Event::Appended => {
                assert!(led.is_some(), "only a leader appends");
                step.perform(Effect::FlushLog);
            }
            Event::Resign => self.resign(&mut step),
            Event::VoteRequest { token, request } => self.on_vote_request(token, &request, &mut step),
            Event::VoteResponse { from, response } => self.on_vote_response(from, &response, &mut step),
            Event::BeginQuorumEpochRequest { token, request } => {
                self.on_begin_epoch(token, &request, &mut step)
            }
            Event::BeginQuorumEpochResponse { response, .. } => {
                self.on_epoch_response(response.epoch, response.leader, &mut step);
            }
            Event::EndQuorumEpochRequest { token, request } => self.on_end_epoch(token, &request, &mut step),
            Event::EndQuorumEpochResponse { from, response } => {
                if let (Role::Resigned { untold, .. }, None) = (&mut self.role, response.refusal) {
                    untold.remove(&from);
                }
                self.on_epoch_response(response.epoch, response.leader, &mut step);
            }
            Event::FetchRequest { token, request } => self.on_fetch_request(token, &request, &mut step),
            Event::FetchResponse { request, response } => {
                self.on_fetch_response(request, &response, &mut step);
            }
        }
        self.finish(step, led);
        assert!(self.state.epoch >= epoch, "epochs never go back");
        assert!(
            self.state.epoch > epoch || voted.is_none() || self.state.voted == voted,
            "one vote in an epoch"
        );
        assert!(self.high_watermark >= high_watermark, "the high watermark never goes back");
    }

    /// When [`Event::Timeout`] is due; `None` if nothing is waited for.
    pub fn next_deadline(&self) -> Option<i64> {
        let deadline = match &self.role {
            Role::Unattached { deadline } => *deadline,
            Role::Prospective(campaign) | Role::Candidate(campaign) => campaign.next_deadline(),
            Role::Leader(leadership) => leadership.next_deadline(),
            Role::Follower(following) => following.next_deadline(),
            Role::Resigned { deadline, resend_at, untold, .. } if !untold.is_empty() => {
                (*deadline).min(*resend_at)
            }
            Role::Resigned { deadline, .. } => *deadline,
        };
        Some(deadline).filter(|deadline| self.started && *deadline != i64::MAX)
    }

    /// The newest epoch seen.
    pub fn epoch(&self) -> i32 {
        self.state.epoch
    }

    /// The leader of that epoch, if known; this node itself also after it resigned.
    pub fn leader(&self) -> Option<i32> {
        self.state.leader
    }

    /// What is remembered, or is being written to be.
    pub fn quorum_state(&self) -> QuorumState {
        self.state
    }

    /// Everything below is committed; `None` until that is known.
    pub fn high_watermark(&self) -> Option<i64> {
        self.high_watermark
    }

    /// The role at the moment.
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Unattached { .. } => RoleName::Unattached,
            Role::Prospective(_) => RoleName::Prospective,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
            Role::Follower(_) => RoleName::Follower,
            Role::Resigned { .. } => RoleName::Resigned,
        }
    }

    /// The epoch that this node leads, if it leads.
    pub fn leading_epoch(&self) -> Option<i32> {
        matches!(self.role, Role::Leader(_)).then_some(self.state.epoch)
    }

    /// The voters and the own key.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn me(&self) -> i32 {
        self.settings.me.id
    }

    pub(crate) fn majority(&self) -> usize {
        self.settings.voters.len() / 2 + 1
    }

    pub(crate) fn peers(&self) -> Vec<ReplicaKey> {
        self.settings.voters.iter().filter(|voter| voter.id != self.me()).copied().collect()
    }

    pub(crate) fn is_voter(&self, id: i32) -> bool {
        self.settings.voters.iter().any(|voter| voter.id == id)
    }

    /// A number from 0 to `bound`, inclusive (splitmix64).
    pub(crate) fn random(&mut self, bound: i64) -> i64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z % (bound.max(0) as u64 + 1)) as i64
    }

    pub(crate) fn election_deadline(&mut self, now: i64) -> i64 {
        let timeout = self.settings.election_timeout_ms;
        now + timeout + self.random(timeout)
    }

    fn start(&mut self, step: &mut Step<'_>) {
        self.started = true;
        self.flushed_end = step.log.log_end_offset();
        if step.log.last_epoch() > self.state.epoch {
            // The log knows of an epoch that the state file does not: nobody was voted for in it.
            self.state = QuorumState { epoch: step.log.last_epoch(), leader: None, voted: None };
        }
        match self.state.leader {
            _ if self.settings.voters.len() == 1 => self.become_candidate(step),
            // A leader that comes back does not know what it promised: the epoch is over for it.
            Some(leader) if leader == self.me() => self.become_resigned(Vec::new(), step),
            Some(leader) if self.is_voter(leader) => self.become_follower(self.state.epoch, leader, step),
            _ => {
                let deadline = self.election_deadline(step.now);
                self.role = Role::Unattached { deadline };
            }
        }
    }

    fn on_timeout(&mut self, step: &mut Step<'_>) {
        match &self.role {
            Role::Unattached { deadline } if step.now >= *deadline => self.become_prospective(step),
            Role::Prospective(_) | Role::Candidate(_) => self.on_campaign_timeout(step),
            Role::Leader(_) => self.on_leader_timeout(step),
            Role::Follower(_) => self.on_follower_timeout(step),
            Role::Resigned { deadline, .. } if step.now >= *deadline => {
                // Nobody leads the epoch any more, and in it this node can vote for nobody else: go on to the next.
                self.become_unattached(self.state.epoch + 1, step);
            }
            Role::Resigned { resend_at, .. } if step.now >= *resend_at => self.send_end_epoch(step),
            Role::Unattached { .. } | Role::Resigned { .. } => {}
        }
    }

    fn on_persisted(&mut self, sequence: u64, step: &mut Step<'_>) {
        assert!(sequence <= self.asked.0, "a state was persisted that nobody asked for");
        self.persisted = self.persisted.max(sequence);
        while let Some((_, effect)) = self.withheld.pop_front_if(|(after, _)| *after <= self.persisted) {
            step.perform(effect);
        }
        if self.persisted == self.asked.0 && matches!(self.role, Role::Candidate(_)) {
            self.count_vote(self.me(), true, step);
        }
    }

    fn on_log_flushed(&mut self, end_offset: i64, step: &mut Step<'_>) {
        assert!(end_offset <= step.log.log_end_offset(), "what is flushed is in the log");
        self.flushed_end = self.flushed_end.max(end_offset);
        match &self.role {
            Role::Leader(_) => self.advance_high_watermark(step),
            Role::Follower(_) => self.on_follower_flushed(step),
            _ => {}
        }
    }

    /// Asks for what changed to be remembered, and lets messages go or keeps them back.
    fn finish(&mut self, mut step: Step<'_>, led: Option<i32>) {
        if self.state != self.asked.1 {
            self.asked = (self.asked.0 + 1, self.state);
            step.perform(Effect::PersistQuorumState { sequence: self.asked.0, state: self.state });
        }
        if let Some(epoch) = led.filter(|_| self.leading_epoch() != led) {
            step.perform(Effect::StoppedLeading { epoch });
        }
        if self.announced != (self.state.epoch, self.state.leader) {
            self.announced = (self.state.epoch, self.state.leader);
            step.perform(Effect::LeaderChanged { epoch: self.state.epoch, leader: self.state.leader });
        }
        for message in std::mem::take(&mut step.messages) {
            if self.persisted == self.asked.0 {
                step.perform(message);
            } else if self.withheld.len() < WITHHELD_MAX {
                self.withheld.push_back((self.asked.0, message));
            }
        }
        if matches!(self.role, Role::Leader(_)) {
            assert!(self.state.leader == Some(self.me()), "a leader knows that it leads");
            assert!(self.state.voted.is_some_and(|voted| voted.id == self.me()), "a leader voted for itself");
        }
        if let (Role::Follower(_), Some(leader)) = (&self.role, self.state.leader) {
            assert!(leader != self.me(), "nobody follows itself");
        }
    }

    /// Takes in what a message says about the newest epoch. False if it contradicts what is known: then the sender
    /// is confused and gets no further.
    pub(crate) fn learn(&mut self, epoch: i32, leader: Option<i32>, step: &mut Step<'_>) -> bool {
        let other = leader.filter(|leader| *leader != self.me() && self.is_voter(*leader));
        if epoch > self.state.epoch {
            match other {
                Some(leader) => self.become_follower(epoch, leader, step),
                None => self.become_unattached(epoch, step),
            }
            return true;
        }
        if epoch < self.state.epoch {
            return true;
        }
        match (self.state.leader, leader) {
            (None, Some(_)) => {
                if let Some(leader) = other {
                    self.become_follower(epoch, leader, step);
                }
                true
            }
            (Some(known), Some(leader)) => known == leader,
            (_, None) => true,
        }
    }

    fn on_epoch_response(&mut self, epoch: i32, leader: Option<i32>, step: &mut Step<'_>) {
        if valid_epoch(epoch) {
            self.learn(epoch, leader, step);
        }
    }

    /// Whether a request that names its receiver named this replica, and whether its epoch can be.
    pub(crate) fn check_request(&self, epoch: i32, receiver: Option<ReplicaKey>) -> Result<(), Refusal> {
        if !valid_epoch(epoch) {
            return Err(Refusal::InvalidRequest);
        }
        if receiver.is_some_and(|receiver| !receiver.matches(&self.settings.me)) {
            return Err(Refusal::InvalidVoter);
        }
        if epoch < self.state.epoch {
            return Err(Refusal::FencedEpoch);
        }
        Ok(())
    }

    pub(crate) fn become_unattached(&mut self, epoch: i32, step: &mut Step<'_>) {
        assert!(epoch >= self.state.epoch, "epochs never go back");
        if epoch > self.state.epoch {
            self.state = QuorumState { epoch, leader: None, voted: None };
        }
        assert!(self.state.leader.is_none(), "an epoch with a leader is not left for nobody");
        let deadline = self.election_deadline(step.now);
        self.role = Role::Unattached { deadline };
    }

    pub(crate) fn become_resigned(&mut self, preferred: Vec<ReplicaKey>, step: &mut Step<'_>) {
        assert_eq!(self.state.leader, Some(self.me()), "only a leader resigns");
        let untold: BTreeSet<i32> = self.peers().iter().map(|peer| peer.id).collect();
        let deadline = if untold.is_empty() { i64::MAX } else { self.election_deadline(step.now) };
        self.role = Role::Resigned { deadline, resend_at: step.now, untold, preferred };
        self.send_end_epoch(step);
    }
}

/// Epochs that a peer may teach: not negative, and far from the end, so that there is always a next one.
pub(crate) fn valid_epoch(epoch: i32) -> bool {
    (0..i32::MAX / 2).contains(&epoch)
}
