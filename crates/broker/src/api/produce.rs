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
//!
//! Everything else is gathered for a moment, and what several requests bring for one partition is appended together (`gather.rs`).

mod gather;
mod pending;

use std::borrow::Cow;
use std::sync::Arc;

use ottla_protocol::messages::produce_request::{ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::records::BatchHeader;
use ottla_protocol::{ErrorCode, Records, Uuid};
use ottla_storage::{Admission, AppendInfo};

use crate::Broker;
use crate::call::{Call, ReplyTo, keep};
use crate::coordination::{Ask, Whom};
use crate::effect::{Effect, Effects, Response};
use crate::partition::{AppendRefusal, Applicant, Beginning, Partition};
use crate::quotas::Flow;
use gather::{Append, Gathered};

pub use gather::Gather;
pub use pending::PendingProduce;

/// First version that names topics by id.
const FIRST_TOPIC_ID_VERSION: i16 = 13;

/// First version whose clients know TRANSACTION_ABORTABLE (120).
const FIRST_ABORTABLE_VERSION: i16 = 11;
/// First version whose partitions join the transaction by being written to (transaction version 2).
const FIRST_JOINING_VERSION: i16 = 12;

/// Where in a response a partition's answer stands: topic and partition, by position in the request.
pub(crate) type Entry = (usize, usize);

/// `acks=0`: the client hears of an error by the end of its connection.
fn answer_silently(reply: ReplyTo, response: &ProduceResponse<'_>, out: &mut Effects) {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let failed = partitions.any(|partition| partition.error_code != 0);
    let response = if failed { Response::Close } else { Response::Nothing };
    out.push(Effect::Respond { token: reply.token, response });
}

/// What a request needs while it is handled.
struct Produce {
    reply: ReplyTo,
    /// Made when something is the first to wait.
    pending: Option<Arc<PendingProduce>>,
    acks: i16,
    /// The transaction that the request speaks of, and the partitions whose coordinator has to be asked.
    transaction: Option<Transaction>,
}

impl Produce {
    /// An entry waits.
    fn wait(&mut self, entry: Entry) -> Arc<PendingProduce> {
        let pending = self.pending.get_or_insert_with(|| PendingProduce::new(self.reply, self.acks));
        pending.wait(entry);
        pending.clone()
    }
}

struct Transaction {
    producer_id: i64,
    producer_epoch: i16,
    bumps_epoch: bool,
    begins: Vec<(Arc<Partition>, Admission)>,
}

/// Handles a produce request: what it asks for is gathered, and appended with what others ask for (see [`Gather`]). If a log has to be
/// opened or loaded first, that happens on a reader thread, and the connection's later requests wait: a client's records keep their order.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ProduceRequest<'_>) {
    let acks = request.acks;
    let mut targets = std::mem::take(&mut call.gather.targets);
    targets.clear();
    for topic in &request.topic_data {
        find_targets(broker, call.reply.version, topic, &mut targets);
    }
    if call.must_leave(targets.iter().flatten()) {
        // What was sent before it must not be appended after it.
        broker.on_gathered(call.gather, call.now, call.out);
        return call.on_reader_thread_in_order();
    }
    if call.may_wait {
        broker.make_room_for_logs(targets.len(), call.now, call.out);
    }
    let bytes = call.frame.len();
    let throttle_time_ms =
        broker.charge(Flow::Produce, call.client_id, bytes, call.reply.token, call.now, call.out);
    let transaction = match transaction(&request, call.reply.version) {
        Ok(transaction) => transaction,
        Err(error) => return refuse_all(call, &request, error),
    };
    let mut produce = Produce { reply: call.reply, pending: None, acks, transaction };
    let mut responses = Vec::with_capacity(request.topic_data.len());
    let mut rest = targets.drain(..);
    for (position, topic) in request.topic_data.iter().enumerate() {
        let partition_responses = take_topic(broker, call, &mut produce, (position, topic), &mut rest);
        // The frame is gone by the time of the answer: names are copied. (Where topics have ids there is none.)
        let name = topic.name.clone().into_owned();
        responses.push(topic_response(name.into(), topic.topic_id, partition_responses));
    }
    drop(rest);
    call.gather.keep_targets(targets);
    let Produce { pending, transaction, .. } = produce;
    call.gather.requests.push(Gathered {
        reply: call.reply,
        acks,
        pending,
        response: ProduceResponse { responses, throttle_time_ms, ..Default::default() },
        deadline: call.now + i64::from(request.timeout_ms.max(0)),
    });
    if let Some(transaction) = transaction {
        // Who ends it may come on any connection.
        broker.on_gathered(call.gather, call.now, call.out);
        ask(broker, call, request.transactional_id.as_deref().unwrap_or(""), transaction);
    }
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
fn ask(broker: &Broker, call: &mut Call<'_>, transactional_id: &str, transaction: Transaction) {
    if transaction.begins.is_empty() {
        return;
    }
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

/// A partition that a request names, by name or id and index.
type Target = Result<Arc<Partition>, ErrorCode>;

fn find_targets(broker: &Broker, version: i16, topic: &TopicProduceData<'_>, targets: &mut Vec<Target>) {
    let topics = broker.topics();
    let find = |index| {
        if version >= FIRST_TOPIC_ID_VERSION {
            topics.partition_by_id(topic.topic_id, index)
        } else {
            topics.partition_by_name(&topic.name, index)
        }
    };
    targets.extend(topic.partition_data.iter().map(|data| find(data.index)));
}

/// What a request's answer says about a topic so far.
fn take_topic(
    broker: &Broker,
    call: &mut Call<'_>,
    produce: &mut Produce,
    (position, topic): (usize, &TopicProduceData<'_>),
    targets: &mut impl Iterator<Item = Target>,
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
                take_partition(broker, call, produce, partition, data.records.as_ref(), (position, index))
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

/// Takes one batch: gathers it, or has it wait for its transaction. The answer is filled in later, unless the batch is refused.
fn take_partition(
    broker: &Broker,
    call: &mut Call<'_>,
    produce: &mut Produce,
    partition: Arc<Partition>,
    records: Option<&Records<'_>>,
    entry: Entry,
) -> PartitionProduceResponse<'static> {
    let Some(Records::Slice(slice)) = records else {
        return refused(
            ErrorCode::InvalidRecord,
            Some("a produce request carries exactly one record batch for a partition"),
        );
    };
    if call.may_wait
        && let Err(error) = partition.settle(call.now)
    {
        return refused(error, None);
    }
    let zstd_allowed = call.reply.version >= 7;
    let verifies = broker.live_config().transactions.partition_verification;
    let bumps_epoch = produce.transaction.as_ref().map(|transaction| transaction.bumps_epoch);
    if let Some(bumps_epoch) = bumps_epoch
        && (bumps_epoch || verifies)
        && let Some(header) = transactional_header(records)
    {
        let records = keep(&call.frame.slice_ref(slice));
        let pending = produce.wait(entry);
        let applicant = Applicant { records, zstd_allowed, produce: pending.clone(), entry };
        match partition.begin(&header, bumps_epoch, applicant, call.now) {
            Ok(Beginning::Queued) => return PartitionProduceResponse::default(),
            Ok(Beginning::Ask(admission)) => {
                let transaction = produce.transaction.as_mut().expect("looked at above");
                transaction.begins.push((partition, admission));
                return PartitionProduceResponse::default();
            }
            Ok(Beginning::Open) => pending.settle(entry),
            Err(refusal) => {
                pending.settle(entry);
                return refused_by(&refusal);
            }
        }
    }
    let records = call.gather.hold(call.frame, slice);
    let waiter = (produce.acks == -1).then(|| produce.wait(entry));
    let request = call.gather.requests.len();
    call.gather.appends.push(Append { partition, records, zstd_allowed, request, entry, waiter });
    PartitionProduceResponse::default()
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
