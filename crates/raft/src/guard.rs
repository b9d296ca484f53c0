//! The load-bearing conditions of the protocol by name, so that tests can take one away and see that they notice.

ottla_guard::guards! {
    /// A condition without which something is lost: a record, the one leader of an epoch, or progress.
    pub enum Guard {
        /// All of them.
        ALL {
            /// A vote is given once in an epoch.
            VoteOnce,
            /// A vote is given only to a log that is not behind.
            VoteUpToDate,
            /// A vote is given only by the disk that was asked: a wiped one does not know what it promised (KIP-853).
            VoteAsked,
            /// A message leaves when the state that it speaks of is on disk.
            MessageAfterState,
            /// A candidate's own vote counts when it is on disk.
            OwnVotePersisted,
            /// A vote counts in the epoch that it was given in.
            VoteOfThisEpoch,
            /// A candidate is elected by a majority.
            ElectedByMajority,
            /// Only a majority commits.
            CommitByMajority,
            /// Only a record of the leader's own epoch commits those before it (KAFKA-12619).
            CommitOwnEpoch,
            /// A leader's own log counts as far as it is flushed.
            LeaderFlushed,
            /// A follower fetches, which is a receipt, when its log is flushed (KAFKA-13884).
            FollowerFlushed,
            /// A fetch is a receipt only from the disk that is the voter.
            ReceiptOfVoter,
            /// A fetch is no receipt if the logs differ (KAFKA-13141).
            ReceiptOfSameLog,
            /// Logs that end in different epochs differ.
            DivergingEpoch,
            /// A log that goes on in an epoch where the leader's does not differs.
            DivergingOffset,
            /// A leader answers fetches of its own epoch only.
            FetchOfThisEpoch,
            /// Only the answer to the fetch under way is listened to (KAFKA-15221).
            FetchAwaited,
            /// What follows the point where the logs part is cut off.
            TruncateDiverging,
            /// A follower commits only what it has on disk itself.
            CommitOwnLog,
            /// The newest voters of the log count before they are committed.
            NewestVoters,
            /// Voters that were cut off with the log are voters no more.
            VotersTruncated,
            /// Voters change one at a time.
            OneChange,
            /// Voters change after the leader's epoch has a committed record.
            ChangeAfterCommit,
            /// A leader that is no voter does not count itself (KAFKA-16530).
            RemovedNotCounted,
            /// A leader that is no voter any more leaves once that is committed.
            RemovedResigns,
            /// A new voter must have caught up.
            AddCaughtUp,
            /// A node id votes with one disk.
            AddOnce,
            /// A leader that hears from no majority resigns (KAFKA-15489).
            CheckQuorum,
            /// A follower that hears its leader gives no pre-vote (KIP-996).
            PreVoteOfFollower,
            /// A log that begins after what is asked for is read from its snapshot on.
            SnapshotBeforeStart,
            /// A snapshot covers committed records only (KAFKA-14618).
            SnapshotCommitted,
            /// A snapshot ends where a batch ends (KAFKA-14619).
            SnapshotAtBatch,
            /// A candidate that lost waits for its whole timeout (KAFKA-18345).
            LoserWaits,
        }
    }
}
