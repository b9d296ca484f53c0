//! A whole quorum of the real code on one thread, from one seed: virtual clocks, a network and disks that misbehave, and
//! the promises of KRaft checked at every event.

pub mod delivery;
pub mod dice;
pub mod digest;
pub mod explore;
pub mod logs;
pub mod perform;
pub mod promises;
pub mod scenario;
pub mod store;
pub mod wire;
pub mod world;
