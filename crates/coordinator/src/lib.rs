//! Coordinators: a request becomes records and a response, replay changes the state.
//!
//! [`group`] owns one partition of `__consumer_offsets`: groups and their offsets. [`transaction`] owns one of `__transaction_state`:
//! transactional ids. What a coordinator asks of the runtime that keeps it is an [`Outcome`]; what the runtime asks of a coordinator is
//! [`Coordinator`].

mod coordinator;
pub mod group;
mod guards;
mod outcome;
pub mod transaction;

pub use coordinator::Coordinator;
pub use group::*;
pub use guards::Guard;
pub use outcome::{Outcome, Record, Reply, Response, Transaction, Waiter};
pub use transaction::{Deed, ProducerIds, TransactionConfig, TransactionCoordinator, TransactionVersion};
