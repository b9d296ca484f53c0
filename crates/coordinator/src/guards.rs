//! The rules on which exactly-once and the ownership of partitions rest, by name, so that a test can take one away and show that it is
//! missed.

ottla_guard::guards! {
    /// A rule of the coordinators.
    pub enum Guard {
        /// Those of transactions.
        TRANSACTIONS {
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
        }
        /// Those of groups and their offsets.
        GROUPS {
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
    }
}
