//! Replication of one partition: a leader, two replicas, and the controller that chooses among them. What they decide is the code of the
//! broker and of the controller; their logs are lists, and the network is a bag of messages that loses, repeats and reorders.
//!
//! The same promises as in the published specification of KIP-966 are checked after every step: whoever is in sync or eligible has all that
//! was ever committed, and what a replica takes for committed is.

mod explore;
mod message;
mod metadata;
mod model;
mod mutations;
mod node;
mod origin;
mod promises;
mod run;
mod stories;
mod story;

pub use explore::{Explored, Scope, explore};
pub use mutations::{Rule, first_broken, rules};
pub use run::{run, tell};
