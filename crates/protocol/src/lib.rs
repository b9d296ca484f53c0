//! Kafka's wire and record formats: primitives, every message, record batches, codecs, error codes.

pub mod compression;
pub mod records;
