//! DeleteRecords 0-2 (KIP-107): moves the start of a log up; whole segments below it are removed, here and on every replica that lives.

use std::sync::{Arc, Mutex};

use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use ottla_storage::DeleteJob;

use crate::Broker;
use crate::call::{Call, ReplyTo};
use crate::effect::{Effect, Effects};
use crate::partition::Partition;
use crate::sessions::lock;

/// "Everything that is committed."
const HIGH_WATERMARK: i64 = -1;

/// Handles the request on a reader thread: files are removed, and the new start is on disk before the answer leaves. The answer waits until
/// the logs of all living replicas begin where they shall (Kafka: `DelayedDeleteRecords`), or its time is up.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DeleteRecordsRequest<'_>) {
    if !call.may_wait {
        return call.on_reader_thread();
    }
    let table = broker.topics();
    let now = call.now;
    let mut jobs = Vec::new();
    let mut waiting = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (position, topic) in request.topics.iter().enumerate() {
        let partitions = topic.partitions.iter().enumerate().map(|(index, asked)| {
            let deleted = table
                .partition_by_name(&topic.name, asked.partition_index)
                .and_then(|partition| Ok((delete(broker, &partition, asked, now)?, partition)));
            let (low_watermark, error_code) = match deleted {
                Ok((Deleted { log_start_offset, required, job }, partition)) => {
                    jobs.push((partition.clone(), job));
                    waiting.push(Awaited { partition, required, entry: (position, index) });
                    (log_start_offset, 0)
                }
                Err(error) => (-1, error.code()),
            };
            DeleteRecordsPartitionResult { partition_index: asked.partition_index, low_watermark, error_code }
        });
        let name = topic.name.clone().into_owned().into();
        topics.push(DeleteRecordsTopicResult { name, partitions: partitions.collect() });
    }
    let mut response = DeleteRecordsResponse { topics, ..Default::default() };
    let removed = broker.dispose_of(jobs, now, call.out);
    if let Err(error) = removed {
        call.out.push(Effect::Report(error));
        for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.error_code = ErrorCode::KafkaStorageError.code();
        }
        return call.respond(&response);
    }
    let partitions: Vec<_> = waiting.iter().map(|awaited| awaited.partition.clone()).collect();
    let state = Mutex::new(State { waiting, response: Some(response) });
    let deletion = Arc::new(PendingDeletion { reply: call.reply, state });
    // Registered before it is looked at: whoever moves a log's start must find it.
    broker.purgatory().enter_deletion(&deletion);
    lock(&broker.deletions.waiting).push(deletion.clone());
    deletion.advance(broker, call.out);
    if deletion.is_answered() {
        return;
    }
    call.out
        .push(Effect::Deadline { token: call.reply.token, at: now + i64::from(request.timeout_ms.max(0)) });
    // Followers learn of it now, and not when there is something to fetch.
    for partition in partitions {
        let wakes = partition.wake_followers();
        broker.wake(&partition, wakes, now, call.out);
    }
}

/// What became of one partition's log.
struct Deleted {
    log_start_offset: i64,
    /// Where all logs shall begin, at least.
    required: i64,
    job: DeleteJob,
}

fn delete(
    broker: &Broker,
    partition: &Partition,
    asked: &DeleteRecordsPartition,
    now: i64,
) -> Result<Deleted, ErrorCode> {
    if partition.topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    if broker.is_compacted_only(&partition.topic.name) {
        return Err(ErrorCode::PolicyViolation);
    }
    partition.with_log(-1, now, |log, positions| {
        let to = if asked.offset == HIGH_WATERMARK { positions.high_watermark } else { asked.offset };
        if to < 0 || to > positions.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let job = log.advance_log_start_offset(to).map_err(|error| error.code())?;
        Ok(Deleted { log_start_offset: log.log_start_offset(), required: to, job })
    })?
}

/// Deletions that wait for followers.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    /// May hold answered ones until the next look.
    waiting: Mutex<Vec<Arc<PendingDeletion>>>,
}

/// A request whose followers have not all come that far.
#[derive(Debug)]
pub(crate) struct PendingDeletion {
    reply: ReplyTo,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: Vec<Awaited>,
    /// The answer; taken by whoever gives it.
    response: Option<DeleteRecordsResponse<'static>>,
}

#[derive(Debug)]
struct Awaited {
    partition: Arc<Partition>,
    required: i64,
    /// Topic and partition, by position in the request.
    entry: (usize, usize),
}

impl PendingDeletion {
    pub(crate) fn reply(&self) -> ReplyTo {
        self.reply
    }

    fn is_answered(&self) -> bool {
        lock(&self.state).response.is_none()
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&self) {
        lock(&self.state).response.take();
    }

    /// Answers it if there is nobody left to wait for.
    fn advance(&self, broker: &Broker, out: &mut Effects) {
        let state = &mut *lock(&self.state);
        self.look(broker, state);
        if state.waiting.is_empty() {
            self.answer(broker, state, out);
        }
    }

    /// Its time is up: what has not come that far gets REQUEST_TIMED_OUT.
    pub(crate) fn on_timed_out(&self, broker: &Broker, out: &mut Effects) {
        let state = &mut *lock(&self.state);
        self.look(broker, state);
        for Awaited { entry, .. } in state.waiting.drain(..) {
            if let Some(response) = &mut state.response {
                response.topics[entry.0].partitions[entry.1].error_code = ErrorCode::RequestTimedOut.code();
            }
        }
        self.answer(broker, state, out);
    }

    /// Crosses off what need not be waited for any more.
    fn look(&self, broker: &Broker, state: &mut State) {
        let Some(response) = &mut state.response else { return };
        let image = broker.image();
        let is_alive = |id| image.broker(NodeId(id)).is_some_and(|broker| !broker.fenced);
        state.waiting.retain(|awaited| {
            let entry = &mut response.topics[awaited.entry.0].partitions[awaited.entry.1];
            match awaited.partition.low_watermark(is_alive) {
                Ok(low_watermark) if low_watermark < awaited.required => return true,
                Ok(low_watermark) => entry.low_watermark = low_watermark,
                Err(error) => (entry.low_watermark, entry.error_code) = (-1, error.code()),
            }
            false
        });
    }

    fn answer(&self, broker: &Broker, state: &mut State, out: &mut Effects) {
        let Some(response) = state.response.take() else { return };
        broker.purgatory().leave(self.reply.token);
        self.reply.send(&response, out);
    }
}

impl Broker {
    /// A follower's log begins later, or who lives or leads has changed.
    pub(crate) fn advance_deletions(&self, out: &mut Effects) {
        let waiting = {
            let mut waiting = lock(&self.deletions.waiting);
            waiting.retain(|deletion| !deletion.is_answered());
            waiting.clone()
        };
        for deletion in waiting {
            deletion.advance(self, out);
        }
    }
}
