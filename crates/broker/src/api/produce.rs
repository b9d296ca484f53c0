//! Produce 3-13: appends one record batch to each partition named.
//!
//! - `acks=0`: no response at all; an error closes the connection, as the client could not learn of it otherwise.
//! - `acks=1`: answered as soon as the batches are in the log.
//! - `acks=all`: answered when all are committed, or with REQUEST_TIMED_OUT for those that are not in time.
//! - v8 per-record errors (KIP-467), v13 topic ids (KIP-516).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ottla_protocol::messages::produce_request::{ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use ottla_protocol::{ErrorCode, Records, Uuid};
use ottla_storage::AppendOrigin;

use crate::Broker;
use crate::call::{Call, ReplyTo};
use crate::effect::{Effect, Effects, Response};
use crate::partition::{AppendRefusal, Committed, Partition};
use crate::quotas::Flow;
use crate::sessions::lock;

/// First version that names topics by id.
const FIRST_TOPIC_ID_VERSION: i16 = 13;

/// Where in a response a partition's answer stands: topic and partition, by position in the request.
pub(crate) type Entry = (usize, usize);

/// A produce request with `acks=all` whose batches are appended and not all committed.
#[derive(Debug)]
pub struct PendingProduce {
    reply: ReplyTo,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Entries that are not settled.
    waiting: BTreeSet<Entry>,
    /// Entries that failed while the request was still being handled, or since.
    failed: Vec<(Entry, ErrorCode)>,
    /// The answer, once everything is appended; taken by whoever gives it.
    response: Option<ProduceResponse<'static>>,
}

impl PendingProduce {
    fn new(reply: ReplyTo) -> Arc<Self> {
        let state = State { waiting: BTreeSet::new(), failed: Vec::new(), response: None };
        Arc::new(PendingProduce { reply, state: Mutex::new(state) })
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
        for ((topic, partition), error) in state.failed.drain(..) {
            let entry = &mut response.responses[topic].partition_responses[partition];
            entry.error_code = error.code();
            entry.base_offset = -1;
        }
        self.reply.send(&response, out);
    }
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
    let pending = (acks == -1).then(|| PendingProduce::new(call.reply));
    let mut results = Vec::with_capacity(request.topic_data.len());
    for ((position, topic), targets) in request.topic_data.iter().enumerate().zip(targets) {
        results.push(append_topic(broker, call, acks, (position, topic), targets, pending.as_ref()));
    }
    if acks == 0 {
        let failed = results.iter().flatten().any(|partition| partition.error_code != 0);
        let response = if failed { Response::Close } else { Response::Nothing };
        return call.out.push(Effect::Respond { token: call.reply.token, response });
    }
    let topics = request.topic_data.iter().zip(results);
    let waits = pending.filter(|pending| {
        let state = lock(&pending.state);
        !(state.waiting.is_empty() && state.failed.is_empty())
    });
    let Some(pending) = waits else {
        let responses =
            topics.map(|(topic, results)| topic_response(topic.name.clone(), topic.topic_id, results));
        return call.respond(&ProduceResponse {
            responses: responses.collect(),
            throttle_time_ms,
            ..Default::default()
        });
    };
    // The frame is gone by the time of the answer: names are copied.
    let responses = topics.map(|(topic, results)| {
        topic_response(topic.name.clone().into_owned().into(), topic.topic_id, results)
    });
    broker.purgatory().enter_produce(&pending);
    call.out.push(Effect::Deadline {
        token: call.reply.token,
        at: call.now + i64::from(request.timeout_ms.max(0)),
    });
    let mut state = lock(&pending.state);
    state.response =
        Some(ProduceResponse { responses: responses.collect(), throttle_time_ms, ..Default::default() });
    // Everything may have been settled in the meantime.
    if state.waiting.is_empty() {
        pending.answer(broker, &mut state, call.out);
    }
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
    acks: i16,
    (position, topic): (usize, &TopicProduceData<'_>),
    targets: Vec<Target>,
    pending: Option<&Arc<PendingProduce>>,
) -> Vec<PartitionProduceResponse<'static>> {
    let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
    for ((index, data), target) in topic.partition_data.iter().enumerate().zip(targets) {
        let mut response = match target {
            Err(error) => refused(error, None),
            Ok(_) if !(-1..=1).contains(&acks) => refused(ErrorCode::InvalidRequiredAcks, None),
            Ok(partition) if partition.topic.internal => {
                refused(ErrorCode::InvalidTopicException, Some("clients may not write to an internal topic"))
            }
            Ok(partition) => {
                let pending = pending.map(|pending| (pending, (position, index)));
                append_partition(broker, call, &partition, data.records.as_ref(), pending)
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
    partition: &Arc<Partition>,
    records: Option<&Records<'_>>,
    pending: Option<(&Arc<PendingProduce>, Entry)>,
) -> PartitionProduceResponse<'static> {
    let Some(Records::Slice(records)) = records else {
        return refused(
            ErrorCode::InvalidRecord,
            Some("a produce request carries exactly one record batch for a partition"),
        );
    };
    let records = call.frame.slice_ref(records);
    if call.may_wait
        && let Err(error) = partition.settle(call.now)
    {
        return refused(error, None);
    }
    // Waiting before the append: the commit may come from another thread before the append returns.
    let waiter = pending.map(|(pending, entry)| {
        lock(&pending.state).waiting.insert(entry);
        Committed::Produce(pending.clone(), entry)
    });
    let origin = AppendOrigin::Client { zstd_allowed: call.reply.version >= 7 };
    let appended = partition.append(&records, origin, waiter, call.now, call.out);
    let waits = appended.as_ref().is_ok_and(|(_, committed, _)| !committed);
    if let (Some((pending, entry)), false) = (pending, waits) {
        lock(&pending.state).waiting.remove(&entry);
    }
    match appended {
        Ok((info, _, wakes)) => {
            broker.wake(partition, wakes, call.now, call.out);
            PartitionProduceResponse {
                base_offset: info.first_offset,
                log_append_time_ms: info.log_append_time,
                log_start_offset: info.log_start_offset,
                ..Default::default()
            }
        }
        Err(AppendRefusal::Code(error)) => refused(error, None),
        Err(AppendRefusal::Invalid(error)) => {
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

fn refused(error: ErrorCode, message: Option<&'static str>) -> PartitionProduceResponse<'static> {
    PartitionProduceResponse {
        error_code: error.code(),
        base_offset: -1,
        error_message: message.map(Into::into),
        ..Default::default()
    }
}
