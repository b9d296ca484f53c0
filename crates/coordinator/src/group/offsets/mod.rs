//! Committed offsets of groups of every kind, and those of transactions that are still open.

mod commit;
pub(crate) mod fetch;
pub(crate) mod store;
