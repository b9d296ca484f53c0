//! A produce request that waits: for its transaction to be admitted, or for its records to be committed.
//!
//! The tricky idea: what it waits for may happen on another thread before the request has been handled to its end. So entries wait before
//! anything is asked for on their behalf, and the answer leaves when both have come: the last entry, and the response to fill in.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use ottla_storage::AppendInfo;

use super::{Entry, accepted, answer_silently, refused_by};
use crate::Broker;
use crate::call::ReplyTo;
use crate::effect::Effects;
use crate::partition::AppendRefusal;
use crate::sessions::lock;

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
    pub(super) fn new(reply: ReplyTo, acks: i16) -> Arc<Self> {
        Arc::new(PendingProduce { reply, acks, state: Mutex::default() })
    }

    /// Whether an entry is settled only by its commit, not by its append.
    pub(crate) fn waits_for_commit(&self) -> bool {
        self.acks == -1
    }

    /// An entry waits. Said before whatever ends that can happen: it may come from another thread at once.
    pub(super) fn wait(&self, entry: Entry) {
        lock(&self.state).waiting.insert(entry);
    }

    /// An entry need not wait after all.
    pub(super) fn settle(&self, entry: Entry) {
        lock(&self.state).waiting.remove(&entry);
    }

    /// Whether anything waits, or happened since the request was handled that its answer has to tell.
    pub(super) fn is_needed(&self) -> bool {
        let state = lock(&self.state);
        !(state.waiting.is_empty() && state.failed.is_empty() && state.filled.is_empty())
    }

    /// The request was handled: from here on it can be answered. Everything may have been settled already.
    pub(super) fn complete(&self, broker: &Broker, response: ProduceResponse<'static>, out: &mut Effects) {
        let mut state = lock(&self.state);
        state.response = Some(response);
        if state.waiting.is_empty() {
            self.answer(broker, &mut state, out);
        }
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
