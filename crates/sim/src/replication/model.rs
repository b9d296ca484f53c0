//! Three replicas, their controller, and what is between them.
//!
//! The tricky idea: what is committed is what any leader ever took for committed. So a promise is broken as soon as somebody who may be
//! elected lacks a record, long before a client could miss it.

use std::sync::{Arc, OnceLock};

use ottla_broker::replicas::{FollowerFetch, Proposal, check_epoch, is_diverging, is_receipt, was_refused};
use ottla_controller::{
    Context, Controller, Decision, Registration, Settings, TableRules, alter_partition,
    begin_controlled_shutdown, bootstrap_records, elect_leaders, fence_broker, register_broker,
    unfence_broker, unlimited,
};
use ottla_metadata::config::{BrokerConfig, Durability};
use ottla_metadata::{Image, LeaderRecoveryState, MetadataVersion, Partition, Replayer, features};
use ottla_protocol::ids::{NodeId, TopicId};
use ottla_protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use ottla_protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest,
};
use ottla_protocol::messages::elect_leaders_request::ElectLeadersRequest;
use ottla_protocol::{ErrorCode, Uuid};

use super::node::{Entry, MIN_ISR, Node, Role};

pub(super) const NODES: usize = 3;
const TOPIC: &str = "orders";
/// Records of one answer.
const RECORDS_MAX: usize = 2;
/// A time at which nobody is waited for who only caught up.
const LATER: i64 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Message {
    Fetch {
        from: usize,
        to: usize,
        life: u32,
        ticket: u32,
        broker_epoch: i64,
        leader_epoch: i32,
        offset: i64,
        last_epoch: i32,
    },
    Diverging {
        to: usize,
        life: u32,
        ticket: u32,
        leader_epoch: i32,
        theirs: (i32, i64),
    },
    Records {
        to: usize,
        life: u32,
        ticket: u32,
        leader_epoch: i32,
        first: i64,
        records: Vec<Entry>,
        high_watermark: i64,
    },
    Failed {
        to: usize,
        life: u32,
        ticket: u32,
    },
    Propose {
        from: usize,
        life: u32,
        ticket: u32,
        broker_epoch: i64,
        leader_epoch: i32,
        partition_epoch: i32,
        isr: Vec<(i32, i64)>,
    },
    Decided {
        to: usize,
        life: u32,
        ticket: u32,
        error: i16,
        leader_epoch: i32,
        isr: Vec<i32>,
        partition_epoch: i32,
    },
}

/// What the cluster looks like at some point of the metadata log.
#[derive(Debug)]
pub(super) struct View {
    partition: Partition,
    /// Broker epoch of each, and whether it is active.
    brokers: [(i64, bool); NODES],
}

/// The cluster before anything happens, and what its controller goes by.
#[derive(Debug)]
struct Origin {
    image: Image,
    offset: i64,
    topic: TopicId,
    settings: Settings,
    rules: TableRules,
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub durability: Durability,
    /// Followers that caught up are waited for, as in the first second.
    pub waits_for_joining: bool,
    /// Answers that are not waited for any more arrive as well.
    pub late_answers: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    origin: &'static Origin,
    pub setting: Setting,
    pub image: Image,
    next_offset: i64,
    history: Vec<Arc<View>>,
    pub nodes: Vec<Node>,
    pub flight: Vec<Message>,
    committed: Vec<Entry>,
    next_value: u32,
    tickets: u32,
    /// The last leader was believed although it lost records: nothing is promised any more.
    pub is_unclean: bool,
}

fn origin() -> &'static Origin {
    static ORIGIN: OnceLock<Origin> = OnceLock::new();
    ORIGIN.get_or_init(|| {
        let settings = Settings { node_id: NodeId(1), min_insync_replicas: MIN_ISR, ..Settings::default() };
        let given = [
            ("node.id", "1"),
            ("process.roles", "broker,controller"),
            ("listeners", "PLAINTEXT://sim:9092,CONTROLLER://sim:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", "1@sim:9093"),
        ];
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let rules = TableRules::new(BrokerConfig::resolve(&given).expect("sound").0);
        let (image, settings_of) = (Image::empty("cluster"), settings.clone());
        let boxed = TableRules::new(BrokerConfig::resolve(&given).expect("sound").0);
        let mut controller = Controller::new(Replayer::new(image), settings_of, Box::new(boxed), 1);
        let mut offset = 0;
        let elr = [("eligible.leader.replicas.version", 1)];
        let activation = controller.activation(&bootstrap_records(MetadataVersion::LATEST, &elr));
        append(&mut controller, &mut offset, activation);
        for id in 1..=NODES as i32 {
            let request = registration(id, 0, -1);
            let decision = controller.register_broker(&request, terms(offset)).expect("accepted");
            append(&mut controller, &mut offset, decision);
            let decision = controller.unfence_broker(NodeId(id)).expect("registered");
            append(&mut controller, &mut offset, decision);
        }
        let assignment = CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2, 3] };
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![assignment],
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let decision = controller.create_topics(&request, &mut unlimited);
        append(&mut controller, &mut offset, decision);
        let image = controller.image().clone();
        let topic = image.topic_id(TOPIC).expect("just created");
        Origin { image, offset, topic, settings, rules }
    })
}

fn append<R>(controller: &mut Controller, offset: &mut i64, decision: Decision<R>) {
    for record in decision.records {
        controller.replay(&record, *offset).expect("decisions fit");
        *offset += 1;
    }
}

fn terms(next_offset: i64) -> Registration {
    Registration { version: 4, next_offset, has_live_session: false, kraft_version: 1 }
}

fn registration(id: i32, life: u32, previous_broker_epoch: i64) -> BrokerRegistrationRequest<'static> {
    let features = features::supported().map(|(name, min, max)| Feature {
        name: name.into(),
        min_supported_version: min,
        max_supported_version: max,
    });
    BrokerRegistrationRequest {
        broker_id: id,
        cluster_id: "cluster".into(),
        incarnation_id: Uuid([life as u8 + 1; 16]),
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: "sim".into(),
            port: 9092,
            security_protocol: 0,
        }],
        features: features.collect(),
        log_dirs: vec![Uuid([100 + id as u8; 16])],
        previous_broker_epoch,
        ..Default::default()
    }
}

impl Model {
    /// Everybody is alive, in sync, and knows it.
    pub fn new(setting: Setting) -> Model {
        let origin = origin();
        let nodes = (1..=NODES as i32).map(Node::new).collect();
        let mut model = Model {
            origin,
            setting,
            image: origin.image.clone(),
            next_offset: origin.offset,
            history: Vec::new(),
            nodes,
            flight: Vec::new(),
            committed: Vec::new(),
            next_value: 0,
            tickets: 0,
            is_unclean: false,
        };
        model.publish();
        for at in 0..NODES {
            model.nodes[at].broker_epoch = model.history[0].brokers[at].0;
            model.learn(at, true);
        }
        model
    }

    pub fn partition(&self) -> &Partition {
        let topic = self.image.topic(self.origin.topic).expect("it is never deleted");
        topic.partitions.values().next().expect("it has one partition")
    }

    pub fn broker(&self, at: usize) -> (i64, bool) {
        let broker = self.image.broker(NodeId(at as i32 + 1)).expect("nobody is unregistered");
        (broker.broker_epoch, broker.is_active())
    }

    fn publish(&mut self) {
        let brokers = [0, 1, 2].map(|at| self.broker(at));
        self.history.push(Arc::new(View { partition: self.partition().clone(), brokers }));
    }

    fn context(&self) -> Context<'_> {
        Context { image: &self.image, settings: &self.origin.settings, rules: &self.origin.rules }
    }

    /// What the controller decided is so.
    fn write<R>(&mut self, decision: Decision<R>) -> R {
        if !decision.records.is_empty() {
            let mut replayer = Replayer::new(self.image.clone());
            for record in &decision.records {
                replayer.replay(record, self.next_offset).expect("decisions fit");
                self.next_offset += 1;
            }
            self.image = replayer.latest().clone();
            self.publish();
        }
        let recovers = self.partition().leader_recovery_state == LeaderRecoveryState::Recovering;
        self.is_unclean |= recovers && self.setting.durability == Durability::Replicated;
        decision.response
    }

    pub fn may_learn(&self, at: usize) -> bool {
        self.nodes[at].is_alive && self.nodes[at].seen < self.history.len()
    }

    /// The node reads the next state, or all there are and looks at the last only.
    pub fn learn(&mut self, at: usize, all: bool) {
        let seen = if all { self.history.len() } else { self.nodes[at].seen + 1 };
        let view = self.history[seen - 1].clone();
        self.nodes[at].seen = seen;
        self.nodes[at].take_role(&view.partition);
        self.advance(at);
    }

    fn now(&self) -> i64 {
        if self.setting.waits_for_joining { 0 } else { LATER }
    }

    fn advance(&mut self, at: usize) {
        let (durability, now) = (self.setting.durability, self.now());
        if let Err(broken) = self.nodes[at].advance(durability, now) {
            panic!("{broken}");
        }
    }

    pub fn may_produce(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        node.is_alive && node.leading.as_ref().is_some_and(|leading| leading.admits(MIN_ISR))
    }

    pub fn produce(&mut self, at: usize) {
        self.next_value += 1;
        let node = &mut self.nodes[at];
        node.append((node.leader_epoch, self.next_value));
        self.advance(at);
    }

    pub fn flush(&mut self, at: usize) {
        self.nodes[at].synced = self.nodes[at].log.len();
        self.advance(at);
    }

    fn ticket(&mut self) -> u32 {
        self.tickets += 1;
        self.tickets
    }

    pub fn fetch(&mut self, at: usize) {
        let ticket = self.ticket();
        let node = &mut self.nodes[at];
        node.awaits_fetch = Some(ticket);
        let to = node.leader.expect("it follows somebody") as usize - 1;
        let last_epoch = node.epochs.latest().map_or(-1, |entry| entry.leader_epoch);
        self.flight.push(Message::Fetch {
            from: at,
            to,
            life: node.life,
            ticket,
            broker_epoch: node.broker_epoch,
            leader_epoch: node.leader_epoch,
            offset: node.end(),
            last_epoch,
        });
    }

    pub fn proposal(&self, at: usize) -> Option<Proposal> {
        let node = &self.nodes[at];
        node.leading.as_ref().filter(|_| node.is_alive && node.awaits_decision.is_none())?.proposal()
    }

    pub fn propose(&mut self, at: usize) {
        let Some(Proposal { leader_epoch, partition_epoch, isr }) = self.proposal(at) else { return };
        let ticket = self.ticket();
        let node = &mut self.nodes[at];
        node.awaits_decision = Some(ticket);
        let (life, broker_epoch) = (node.life, node.broker_epoch);
        // The leader's own epoch is known to it.
        let own = |(id, epoch): (i32, i64)| (id, if id == node.id { broker_epoch } else { epoch });
        let isr = isr.into_iter().map(own).collect();
        let message =
            Message::Propose { from: at, life, ticket, broker_epoch, leader_epoch, partition_epoch, isr };
        self.flight.push(message);
    }

    /// Those leave who do not have everything.
    pub fn leave_behind(&mut self, at: usize) -> bool {
        let end = self.nodes[at].end();
        self.nodes[at].leading.as_mut().is_some_and(|leading| leading.propose_without_laggards(end, 0, 1))
    }

    pub fn fence(&mut self, at: usize) {
        let decision = fence_broker(&self.context(), NodeId(at as i32 + 1)).expect("registered");
        self.write(decision);
    }

    pub fn may_unfence(&self, at: usize) -> bool {
        let (epoch, is_active) = self.broker(at);
        self.nodes[at].is_alive && !is_active && epoch == self.nodes[at].broker_epoch
    }

    pub fn unfence(&mut self, at: usize) {
        let decision = unfence_broker(&self.context(), NodeId(at as i32 + 1)).expect("registered");
        self.write(decision);
    }

    /// Whether the first replica could lead, and another one does.
    pub fn may_prefer(&self) -> bool {
        let (partition, preferred) = (self.partition(), NodeId(1));
        let is_other = partition.leader.is_some_and(|leader| leader != preferred);
        is_other && partition.isr.contains(&preferred) && self.broker(0).1
    }

    /// Leadership returns to the first replica. Nobody leaves the ISR, so somebody may lead again without having followed meanwhile, as
    /// far as it knows.
    pub fn prefer(&mut self) {
        let request = ElectLeadersRequest {
            election_type: 0,
            topic_partitions: None,
            ..ElectLeadersRequest::default()
        };
        let decision = elect_leaders(&self.context(), &request, 2);
        self.write(decision);
    }

    /// The node stops in good order: it hands over, and its log is on disk.
    pub fn stop(&mut self, at: usize) {
        let decision = begin_controlled_shutdown(&self.context(), NodeId(at as i32 + 1)).expect("registered");
        self.write(decision);
        self.fence(at);
        let node = &mut self.nodes[at];
        node.stopped_in = node.broker_epoch;
        let kept = node.log.len();
        node.die(kept);
    }

    /// The node dies, and what it kept of its log ends at `kept`.
    pub fn crash(&mut self, at: usize, kept: usize) {
        let node = &mut self.nodes[at];
        node.is_wounded |= self.setting.durability == Durability::Replicated && kept < node.log.len();
        node.stopped_in = -1;
        node.die(kept);
    }

    /// A new process of the node registers.
    pub fn start(&mut self, at: usize) {
        let (id, node) = (at as i32 + 1, &self.nodes[at]);
        let request = registration(id, node.life, node.stopped_in);
        let decision = register_broker(&self.context(), &request, terms(self.next_offset)).expect("accepted");
        let broker_epoch = self.write(decision).broker_epoch;
        let node = &mut self.nodes[at];
        (node.is_alive, node.broker_epoch, node.stopped_in, node.is_wounded) =
            (true, broker_epoch, -1, false);
        // It looks at partitions when it has read of itself.
        self.learn(at, true);
    }

    pub fn deliver(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Fetch { from, to, life, ticket, broker_epoch, leader_epoch, offset, last_epoch } => {
                let answer = self.on_fetch(from, to, broker_epoch, leader_epoch, offset, last_epoch);
                let answer = match answer {
                    Some(Ok((records, high_watermark))) => Message::Records {
                        to: from,
                        life,
                        ticket,
                        leader_epoch,
                        first: offset,
                        records,
                        high_watermark,
                    },
                    Some(Err(theirs)) => Message::Diverging { to: from, life, ticket, leader_epoch, theirs },
                    None => Message::Failed { to: from, life, ticket },
                };
                self.flight.push(answer);
            }
            Message::Diverging { to, life, ticket, leader_epoch, theirs } => {
                if self.take_answer(to, life, ticket) {
                    self.nodes[to].on_diverging(leader_epoch, theirs);
                }
            }
            Message::Records { to, life, ticket, leader_epoch, first, records, high_watermark } => {
                let is_awaited = self.take_answer(to, life, ticket);
                let is_late =
                    self.setting.late_answers && self.nodes[to].is_alive && self.nodes[to].life == life;
                if is_awaited || is_late {
                    self.nodes[to].on_records(leader_epoch, first, &records, high_watermark)?;
                }
            }
            Message::Failed { to, life, ticket } => drop(self.take_answer(to, life, ticket)),
            Message::Propose { from, life, ticket, broker_epoch, leader_epoch, partition_epoch, isr } => {
                let decided = self.decide(from, broker_epoch, leader_epoch, partition_epoch, &isr);
                let (error, data) = match decided {
                    Ok(data) => (data.0, data.1),
                    Err(error) => (error.code(), (-1, Vec::new(), -1)),
                };
                let (leader_epoch, isr, partition_epoch) = data;
                self.flight.push(Message::Decided {
                    to: from,
                    life,
                    ticket,
                    error,
                    leader_epoch,
                    isr,
                    partition_epoch,
                });
            }
            Message::Decided { to, life, ticket, error, leader_epoch, isr, partition_epoch } => {
                let node = &mut self.nodes[to];
                if node.life != life || node.awaits_decision != Some(ticket) {
                    return Ok(());
                }
                node.awaits_decision = None;
                if let Some(leading) = &mut node.leading {
                    match ErrorCode::from_code(error) {
                        ErrorCode::None => leading.on_decided(leader_epoch, isr, partition_epoch),
                        error if was_refused(error) => leading.on_refused(),
                        _ => {}
                    }
                }
                self.advance(to);
            }
        }
        Ok(())
    }

    fn take_answer(&mut self, to: usize, life: u32, ticket: u32) -> bool {
        let node = &mut self.nodes[to];
        let is_awaited = node.life == life && node.awaits_fetch == Some(ticket);
        if is_awaited {
            node.awaits_fetch = None;
        }
        is_awaited
    }

    /// A leader is asked for records: these, or where the logs part.
    #[allow(clippy::type_complexity)]
    fn on_fetch(
        &mut self,
        from: usize,
        at: usize,
        broker_epoch: i64,
        leader_epoch: i32,
        offset: i64,
        last_epoch: i32,
    ) -> Option<Result<(Vec<Entry>, i64), (i32, i64)>> {
        let view = self.history[self.nodes[at].seen.max(1) - 1].clone();
        let node = &mut self.nodes[at];
        if !node.is_alive
            || node.role != Role::Leader
            || check_epoch(node.leader_epoch, leader_epoch).is_err()
        {
            return None;
        }
        let end = node.end();
        let is_eligible = view.brokers[from] == (broker_epoch, true);
        let receipt = FollowerFetch { id: from as i32 + 1, broker_epoch, log_start_offset: 0, is_eligible };
        let leading = node.leading.as_mut()?;
        if !leading.knows(&receipt) {
            return None;
        }
        let mut parts_at = None;
        if last_epoch >= 0 {
            let found = node.epochs.end_offset_for(last_epoch, end)?;
            parts_at = is_diverging(found, last_epoch, offset).then_some(found);
        }
        if parts_at.is_none() && offset > end {
            return None;
        }
        if is_receipt(parts_at.is_some()) {
            if leading.on_fetch(receipt, offset, (node.high_watermark, end), 0) {
                leading.propose_joined(receipt.id);
            }
            self.advance(at);
        }
        if let Some(theirs) = parts_at {
            return Some(Err(theirs));
        }
        let node = &self.nodes[at];
        let records = node.log.iter().skip(offset as usize).take(RECORDS_MAX).copied().collect();
        Some(Ok((records, node.high_watermark)))
    }

    #[allow(clippy::type_complexity)]
    fn decide(
        &mut self,
        from: usize,
        broker_epoch: i64,
        leader_epoch: i32,
        partition_epoch: i32,
        isr: &[(i32, i64)],
    ) -> Result<(i16, (i32, Vec<i32>, i32)), ErrorCode> {
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
        let request = AlterPartitionRequest { broker_id: from as i32 + 1, broker_epoch, topics };
        let decision = alter_partition(&self.context(), &request, 3).map_err(|error| error.code)?;
        let response = self.write(decision);
        let data = &response.topics[0].partitions[0];
        Ok((data.error_code, (data.leader_epoch, data.isr.clone(), data.partition_epoch)))
    }

    /// Everything that is promised at any time.
    pub fn check(&mut self) -> Result<(), String> {
        let partition = self.partition().clone();
        if let Some(leader) = partition.leader
            && !partition.isr.contains(&leader)
        {
            return Err(format!("the leader is not in sync: {partition:?}"));
        }
        if self.is_unclean {
            return Ok(());
        }
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            let Some(seen) = node.log.get(..node.high_watermark.max(0) as usize) else {
                return Err(format!("I8: what {} takes for committed is beyond its log", node.id));
            };
            let common = seen.len().min(self.committed.len());
            if seen[..common] != self.committed[..common] {
                return Err(format!(
                    "I3: {} takes {seen:?} for committed, it is {:?}",
                    node.id, self.committed
                ));
            }
            if seen.len() > common {
                if node.role != Role::Leader {
                    return Err(format!("I2: {} takes {seen:?} for committed, which no leader did", node.id));
                }
                self.committed = seen.to_vec();
            }
        }
        for member in partition.isr.iter().chain(&partition.elr) {
            let node = &self.nodes[member.0 as usize - 1];
            let kept = match self.setting.durability {
                Durability::Flushed => &node.log[..node.synced],
                Durability::Replicated => &node.log[..],
            };
            if !node.is_wounded && !kept.starts_with(&self.committed) {
                return Err(format!(
                    "I4: {} may lead with {kept:?}, committed is {:?}; {partition:?}",
                    node.id, self.committed
                ));
            }
        }
        Ok(())
    }

    /// What is promised when everybody had time.
    pub fn check_at_the_end(&self) -> Result<(), String> {
        let partition = self.partition();
        let ends: Vec<i64> = self.nodes.iter().map(|node| node.high_watermark).collect();
        let is_whole = partition.leader.is_some()
            && partition.isr.len() == NODES
            && self
                .nodes
                .iter()
                .all(|node| node.log == self.nodes[0].log && node.high_watermark == node.end());
        if is_whole {
            Ok(())
        } else {
            Err(format!("I19: not whole in the end: {partition:?}, committed {ends:?}"))
        }
    }

    /// What makes two models the same.
    pub fn essence(&self) -> impl std::fmt::Debug {
        let brokers = [0, 1, 2].map(|at| self.broker(at));
        // Of a ticket it matters only whether it is the one that is waited for.
        let mut flight = self.flight.clone();
        flight.iter_mut().for_each(|message| self.mark_awaited(message));
        flight.sort();
        let mut nodes = self.nodes.clone();
        for node in &mut nodes {
            node.awaits_fetch = node.awaits_fetch.map(|_| 1);
            node.awaits_decision = node.awaits_decision.map(|_| 1);
            node.seen = 0;
        }
        let views: Vec<Vec<&Arc<View>>> =
            self.nodes.iter().map(|node| self.history[node.seen.max(1) - 1..].iter().collect()).collect();
        format!("{:?}{brokers:?}{views:?}{nodes:?}{flight:?}{:?}", self.partition(), self.committed)
    }

    /// The ticket of a message becomes 1 if it leads to an answer that is waited for, and 0 if not.
    fn mark_awaited(&self, message: &mut Message) {
        let (node, life, ticket, is_fetch) = match message {
            Message::Fetch { from: node, life, ticket, .. }
            | Message::Diverging { to: node, life, ticket, .. }
            | Message::Records { to: node, life, ticket, .. }
            | Message::Failed { to: node, life, ticket } => (*node, *life, ticket, true),
            Message::Propose { from: node, life, ticket, .. }
            | Message::Decided { to: node, life, ticket, .. } => (*node, *life, ticket, false),
        };
        let node = &self.nodes[node];
        let awaited = if is_fetch { node.awaits_fetch } else { node.awaits_decision };
        *ticket = u32::from(node.life == life && awaited == Some(*ticket));
    }
}
