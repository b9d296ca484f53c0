//! Coordinators: a request becomes records and a response, replay changes the state.
//!
//! [`group`] owns one partition of `__consumer_offsets`: groups and their offsets.

pub mod group;

pub use group::*;
