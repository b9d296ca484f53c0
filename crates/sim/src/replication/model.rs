//! Three replicas, their controller, and what is between them.

mod delivery;
mod fingerprint;

use ottla_broker::replicas::Proposal;
use ottla_metadata::config::Durability;

use super::message::Message;
use super::metadata::Metadata;
use super::node::{MIN_ISR, Node};
use super::origin::NODES;
use super::promises::{Committed, check_at_the_end};

/// A time at which nobody is waited for who only caught up.
const LATER: i64 = 10_000;

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
    setting: Setting,
    metadata: Metadata,
    nodes: Vec<Node>,
    flight: Vec<Message>,
    committed: Committed,
    next_value: u32,
    tickets: u32,
}

impl Model {
    /// Everybody is alive, in sync, and knows it.
    pub fn new(setting: Setting) -> Model {
        let nodes = (1..=NODES as i32).map(Node::new).collect();
        let mut model = Model {
            setting,
            metadata: Metadata::new(),
            nodes,
            flight: Vec::new(),
            committed: Committed::default(),
            next_value: 0,
            tickets: 0,
        };
        for at in 0..NODES {
            model.nodes[at].broker_epoch = model.metadata.broker(at).0;
            model.learn(at, true);
        }
        model
    }

    pub fn durability(&self) -> Durability {
        self.setting.durability
    }

    pub fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    pub fn is_active(&self, at: usize) -> bool {
        self.metadata.broker(at).1
    }

    /// What is under way.
    pub fn flight(&self) -> &[Message] {
        &self.flight
    }

    /// Something that is under way is not any more: it arrives or is lost.
    pub fn take(&mut self, at: usize) -> Message {
        self.flight.remove(at)
    }

    /// Something that was held back is under way again.
    pub fn put_back(&mut self, message: Message) {
        self.flight.push(message);
    }

    /// What is under way has no order.
    pub fn sort_flight(&mut self) {
        self.flight.sort();
    }

    /// Answers that nobody waits for are gone: nothing can come of them.
    pub fn drop_spent(&mut self) {
        let (nodes, late_answers) = (&self.nodes, self.setting.late_answers);
        self.flight.retain(|message| !message.is_spent(nodes, late_answers));
    }

    pub fn may_learn(&self, at: usize) -> bool {
        self.nodes[at].is_alive && self.nodes[at].seen < self.metadata.len()
    }

    /// The node reads the next state, or all there are and looks at the last only.
    pub fn learn(&mut self, at: usize, all: bool) {
        let seen = if all { self.metadata.len() } else { self.nodes[at].seen + 1 };
        self.nodes[at].seen = seen;
        self.nodes[at].take_role(&self.metadata.view(seen).partition);
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

    pub fn may_fetch(&self, at: usize) -> bool {
        self.nodes[at].may_fetch(self.setting.durability)
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

    /// Whether the node waits for an answer.
    pub fn awaits(&self, at: usize) -> bool {
        self.nodes[at].awaits_fetch.is_some() || self.nodes[at].awaits_decision.is_some()
    }

    /// The node waits for no answer any more, and will ask again.
    pub fn give_up(&mut self, at: usize) {
        (self.nodes[at].awaits_fetch, self.nodes[at].awaits_decision) = (None, None);
    }

    /// Those leave who do not have everything.
    pub fn leave_behind(&mut self, at: usize) -> bool {
        let end = self.nodes[at].end();
        self.nodes[at].leading.as_mut().is_some_and(|leading| leading.propose_without_laggards(end, 0, 1))
    }

    /// The controller decided something.
    fn decided(&mut self) {
        self.committed.see(self.metadata.partition(), self.setting.durability);
    }

    pub fn fence(&mut self, at: usize) {
        self.metadata.fence(at);
        self.decided();
    }

    pub fn may_unfence(&self, at: usize) -> bool {
        let (epoch, is_active) = self.metadata.broker(at);
        self.nodes[at].is_alive && !is_active && epoch == self.nodes[at].broker_epoch
    }

    pub fn unfence(&mut self, at: usize) {
        self.metadata.unfence(at);
        self.decided();
    }

    pub fn may_prefer(&self) -> bool {
        self.metadata.may_prefer()
    }

    pub fn prefer(&mut self) {
        self.metadata.prefer();
        self.decided();
    }

    /// The node stops in good order: it hands over, and its log is on disk.
    pub fn stop(&mut self, at: usize) {
        self.metadata.stop(at);
        self.decided();
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
        let broker_epoch = self.metadata.register(&self.nodes[at]);
        self.decided();
        let node = &mut self.nodes[at];
        (node.is_alive, node.broker_epoch, node.stopped_in, node.is_wounded) =
            (true, broker_epoch, -1, false);
        // It looks at partitions when it has read of itself.
        self.learn(at, true);
    }

    /// Everything that is promised at any time.
    pub fn check(&mut self) -> Result<(), String> {
        self.committed.check(&self.metadata, &self.nodes, self.setting.durability)
    }

    /// What is promised when everybody had time.
    pub fn check_at_the_end(&self) -> Result<(), String> {
        check_at_the_end(self.metadata.partition(), &self.nodes)
    }
}
