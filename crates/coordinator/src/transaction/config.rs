//! The numbers that bound a transaction coordinator. They arrive resolved.

/// Limits and delays of the transactional ids on one partition. The defaults are Kafka 4.4's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionConfig {
    /// `transaction.max.timeout.ms`: a producer that asks for more gets INVALID_TRANSACTION_TIMEOUT (50).
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`: after this time without use a transactional id is forgotten.
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: time between two looks for transactions that took too long.
    pub abort_interval_ms: i64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`: time between two looks for transactional ids to forget.
    pub remove_interval_ms: i64,
    /// Records that one pass over the transactional ids may ask for; what remains is done by the next pass, at once.
    pub pass_records_max: usize,
    /// Pause before a marker that could not be written is tried again.
    pub marker_retry_ms: i64,
}

impl Default for TransactionConfig {
    fn default() -> TransactionConfig {
        TransactionConfig {
            max_timeout_ms: 900_000,
            id_expiration_ms: 604_800_000,
            abort_interval_ms: 10_000,
            remove_interval_ms: 3_600_000,
            pass_records_max: 1_000,
            marker_retry_ms: 100,
        }
    }
}
