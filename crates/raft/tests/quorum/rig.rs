//! Whole quorums without a network: nodes, a queue of things to come by virtual time, and the promises of KRaft
//! checked at every step.
//!
//! - election safety: an epoch has at most one leader;
//! - log matching: two logs that have the same epoch at an offset are the same up to it;
//! - leader completeness: a new leader has every committed record;
//! - committed is committed: what is below a high watermark never changes, on no node, and is on the disks of a
//!   majority when the leader says so;
//! - a vote that leaves a node is on its disk.

use std::collections::{BTreeMap, BTreeSet};

use ottla_raft::*;

use crate::store::{Record, Store};

/// Randomness of a run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound.max(1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// A message on the wire. Requests carry the sender's number for it, answers bring it back.
#[derive(Debug, Clone)]
enum Message {
    Vote(VoteRequest),
    VoteAnswer(VoteResponse),
    Begin(BeginQuorumEpochRequest),
    BeginAnswer(QuorumEpochResponse),
    End(EndQuorumEpochRequest),
    EndAnswer(QuorumEpochResponse),
    Fetch(FetchRequest),
    FetchAnswer(u64, FetchResponse, Vec<Record>, usize),
}

#[derive(Debug, Clone)]
enum Happening {
    Deliver { from: Life, to: i32, life: Option<u32>, message: Message },
    Persisted { node: i32, life: u32, sequence: u64, state: QuorumState },
    Flushed { node: i32, life: u32, end: usize, truncations: u64 },
    Timeout { node: i32, life: u32 },
    WakeFetch { node: i32, life: u32, token: u64 },
}

#[derive(Debug)]
struct Node {
    raft: Option<Raft>,
    store: Store,
    /// How often it was started; what was meant for an earlier life is lost.
    life: u32,
    timer: Option<i64>,
    /// Requests under way here: from whom, in which life of theirs, and for fetches the number and the vote's asker.
    tokens: BTreeMap<u64, Asked>,
    /// Fetches that wait for records: offset and what the asker knows to be committed.
    parked: BTreeMap<u64, (i64, Option<i64>)>,
    arrived: BTreeMap<u64, (usize, Vec<Record>)>,
}

/// A node in one of its lives: what it asked in one is not answered in the next, as connections do not outlive it.
#[derive(Debug, Clone, Copy)]
struct Life {
    node: i32,
    life: u32,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    from: Life,
    request: u64,
    vote: Option<(i32, ReplicaKey)>,
}

/// How bad the world is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub delay_max_ms: u64,
    pub disk_max_ms: u64,
}

pub struct Rig {
    nodes: BTreeMap<i32, Node>,
    pub now: i64,
    queue: BTreeMap<(i64, u64), Happening>,
    order: u64,
    tokens: u64,
    pub dice: Dice,
    pub weather: Weather,
    /// Directed links that are cut.
    pub cut: BTreeSet<(i32, i32)>,
    leaders: BTreeMap<i32, i32>,
    committed: Vec<Record>,
    /// A digest of what happened, for comparing two runs of one seed; kept if there is one to begin with.
    pub trace: Option<u64>,
}

pub fn key(id: i32) -> ReplicaKey {
    ReplicaKey { id, directory_id: [id as u8; 16] }
}

pub fn settings(id: i32, voters: i32, seed: u64) -> Settings {
    Settings {
        me: key(id),
        voters: (1..=voters).map(key).collect(),
        election_timeout_ms: 100,
        fetch_timeout_ms: 200,
        election_backoff_max_ms: 50,
        request_timeout_ms: 60,
        retry_backoff_ms: 10,
        seed,
    }
}

/// How long a fetch waits at the leader.
const FETCH_WAIT_MS: i64 = 40;

impl Rig {
    pub fn new(voters: i32, seed: u64, weather: Weather) -> Rig {
        let mut rig = Rig {
            nodes: BTreeMap::new(),
            now: 0,
            queue: BTreeMap::new(),
            order: 0,
            tokens: 0,
            dice: Dice::new(seed),
            weather,
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            trace: None,
        };
        for id in 1..=voters {
            let node = Node {
                raft: None,
                store: Store::default(),
                life: 0,
                timer: None,
                tokens: BTreeMap::new(),
                parked: BTreeMap::new(),
                arrived: BTreeMap::new(),
            };
            rig.nodes.insert(id, node);
        }
        rig
    }

    pub fn ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    pub fn is_up(&self, id: i32) -> bool {
        self.nodes[&id].raft.is_some()
    }

    pub fn raft(&self, id: i32) -> &Raft {
        self.nodes[&id].raft.as_ref().expect("the node is up")
    }

    pub fn store(&self, id: i32) -> &Store {
        &self.nodes[&id].store
    }

    pub fn committed(&self) -> &[Record] {
        &self.committed
    }

    /// The running leader of the newest epoch, if there is one.
    pub fn leader(&self) -> Option<i32> {
        let up = self.nodes.iter().filter_map(|(id, node)| node.raft.as_ref().map(|raft| (*id, raft)));
        let leading = up.filter_map(|(id, raft)| raft.leading_epoch().map(|epoch| (epoch, id)));
        leading.max().map(|(_, id)| id)
    }

    pub fn start(&mut self, id: i32) {
        let (voters, seed) = (self.nodes.len() as i32, self.dice.below(u64::MAX));
        let node = self.nodes.get_mut(&id).expect("a node");
        assert!(node.raft.is_none(), "it is down");
        node.raft = Some(Raft::new(settings(id, voters, seed), node.store.state));
        node.life += 1;
        self.happen(id, Event::Start);
    }

    /// The machine loses its power: what is not flushed may be gone, what is under way is.
    pub fn crash(&mut self, id: i32) {
        let unflushed = self.nodes[&id].store.records.len() - self.nodes[&id].store.durable;
        let kept = self.dice.below(unflushed as u64 + 1) as usize;
        let node = self.nodes.get_mut(&id).expect("a node");
        node.raft = None;
        node.timer = None;
        node.tokens.clear();
        node.parked.clear();
        node.arrived.clear();
        node.store.crash(kept);
    }

    /// Appends a record on a leader.
    pub fn propose(&mut self, id: i32, value: u64) {
        let epoch = self.raft(id).leading_epoch().expect("a leader");
        self.nodes.get_mut(&id).expect("a node").store.append(epoch, value);
        self.happen(id, Event::Appended);
        self.wake_fetches(id);
    }

    pub fn resign(&mut self, id: i32) {
        self.happen(id, Event::Resign);
    }

    /// Lets everything happen that is due before `until`.
    pub fn run_until(&mut self, until: i64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), happening) = entry.remove_entry();
            self.now = self.now.max(at);
            self.take(happening);
        }
        self.now = until;
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, life, message } => {
                let cut = self.cut.contains(&(from.node, to));
                let alive = self.is_up(to) && life.is_none_or(|life| life == self.nodes[&to].life);
                if alive && !cut {
                    self.deliver(from, to, message);
                }
            }
            Happening::Persisted { node, life, sequence, state } if self.lives(node, life) => {
                self.nodes.get_mut(&node).expect("a node").store.state = state;
                self.happen(node, Event::QuorumStatePersisted { sequence });
            }
            Happening::Flushed { node, life, end, truncations } if self.lives(node, life) => {
                let store = &mut self.nodes.get_mut(&node).expect("a node").store;
                let end_offset = store.flushed(end, truncations);
                self.happen(node, Event::LogFlushed { end_offset });
            }
            Happening::Timeout { node, life } if self.lives(node, life) => {
                self.nodes.get_mut(&node).expect("a node").timer = None;
                self.happen(node, Event::Timeout);
            }
            Happening::WakeFetch { node, life, token } if self.lives(node, life) => {
                self.answer_fetch(node, token);
            }
            _ => {}
        }
    }

    fn lives(&self, id: i32, life: u32) -> bool {
        self.is_up(id) && self.nodes[&id].life == life
    }

    fn deliver(&mut self, from: Life, to: i32, message: Message) {
        self.tokens += 1;
        let token = self.tokens;
        let mut asked = Asked { from, request: 0, vote: None };
        let event = match message {
            Message::Vote(request) => {
                asked.vote = Some((request.epoch, request.candidate)).filter(|_| !request.pre_vote);
                Event::VoteRequest { token, request }
            }
            Message::Begin(request) => Event::BeginQuorumEpochRequest { token, request },
            Message::End(request) => Event::EndQuorumEpochRequest { token, request },
            Message::Fetch(request) => {
                asked.request = request.request;
                Event::FetchRequest { token, request }
            }
            Message::VoteAnswer(response) => Event::VoteResponse { from: from.node, response },
            Message::BeginAnswer(response) => Event::BeginQuorumEpochResponse { from: from.node, response },
            Message::EndAnswer(response) => Event::EndQuorumEpochResponse { from: from.node, response },
            Message::FetchAnswer(request, response, records, base) => {
                self.nodes.get_mut(&to).expect("a node").arrived.insert(request, (base, records));
                Event::FetchResponse { request, response }
            }
        };
        self.nodes.get_mut(&to).expect("a node").tokens.insert(token, asked);
        self.happen(to, event);
        self.nodes.get_mut(&to).expect("a node").arrived.clear();
    }

    /// One event on one node, its effects performed at once and in order, and all promises checked.
    fn happen(&mut self, id: i32, event: Event) {
        let mut out = Vec::new();
        let node = self.nodes.get_mut(&id).expect("a node");
        let raft = node.raft.as_mut().expect("the node is up");
        self.trace = self.trace.map(|trace| fold(trace, &format!("{} {id} {event:?}", self.now)));
        raft.on(event, self.now, &node.store, &mut out);
        for effect in out {
            self.trace = self.trace.map(|trace| fold(trace, &format!("{effect:?}")));
            self.perform(id, effect);
        }
        self.arm(id);
    }

    fn arm(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let deadline = node.raft.as_ref().and_then(Raft::next_deadline);
        if let Some(at) = deadline.filter(|at| node.timer.is_none_or(|timer| *at < timer)) {
            // An earlier timer that is no longer needed does no harm: Timeout looks at the time.
            node.timer = Some(at);
            let life = node.life;
            self.push(at.max(self.now), Happening::Timeout { node: id, life });
        }
    }

    fn perform(&mut self, id: i32, effect: Effect) {
        let life = self.nodes[&id].life;
        let disk = 1 + self.dice.below(self.weather.disk_max_ms) as i64;
        let node = self.nodes.get_mut(&id).expect("a node");
        match effect {
            Effect::PersistQuorumState { sequence, state } => {
                // Writes of the one small file happen in order.
                let after = self.queue.iter().rev().find_map(|((at, _), happening)| match happening {
                    Happening::Persisted { node, life: of, .. } if *node == id && *of == life => Some(*at),
                    _ => None,
                });
                let at = (self.now + disk).max(after.unwrap_or(0));
                self.push(at, Happening::Persisted { node: id, life, sequence, state });
            }
            Effect::AppendLeaderChange { epoch, .. } => {
                node.store.append(epoch, 0);
            }
            Effect::AppendFetched { request } => {
                let (base, records) = node.arrived.remove(&request).expect("records came with the answer");
                assert_eq!(base, node.store.records.len(), "what was fetched follows the log");
                node.store.records.extend(records);
            }
            Effect::TruncateLog { end_offset } => {
                assert!(node.raft.as_ref().is_none_or(|raft| raft.high_watermark() <= Some(end_offset)));
                node.store.truncate(end_offset as usize);
            }
            Effect::FlushLog => {
                let (end, truncations) = (node.store.records.len(), node.store.truncations);
                self.push(self.now + disk, Happening::Flushed { node: id, life, end, truncations });
            }
            Effect::BecameLeader { epoch, .. } => self.check_leader(id, epoch),
            Effect::StoppedLeading { .. } => self.wake_fetches(id),
            Effect::LeaderChanged { .. } => {}
            Effect::HighWatermark { offset } => {
                self.check_committed(id, offset as usize);
                self.wake_fetches(id);
            }
            Effect::Halt { .. } => panic!("node {id}: a leader contradicts what is committed"),
            Effect::SendVote { to, request } => self.send(id, to.id, Message::Vote(request)),
            Effect::SendBeginQuorumEpoch { to, request } => self.send(id, to.id, Message::Begin(request)),
            Effect::SendEndQuorumEpoch { to, request } => self.send(id, to.id, Message::End(request)),
            Effect::SendFetch { to, request } => {
                assert!(node.store.durable as i64 >= request.log_end.offset, "a fetch says what is on disk");
                self.send(id, to, Message::Fetch(request));
            }
            Effect::RespondVote { token, response } => {
                if let Some((epoch, candidate)) = node.tokens[&token].vote.filter(|_| response.granted) {
                    let state = node.store.state;
                    assert!(
                        state.epoch > epoch || state.voted == Some(candidate),
                        "a vote that leaves is on disk"
                    );
                }
                self.respond(id, token, Message::VoteAnswer(response));
            }
            Effect::RespondBeginQuorumEpoch { token, response } => {
                self.respond(id, token, Message::BeginAnswer(response));
            }
            Effect::RespondEndQuorumEpoch { token, response } => {
                self.respond(id, token, Message::EndAnswer(response));
            }
            Effect::RespondFetch { token, response } => {
                let request = node.tokens[&token].request;
                self.respond(id, token, Message::FetchAnswer(request, response, Vec::new(), 0));
            }
            Effect::ServeFetch { token, offset, high_watermark } => {
                let raft = node.raft.as_ref().expect("the node is up");
                let news = offset < node.store.records.len() as i64 || raft.high_watermark() > high_watermark;
                node.parked.insert(token, (offset, high_watermark));
                if news {
                    self.answer_fetch(id, token);
                } else {
                    self.push(self.now + FETCH_WAIT_MS, Happening::WakeFetch { node: id, life, token });
                }
            }
        }
    }

    fn wake_fetches(&mut self, id: i32) {
        let tokens: Vec<u64> = self.nodes[&id].parked.keys().copied().collect();
        for token in tokens {
            self.answer_fetch(id, token);
        }
    }

    fn answer_fetch(&mut self, id: i32, token: u64) {
        let most = 1 + self.dice.below(5) as usize;
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some((offset, _)) = node.parked.remove(&token) else { return };
        let mut response = node.raft.as_ref().expect("the node is up").fetch_response();
        let from = (offset as usize).min(node.store.records.len());
        let mut records: Vec<Record> = Vec::new();
        if response.refusal.is_none() {
            records.extend(node.store.records[from..].iter().take(most));
        }
        response.has_records = !records.is_empty();
        let request = node.tokens[&token].request;
        self.respond(id, token, Message::FetchAnswer(request, response, records, from));
    }

    fn respond(&mut self, id: i32, token: u64, message: Message) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let asked = node.tokens.remove(&token).expect("a request is answered once");
        self.post(id, asked.from.node, Some(asked.from.life), message);
    }

    fn send(&mut self, from: i32, to: i32, message: Message) {
        self.post(from, to, None, message);
    }

    fn post(&mut self, from: i32, to: i32, life: Option<u32>, message: Message) {
        let from = Life { node: from, life: self.nodes[&from].life };
        let copies = if self.dice.percent(self.weather.duplicate_percent) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.dice.percent(self.weather.loss_percent) {
                let at = self.now + 1 + self.dice.below(self.weather.delay_max_ms) as i64;
                self.push(at, Happening::Deliver { from, to, life, message: message.clone() });
            }
        }
    }

    fn push(&mut self, at: i64, happening: Happening) {
        self.order += 1;
        self.queue.insert((at, self.order), happening);
    }

    fn check_leader(&mut self, id: i32, epoch: i32) {
        let first = *self.leaders.entry(epoch).or_insert(id);
        assert_eq!(first, id, "epoch {epoch} has two leaders");
        let records = &self.nodes[&id].store.records;
        assert!(records.len() >= self.committed.len(), "a leader has every committed record");
        assert_eq!(
            records[..self.committed.len()],
            self.committed[..],
            "a leader has every committed record"
        );
        self.check_logs();
    }

    fn check_committed(&mut self, id: i32, end: usize) {
        let node = &self.nodes[&id];
        assert!(end <= node.store.records.len(), "what is committed is in the log");
        let known = end.min(self.committed.len());
        assert_eq!(node.store.records[..known], self.committed[..known], "what is committed never changes");
        if end > self.committed.len() {
            let raft = node.raft.as_ref().expect("the node is up");
            assert!(raft.leading_epoch().is_some(), "the leader is the first to know");
            assert_eq!(
                Some(node.store.records[end - 1].epoch),
                raft.leading_epoch(),
                "own epochs are committed"
            );
            let news: Vec<Record> = node.store.records[known..end].to_vec();
            self.committed.extend(news);
            let holds = |node: &&Node| {
                node.store.durable >= end && node.store.records[..end] == self.committed[..end]
            };
            let holders = self.nodes.values().filter(holds).count();
            assert!(holders * 2 > self.nodes.len(), "what is committed is on the disks of a majority");
        }
    }

    pub fn check_logs(&self) {
        let stores: Vec<&Store> = self.nodes.values().map(|node| &node.store).collect();
        for (index, one) in stores.iter().enumerate() {
            for other in &stores[index + 1..] {
                let both = one.records.iter().zip(&other.records);
                let same: Vec<bool> = both.clone().map(|(a, b)| a == b).collect();
                let matching = both.clone().rposition(|(a, b)| a.epoch == b.epoch);
                if let Some(last) = matching {
                    assert!(same[..=last].iter().all(|same| *same), "logs with one epoch at an offset match");
                }
            }
        }
    }
}

fn fold(trace: u64, text: &str) -> u64 {
    text.bytes().fold(trace, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
