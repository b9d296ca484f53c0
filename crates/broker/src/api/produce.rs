//! Produce 3-13: appends one record batch to each partition named.
//!
//! - `acks=0`: no response at all; an error closes the connection, as the client could not learn of it otherwise.
//! - `acks=1`: answered as soon as the batches are in the log.
//! - `acks=all`: answered when all are committed, or with REQUEST_TIMED_OUT for those that are not in time.
//! - v8 per-record errors (KIP-467), v11 TRANSACTION_ABORTABLE, v12 partitions join the transaction by being written to (KIP-890), v13
//!   topic ids (KIP-516).
//!
//! The first batch of a transaction in a partition waits in the partition's queue for the word of the transaction's coordinator
//! (`coordination/admission.rs`), and so does whatever the same producer sends after it: requests are handled as they come, but batches
//! of one producer are appended in their order.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ottla_protocol::messages::produce_request::{ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::records::BatchHeader;
use ottla_protocol::{ErrorCode, Records, Uuid};
use ottla_storage::{Admission, AppendInfo, AppendOrigin};

use crate::Broker;
use crate::call::{Call, ReplyTo};
use crate::coordination::{Ask, Whom};
use crate::effect::{Effect, Effects, Response};
use crate::partition::{AppendRefusal, Applicant, Beginning, Committed, Partition};
use crate::quotas::Flow;
use crate::sessions::lock;

/// First version that names topics by id.
const FIRST_TOPIC_ID_VERSION: i16 = 13;

/// First version whose clients know TRANSACTION_ABORTABLE (120).
const FIRST_ABORTABLE_VERSION: i16 = 11;
/// First version whose partitions join the transaction by being written to (transaction version 2).
const FIRST_JOINING_VERSION: i16 = 12;

/// Where in a response a partition's answer stands: topic and partition, by position in the request.
pub(crate) type Entry = (usize, usize);

/// A produce request that can not be answered yet: its batches are not all appended, or (with `acks=all`) not all committed.
#[derive(Debug)]
pub struct PendingProduce {
    reply: ReplyTo,
    acks: i16,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Entries that are not settled.
    waiting: BTreeSet<Entry>,
    /// Entries that were appended, or refused, after the request was handled.
    filled: Vec<(Entry, PartitionProduceResponse<'static>)>,
    /// Entries that failed while the request was still being handled, or since.
    failed: Vec<(Entry, ErrorCode)>,
    /// The answer, once the request is handled; taken by whoever gives it.
    response: Option<ProduceResponse<'static>>,
}

impl PendingProduce {
    fn new(reply: ReplyTo, acks: i16) -> Arc<Self> {
        Arc::new(PendingProduce { reply, acks, state: Mutex::default() })
    }

    /// Whether an entry is settled only by its commit, not by its append.
    pub(crate) fn waits_for_commit(&self) -> bool {
        self.acks == -1
    }

    /// An entry that was kept was appended, or refused. It is settled later.
    pub(crate) fn fill(&self, entry: Entry, appended: &Result<(AppendInfo, bool), AppendRefusal>) {
        let response = match appended {
            Ok((info, _)) => accepted(info),
            Err(refusal) => refused_by(refusal),
        };
        lock(&self.state).filled.push((entry, response));
    }

    /// An entry is committed, or can not be any more.
    pub(crate) fn on_settled(&self, broker: &Broker, entry: Entry, error: ErrorCode, out: &mut Effects) {
        let mut state = lock(&self.state);
        state.waiting.remove(&entry);
        if error != ErrorCode::None {
            state.failed.push((entry, error));
        }
        if state.waiting.is_empty() {
            self.answer(broker, &mut state, out);
        }
    }

    /// Its time is up: what is not known to be committed gets REQUEST_TIMED_OUT.
    pub(crate) fn on_timed_out(&self, broker: &Broker, out: &mut Effects) {
        let mut state = lock(&self.state);
        let late = std::mem::take(&mut state.waiting);
        state.failed.extend(late.into_iter().map(|entry| (entry, ErrorCode::RequestTimedOut)));
        self.answer(broker, &mut state, out);
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&self) {
        lock(&self.state).response.take();
    }

    pub(crate) fn reply(&self) -> ReplyTo {
        self.reply
    }

    fn answer(&self, broker: &Broker, state: &mut State, out: &mut Effects) {
        let Some(mut response) = state.response.take() else { return };
        broker.purgatory().leave(self.reply.token);
        for ((topic, partition), filled) in state.filled.drain(..) {
            let entry = &mut response.responses[topic].partition_responses[partition];
            *entry = PartitionProduceResponse { index: entry.index, ..filled };
        }
        for ((topic, partition), error) in state.failed.drain(..) {
            let entry = &mut response.responses[topic].partition_responses[partition];
            if entry.error_code == 0 {
                entry.error_code = error.code();
                entry.base_offset = -1;
            }
        }
        if self.acks == 0 {
            return answer_silently(self.reply, &response, out);
        }
        self.reply.send(&response, out);
    }
}

/// `acks=0`: the client hears of an error by the end of its connection.
fn answer_silently(reply: ReplyTo, response: &ProduceResponse<'_>, out: &mut Effects) {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let failed = partitions.any(|partition| partition.error_code != 0);
    let response = if failed { Response::Close } else { Response::Nothing };
    out.push(Effect::Respond { token: reply.token, response });
}

/// What a request needs while it is handled.
struct Produce {
    pending: Arc<PendingProduce>,
    acks: i16,
    /// The transaction that the request speaks of, and the partitions whose coordinator has to be asked.
    transaction: Option<Transaction>,
}

struct Transaction {
    producer_id: i64,
    producer_epoch: i16,
    bumps_epoch: bool,
    begins: Vec<(Arc<Partition>, Admission)>,
}

/// Handles a produce request. If a log has to be opened or loaded first, that happens on a reader thread, and the connection's later
/// requests wait: a client's records keep their order.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ProduceRequest<'_>) {
    let acks = request.acks;
    let targets: Vec<Vec<Target>> =
        request.topic_data.iter().map(|topic| targets(broker, call.reply.version, topic)).collect();
    if call.must_leave(targets.iter().flatten().flatten()) {
        return call.on_reader_thread_in_order();
    }
    let bytes = call.frame.len();
    let throttle_time_ms =
        broker.charge(Flow::Produce, call.client_id, bytes, call.reply.token, call.now, call.out);
    let pending = PendingProduce::new(call.reply, acks);
    let transaction = match transaction(&request, call.reply.version) {
        Ok(transaction) => transaction,
        Err(error) => return refuse_all(call, &request, error),
    };
    let mut produce = Produce { pending, acks, transaction };
    let mut results = Vec::with_capacity(request.topic_data.len());
    for ((position, topic), targets) in request.topic_data.iter().enumerate().zip(targets) {
        results.push(append_topic(broker, call, &mut produce, (position, topic), targets));
    }
    let topics = request.topic_data.iter().zip(results);
    let pending = produce.pending;
    let waits = {
        let state = lock(&pending.state);
        !(state.waiting.is_empty() && state.failed.is_empty() && state.filled.is_empty())
    };
    if !waits {
        let responses =
            topics.map(|(topic, results)| topic_response(topic.name.clone(), topic.topic_id, results));
        let response =
            ProduceResponse { responses: responses.collect(), throttle_time_ms, ..Default::default() };
        return if acks == 0 {
            answer_silently(call.reply, &response, call.out)
        } else {
            call.respond(&response)
        };
    }
    // The frame is gone by the time of the answer: names are copied.
    let responses = topics.map(|(topic, results)| {
        topic_response(topic.name.clone().into_owned().into(), topic.topic_id, results)
    });
    broker.purgatory().enter_produce(&pending);
    call.out.push(Effect::Deadline {
        token: call.reply.token,
        at: call.now + i64::from(request.timeout_ms.max(0)),
    });
    {
        let mut state = lock(&pending.state);
        state.response =
            Some(ProduceResponse { responses: responses.collect(), throttle_time_ms, ..Default::default() });
        // Everything may have been settled in the meantime.
        if state.waiting.is_empty() {
            pending.answer(broker, &mut state, call.out);
        }
    }
    ask(broker, call, request.transactional_id.as_deref().unwrap_or(""), produce.transaction);
}

/// The transaction that a request speaks of, if it does and has a batch of it.
fn transaction(request: &ProduceRequest<'_>, version: i16) -> Result<Option<Transaction>, ErrorCode> {
    // Without a transactional id no coordinator can be asked; transactional batches are then refused by the log.
    if request.transactional_id.is_none() {
        return Ok(None);
    }
    let mut found: Option<Transaction> = None;
    for data in request.topic_data.iter().flat_map(|topic| &topic.partition_data) {
        let Some(header) = transactional_header(data.records.as_ref()) else { continue };
        let (producer_id, producer_epoch) = (header.producer_id, header.producer_epoch);
        let same = found
            .as_ref()
            .is_none_or(|found| (found.producer_id, found.producer_epoch) == (producer_id, producer_epoch));
        if !same {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        let bumps_epoch = version >= FIRST_JOINING_VERSION;
        found = Some(Transaction { producer_id, producer_epoch, bumps_epoch, begins: Vec::new() });
    }
    Ok(found)
}

/// The header of a batch that belongs to a transaction. A batch that can not be read is left to the log to refuse.
fn transactional_header(records: Option<&Records<'_>>) -> Option<BatchHeader> {
    let Some(Records::Slice(records)) = records else { return None };
    let header = BatchHeader::read(records).ok()?;
    (header.has_producer_id() && header.is_transactional() && !header.is_control()).then_some(header)
}

fn refuse_all(call: &mut Call<'_>, request: &ProduceRequest<'_>, error: ErrorCode) {
    let responses = request.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter();
        let partitions = partitions
            .map(|data| PartitionProduceResponse { index: data.index, ..refused(error, None) })
            .collect();
        topic_response(topic.name.clone(), topic.topic_id, partitions)
    });
    let response = ProduceResponse { responses: responses.collect(), ..Default::default() };
    if request.acks == 0 { answer_silently(call.reply, &response, call.out) } else { call.respond(&response) }
}

/// Asks the coordinator about the partitions in which the transaction is about to begin.
fn ask(broker: &Broker, call: &mut Call<'_>, transactional_id: &str, transaction: Option<Transaction>) {
    let Some(transaction) = transaction.filter(|transaction| !transaction.begins.is_empty()) else { return };
    let partitions = transaction.begins.iter();
    let ask = Ask {
        transactional_id: transactional_id.to_owned(),
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
        adds: transaction.bumps_epoch,
        knows_abortable: call.reply.version >= FIRST_ABORTABLE_VERSION,
        since: call.now,
        partitions: partitions
            .map(|(partition, _)| (partition.topic.name.clone(), partition.index))
            .collect(),
        whom: Whom::Queues(transaction.begins),
    };
    broker.ask(&Arc::new(ask), call.now, call.out);
}

type Target = Result<Arc<Partition>, ErrorCode>;

fn targets(broker: &Broker, version: i16, topic: &TopicProduceData<'_>) -> Vec<Target> {
    let topics = broker.topics();
    let find = |index| {
        if version >= FIRST_TOPIC_ID_VERSION {
            topics.partition_by_id(topic.topic_id, index)
        } else {
            topics.partition_by_name(&topic.name, index)
        }
    };
    topic.partition_data.iter().map(|data| find(data.index)).collect()
}

fn append_topic(
    broker: &Broker,
    call: &mut Call<'_>,
    produce: &mut Produce,
    (position, topic): (usize, &TopicProduceData<'_>),
    targets: Vec<Target>,
) -> Vec<PartitionProduceResponse<'static>> {
    let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
    for ((index, data), target) in topic.partition_data.iter().enumerate().zip(targets) {
        let mut response = match target {
            Err(error) => refused(error, None),
            Ok(_) if !(-1..=1).contains(&produce.acks) => refused(ErrorCode::InvalidRequiredAcks, None),
            Ok(partition) if partition.topic.internal => {
                refused(ErrorCode::InvalidTopicException, Some("clients may not write to an internal topic"))
            }
            Ok(partition) => {
                append_partition(broker, call, produce, &partition, data.records.as_ref(), (position, index))
            }
        };
        response.index = data.index;
        partition_responses.push(response);
    }
    partition_responses
}

fn topic_response<'r>(
    name: Cow<'r, str>,
    topic_id: Uuid,
    partition_responses: Vec<PartitionProduceResponse<'r>>,
) -> TopicProduceResponse<'r> {
    TopicProduceResponse { name, topic_id, partition_responses }
}

fn append_partition(
    broker: &Broker,
    call: &mut Call<'_>,
    produce: &mut Produce,
    partition: &Arc<Partition>,
    records: Option<&Records<'_>>,
    entry: Entry,
) -> PartitionProduceResponse<'static> {
    let Some(Records::Slice(slice)) = records else {
        return refused(
            ErrorCode::InvalidRecord,
            Some("a produce request carries exactly one record batch for a partition"),
        );
    };
    let bytes = call.frame.slice_ref(slice);
    if call.may_wait
        && let Err(error) = partition.settle(call.now)
    {
        return refused(error, None);
    }
    let zstd_allowed = call.reply.version >= 7;
    let verifies = broker.config.transactions.partition_verification;
    if let Some(transaction) = &mut produce.transaction
        && (transaction.bumps_epoch || verifies)
        && let Some(header) = transactional_header(records)
    {
        // Waiting before it is kept: the word may come from another thread at once.
        lock(&produce.pending.state).waiting.insert(entry);
        let applicant =
            Applicant { records: bytes.clone(), zstd_allowed, produce: produce.pending.clone(), entry };
        let begun = partition.begin(&header, transaction.bumps_epoch, applicant, call.now);
        match begun {
            Ok(Beginning::Queued) => return PartitionProduceResponse::default(),
            Ok(Beginning::Ask(admission)) => {
                transaction.begins.push((partition.clone(), admission));
                return PartitionProduceResponse::default();
            }
            Ok(Beginning::Open) => {}
            Err(refusal) => {
                lock(&produce.pending.state).waiting.remove(&entry);
                return refused_by(&refusal);
            }
        }
        lock(&produce.pending.state).waiting.remove(&entry);
    }
    // Waiting before the append: the commit may come from another thread before the append returns.
    let waiter = produce.pending.waits_for_commit().then(|| {
        lock(&produce.pending.state).waiting.insert(entry);
        Committed::Produce(produce.pending.clone(), entry)
    });
    let waits_for_commit = waiter.is_some();
    let origin = AppendOrigin::Client { zstd_allowed, admission: None };
    let appended = partition.append(&bytes, origin, waiter, call.now, call.out);
    let waits = appended.as_ref().is_ok_and(|(_, committed, _)| !committed);
    if waits_for_commit && !waits {
        lock(&produce.pending.state).waiting.remove(&entry);
    }
    match appended {
        Ok((info, _, wakes)) => {
            broker.wake(partition, wakes, call.now, call.out);
            accepted(&info)
        }
        Err(refusal) => refused_by(&refusal),
    }
}

fn accepted(info: &AppendInfo) -> PartitionProduceResponse<'static> {
    PartitionProduceResponse {
        base_offset: info.first_offset,
        log_append_time_ms: info.log_append_time,
        log_start_offset: info.log_start_offset,
        ..Default::default()
    }
}

fn refused_by(refusal: &AppendRefusal) -> PartitionProduceResponse<'static> {
    match refusal {
        AppendRefusal::Code(error) => refused(*error, None),
        AppendRefusal::Unverified(error) => unverified(*error),
        AppendRefusal::Invalid(error) => {
            let mut response = refused(error.code(), None);
            response.error_message = Some(error.to_string().into());
            response.record_errors = error
                .record_errors()
                .iter()
                .map(|(index, reason)| BatchIndexAndErrorMessage {
                    batch_index: *index,
                    batch_index_error_message: Some(reason.clone().into()),
                })
                .collect();
            response
        }
    }
}

/// The coordinator did not agree. Errors that pass become one that every producer tries again after (it needs no new metadata).
fn unverified(error: ErrorCode) -> PartitionProduceResponse<'static> {
    match error {
        ErrorCode::InvalidTxnState => refused(error, Some("the partition is not part of the transaction")),
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => refused(
            ErrorCode::NotEnoughReplicas,
            Some("the transaction coordinator can not be asked right now"),
        ),
        error => refused(error, None),
    }
}

fn refused(error: ErrorCode, message: Option<&'static str>) -> PartitionProduceResponse<'static> {
    PartitionProduceResponse {
        error_code: error.code(),
        base_offset: -1,
        error_message: message.map(Into::into),
        ..Default::default()
    }
}
