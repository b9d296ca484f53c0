//! Goal: what Apache Kafka 4.4 and its clients write is read, and written again to the same bytes. Method: see README.md beside this
//! file; every line of the recorded files is decoded and encoded.
//!
//! A message that loses, adds or reorders a byte fails here with its name, version and the first place that differs.

mod batches;
mod corpus;
mod frames;
mod logs;
mod serialized;

use crate::common::{Entry, MESSAGES};

/// The message of that name.
fn entry(name: &str) -> Result<&'static Entry, String> {
    MESSAGES.iter().find(|entry| entry.name == name).ok_or_else(|| format!("there is no message {name}"))
}

/// Reads all of `bytes` as the message of that name, and writes it again. Errors are text, since they are only shown.
fn roundtrip(name: &str, bytes: &[u8], version: i16) -> Result<Vec<u8>, String> {
    (entry(name)?.roundtrip)(bytes, version).map_err(|error| error.to_string())
}
