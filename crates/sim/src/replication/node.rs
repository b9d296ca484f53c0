//! One replica: its log, its role, and what it knows.

use std::hash::{Hash, Hasher};

use ottla_broker::replicas::{
    Leading, common_end, fits, followed_high_watermark, follows_in, is_receipted, own_end,
};
use ottla_metadata::Partition;
use ottla_metadata::config::Durability;
use ottla_protocol::ids::NodeId;
use ottla_storage::LeaderEpochs;

/// `min.insync.replicas`.
pub(super) const MIN_ISR: i32 = 2;

/// A record: the epoch of the leader that appended it, and what it says.
pub(super) type Entry = (i32, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Leader,
    Follower,
    Idle,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub id: i32,
    pub is_alive: bool,
    pub life: u32,
    /// The broker epoch of this life.
    pub broker_epoch: i64,
    /// What the disk remembers of a clean stop.
    pub stopped_in: i64,
    pub log: Vec<Entry>,
    pub epochs: LeaderEpochs,
    pub synced: usize,
    pub high_watermark: i64,
    pub role: Role,
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub leading: Option<Leading>,
    /// How many states of the partition it has seen.
    pub seen: usize,
    /// The fetch that it waits for, and the proposal.
    pub awaits_fetch: Option<u32>,
    pub awaits_decision: Option<u32>,
    /// It lost records, which the controller does not know yet.
    pub is_wounded: bool,
}

impl Node {
    pub fn new(id: i32) -> Node {
        Node {
            id,
            is_alive: true,
            life: 0,
            broker_epoch: -1,
            stopped_in: -1,
            log: Vec::new(),
            epochs: LeaderEpochs::default(),
            synced: 0,
            high_watermark: 0,
            role: Role::Idle,
            leader: None,
            leader_epoch: -1,
            leading: None,
            seen: 0,
            awaits_fetch: None,
            awaits_decision: None,
            is_wounded: false,
        }
    }

    pub fn end(&self) -> i64 {
        self.log.len() as i64
    }

    /// The image says who leads.
    pub fn take_role(&mut self, described: &Partition) {
        let epoch = described.leader_epoch.0;
        self.leader = described.leader.map(|leader| leader.0);
        match self.leader {
            Some(leader) if leader == self.id => {
                let end = self.end();
                self.leading = Some(Leading::of_image(self.leading.take(), self.id, described, end, 0));
                self.role = Role::Leader;
                if epoch > self.leader_epoch {
                    self.epochs.assign(epoch, end);
                }
            }
            leader => {
                let follows = leader.is_some() && described.replicas.contains(&NodeId(self.id));
                self.role = if follows { Role::Follower } else { Role::Idle };
                self.leading = None;
            }
        }
        self.leader_epoch = self.leader_epoch.max(epoch);
    }

    pub fn append(&mut self, entry: Entry) {
        self.epochs.assign(entry.0, self.end());
        self.log.push(entry);
    }

    fn cut(&mut self, end: usize) {
        self.log.truncate(end);
        self.epochs.truncate_from_end(self.end());
        self.synced = self.synced.min(self.log.len());
        self.high_watermark = self.high_watermark.min(self.end());
    }

    /// Its log ends there after it died.
    pub fn die(&mut self, kept: usize) {
        self.cut(kept);
        self.synced = kept;
        self.high_watermark = 0;
        (self.is_alive, self.life) = (false, self.life + 1);
        (self.role, self.leading, self.leader) = (Role::Idle, None, None);
        (self.awaits_fetch, self.awaits_decision) = (None, None);
    }

    /// What is committed of the leader's log moves; the time is `now`.
    pub fn advance(&mut self, durability: Durability, now: i64) -> Result<(), String> {
        let own_end = own_end(durability, self.synced as i64, self.end());
        let committed = self.leading.as_ref().and_then(|leading| leading.committed(own_end, MIN_ISR, now));
        if let Some(to) = committed.filter(|to| *to > self.high_watermark) {
            if to > self.end() {
                return Err(format!("{} commits beyond its log: {to}", self.id));
            }
            self.high_watermark = to;
        }
        Ok(())
    }

    pub fn may_fetch(&self, durability: Durability) -> bool {
        self.is_alive
            && self.role == Role::Follower
            && self.awaits_fetch.is_none()
            && is_receipted(durability, self.synced as i64, self.end())
    }

    /// The leader's log parts from this one.
    pub fn on_diverging(&mut self, asked_in: i32, theirs: (i32, i64)) {
        if self.follows(asked_in) {
            let end = common_end(self.epochs.end_offset_for(theirs.0, self.end()), theirs, 0);
            self.cut(usize::try_from(end).unwrap_or(0));
        }
    }

    /// Records of the leader, from an offset on.
    pub fn on_records(
        &mut self,
        asked_in: i32,
        first: i64,
        records: &[Entry],
        high_watermark: i64,
    ) -> Result<(), String> {
        if !self.follows(asked_in) {
            return Ok(());
        }
        if !records.is_empty() {
            if !fits(first, self.end()) {
                return Ok(());
            }
            if first != self.end() {
                return Err(format!("{} ends at {} and appends at {first}", self.id, self.end()));
            }
            records.iter().for_each(|record| self.append(*record));
        }
        self.high_watermark = followed_high_watermark(high_watermark, self.end());
        Ok(())
    }

    fn follows(&self, asked_in: i32) -> bool {
        follows_in(self.role == Role::Follower, self.leader_epoch, asked_in)
    }

    /// Feeds what matters into `hasher`, but for what it has seen.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        (self.is_alive, self.life, self.broker_epoch, self.stopped_in, self.is_wounded).hash(hasher);
        (&self.log, self.epochs.entries(), self.synced, self.high_watermark).hash(hasher);
        (self.role, self.leader, self.leader_epoch, &self.leading).hash(hasher);
        (self.awaits_fetch.is_some(), self.awaits_decision.is_some()).hash(hasher);
    }
}
