//! The state machine as a whole: what it remembers, how an event is taken, and the changes of role that all roles
//! share. Elections, leading and following have files of their own.

use std::collections::{BTreeSet, VecDeque};

use crate::election::Campaign;
use crate::event::{Effect, Event};
use crate::fetch::{Fetch, Following};
use crate::guard::Guard;
use crate::leader::Leadership;
use crate::message::{Leader, QuorumResponse, Refusal};
use crate::replica::{EpochLog, OffsetAndEpoch, QuorumState, ReplicaKey};
use crate::voters::{Control, Endpoints, History, VersionRange, Voter, Voters};

/// Who this replica is, and how long to wait. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This replica.
    pub me: ReplicaKey,
    /// Where it listens, for voters and observers.
    pub endpoints: Endpoints,
    /// Levels of kraft.version that it supports.
    pub kraft_versions: VersionRange,
    /// The voters of a quorum whose log names none (`controller.quorum.voters`); nobody if the log does.
    pub static_voters: Voters,
    /// How many servers can be asked who leads (`controller.quorum.bootstrap.servers`).
    pub bootstrap_servers: usize,
    /// Whether it may become a voter: it is a controller.
    pub may_vote: bool,
    /// Whether it asks to become one by itself (`controller.quorum.auto.join.enable`).
    pub auto_join: bool,
    /// Shortest time without a leader before standing for election; a random part of up to the same is added.
    pub election_timeout_ms: i64,
    /// Time without a successful fetch after which a follower stands for election; half as much again is how long a
    /// leader does without a majority.
    pub fetch_timeout_ms: i64,
    /// Longest pause before a successor of a leader that resigned stands for election.
    pub election_backoff_max_ms: i64,
    /// Time after which an unanswered request is sent again.
    pub request_timeout_ms: i64,
    /// Pause before a refused fetch is repeated.
    pub retry_backoff_ms: i64,
    /// How long a leader waits for more before it flushes what was appended.
    pub append_linger_ms: i64,
    /// Seed of all randomness; another one at every start.
    pub seed: u64,
}

/// Messages that wait for the quorum state to be on disk; more are dropped, as a network would.
const WITHHELD_MAX: usize = 4096;

/// One replica of the quorum.
#[derive(Debug, Clone)]
pub struct Raft {
    pub(crate) settings: Settings,
    pub(crate) history: History,
    pub(crate) state: QuorumState,
    /// Where the leader of the epoch listens; empty if that, or the leader, is not known.
    pub(crate) leader_endpoints: Endpoints,
    pub(crate) role: Role,
    /// The fetch of a follower, or of a replica that looks for the leader.
    pub(crate) fetch: Fetch,
    pub(crate) high_watermark: Option<i64>,
    /// The own log is on disk up to here.
    pub(crate) flushed_end: i64,
    pub(crate) request_last: u64,
    pub(crate) stopping: bool,
    /// The newest state that was handed out to be persisted, with its number.
    pub(crate) asked: (u64, QuorumState),
    pub(crate) persisted: u64,
    /// Messages, each with the number of the state that must be on disk before it may leave.
    pub(crate) withheld: VecDeque<(u64, Effect)>,
    announced: (i32, Option<i32>),
    announced_voters: Voters,
    started: bool,
    dice: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Role {
    Unattached { deadline: i64 },
    Prospective(Campaign),
    Candidate(Campaign),
    Leader(Leadership),
    Follower(Following),
    Resigned { deadline: i64, resend_at: i64, untold: BTreeSet<i32>, preferred: Vec<ReplicaKey> },
}

/// The roles by name, for descriptions and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Knows no leader that it can reach, and stands not for election.
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
    /// A replica that remembers `state`, and whose snapshot and log have these control records (those of the snapshot at
    /// the offset before its end). [`Event::Start`] sets it going.
    pub fn new(settings: Settings, state: QuorumState, control: Vec<(i64, Control)>) -> Raft {
        let dice = settings.seed ^ (settings.me.id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let history = History::new(settings.static_voters.clone(), control);
        let mut raft = Raft {
            announced_voters: history.voters().clone(),
            settings,
            history,
            state,
            leader_endpoints: Endpoints::from([]),
            role: Role::Unattached { deadline: i64::MAX },
            fetch: Fetch::Idle,
            high_watermark: None,
            flushed_end: 0,
            request_last: 0,
            stopping: false,
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
        self.take(event, &mut step);
        self.finish(step, led);
        assert!(self.state.epoch >= epoch, "epochs never go back");
        assert!(
            Guard::VoteOnce.holds(self.state.epoch > epoch || voted.is_none() || self.state.voted == voted),
            "one vote in an epoch"
        );
        assert!(self.high_watermark >= high_watermark, "the high watermark never goes back");
    }

    fn take(&mut self, event: Event, step: &mut Step<'_>) {
        match event {
            Event::Start => self.start(step),
            Event::Timeout => self.on_timeout(step),
            Event::QuorumStatePersisted { sequence } => self.on_persisted(sequence, step),
            Event::LogFlushed { end_offset } => self.on_log_flushed(end_offset, step),
            Event::Appended { bytes } => self.on_appended(bytes, step),
            Event::Resign => self.resign(step),
            Event::Stop => self.stop(step),
            Event::SnapshotLoaded { id, control } => self.on_snapshot_loaded(id, control, step),
            Event::LogPrefixDeleted => self.history.forget_before(step.log.log_start_offset()),
            Event::VoteRequest { token, request } => self.on_vote_request(token, &request, step),
            Event::VoteResponse { from, response } => self.on_vote_response(from, &response, step),
            Event::BeginQuorumEpochRequest { token, request } => self.on_begin_epoch(token, &request, step),
            Event::BeginQuorumEpochResponse { response, .. } => self.on_quorum_response(&response, step),
            Event::EndQuorumEpochRequest { token, request } => self.on_end_epoch(token, &request, step),
            Event::EndQuorumEpochResponse { from, response } => {
                if let (Role::Resigned { untold, .. }, None) = (&mut self.role, response.refusal) {
                    untold.remove(&from);
                }
                self.on_quorum_response(&response, step);
            }
            Event::FetchRequest { token, request } => self.on_fetch_request(token, &request, step),
            Event::FetchResponse { request, response } => self.on_fetch_response(request, response, step),
            Event::FetchSnapshotRequest { token, request } => {
                self.on_fetch_snapshot_request(token, &request, step);
            }
            Event::FetchSnapshotResponse { request, response } => {
                self.on_fetch_snapshot_response(request, &response, step);
            }
            Event::FetchFailed { request } => self.on_fetch_failed(request, step),
            Event::AddVoterRequest { token, request } => self.on_add_voter(token, request, step),
            Event::ApiVersionsResponse { request, kraft_versions } => {
                self.on_api_versions(request, kraft_versions, step);
            }
            Event::RemoveVoterRequest { token, request } => self.on_remove_voter(token, &request, step),
            Event::UpdateVoterRequest { token, request } => self.on_update_voter(token, &request, step),
            Event::UpdateVoterResponse { response } => self.on_update_voter_response(&response, step),
            Event::UpgradeKRaftVersion { level } => self.on_upgrade(level, step),
        }
    }

    /// When [`Event::Timeout`] is due; `None` if nothing is waited for.
    pub fn next_deadline(&self) -> Option<i64> {
        let deadline = match &self.role {
            Role::Unattached { deadline } => {
                let deadline = if self.stands_for_election() { *deadline } else { i64::MAX };
                deadline.min(self.fetch.next_deadline())
            }
            Role::Prospective(campaign) | Role::Candidate(campaign) => campaign.next_deadline(),
            Role::Leader(leadership) => leadership.next_deadline(),
            Role::Follower(following) => {
                let fetch_deadline =
                    if self.stands_for_election() { following.fetch_deadline } else { i64::MAX };
                fetch_deadline.min(following.update_at).min(self.fetch.next_deadline())
            }
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

    /// The leader of that epoch, and where to reach it as far as that is known.
    pub fn known_leader(&self) -> Option<Leader> {
        let own = self.state.leader == Some(self.me());
        let endpoints = if own { &self.settings.endpoints } else { &self.leader_endpoints };
        self.state.leader.map(|id| Leader { id, endpoints: endpoints.clone() })
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

    /// Who this replica is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The voters that count now: the newest of the log, committed or not.
    pub fn voters(&self) -> &Voters {
        if !Guard::NewestVoters.stands() {
            return self.history.voters_at(self.high_watermark.unwrap_or(0) - 1);
        }
        self.history.voters()
    }

    /// The level of kraft.version that counts now.
    pub fn kraft_version(&self) -> i16 {
        self.history.kraft_version()
    }

    /// Voters and level of kraft.version as of `offset`, inclusive: for a snapshot that ends after it.
    pub fn voters_at(&self, offset: i64) -> (&Voters, i16) {
        (self.history.voters_at(offset), self.history.kraft_version_at(offset))
    }

    /// Whether this replica votes.
    pub fn is_voter(&self) -> bool {
        self.voters().contains(&self.settings.me)
    }

    /// Whether a node that was told to stop may do so: nobody waits for it to pass its leadership on.
    pub fn can_stop(&self) -> bool {
        let alone = self.voters().len() == 1;
        !self.is_voter() || alone || self.state.leader.is_some_and(|leader| leader != self.me())
    }

    pub(crate) fn me(&self) -> i32 {
        self.settings.me.id
    }

    /// This replica as a voter describes itself.
    pub(crate) fn own_voter(&self) -> Voter {
        Voter {
            key: self.settings.me,
            endpoints: self.settings.endpoints.clone(),
            kraft_versions: self.settings.kraft_versions,
        }
    }

    pub(crate) fn stands_for_election(&self) -> bool {
        self.is_voter() && !self.stopping
    }

    /// The voters on other nodes.
    pub(crate) fn peers(&self) -> Vec<ReplicaKey> {
        self.voters().iter().map(|voter| voter.key).filter(|key| key.id != self.me()).collect()
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
        // A snapshot has only what was committed.
        let snapshot = step.log.latest_snapshot().map_or(0, |id| id.offset).min(self.flushed_end);
        let committed = snapshot.max(step.log.log_start_offset());
        if committed > 0 {
            self.high_watermark = Some(committed);
            step.perform(Effect::HighWatermark { offset: committed });
        }
        if step.log.last_epoch() > self.state.epoch {
            // The log knows of an epoch that the state file does not: nobody was voted for in it.
            self.state = QuorumState { epoch: step.log.last_epoch(), leader: None, voted: None };
        }
        let endpoints = self.state.leader.and_then(|leader| self.voters().endpoints(leader)).cloned();
        match (self.state.leader, endpoints) {
            _ if self.voters().len() == 1 && self.is_voter() => self.become_candidate(step),
            // A leader that comes back does not know what it promised: the epoch is over for it.
            (Some(leader), _) if leader == self.me() => self.become_resigned(Vec::new(), step),
            (Some(id), Some(endpoints)) => {
                self.become_follower(self.state.epoch, Leader { id, endpoints }, step);
            }
            _ => self.become_unattached(self.state.epoch, step),
        }
    }

    fn stop(&mut self, step: &mut Step<'_>) {
        self.stopping = true;
        self.resign(step);
    }

    fn on_timeout(&mut self, step: &mut Step<'_>) {
        match &self.role {
            Role::Unattached { deadline } if step.now >= *deadline && self.stands_for_election() => {
                self.become_prospective(step);
            }
            Role::Unattached { .. } => self.on_fetch_timeout(step),
            Role::Prospective(_) | Role::Candidate(_) => self.on_campaign_timeout(step),
            Role::Leader(_) => self.on_leader_timeout(step),
            Role::Follower(_) => self.on_follower_timeout(step),
            Role::Resigned { deadline, .. } if step.now >= *deadline => {
                // Nobody leads the epoch any more, and in it this node can vote for nobody else: go on to the next.
                self.become_unattached(self.state.epoch + 1, step);
            }
            Role::Resigned { resend_at, .. } if step.now >= *resend_at => self.send_end_epoch(step),
            Role::Resigned { .. } => {}
        }
    }

    fn on_persisted(&mut self, sequence: u64, step: &mut Step<'_>) {
        assert!(sequence <= self.asked.0, "a state was persisted that nobody asked for");
        self.persisted = self.persisted.max(sequence);
        while let Some((_, effect)) = self.withheld.pop_front_if(|(after, _)| *after <= self.persisted) {
            step.perform(effect);
        }
        self.count_own_vote(step);
    }

    /// Whether all that this node remembers is on disk.
    pub(crate) fn is_persisted(&self) -> bool {
        self.asked.1 == self.state && self.persisted == self.asked.0
    }

    fn on_log_flushed(&mut self, end_offset: i64, step: &mut Step<'_>) {
        assert!(end_offset <= step.log.log_end_offset(), "what is flushed is in the log");
        self.flushed_end = self.flushed_end.max(end_offset);
        match &self.role {
            Role::Leader(_) => self.advance_high_watermark(step),
            Role::Follower(_) | Role::Unattached { .. } => self.on_fetcher_flushed(step),
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
        if self.announced_voters != *self.history.voters() {
            self.announced_voters = self.history.voters().clone();
            step.perform(Effect::VotersChanged { voters: self.announced_voters.clone() });
        }
        for message in std::mem::take(&mut step.messages) {
            if Guard::MessageAfterState.holds(self.is_persisted()) {
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
    pub(crate) fn learn(&mut self, epoch: i32, leader: Option<&Leader>, step: &mut Step<'_>) -> bool {
        // That this node itself leads it knows better; and who can not be reached can not be followed.
        let other = leader.filter(|leader| leader.id != self.me()).and_then(|leader| self.reachable(leader));
        if epoch > self.state.epoch {
            match other {
                Some(leader) => self.become_follower(epoch, leader, step),
                None => self.become_unattached(epoch, step),
            }
            return true;
        }
        let (Some(claimed), true) = (leader, epoch == self.state.epoch) else { return true };
        let reached = self.state.leader.is_some() && !self.leader_endpoints.is_empty();
        match (self.state.leader, other) {
            (Some(known), _) if known != claimed.id => false,
            (_, Some(leader)) if !reached => {
                self.become_follower(epoch, leader, step);
                true
            }
            _ => true,
        }
    }

    fn reachable(&self, leader: &Leader) -> Option<Leader> {
        if !leader.endpoints.is_empty() {
            return Some(leader.clone());
        }
        let endpoints = self.voters().endpoints(leader.id)?.clone();
        Some(Leader { id: leader.id, endpoints })
    }

    pub(crate) fn on_quorum_response(&mut self, response: &QuorumResponse, step: &mut Step<'_>) {
        if valid_epoch(response.epoch) {
            self.learn(response.epoch, response.leader.as_ref(), step);
        }
    }

    pub(crate) fn quorum_response(&self, refusal: Option<Refusal>) -> QuorumResponse {
        QuorumResponse { refusal, epoch: self.state.epoch, leader: self.known_leader() }
    }

    /// Whether a request that names its receiver named this replica, and whether its epoch can be.
    pub(crate) fn check_request(&self, epoch: i32, receiver: Option<ReplicaKey>) -> Result<(), Refusal> {
        if !valid_epoch(epoch) {
            return Err(Refusal::InvalidRequest);
        }
        if !Guard::VoteAsked.holds(receiver.is_none_or(|receiver| receiver.covers(&self.settings.me))) {
            return Err(Refusal::InvalidVoter);
        }
        if epoch < self.state.epoch {
            return Err(Refusal::FencedEpoch);
        }
        Ok(())
    }

    /// Whether a request that only the leader of `epoch` answers is answered here.
    pub(crate) fn check_leads(&self, epoch: i32) -> Result<(), Refusal> {
        if !valid_epoch(epoch) {
            return Err(Refusal::InvalidRequest);
        }
        if !Guard::FetchOfThisEpoch.holds(epoch >= self.state.epoch) {
            return Err(Refusal::FencedEpoch);
        }
        if epoch > self.state.epoch {
            return Err(Refusal::UnknownEpoch);
        }
        if matches!(self.role, Role::Leader(_)) { Ok(()) } else { Err(Refusal::NotLeader) }
    }

    /// Leaves a role for another one.
    pub(crate) fn enter(&mut self, role: Role, step: &mut Step<'_>) {
        self.fetch = Fetch::Idle;
        let left = std::mem::replace(&mut self.role, role);
        if let Role::Leader(leadership) = left {
            self.refuse_pending_change(leadership, step);
        }
    }

    pub(crate) fn become_unattached(&mut self, epoch: i32, step: &mut Step<'_>) {
        assert!(epoch >= self.state.epoch, "epochs never go back");
        // Whoever waits for its turn goes on waiting for it: others that stand again and again do not put it off.
        let deadline = match &self.role {
            _ if !self.is_voter() => i64::MAX,
            Role::Unattached { deadline } if *deadline != i64::MAX => *deadline,
            Role::Resigned { deadline, .. } => *deadline,
            Role::Candidate(campaign) => campaign.deadline,
            Role::Prospective(campaign) if !self.is_lost(campaign) => campaign.deadline,
            _ => self.election_deadline(step.now),
        };
        if epoch > self.state.epoch {
            self.state = QuorumState { epoch, leader: None, voted: None };
            self.leader_endpoints = Endpoints::from([]);
        }
        self.enter(Role::Unattached { deadline }, step);
        self.fetch_next(true, step);
    }

    pub(crate) fn become_resigned(&mut self, preferred: Vec<ReplicaKey>, step: &mut Step<'_>) {
        assert_eq!(self.state.leader, Some(self.me()), "only a leader resigns");
        let untold: BTreeSet<i32> = self.peers().iter().map(|peer| peer.id).collect();
        let deadline = self.election_deadline(step.now);
        self.enter(Role::Resigned { deadline, resend_at: step.now, untold, preferred }, step);
        self.send_end_epoch(step);
    }
}

/// Epochs that a peer may teach: not negative, and far from the end, so that there is always a next one.
pub(crate) fn valid_epoch(epoch: i32) -> bool {
    (0..i32::MAX / 2).contains(&epoch)
}
