//! Kafka's wire and record formats: primitives, every message, record batches, codecs, error codes.
