//! Goal: our batches are Kafka's batches, byte for byte, and hostile ones cost nothing and break nothing. Method: batches written out
//! by hand from the published layout, an independent implementation as oracle in both directions, round trips, mutations.

mod golden;
mod hostile;
mod oracle;
mod round_trip;

use super::*;
use crate::compression::Codec;

const LIMIT: usize = 16 << 20;

/// A record that owns its bytes, for comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn of(record: &Record<'_>) -> Owned {
        let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Owned {
            offset: record.offset,
            timestamp: record.timestamp,
            key: own(record.key),
            value: own(record.value),
            headers: record.headers.iter().map(|header| (header.key.to_vec(), own(header.value))).collect(),
        }
    }

    fn push_to(&self, builder: &mut BatchBuilder) {
        let headers: Vec<Header<'_>> =
            self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        builder.push_at(self.offset, self.timestamp, self.key.as_deref(), self.value.as_deref(), &headers);
    }
}

fn records_of(bytes: &[u8]) -> Vec<Owned> {
    let batch = Batch::parse(bytes).expect("a whole batch");
    batch.verify_crc().expect("an intact batch");
    let set = batch.records(LIMIT).expect("readable records");
    set.iter().map(|record| Owned::of(&record.expect("a well-formed record"))).collect()
}

/// A batch of `count` small records from offset 100 on.
fn sample(count: usize, options: BatchOptions) -> Vec<u8> {
    let mut builder = BatchBuilder::new(100, options);
    for index in 0..count {
        let value = format!("value of record number {index}");
        builder.push(1_700_000_000_000 + index as i64, Some(b"key"), Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

/// The same batch with a valid checksum after something was changed.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}
