//! Goal: what Apache Kafka 4.4 and its clients write is read, and written again to the same bytes. Method: see README.md beside this
//! file; every line of the recorded files is decoded and encoded.
//!
//! A message that loses, adds or reorders a byte fails here with its name, version and the first place that differs.

mod batches;
mod corpus;
mod frames;
mod logs;
mod serialized;
mod table;
