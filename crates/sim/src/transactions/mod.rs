//! Transactions: whole flows through the real broker, on a virtual clock and a simulated disk; and a model of version 2 at small scope.

mod check;
mod client;
mod explore;
mod flows;
mod model;
mod rig;
