//! One coordinator at work on its partition.
//!
//! The tricky idea: the coordinator's state runs ahead of the commit (records are replayed as soon as they are appended), and every
//! answer, even one that wrote nothing, is held until everything appended before it is committed. So no answer ever shows what a crash
//! could still take back. Deeds (transaction markers) are held in the same queue, for the same reason.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_coordinator::{Context, Coordinator, Deed, Outcome, Reply, Response, Waiter};
use ottla_protocol::ErrorCode;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_storage::{Admission, AppendOrigin};

use crate::Broker;
use crate::call::ReplyTo;
use crate::coordination::admission::Ask;
use crate::coordination::markers::PartitionMarker;
use crate::coordination::{ImageTopics, Joint, Released};
use crate::effect::{Effect, Effects, Millis};
use crate::partition::{AppendRefusal, Committed, Partition, Wakes};
use crate::sessions::lock;

/// The version in which this node speaks to itself: the newest, in which nothing is translated for older clients.
pub(super) const INSIDE_VERSION: i16 = i16::MAX;

/// A coordinator, its partition, and who waits for it.
#[derive(Debug)]
pub(super) struct Shard<C> {
    pub partition: Arc<Partition>,
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
    /// This node itself: a transaction wants to begin in a partition.
    Inside(Arc<Ask>),
}

/// Who hands a request to a coordinator, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub now: Millis,
    pub api_version: i16,
    pub client_id: &'a str,
    pub client_host: &'a str,
    /// Lets the records be the first of their transaction on this partition.
    pub admission: Option<Admission>,
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
    /// What has to follow a decision may be done now.
    Deed(Deed),
}

impl<C: Coordinator> Shard<C> {
    /// A shard whose coordinator was loaded from a log that ends at `end`, and of which so much is committed.
    pub fn new(
        partition: Arc<Partition>,
        coordinator: C,
        (end, committed): (i64, i64),
        commit_timeout_ms: Millis,
    ) -> Self {
        let state = State {
            coordinator,
            gone: false,
            askers: BTreeMap::new(),
            last_waiter: 0,
            held: VecDeque::new(),
            end,
            committed,
            armed: None,
        };
        Shard { partition, commit_timeout_ms, state: Mutex::new(state) }
    }

    /// Hands a request to the coordinator. An error: it is gone, and the asker was not kept.
    pub fn ask(
        &self,
        broker: &Broker,
        origin: Origin<'_>,
        out: &mut Effects,
        asker: Asker,
        handle: impl FnOnce(&mut C, &Context<'_>) -> Outcome,
    ) -> Result<Released, ErrorCode> {
        let image = broker.image();
        let Origin { now, api_version, client_id, client_host, admission } = origin;
        self.step(broker, admission, now, out, |state| {
            state.last_waiter += 1;
            let waiter = Waiter(state.last_waiter);
            if let Asker::Part(joint) = &asker {
                joint.expect_part();
            }
            state.askers.insert(waiter.0, asker);
            let topics = &ImageTopics::new(&image, broker);
            let context = Context { now, waiter, api_version, client_id, client_host, topics };
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
    ) -> Result<Released, ErrorCode> {
        let mut state = lock(&self.state);
        if state.gone {
            return Err(ErrorCode::NotCoordinator);
        }
        read(&state.coordinator);
        joint.expect_part();
        state.hold(Parcel::Read(joint.clone()), now + self.commit_timeout_ms);
        let released = state.release(out);
        state.arm(out);
        Ok(released)
    }

    /// One step that nobody asked for. Nothing happens if the coordinator is gone.
    pub fn run(
        &self,
        broker: &Broker,
        now: Millis,
        out: &mut Effects,
        step: impl FnOnce(&mut C) -> Outcome,
    ) -> Released {
        self.step(broker, None, now, out, |state| step(&mut state.coordinator)).unwrap_or_default()
    }

    /// One step of the coordinator: it decides, its records are appended and replayed, its replies are held until they are committed.
    fn step(
        &self,
        broker: &Broker,
        admission: Option<Admission>,
        now: Millis,
        out: &mut Effects,
        step: impl FnOnce(&mut State<C>) -> Outcome,
    ) -> Result<Released, ErrorCode> {
        let mut wakes = Wakes::default();
        let released = {
            let mut state = lock(&self.state);
            if state.gone {
                return Err(ErrorCode::NotCoordinator);
            }
            let mut outcome = step(&mut state);
            let mut deeds = std::mem::take(&mut outcome.deeds);
            let mut failed = Released::default();
            let replies = if outcome.records.is_empty() {
                outcome.replies
            } else {
                match self.append(&outcome, admission, now, out) {
                    Ok((base_offset, end, committed, woken)) => {
                        wakes = woken;
                        state.end = end;
                        if committed {
                            state.committed = end;
                        }
                        state.coordinator.on_appended(outcome, base_offset, now)
                    }
                    Err(error) => {
                        // What was not decided has no consequences.
                        deeds.clear();
                        let replies = state.coordinator.on_append_failed(outcome, error, now);
                        failed = state.send(replies, out);
                        Vec::new()
                    }
                }
            };
            for reply in replies {
                if let Some(asker) = state.askers.remove(&reply.waiter.0) {
                    state.hold(Parcel::Reply(asker, reply.response), now + self.commit_timeout_ms);
                }
            }
            for deed in deeds {
                state.hold(Parcel::Deed(deed), Millis::MAX);
            }
            failed.append(state.release(out));
            state.arm(out);
            failed
        };
        broker.wake(&self.partition, wakes, now, out);
        Ok(released)
    }

    /// Appends a marker that ends a transaction on this partition, and replays it. `waiter` is told when it is committed.
    pub fn append_marker(
        &self,
        broker: &Broker,
        marker: &PartitionMarker,
        waiter: Committed,
        now: Millis,
        out: &mut Effects,
    ) -> Result<bool, ErrorCode> {
        let (committed, wakes) = {
            let mut state = lock(&self.state);
            if state.gone {
                return Err(ErrorCode::NotCoordinator);
            }
            let (end, committed, wakes) = marker.append(&self.partition, waiter, now, out)?;
            state.coordinator.replay_end_transaction(marker.producer_id, marker.commit);
            state.end = end;
            if committed {
                state.committed = end;
            }
            (committed, wakes)
        };
        broker.wake(&self.partition, wakes, now, out);
        Ok(committed)
    }

    fn append(
        &self,
        outcome: &Outcome,
        admission: Option<Admission>,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(i64, i64, bool, Wakes), ErrorCode> {
        let mut options = BatchOptions { base_sequence: C::BASE_SEQUENCE, ..BatchOptions::default() };
        if let Some(transaction) = outcome.transaction {
            options.producer_id = transaction.producer_id;
            options.producer_epoch = transaction.producer_epoch;
            options.transactional = true;
        }
        let mut batch = BatchBuilder::new(0, options);
        for record in &outcome.records {
            batch.push(now, Some(&record.key), record.value.as_deref(), &[]);
        }
        let batch = Bytes::from(batch.finish());
        match self.partition.append(
            &batch,
            AppendOrigin::Coordinator { admission },
            Some(Committed::Coordinator),
            now,
            out,
        ) {
            Ok((info, committed, wakes)) => Ok((info.first_offset, info.last_offset + 1, committed, wakes)),
            Err(AppendRefusal::Code(error) | AppendRefusal::Unverified(error)) => Err(error),
            Err(AppendRefusal::Invalid(error)) => Err(error.code()),
        }
    }

    /// The high watermark moved.
    pub fn on_committed(&self, high_watermark: i64, out: &mut Effects) -> Released {
        let mut state = lock(&self.state);
        state.committed = state.committed.max(high_watermark);
        state.release(out)
    }

    /// Lets timers run whose time has come, and ends the patience with commits that do not come.
    pub fn on_tick(&self, broker: &Broker, now: Millis, out: &mut Effects) -> Released {
        let mut released = lock(&self.state).fail_late(now, out);
        loop {
            let due = {
                let state = lock(&self.state);
                !state.gone && state.coordinator.next_deadline().is_some_and(|at| at <= now)
            };
            if !due {
                break;
            }
            let image = broker.image();
            released.append(self.run(broker, now, out, |coordinator| {
                coordinator.on_timeout(now, &ImageTopics::new(&image, broker))
            }));
        }
        // The shell keeps one tick, the earliest: what was asked for beyond this one is asked for again.
        let mut state = lock(&self.state);
        state.armed = None;
        state.arm(out);
        released
    }

    /// Gives the partition up: everybody who waits is told to look for the coordinator again, and so is everybody who comes late.
    pub fn resign(&self, out: &mut Effects) -> Released {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.gone, true) {
            return Released::default();
        }
        let replies = state.coordinator.on_unloaded();
        let mut released = state.send(replies, out);
        for held in std::mem::take(&mut state.held) {
            // A deed is left to the next coordinator: the decision behind it is in the log, or will never be.
            held.what.fail(ErrorCode::NotCoordinator, &mut released, out);
        }
        // A client that asked twice on one membership is answered once; whoever it was that is left will not hear of this coordinator.
        for (_, asker) in std::mem::take(&mut state.askers) {
            asker.close(out);
        }
        released
    }
}

impl<C: Coordinator> State<C> {
    /// Keeps something until all that was appended so far is committed.
    fn hold(&mut self, what: Parcel, until: Millis) {
        self.held.push_back(Held { end: self.end, until, what });
    }

    /// Lets out what is committed.
    fn release(&mut self, out: &mut Effects) -> Released {
        let mut released = Released::default();
        while let Some(held) = self.held.pop_front_if(|held| held.end <= self.committed) {
            match held.what {
                Parcel::Reply(asker, response) => asker.answer(response, &mut released, out),
                Parcel::Read(joint) => joint.part_done(out),
                Parcel::Deed(deed) => released.deeds.push(deed),
            }
        }
        released
    }

    /// Sends replies without waiting for a commit: they report failures.
    fn send(&mut self, replies: Vec<Reply>, out: &mut Effects) -> Released {
        let mut released = Released::default();
        for reply in replies {
            if let Some(asker) = self.askers.remove(&reply.waiter.0) {
                asker.answer(reply.response, &mut released, out);
            }
        }
        released
    }

    /// Tells those whose patience is over that the commit did not come in time (`offsets.commit.timeout.ms`). Their records stay in
    /// the log and may still be committed: the client does not know, and asks again.
    fn fail_late(&mut self, now: Millis, out: &mut Effects) -> Released {
        let mut released = Released::default();
        // Deeds among them have all the time there is.
        let (late, patient) = std::mem::take(&mut self.held).into_iter().partition(|held| held.until <= now);
        self.held = patient;
        let late: VecDeque<Held> = late;
        for late in late {
            late.what.fail(ErrorCode::CoordinatorNotAvailable, &mut released, out);
        }
        released
    }

    /// Asks for a tick if the next deadline is earlier than the one asked for.
    fn arm(&mut self, out: &mut Effects) {
        if self.gone {
            return;
        }
        let patience = self.held.iter().map(|held| held.until).find(|until| *until < Millis::MAX);
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
    fn answer(self, response: Response, released: &mut Released, out: &mut Effects) {
        match (self, response) {
            (Asker::One(to), response) => send(to, &response, out),
            (Asker::Part(joint), response) => joint.part_replied(response, out),
            // It goes on outside of the lock.
            (Asker::Inside(ask), Response::AddPartitionsToTxn(answer)) => {
                released.answers.push((ask, answer))
            }
            (Asker::Inside(_), response) => unreachable!("nobody inside asks for {response:?}"),
        }
    }

    fn close(self, out: &mut Effects) {
        match self {
            Asker::One(to) => to.close(out),
            Asker::Part(joint) => joint.part_failed(ErrorCode::NotCoordinator, out),
            Asker::Inside(_) => unreachable!("an ask is answered at once"),
        }
    }

    fn version(&self) -> i16 {
        match self {
            Asker::One(to) => to.version,
            Asker::Part(joint) => joint.reply().version,
            Asker::Inside(_) => INSIDE_VERSION,
        }
    }
}

impl Parcel {
    /// What was promised can not be kept.
    fn fail(self, error: ErrorCode, released: &mut Released, out: &mut Effects) {
        match self {
            Parcel::Reply(asker, response) => {
                let mut reply = Reply { waiter: Waiter(0), api_version: asker.version(), response };
                reply.fail(error);
                asker.answer(reply.response, released, out);
            }
            Parcel::Read(joint) => joint.part_failed(error, out),
            Parcel::Deed(_) => {}
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
        Response::InitProducerId(response) => to.send(response, out),
        Response::AddOffsetsToTxn(response) => to.send(response, out),
        Response::EndTxn(response) => to.send(response, out),
        Response::AddPartitionsToTxn(answer) => unreachable!("{answer:?} is part of a joint answer"),
    }
}
