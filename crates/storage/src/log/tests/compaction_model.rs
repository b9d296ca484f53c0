//! Compaction of random logs against a naive model of Kafka's rules, which keeps every batch as a list of records and knows the fate of
//! every transaction because it wrote them.
//!
//! Batch by batch and byte for byte of what matters: offsets, producers, sequence numbers, horizons, records.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::compression::Codec;
use ottla_protocol::records::{Batch, BatchBuilder, BatchOptions, EndTxnMarker, end_txn_batch};

use super::rig::*;
use crate::disk::SimDisk;
use crate::{AppendOrigin, CompactionRules, Log, LogConfig, OpenHints};

const RETENTION: i64 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rec {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelBatch {
    base: i64,
    last: i64,
    producer: i64,
    epoch: i16,
    sequence: i32,
    codec: Codec,
    /// The transaction that it belongs to or ends.
    txn: Option<usize>,
    control: bool,
    horizon: Option<i64>,
    records: Vec<Rec>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Producer {
    epoch: i16,
    next_sequence: i32,
    last_data: Option<i64>,
    txn: Option<usize>,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

struct Model {
    disk: SimDisk,
    config: LogConfig,
    log: Log,
    dice: Dice,
    now: i64,
    batches: Vec<ModelBatch>,
    producers: BTreeMap<i64, Producer>,
    /// Whether each transaction was aborted.
    aborted: Vec<Option<bool>>,
    cleaned: Option<i64>,
    /// How often there was something to do.
    cleanings: usize,
    /// The transaction of every batch that was ever written, by base offset.
    txns: BTreeMap<i64, usize>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let config = LogConfig {
            verify_transactions: false,
            segment_bytes: 700 + 400 * (seed % 3) as u32,
            index_interval_bytes: 200,
            producer_id_expiration_ms: i64::MAX,
            tail_cache_bytes: [0, 1 << 20][seed as usize % 2],
            compaction: CompactionRules { delete_retention_ms: RETENTION, ..CompactionRules::default() },
            ..LogConfig::default()
        };
        let disk = SimDisk::new(seed);
        let (log, _) = open_with(&disk, config.clone(), OpenHints::default());
        Model {
            disk,
            config,
            log,
            dice: Dice(seed * 7919 + 3),
            now: NOW,
            batches: Vec::new(),
            producers: (1..6).map(|id| (id, Producer::default())).collect(),
            aborted: Vec::new(),
            cleaned: None,
            cleanings: 0,
            txns: BTreeMap::new(),
        }
    }

    /// Producers 1 and 2 are idempotent, 3 to 5 transactional; 0 is none.
    fn append(&mut self) {
        let id = self.dice.below(6) as i64;
        let codecs = [Codec::None, Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        let mut options = BatchOptions { codec: codecs[self.dice.below(6)], ..BatchOptions::default() };
        if let Some(producer) = self.producers.get_mut(&id) {
            options.producer_id = id;
            options.producer_epoch = producer.epoch;
            options.base_sequence = producer.next_sequence;
            options.transactional = id > 2;
            if options.transactional && producer.txn.is_none() {
                producer.txn = Some(self.aborted.len());
                self.aborted.push(None);
            }
        }
        let base = self.log.log_end_offset();
        let mut builder = BatchBuilder::new(0, options);
        let mut records = Vec::new();
        for n in 0..1 + self.dice.below(4) as i64 {
            let key = (self.dice.below(12) > 0).then(|| format!("key{}", self.dice.below(15)).into_bytes());
            let value = (self.dice.below(4) > 0).then(|| vec![b'v'; self.dice.below(60)]);
            let timestamp = self.now + self.dice.below(50) as i64;
            builder.push(timestamp, key.as_deref(), value.as_deref(), &[]);
            records.push(Rec { offset: base + n, timestamp, key, value });
        }
        let info = self.log.append(&builder.finish().into(), CLIENT, 0, self.now).unwrap();
        let count = records.len() as i32;
        self.batches.push(ModelBatch {
            base,
            last: info.last_offset,
            producer: options.producer_id,
            epoch: options.producer_epoch,
            sequence: options.base_sequence,
            codec: options.codec,
            txn: self.producers.get(&id).and_then(|producer| producer.txn),
            control: false,
            horizon: None,
            records,
        });
        if let Some(producer) = self.producers.get_mut(&id) {
            self.txns.extend(producer.txn.map(|txn| (base, txn)));
            producer.next_sequence += count;
            producer.last_data = Some(info.last_offset);
        }
    }

    fn end_txn(&mut self) {
        let id = 3 + self.dice.below(3) as i64;
        let bump = self.dice.below(3) == 0;
        let Some(producer) = self.producers.get_mut(&id) else { unreachable!() };
        let Some(txn) = producer.txn.take() else { return };
        let abort = self.dice.below(2) == 0;
        self.aborted[txn] = Some(abort);
        if bump {
            *producer = Producer { epoch: producer.epoch + 1, ..Producer::default() };
        }
        let marker = EndTxnMarker { coordinator_epoch: 0 };
        let bytes = end_txn_batch(0, self.now, !abort, marker, id, producer.epoch, 0);
        let records = |base| {
            let bytes = end_txn_batch(base, self.now, !abort, marker, id, 0, 0);
            records_of(&Batch::parse(&bytes).unwrap())
        };
        let epoch = producer.epoch;
        let base = self
            .log
            .append(&bytes.clone().into(), AppendOrigin::Marker { bumps_epoch: false }, 0, self.now)
            .unwrap()
            .first_offset;
        self.txns.insert(base, txn);
        self.batches.push(ModelBatch {
            base,
            last: base,
            producer: id,
            epoch,
            sequence: -1,
            codec: Codec::None,
            txn: Some(txn),
            control: true,
            horizon: None,
            records: records(base),
        });
    }

    /// The rules, one by one, on lists.
    fn clean(&self, from: i64, end: i64) -> Vec<ModelBatch> {
        let is_aborted = |batch: &ModelBatch| batch.txn.is_some_and(|txn| self.aborted[txn] == Some(true));
        let data = |batch: &&ModelBatch| !batch.control;
        let mut last = BTreeMap::new();
        for batch in self.batches.iter().filter(data).filter(|batch| !is_aborted(batch)) {
            for record in batch.records.iter().filter(|record| (from..end).contains(&record.offset)) {
                last.insert(record.key.clone(), record.offset);
            }
        }
        let with_data: BTreeSet<usize> =
            self.batches.iter().filter(data).filter_map(|batch| batch.txn).collect();
        let mut cleaned = Vec::new();
        for batch in &self.batches {
            if batch.base >= end {
                cleaned.push(batch.clone());
                continue;
            }
            let mut left = batch.clone();
            let ripe = batch.horizon.is_some_and(|horizon| horizon <= self.now);
            let mut sets_horizon = false;
            if batch.control {
                let useless =
                    batch.records.is_empty() || !batch.txn.is_some_and(|txn| with_data.contains(&txn));
                if useless && ripe {
                    left.records.clear();
                }
                sets_horizon = useless;
            } else if is_aborted(batch) {
                left.records.clear();
            } else {
                left.records.retain(|record| {
                    let is_last = last.get(&record.key).is_none_or(|last| record.offset >= *last);
                    record.key.is_some() && is_last && (record.value.is_some() || !ripe)
                });
                sets_horizon = left.records.iter().any(|record| record.value.is_none());
            }
            if left.records.is_empty() {
                let carries =
                    self.producers.get(&batch.producer).is_some_and(|producer| match producer.last_data {
                        Some(last_data) => batch.last == last_data,
                        None => batch.control && batch.epoch == producer.epoch,
                    });
                if carries || batch.last + 1 == self.log.synced_offset() {
                    cleaned.push(ModelBatch { codec: Codec::None, horizon: None, ..left });
                }
                continue;
            }
            if sets_horizon && left.horizon.is_none() {
                left.horizon = Some(self.now + RETENTION);
            }
            cleaned.push(left);
        }
        cleaned
    }

    fn compact(&mut self) {
        self.log.flush().unwrap();
        let high_watermark = self.log.synced_offset();
        let dirt = dirt(&mut self.log, self.cleaned, high_watermark, self.now);
        let expected = self.clean(dirt.first_dirty_offset, dirt.end_offset);
        let cleaned = compact(&mut self.log, self.cleaned, self.now).unwrap();
        if dirt.dirty_bytes > 0 {
            assert_eq!(cleaned, Some(dirt.end_offset));
            self.batches = expected;
            self.cleanings += 1;
        }
        self.cleaned = cleaned;
        self.check();
    }

    /// Headers that only keep the end of a segment are not the model's concern; it takes them over.
    fn check(&mut self) {
        let segment_ends: BTreeSet<i64> = self.log.segments().map(|(base, _)| base).collect();
        let mut expected = std::mem::take(&mut self.batches).into_iter().peekable();
        for bytes in all_batches(&mut self.log) {
            let batch = Batch::parse(&bytes).unwrap();
            let records = records_of(&batch);
            if expected.peek().is_none_or(|next| next.base > batch.base_offset) {
                assert!(batch.record_count == 0, "{batch:?}");
                assert!(
                    segment_ends.contains(&batch.next_offset()),
                    "only at the end of a segment: {batch:?}"
                );
                assert_eq!(batch.codec(), Some(Codec::None));
                let txn = self.txns.get(&batch.base_offset).copied();
                self.batches.push(ModelBatch {
                    base: batch.base_offset,
                    last: batch.last_offset(),
                    producer: batch.producer_id,
                    epoch: batch.producer_epoch,
                    sequence: batch.base_sequence,
                    codec: Codec::None,
                    txn,
                    control: batch.is_control(),
                    horizon: None,
                    records,
                });
                continue;
            }
            let model = expected.next().unwrap();
            let found = ModelBatch {
                base: batch.base_offset,
                last: batch.last_offset(),
                producer: batch.producer_id,
                epoch: batch.producer_epoch,
                sequence: batch.base_sequence,
                codec: batch.codec().unwrap(),
                txn: model.txn,
                control: batch.is_control(),
                horizon: batch.delete_horizon(),
                records,
            };
            assert_eq!(found, model);
            self.batches.push(found);
        }
        assert_eq!(expected.next(), None);
    }

    /// What a reader of committed records must not see: everything in transactions that were aborted.
    fn check_aborted(&mut self) {
        let end = self.log.log_end_offset();
        let listed = self.log.aborted_transactions(0, end);
        for batch in self.batches.iter().filter(|batch| !batch.control && !batch.records.is_empty()) {
            let aborted = batch.txn.is_some_and(|txn| self.aborted[txn] == Some(true));
            let marker = self.batches.iter().find(|marker| {
                marker.control && marker.producer == batch.producer && marker.base > batch.base
            });
            let hidden = listed.iter().any(|(producer, first)| {
                *producer == batch.producer
                    && *first <= batch.base
                    && marker.is_some_and(|marker| marker.txn == batch.txn)
            });
            assert!(!aborted || hidden, "{batch:?} would be seen");
        }
    }

    fn reopen(&mut self) {
        self.log.flush().unwrap();
        let clean_shutdown = self.dice.below(2) == 0;
        if clean_shutdown {
            self.log.close().unwrap();
        }
        let hints = OpenHints {
            recovery_point: if self.dice.below(2) == 0 { self.log.recovery_point() } else { 0 },
            clean_shutdown,
            ..OpenHints::default()
        };
        self.disk = if self.dice.below(2) == 0 { self.disk.kill() } else { self.disk.crash() };
        let (log, report) = open_with(&self.disk, self.config.clone(), hints);
        assert_eq!((report.lost_synced_offsets, report.bytes_truncated), (0, 0));
        assert_eq!(log.log_end_offset(), self.log.log_end_offset());
        self.log = log;
        let known: BTreeMap<i64, (i16, i32)> = self
            .log
            .producers()
            .map(|known| (known.producer_id, (known.producer_epoch, known.last_sequence)))
            .collect();
        for (id, producer) in self.producers.iter().filter(|(_, producer)| producer.next_sequence > 0) {
            assert_eq!(known.get(id), Some(&(producer.epoch, producer.next_sequence - 1)), "producer {id}");
        }
    }

    fn step(&mut self) {
        self.now += self.dice.below(120) as i64;
        match self.dice.below(30) {
            0..20 => self.append(),
            20..26 => self.end_txn(),
            26 => self.reopen(),
            27 => self.check_aborted(),
            _ => self.compact(),
        }
    }
}

fn records_of(batch: &Batch<'_>) -> Vec<Rec> {
    let records = batch.records(1 << 20).unwrap();
    let owned = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
    let record = |record: ottla_protocol::records::Record<'_>| Rec {
        offset: record.offset,
        timestamp: record.timestamp,
        key: owned(record.key),
        value: owned(record.value),
    };
    records.iter().map(|found| record(found.unwrap())).collect()
}

fn run(seed: u64, steps: usize) {
    let mut model = Model::new(seed);
    for _ in 0..steps {
        model.step();
    }
    model.compact();
    model.check_aborted();
    assert!(model.cleanings >= steps / 100, "{}", model.cleanings);
}

#[test]
fn random_logs() {
    for seed in 0..36 {
        let outcome = std::panic::catch_unwind(|| run(seed, 250));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

/// The twin to paste a failing seed into.
#[test]
fn one_log() {
    run(3, 600);
}
