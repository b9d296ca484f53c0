//! Whole clusters on one thread: the real code of every node, a simulated disk for each, a network that loses, delays and divides, and a
//! clock that all of them share. One seed decides everything.

mod reader;
mod run;
mod transactions;
mod world;
mod writer;

pub use run::{ClusterReport, run_cluster, run_cluster_transactions};
