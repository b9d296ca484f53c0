//! kafka-protocol's record codec as oracle, in both directions. It drops repeated header keys and wants UTF-8, so headers here are
//! tame; compression is ours on both sides (the codecs have their own tests), the batches around it are not.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use proptest::prelude::*;

use super::*;
use crate::compression::{compress, decompress};

fn codec_of(compression: theirs::Compression) -> Codec {
    Codec::from_id(compression as u8).expect("the ids are the same")
}

fn compression_of(codec: Codec) -> theirs::Compression {
    match codec {
        Codec::None => theirs::Compression::None,
        Codec::Gzip => theirs::Compression::Gzip,
        Codec::Snappy => theirs::Compression::Snappy,
        Codec::Lz4 => theirs::Compression::Lz4,
        Codec::Zstd => theirs::Compression::Zstd,
    }
}

fn encode(records: &[theirs::Record], codec: Codec) -> Vec<u8> {
    let options = theirs::RecordEncodeOptions { version: 2, compression: compression_of(codec) };
    let pack = |source: &mut BytesMut, target: &mut BytesMut, compression| {
        let mut packed = Vec::new();
        compress(codec_of(compression), None, source, &mut packed);
        target.extend_from_slice(&packed);
        Ok(())
    };
    let mut target = BytesMut::new();
    theirs::RecordBatchEncoder::encode_with_custom_compression(&mut target, records, &options, Some(pack))
        .unwrap();
    target.to_vec()
}

fn decode(bytes: &[u8]) -> Vec<theirs::Record> {
    let unpack = |source: &mut Bytes, compression| {
        Ok(Bytes::from(decompress(codec_of(compression), source, LIMIT).unwrap()))
    };
    let mut source = Bytes::copy_from_slice(bytes);
    theirs::RecordBatchDecoder::decode_with_custom_compression(&mut source, Some(unpack)).unwrap().records
}

fn owned(record: &theirs::Record) -> Owned {
    Owned {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.as_ref().map(|value| value.to_vec()),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value.as_ref().map(|value| value.to_vec())))
            .collect(),
    }
}

fn their_record(record: &Owned, options: &BatchOptions, sequence: i32) -> theirs::Record {
    theirs::Record {
        transactional: options.transactional,
        control: options.control,
        delete_horizon: false,
        partition_leader_epoch: options.leader_epoch,
        producer_id: options.producer_id,
        producer_epoch: options.producer_epoch,
        timestamp_type: theirs::TimestampType::Creation,
        offset: record.offset,
        sequence,
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| {
                (
                    StrBytes::from_string(String::from_utf8(key.clone()).unwrap()),
                    value.clone().map(Bytes::from),
                )
            })
            .collect(),
    }
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50))
}

prop_compose! {
    fn tame_records()(
        parts in proptest::collection::vec((0i64..1000, any_bytes(), any_bytes(), any_bytes(), 0usize..3), 1..40),
        base_offset in 0i64..1_000_000,
    ) -> Vec<Owned> {
        parts.into_iter().enumerate().map(|(index, (age, key, value, header, headers))| Owned {
            offset: base_offset + index as i64,
            // Their base timestamp is the smallest one, ours the first one: keep them equal.
            timestamp: 1_700_000_000_000 + if index == 0 { 0 } else { age },
            key,
            value,
            headers: (0..headers).map(|n| (format!("h{n}").into_bytes(), header.clone())).collect(),
        }).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_write_the_same_bytes_and_read_each_other(
        records in tame_records(),
        codec in proptest::sample::select(Codec::ALL.to_vec()),
        transactional: bool,
    ) {
        let options = BatchOptions {
            leader_epoch: 3, producer_id: 77, producer_epoch: 2, base_sequence: 10, transactional, codec,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(records[0].offset, options);
        for record in &records {
            record.push_to(&mut builder);
        }
        let ours = builder.finish();
        let sequences = 10..;
        let their_records: Vec<_> = records
            .iter()
            .zip(sequences)
            .map(|(record, sequence)| their_record(record, &options, sequence))
            .collect();
        let theirs = encode(&their_records, codec);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(records_of(&theirs), records.clone());
        let read = decode(&ours);
        prop_assert_eq!(&read, &their_records);
        prop_assert_eq!(read.iter().map(owned).collect::<Vec<_>>(), records);
    }
}
