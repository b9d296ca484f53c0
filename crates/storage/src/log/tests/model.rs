//! Random histories against a naive model: a vector of values, of which a prefix is promised.
//!
//! Everything flushed survives `crash`, everything written survives `kill`, and a producer's resends stay duplicates.

use super::rig::*;
use crate::disk::SimDisk;
use crate::{Log, LogConfig, OpenHints};
use ottla_protocol::records::BatchOptions;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

struct Model {
    disk: SimDisk,
    log: Log,
    config: LogConfig,
    dice: Dice,
    /// The value at each offset, from 0.
    values: Vec<Vec<u8>>,
    log_start: usize,
    synced: usize,
    /// What the checkpoint files would say.
    hints: OpenHints,
    /// Offset and bytes of the newest batch of the idempotent producer that is still in the log.
    last_of_producer: Option<(i64, bytes::Bytes)>,
    sequence: i32,
    epoch: i32,
    counter: u64,
}

impl Model {
    fn new(seed: u64) -> Model {
        let config = LogConfig {
            segment_bytes: 600,
            index_interval_bytes: [60, 200, 4096][seed as usize % 3],
            tail_cache_bytes: [0, 700, 1 << 20][seed as usize / 3 % 3],
            producer_id_expiration_ms: i64::MAX,
            ..LogConfig::default()
        };
        let disk = SimDisk::new(seed);
        let (log, _) = open_with(&disk, config.clone(), OpenHints::default());
        Model {
            disk,
            log,
            config,
            dice: Dice(seed.wrapping_mul(977) + 1),
            values: Vec::new(),
            log_start: 0,
            synced: 0,
            hints: OpenHints::default(),
            last_of_producer: None,
            sequence: 0,
            epoch: 0,
            counter: 0,
        }
    }

    fn value(&mut self) -> Vec<u8> {
        self.counter += 1;
        let mut value = self.counter.to_string().into_bytes();
        value.resize(value.len() + self.dice.below(90), b'.');
        value
    }

    fn append(&mut self) {
        let values: Vec<Vec<u8>> = (0..1 + self.dice.below(3)).map(|_| self.value()).collect();
        let slices: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        let idempotent = self.dice.below(3) == 0;
        let options = if idempotent {
            BatchOptions {
                producer_id: 5,
                producer_epoch: 0,
                base_sequence: self.sequence,
                ..BatchOptions::default()
            }
        } else {
            BatchOptions::default()
        };
        let bytes = batch_at(NOW + self.counter as i64, &slices, options);
        let info = self.log.append(&bytes, CLIENT, self.epoch, NOW).unwrap();
        assert_eq!(info.first_offset, self.values.len() as i64);
        if idempotent {
            self.sequence += values.len() as i32;
            self.last_of_producer = Some((info.first_offset, bytes));
        }
        self.values.extend(values);
        assert_eq!(info.last_offset, self.values.len() as i64 - 1);
    }

    fn flush(&mut self) {
        let claimed = self.values.len();
        let Some(job) = self.log.begin_flush() else { return };
        for _ in 0..self.dice.below(3) {
            self.append();
        }
        let done = job.run();
        let synced = self.log.on_flushed(done).unwrap();
        assert!(synced >= claimed as i64);
        self.synced = synced as usize;
        if self.dice.below(2) == 0 {
            self.hints.recovery_point = synced;
        }
    }

    fn truncate(&mut self) {
        let lowest = self.log_start.max(self.values.len().saturating_sub(20));
        let offset = lowest + self.dice.below(self.values.len() - lowest + 1);
        if self.log.truncate_to(offset as i64, NOW).unwrap() {
            self.hints.recovery_point = self.hints.recovery_point.min(self.log.recovery_point());
        }
        self.hints.recovery_point = self.hints.recovery_point.min(self.log.recovery_point());
        self.cut(offset);
    }

    /// The log ends at `offset`, or where the batch across it began.
    fn cut(&mut self, offset: usize) {
        let kept = self.log.log_end_offset() as usize;
        assert!(kept <= offset && kept + 3 > offset, "{kept} {offset}");
        self.values.truncate(kept);
        self.synced = self.synced.min(kept);
        self.epoch += 1;
        self.forget_producer(kept);
    }

    fn forget_producer(&mut self, end: usize) {
        let producer = self.log.producers().next();
        // One that the log forgot (its records were deleted) goes on counting, and is accepted anywhere.
        self.sequence = producer.map_or(self.sequence, |producer| producer.last_sequence + 1);
        self.last_of_producer = self.last_of_producer.take().filter(|(offset, _)| (*offset as usize) < end);
    }

    fn delete(&mut self) {
        let room = self.synced - self.log_start.min(self.synced);
        let offset = self.log_start + self.dice.below(room.min(30) + 1);
        let mut job = self.log.advance_log_start_offset(offset as i64).unwrap();
        self.log_start = offset;
        self.hints.log_start_offset = offset as i64;
        if self.dice.below(4) > 0 {
            job.mark().unwrap();
            job.remove().unwrap();
        }
    }

    /// The next process finds `image`; at least the first `promised` values must be there.
    fn reopen(&mut self, image: SimDisk, promised: usize, clean: bool) {
        self.disk = image;
        let hints = OpenHints { clean_shutdown: clean, ..self.hints };
        let (log, report) = open_with(&self.disk, self.config.clone(), hints);
        self.log = log;
        let end = self.log.log_end_offset() as usize;
        assert_eq!(report.lost_synced_offsets, 0);
        assert!(end >= promised && end <= self.values.len(), "{promised} promised, {end} found");
        self.values.truncate(end);
        self.synced = end;
        if let Some((offset, bytes)) = self.last_of_producer.clone()
            && (offset as usize) < end
            && offset as usize >= self.log_start
        {
            let again = self.log.append(&bytes, CLIENT, self.epoch, NOW).unwrap();
            assert!(again.duplicate && again.first_offset == offset, "{again:?}");
        }
        self.epoch += 1;
        self.forget_producer(end);
    }

    fn close(&mut self) {
        self.log.close().unwrap();
        let end = self.values.len();
        self.synced = end;
        self.hints.recovery_point = end as i64;
        let image = if self.dice.below(2) == 0 { self.disk.kill() } else { self.disk.crash() };
        self.reopen(image, end, true);
    }

    fn check(&mut self) {
        let bytes_max = 1 + self.dice.below(1500);
        let found = records(&mut self.log, bytes_max);
        assert_eq!(found.len(), self.values.len() - self.log_start);
        for ((offset, value), expected) in found.into_iter().zip(self.log_start..) {
            assert_eq!(offset, expected as i64);
            assert!(value == self.values[expected], "offset {offset}");
        }
    }

    fn step(&mut self) {
        match self.dice.below(40) {
            0..22 => self.append(),
            22..28 => self.flush(),
            28 | 29 => self.truncate(),
            30 | 31 => self.delete(),
            32 => self.close(),
            33 => {
                let image = self.disk.kill();
                self.reopen(image, self.values.len(), false);
            }
            34 | 35 => {
                let image = self.disk.crash();
                self.reopen(image, self.synced, false);
            }
            36 => self.log.roll(NOW).unwrap(),
            37 => self.log.release_files().unwrap(),
            _ => self.check(),
        }
    }
}

fn run(seed: u64, steps: usize) {
    let mut model = Model::new(seed);
    for _ in 0..steps {
        model.step();
    }
    model.check();
}

#[test]
fn random_histories() {
    for seed in 0..72 {
        let outcome = std::panic::catch_unwind(|| run(seed, 150));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

/// The twin to paste a failing seed into.
#[test]
fn one_history() {
    run(3, 400);
}
