//! The order of things: what is due next, what a message does where it arrives, and what the network does to it.

use ottla_raft::*;

use crate::sim::wire::{Asked, Due, Happening, Kind, Life, Message};
use crate::sim::world::{Arrived, World};

impl World {
    /// Lets everything happen that is due before `until`.
    pub fn run_until(&mut self, until: i64) {
        while self.queue.peek().is_some_and(|due| due.at <= until) {
            let due = self.queue.pop().expect("looked at");
            self.now = self.now.max(due.at);
            let paused = self.node(due.happening.node()).paused_until;
            if paused > self.now {
                self.push(paused, due.happening);
            } else {
                self.take(due.happening);
            }
        }
        self.now = until;
    }

    pub fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, life, message } => {
                let cut = self.cut_until[self.link(from.node, to)] > self.now;
                let alive = self.is_up(to) && life.is_none_or(|life| life == self.node(to).life);
                if alive && !cut {
                    self.deliver(from, to, message);
                }
            }
            Happening::Persisted { node, life, sequence, state } if self.lives(node, life) => {
                if self.disk_fails(node) {
                    return;
                }
                self.node_mut(node).store.state = state;
                let key = self.node(node).settings.me;
                self.promises.on_persisted(key, state.epoch, state.voted);
                self.happen(node, Event::QuorumStatePersisted { sequence });
            }
            Happening::Flushed { node, life, end, truncations } if self.lives(node, life) => {
                if self.disk_fails(node) {
                    return;
                }
                let end_offset = self.node_mut(node).store.flushed(end, truncations);
                self.happen(node, Event::LogFlushed { end_offset });
            }
            // A timer that was set before an earlier one counts no more.
            Happening::Timeout { node, life, at }
                if self.lives(node, life) && self.node(node).timer == Some(at) =>
            {
                self.node_mut(node).timer = None;
                self.happen(node, Event::Timeout);
            }
            Happening::WakeFetch { node, life, token } if self.lives(node, life) => {
                self.answer_fetch(node, token);
            }
            _ => {}
        }
    }

    /// A node does not go on after its disk failed.
    pub(super) fn disk_fails(&mut self, id: i32) -> bool {
        let fails = self.weather.disk_failure_permille > 0
            && self.dice.below(1000) < self.weather.disk_failure_permille;
        if fails {
            self.crash(id);
        }
        fails
    }

    pub(super) fn lives(&self, id: i32, life: u32) -> bool {
        self.is_up(id) && self.node(id).life == life
    }

    pub(super) fn deliver(&mut self, from: Life, to: i32, message: Message) {
        self.tokens += 1;
        let token = self.tokens;
        let now = self.now;
        let mut asked =
            Asked { token, from: Some(from), request: 0, vote: None, current: false, kind: Kind::Other };
        let mut answered = true;
        let node = self.node_mut(to);
        let event = match message {
            Message::Vote(request) => {
                asked.vote = Some((request.epoch, request.candidate)).filter(|_| !request.pre_vote);
                Event::VoteRequest { token, request }
            }
            Message::Begin(request) => Event::BeginQuorumEpochRequest { token, request },
            Message::End(request) => Event::EndQuorumEpochRequest { token, request },
            Message::Fetch(request) => {
                asked.request = request.request;
                asked.current = node.raft.as_ref().is_some_and(|raft| raft.epoch() == request.epoch);
                node.heard.insert(request.replica.id, now);
                Event::FetchRequest { token, request }
            }
            Message::FetchSnapshot(request) => {
                asked.request = request.request;
                node.heard.insert(request.replica.id, now);
                Event::FetchSnapshotRequest { token, request }
            }
            Message::AddVoter(request) => Event::AddVoterRequest { token, request },
            Message::RemoveVoter(request) => Event::RemoveVoterRequest { token, request },
            Message::UpdateVoter(request) => {
                asked.kind = Kind::UpdateVoter;
                node.heard.insert(request.voter.key.id, now);
                Event::UpdateVoterRequest { token, request }
            }
            Message::ApiVersions(request, key) => {
                // Another disk on this node is another replica; the port answers, but not for it.
                let range = Some(node.settings.kraft_versions).filter(|_| node.settings.me == key);
                self.post(to, from.node, Some(from.life), Message::ApiVersionsAnswer(request, range));
                return;
            }
            message => {
                answered = false;
                match message {
                    Message::VoteAnswer(response) => Event::VoteResponse { from: from.node, response },
                    Message::BeginAnswer(response) => {
                        Event::BeginQuorumEpochResponse { from: from.node, response }
                    }
                    Message::EndAnswer(response) => {
                        Event::EndQuorumEpochResponse { from: from.node, response }
                    }
                    Message::FetchAnswer(request, response, records) => {
                        let control = response.records.as_ref().map(|fetched| fetched.control.clone());
                        let control = control.unwrap_or_default();
                        node.arrived = Some(Arrived { request, records, control });
                        Event::FetchResponse { request, response }
                    }
                    Message::FetchSnapshotAnswer(request, response, snapshot) => {
                        node.arrived_snapshot = snapshot;
                        Event::FetchSnapshotResponse { request, response }
                    }
                    Message::ApiVersionsAnswer(request, kraft_versions) => {
                        Event::ApiVersionsResponse { request, kraft_versions }
                    }
                    Message::UpdateVoterAnswer(response) => Event::UpdateVoterResponse { response },
                    _ => return,
                }
            }
        };
        if answered {
            node.asked.push(asked);
        }
        self.happen(to, event);
    }

    pub(super) fn asked(&mut self, id: i32, token: u64) -> Asked {
        let node = self.node_mut(id);
        let at = node.asked.iter().position(|asked| asked.token == token);
        node.asked.swap_remove(at.expect("a request is answered once"))
    }

    pub(super) fn answer(&mut self, id: i32, asked: Asked, message: Message) {
        if let Some(from) = asked.from {
            self.post(id, from.node, Some(from.life), message);
        }
    }

    pub(super) fn post(&mut self, from: i32, to: i32, life: Option<u32>, message: Message) {
        let link = self.link(from, to);
        let from = Life { node: from, life: self.node(from).life };
        if self.untimed.is_some() {
            self.push(0, Happening::Deliver { from, to, life, message });
            return;
        }
        let clogged = self.clogged_until[link];
        if self.dice.percent(self.weather.duplicate_percent) {
            let at = self.now + 1 + self.dice.below(4 * self.weather.delay_max_ms) as i64;
            self.push(at.max(clogged), Happening::Deliver { from, to, life, message: message.clone() });
        }
        if !self.dice.percent(self.weather.loss_percent) {
            let at = self.now + 1 + self.dice.below(self.weather.delay_max_ms) as i64;
            self.push(at.max(clogged), Happening::Deliver { from, to, life, message });
        }
    }

    pub(super) fn push(&mut self, at: i64, happening: Happening) {
        if let Some(pending) = &mut self.untimed {
            pending.push(happening);
            return;
        }
        self.order += 1;
        self.queue.push(Due { at, order: self.order, happening });
    }
}
