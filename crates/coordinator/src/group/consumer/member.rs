//! One member of a consumer group: what it said of itself, and how far it has followed the assignment. The two halves are
//! the two records that keep it.

use crate::group::classic::member::Protocol;
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions by topic: what a member is to have.
pub(crate) type Target = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic, each with the member epoch at which it was assigned: what a member has.
pub(crate) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// Member epoch in a heartbeat: I join, or join again with nothing in my hands.
pub(crate) const JOIN: i32 = 0;
/// Member epoch in a heartbeat: I leave. In the state: a member whose removal has begun.
pub(crate) const LEAVE: i32 = -1;
/// Member epoch of a static member that left for now: its place and its partitions are kept for its return.
pub(crate) const LEAVE_STATIC: i32 = -2;

/// What a member said of itself (ConsumerGroupMemberMetadata, type 5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Profile {
    pub instance_id: Option<Arc<str>>,
    pub rack_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub topics: BTreeSet<Arc<str>>,
    /// A pattern for topic names, "" if it has none.
    pub regex: Arc<str>,
    /// How long it may take to give partitions up, -1 before it said so.
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<Arc<str>>,
    /// For a member that speaks the classic protocol.
    pub classic: Option<Classic>,
}

/// What a member of the classic protocol brought with its JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classic {
    pub session_timeout_ms: i32,
    /// In order of preference, never empty.
    pub protocols: Vec<Protocol>,
}

/// How far a member is with what it was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has what it should have.
    Stable,
    /// It has to give partitions up before it may go on.
    Unrevoked,
    /// It waits for partitions that others have not given up yet.
    Unreleased,
    /// Written by a later version of the software.
    Unknown,
}

impl Progress {
    pub(crate) fn code(self) -> i8 {
        match self {
            Progress::Stable => 0,
            Progress::Unrevoked => 1,
            Progress::Unreleased => 2,
            Progress::Unknown => 127,
        }
    }

    pub(crate) fn from_code(code: i8) -> Progress {
        match code {
            0 => Progress::Stable,
            1 => Progress::Unrevoked,
            2 => Progress::Unreleased,
            _ => Progress::Unknown,
        }
    }
}

/// How far a member has followed (ConsumerGroupCurrentMemberAssignment, type 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub member_epoch: i32,
    /// The member epoch before this one: a member that missed an answer still comes with it.
    pub previous_member_epoch: i32,
    pub progress: Progress,
    pub assigned: Owned,
    /// What it has to give up and has not yet.
    pub revoking: Owned,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            member_epoch: 0,
            previous_member_epoch: -1,
            progress: Progress::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }
}

impl Standing {
    /// Everything that nobody else may have now.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Uuid, i32)> {
        let both = self.assigned.iter().chain(&self.revoking);
        both.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (*topic, *partition)))
    }

    /// The member epoch at which a partition was assigned, if the member holds it.
    pub(crate) fn assigned_since(&self, topic: Uuid, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(&topic).and_then(|partitions| partitions.get(&partition)).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    pub(crate) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.progress == Progress::Stable && self.member_epoch == assignment_epoch
    }
}

/// A member. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub id: Arc<str>,
    pub profile: Arc<Profile>,
    pub standing: Arc<Standing>,
}

impl Member {
    pub(crate) fn new(id: Arc<str>) -> Member {
        let profile = Profile { rebalance_timeout_ms: -1, ..Default::default() };
        Member { id, profile: Arc::new(profile), standing: Arc::default() }
    }

    pub(crate) fn is_classic(&self) -> bool {
        self.profile.classic.is_some()
    }

    pub(crate) fn instance_id(&self) -> Option<&str> {
        self.profile.instance_id.as_deref()
    }

    /// The pattern that it subscribes with, if it does.
    pub(crate) fn regex(&self) -> Option<&Arc<str>> {
        Some(&self.profile.regex).filter(|regex| !regex.is_empty())
    }
}
