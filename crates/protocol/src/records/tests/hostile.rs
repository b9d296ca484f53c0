//! Batches which lie: about lengths, counts, codecs, or anywhere at random.

use proptest::prelude::*;

use super::*;

fn parse_error(bytes: &[u8]) -> BatchError {
    Batch::parse(bytes).expect_err("not a batch")
}

fn records_error(bytes: &[u8]) -> RecordsError {
    let batch = Batch::parse(bytes).unwrap();
    let error = batch
        .records(LIMIT)
        .and_then(|set| set.iter().find_map(Result::err).map_or(Ok(()), Err))
        .expect_err("broken records");
    if !matches!(error, RecordsError::NegativeCount(_)) {
        assert_eq!(validate_producer_records(&batch, LIMIT), Err(error));
    }
    error
}

#[test]
fn what_is_missing_is_said() {
    let bytes = sample(3, BatchOptions::default());
    for end in 0..bytes.len() {
        let needed = match end {
            ..17 => 17,
            17..61 => 61,
            _ => bytes.len(),
        };
        assert_eq!(parse_error(&bytes[..end]), BatchError::Truncated { needed });
    }
    assert_eq!(BatchHeader::read(&bytes[..61]).unwrap().size(), bytes.len());
}

#[test]
fn lengths_and_formats_are_checked_before_anything_is_believed() {
    let good = sample(1, BatchOptions::default());
    for batch_length in [i32::MIN, -1, 0, 48] {
        let mut bytes = good.clone();
        bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
        assert_eq!(parse_error(&bytes), BatchError::InvalidLength { batch_length });
    }
    let mut bytes = good.clone();
    bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(parse_error(&bytes), BatchError::Truncated { needed: 12 + i32::MAX as usize });
    for magic in [-1, 0, 1, 3] {
        let mut bytes = good.clone();
        bytes[16] = magic as u8;
        assert_eq!(parse_error(&bytes[..17]), BatchError::UnsupportedMagic { magic });
    }
}

#[test]
fn any_flipped_bit_behind_the_prefix_breaks_the_checksum() {
    let bytes = sample(2, BatchOptions::default());
    for bit in (PREFIX_BYTES + 1) * 8..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(Batch::parse(&bytes).unwrap().verify_crc(), Err(BatchError::Checksum { .. })));
    }
}

#[test]
fn a_count_is_not_believed() {
    for codec in Codec::ALL {
        let good = sample(3, BatchOptions { codec, ..BatchOptions::default() });
        let with_count = |count: i32| {
            let mut bytes = good.clone();
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes[23..27].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
            resealed(bytes)
        };
        let missing = RecordsError::Record { index: 3, fault: RecordFault::Truncated };
        assert_eq!(records_error(&with_count(i32::MAX)), missing);
        assert_eq!(records_error(&with_count(4)), missing);
        assert!(matches!(records_error(&with_count(2)), RecordsError::Trailing { .. }));
        assert!(matches!(records_error(&with_count(0)), RecordsError::Trailing { .. }));
        assert_eq!(records_error(&with_count(-1)), RecordsError::NegativeCount(-1));
    }
}

#[test]
fn records_with_broken_structure() {
    // A batch of one record whose bytes are given.
    let with_record = |record: &[u8]| {
        let mut bytes = sample(1, BatchOptions::default());
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(record);
        let batch_length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
        resealed(bytes)
    };
    assert_eq!(records_of(&with_record(&[12, 0, 0, 0, 1, 1, 0])).len(), 1);
    for (record, fault) in [
        (&[][..], RecordFault::Truncated),
        (&[14, 0, 0, 0, 1, 1, 0], RecordFault::Truncated),
        (&[0], RecordFault::Truncated),
        (&[10, 0, 0, 0, 1, 1], RecordFault::Truncated),
        (&[12, 0, 0, 0, 4, 1, 0], RecordFault::Truncated),
        (&[12, 0, 0, 0, 1, 4, 0], RecordFault::Truncated),
        (&[12, 0, 0, 0, 1, 1, 2], RecordFault::Truncated),
        (&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], RecordFault::Truncated),
        (&[1], RecordFault::Negative),
        (&[12, 0, 0, 0, 1, 1, 1], RecordFault::Negative),
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], RecordFault::Negative),
        (&[14, 0, 0, 0, 1, 1, 0, 0], RecordFault::Oversized),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0], RecordFault::Varint),
        (&[22, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], RecordFault::Varint),
        (&[28, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0], RecordFault::Varint),
    ] {
        let error = records_error(&with_record(record));
        assert_eq!(error, RecordsError::Record { index: 0, fault }, "{record:?}");
    }
    // Any negative key length is null, as in Kafka.
    assert_eq!(records_of(&with_record(&[12, 0, 0, 0, 3, 5, 0]))[0].key, None);
}

#[test]
fn extreme_fields_do_not_overflow() {
    let mut bytes = sample(2, BatchOptions::default());
    bytes[0..8].copy_from_slice(&i64::MAX.to_be_bytes());
    bytes[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
    let bytes = resealed(bytes);
    let batch = Batch::parse(&bytes).unwrap();
    assert_eq!((batch.last_offset(), batch.next_offset()), (i64::MAX, i64::MAX));
    assert_eq!(records_of(&bytes).len(), 2);
}

#[test]
fn codecs_that_do_not_exist_and_payloads_that_are_not_compressed() {
    for id in 1..8 {
        let mut bytes = sample(3, BatchOptions::default());
        bytes[22] = id;
        match records_error(&resealed(bytes)) {
            RecordsError::UnknownCodec(unknown) => assert_eq!((unknown, Codec::from_id(id)), (id, None)),
            RecordsError::Compression(error) => assert_eq!(Some(error.codec), Codec::from_id(id)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bombs_in_batches_are_stopped() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(0, BatchOptions { codec, ..BatchOptions::default() });
        builder.push(0, None, Some(&vec![0; 8 << 20]), &[]);
        let bytes = builder.finish();
        let error = Batch::parse(&bytes).unwrap().records(1 << 20).map(|_| ()).unwrap_err();
        assert!(matches!(error, RecordsError::Compression(error) if error.codec == codec), "{error:?}");
    }
}

#[test]
fn producers_are_held_to_the_rules() {
    let check = |change: &dyn Fn(&mut BatchHeader), expected: Result<(), InvalidBatch>| {
        let mut header = BatchHeader::read(&sample(3, BatchOptions::default())).unwrap();
        change(&mut header);
        assert_eq!(validate_producer_batch(&header), expected);
    };
    check(&|_| {}, Ok(()));
    check(&|header| header.last_offset_delta = -1, Err(InvalidBatch::OffsetRange { last_offset_delta: -1 }));
    check(&|header| header.record_count = 0, Err(InvalidBatch::RecordCount(0)));
    check(&|header| header.record_count = -5, Err(InvalidBatch::RecordCount(-5)));
    check(&|header| header.record_count = 4, Err(InvalidBatch::CountMismatch { offsets: 3, records: 4 }));
    check(
        &|header| header.last_offset_delta = i32::MAX,
        Err(InvalidBatch::CountMismatch { offsets: 1 << 31, records: 3 }),
    );
    check(&|header| header.attributes = header.attributes.with_control(true), Err(InvalidBatch::Control));
    check(&|header| header.producer_id = 5, Err(InvalidBatch::NegativeSequence(-1)));
    check(&|header| (header.producer_id, header.base_sequence) = (5, 0), Ok(()));
    check(&|header| header.attributes = Attributes(6), Err(InvalidBatch::UnknownCodec(6)));
    check(&|header| header.attributes = Attributes(0x0c), Err(InvalidBatch::LogAppendTime));
    check(&|header| header.attributes = Attributes(0x7f00u16 as i16), Ok(()));
}

#[test]
fn offsets_out_of_order_are_noticed() {
    let mut builder =
        BatchBuilder::new(100, BatchOptions { codec: Codec::Snappy, ..BatchOptions::default() });
    builder.push_at(100, 5, Some(b"a"), None, &[]);
    builder.push_at(102, 3, None, None, &[]);
    let bytes = builder.finish();
    let batch = Batch::parse(&bytes).unwrap();
    let stats = validate_producer_records(&batch, LIMIT).unwrap();
    assert!(!stats.offsets_in_order);
    assert_eq!((stats.record_count, stats.min_timestamp, stats.max_timestamp), (2, 3, 5));
    assert_eq!(stats.first_null_key, Some(1));
    let rebuilt = rebuild(&batch, 100, BatchOptions::of(&batch), LIMIT).unwrap();
    let rebuilt = Batch::parse(&rebuilt).unwrap();
    assert_eq!(validate_producer_batch(&rebuilt), Ok(()));
    assert!(validate_producer_records(&rebuilt, LIMIT).unwrap().offsets_in_order);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic(
        codec in proptest::sample::select(Codec::ALL.to_vec()),
        count in 1usize..40,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample(count, BatchOptions { codec, ..BatchOptions::default() });
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        for batch in batches(&bytes).flatten() {
            let _ = batch.verify_crc();
            let _ = validate_producer_batch(&batch);
            let _ = (batch.last_offset(), batch.next_offset(), batch.last_sequence(), batch.delete_horizon());
            let walked = batch.records(100_000).map(|set| {
                set.iter().filter_map(Result::ok).inspect(|record| drop(Owned::of(record))).count()
            });
            if let Ok(stats) = validate_producer_records(&batch, 100_000) {
                prop_assert_eq!(walked, Ok(stats.record_count as usize));
            }
        }
        let _ = set_base_offset(&mut bytes, 5);
        let _ = set_max_timestamp(&mut bytes, TimestampType::LogAppendTime, 5);
    }

    #[test]
    fn noise_never_panics(mut noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        if noise.len() > 16 {
            noise[16] = 2;
            noise[8..11].fill(0);
        }
        for batch in batches(&noise).flatten() {
            let _ = batch.records(10_000).map(|set| set.iter().count());
            let _ = validate_producer_records(&batch, 10_000);
        }
    }
}
