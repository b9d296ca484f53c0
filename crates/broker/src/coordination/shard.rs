//! One coordinator at work on its partition.
//!
//! The tricky idea: the coordinator's state runs ahead of the commit (records are replayed as soon as they are appended), and every
//! answer, even one that wrote nothing, is held until everything appended before it is committed. So no answer ever shows what a crash
//! could still take back. Deeds (transaction markers) are held in the same queue, for the same reason.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_coordinator::{Context, Coordinator, Outcome, Reply, Response, Waiter};
use ottla_protocol::ErrorCode;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_storage::AppendOrigin;

use crate::Broker;
use crate::call::{Call, ReplyTo};
use crate::coordination::{ImageTopics, Joint};
use crate::effect::{Effect, Effects, Millis};
use crate::partition::{AppendRefusal, Committed, Partition, Wakes};
use crate::sessions::lock;

/// A coordinator, its partition, and who waits for it.
#[derive(Debug)]
pub(super) struct Shard<C> {
    partition: Arc<Partition>,
    commit_timeout_ms: Millis,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    coordinator: C,
    /// Leadership was given up: nothing is asked of the coordinator any more. Whoever found the shard a moment before is told so.
    gone: bool,
    /// Who waits for a reply that the coordinator will make later.
    askers: BTreeMap<u128, Asker>,
    last_waiter: u128,
    /// What leaves when an offset is committed, in the order of the offsets.
    held: VecDeque<Held>,
    /// End of what this coordinator appended.
    end: i64,
    committed: i64,
    /// The earliest tick that was asked for.
    armed: Option<Millis>,
}

/// Whom an answer is for.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    One(ReplyTo),
    /// Part of an answer that several coordinators give together.
    Part(Arc<Joint>),
}

#[derive(Debug)]
struct Held {
    /// What has to be committed before it leaves (exclusive).
    end: i64,
    /// When patience ends.
    until: Millis,
    what: Parcel,
}

#[derive(Debug)]
enum Parcel {
    Reply(Asker, Response),
    /// What was read is safe to show now.
    Read(Arc<Joint>),
}

impl<C: Coordinator> Shard<C> {
    /// A shard whose coordinator was loaded from a log that ends at `end`.
    pub fn new(partition: Arc<Partition>, coordinator: C, end: i64, commit_timeout_ms: Millis) -> Self {
        let state = State {
            coordinator,
            gone: false,
            askers: BTreeMap::new(),
            last_waiter: 0,
            held: VecDeque::new(),
            end,
            committed: end,
            armed: None,
        };
        Shard { partition, commit_timeout_ms, state: Mutex::new(state) }
    }

    /// Hands a request to the coordinator. An error: it is gone, and the asker was not kept.
    pub fn ask(
        &self,
        broker: &Broker,
        call: &mut Call<'_>,
        asker: Asker,
        handle: impl FnOnce(&mut C, &Context<'_>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        let image = broker.image();
        let (now, api_version, client_id) = (call.now, call.reply.version, call.client_id);
        let client_host = call.connection.client_host();
        self.step(broker, now, call.out, |state| {
            state.last_waiter += 1;
            let waiter = Waiter(state.last_waiter);
            if let Asker::Part(joint) = &asker {
                joint.expect_part();
            }
            state.askers.insert(waiter.0, asker);
            let topics = &ImageTopics::new(&image, broker);
            let context = Context { now, waiter, api_version, client_id, client_host: &client_host, topics };
            handle(&mut state.coordinator, &context)
        })
    }

    /// Reads from the coordinator; the joint answer waits until what was read is committed.
    pub fn read(
        &self,
        joint: &Arc<Joint>,
        now: Millis,
        out: &mut Effects,
        read: impl FnOnce(&C),
    ) -> Result<(), ErrorCode> {
        let mut state = lock(&self.state);
        if state.gone {
            return Err(ErrorCode::NotCoordinator);
        }
        read(&state.coordinator);
        joint.expect_part();
        state.hold(Parcel::Read(joint.clone()), now + self.commit_timeout_ms);
        state.release(out);
        state.arm(out);
        Ok(())
    }

    /// One step that nobody asked for. Nothing happens if the coordinator is gone.
    pub fn run(&self, broker: &Broker, now: Millis, out: &mut Effects, step: impl FnOnce(&mut C) -> Outcome) {
        let _: Result<(), ErrorCode> = self.step(broker, now, out, |state| step(&mut state.coordinator));
    }

    /// One step of the coordinator: it decides, its records are appended and replayed, its replies are held until they are committed.
    fn step(
        &self,
        broker: &Broker,
        now: Millis,
        out: &mut Effects,
        step: impl FnOnce(&mut State<C>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        let mut wakes = Wakes::default();
        {
            let mut state = lock(&self.state);
            if state.gone {
                return Err(ErrorCode::NotCoordinator);
            }
            let outcome = step(&mut state);
            let replies = if outcome.records.is_empty() {
                outcome.replies
            } else {
                match self.append(&outcome, now, out) {
                    Ok((base_offset, end, committed, woken)) => {
                        wakes = woken;
                        state.end = end;
                        if committed {
                            state.committed = end;
                        }
                        state.coordinator.on_appended(outcome, base_offset, now)
                    }
                    Err(error) => {
                        let replies = state.coordinator.on_append_failed(outcome, error, now);
                        state.send(replies, out);
                        Vec::new()
                    }
                }
            };
            for reply in replies {
                if let Some(asker) = state.askers.remove(&reply.waiter.0) {
                    state.hold(Parcel::Reply(asker, reply.response), now + self.commit_timeout_ms);
                }
            }
            state.release(out);
            state.arm(out);
        }
        broker.wake(&self.partition, wakes, now, out);
        Ok(())
    }

    fn append(
        &self,
        outcome: &Outcome,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(i64, i64, bool, Wakes), ErrorCode> {
        let options = outcome.transaction.map_or_else(BatchOptions::default, |transaction| BatchOptions {
            producer_id: transaction.producer_id,
            producer_epoch: transaction.producer_epoch,
            // As Kafka's group coordinator writes it; nobody looks at the sequence of a batch that no client sent.
            base_sequence: 0,
            transactional: true,
            ..BatchOptions::default()
        });
        let mut batch = BatchBuilder::new(0, options);
        for record in &outcome.records {
            batch.push(now, Some(&record.key), record.value.as_deref(), &[]);
        }
        let batch = Bytes::from(batch.finish());
        match self.partition.append(&batch, AppendOrigin::Coordinator, Some(Committed::Coordinator), now, out)
        {
            Ok((info, committed, wakes)) => Ok((info.first_offset, info.last_offset + 1, committed, wakes)),
            Err(AppendRefusal::Code(error)) => Err(error),
            Err(AppendRefusal::Invalid(error)) => Err(error.code()),
        }
    }

    /// The high watermark moved.
    pub fn on_committed(&self, high_watermark: i64, out: &mut Effects) {
        let mut state = lock(&self.state);
        state.committed = state.committed.max(high_watermark);
        state.release(out);
    }

    /// Lets timers run whose time has come, and ends the patience with commits that do not come.
    pub fn on_tick(&self, broker: &Broker, now: Millis, out: &mut Effects) {
        lock(&self.state).fail_late(now, out);
        loop {
            let due = {
                let state = lock(&self.state);
                !state.gone && state.coordinator.next_deadline().is_some_and(|at| at <= now)
            };
            if !due {
                break;
            }
            let image = broker.image();
            self.run(broker, now, out, |coordinator| {
                coordinator.on_timeout(now, &ImageTopics::new(&image, broker))
            });
        }
        // The shell keeps one tick, the earliest: what was asked for beyond this one is asked for again.
        let mut state = lock(&self.state);
        state.armed = None;
        state.arm(out);
    }

    /// Gives the partition up: everybody who waits is told to look for the coordinator again, and so is everybody who comes late.
    pub fn resign(&self, out: &mut Effects) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.gone, true) {
            return;
        }
        let replies = state.coordinator.on_unloaded();
        state.send(replies, out);
        for held in std::mem::take(&mut state.held) {
            held.what.fail(ErrorCode::NotCoordinator, out);
        }
        // A client that asked twice on one membership is answered once; whoever it was that is left will not hear of this coordinator.
        for (_, asker) in std::mem::take(&mut state.askers) {
            asker.close(out);
        }
    }
}

impl<C: Coordinator> State<C> {
    /// Keeps something until all that was appended so far is committed.
    fn hold(&mut self, what: Parcel, until: Millis) {
        self.held.push_back(Held { end: self.end, until, what });
    }

    /// Lets out what is committed.
    fn release(&mut self, out: &mut Effects) {
        while let Some(held) = self.held.pop_front_if(|held| held.end <= self.committed) {
            match held.what {
                Parcel::Reply(asker, response) => asker.answer(response, out),
                Parcel::Read(joint) => joint.part_done(out),
            }
        }
    }

    /// Sends replies without waiting for a commit: they report failures.
    fn send(&mut self, replies: Vec<Reply>, out: &mut Effects) {
        for reply in replies {
            if let Some(asker) = self.askers.remove(&reply.waiter.0) {
                asker.answer(reply.response, out);
            }
        }
    }

    /// Tells those whose patience is over that the commit did not come in time (`offsets.commit.timeout.ms`). Their records stay in
    /// the log and may still be committed: the client does not know, and asks again.
    fn fail_late(&mut self, now: Millis, out: &mut Effects) {
        while let Some(late) = self.held.pop_front_if(|held| held.until <= now) {
            late.what.fail(ErrorCode::CoordinatorNotAvailable, out);
        }
    }

    /// Asks for a tick if the next deadline is earlier than the one asked for.
    fn arm(&mut self, out: &mut Effects) {
        if self.gone {
            return;
        }
        let patience = self.held.front().map(|held| held.until);
        let next = self.coordinator.next_deadline().into_iter().chain(patience).min();
        if let Some(at) = next
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            out.push(Effect::Tick { at });
        }
    }
}

impl Asker {
    fn answer(self, response: Response, out: &mut Effects) {
        match self {
            Asker::One(to) => send(to, &response, out),
            Asker::Part(joint) => joint.part_replied(response, out),
        }
    }

    fn close(self, out: &mut Effects) {
        match self {
            Asker::One(to) => to.close(out),
            Asker::Part(joint) => joint.part_failed(ErrorCode::NotCoordinator, out),
        }
    }

    fn version(&self) -> i16 {
        match self {
            Asker::One(to) => to.version,
            Asker::Part(joint) => joint.reply().version,
        }
    }
}

impl Parcel {
    /// What was promised can not be kept.
    fn fail(self, error: ErrorCode, out: &mut Effects) {
        match self {
            Parcel::Reply(asker, response) => {
                let mut reply = Reply { waiter: Waiter(0), api_version: asker.version(), response };
                reply.fail(error);
                asker.answer(reply.response, out);
            }
            Parcel::Read(joint) => joint.part_failed(error, out),
        }
    }
}

fn send(to: ReplyTo, response: &Response, out: &mut Effects) {
    match response {
        Response::JoinGroup(response) => to.send(response, out),
        Response::SyncGroup(response) => to.send(response, out),
        Response::Heartbeat(response) => to.send(response, out),
        Response::LeaveGroup(response) => to.send(response, out),
        Response::OffsetCommit(response) => to.send(response, out),
        Response::TxnOffsetCommit(response) => to.send(response, out),
        Response::OffsetDelete(response) => to.send(response, out),
        Response::DeleteGroups(response) => to.send(response, out),
        Response::ConsumerGroupHeartbeat(response) => to.send(response, out),
    }
}
