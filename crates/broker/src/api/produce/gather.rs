//! Appends that are made together: what the produce requests of one turn of a loop bring for a partition takes its lock once and becomes
//! one write.
//!
//! ```text
//!   request ──► gathered ─┐
//!   request ──► gathered ─┼─ end of the turn ─► by partition: one lock, one write ─► answers
//!   request ──► gathered ─┘
//! ```
//!
//! The tricky idea: nothing has happened yet when a batch is gathered. Offsets, sequence numbers, errors: all of it is decided when the
//! batches are appended, one after the other in the order in which they came. So a gathered request is one that has not been handled yet,
//! and all that has to be seen to is that no later request of its connection overtakes it: any but a produce has the gathered ones appended
//! first.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ottla_protocol::Uuid;
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use ottla_storage::AppendOrigin;

use super::{Entry, PendingProduce, Target, accepted, answer_silently, refused_by};
use crate::Broker;
use crate::call::ReplyTo;
use crate::effect::{Effect, Effects, Millis, Token};
use crate::partition::{Committed, Joining, Partition};

/// Batches up to this size are copied, so that they can wait for the end of the turn without keeping the buffer that they were received
/// in: copying them costs less than a write of their own.
const COPY_BYTES_MAX: usize = 4 << 10;
/// So many batches are enough.
const APPENDS_MAX: usize = 1024;
/// So many copied bytes are enough.
const COPIED_BYTES_MAX: usize = 1 << 20;

/// What the requests of one turn ask for. Each loop has its own.
#[derive(Debug, Default)]
pub struct Gather {
    pub(super) appends: Vec<Append>,
    /// Memory for the order in which they are made.
    order: Vec<(Uuid, i32, usize)>,
    pub(super) requests: Vec<Gathered>,
    /// Memory for the partitions that one request names.
    pub(super) targets: Vec<Target>,
    /// Copied batches, one behind the other.
    copies: BytesMut,
    holds_frames: bool,
    /// Counts how often everything was appended.
    round: u64,
}

/// A batch to append.
#[derive(Debug)]
pub(super) struct Append {
    pub partition: Arc<Partition>,
    pub records: Held,
    pub zstd_allowed: bool,
    /// Index of its request.
    pub request: usize,
    pub entry: Entry,
    /// Whom its commit concerns (`acks=all`).
    pub waiter: Option<Arc<PendingProduce>>,
}

/// The bytes of a batch that is gathered.
#[derive(Debug)]
pub(super) enum Held {
    Frame(Bytes),
    /// Where they were copied to.
    Copy(Range<usize>),
}

/// A request whose batches are gathered.
#[derive(Debug)]
pub(super) struct Gathered {
    pub reply: ReplyTo,
    pub acks: i16,
    pub pending: Option<Arc<PendingProduce>>,
    /// Lacks what becomes of the batches.
    pub response: ProduceResponse<'static>,
    pub deadline: Millis,
}

impl Gather {
    /// Whether nothing is gathered.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether appending should not be put off any more: there is much, or frames are kept alive, whose memory others could use.
    pub fn is_urgent(&self) -> bool {
        self.holds_frames || self.appends.len() >= APPENDS_MAX || self.copies.len() >= COPIED_BYTES_MAX
    }

    /// The requests that are gathered.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.requests.iter().map(|request| request.reply.token)
    }

    /// Which round of gathering this is.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Memory for the partitions that the next request names; not for more of them than usual.
    pub(super) fn keep_targets(&mut self, mut targets: Vec<Target>) {
        targets.clear();
        targets.shrink_to(APPENDS_MAX);
        self.targets = targets;
    }

    /// A batch as it can be kept until the end of the turn.
    pub(super) fn hold(&mut self, frame: &Bytes, batch: &[u8]) -> Held {
        if batch.len() > COPY_BYTES_MAX {
            self.holds_frames = true;
            return Held::Frame(frame.slice_ref(batch));
        }
        let start = self.copies.len();
        self.copies.extend_from_slice(batch);
        Held::Copy(start..self.copies.len())
    }
}

impl Broker {
    /// Appends what was gathered, and answers whoever need not wait.
    pub fn on_gathered(&self, gather: &mut Gather, now: Millis, out: &mut Effects) {
        if gather.is_empty() {
            return;
        }
        let copies = std::mem::take(&mut gather.copies).freeze();
        let mut order = std::mem::take(&mut gather.order);
        // By partition; batches for one partition keep their order.
        order.extend(gather.appends.iter().enumerate().map(|(place, append)| {
            let Partition { topic, index, .. } = &*append.partition;
            (topic.id, *index, place)
        }));
        order.sort_unstable();
        let mut joining: Vec<Joining> = Vec::new();
        let mut places: Vec<(usize, Entry)> = Vec::new();
        for group in order.chunk_by(|(id, index, _), (other_id, other, _)| (id, index) == (other_id, other)) {
            let partition = gather.appends[group[0].2].partition.clone();
            for &(.., place) in group {
                let Append { records, zstd_allowed, request, entry, waiter, .. } = &mut gather.appends[place];
                let records = match records {
                    Held::Frame(bytes) => std::mem::take(bytes),
                    Held::Copy(range) => copies.slice(range.clone()),
                };
                let waiter = waiter.take().map(|produce| Committed::Produce(produce, *entry));
                let origin = AppendOrigin::Client { zstd_allowed: *zstd_allowed, admission: None };
                joining.push(Joining { records, origin, waiter });
                places.push((*request, *entry));
            }
            let (results, wakes) = partition.append_group(&mut joining, now, out);
            for (result, (request, entry)) in results.iter().zip(places.drain(..)) {
                let (answer, is_committed) = match result {
                    Ok((info, is_committed)) => (accepted(info), *is_committed),
                    Err(refusal) => (refused_by(refusal), true),
                };
                let request = &mut gather.requests[request];
                let place = &mut request.response.responses[entry.0].partition_responses[entry.1];
                *place = PartitionProduceResponse { index: place.index, ..answer };
                if let Some(pending) = request.pending.as_ref().filter(|_| is_committed) {
                    pending.settle(entry);
                }
            }
            self.wake(&partition, wakes, now, out);
        }
        order.clear();
        gather.order = order;
        gather.appends.clear();
        for request in gather.requests.drain(..) {
            request.finish(self, out);
        }
        // The same memory again, unless somebody (a batch that waits for its transaction, say) still has a part of it, or one request
        // brought more than a turn is meant to.
        let copies = copies.try_into_mut().ok().filter(|copies| copies.capacity() <= 2 * COPIED_BYTES_MAX);
        gather.copies = copies.unwrap_or_default();
        gather.copies.clear();
        gather.appends.shrink_to(APPENDS_MAX);
        gather.requests.shrink_to(APPENDS_MAX);
        gather.holds_frames = false;
        gather.round += 1;
    }
}

impl Gathered {
    /// Everything is appended or refused: answers, or waits for commits and coordinators.
    fn finish(self, broker: &Broker, out: &mut Effects) {
        let Gathered { reply, acks, pending, response, deadline } = self;
        match pending.filter(|pending| pending.is_needed()) {
            Some(pending) => {
                broker.purgatory().enter_produce(&pending);
                out.push(Effect::Deadline { token: reply.token, at: deadline });
                pending.complete(broker, response, out);
            }
            None if acks == 0 => answer_silently(reply, &response, out),
            None => reply.send(&response, out),
        }
    }
}
