//! Every message of Kafka 4.4, one module each, named like the message in snake case.
//!
//! All of it is generated from `schemas` at build time. Structs keep Kafka's names; fields are documented by their line
//! of the notation: type (`?` where it can be null), versions (none said: all), tag, default, `ignorable`.

#![allow(clippy::all)] // nobody wrote this by hand

pub use crate::message::{Message, Request};

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

/// The records of `__cluster_metadata` as one enum.
pub mod metadata_record;
