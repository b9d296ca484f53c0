//! The controller and its log: what it decides about the partition and its brokers, and each state that came of that.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ottla_controller::{
    Context, Decision, alter_partition, begin_controlled_shutdown, elect_leaders, fence_broker,
    register_broker, unfence_broker,
};
use ottla_metadata::{Image, Partition, Replayer};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use ottla_protocol::messages::alter_partition_response;
use ottla_protocol::messages::elect_leaders_request::ElectLeadersRequest;

use super::node::Node;
use super::origin::{NODES, Origin, origin, registration, terms};
use super::promises;
use crate::digest::Digest;

/// What the cluster looks like at some point of the metadata log.
#[derive(Debug)]
pub(super) struct View {
    pub partition: Partition,
    /// Broker epoch of each, and whether it is active.
    pub brokers: [(i64, bool); NODES],
    /// Of both.
    digest: u64,
}

impl View {
    fn new(partition: Partition, brokers: [(i64, bool); NODES]) -> View {
        let digest = Digest::of(&(&partition, brokers));
        View { partition, brokers, digest }
    }
}

impl Hash for View {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Metadata {
    origin: &'static Origin,
    image: Arc<Image>,
    next_offset: i64,
    history: Vec<Arc<View>>,
    /// What a decision broke.
    broken: Option<String>,
}

impl Metadata {
    pub fn new() -> Metadata {
        let origin = origin();
        let mut metadata = Metadata {
            origin,
            image: Arc::new(origin.image.clone()),
            next_offset: origin.offset,
            history: Vec::new(),
            broken: None,
        };
        metadata.publish();
        metadata
    }

    /// The state after all decisions.
    pub fn latest(&self) -> &Arc<View> {
        self.history.last().expect("there is one from the beginning")
    }

    /// How many states there were.
    pub fn len(&self) -> usize {
        self.history.len()
    }

    /// The last of the states that somebody has seen so many of.
    pub fn view(&self, seen: usize) -> &Arc<View> {
        &self.history[seen - 1]
    }

    /// That state and those after it.
    pub fn views_from(&self, seen: usize) -> &[Arc<View>] {
        &self.history[seen - 1..]
    }

    pub fn partition(&self) -> &Partition {
        &self.latest().partition
    }

    /// The broker epoch, and whether the broker is active.
    pub fn broker(&self, at: usize) -> (i64, bool) {
        self.latest().brokers[at]
    }

    /// What a decision broke, if one did.
    pub fn broken(&self) -> Option<&String> {
        self.broken.as_ref()
    }

    fn publish(&mut self) {
        let topic = self.image.topic(self.origin.topic).expect("it is never deleted");
        let partition = topic.partitions.values().next().expect("it has one partition");
        let brokers = [0, 1, 2].map(|at| {
            let broker = self.image.broker(id_of(at)).expect("nobody is unregistered");
            (broker.broker_epoch, broker.is_active())
        });
        self.history.push(Arc::new(View::new((**partition).clone(), brokers)));
    }

    fn context(&self) -> Context<'_> {
        Context { image: &self.image, settings: &self.origin.settings, rules: &self.origin.rules }
    }

    /// What the controller decided is so. `lost` stopped uncleanly, as it now knows.
    fn write<R>(&mut self, decision: Decision<R>, lost: Option<NodeId>) -> R {
        if !decision.records.is_empty() {
            let before = self.latest().clone();
            let mut replayer = Replayer::new((*self.image).clone());
            for record in &decision.records {
                replayer.replay(record, self.next_offset).expect("decisions fit");
                self.next_offset += 1;
            }
            self.image = Arc::new(replayer.latest().clone());
            self.publish();
            let result = promises::check_decision(&before.partition, self.latest(), lost);
            self.broken = self.broken.take().or(result.err());
        }
        decision.response
    }

    /// A session ends.
    pub fn fence(&mut self, at: usize) {
        let decision = fence_broker(&self.context(), id_of(at)).expect("registered");
        self.write(decision, None);
    }

    pub fn unfence(&mut self, at: usize) {
        let decision = unfence_broker(&self.context(), id_of(at)).expect("registered");
        self.write(decision, None);
    }

    /// A broker says that it stops, and then its session ends.
    pub fn stop(&mut self, at: usize) {
        let decision = begin_controlled_shutdown(&self.context(), id_of(at)).expect("registered");
        self.write(decision, None);
        self.fence(at);
    }

    /// A new process of a broker registers. Returns its epoch.
    pub fn register(&mut self, node: &Node) -> i64 {
        let request = registration(node.id, node.life, node.stopped_in);
        let decision = register_broker(&self.context(), &request, terms(self.next_offset)).expect("accepted");
        let lost = (node.stopped_in < 0).then_some(NodeId(node.id));
        self.write(decision, lost).broker_epoch
    }

    /// Whether the first replica could lead, and another one does.
    pub fn may_prefer(&self) -> bool {
        let (partition, preferred) = (self.partition(), id_of(0));
        let is_other = partition.leader.is_some_and(|leader| leader != preferred);
        let may_lead = partition.isr.contains(&preferred) || partition.elr.contains(&preferred);
        is_other && may_lead && self.broker(0).1
    }

    /// Leadership returns to the first replica, if it is in sync. Nobody leaves the ISR, so somebody may lead again without having followed
    /// meanwhile, as far as it knows.
    pub fn prefer(&mut self) {
        let request = ElectLeadersRequest {
            election_type: 0,
            topic_partitions: None,
            ..ElectLeadersRequest::default()
        };
        let decision = elect_leaders(&self.context(), &request, 2);
        self.write(decision, None);
    }

    /// A leader proposes who is in sync.
    pub fn decide(
        &mut self,
        from: usize,
        broker_epoch: i64,
        (leader_epoch, partition_epoch): (i32, i32),
        isr: &[(i32, i64)],
    ) -> Result<alter_partition_response::PartitionData, ErrorCode> {
        let members = isr.iter().map(|&(broker_id, broker_epoch)| BrokerState { broker_id, broker_epoch });
        let data = PartitionData {
            partition_index: 0,
            leader_epoch,
            new_isr: Vec::new(),
            new_isr_with_epochs: members.collect(),
            leader_recovery_state: 0,
            partition_epoch,
        };
        let topics = vec![TopicData { topic_id: self.origin.topic.0, partitions: vec![data] }];
        let request = AlterPartitionRequest { broker_id: id_of(from).0, broker_epoch, topics };
        let decision = alter_partition(&self.context(), &request, 3).map_err(|error| error.code)?;
        let mut response = self.write(decision, None);
        Ok(response.topics.swap_remove(0).partitions.swap_remove(0))
    }
}

fn id_of(at: usize) -> NodeId {
    NodeId(at as i32 + 1)
}
