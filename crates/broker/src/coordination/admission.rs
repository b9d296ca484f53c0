//! Asking a transaction's coordinator whether batches may begin the transaction in their partitions (KIP-890, Kafka:
//! `AddPartitionsToTxnManager`).
//!
//! Older producers have added their partitions themselves, and the coordinator only confirms it. For producers of version 2 it adds the
//! partitions. Nobody waits meanwhile: what wants to be appended lies in its partition's queue, and the answer, which comes when it is
//! committed, sets it free. The tricky idea: right after a transaction was decided the next one may begin, but its coordinator is still
//! writing markers. Such an ask is parked, and asked again as soon as a marker is there, or after a pause.

use std::sync::{Arc, Mutex};

use ottla_coordinator::TransactionVersion;
use ottla_coordinator::transaction::{AddPartitions, PartitionsAnswer, TopicPartition};
use ottla_protocol::ErrorCode;
use ottla_storage::Admission;

use crate::Broker;
use crate::api::Circumstance;
use crate::call::Deferred;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::Partition;
use crate::sessions::lock;

/// A question to a transaction coordinator.
#[derive(Debug)]
pub(crate) struct Ask {
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// The producer plays by the rules of version 2: partitions are added, not only verified.
    pub adds: bool,
    /// The client knows TRANSACTION_ABORTABLE (120).
    pub knows_abortable: bool,
    /// When it was first asked.
    pub since: Millis,
    pub partitions: Vec<TopicPartition>,
    pub whom: Whom,
}

/// Who waits for the answer.
#[derive(Debug)]
pub(crate) enum Whom {
    /// The queues of these partitions, in the order of [`Ask::partitions`].
    Queues(Vec<(Arc<Partition>, Admission)>),
    /// A request, which is handled again.
    Request(Box<Deferred>, Admission),
}

/// Asks that will be repeated, and when.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    asks: Mutex<Vec<(Millis, Arc<Ask>)>>,
}

impl Parked {
    fn take(&self, which: impl Fn(Millis, &Ask) -> bool) -> Vec<Arc<Ask>> {
        let mut asks = lock(&self.asks);
        if asks.is_empty() {
            return Vec::new();
        }
        let all = std::mem::take(&mut *asks).into_iter();
        let (taken, left): (Vec<_>, Vec<_>) = all.partition(|(at, ask)| which(*at, ask));
        *asks = left;
        taken.into_iter().map(|(_, ask)| ask).collect()
    }
}

impl Broker {
    /// Asks, wherever the transaction is coordinated. The answer goes to whom it concerns, now or later.
    pub(crate) fn ask(&self, ask: &Arc<Ask>, now: Millis, out: &mut Effects) {
        let handed = self.transaction_coordinator(&ask.transactional_id).and_then(|broker| {
            if broker != self.config.node_id {
                self.post_ask(broker, ask, now, out);
                return Ok(());
            }
            self.ask_own_coordinator(ask, now, out)
        });
        if let Err(error) = handed {
            let answer = PartitionsAnswer::all(&ask.transactional_id, &ask.partitions, error);
            self.on_ask_answered(ask, &answer, now, out);
        }
    }

    fn ask_own_coordinator(&self, ask: &Arc<Ask>, now: Millis, out: &mut Effects) -> Result<(), ErrorCode> {
        let asked = AddPartitions {
            transactional_id: &ask.transactional_id,
            producer_id: ask.producer_id,
            producer_epoch: ask.producer_epoch,
            partitions: &ask.partitions,
            verify_only: !ask.adds,
            client_version: TransactionVersion::V2,
        };
        let id = &ask.transactional_id;
        self.transactions.ask_inside(self, id, ask, now, out, |coordinator, context| {
            coordinator.handle_add_partitions(&asked, context)
        })
    }

    /// The answer to an ask.
    pub(crate) fn on_ask_answered(
        &self,
        ask: &Arc<Ask>,
        answer: &PartitionsAnswer,
        now: Millis,
        out: &mut Effects,
    ) {
        let is_ending =
            answer.partitions.iter().any(|(_, error)| *error == ErrorCode::ConcurrentTransactions);
        let settings = &self.config.transactions;
        if ask.adds && is_ending && now - ask.since < i64::from(settings.verification_backoff_max_ms) {
            let at = now + i64::from(settings.verification_backoff_ms);
            lock(&self.parked.asks).push((at, ask.clone()));
            out.push(Effect::Tick { at });
            return;
        }
        let mut errors = answer.partitions.iter().map(|(_, error)| translate(*error, ask));
        match &ask.whom {
            Whom::Queues(queues) => {
                for ((partition, admission), error) in queues.iter().zip(errors) {
                    let admitted = if error == ErrorCode::None { Ok(*admission) } else { Err(error) };
                    let producer = (ask.producer_id, ask.producer_epoch);
                    let (settled, wakes) = partition.on_admission(producer, admitted, now, out);
                    self.wake(partition, wakes, now, out);
                    for (produce, entry) in settled {
                        produce.on_settled(self, entry, ErrorCode::None, out);
                    }
                }
            }
            Whom::Request(deferred, admission) => {
                let error = errors.next().unwrap_or(ErrorCode::None);
                let admission = if error == ErrorCode::None { Ok(*admission) } else { Err(error) };
                let at = Circumstance { admission: Some(admission), ..Circumstance::at(now) };
                self.again(Deferred::clone(deferred), at, out);
            }
        }
    }

    /// Repeats asks whose pause is over.
    pub(crate) fn reask_due(&self, now: Millis, out: &mut Effects) {
        for ask in self.parked.take(|at, _| at <= now) {
            self.ask(&ask, now, out);
        }
        // The shell keeps one tick, the earliest: what was asked for beyond this one is asked for again.
        if let Some(at) = lock(&self.parked.asks).iter().map(|(at, _)| *at).min() {
            out.push(Effect::Tick { at });
        }
    }

    /// A transaction may be complete: whoever waits to begin the next one asks again.
    pub(crate) fn reask_parked(&self, transactional_id: &str, now: Millis, out: &mut Effects) {
        for ask in self.parked.take(|_, ask| ask.transactional_id == transactional_id) {
            self.ask(&ask, now, out);
        }
    }
}

/// What the producer is told of an error of the coordinator (Kafka: `ReplicaManager.handleProduceAppend`,
/// `CoordinatorOperationExceptionHelper`).
fn translate(error: ErrorCode, ask: &Ask) -> ErrorCode {
    let is_produce = matches!(ask.whom, Whom::Queues(_));
    match error {
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if !ask.knows_abortable => ErrorCode::InvalidTxnState,
        // Nobody knows whether the partition is part of the transaction. The producer comes again, to this broker: it is not meant to
        // look for another coordinator.
        ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator
            if is_produce =>
        {
            ErrorCode::NotEnoughReplicas
        }
        ErrorCode::NetworkException => ErrorCode::CoordinatorLoadInProgress,
        // Producers before version 2 do not expect it here; those of version 2 wait for markers often enough to know it.
        ErrorCode::ConcurrentTransactions if !ask.adds && is_produce => ErrorCode::NotEnoughReplicas,
        ErrorCode::ConcurrentTransactions if !ask.adds => ErrorCode::CoordinatorNotAvailable,
        error => error,
    }
}
