//! Produce 3-13: appends one record batch to each partition named.
//!
//! - `acks=0`: no response at all; an error closes the connection, as the client could not learn of it otherwise.
//! - `acks=1`: answered as soon as the batches are in the log.
//! - `acks=all`: answered when all are committed, or with REQUEST_TIMED_OUT for those that are not in time.
//! - v8 per-record errors (KIP-467), v13 topic ids (KIP-516).

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
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
use crate::sessions::lock;

/// First version that names topics by id.
const FIRST_TOPIC_ID_VERSION: i16 = 13;

/// A produce request with `acks=all` whose batches are appended and not all committed.
#[derive(Debug)]
pub struct PendingProduce {
    reply: ReplyTo,
    /// Partitions not yet committed, and one for the handler while it appends.
    outstanding: AtomicUsize,
    /// Taken by whoever answers.
    response: Mutex<Option<ProduceResponse<'static>>>,
}

impl PendingProduce {
    /// One of its partitions is committed.
    pub(crate) fn on_committed(&self, broker: &Broker, out: &mut Effects) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answer(broker, None, out);
        }
    }

    /// Its time is up, or it can no longer succeed: what is not known to be committed gets `error`.
    pub(crate) fn on_failed(&self, broker: &Broker, error: ErrorCode, out: &mut Effects) {
        self.answer(broker, Some(error), out);
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&self) {
        lock(&self.response).take();
    }

    pub(crate) fn reply(&self) -> ReplyTo {
        self.reply
    }

    fn answer(&self, broker: &Broker, error: Option<ErrorCode>, out: &mut Effects) {
        let Some(mut response) = lock(&self.response).take() else { return };
        broker.purgatory().leave(self.reply.token);
        if let Some(error) = error {
            let all = response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses);
            for partition in all.filter(|partition| partition.error_code == 0) {
                partition.error_code = error.code();
                partition.base_offset = -1;
            }
        }
        self.reply.send(&response, out);
    }
}

/// Handles a produce request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ProduceRequest<'_>) {
    let acks = request.acks;
    let pending = (acks == -1).then(|| {
        Arc::new(PendingProduce {
            reply: call.reply,
            outstanding: AtomicUsize::new(1),
            response: Mutex::new(None),
        })
    });
    let mut results = Vec::with_capacity(request.topic_data.len());
    for topic in &request.topic_data {
        results.push(append_topic(broker, call, acks, topic, pending.as_ref()));
    }
    if acks == 0 {
        let failed = results.iter().flatten().any(|partition| partition.error_code != 0);
        let response = if failed { Response::Close } else { Response::Nothing };
        return call.out.push(Effect::Respond { token: call.reply.token, response });
    }
    let topics = request.topic_data.iter().zip(results);
    let waits = pending.filter(|pending| pending.outstanding.load(Ordering::Acquire) > 1);
    let Some(pending) = waits else {
        let responses =
            topics.map(|(topic, results)| topic_response(topic.name.clone(), topic.topic_id, results));
        return call.respond(&ProduceResponse { responses: responses.collect(), ..Default::default() });
    };
    // The frame is gone by the time of the answer: names are copied.
    let responses = topics.map(|(topic, results)| {
        topic_response(topic.name.clone().into_owned().into(), topic.topic_id, results)
    });
    *lock(&pending.response) = Some(ProduceResponse { responses: responses.collect(), ..Default::default() });
    broker.purgatory().enter_produce(&pending);
    call.out.push(Effect::Deadline {
        token: call.reply.token,
        at: call.now + i64::from(request.timeout_ms.max(0)),
    });
    pending.on_committed(broker, call.out);
}

fn append_topic(
    broker: &Broker,
    call: &mut Call<'_>,
    acks: i16,
    topic: &TopicProduceData<'_>,
    pending: Option<&Arc<PendingProduce>>,
) -> Vec<PartitionProduceResponse<'static>> {
    let topics = broker.topics();
    let by_topic_id = call.reply.version >= FIRST_TOPIC_ID_VERSION;
    let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
    for data in &topic.partition_data {
        let partition = if by_topic_id {
            topics.partition_by_id(topic.topic_id, data.index)
        } else {
            topics.partition_by_name(&topic.name, data.index)
        };
        let mut response = match partition {
            Err(error) => refused(error, None),
            Ok(_) if !(-1..=1).contains(&acks) => refused(ErrorCode::InvalidRequiredAcks, None),
            Ok(partition) if partition.topic.internal => {
                refused(ErrorCode::InvalidTopicException, Some("clients may not write to an internal topic"))
            }
            Ok(partition) => append_partition(broker, call, &partition, data.records.as_ref(), pending),
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
    pending: Option<&Arc<PendingProduce>>,
) -> PartitionProduceResponse<'static> {
    let Some(Records::Slice(records)) = records else {
        return refused(
            ErrorCode::InvalidRecord,
            Some("a produce request carries exactly one record batch for a partition"),
        );
    };
    let records = call.frame.slice_ref(records);
    // Counted before the append: the commit may come from another thread before the append returns.
    let waiter = pending.map(|pending| {
        pending.outstanding.fetch_add(1, Ordering::AcqRel);
        Committed::Produce(pending.clone())
    });
    let origin = AppendOrigin::Client { zstd_allowed: call.reply.version >= 7 };
    let appended = partition.append(&records, origin, waiter, call.now, call.out);
    let waits = appended.as_ref().is_ok_and(|(_, committed, _)| !committed);
    if let (Some(pending), false) = (pending, waits) {
        pending.outstanding.fetch_sub(1, Ordering::AcqRel);
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
