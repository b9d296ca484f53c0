//! The real broker on a virtual clock and a simulated disk: workloads, crashes, and a checker of what was promised.
//!
//! One seed decides everything: what clients do, how long a flush takes, when the node dies and what its disk keeps. A run of a seed
//! is a function of the seed, so a failing one is a test.

#[cfg(test)]
mod behaviour;
mod client;
mod cluster;
mod dice;
mod digest;
mod lots;
mod promises;
pub mod replication;
mod scenario;
pub mod transactions;
mod world;

pub use cluster::{ClusterReport, run_cluster, run_cluster_transactions};
pub use scenario::{Report, run};
