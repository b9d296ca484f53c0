//! Scenarios: clients as structs, a clock as a field, a log as a vector. Every test ends with the promise that a fresh
//! coordinator, fed the log, is in the same state.

mod admin;
mod classic_consumer;
mod consumer_random;
mod consumer_rig;
mod consumers;
mod dice;
mod explore;
mod faults;
mod figures;
mod holdings;
mod ledger;
mod membership;
mod migration;
mod offset_rig;
mod offsets;
mod offsets_random;
mod random;
mod rebalance;
mod rig;
mod script;
mod static_members;
#[cfg(feature = "mutations")]
mod stories;
