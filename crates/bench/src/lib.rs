//! A load generator for anything that speaks Kafka's protocol: it measures brokers, so it must cost next to nothing itself.
//!
//! The tricky idea: requests are encoded once. What differs from one to the next (correlation id, partition, and for idempotent
//! producers the sequence and with it the checksum) is patched into a small copied head; the records behind it are never touched again.

pub mod client;
pub mod end_to_end;
pub mod fetch;
pub mod load;
pub mod options;
pub mod payload;
pub mod process;
pub mod produce;
pub mod report;
pub mod schedule;
pub mod socket;
pub mod template;
pub mod topic;
pub mod transaction;
