//! Transactions: who may write under a transactional id, what belongs to the open transaction, and how it ends.
//!
//! One [`TransactionCoordinator`] owns the transactional ids of one partition of `__transaction_state`. A transaction is decided when
//! its Prepare record is committed; from then on its markers are written until every partition has one, also by the next coordinator,
//! and then its Complete record ends it:
//!
//! ```text
//!             AddPartitions        EndTxn                   all markers are there
//!    Empty ─────────────────► Ongoing ──► PrepareCommit ──────────────────────────► CompleteCommit ─┐
//!      ▲                        ▲ │ └────► PrepareAbort ──────────────────────────► CompleteAbort ──┤
//!      │ InitProducerId         │ └ timeout, InitProducerId ▲                                       │
//!      └────────────────────────┴───────────────────────────┴ (version 2: an abort of nothing) ─────┘
//! ```
//!
//! The tricky idea: there are no pending transitions. A record is replayed as soon as it is appended, so the next request sees the state
//! that this one leads to, and everything that is said or done because of it (replies, [`Deed`](crate::Deed)s) is held by the runtime
//! until the record is committed. With version 2 (KIP-890) every end of a transaction takes a new producer epoch, so that nothing that
//! was sent for one transaction can count for another.

mod add_partitions;
mod config;
mod coordinator;
mod describe;
mod end;
mod entry;
mod expire;
mod init_producer_id;
mod markers;
mod records;
mod state;

pub use add_partitions::{AddPartitions, PartitionsAnswer};
pub use config::TransactionConfig;
pub use coordinator::{ProducerIds, TransactionCoordinator};
pub use describe::TransactionFilter;
pub use end::end_txn_error;
pub use init_producer_id::init_producer_id_error;
pub use markers::{Deed, MarkerEvent, MarkerResult, Markers};
pub use state::TransactionState;

/// A topic, by name, and the index of a partition.
pub type TopicPartition = (std::sync::Arc<str>, i32);

/// Which rules a transaction follows (feature `transaction.version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionVersion(pub i16);

impl TransactionVersion {
    /// Records without tags, one producer epoch for many transactions.
    pub const V0: TransactionVersion = TransactionVersion(0);
    /// Flexible records.
    pub const V1: TransactionVersion = TransactionVersion(1);
    /// A producer epoch of its own for every transaction (KIP-890).
    pub const V2: TransactionVersion = TransactionVersion(2);

    /// Whether every end of a transaction takes a new producer epoch.
    pub fn bumps_epoch(self) -> bool {
        self >= TransactionVersion::V2
    }
}
