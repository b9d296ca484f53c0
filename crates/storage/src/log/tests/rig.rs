//! What the tests of the log share: batches, a disk with one log, and reading everything back.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::records::{BatchBuilder, BatchHeader, BatchOptions, HEADER_BYTES, batches, crc32c};

use crate::disk::SimDisk;
use crate::{AppendError, AppendInfo, AppendOrigin, Log, LogConfig, OpenHints, RecoveryReport};

pub(super) const CLIENT: AppendOrigin = AppendOrigin::Client { zstd_allowed: true, admission: None };
pub(super) const NOW: i64 = 1_700_000_000_000;
pub(super) const DIR: &str = "/data/topic-0";

pub(super) fn batch_at(timestamp: i64, values: &[&[u8]], options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(0, options);
    for value in values {
        builder.push(timestamp, Some(b"key"), Some(value), &[]);
    }
    builder.finish().into()
}

pub(super) fn batch(values: &[&[u8]]) -> Bytes {
    batch_at(NOW, values, BatchOptions::default())
}

pub(super) fn from_producer(producer_id: i64, base_sequence: i32, count: usize) -> Bytes {
    let options = BatchOptions { producer_id, producer_epoch: 0, base_sequence, ..BatchOptions::default() };
    batch_at(NOW, &vec![&b"v"[..]; count], options)
}

/// Segments of a few batches, an index entry for almost every batch, and no tail cache unless asked for.
pub(super) fn small() -> LogConfig {
    // Whether a transaction may begin is not the log's business, but that of its producers' state, and is tested there.
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 100,
        tail_cache_bytes: 0,
        verify_transactions: false,
        ..LogConfig::default()
    }
}

pub(super) fn open_with(disk: &SimDisk, config: LogConfig, hints: OpenHints) -> (Log, RecoveryReport) {
    Log::open(Arc::new(disk.clone()), Path::new(DIR).to_path_buf(), config, hints, NOW).unwrap()
}

pub(super) fn fresh(config: LogConfig) -> (SimDisk, Log) {
    let disk = SimDisk::new(7);
    let (log, report) = open_with(&disk, config, OpenHints::default());
    assert_eq!(report, RecoveryReport::default());
    (disk, log)
}

pub(super) fn clean() -> OpenHints {
    OpenHints { clean_shutdown: true, ..OpenHints::default() }
}

pub(super) fn append(log: &mut Log, bytes: &Bytes) -> AppendInfo {
    try_append(log, bytes).unwrap()
}

pub(super) fn try_append(log: &mut Log, bytes: &Bytes) -> Result<AppendInfo, AppendError> {
    log.append(bytes, CLIENT, 0, NOW)
}

/// Appends `count` batches of one record whose values are their offsets.
pub(super) fn fill(log: &mut Log, count: usize) {
    for _ in 0..count {
        let value = log.log_end_offset().to_string();
        append(log, &batch(&[value.as_bytes()]));
    }
}

/// The bytes that a slice stands for.
pub(super) fn bytes_of(slice: crate::Slice) -> Vec<u8> {
    let slice = slice.into_memory().unwrap();
    let mut bytes = Vec::new();
    for chunk in slice.records.chunks() {
        match chunk {
            ottla_protocol::Chunk::Bytes(chunk) => bytes.extend_from_slice(chunk),
            ottla_protocol::Chunk::File(_) => panic!("a slice in memory has no files"),
        }
    }
    assert_eq!(bytes.len(), slice.bytes);
    bytes
}

/// Every readable record, as (offset, value), read in pieces of `bytes_max`.
pub(super) fn records(log: &mut Log, bytes_max: usize) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    let (mut offset, end) = (log.log_start_offset(), log.log_end_offset());
    while offset < end {
        let slice = log.read(offset, bytes_max, end, true).unwrap();
        let next = slice.next_offset;
        assert!(next > offset, "a read moves forward");
        let bytes = bytes_of(slice);
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            for record in &batch.records(1 << 20).unwrap() {
                let record = record.unwrap();
                if record.offset >= log.log_start_offset() {
                    found.push((record.offset, record.value.unwrap().to_vec()));
                }
            }
        }
        offset = next;
    }
    found
}

/// Asserts that the log holds the records `from..to` that [`fill`] wrote.
pub(super) fn check_filled(log: &mut Log, from: i64, to: i64) {
    let expected: Vec<_> = (from..to).map(|offset| (offset, offset.to_string().into_bytes())).collect();
    assert_eq!(records(log, 300), expected);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (from, to));
}

/// Goes on at any pace.
pub(super) struct Unhurried;

impl crate::Pace for Unhurried {
    fn pass(&self, _bytes: usize) -> bool {
        true
    }
}

pub(super) const MEMORY: crate::CompactionMemory =
    crate::CompactionMemory { map_bytes: 1 << 16, load_factor: 0.9, secret: crate::HashSecret(5, 6) };

/// Looks at segments until how dirty the log is can be told.
pub(super) fn try_dirt(
    log: &mut Log,
    cleaned_offset: Option<i64>,
    high_watermark: i64,
    now: i64,
) -> Result<crate::Dirt, crate::StorageError> {
    loop {
        match log.dirt(cleaned_offset, high_watermark, now)? {
            crate::Surveyed::Known(dirt) => return Ok(dirt),
            crate::Surveyed::Unknown(job) => log.on_surveyed(job.run()?),
        }
    }
}

pub(super) fn dirt(log: &mut Log, cleaned_offset: Option<i64>, high_watermark: i64, now: i64) -> crate::Dirt {
    try_dirt(log, cleaned_offset, high_watermark, now).unwrap()
}

/// Looks at segments until what is to be deleted can be told.
pub(super) fn try_retain(
    log: &mut Log,
    high_watermark: i64,
    now: i64,
) -> Result<crate::DeleteJob, crate::StorageError> {
    loop {
        match log.retain(high_watermark, usize::MAX, now)? {
            crate::Surveyed::Known(job) => return Ok(job),
            crate::Surveyed::Unknown(job) => log.on_surveyed(job.run()?),
        }
    }
}

pub(super) fn retain(log: &mut Log, high_watermark: i64, now: i64) -> crate::DeleteJob {
    try_retain(log, high_watermark, now).unwrap()
}

/// Compacts what may be compacted, everything below the synced offset being committed. Returns where the clean part ends.
pub(super) fn compact(
    log: &mut Log,
    cleaned_offset: Option<i64>,
    now: i64,
) -> Result<Option<i64>, crate::CompactionError> {
    let storage = crate::CompactionError::Storage;
    let high_watermark = log.synced_offset();
    let dirt = try_dirt(log, cleaned_offset, high_watermark, now).map_err(storage)?;
    let Some(mut compaction) = log.begin_compaction(&dirt, MEMORY, high_watermark, now).map_err(storage)?
    else {
        return Ok(cleaned_offset);
    };
    while let Some(cleaned) = compaction.next_segment(&Unhurried)? {
        let mut job = log.begin_swap(cleaned).map_err(storage)?.expect("nothing else happens to the log");
        loop {
            match log.on_swapped(job.run()).map_err(storage)? {
                crate::Swapped::More(next) => job = next,
                crate::Swapped::Over(replaced) => break replaced.remove().map_err(storage)?,
                crate::Swapped::Finished => panic!("nobody else finishes it"),
            }
        }
    }
    Ok(Some(compaction.cleaned_offset()))
}

/// A batch of three tombstones with these relative offsets.
pub(super) fn misnumbered(base_offset: i64, key: &str, deltas: [i64; 3]) -> Vec<u8> {
    let one = |delta| {
        let mut one = BatchBuilder::new(0, BatchOptions::default());
        one.push_at(delta, NOW, Some(key.as_bytes()), None, &[]);
        one.finish()
    };
    let mut bytes = one(0)[..HEADER_BYTES].to_vec();
    deltas.iter().for_each(|delta| bytes.extend_from_slice(&one(*delta)[HEADER_BYTES..]));
    let mut header = BatchHeader::read(&bytes).unwrap();
    (header.base_offset, header.batch_length) = (base_offset, bytes.len() as i32 - 12);
    (header.record_count, header.last_offset_delta) = (3, 2);
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Every batch in the log, as bytes.
pub(super) fn all_batches(log: &mut Log) -> Vec<Vec<u8>> {
    let (mut offset, end) = (log.log_start_offset(), log.log_end_offset());
    let mut found = Vec::new();
    while offset < end {
        let slice = log.read(offset, 1 << 20, end, true).unwrap();
        assert!(slice.next_offset > offset, "a read moves forward");
        offset = slice.next_offset;
        for batch in batches(&bytes_of(slice)) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            found.push(batch.bytes().to_vec());
        }
    }
    found
}
