//! Appending to a partition: what is in the log, who waits for it to be committed, and what has to reach the disk now.
//!
//! The tricky idea: several batches are appended under one lock, and what follows from an append (the high watermark moves, fetches are
//! woken, a flush is planned) happens once for all of them.

use std::sync::Arc;

use bytes::Bytes;
use ottla_metadata::config::Durability;
use ottla_protocol::ErrorCode;
use ottla_storage::{AppendError, AppendInfo, AppendOrigin};

use super::{Ack, AppendRefusal, Committed, Core, Partition, Wakes};
use crate::effect::{Effect, Effects, Millis};

/// A batch on its way into the log.
#[derive(Debug)]
pub(crate) struct Joining {
    pub records: Bytes,
    pub origin: AppendOrigin,
    /// Told once it is committed, unless it is at once.
    pub waiter: Option<Committed>,
}

/// What became of a batch, and whether it is committed already.
pub(crate) type Joined = Result<(AppendInfo, bool), AppendRefusal>;

impl Partition {
    /// Appends one client's or coordinator's records. `waiter` is told once they are committed, if they are not at once.
    /// Returns whether they were committed at once.
    pub(crate) fn append(
        self: &Arc<Self>,
        records: &Bytes,
        origin: AppendOrigin,
        waiter: Option<Committed>,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(AppendInfo, bool, Wakes), AppendRefusal> {
        let mut wakes = Wakes::default();
        let (info, committed) = self.lock().append(self, records, origin, waiter, &mut wakes, now, out)?;
        Ok((info, committed, wakes))
    }

    /// Appends batches in their order, each as if it were the only one, and takes them out of `batches`. One result for each.
    pub(crate) fn append_group(
        self: &Arc<Self>,
        batches: &mut Vec<Joining>,
        now: Millis,
        out: &mut Effects,
    ) -> (Vec<Joined>, Wakes) {
        let mut wakes = Wakes::default();
        let results = self.lock().append_group(self, batches, &mut wakes, now, out);
        batches.clear();
        (results, wakes)
    }
}

impl Core {
    /// What is left of a full disk is not for records.
    pub(super) fn check_space(&self) -> Result<(), ErrorCode> {
        match &self.root {
            Some(root) if !root.reserve.is_whole() => Err(ErrorCode::KafkaStorageError),
            _ => Ok(()),
        }
    }

    /// Appends one batch; see [`Partition::append`].
    #[allow(clippy::too_many_arguments)]
    pub(super) fn append(
        &mut self,
        of: &Arc<Partition>,
        records: &Bytes,
        origin: AppendOrigin,
        waiter: Option<Committed>,
        wakes: &mut Wakes,
        now: Millis,
        out: &mut Effects,
    ) -> Joined {
        let mut only = [Joining { records: records.clone(), origin, waiter }];
        self.append_group(of, &mut only, wakes, now, out).pop().expect("one result for one batch")
    }

    fn append_group(
        &mut self,
        of: &Arc<Partition>,
        batches: &mut [Joining],
        wakes: &mut Wakes,
        now: Millis,
        out: &mut Effects,
    ) -> Vec<Joined> {
        let leader_epoch = self.leader_epoch;
        let is_short = !self.admits();
        // Too few replicas are in sync for records that all of them shall have.
        let is_refused = |batch: &Joining| is_short && batch.waiter.is_some();
        let log =
            match self.check_leader(-1).and_then(|()| self.check_space()).and_then(|()| self.log(of, now)) {
                Ok(log) => log,
                Err(error) => return batches.iter().map(|_| Err(AppendRefusal::Code(error))).collect(),
            };
        let admitted = batches.iter().filter(|batch| !is_refused(batch));
        let records = admitted.map(|batch| (&batch.records, batch.origin));
        let appended = log.append_group(records, leader_epoch, now);
        self.note(of, &appended, wakes, now, out);
        let high_watermark = self.high_watermark;
        let mut urgent = false;
        let mut results = Vec::with_capacity(batches.len());
        let mut appended = appended.into_iter();
        for batch in batches {
            if is_refused(batch) {
                results.push(Err(AppendRefusal::Code(ErrorCode::NotEnoughReplicas)));
                continue;
            }
            let info = match appended.next().expect("one result for each that was admitted") {
                Ok(info) => info,
                Err(error) => {
                    results.push(Err(AppendRefusal::Invalid(error)));
                    continue;
                }
            };
            let required = info.last_offset + 1;
            let committed = high_watermark >= required;
            let waiter = batch.waiter.take();
            urgent |= !committed && (waiter.is_some() || !self.fetches.is_empty());
            if let (Some(waiter), false) = (waiter, committed) {
                let at = self.acks.partition_point(|ack| ack.required <= required);
                self.acks.insert(at, Ack { required, waiter });
            }
            results.push(Ok((info, committed)));
        }
        if results.iter().any(Result::is_ok) {
            self.plan_flush(of, urgent, now, out);
        }
        results
    }

    /// The disk did not take an append. After a shortage it may take the next; any other error is the end of the log, and of its directory.
    pub(super) fn on_append_failed(
        &mut self,
        of: &Partition,
        error: &AppendError,
        now: Millis,
        out: &mut Effects,
    ) {
        if !std::mem::replace(&mut self.append_failed, true) {
            out.push(Effect::Report(format!("{}-{}: {error}", of.topic.name, of.index)));
        }
        if self.log.as_ref().is_some_and(|log| log.failure().is_some()) {
            self.tell_failure(of, error);
            out.push(Effect::Tick { at: now });
        }
    }

    /// What was appended is in the log: raises the high watermark if that is enough, and tells of a disk that fails, once.
    fn note(
        &mut self,
        of: &Partition,
        appended: &[Result<AppendInfo, AppendError>],
        wakes: &mut Wakes,
        now: Millis,
        out: &mut Effects,
    ) {
        let mut is_longer = false;
        for result in appended {
            match result {
                Ok(info) => {
                    self.append_failed = false;
                    if !info.duplicate {
                        is_longer = true;
                        self.uncommitted.push_back((info.last_offset + 1, info.bytes as u64));
                    }
                }
                Err(error) if error.is_storage_failure() => self.on_append_failed(of, error, now, out),
                Err(_) => {}
            }
        }
        if is_longer {
            // Followers are woken by the append itself.
            wakes.fetches.append(&mut self.replica_fetches);
        }
        if is_longer && self.settings.durability == Durability::Replicated {
            self.advance_own(now, wakes);
        }
    }
}
