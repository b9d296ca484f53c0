//! The partitions of the model: what is in them, and the queues in which transactions are about to begin.

use std::collections::{BTreeMap, VecDeque};

use ottla_protocol::ErrorCode;
use ottla_storage::{Admission, AppendOrigin, ModelAppend, ModelBatch, ModelLog};

use super::message::{Batch, Marked, Marker, Message, OFFSETS, Producer, Value};
use super::model::{Model, Setting};

/// A batch in a partition.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub offset: i64,
    pub producer: Producer,
    /// `None`: the end of a transaction.
    pub value: Option<Value>,
    pub commit: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Partition {
    pub log: ModelLog,
    pub entries: Vec<Entry>,
    /// Producer, first and last offset of aborted transactions.
    pub aborted: Vec<(i64, i64, i64)>,
    admissions: BTreeMap<u64, Admission>,
    queues: BTreeMap<Producer, VecDeque<Batch>>,
}

impl Partition {
    pub fn new(setting: &Setting) -> Partition {
        Partition {
            log: ModelLog::new(setting.log, setting.verifies),
            entries: Vec::new(),
            aborted: Vec::new(),
            admissions: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }

    pub fn has_queued(&self, client: usize, op: usize) -> bool {
        self.queues.values().flatten().any(|batch| (batch.client, batch.op) == (client, op))
    }

    /// Who waited to begin a transaction asks again.
    pub fn restart(&mut self) {
        self.log.restart();
        self.admissions.clear();
        self.queues.clear();
    }
}

impl Model {
    /// A batch arrives. The first one of a transaction waits for the word of the coordinator, and so do those behind it.
    pub(super) fn on_produce(&mut self, batch: Batch) {
        let index = batch.value.partition;
        let partition = &mut self.partitions[index];
        if let Some(queue) = partition.queues.get_mut(&batch.producer) {
            queue.push_back(batch);
            return;
        }
        if !batch.adds && !self.setting.verifies {
            self.append(batch, None);
            return;
        }
        match partition.log.apply_for_admission(&header(&batch), batch.adds, self.now) {
            Err(error) => self.reply_to(batch.client, batch.op, error.code().code(), batch.producer),
            Ok(None) => self.append(batch, None),
            Ok(Some(admission)) => {
                partition.admissions.insert(admission.number(), admission);
                partition.queues.entry(batch.producer).or_default().push_back(batch);
                let (producer, admission, adds) = (batch.producer, admission.number(), batch.adds);
                self.flight.push(Message::Ask { partition: index, producer, admission, adds });
            }
        }
    }

    /// The coordinator's word.
    pub(super) fn on_answer(&mut self, partition: usize, producer: Producer, admission: u64, error: i16) {
        let queue = self.partitions[partition].queues.remove(&producer).unwrap_or_default();
        let admission = self.partitions[partition].admissions.get(&admission).copied();
        for batch in queue {
            if error == 0 {
                self.append(batch, admission);
            } else {
                self.reply_to(batch.client, batch.op, error, producer);
            }
        }
    }

    fn append(&mut self, batch: Batch, admission: Option<Admission>) {
        let (producer, value) = (batch.producer, batch.value);
        let log = &mut self.partitions[value.partition].log;
        let appended = if value.partition == OFFSETS {
            let origin = AppendOrigin::Coordinator { admission };
            self.offsets.commit(producer, value.offset(), self.now, || log.append(&header(&batch), origin))
        } else {
            let origin = AppendOrigin::Client { zstd_allowed: true, admission };
            log.append(&header(&batch), origin)
        };
        let error = match appended {
            Err(error) => error.code(),
            Ok(ModelAppend::Duplicate) => ErrorCode::None,
            Ok(ModelAppend::At(offset, _)) => {
                let entry = Entry { offset, producer, value: Some(value), commit: false };
                self.partitions[value.partition].entries.push(entry);
                if self.fenced_below.get(&producer.0).is_some_and(|fenced| producer.1 < *fenced) {
                    self.break_promise(format!(
                        "I12: {value:?} of {producer:?} is appended although it is fenced"
                    ));
                }
                ErrorCode::None
            }
        };
        self.reply_to(batch.client, batch.op, error.code(), producer);
    }

    /// The end of a transaction arrives.
    pub(super) fn on_marker(&mut self, marker: Marker) {
        let Marker { partition: index, producer, coordinator_epoch, commit, bumps, round } = marker;
        let partition = &mut self.partitions[index];
        let batch = ModelBatch { producer_id: producer.0, producer_epoch: producer.1, sequence: -1 };
        let result = match partition.log.append_marker(&batch, commit, coordinator_epoch, bumps) {
            Ok(ModelAppend::At(offset, aborted)) => {
                partition.entries.push(Entry { offset, producer, value: None, commit });
                partition.aborted.extend(aborted);
                if index == OFFSETS {
                    self.offsets.end_transaction(producer.0, commit);
                }
                Marked::Done
            }
            Ok(ModelAppend::Duplicate) => unreachable!("a marker is no duplicate"),
            Err(error) if error.code() == ErrorCode::TransactionCoordinatorFenced => Marked::Fenced,
            // The partition knows a later producer, whose transactions are not this marker's to end.
            Err(_) => Marked::Done,
        };
        self.flight.push(Message::Marked { partition: index, coordinator_epoch, round, result });
    }

    /// A marker can not be written right now.
    pub(super) fn fail_marker(&mut self, marker: Marker) {
        let Marker { partition, coordinator_epoch, round, .. } = marker;
        let result = Marked::NotNow;
        self.flight.push(Message::Marked { partition, coordinator_epoch, round, result });
    }
}

fn header(batch: &Batch) -> ModelBatch {
    ModelBatch { producer_id: batch.producer.0, producer_epoch: batch.producer.1, sequence: batch.sequence }
}
