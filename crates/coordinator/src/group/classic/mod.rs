//! Classic groups: the members agree among themselves, one of them (the leader) assigns, the coordinator keeps the phases.
//!
//! A rebalance is a join phase (everybody says what it speaks) and a sync phase (everybody asks what the leader gave it);
//! `rebalance.rs` tells the order of events.

pub(crate) mod group;
mod heartbeat;
pub(crate) mod join;
mod leave;
pub(crate) mod member;
pub(crate) mod rebalance;
mod sync;
