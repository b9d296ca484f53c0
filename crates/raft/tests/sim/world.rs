//! The nodes, and what may happen to them from outside: they start, lose power or their disk, are given work, are asked to
//! change.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use ottla_raft::*;

use crate::sim::dice::Dice;
use crate::sim::promises::Promises;
use crate::sim::store::{Record, Snapshot, Store};
use crate::sim::wire::{Asked, Due, Happening, Kind};

#[derive(Debug, Clone)]
pub struct Node {
    pub id: i32,
    pub settings: Settings,
    pub raft: Option<Raft>,
    pub store: Store,
    /// How often it was started; what was meant for an earlier life is lost.
    pub life: u32,
    pub(super) timer: Option<i64>,
    pub(super) asked: Vec<Asked>,
    /// Fetches that wait for records: token, offset and what the asker knows to be committed.
    pub(super) parked: Vec<(u64, i64, Option<i64>)>,
    pub(super) arrived: Option<Arrived>,
    pub(super) arrived_snapshot: Option<Snapshot>,
    pub(super) downloaded: Option<(Snapshot, i64)>,
    /// Its clock: what it shows at time 0, and parts per thousand that it is fast.
    pub clock: (i64, i64),
    pub paused_until: i64,
    /// When it stood for election, by its own clock, if it has seen no leader since.
    pub(super) stood_at: Option<i64>,
    /// By voter: when a fetch of it arrived here. Only of the epoch that this node leads.
    pub(super) heard: BTreeMap<i32, i64>,
}

/// What came with an answer to a fetch.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub(super) request: u64,
    pub(super) records: Vec<Record>,
    pub(super) control: Vec<(i64, Control)>,
}

/// How bad the world is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub delay_max_ms: u64,
    pub disk_max_ms: u64,
    /// Of a thousand disk operations, how many fail; the node dies of that.
    pub disk_failure_permille: u64,
}

impl Weather {
    pub const FAIR: Weather = Weather {
        loss_percent: 0,
        duplicate_percent: 0,
        delay_max_ms: 4,
        disk_max_ms: 3,
        disk_failure_permille: 0,
    };
}

#[derive(Debug, Clone)]
pub struct World {
    pub nodes: Vec<Node>,
    pub now: i64,
    pub(super) queue: BinaryHeap<Due>,
    /// Without time, everything that is under way may happen next.
    pub untimed: Option<Vec<Happening>>,
    pub(super) order: u64,
    pub(super) tokens: u64,
    pub(super) values: u64,
    pub dice: Dice,
    pub weather: Weather,
    /// Of each directed link, until when nothing passes, and until when everything is held back.
    pub cut_until: Vec<i64>,
    pub clogged_until: Vec<i64>,
    pub promises: Promises,
    /// Disks that are gone, as they were.
    pub(super) graves: Vec<(ReplicaKey, Store)>,
    /// A digest of what happened, for comparing two runs of one seed; kept if there is one to begin with.
    pub trace: Option<u64>,
    pub events: u64,
    /// Whether to tell what happens.
    pub told: bool,
    pub(super) effects: Vec<Effect>,
}

pub fn endpoints(id: i32) -> Endpoints {
    Arc::new([Endpoint { listener: String::new(), host: String::new(), port: id as u16 }])
}

pub fn key(id: i32, generation: u8) -> ReplicaKey {
    let mut directory_id = [id as u8; 16];
    directory_id[0] = generation + 1;
    ReplicaKey { id, directory_id }
}

pub fn voter(key: ReplicaKey) -> Voter {
    Voter { key, endpoints: endpoints(key.id), kraft_versions: VersionRange { min: 0, max: 1 } }
}

impl Node {
    /// Where those who wait for records stand.
    pub fn parked_offsets(&self) -> impl Iterator<Item = (i64, Option<i64>)> {
        self.parked.iter().map(|(_, offset, committed)| (*offset, *committed))
    }
}

impl World {
    pub fn new(nodes: Vec<Settings>, dice: Dice, weather: Weather) -> World {
        let count = nodes.len();
        let node = |(index, settings): (usize, Settings)| Node {
            id: index as i32 + 1,
            settings,
            raft: None,
            store: Store::default(),
            life: 0,
            timer: None,
            asked: Vec::new(),
            parked: Vec::new(),
            arrived: None,
            arrived_snapshot: None,
            downloaded: None,
            clock: (0, 0),
            paused_until: 0,
            stood_at: None,
            heard: BTreeMap::new(),
        };
        World {
            nodes: nodes.into_iter().enumerate().map(node).collect(),
            now: 0,
            queue: BinaryHeap::new(),
            untimed: None,
            order: 0,
            tokens: 0,
            values: 0,
            dice,
            weather,
            cut_until: vec![0; count * count],
            clogged_until: vec![0; count * count],
            promises: Promises::default(),
            graves: Vec::new(),
            trace: None,
            events: 0,
            told: false,
            effects: Vec::new(),
        }
    }

    pub fn node(&self, id: i32) -> &Node {
        &self.nodes[id as usize - 1]
    }

    pub fn node_mut(&mut self, id: i32) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    pub fn ids(&self) -> std::ops::RangeInclusive<i32> {
        1..=self.nodes.len() as i32
    }

    pub fn is_up(&self, id: i32) -> bool {
        self.node(id).raft.is_some()
    }

    pub fn raft(&self, id: i32) -> &Raft {
        self.node(id).raft.as_ref().expect("the node is up")
    }

    pub fn link(&self, from: i32, to: i32) -> usize {
        (from as usize - 1) * self.nodes.len() + to as usize - 1
    }

    /// The running leader of the newest epoch, if there is one.
    pub fn leader(&self) -> Option<i32> {
        let up = self.nodes.iter().filter_map(|node| node.raft.as_ref().map(|raft| (node.id, raft)));
        let leading = up.filter_map(|(id, raft)| raft.leading_epoch().map(|epoch| (epoch, id)));
        leading.max().map(|(_, id)| id)
    }

    /// Control records that a new log begins with, as `storage format` writes them.
    pub fn format(&mut self, id: i32, voters: Voters) {
        self.node_mut(id).store.control = vec![(-1, Control::Voters(voters))];
        self.node_mut(id).store.control.insert(0, (-1, Control::KRaftVersion(1)));
    }

    pub fn start(&mut self, id: i32) {
        let seed = self.dice.below(u64::MAX);
        let node = self.node_mut(id);
        assert!(node.raft.is_none(), "it is down");
        let settings = Settings { seed, ..node.settings.clone() };
        node.raft = Some(Raft::new(settings, node.store.state, node.store.control.clone()));
        node.life += 1;
        node.timer = None;
        self.happen(id, Event::Start);
    }

    /// The machine loses its power: what is not flushed may be gone, what is under way is, and a state that was being
    /// written may be there or not.
    pub fn crash(&mut self, id: i32) {
        let node = self.node(id);
        let life = node.life;
        let unflushed = (node.store.end() - node.store.durable) as u64;
        let kept = if self.untimed.is_some() { 0 } else { self.dice.below(unflushed + 1) as i64 };
        let mut writes: Vec<(u64, QuorumState)> = Vec::new();
        for due in &self.queue {
            match &due.happening {
                Happening::Persisted { node, life: of, sequence, state } if *node == id && *of == life => {
                    writes.push((*sequence, *state));
                }
                _ => {}
            }
        }
        writes.sort_by_key(|(sequence, _)| *sequence);
        let done = self.dice.below(writes.len() as u64 + 1) as usize;
        let written = writes[..done].last().map(|(_, state)| *state);
        let node = self.node_mut(id);
        node.raft = None;
        node.timer = None;
        node.asked.clear();
        node.parked.clear();
        node.arrived = None;
        node.downloaded = None;
        node.heard.clear();
        node.stood_at = None;
        node.store.state = written.unwrap_or(node.store.state);
        node.store.crash(kept);
        let (key, state) = (node.settings.me, node.store.state);
        self.promises.on_persisted(key, state.epoch, state.voted);
    }

    /// A new, empty disk: another replica.
    pub fn wipe(&mut self, id: i32) {
        if self.is_up(id) {
            self.crash(id);
        }
        let node = self.node_mut(id);
        let gone = (node.settings.me, std::mem::take(&mut node.store));
        node.settings.me = key(id, gone.0.directory_id[0]);
        self.graves.push(gone);
    }

    pub(super) fn append(&mut self, id: i32, epoch: i32, begins_batch: bool) -> i64 {
        self.values += 1;
        let record = Record { epoch, begins_batch, value: self.values };
        let store = &mut self.nodes[id as usize - 1].store;
        let offset = store.end();
        let digest = store.append(record);
        self.promises.on_append(offset, &record, digest);
        offset
    }

    /// Appends a batch on a leader.
    pub fn propose(&mut self, id: i32, records: u64) {
        let epoch = self.raft(id).leading_epoch().expect("a leader");
        for index in 0..records {
            self.append(id, epoch, index == 0);
        }
        self.happen(id, Event::Appended { bytes: 100 * records });
        self.wake_fetches(id);
    }

    /// Somebody outside asks a node for something.
    pub fn ask(&mut self, id: i32, event: impl FnOnce(u64) -> Event) {
        self.tokens += 1;
        let token = self.tokens;
        self.node_mut(id).asked.push(Asked {
            token,
            from: None,
            request: 0,
            vote: None,
            current: false,
            kind: Kind::Other,
        });
        self.happen(id, event(token));
    }

    /// Takes a snapshot that ends at `offset`, if raft says that it may be one, and perhaps drops the log before it.
    pub fn take_snapshot(&mut self, id: i32, offset: i64, delete: bool) {
        let node = &mut self.nodes[id as usize - 1];
        let (Some(raft), store) = (&node.raft, &mut node.store) else { return };
        if offset <= store.start || offset > store.end() {
            return;
        }
        let end = OffsetAndEpoch { offset, epoch: store.epoch_before(offset) };
        if !raft.may_take_snapshot(end, store.is_batch_boundary(offset), store) {
            return;
        }
        let digest = self.promises.digest_of_committed(offset);
        assert_eq!(store.digest_at(offset), digest, "a snapshot has committed records");
        let (voters, level) = raft.voters_at(offset - 1);
        let mut control = Vec::new();
        if level > 0 {
            control = vec![Control::KRaftVersion(level), Control::Voters(voters.clone())];
        }
        store.take_snapshot(offset, control);
        if delete && store.delete_prefix() {
            self.happen(id, Event::LogPrefixDeleted);
        }
    }

    /// A leader that no majority has fetched from for long is none any more. `slack_ms` is for what is under way.
    pub fn check_leaders_are_heard(&self, slack_ms: i64) {
        for node in &self.nodes {
            let Some(raft) = node.raft.as_ref().filter(|raft| raft.leading_epoch().is_some()) else {
                continue;
            };
            let voters = raft.voters();
            let others = voters.majority() - usize::from(raft.is_voter());
            if node.paused_until + slack_ms > self.now || others == 0 {
                continue;
            }
            let heard = |voter: &&Voter| {
                let at = node.heard.get(&voter.key.id).copied().unwrap_or(i64::MIN / 2);
                voter.key.id != node.id && at + slack_ms > self.now
            };
            let heard = voters.iter().filter(heard).count();
            assert!(heard >= others, "node {} leads, and {heard} of {} follow", node.id, voters.len());
        }
    }

    /// The state machine of a node, if the node is up.
    pub fn raft_or_none(&self, id: i32) -> Option<&Raft> {
        self.node(id).raft.as_ref()
    }
}
