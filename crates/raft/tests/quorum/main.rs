//! Tests of the quorum: scripts for one voter and for single rules, and whole quorums on a virtual clock, network and
//! disk, explored from seeds.

mod membership;
mod one_voter;
mod rig;
mod rules;
mod seeds;
#[path = "../sim/mod.rs"]
mod sim;
