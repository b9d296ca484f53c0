//! Record batches of real producers: read, checked as a broker checks them, and written again.
//!
//! Compressed bytes depend on who compresses, so those batches are compared by their records; the others byte for byte.

use ottla_protocol::compression::Codec;
use ottla_protocol::records::{
    Batch, BatchBuilder, BatchOptions, ControlKey, rebuild, validate_producer_batch,
    validate_producer_records,
};

use super::corpus;

/// One batch of franz-go holds a record of a little more than 1 MiB in 4 KiB of LZ4.
const LIMIT: usize = 2 << 20;

#[test]
fn batches_of_all_producers_are_read_and_written_again() {
    for line in corpus::lines(&corpus::path("batches.hex"), 3) {
        let place = format!("{} {}", line.place, line.words.join(" "));
        let bytes = line.only_bytes();
        let batch = Batch::parse(bytes).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(batch.size(), bytes.len(), "{place}");
        assert_eq!(batch.header().to_bytes(), bytes[..61], "{place}");
        batch.verify_crc().unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(batch.codec(), Codec::from_name(&line.words[1]), "{place}");
        assert_eq!(batch.is_control(), line.words[2] == "control", "{place}");
        assert_eq!(batch.is_transactional(), line.words[2] != "plain", "{place}");
        if batch.is_control() {
            check_control(&batch);
        } else {
            assert_eq!(validate_producer_batch(&batch), Ok(()), "{place}");
            let stats =
                validate_producer_records(&batch, LIMIT).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(stats.offsets_in_order, "{place}");
            assert_eq!(stats.max_timestamp, batch.max_timestamp, "{place}");
        }
        check_written_again(&batch, &place);
    }
}

fn check_control(batch: &Batch<'_>) {
    let set = batch.records(LIMIT).expect("readable records");
    let record = set.iter().next().expect("a record").expect("a well-formed record");
    assert!(ControlKey::read(record.key).expect("a key").control_type().is_some());
}

fn check_written_again(batch: &Batch<'_>, place: &str) {
    let options = BatchOptions::of(batch);
    let ours =
        rebuild(batch, batch.base_offset, options, LIMIT).unwrap_or_else(|error| panic!("{place}: {error}"));
    if batch.codec() == Some(Codec::None) {
        assert_eq!(ours, batch.bytes(), "{place}");
    }
    // The same records in a plain batch: from the recorded bytes and from what our codec made of them.
    let plain = BatchOptions { codec: Codec::None, ..options };
    let ours = Batch::parse(&ours).expect("our own batch");
    assert_eq!(
        rebuild(&ours, 0, plain, LIMIT).expect("our own batch"),
        rebuild(batch, 0, plain, LIMIT).expect("the recorded batch"),
        "{place}"
    );
}

/// The recording sent the same records with each codec, so that the codecs can be checked against each other.
#[test]
fn records_are_the_same_whatever_the_codec() {
    for producer in ["java", "librdkafka", "kafka-python"] {
        let lines = corpus::lines(&corpus::path("batches.hex"), 3);
        let plain: Vec<_> =
            lines.iter().filter(|line| line.words[0] == producer && line.words[2] == "plain").collect();
        assert_eq!(plain.len(), Codec::ALL.len(), "{producer}");
        let shapes: Vec<_> = plain.iter().map(|line| shape(line.only_bytes())).collect();
        assert!(shapes.windows(2).all(|pair| pair[0] == pair[1]), "{producer}");
    }
}

/// Keys, headers and which values are null; the values name their codec.
fn shape(bytes: &[u8]) -> Vec<u8> {
    let batch = Batch::parse(bytes).expect("a batch");
    let set = batch.records(LIMIT).expect("readable records");
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    for record in &set {
        let record = record.expect("a well-formed record");
        let headers: Vec<_> = record.headers.iter().collect();
        let value = record.value.map(|_| &b"value"[..]);
        builder.push(record.offset - batch.base_offset, record.key, value, &headers);
    }
    builder.finish()
}
