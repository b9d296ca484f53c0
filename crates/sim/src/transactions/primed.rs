//! A record that a run begins with: a transactional id whose epochs are nearly used up.

use ottla_coordinator::Record;
use ottla_protocol::messages::transaction_log_key::TransactionLogKey;
use ottla_protocol::messages::transaction_log_value::TransactionLogValue;
use ottla_protocol::{Message, Writer};

use super::model::ID;

/// Two epochs are left before the producer id changes.
const EPOCH: i16 = i16::MAX - 3;

pub(super) fn used_up(now: i64) -> Record {
    let value = TransactionLogValue {
        producer_id: 0,
        producer_epoch: EPOCH,
        transaction_timeout_ms: 60_000,
        transaction_last_update_timestamp_ms: now,
        transaction_start_timestamp_ms: -1,
        ..Default::default()
    };
    let key = framed(0, &TransactionLogKey { transactional_id: ID.into() });
    Record { key, value: Some(framed(1, &value)) }
}

/// Type or version, and a message in that version.
fn framed<'a>(version: i16, message: &impl Message<'a>) -> Vec<u8> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).expect("a short name");
    [&version.to_be_bytes()[..], &writer.into_bytes()].concat()
}
