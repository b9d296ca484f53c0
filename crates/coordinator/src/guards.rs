//! The rules on which exactly-once and the ownership of partitions rest, by name, so that a test can take one away and show that it is
//! missed.
//!
//! The tricky idea: a removed rule belongs to a thread, so tests beside one another do not disturb each other, and without the feature
//! `mutations`, which no product enables, every question is answered at compile time.

/// A rule of the coordinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// AddPartitions: only the current producer epoch may add.
    AddChecksEpoch,
    /// AddPartitions: nothing is added while markers are being written.
    AddWaitsForMarkers,
    /// Verification: only what is part of the transaction is admitted.
    VerifyChecksPartition,
    /// Verification: only the current producer epoch is admitted.
    VerifyChecksEpoch,
    /// EndTxn: only the current producer epoch (or, with version 2, a retry of the end before) may end.
    EndChecksEpoch,
    /// EndTxn: while a decision is carried out no other one is heard.
    EndKeepsDecision,
    /// EndTxn: a retry is told the former outcome and does not end the next transaction.
    EndKnowsRetry,
    /// Every end of a transaction takes a new producer epoch.
    EndBumpsEpoch,
    /// InitProducerId: the new producer gets a new epoch.
    InitBumpsEpoch,
    /// InitProducerId: an open transaction of the former producer is aborted first.
    InitAbortsOngoing,
    /// InitProducerId: waits until markers are written.
    InitWaitsForMarkers,
    /// InitProducerId: who goes on with a producer that is not the current one is fenced (KIP-360).
    InitChecksProducer,
    /// A transaction completes only when every partition has its marker.
    CompleteNeedsAllMarkers,
    /// A coordinator that is loaded writes the markers that are missing.
    LoadResumesMarkers,
    /// A marker that could not be written is tried again.
    MarkersAreRetried,
    /// A transaction that takes too long is aborted.
    TimeoutAborts,
    /// A heartbeat with another member epoch than the member's is fenced.
    HeartbeatChecksMemberEpoch,
    /// A member that is behind commits only for partitions that it has had since (KIP-1251).
    CommitChecksMemberEpoch,
    /// Only a member commits to a group that has members.
    CommitChecksMember,
    /// A member of a classic group commits in its generation only.
    CommitChecksGeneration,
    /// Nobody commits while a classic group is being assigned anew.
    CommitWaitsForAssignment,
    /// A new subscription leads to a new group epoch, and so to a new assignment.
    SubscriptionBumpsGroupEpoch,
    /// A partition is given to a member when nobody else holds it.
    AssignmentWaitsForOwner,
    /// A partition is given up when its member says so.
    RevocationIsConfirmed,
    /// A member that takes too long to give up partitions is out.
    RevocationTimesOut,
    /// The records of a member that goes are tombstoned.
    MemberLeavesTombstones,
    /// A static member is replaced when it has left.
    InstanceIsReleasedFirst,
    /// A static member that was replaced is told so.
    StaticMemberIsFenced,
    /// A member that is silent for too long is out.
    SessionEnds,
    /// The sessions of the members of a classic group begin when it is loaded.
    LoadBeginsSessions,
    /// A member that does not come back to a rebalance is out.
    MissingMemberIsOut,
    /// A member that never asks for its assignment is out.
    SyncTimesOut,
    /// An assignment is given to members of its generation only.
    SyncChecksGeneration,
    /// A heartbeat of another generation is refused.
    HeartbeatChecksGeneration,
    /// Only the leader of a generation assigns.
    LeaderAssigns,
    /// An offset of a transaction that is not decided makes the committed one unstable (KIP-447).
    PendingOffsetIsHidden,
    /// Of two commits the later in the log wins, whatever the order in which transactions end.
    LaterCommitWins,
    /// The offsets of an aborted transaction never count.
    AbortDropsOffsets,
    /// A group with members is not deleted.
    MembersKeepTheirGroup,
    /// Offsets of topics that members read do not expire.
    SubscribedOffsetsStay,
    /// A group is deleted with its offsets.
    OffsetsGoWithTheirGroup,
}

impl Guard {
    /// Those of transactions.
    pub const TRANSACTIONS: [Guard; 16] = [
        Guard::AddChecksEpoch,
        Guard::AddWaitsForMarkers,
        Guard::VerifyChecksPartition,
        Guard::VerifyChecksEpoch,
        Guard::EndChecksEpoch,
        Guard::EndKeepsDecision,
        Guard::EndKnowsRetry,
        Guard::EndBumpsEpoch,
        Guard::InitBumpsEpoch,
        Guard::InitAbortsOngoing,
        Guard::InitWaitsForMarkers,
        Guard::InitChecksProducer,
        Guard::CompleteNeedsAllMarkers,
        Guard::LoadResumesMarkers,
        Guard::MarkersAreRetried,
        Guard::TimeoutAborts,
    ];

    /// Those of groups and their offsets.
    pub const GROUPS: [Guard; 25] = [
        Guard::HeartbeatChecksMemberEpoch,
        Guard::CommitChecksMemberEpoch,
        Guard::CommitChecksMember,
        Guard::CommitChecksGeneration,
        Guard::CommitWaitsForAssignment,
        Guard::SubscriptionBumpsGroupEpoch,
        Guard::AssignmentWaitsForOwner,
        Guard::RevocationIsConfirmed,
        Guard::RevocationTimesOut,
        Guard::MemberLeavesTombstones,
        Guard::InstanceIsReleasedFirst,
        Guard::StaticMemberIsFenced,
        Guard::SessionEnds,
        Guard::LoadBeginsSessions,
        Guard::MissingMemberIsOut,
        Guard::SyncTimesOut,
        Guard::SyncChecksGeneration,
        Guard::HeartbeatChecksGeneration,
        Guard::LeaderAssigns,
        Guard::PendingOffsetIsHidden,
        Guard::LaterCommitWins,
        Guard::AbortDropsOffsets,
        Guard::MembersKeepTheirGroup,
        Guard::SubscribedOffsetsStay,
        Guard::OffsetsGoWithTheirGroup,
    ];

    /// Whether the rule is in force.
    #[cfg(not(feature = "mutations"))]
    #[inline(always)]
    pub(crate) fn stands(self) -> bool {
        true
    }

    /// Whether the rule is in force.
    #[cfg(feature = "mutations")]
    pub(crate) fn stands(self) -> bool {
        removed::GUARD.get() != Some(self)
    }

    /// Takes the rule away, on this thread, until another one is taken away or [`Guard::restore`].
    #[cfg(feature = "mutations")]
    pub fn remove(self) {
        removed::GUARD.set(Some(self));
    }

    /// All rules are in force again.
    #[cfg(feature = "mutations")]
    pub fn restore() {
        removed::GUARD.set(None);
    }
}

#[cfg(feature = "mutations")]
mod removed {
    use std::cell::Cell;

    thread_local! {
        pub static GUARD: Cell<Option<super::Guard>> = const { Cell::new(None) };
    }
}
