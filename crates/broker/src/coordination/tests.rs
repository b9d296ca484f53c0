//! What the runtime promises to those who wait, at the moments that no request can time: resignation, and a disk that hangs.

use std::sync::Arc;

use ottla_coordinator::{Context, Coordinator, Outcome, Record, ReplayError, Reply, Response, Topics};
use ottla_metadata::config::BrokerConfig;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::heartbeat_response::HeartbeatResponse;
use ottla_protocol::messages::list_groups_response::ListGroupsResponse;
use ottla_protocol::{ApiKey, ErrorCode, Reader, Uuid};
use ottla_storage::SimDisk;

use super::shard::{Asker, Origin, Shard};
use super::{Joint, JointBody};
use crate::call::ReplyTo;
use crate::effect::{Effect, Effects, Millis, Response as Answer, Token};
use crate::partition::{Partition, Topic};
use crate::{Broker, NodeConfig};

const NOW: Millis = 1_800_000_000_000;
const COMMIT_TIMEOUT_MS: Millis = 5_000;

/// Writes a record for every request, and agrees.
#[derive(Debug, Default)]
struct Yes {
    replayed: usize,
}

impl Yes {
    fn handle(context: &Context<'_>) -> Outcome {
        let response = Response::Heartbeat(HeartbeatResponse::default());
        let reply = Reply { waiter: context.waiter, api_version: context.api_version, response };
        let record = Record { key: b"k".to_vec(), value: None };
        let mut outcome = Outcome::default();
        outcome.records.push(record);
        outcome.replies.push(reply);
        outcome
    }
}

impl Coordinator for Yes {
    const BASE_SEQUENCE: i32 = 0;

    fn replay(&mut self, _: &[u8], _: Option<&[u8]>, _: i64, _: i64) -> Result<(), ReplayError> {
        self.replayed += 1;
        Ok(())
    }

    fn replay_end_transaction(&mut self, _: i64, _: bool) {}

    fn on_loaded(&mut self, _: i32, _: i64, _: &dyn Topics) -> Outcome {
        Outcome::default()
    }

    fn on_unloaded(&mut self) -> Vec<Reply> {
        Vec::new()
    }

    fn on_appended(&mut self, outcome: Outcome, _: i64, _: i64) -> Vec<Reply> {
        self.replayed += outcome.records.len();
        outcome.replies
    }

    fn on_append_failed(&mut self, outcome: Outcome, _: ErrorCode, _: i64) -> Vec<Reply> {
        outcome.replies
    }

    fn next_deadline(&self) -> Option<i64> {
        None
    }

    fn on_timeout(&mut self, _: i64, _: &dyn Topics) -> Outcome {
        Outcome::default()
    }
}

/// A partition of which this node has the only replica.
fn alone() -> ottla_metadata::Partition {
    let me = vec![NodeId(0)];
    ottla_metadata::Partition { replicas: me.clone(), isr: me, ..Default::default() }
}

struct Rig {
    broker: Arc<Broker>,
    shard: Shard<Yes>,
    slot: u64,
    out: Effects,
}

impl Rig {
    fn new() -> Rig {
        let settings = [("log.dirs".to_owned(), "/data".to_owned())].into();
        let (broker, _) = BrokerConfig::resolve(&settings).expect("the defaults are valid");
        let node = NodeConfig { broker, cluster_id: None, loggers: Arc::default() };
        let broker = Broker::open(Arc::new(SimDisk::new(1)), node, NOW, 1).expect("an empty disk starts");
        let topic = Topic { id: Uuid([7; 16]), name: "__yes".into(), internal: true };
        let settings = Arc::new(broker.config().topic_defaults.clone());
        let partition = Partition::new(Arc::new(topic), 0, settings, broker.store.clone());
        partition.move_in(broker.store.homes().next().expect("a log directory"));
        let _ = partition.become_leader(0, &alone(), 0);
        let shard = Shard::new(partition, Yes::default(), (0, 0), COMMIT_TIMEOUT_MS);
        Rig { broker, shard, slot: 0, out: Effects::new() }
    }

    fn reply_to(&mut self, key: ApiKey) -> ReplyTo {
        self.slot += 1;
        let token = Token { shard: 0, connection: 0, generation: 0, slot: self.slot };
        ReplyTo { token, key, version: 4, correlation_id: 1, envelope: None }
    }

    fn ask(&mut self) -> Result<(), ErrorCode> {
        let reply = self.reply_to(ApiKey::Heartbeat);
        let (api_version, client_host) = (reply.version, "");
        let origin = Origin { now: NOW, api_version, client_id: "", client_host, admission: None };
        let handle = |_: &mut Yes, context: &Context<'_>| Yes::handle(context);
        let asked = self.shard.ask(&self.broker, origin, &mut self.out, Asker::One(reply), handle);
        asked.map(|released| self.broker.go_on(released, NOW, &mut self.out))
    }

    /// Reads the state; what is read is part of a ListGroups answer.
    fn read(&mut self) -> Result<(), ErrorCode> {
        let reply = self.reply_to(ApiKey::ListGroups);
        let joint = Joint::new(reply, JointBody::List(ListGroupsResponse::default()));
        let read = self.shard.read(&joint, NOW, &mut self.out, |_| {});
        let released = read?;
        joint.part_done(&mut self.out);
        self.broker.go_on(released, NOW, &mut self.out);
        Ok(())
    }

    fn tick(&mut self, now: Millis) {
        let released = self.shard.on_tick(&self.broker, now, &mut self.out);
        self.broker.go_on(released, now, &mut self.out);
    }

    /// The error codes of the answers that were given since the last call.
    fn answered(&mut self) -> Vec<i16> {
        let answers = self.out.drain(..).filter_map(|effect| match effect {
            Effect::Respond { token, response: Answer::Frame(chain) } => Some((token.slot, chain)),
            _ => None,
        });
        let codes = answers.map(|(_, chain)| {
            let bytes = chain.read().expect("answers are in memory");
            let mut reader = Reader::new(&bytes);
            reader.i32().expect("a correlation id");
            // Both answers begin alike: no tags in the header, throttle time, error code.
            assert_eq!(reader.i8(), Ok(0));
            reader.i32().expect("a throttle time");
            reader.i16().expect("an error code")
        });
        codes.collect()
    }

    /// Performs the flush that was asked for.
    fn flush(&mut self) {
        let at =
            self.out.iter().position(|effect| matches!(effect, Effect::Flush(_))).expect("a flush is due");
        let Effect::Flush(task) = self.out.remove(at) else { unreachable!("found above") };
        let outcome = task.run();
        let partition = match outcome.target {
            crate::effect::FlushTarget::Partition(partition) => partition,
            crate::effect::FlushTarget::Metadata => unreachable!("nothing is asked of the metadata log"),
        };
        let wakes = partition.on_flushed(outcome.done, NOW, &mut self.out);
        let high_watermark = wakes.coordinator.expect("the coordinator is told");
        let released = self.shard.on_committed(high_watermark, &mut self.out);
        self.broker.go_on(released, NOW, &mut self.out);
    }
}

#[test]
fn an_answer_leaves_when_it_is_committed_and_so_does_one_that_wrote_nothing() {
    let mut rig = Rig::new();
    rig.ask().unwrap();
    rig.read().unwrap();
    assert!(rig.out.iter().all(|effect| !matches!(effect, Effect::Respond { .. })));
    rig.flush();
    assert_eq!(rig.answered(), [0, 0]);
}

#[test]
fn whoever_waits_when_the_coordinator_resigns_is_told_and_so_is_whoever_comes_too_late() {
    let mut rig = Rig::new();
    rig.ask().unwrap();
    rig.read().unwrap();
    let released = rig.shard.resign(&mut rig.out);
    rig.broker.go_on(released, NOW, &mut rig.out);
    let not_coordinator = ErrorCode::NotCoordinator.code();
    assert_eq!(rig.answered(), [not_coordinator, not_coordinator]);
    // A request that found the shard in the table the moment before it was taken out.
    assert_eq!(rig.ask(), Err(ErrorCode::NotCoordinator));
    assert_eq!(rig.read(), Err(ErrorCode::NotCoordinator));
    assert!(rig.answered().is_empty(), "the caller answers");
}

#[test]
fn a_commit_that_does_not_come_in_time_is_reported_and_may_still_come() {
    let mut rig = Rig::new();
    rig.ask().unwrap();
    rig.read().unwrap();
    let tick = rig.out.iter().find_map(|effect| match effect {
        Effect::Tick { at } => Some(*at),
        _ => None,
    });
    assert_eq!(tick, Some(NOW + COMMIT_TIMEOUT_MS), "a tick is asked for when patience ends");
    rig.tick(NOW + COMMIT_TIMEOUT_MS - 1);
    let flush =
        rig.out.iter().position(|effect| matches!(effect, Effect::Flush(_))).map(|at| rig.out.remove(at));
    assert!(rig.answered().is_empty());
    rig.tick(NOW + COMMIT_TIMEOUT_MS);
    let late = ErrorCode::CoordinatorNotAvailable.code();
    assert_eq!(rig.answered(), [late, late]);
    rig.out.extend(flush);
    rig.flush();
    assert!(rig.answered().is_empty(), "nobody is answered twice");
    rig.ask().unwrap();
    rig.flush();
    assert_eq!(rig.answered(), [0]);
}
