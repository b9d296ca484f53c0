//! Batches written out by hand, and what becomes of them when a broker appends them.

use super::*;

/// Two records from a transactional producer: `k` → `v` with two headers of the same name, whose values are no UTF-8 and null;
/// and, a quarter of a second later, a tombstone without key.
fn by_hand() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&1000i64.to_be_bytes()); // base offset
    bytes.extend_from_slice(&82i32.to_be_bytes()); // batch length: 49 of the header, 25 and 8 of the records
    bytes.extend_from_slice(&7i32.to_be_bytes()); // leader epoch
    bytes.push(2); // magic
    bytes.extend_from_slice(&CRC_BY_HAND.to_be_bytes());
    bytes.extend_from_slice(&0x0010u16.to_be_bytes()); // attributes: transactional
    bytes.extend_from_slice(&1i32.to_be_bytes()); // last offset delta
    bytes.extend_from_slice(&1_700_000_000_000i64.to_be_bytes()); // base timestamp
    bytes.extend_from_slice(&1_700_000_000_250i64.to_be_bytes()); // max timestamp
    bytes.extend_from_slice(&4711i64.to_be_bytes()); // producer id
    bytes.extend_from_slice(&3i16.to_be_bytes()); // producer epoch
    bytes.extend_from_slice(&42i32.to_be_bytes()); // base sequence
    bytes.extend_from_slice(&2i32.to_be_bytes()); // record count
    assert_eq!(bytes.len(), HEADER_BYTES);
    // Size 24, attributes, timestamp delta 0, offset delta 0, key, value, two headers.
    bytes.extend_from_slice(&[48, 0, 0, 0, 2, b'k', 2, b'v', 4]);
    bytes.extend_from_slice(b"\x0atrace\x04\xff\xfe");
    bytes.extend_from_slice(b"\x0atrace\x01");
    // Size 7, attributes, timestamp delta 250, offset delta 1, no key, no value, no headers.
    bytes.extend_from_slice(&[14, 0, 0xf4, 0x03, 2, 1, 1, 0]);
    bytes
}

/// Computed bit by bit, by another program.
const CRC_BY_HAND: u32 = 0x6777_8011;

fn options_by_hand() -> BatchOptions {
    BatchOptions {
        leader_epoch: 7,
        producer_id: 4711,
        producer_epoch: 3,
        base_sequence: 42,
        transactional: true,
        ..BatchOptions::default()
    }
}

#[test]
fn crc32c_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn header_and_records_are_read_from_bytes_by_hand() {
    let bytes = by_hand();
    let batch = Batch::parse(&bytes).unwrap();
    batch.verify_crc().unwrap();
    assert_eq!(
        *batch.header(),
        BatchHeader {
            base_offset: 1000,
            batch_length: 82,
            leader_epoch: 7,
            crc: CRC_BY_HAND,
            attributes: Attributes(0x10),
            last_offset_delta: 1,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_250,
            producer_id: 4711,
            producer_epoch: 3,
            base_sequence: 42,
            record_count: 2,
        }
    );
    assert_eq!(batch.header().to_bytes(), bytes[..HEADER_BYTES]);
    assert_eq!((batch.size(), batch.bytes()), (94, &bytes[..]));
    assert_eq!((batch.last_offset(), batch.next_offset(), batch.last_sequence()), (1001, 1002, 43));
    assert!(batch.is_transactional() && !batch.is_control() && batch.has_producer_id());
    assert_eq!((batch.codec(), batch.timestamp_type()), (Some(Codec::None), TimestampType::CreateTime));
    assert_eq!(batch.delete_horizon(), None);
    let expected = [
        Owned {
            offset: 1000,
            timestamp: 1_700_000_000_000,
            key: Some(b"k".to_vec()),
            value: Some(b"v".to_vec()),
            headers: vec![(b"trace".to_vec(), Some(vec![0xff, 0xfe])), (b"trace".to_vec(), None)],
        },
        Owned { offset: 1001, timestamp: 1_700_000_000_250, key: None, value: None, headers: vec![] },
    ];
    assert_eq!(records_of(&bytes), expected);
}

#[test]
fn builder_writes_the_bytes_by_hand() {
    let mut builder = BatchBuilder::new(1000, options_by_hand());
    let headers =
        [Header { key: b"trace", value: Some(&[0xff, 0xfe]) }, Header { key: b"trace", value: None }];
    assert_eq!(builder.push(1_700_000_000_000, Some(b"k"), Some(b"v"), &headers), 1000);
    assert_eq!(builder.push(1_700_000_000_250, None, None, &[]), 1001);
    assert_eq!((builder.size(), builder.record_count(), builder.next_offset()), (94, 2, 1002));
    assert_eq!(builder.finish(), by_hand());
}

#[test]
fn offset_and_epoch_are_patched_without_the_checksum() {
    let bytes = by_hand();
    let batch = Batch::parse(&bytes).unwrap();
    let appended = [&patched_prefix(&batch, 1 << 40, 9)[..], &bytes[PREFIX_BYTES..]].concat();
    let mut in_place = bytes.clone();
    set_base_offset(&mut in_place, 1 << 40).unwrap();
    set_leader_epoch(&mut in_place, 9).unwrap();
    assert_eq!(appended, in_place);
    let appended = Batch::parse(&appended).unwrap();
    appended.verify_crc().unwrap();
    assert_eq!(*appended.header(), BatchHeader { base_offset: 1 << 40, leader_epoch: 9, ..*batch.header() });
    assert_eq!(records_of(appended.bytes())[1].offset, (1 << 40) + 1);
}

#[test]
fn append_time_is_stamped_with_a_new_checksum() {
    let bytes = by_hand();
    let batch = Batch::parse(&bytes).unwrap();
    let stamped = [&stamped_header(&batch, 5, 9, 123)[..], batch.records_payload()].concat();
    let mut in_place = bytes.clone();
    set_base_offset(&mut in_place, 5).unwrap();
    set_leader_epoch(&mut in_place, 9).unwrap();
    set_max_timestamp(&mut in_place, TimestampType::LogAppendTime, 123).unwrap();
    assert_eq!(stamped, in_place);
    let stamped_batch = Batch::parse(&stamped).unwrap();
    assert_eq!(stamped_batch.timestamp_type(), TimestampType::LogAppendTime);
    assert!(stamped_batch.is_transactional());
    assert!(records_of(&stamped).iter().all(|record| record.timestamp == 123));
    // And back: the producer's own times are still there.
    set_max_timestamp(&mut in_place, TimestampType::CreateTime, 1_700_000_000_250).unwrap();
    assert_eq!(records_of(&in_place)[1].timestamp, 1_700_000_000_250);
    assert_eq!(in_place[PREFIX_BYTES..], bytes[PREFIX_BYTES..]);
}

#[test]
fn nothing_is_patched_in_what_is_no_batch() {
    let mut old = by_hand();
    old[16] = 1;
    let untouched = old.clone();
    assert_eq!(set_base_offset(&mut old, 1), Err(BatchError::UnsupportedMagic { magic: 1 }));
    assert_eq!(set_leader_epoch(&mut old[..20], 1), Err(BatchError::UnsupportedMagic { magic: 1 }));
    let mut cut = by_hand();
    cut.pop();
    assert_eq!(
        set_max_timestamp(&mut cut, TimestampType::LogAppendTime, 1),
        Err(BatchError::Truncated { needed: 94 })
    );
    assert_eq!(old, untouched);
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(advance_sequence(i32::MAX, 0), i32::MAX);
    assert_eq!(advance_sequence(i32::MAX, 1), 0);
    assert_eq!(advance_sequence(i32::MAX - 2, 5), 2);
    let header = *Batch::parse(&by_hand()).unwrap().header();
    assert_eq!(BatchHeader { base_sequence: NO_SEQUENCE, ..header }.last_sequence(), NO_SEQUENCE);
    assert_eq!(BatchHeader { base_sequence: i32::MAX, ..header }.last_sequence(), 0);
}

#[test]
fn transaction_markers_by_hand() {
    let marker = EndTxnMarker { coordinator_epoch: 5 };
    let bytes = end_txn_batch(77, 1000, true, marker, 4711, 3, 9);
    // Size 16, attributes, deltas, key: version 0, type 1; value: version 0, epoch 5; no headers.
    assert_eq!(bytes[HEADER_BYTES..], [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 5, 0]);
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!(batch.attributes, Attributes(0x30));
    assert_eq!((batch.producer_id, batch.producer_epoch, batch.base_sequence), (4711, 3, NO_SEQUENCE));
    assert_eq!((batch.base_offset, batch.leader_epoch, batch.record_count), (77, 9, 1));
    let record = &records_of(&bytes)[0];
    let key = ControlKey::read(record.key.as_deref()).unwrap();
    assert_eq!(key.control_type(), Some(ControlType::Commit));
    assert_eq!(EndTxnMarker::read(record.value.as_deref()), Ok(marker));
    let abort = end_txn_batch(77, 1000, false, marker, 4711, 3, 9);
    let key = ControlKey::read(records_of(&abort)[0].key.as_deref()).unwrap();
    assert_eq!(key.control_type(), Some(ControlType::Abort));
}

#[test]
fn control_keys_of_later_releases_are_read_and_broken_ones_are_not() {
    for id in 0..7 {
        assert_eq!(ControlType::from_id(id).map(ControlType::id), Some(id));
    }
    let later = ControlKey::read(Some(&[0, 1, 0, 99, 5, 6, 7])).unwrap();
    assert_eq!((later.version, later.type_id, later.control_type()), (1, 99, None));
    assert_eq!(ControlKey::read(None), Err(ControlKeyError::Truncated));
    assert_eq!(ControlKey::read(Some(&[0, 0, 0])), Err(ControlKeyError::Truncated));
    assert_eq!(ControlKey::read(Some(&[0xff, 0xff, 0, 0])), Err(ControlKeyError::Version(-1)));
    assert_eq!(EndTxnMarker::read(Some(&[0, 0, 0, 0, 0])), Err(ControlKeyError::Truncated));
    assert_eq!(EndTxnMarker::read(Some(&[0x80, 0, 0, 0, 0, 0])), Err(ControlKeyError::Version(i16::MIN)));
}
