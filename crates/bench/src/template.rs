//! A Produce request, encoded once and sent again and again.
//!
//! ```text
//!   | size | api, version | correlation id | ... | partition | length | batch header | records ... | tags |
//!   '------------------------- head: copied and patched ----------------------------'------ tail: shared --'
//! ```
//!
//! The tricky idea: the checksum of a batch covers the producer's fields, which differ from one idempotent batch to the next. The
//! checksum of the records behind them is kept, and combined with that of the patched header, so no record byte is read again.

use crate::client::{frame, invalid};
use crate::options::ProduceOptions;
use crate::payload;
use crate::topic::Topic;
use crc_fast::{CrcAlgorithm, checksum_combine};
use ottla_protocol::Records;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::records::{BatchBuilder, BatchOptions, HEADER_BYTES, crc32c};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

const CORRELATION_ID_AT: usize = 8;
const BATCH_CRC_AT: usize = 17;
/// Where the part of a batch begins that its checksum covers.
const BATCH_ATTRIBUTES_AT: usize = 21;
const BATCH_PRODUCER_ID_AT: usize = 43;
const BATCH_PRODUCER_EPOCH_AT: usize = 51;
const BATCH_SEQUENCE_AT: usize = 53;
/// Empty tagged fields of the partition, the topic and the request.
const TRAILER_BYTES: usize = 3;

/// An idempotent producer, and what it sends next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Given by the broker.
    pub id: i64,
    /// Given by the broker.
    pub epoch: i16,
    /// Of the next batch.
    pub sequence: i32,
}

/// An encoded request.
#[derive(Debug)]
pub struct Template {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Where the partition's index stands; `None` if the request is for several.
    partition_at: Option<usize>,
    batch_at: usize,
    records_crc: u32,
    records_bytes: usize,
    /// Of Produce.
    pub version: i16,
    /// Records of one request.
    pub records: u64,
    /// Bytes of the records' values in one request, before compression.
    pub payload_bytes: u64,
}

impl Template {
    /// A request with one batch for each of `partitions`. If it is only one, every partition can be patched in.
    pub fn new(options: &ProduceOptions, topic: &Topic, partitions: &[i32]) -> io::Result<Template> {
        Template::of(options, topic, partitions, None)
    }

    /// The same for the producer of a transaction.
    pub fn of(
        options: &ProduceOptions,
        topic: &Topic,
        partitions: &[i32],
        transactional_id: Option<&str>,
    ) -> io::Result<Template> {
        let batch = batch(options);
        let data = |&index| PartitionProduceData { index, records: Some(Records::Slice(&batch)) };
        let request = ProduceRequest {
            transactional_id: transactional_id.map(Into::into),
            acks: options.acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                // The one that the version does not know is left out.
                name: topic.name.as_str().into(),
                topic_id: topic.id,
                partition_data: partitions.iter().map(data).collect(),
            }],
        };
        let mut head = frame(&request, options.dialect.produce_version, 0)?;
        let first = head.windows(HEADER_BYTES).position(|bytes| bytes == &batch[..HEADER_BYTES]);
        let batch_at = first.ok_or_else(|| invalid("the batch is not in its request"))?;
        let tail = head.split_off(batch_at + HEADER_BYTES);
        let is_single = partitions.len() == 1;
        assert!(!is_single || tail.len() == batch.len() - HEADER_BYTES + TRAILER_BYTES, "as drawn above");
        let length_bytes = varint_bytes(batch.len() as u32 + 1);
        let records = options.batch_records as u64 * partitions.len() as u64;
        Ok(Template {
            partition_at: is_single.then(|| batch_at - length_bytes - 4),
            batch_at,
            records_crc: crc32c(&batch[HEADER_BYTES..]),
            records_bytes: batch.len() - HEADER_BYTES,
            version: options.dialect.produce_version,
            head,
            tail,
            records,
            payload_bytes: records * options.record_bytes as u64,
        })
    }

    /// Size on the wire.
    pub fn wire_bytes(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64
    }

    /// Records and trailer: the same in every request.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// The head of one request, into `head`. A producer's sequence moves on.
    pub fn patch(
        &self,
        head: &mut Vec<u8>,
        correlation_id: i32,
        partition: i32,
        producer: Option<&mut Producer>,
    ) {
        head.clear();
        head.extend_from_slice(&self.head);
        put(head, CORRELATION_ID_AT, &correlation_id.to_be_bytes());
        if let Some(at) = self.partition_at {
            put(head, at, &partition.to_be_bytes());
        }
        if let Some(producer) = producer {
            put(head, self.batch_at + BATCH_PRODUCER_ID_AT, &producer.id.to_be_bytes());
            put(head, self.batch_at + BATCH_PRODUCER_EPOCH_AT, &producer.epoch.to_be_bytes());
            put(head, self.batch_at + BATCH_SEQUENCE_AT, &producer.sequence.to_be_bytes());
            let header_crc = crc32c(&head[self.batch_at + BATCH_ATTRIBUTES_AT..]);
            let crc = checksum_combine(
                CrcAlgorithm::Crc32Iscsi,
                header_crc.into(),
                self.records_crc.into(),
                self.records_bytes as u64,
            );
            put(head, self.batch_at + BATCH_CRC_AT, &(crc as u32).to_be_bytes());
            producer.sequence = advance(producer.sequence, self.records as i32);
        }
    }
}

/// Sequences wrap from `i32::MAX` to 0.
fn advance(sequence: i32, by: i32) -> i32 {
    ottla_protocol::records::advance_sequence(sequence, by)
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn varint_bytes(value: u32) -> usize {
    (32 - value.max(1).leading_zeros() as usize).div_ceil(7)
}

fn batch(options: &ProduceOptions) -> Vec<u8> {
    let batch_options = BatchOptions {
        codec: options.codec.codec(),
        // A place for the producer's fields; without a producer they say "none".
        transactional: options.transaction_requests.is_some(),
        ..Default::default()
    };
    let mut builder = BatchBuilder::new(0, batch_options);
    for value in payload::values(options.payload, options.batch_records, options.record_bytes) {
        builder.push(now_ms(), None, Some(&value), &[]);
    }
    builder.finish()
}

/// The time that records get: an old one would have them deleted by the topic's retention while they are measured.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Arguments, Verb};
    use clap::Parser;
    use ottla_protocol::messages::request_header::RequestHeader;
    use ottla_protocol::records::Batch;
    use ottla_protocol::{ApiKey, Message, Reader, Uuid};

    /// The partition and the header of the batch in a request that was put together from `template`.
    fn sent(
        template: &Template,
        correlation_id: i32,
        partition: i32,
        producer: &mut Producer,
    ) -> (i32, Producer) {
        let mut bytes = Vec::new();
        template.patch(&mut bytes, correlation_id, partition, Some(producer));
        bytes.extend_from_slice(template.tail());
        assert_eq!(bytes.len(), 4 + u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize);
        let mut reader = Reader::new(&bytes[4..]);
        let version = ApiKey::Produce.request_header_version(template.version);
        let header = RequestHeader::decode(&mut reader, version).unwrap();
        assert_eq!(header.correlation_id, correlation_id);
        let request = ProduceRequest::decode(&mut reader, template.version).unwrap();
        reader.expect_end().unwrap();
        let data = &request.topic_data[0].partition_data[0];
        let Some(Records::Slice(records)) = &data.records else { panic!("records") };
        let batch = Batch::parse(records).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.records(1 << 20).unwrap().iter().count(), 10);
        let producer =
            Producer { id: batch.producer_id, epoch: batch.producer_epoch, sequence: batch.base_sequence };
        (data.index, producer)
    }

    #[test]
    fn what_is_patched_is_what_a_broker_reads() {
        let cases =
            [("none", "13"), ("none", "9"), ("lz4", "13"), ("zstd", "11"), ("gzip", "12"), ("snappy", "13")];
        for (codec, version) in cases {
            let line = ["x", "produce", "--batch-records", "10", "--record-bytes", "300", "--codec", codec];
            let line = line.into_iter().chain(["--produce-version", version]);
            let Verb::Produce(options) = Arguments::parse_from(line).verb else { panic!("produce") };
            let topic = Topic { name: "t".into(), id: Uuid([7; 16]), partitions: 9 };
            let template = Template::new(&options, &topic, &[0]).unwrap();
            let mut producer = Producer { id: 4711, epoch: 3, sequence: i32::MAX - 9 };
            let (partition, first) = sent(&template, 77, 8, &mut producer);
            assert_eq!((partition, first.sequence), (8, i32::MAX - 9), "{codec}, {version}");
            let (_, second) = sent(&template, 78, 3, &mut producer);
            assert_eq!(second, Producer { id: 4711, epoch: 3, sequence: 0 }, "sequences wrap");
        }
    }
}
