//! The states of a transaction, their names in Kafka's tools and numbers in its records, and which may follow which.

/// State of a transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionState {
    /// No transaction yet.
    Empty,
    /// Partitions are part of it, nothing is decided.
    Ongoing,
    /// Decided: commit. Markers are being written.
    PrepareCommit,
    /// Decided: abort. Markers are being written.
    PrepareAbort,
    /// The last transaction was committed, everywhere.
    CompleteCommit,
    /// The last transaction was aborted, everywhere.
    CompleteAbort,
    /// Expired. Never in a record: a tombstone says it.
    Dead,
    /// A producer is being fenced. Never in a record: the abort that follows says it.
    PrepareEpochFence,
}

use TransactionState::*;

impl TransactionState {
    /// All states, by number.
    pub const ALL: [TransactionState; 8] =
        [Empty, Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort, Dead, PrepareEpochFence];

    /// The number in records.
    pub fn id(self) -> i8 {
        self as i8
    }

    /// The state with this number.
    pub fn from_id(id: i8) -> Option<TransactionState> {
        TransactionState::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The name in DescribeTransactions and ListTransactions.
    pub fn name(self) -> &'static str {
        match self {
            Empty => "Empty",
            Ongoing => "Ongoing",
            PrepareCommit => "PrepareCommit",
            PrepareAbort => "PrepareAbort",
            CompleteCommit => "CompleteCommit",
            CompleteAbort => "CompleteAbort",
            Dead => "Dead",
            PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// The state with this name.
    pub fn from_name(name: &str) -> Option<TransactionState> {
        TransactionState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether this state may come right after `before` (Kafka: `VALID_PREVIOUS_STATES`).
    pub fn may_follow(self, before: TransactionState) -> bool {
        match self {
            Empty => matches!(before, Empty | CompleteCommit | CompleteAbort),
            Ongoing => matches!(before, Ongoing | Empty | CompleteCommit | CompleteAbort),
            PrepareCommit => before == Ongoing,
            PrepareAbort => {
                matches!(before, Ongoing | PrepareEpochFence | Empty | CompleteCommit | CompleteAbort)
            }
            CompleteCommit => before == PrepareCommit,
            CompleteAbort => before == PrepareAbort,
            Dead => matches!(before, Empty | CompleteCommit | CompleteAbort),
            PrepareEpochFence => before == Ongoing,
        }
    }

    /// Whether the outcome is decided and markers are being written: no request is served until they are there.
    pub fn is_ending(self) -> bool {
        matches!(self, PrepareCommit | PrepareAbort)
    }

    /// Whether an idle transactional id in this state may be forgotten.
    pub fn may_expire(self) -> bool {
        matches!(self, Empty | CompleteCommit | CompleteAbort)
    }
}
