//! Transactions: whole flows through the real broker, on a virtual clock and a simulated disk; and a model of the coordinators and
//! partitions alone, explored in every order at small scope and by lot at a larger one.

mod check;
mod client;
mod explore;
#[cfg(test)]
mod flows;
mod lot;
mod message;
mod model;
mod mutations;
mod offsets;
mod partition;
mod primed;
#[cfg(test)]
mod rig;
mod run;
#[cfg(test)]
mod upgrade;

pub use explore::{Explored, Scope, explore};
pub use lot::{run, tell};
pub use mutations::{Rule, first_broken, rules};
