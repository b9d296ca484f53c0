//! The conditions on which replication rests, by name, so that a test can take one away and show that it is missed. What Vanlightly's
//! specification of KIP-966 marks as load-bearing (`CHECK`) is among them.

ottla_guard::guards! {
    /// A condition of a partition's replicas without which a committed record is lost, or something uncommitted is shown.
    pub enum ReplicaGuard {
        /// All of them.
        ALL {
            /// Who joins the ISR has everything that is committed.
            JoinsAboveHighWatermark,
            /// Who joins the ISR has everything that the leader began its epoch with.
            JoinsAboveEpochStart,
            /// One change of the ISR is proposed at a time.
            OneProposal,
            /// Who may be in sync by now counts for what is committed.
            MaximalIsrCounts,
            /// Nothing is committed while too few are in sync (KAFKA-15583).
            CommitsWithMinIsr,
            /// The own log counts as far as it is on disk.
            OwnLogFlushed,
            /// A follower that did not fetch in this epoch has nothing, as far as is known.
            FollowerHasFetched,
            /// Logs that end in different epochs differ.
            DivergingEpoch,
            /// A log that goes on in an epoch where the leader's does not differs.
            DivergingOffset,
            /// A fetch is no receipt if the logs differ (KAFKA-13141).
            ReceiptOfSameLog,
            /// What comes from a leader counts in the epoch that it was asked in (KAFKA-18991).
            FetchedInThisEpoch,
            /// What was fetched begins where the log ends.
            FetchedFits,
            /// What follows the point where the logs part is cut off, also if the own log knows an earlier one.
            CutsAtCommonEnd,
            /// A follower fetches, which is a receipt, when its log is on disk.
            ReceiptAfterFlush,
            /// What is committed of a log is not beyond its end.
            CommittedIsThere,
            /// A decision that is older than what is known says nothing.
            DecisionNotOlder,
            /// A proposal stands until it is known what became of it.
            ProposalStandsUntilDecided,
            /// A new epoch knows nothing of the followers of the one before.
            FollowersOfThisEpoch,
            /// A fetch of an earlier life of a follower than was heard of is refused (KIP-903).
            EarlierLifeIsNotHeard,
            /// A fetch of an earlier leader epoch is refused.
            FetchNotOlder,
            /// An image that is older than what is known says nothing.
            ImageNotOlder,
            /// A fetch of a later leader epoch is refused: somebody else led in between.
            FetchNotNewer,
            /// A leader begins anew in a strictly newer leader epoch only: what it proposed before in the same one may have been accepted.
            LeaderEpochNewer,
        }
    }
}
