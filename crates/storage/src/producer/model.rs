//! The producers' state of a log without the log, for models that copy it: batches of one record, and markers.

use ottla_protocol::records::{Attributes, BatchHeader};

use super::admission::Admissions;
use super::{Admission, AppendOrigin, LogGuards, Producers, TxnEnd, Verdict};
use crate::error::AppendError;

/// A log of which only the producers are kept.
#[derive(Debug, Clone)]
pub struct ModelLog {
    producers: Producers,
    verifies: bool,
}

/// A transactional batch of one record.
#[derive(Debug, Clone, Copy)]
pub struct ModelBatch {
    /// Producer id.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
    /// Sequence number, or -1.
    pub sequence: i32,
}

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelAppend {
    /// It is in the log already.
    Duplicate,
    /// At this offset; it aborted the transaction of a producer with this first and last offset.
    At(i64, Option<(i64, i64, i64)>),
}

impl ModelBatch {
    fn header(&self, base_offset: i64, is_control: bool) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: 100,
            leader_epoch: 0,
            crc: 0,
            attributes: Attributes::default().with_transactional(true).with_control(is_control),
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.sequence,
            record_count: 1,
        }
    }
}

impl ModelLog {
    /// An empty log; `verifies` is whether the first batch of a transaction needs an admission.
    pub fn new(guards: LogGuards, verifies: bool) -> ModelLog {
        ModelLog { producers: Producers { guards, ..Producers::default() }, verifies }
    }

    /// The log is closed and loaded again: who waited to begin a transaction is forgotten.
    pub fn restart(&mut self) {
        self.producers.admissions = Admissions::default();
    }

    /// The offset of the next record.
    pub fn end_offset(&self) -> i64 {
        self.producers.end_offset()
    }

    /// The first offset that is undecided, everything being committed.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        self.producers.first_unstable_offset(self.producers.end_offset())
    }

    /// As [`Log::apply_for_admission`](crate::Log::apply_for_admission).
    pub fn apply_for_admission(
        &mut self,
        batch: &ModelBatch,
        bumps_epoch: bool,
        now: i64,
    ) -> Result<Option<Admission>, AppendError> {
        self.producers.apply_for_admission(&batch.header(0, false), bumps_epoch, now)
    }

    /// As [`Log::append`](crate::Log::append).
    pub fn append(&mut self, batch: &ModelBatch, origin: AppendOrigin) -> Result<ModelAppend, AppendError> {
        self.write(&batch.header(self.end_offset(), false), None, origin)
    }

    /// Appends the end of a transaction.
    pub fn append_marker(
        &mut self,
        batch: &ModelBatch,
        committed: bool,
        coordinator_epoch: i32,
        bumps_epoch: bool,
    ) -> Result<ModelAppend, AppendError> {
        let end = TxnEnd { committed, coordinator_epoch, timestamp: 0 };
        let origin = AppendOrigin::Marker { bumps_epoch };
        self.write(&batch.header(self.end_offset(), true), Some(end), origin)
    }

    fn write(
        &mut self,
        header: &BatchHeader,
        end: Option<TxnEnd>,
        origin: AppendOrigin,
    ) -> Result<ModelAppend, AppendError> {
        match self.producers.check(header, end, origin, self.verifies)? {
            Verdict::Duplicate(_) => Ok(ModelAppend::Duplicate),
            Verdict::Append => {
                let completed = self.producers.apply(header, end);
                self.producers.on_high_watermark(header.next_offset());
                let aborted = completed.filter(|completed| completed.aborted);
                let aborted = aborted.map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset));
                Ok(ModelAppend::At(header.base_offset, aborted))
            }
        }
    }
}
