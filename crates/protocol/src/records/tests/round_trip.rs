//! What the builder writes, the readers read: any records, any codec, gaps, compaction's leftovers.

use proptest::prelude::*;

use super::*;

#[test]
fn estimates_are_upper_bounds_and_the_first_record_always_fits() {
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    let headers = [Header { key: b"h", value: None }];
    assert!(builder.fits(0, Some(&[0; 100]), None, &headers, 10));
    for index in 0..200 {
        let timestamp = index * index * 1_000_000_007;
        let value = vec![7; index as usize];
        let limit = builder.size() + value.len() + 40;
        assert!(builder.fits(timestamp, None, Some(&value), &headers, limit));
        let before = builder.size();
        builder.push(timestamp, None, Some(&value), &headers);
        assert!(builder.size() <= limit);
        let grown = builder.size() - before;
        assert!(
            index == 0 || !builder.fits(timestamp, None, Some(&value), &headers, builder.size() + grown - 1)
        );
    }
}

#[test]
fn compaction_keeps_gaps_ends_and_sequences() {
    let bytes = sample(
        5,
        BatchOptions { producer_id: 9, producer_epoch: 1, base_sequence: 50, ..BatchOptions::default() },
    );
    let batch = Batch::parse(&bytes).unwrap();
    let set = batch.records(LIMIT).unwrap();
    let options = BatchOptions { delete_horizon: Some(1_800_000_000_000), ..BatchOptions::of(&batch) };
    let mut builder = BatchBuilder::new(batch.base_offset, options);
    for record in set.iter().map(Result::unwrap).filter(|record| record.offset % 2 == 1) {
        builder.push_record(&record);
    }
    let compacted = builder.finish_through(batch.last_offset());
    let kept = Batch::parse(&compacted).unwrap();
    assert_eq!((kept.base_offset, kept.last_offset(), kept.record_count), (100, 104, 2));
    assert_eq!((kept.base_sequence, kept.last_sequence()), (50, 54));
    assert_eq!(kept.delete_horizon(), Some(1_800_000_000_000));
    let expected: Vec<_> = records_of(&bytes).into_iter().filter(|record| record.offset % 2 == 1).collect();
    assert_eq!(records_of(&compacted), expected);
}

#[test]
fn emptied_batches_remember_offsets_and_sequences() {
    let options = BatchOptions {
        producer_id: 9,
        producer_epoch: 1,
        base_sequence: 50,
        codec: Codec::Zstd,
        ..BatchOptions::default()
    };
    let bytes = sample(5, options);
    let batch = Batch::parse(&bytes).unwrap();
    let emptied = empty_batch(batch.header());
    let left = Batch::parse(&emptied).unwrap();
    assert_eq!(records_of(&emptied), []);
    assert_eq!((left.size(), left.record_count, left.codec()), (HEADER_BYTES, 0, Some(Codec::None)));
    assert_eq!((left.last_offset(), left.last_sequence()), (batch.last_offset(), batch.last_sequence()));
    assert_eq!((left.base_timestamp, left.max_timestamp), (NO_TIMESTAMP, batch.max_timestamp));
}

#[test]
fn rebuilding_changes_codec_and_offsets_and_nothing_else() {
    let bytes = sample(50, BatchOptions { codec: Codec::Gzip, leader_epoch: 4, ..BatchOptions::default() });
    let batch = Batch::parse(&bytes).unwrap();
    let options = BatchOptions { codec: Codec::Zstd, ..BatchOptions::of(&batch) };
    let rebuilt = rebuild(&batch, 7, options, LIMIT).unwrap();
    let again = Batch::parse(&rebuilt).unwrap();
    assert_eq!(again.codec(), Some(Codec::Zstd));
    assert_eq!((again.base_offset, again.last_offset(), again.leader_epoch), (7, 56, 4));
    assert_eq!((again.base_timestamp, again.max_timestamp), (batch.base_timestamp, batch.max_timestamp));
    for (new, old) in records_of(&rebuilt).into_iter().zip(records_of(&bytes)) {
        assert_eq!(new, Owned { offset: old.offset - 93, ..old });
    }
    assert_eq!(
        rebuild(&Batch::parse(&empty_batch(&batch)).unwrap(), 7, options, LIMIT),
        Err(RecordsError::NoRecords)
    );
    let timed = rebuild(&batch, 7, BatchOptions { append_time: Some(3), ..options }, LIMIT).unwrap();
    assert!(records_of(&timed).iter().all(|record| record.timestamp == 3));
}

#[test]
fn runs_of_batches_end_at_a_partial_one() {
    let first = sample(1, BatchOptions::default());
    let second = sample(2, BatchOptions { codec: Codec::Lz4, ..BatchOptions::default() });
    let run = [&first[..], &second[..], &first[..first.len() - 1]].concat();
    let mut walk = batches(&run);
    assert_eq!(walk.next().unwrap().unwrap().bytes(), first);
    assert_eq!(walk.position(), first.len());
    assert_eq!(walk.next().unwrap().unwrap().bytes(), second);
    assert_eq!(walk.next(), None);
    assert_eq!(walk.next(), None);
    assert_eq!(walk.position(), first.len() + second.len());
    assert_eq!(walk.rest(), &first[..first.len() - 1]);
    assert_eq!(batches(b"").next(), None);

    let mut broken = run.clone();
    broken[first.len() + 16] = 0;
    let found: Vec<_> = batches(&broken).skip(1).collect();
    assert_eq!(found, [Err(BatchError::UnsupportedMagic { magic: 0 })]);
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80))
}

prop_compose! {
    fn any_record()(
        gap in prop_oneof![4 => Just(1i64), 1 => 1i64..1_000_000],
        timestamp in prop_oneof![4 => 0i64..100_000, 1 => any::<i64>()],
        key in any_bytes(),
        value in any_bytes(),
        headers in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..9), any_bytes()), 0..4),
    ) -> Owned {
        Owned { offset: gap, timestamp, key, value, headers }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batch_round_trips(
        mut records in proptest::collection::vec(any_record(), 1..60),
        base_offset in prop_oneof![Just(0i64), 0i64..i64::MAX / 2],
        codec in proptest::sample::select(Codec::ALL.to_vec()),
        producer in proptest::option::of((0i64..i64::MAX, 0i16..i16::MAX, 0i32..i32::MAX)),
        transactional: bool,
        control: bool,
        leader_epoch in -1i32..i32::MAX,
    ) {
        let mut offset = base_offset - 1;
        for record in &mut records {
            offset += record.offset;
            record.offset = offset;
        }
        let (producer_id, producer_epoch, base_sequence) = producer.unwrap_or((-1, -1, -1));
        let options = BatchOptions {
            leader_epoch, producer_id, producer_epoch, base_sequence, transactional, control, codec,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(base_offset, options);
        for record in &records {
            record.push_to(&mut builder);
        }
        let bytes = builder.finish();
        prop_assert_eq!(records_of(&bytes), records.clone());

        let batch = Batch::parse(&bytes).unwrap();
        prop_assert_eq!(batch.last_offset(), offset);
        prop_assert_eq!(batch.record_count as usize, records.len());
        prop_assert_eq!(batch.max_timestamp, records.iter().map(|record| record.timestamp).max().unwrap().max(-1));
        prop_assert_eq!(BatchOptions::of(&batch), options);
        let stats = validate_producer_records(&batch, LIMIT).unwrap();
        prop_assert_eq!(stats.max_timestamp, batch.max_timestamp);
        prop_assert_eq!(stats.offsets_in_order, offset - base_offset + 1 == records.len() as i64);
        prop_assert_eq!(stats.first_null_key.map(|index| index as usize), records.iter().position(|r| r.key.is_none()));
    }
}
