//! One malformed batch per row of the list of errors, and what is left untouched of a good one.

use bytes::Bytes;
use ottla_protocol::compression::Codec;
use ottla_protocol::records::{Attributes, BatchBuilder, BatchHeader, BatchOptions, batches, crc32c};

use super::*;
use ottla_protocol::ErrorCode;

const NOW: i64 = 1_700_000_000_000;
const CLIENT: AppendOrigin = AppendOrigin::Client { zstd_allowed: true, admission: None };

fn builder(options: BatchOptions) -> BatchBuilder {
    BatchBuilder::new(0, options)
}

fn good(codec: Codec) -> Vec<u8> {
    let mut builder = builder(BatchOptions { codec, ..BatchOptions::default() });
    for n in 0..5 {
        builder.push(NOW + n, Some(b"key"), Some(&[b'v'; 100]), &[]);
    }
    builder.finish()
}

/// Changes the header and makes the checksum fit again.
fn edited(mut bytes: Vec<u8>, edit: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut header = BatchHeader::read(&bytes).unwrap();
    edit(&mut header);
    bytes[..61].copy_from_slice(&header.to_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn attempt(bytes: Vec<u8>, config: &LogConfig, origin: AppendOrigin) -> Result<Vec<u8>, AppendError> {
    let bytes = Bytes::from(bytes);
    let append = Append { config, origin, leader_epoch: 7, now: NOW };
    let prepared = prepare(&check_single(&bytes, &append)?, &bytes, 1000, &append)?;
    let mut written = prepared.front().to_vec();
    written.extend_from_slice(&prepared.rest);
    let batch = Batch::parse(&written).unwrap();
    assert_eq!(*batch.header(), prepared.header);
    batch.verify_crc().unwrap();
    Ok(written)
}

fn check(bytes: Vec<u8>, expected: ErrorCode) {
    check_with(bytes, &LogConfig::default(), expected);
}

fn check_with(bytes: Vec<u8>, config: &LogConfig, expected: ErrorCode) {
    assert_eq!(attempt(bytes, config, CLIENT).unwrap_err().code(), expected);
}

#[test]
fn a_good_batch_changes_in_its_first_sixteen_bytes_only() {
    for codec in Codec::ALL {
        let bytes = good(codec);
        let written = attempt(bytes.clone(), &LogConfig::default(), CLIENT).unwrap();
        let header = BatchHeader::read(&written).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (1000, 7));
        assert_eq!(written[16..], bytes[16..]);
    }
}

#[test]
fn exactly_one_whole_batch() {
    check(Vec::new(), ErrorCode::InvalidRecord);
    check([good(Codec::None), good(Codec::None)].concat(), ErrorCode::InvalidRecord);
    let bytes = good(Codec::None);
    check(bytes[..bytes.len() - 1].to_vec(), ErrorCode::InvalidRecord);
    let mut old = bytes.clone();
    old[16] = 1;
    check(old, ErrorCode::InvalidRecord);
    let trailing = [&bytes[..], &bytes[..30]].concat();
    assert_eq!(attempt(trailing, &LogConfig::default(), CLIENT).unwrap().len(), bytes.len());
    check(edited(bytes, |header| header.base_offset = 5), ErrorCode::InvalidRecord);
}

#[test]
fn damage_is_corruption() {
    let mut bytes = good(Codec::None);
    *bytes.last_mut().unwrap() ^= 1;
    check(bytes, ErrorCode::CorruptMessage);
    let mut bytes = good(Codec::None);
    bytes[8..12].copy_from_slice(&10i32.to_be_bytes());
    check(bytes, ErrorCode::CorruptMessage);
}

#[test]
fn headers_must_make_sense() {
    let bytes = || good(Codec::Gzip);
    check(edited(bytes(), |header| header.record_count = 4), ErrorCode::InvalidRecord);
    check(edited(bytes(), |header| header.record_count = 0), ErrorCode::InvalidRecord);
    check(edited(bytes(), |header| header.last_offset_delta = -1), ErrorCode::InvalidRecord);
    check(edited(bytes(), |header| header.producer_id = 9), ErrorCode::InvalidRecord);
    check(edited(bytes(), |header| header.attributes = Attributes(0x20)), ErrorCode::InvalidRecord);
    check(edited(bytes(), |header| header.attributes = Attributes(5)), ErrorCode::InvalidRecord);
    check(edited(bytes(), |header| header.attributes = Attributes(0x09)), ErrorCode::InvalidTimestamp);
}

#[test]
fn records_without_a_codec_are_walked_over() {
    let mut bytes = good(Codec::None);
    let at = bytes.len() - 5;
    bytes[at] = 0xff;
    bytes[61] = 2;
    check(edited(bytes, |_| ()), ErrorCode::InvalidRecord);
    // The same damage inside a codec passes unless strictness is asked for.
    let payload = &good(Codec::None)[61..];
    let mut packed = Vec::new();
    ottla_protocol::compression::compress(Codec::Lz4, None, &payload[1..], &mut packed);
    let mut bytes = good(Codec::Lz4)[..61].to_vec();
    bytes.extend_from_slice(&packed);
    let length = bytes.len() as i32 - 12;
    let bytes = edited(bytes, |header| header.batch_length = length);
    assert!(attempt(bytes.clone(), &LogConfig::default(), CLIENT).is_ok());
    let strict = LogConfig { strict_validation: true, ..LogConfig::default() };
    check_with(bytes, &strict, ErrorCode::InvalidRecord);
    let mut torn = good(Codec::Lz4);
    torn.truncate(80);
    let torn = edited(torn, |header| header.batch_length = 68);
    check_with(torn, &strict, ErrorCode::CorruptMessage);
}

#[test]
fn sizes_are_limited() {
    let config = LogConfig { message_bytes_max: 200, ..LogConfig::default() };
    check_with(good(Codec::None), &config, ErrorCode::MessageTooLarge);
    let bomb = LogConfig { strict_validation: true, decompressed_bytes_max: 100, ..LogConfig::default() };
    check_with(good(Codec::Zstd), &bomb, ErrorCode::MessageTooLarge);
}

#[test]
fn records_that_grow_too_large_are_refused_where_they_are_compressed() {
    let sized = |bytes: usize, codec| {
        let mut builder = builder(BatchOptions { codec, ..BatchOptions::default() });
        builder.push(NOW, Some(b"k"), Some(b"short"), &[]);
        builder.push(NOW, Some(b"k"), Some(&vec![b'x'; bytes]), &[]);
        builder.finish()
    };
    // Attributes, two deltas, the key, the value's length and no headers.
    let config = LogConfig { record_bytes_max: Some(1000 + 8), ..LogConfig::default() };
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        assert!(attempt(sized(1000, codec), &config, CLIENT).is_ok());
        check_with(sized(1001, codec), &config, ErrorCode::InvalidRecord);
    }
    assert!(attempt(sized(1001, Codec::None), &config, CLIENT).is_ok(), "its size was known before");
}

#[test]
fn timestamps_must_be_near_the_clock() {
    let dated = |timestamps: &[i64], codec| {
        let mut builder = builder(BatchOptions { codec, ..BatchOptions::default() });
        for timestamp in timestamps {
            builder.push(*timestamp, Some(b"k"), None, &[]);
        }
        builder.finish()
    };
    let hour = 3_600_000;
    for codec in [Codec::None, Codec::Snappy] {
        let error = attempt(dated(&[NOW, NOW + 2 * hour], codec), &LogConfig::default(), CLIENT).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
        assert_eq!(error.record_errors().len(), 1);
        assert_eq!(error.record_errors()[0].0, 1);
        assert!(attempt(dated(&[0, -1, NOW + hour], codec), &LogConfig::default(), CLIENT).is_ok());
        let recent = LogConfig { timestamp_before_max_ms: hour, ..LogConfig::default() };
        let error = attempt(dated(&[-1, NOW - 2 * hour, NOW], codec), &recent, CLIENT).unwrap_err();
        assert_eq!(error.record_errors().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
        assert!(attempt(dated(&[-1, NOW - hour, NOW], codec), &recent, CLIENT).is_ok());
        let brokers = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..LogConfig::default() };
        assert!(attempt(dated(&[NOW + 9 * hour], codec), &brokers, CLIENT).is_ok());
    }
    let lying = edited(dated(&[NOW, NOW + 5], Codec::None), |header| header.max_timestamp = NOW + 9 * hour);
    let written = attempt(lying, &LogConfig::default(), CLIENT).unwrap();
    assert_eq!(BatchHeader::read(&written).unwrap().max_timestamp, NOW + 5, "the records are right");
}

#[test]
fn compacted_topics_need_keys_and_name_the_records_without() {
    let mut builder = builder(BatchOptions { codec: Codec::Zstd, ..BatchOptions::default() });
    for key in [Some(&b"k"[..]), None, Some(b"k"), None] {
        builder.push(NOW, key, Some(b"v"), &[]);
    }
    let bytes = builder.finish();
    assert!(attempt(bytes.clone(), &LogConfig::default(), CLIENT).is_ok());
    let compacted = LogConfig { compacted: true, ..LogConfig::default() };
    let error = attempt(bytes, &compacted, CLIENT).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
    assert_eq!(error.record_errors().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn zstd_needs_a_client_that_knows_it() {
    let old = AppendOrigin::Client { zstd_allowed: false, admission: None };
    let error = attempt(good(Codec::Zstd), &LogConfig::default(), old).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnsupportedCompressionType);
    assert!(attempt(good(Codec::Lz4), &LogConfig::default(), old).is_ok());
}

#[test]
fn batches_are_recompressed_to_the_topics_codec() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let config =
                LogConfig { compression: TargetCompression::Codec(to, None), ..LogConfig::default() };
            let idempotent = |header: &mut BatchHeader| {
                (header.producer_id, header.producer_epoch, header.base_sequence) = (3, 1, 40);
            };
            let written = attempt(edited(good(from), idempotent), &config, CLIENT).unwrap();
            let batch = batches(&written).next().unwrap().unwrap();
            assert_eq!((batch.codec(), batch.base_offset, batch.leader_epoch), (Some(to), 1000, 7));
            assert_eq!((batch.producer_id, batch.producer_epoch, batch.base_sequence), (3, 1, 40));
            let records: Vec<_> =
                batch.records(10_000).unwrap().iter().map(|record| record.unwrap().offset).collect();
            assert_eq!(records, [1000, 1001, 1002, 1003, 1004]);
            assert_eq!(batch.max_timestamp, NOW + 4);
        }
    }
    let too_large = LogConfig {
        compression: TargetCompression::Codec(Codec::None, None),
        message_bytes_max: 300,
        ..LogConfig::default()
    };
    check_with(good(Codec::Zstd), &too_large, ErrorCode::MessageTooLarge);
}

/// Four records that are numbered 0, 0, 7, 3.
fn misnumbered(codec: Codec) -> Vec<u8> {
    let mut payload = Vec::new();
    for delta in [0, 0, 7, 3] {
        let mut one = builder(BatchOptions::default());
        one.push_at(delta, NOW, Some(b"key"), Some(b"value"), &[]);
        payload.extend_from_slice(&one.finish()[61..]);
    }
    let mut packed = Vec::new();
    match codec {
        Codec::None => packed = payload,
        codec => ottla_protocol::compression::compress(codec, None, &payload, &mut packed),
    }
    let mut bytes = good(codec)[..61].to_vec();
    bytes.extend_from_slice(&packed);
    let length = bytes.len() as i32 - 12;
    edited(bytes, |header| {
        (header.batch_length, header.record_count, header.last_offset_delta) = (length, 4, 3);
        header.max_timestamp = NOW;
    })
}

#[test]
fn records_that_a_producer_numbers_wrong_are_numbered_anew() {
    let numbers = |written: &[u8]| {
        let batch = Batch::parse(written).unwrap();
        let set = batch.records(10_000).unwrap();
        (batch.codec(), set.iter().map(|record| record.unwrap().offset).collect::<Vec<_>>())
    };
    let strict = LogConfig { strict_validation: true, ..LogConfig::default() };
    let compacted = LogConfig { compacted: true, ..LogConfig::default() };
    let in_order = vec![1000, 1001, 1002, 1003];
    for codec in Codec::ALL {
        for config in [&strict, &compacted] {
            let written = attempt(misnumbered(codec), config, CLIENT).unwrap();
            assert_eq!(numbers(&written), (Some(codec), in_order.clone()));
        }
    }
    // In a batch that nobody looks into they stay what they are.
    let written = attempt(misnumbered(Codec::Lz4), &LogConfig::default(), CLIENT).unwrap();
    assert_eq!(numbers(&written).1, [1000, 1000, 1007, 1003]);
    let written = attempt(misnumbered(Codec::None), &LogConfig::default(), CLIENT).unwrap();
    assert_eq!(numbers(&written).1, in_order);
}

#[test]
fn one_answer_names_records_without_keys_and_those_out_of_time() {
    let mut builder = builder(BatchOptions::default());
    let late = NOW + 9 * 3_600_000;
    for (timestamp, key) in [(NOW, None), (late, Some(&b"k"[..])), (NOW, Some(b"k")), (late, None)] {
        builder.push(timestamp, key, Some(b"v"), &[]);
    }
    let compacted = LogConfig { compacted: true, ..LogConfig::default() };
    let error = attempt(builder.finish(), &compacted, CLIENT).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
    let told: Vec<(i32, bool)> = error
        .record_errors()
        .iter()
        .map(|(index, reason)| (*index, reason.starts_with("Compacted topic")))
        .collect();
    assert_eq!(told, [(0, true), (1, false), (3, true)]);
}
