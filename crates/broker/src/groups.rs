//! The group coordinators of this node, one for each partition of `__consumer_offsets` that it leads, and their introduction to the
//! partition's log.
//!
//! The tricky idea: the coordinator's state runs ahead of the commit (records are replayed as soon as they are appended), and every
//! answer, even one that wrote nothing, is held until everything appended before it is committed. So no answer ever shows what a crash
//! could still take back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bytes::Bytes;
use ottla_coordinator::{Config, Context, GroupCoordinator, Outcome, Reply, Topics, Waiter};
use ottla_metadata::{Image, java_hash};
use ottla_protocol::ids::{PartitionId, TopicId};
use ottla_protocol::messages::delete_groups_response::DeleteGroupsResponse;
use ottla_protocol::messages::describe_groups_response::DescribeGroupsResponse;
use ottla_protocol::messages::list_groups_response::ListGroupsResponse;
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::records::{self, BatchBuilder, BatchOptions, ControlKey, ControlType};
use ottla_protocol::{ErrorCode, Uuid};
use ottla_storage::AppendOrigin;

use crate::Broker;
use crate::call::{Call, ReplyTo};
use crate::effect::{Effect, Effects, Millis};
use crate::partition::{AppendRefusal, Committed, Partition, Wakes};
use crate::sessions::lock;

/// Bytes read at once while a coordinator is loaded.
const LOAD_BYTES: usize = 5 << 20;
/// Bytes of one decompressed batch while a coordinator is loaded.
const LOAD_BATCH_BYTES_MAX: usize = 128 << 20;

/// All coordinators, by partition.
#[derive(Debug)]
pub(crate) struct Groups {
    config: Config,
    seed: u64,
    shards: ArcSwap<BTreeMap<i32, Arc<Shard>>>,
    /// How many partitions `__consumer_offsets` has, 0 before it exists.
    partitions: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    partition: Arc<Partition>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    coordinator: GroupCoordinator,
    /// Who waits for a reply that the coordinator will make later.
    askers: BTreeMap<u128, Asker>,
    last_waiter: u128,
    /// Answers and the offset that must be committed before they leave, in order.
    held: VecDeque<(i64, Held)>,
    /// End of what this coordinator appended.
    end: i64,
    committed: i64,
    /// The earliest tick that was asked for.
    armed: Option<Millis>,
}

#[derive(Debug, Clone)]
enum Asker {
    One(ReplyTo),
    /// Part of an answer that several coordinators give together.
    Part(Arc<Joint>),
}

#[derive(Debug)]
enum Held {
    Reply(Asker, ottla_coordinator::Response),
    /// What was read is safe to show now.
    Read(Arc<Joint>),
}

/// One answer to which several coordinators contribute.
#[derive(Debug)]
pub(crate) struct Joint {
    reply: ReplyTo,
    left: AtomicUsize,
    closed: AtomicBool,
    body: Mutex<JointBody>,
}

#[derive(Debug)]
pub(crate) enum JointBody {
    OffsetFetch(OffsetFetchResponse<'static>),
    Describe(DescribeGroupsResponse<'static>),
    List(ListGroupsResponse<'static>),
    Delete(DeleteGroupsResponse<'static>),
}

impl Joint {
    /// An answer that is complete when [`Joint::part_done`] was called once for every part and once more by whoever collects them.
    pub fn new(reply: ReplyTo, body: JointBody) -> Arc<Joint> {
        Arc::new(Joint {
            reply,
            left: AtomicUsize::new(1),
            closed: AtomicBool::new(false),
            body: Mutex::new(body),
        })
    }

    pub fn part_done(&self, out: &mut Effects) {
        let is_last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last && !self.closed.load(Ordering::Acquire) {
            match &*lock(&self.body) {
                JointBody::OffsetFetch(response) => self.reply.send(response, out),
                JointBody::Describe(response) => self.reply.send(response, out),
                JointBody::List(response) => self.reply.send(response, out),
                JointBody::Delete(response) => self.reply.send(response, out),
            }
        }
    }

    /// A part is lost: there will be no answer, and the client asks again on another connection.
    fn close(&self, out: &mut Effects) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.reply.close(out);
        }
    }

    /// Adds to the answer.
    pub fn write(&self, write: impl FnOnce(&mut JointBody)) {
        write(&mut lock(&self.body));
    }
}

/// The topics of an image, as coordinators ask for them.
pub(crate) struct ImageTopics<'i>(pub &'i Image);

impl Topics for ImageTopics<'_> {
    fn id_of(&self, name: &str) -> Option<Uuid> {
        self.0.topic_id(name).map(|id| id.0)
    }

    fn name_of(&self, id: Uuid) -> Option<String> {
        self.0.topic(TopicId(id)).map(|topic| topic.name.to_string())
    }

    fn has_partition(&self, name: &str, partition: i32) -> bool {
        self.0.topic_by_name(name).is_some_and(|topic| topic.partitions.contains_key(&PartitionId(partition)))
    }
}

impl Groups {
    pub fn new(config: Config, seed: u64) -> Self {
        Groups { config, seed, shards: ArcSwap::default(), partitions: AtomicUsize::new(0) }
    }

    /// The partition that a group lives on, if `__consumer_offsets` exists.
    pub fn partition_of(&self, group_id: &str) -> Option<i32> {
        let partitions = i32::try_from(self.partitions.load(Ordering::Acquire)).unwrap_or(0);
        (partitions > 0).then(|| java_hash::coordinator_partition(group_id, partitions))
    }

    /// `__consumer_offsets` has this many partitions.
    pub fn set_partitions(&self, partitions: usize) {
        self.partitions.store(partitions, Ordering::Release);
    }

    fn shard(&self, group_id: &str) -> Result<Arc<Shard>, ErrorCode> {
        let index = self.partition_of(group_id).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        self.shards.load().get(&index).cloned().ok_or(ErrorCode::NotCoordinator)
    }

    /// Leads a partition of `__consumer_offsets` from now on: its log is replayed, then requests may come. May wait for the disk.
    pub fn lead(
        &self,
        broker: &Broker,
        partition: Arc<Partition>,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(), String> {
        let index = partition.index;
        let seed = self.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ now as u64;
        let mut coordinator = GroupCoordinator::new(self.config.clone(), seed);
        let end = load(&partition, &mut coordinator, now)?;
        let shard = Arc::new(Shard {
            partition,
            state: Mutex::new(State {
                coordinator,
                askers: BTreeMap::new(),
                last_waiter: 0,
                held: VecDeque::new(),
                end,
                committed: end,
                armed: None,
            }),
        });
        shard.run(broker, now, out, |state| state.coordinator.on_loaded(now));
        self.shards.rcu(|shards| {
            let mut shards = BTreeMap::clone(shards);
            shards.insert(index, shard.clone());
            shards
        });
        Ok(())
    }

    /// Leads a partition no more.
    pub fn resign(&self, index: i32, out: &mut Effects) {
        let gone = self.shards.load().get(&index).cloned();
        self.shards.rcu(|shards| {
            let mut shards = BTreeMap::clone(shards);
            shards.remove(&index);
            shards
        });
        if let Some(shard) = gone {
            let mut state = lock(&shard.state);
            let replies = state.coordinator.on_unloaded();
            state.send(replies, out);
            state.fail_held(out);
        }
    }

    /// Hands a request to the coordinator of its group. `refuse` answers when this node has none.
    pub fn handle(
        &self,
        broker: &Broker,
        call: &mut Call<'_>,
        group_id: &str,
        handle: impl FnOnce(&mut GroupCoordinator, &Context<'_>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        let shard = self.shard(group_id)?;
        shard.ask(broker, call, Asker::One(call.reply), handle);
        Ok(())
    }

    /// Hands part of a request to the coordinator of a group.
    pub fn handle_part(
        &self,
        broker: &Broker,
        call: &mut Call<'_>,
        group_id: &str,
        joint: &Arc<Joint>,
        handle: impl FnOnce(&mut GroupCoordinator, &Context<'_>) -> Outcome,
    ) -> Result<(), ErrorCode> {
        let shard = self.shard(group_id)?;
        joint.left.fetch_add(1, Ordering::AcqRel);
        shard.ask(broker, call, Asker::Part(joint.clone()), handle);
        Ok(())
    }

    /// Reads from the coordinator of a group. The joint answer leaves when what was read is committed.
    pub fn read(
        &self,
        group_id: &str,
        joint: &Arc<Joint>,
        out: &mut Effects,
        read: impl FnOnce(&GroupCoordinator),
    ) -> Result<(), ErrorCode> {
        self.shard(group_id)?.read(joint, out, read);
        Ok(())
    }

    /// Reads from every coordinator.
    pub fn read_all(&self, joint: &Arc<Joint>, out: &mut Effects, mut read: impl FnMut(&GroupCoordinator)) {
        for shard in self.shards.load().values() {
            shard.read(joint, out, &mut read);
        }
    }

    /// The high watermark of a partition moved.
    pub fn on_committed(&self, index: i32, high_watermark: i64, out: &mut Effects) {
        if let Some(shard) = self.shards.load().get(&index) {
            let mut state = lock(&shard.state);
            state.committed = state.committed.max(high_watermark);
            state.release(out);
        }
    }

    /// What was appended to a partition will not be committed.
    pub fn on_lost(&self, index: i32, out: &mut Effects) {
        self.resign(index, out);
    }

    /// Lets group timers run.
    pub fn on_tick(&self, broker: &Broker, now: Millis, out: &mut Effects) {
        for shard in self.shards.load().values() {
            loop {
                let due = lock(&shard.state).coordinator.next_deadline().is_some_and(|at| at <= now);
                if !due {
                    break;
                }
                shard.run(broker, now, out, |state| state.coordinator.on_timeout(now));
            }
            // The shell keeps one tick, the earliest: what was asked for beyond this one is asked for again.
            let mut state = lock(&shard.state);
            state.armed = None;
            state.arm(out);
        }
    }

    /// Topics were deleted: their offsets go.
    pub fn on_topics_deleted(
        &self,
        broker: &Broker,
        topics: &[(Uuid, &str)],
        now: Millis,
        out: &mut Effects,
    ) {
        for shard in self.shards.load().values() {
            shard.run(broker, now, out, |state| state.coordinator.on_topics_deleted(topics, now));
        }
    }
}

impl Shard {
    fn ask(
        self: &Arc<Self>,
        broker: &Broker,
        call: &mut Call<'_>,
        asker: Asker,
        handle: impl FnOnce(&mut GroupCoordinator, &Context<'_>) -> Outcome,
    ) {
        let image = broker.image();
        let (now, api_version, client_id) = (call.now, call.reply.version, call.client_id);
        let client_host = call.connection.client_host();
        self.run(broker, now, call.out, |state| {
            state.last_waiter += 1;
            let waiter = Waiter(state.last_waiter);
            state.askers.insert(waiter.0, asker);
            let topics = &ImageTopics(&image);
            let context = Context { now, waiter, api_version, client_id, client_host: &client_host, topics };
            handle(&mut state.coordinator, &context)
        });
    }

    fn read(&self, joint: &Arc<Joint>, out: &mut Effects, read: impl FnOnce(&GroupCoordinator)) {
        let mut state = lock(&self.state);
        read(&state.coordinator);
        joint.left.fetch_add(1, Ordering::AcqRel);
        let end = state.end;
        state.held.push_back((end, Held::Read(joint.clone())));
        state.release(out);
    }

    /// One step of the coordinator: it decides, its records are appended and replayed, its replies are held until they are committed.
    fn run(
        self: &Arc<Self>,
        broker: &Broker,
        now: Millis,
        out: &mut Effects,
        step: impl FnOnce(&mut State) -> Outcome,
    ) {
        let mut wakes = Wakes::default();
        {
            let mut state = lock(&self.state);
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
            let end = state.end;
            for reply in replies {
                if let Some(asker) = state.askers.remove(&reply.waiter.0) {
                    state.held.push_back((end, Held::Reply(asker, reply.response)));
                }
            }
            state.release(out);
            state.arm(out);
        }
        broker.wake(&self.partition, wakes, now, out);
    }

    fn append(
        &self,
        outcome: &Outcome,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(i64, i64, bool, Wakes), ErrorCode> {
        let mut batch = BatchBuilder::new(0, BatchOptions::default());
        for record in &outcome.records {
            batch.push(now, Some(&record.key), record.value.as_deref(), &[]);
        }
        let batch = Bytes::from(batch.finish());
        match self.partition.append(&batch, AppendOrigin::Coordinator, Some(Committed::Groups), now, out) {
            Ok((info, committed, wakes)) => Ok((info.first_offset, info.last_offset + 1, committed, wakes)),
            Err(AppendRefusal::Code(error)) => Err(error),
            Err(AppendRefusal::Invalid(error)) => Err(error.code()),
        }
    }
}

impl State {
    /// Sends what is committed.
    fn release(&mut self, out: &mut Effects) {
        while let Some((_, held)) = self.held.pop_front_if(|(end, _)| *end <= self.committed) {
            match held {
                Held::Reply(Asker::One(reply), response) => send(reply, &response, out),
                Held::Reply(Asker::Part(joint), response) => join(&joint, response, out),
                Held::Read(joint) => joint.part_done(out),
            }
        }
    }

    /// Sends replies without waiting for a commit: they report failures.
    fn send(&mut self, replies: Vec<Reply>, out: &mut Effects) {
        for reply in replies {
            match self.askers.remove(&reply.waiter.0) {
                Some(Asker::One(to)) => send(to, &reply.response, out),
                Some(Asker::Part(joint)) => join(&joint, reply.response, out),
                None => {}
            }
        }
    }

    /// What was promised can not be kept: everybody is told to look for the coordinator again.
    fn fail_held(&mut self, out: &mut Effects) {
        for (_, held) in std::mem::take(&mut self.held) {
            match held {
                Held::Reply(Asker::One(to), response) => {
                    let mut reply = Reply { waiter: Waiter(0), api_version: to.version, response };
                    reply.fail(ErrorCode::NotCoordinator);
                    send(to, &reply.response, out);
                }
                Held::Reply(Asker::Part(joint), response) => {
                    let mut reply = Reply { waiter: Waiter(0), api_version: joint.reply.version, response };
                    reply.fail(ErrorCode::NotCoordinator);
                    join(&joint, reply.response, out);
                }
                Held::Read(joint) => joint.close(out),
            }
        }
    }

    /// Asks for a tick if the next deadline is earlier than the one asked for.
    fn arm(&mut self, out: &mut Effects) {
        if let Some(at) = self.coordinator.next_deadline()
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            out.push(Effect::Tick { at });
        }
    }
}

fn send(to: ReplyTo, response: &ottla_coordinator::Response, out: &mut Effects) {
    use ottla_coordinator::Response;
    match response {
        Response::JoinGroup(response) => to.send(response, out),
        Response::SyncGroup(response) => to.send(response, out),
        Response::Heartbeat(response) => to.send(response, out),
        Response::LeaveGroup(response) => to.send(response, out),
        Response::OffsetCommit(response) => to.send(response, out),
        Response::TxnOffsetCommit(response) => to.send(response, out),
        Response::OffsetDelete(response) => to.send(response, out),
        Response::DeleteGroups(response) => to.send(response, out),
    }
}

fn join(joint: &Joint, part: ottla_coordinator::Response, out: &mut Effects) {
    joint.write(|body| match (body, part) {
        (JointBody::Delete(whole), ottla_coordinator::Response::DeleteGroups(part)) => {
            whole.results.extend(part.results)
        }
        (_, part) => unreachable!("no joint answer is made of {part:?}"),
    });
    joint.part_done(out);
}

/// Replays a partition's whole log. Returns its end.
fn load(partition: &Partition, coordinator: &mut GroupCoordinator, now: Millis) -> Result<i64, String> {
    let name = format!("{}-{}", partition.topic.name, partition.index);
    let unreadable =
        |error: &dyn std::fmt::Display| format!("{name}: the group coordinator can not be loaded: {error}");
    let positions = partition.positions(-1, now).map_err(|error| unreadable(&error))?;
    let mut offset = positions.log_start_offset;
    while offset < positions.log_end_offset {
        let chunk = partition
            .with_log(-1, now, |log, _| log.read(offset, LOAD_BYTES, positions.log_end_offset, true));
        let chunk = chunk.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
        let bytes = chunk.records.read().map_err(|error| unreadable(&error))?;
        let before = offset;
        for batch in records::batches(&bytes) {
            let batch = batch.map_err(|error| unreadable(&error))?;
            offset = offset.max(batch.next_offset());
            let set = batch.records(LOAD_BATCH_BYTES_MAX).map_err(|error| unreadable(&error))?;
            for record in set.iter() {
                let record = record.map_err(|error| unreadable(&error))?;
                if batch.is_control() {
                    let key = ControlKey::read(record.key).map_err(|error| unreadable(&error))?;
                    if let Some(end @ (ControlType::Commit | ControlType::Abort)) = key.control_type() {
                        coordinator.replay_end_transaction(batch.producer_id, end == ControlType::Commit);
                    }
                    continue;
                }
                let Some(key) = record.key else { continue };
                let producer_id = if batch.is_transactional() { batch.producer_id } else { -1 };
                let replayed = coordinator.replay(key, record.value, record.offset, producer_id);
                replayed.map_err(|error| unreadable(&error))?;
            }
        }
        if offset == before {
            return Err(unreadable(&"no batch where one has to be"));
        }
    }
    Ok(positions.log_end_offset)
}
