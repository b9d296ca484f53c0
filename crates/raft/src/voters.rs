//! Who votes: sets of voters, and which set and which `kraft.version` the log says at each offset (KIP-853).
//!
//! The one tricky idea: *the newest set in the log counts, committed or not*. That is safe because two sets that follow
//! each other differ by one voter, so that their majorities overlap, and because a leader never has two uncommitted
//! sets in its log. A log that is cut off falls back to the set before.

use std::sync::Arc;

use crate::replica::ReplicaKey;

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Name of the listener.
    pub listener: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// All listeners of a node; empty if not known.
pub type Endpoints = Arc<[Endpoint]>;

/// Levels of `kraft.version` that a voter supports, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// Lowest level.
    pub min: i16,
    /// Highest level.
    pub max: i16,
}

impl VersionRange {
    /// Whether `level` is among them.
    pub fn contains(&self, level: i16) -> bool {
        (self.min..=self.max).contains(&level)
    }
}

/// One voter as a VotersRecord describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Voter {
    /// Node and disk; the disk is not known of voters that a configuration file names.
    pub key: ReplicaKey,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// What it supports.
    pub kraft_versions: VersionRange,
}

/// A set of voters; each node id is in it at most once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Voters(Arc<[Voter]>);

impl Voters {
    /// A set of these voters.
    ///
    /// # Errors
    /// The id that two of them have.
    pub fn new(mut voters: Vec<Voter>) -> Result<Voters, i32> {
        voters.sort_by_key(|voter| voter.key.id);
        match voters.windows(2).find(|pair| pair[0].key.id == pair[1].key.id) {
            Some(pair) => Err(pair[0].key.id),
            None => Ok(Voters(voters.into())),
        }
    }

    /// Nobody.
    pub fn none() -> Voters {
        Voters(Arc::new([]))
    }

    /// The voters, by id.
    pub fn iter(&self) -> std::slice::Iter<'_, Voter> {
        self.0.iter()
    }

    /// The voter with this node id.
    pub fn get(&self, id: i32) -> Option<&Voter> {
        self.0.iter().find(|voter| voter.key.id == id)
    }

    /// Whether this replica, node and disk, is a voter.
    pub fn contains(&self, replica: &ReplicaKey) -> bool {
        self.get(replica.id).is_some_and(|voter| voter.key.covers(replica))
    }

    /// How many voters there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody votes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them are a majority.
    pub fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// Where a node listens, if it is a voter.
    pub fn endpoints(&self, id: i32) -> Option<&Endpoints> {
        self.get(id).map(|voter| &voter.endpoints).filter(|endpoints| !endpoints.is_empty())
    }

    /// With one more voter; `None` if its id is taken.
    pub fn with_added(&self, voter: Voter) -> Option<Voters> {
        Voters::new(self.0.iter().cloned().chain([voter]).collect()).ok()
    }

    /// Without exactly this replica; `None` if it is no voter, or the only one.
    pub fn without(&self, replica: &ReplicaKey) -> Option<Voters> {
        let rest: Vec<Voter> = self.0.iter().filter(|voter| voter.key != *replica).cloned().collect();
        (!rest.is_empty() && rest.len() < self.0.len()).then(|| Voters(rest.into()))
    }

    /// With what a voter says of itself now; `None` if it is no voter. The disk may be another one only as long as
    /// disks are not part of the set (`ignoring_directory`, kraft.version 0).
    pub fn with_updated(&self, voter: &Voter, ignoring_directory: bool) -> Option<Voters> {
        let known = self.get(voter.key.id)?;
        let same = ignoring_directory || known.key.covers(&voter.key);
        let updated = |old: &Voter| if old.key.id == voter.key.id { voter.clone() } else { old.clone() };
        same.then(|| Voters(self.0.iter().map(updated).collect()))
    }

    /// Whether this voter is in the set, but described differently.
    pub fn needs_update(&self, voter: &Voter) -> bool {
        self.get(voter.key.id).is_some_and(|known| known.key.covers(&voter.key) && known != voter)
    }
}

/// What a control record says that raft itself obeys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Control {
    /// KRaftVersionRecord: the level of `kraft.version` from here on. Without one it is 0.
    KRaftVersion(i16),
    /// VotersRecord: the voters from here on.
    Voters(Voters),
}

/// The control records of the snapshot and the log, by offset.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// Voters by configuration, as long as no record names any.
    fixed: Voters,
    voters: Vec<(i64, Voters)>,
    versions: Vec<(i64, i16)>,
}

impl History {
    pub fn new(fixed: Voters, found: Vec<(i64, Control)>) -> History {
        let mut history = History { fixed, voters: Vec::new(), versions: Vec::new() };
        for (offset, control) in found {
            history.add(offset, control);
        }
        history
    }

    /// Takes in a record that was appended. Those of a snapshot all have the offset before its end: -1 for the one that
    /// a new log begins with.
    pub fn add(&mut self, offset: i64, control: Control) {
        match control {
            Control::KRaftVersion(level) => push(&mut self.versions, offset, level),
            Control::Voters(voters) => push(&mut self.voters, offset, voters),
        }
    }

    /// The newest voters.
    pub fn voters(&self) -> &Voters {
        self.voters.last().map_or(&self.fixed, |(_, voters)| voters)
    }

    /// The offset of the record that names them.
    pub fn voters_offset(&self) -> Option<i64> {
        self.voters.last().map(|(offset, _)| *offset)
    }

    /// The voters as of `offset`, inclusive.
    pub fn voters_at(&self, offset: i64) -> &Voters {
        at(&self.voters, offset).unwrap_or(&self.fixed)
    }

    /// The newest level.
    pub fn kraft_version(&self) -> i16 {
        self.versions.last().map_or(0, |(_, level)| *level)
    }

    /// The level as of `offset`, inclusive.
    pub fn kraft_version_at(&self, offset: i64) -> i16 {
        at(&self.versions, offset).copied().unwrap_or(0)
    }

    /// The log was cut off: what followed was never so.
    pub fn truncate(&mut self, end_offset: i64) {
        self.voters.retain(|(offset, _)| *offset < end_offset);
        self.versions.retain(|(offset, _)| *offset < end_offset);
    }

    /// A beginning of the log was deleted: of what it said, only the newest is still of use.
    pub fn forget_before(&mut self, start_offset: i64) {
        forget(&mut self.voters, start_offset);
        forget(&mut self.versions, start_offset);
    }

    /// A snapshot took the place of the whole log.
    pub fn replace(&mut self, end_offset: i64, found: Vec<Control>) {
        self.voters.clear();
        self.versions.clear();
        for control in found {
            self.add(end_offset - 1, control);
        }
    }
}

fn push<T>(list: &mut Vec<(i64, T)>, offset: i64, value: T) {
    assert!(list.last().is_none_or(|(last, _)| *last < offset), "control records come in order");
    list.push((offset, value));
}

fn at<T>(list: &[(i64, T)], offset: i64) -> Option<&T> {
    let before = list.partition_point(|(at, _)| *at <= offset);
    before.checked_sub(1).map(|last| &list[last].1)
}

fn forget<T>(list: &mut Vec<(i64, T)>, start_offset: i64) {
    let before = list.partition_point(|(at, _)| *at < start_offset);
    list.drain(..before.saturating_sub(1));
}
