//! The active controller: what only the leader of the quorum knows and does. It decides on what is appended, and keeps what no record
//! says: which brokers were heard of lately, and how far each has read.

use std::collections::BTreeMap;

use ottla_controller::{Controller, Decision, MAX_RECORDS_PER_BATCH, Settings, TableRules};
use ottla_metadata::Image;
use ottla_protocol::ids::NodeId;
use ottla_raft::Raft;

use super::State;
use super::balance::Looks;
use super::checkpoint::frame;
use crate::config_rules::ServedRules;
use crate::effect::{Effects, Millis};

/// What a leader has besides the log.
#[derive(Debug)]
pub(super) struct Active {
    pub controller: Controller,
    pub sessions: BrokerSessions,
    pub looks: Looks,
    /// When to look next for delegation tokens that are over; `None` where there are none.
    pub token_sweep_at: Option<Millis>,
}

/// When brokers were heard of last. Whoever is silent for too long is fenced.
#[derive(Debug)]
pub(crate) struct BrokerSessions {
    timeout_ms: Millis,
    /// The node of this controller: an earlier life of it can not be alive, and this one is.
    me: i32,
    heard: BTreeMap<i32, Heard>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    broker_epoch: i64,
    at: Millis,
    /// How far it has read the metadata log.
    offset: i64,
    /// Where the log ended when its controlled shutdown began.
    shutdown_offset: Option<i64>,
}

/// What a decision may look at and change.
pub(crate) struct Deciding<'d> {
    pub controller: &'d mut Controller,
    pub sessions: &'d mut BrokerSessions,
    /// The offset that the next record will get.
    pub next_offset: i64,
    pub raft: &'d Raft,
    /// The level that the quorum is to be raised to.
    pub kraft_version: Option<i16>,
    pub now: Millis,
}

impl BrokerSessions {
    /// A new leader knows nothing yet: every broker that is not fenced gets the whole time to make itself heard.
    fn new(image: &Image, timeout_ms: Millis, me: i32, now: Millis) -> Self {
        let unfenced = image.brokers().values().filter(|broker| !broker.fenced);
        let heard = unfenced.map(|broker| {
            let broker_epoch = broker.broker_epoch;
            (broker.id.0, Heard { broker_epoch, at: now, offset: -1, shutdown_offset: None })
        });
        BrokerSessions { timeout_ms, me, heard: heard.collect() }
    }

    /// Whether a process that registered as that broker is believed to be alive.
    pub fn is_alive(&self, id: i32, now: Millis) -> bool {
        id != self.me && self.heard.get(&id).is_some_and(|heard| now - heard.at < self.timeout_ms)
    }

    /// A broker was heard of.
    pub fn touch(&mut self, id: i32, broker_epoch: i64, offset: i64, now: Millis) {
        let before = self.heard.get(&id).filter(|heard| heard.broker_epoch == broker_epoch);
        let shutdown_offset = before.and_then(|heard| heard.shutdown_offset);
        self.heard.insert(id, Heard { broker_epoch, at: now, offset, shutdown_offset });
    }

    /// A broker was told that it may stop: its next life need not wait until this one's session is over.
    pub fn farewell(&mut self, id: i32) {
        self.heard.remove(&id);
    }

    /// A broker's controlled shutdown is under way; its partitions were handed over before `next_offset`.
    pub fn begin_shutdown(&mut self, id: i32, next_offset: i64) {
        if let Some(heard) = self.heard.get_mut(&id) {
            heard.shutdown_offset.get_or_insert(next_offset);
        }
    }

    /// Whether every other active broker has read of the shutdown of that one.
    pub fn have_others_caught_up(&self, image: &Image, id: i32) -> bool {
        let Some(Heard { shutdown_offset: Some(offset), .. }) = self.heard.get(&id) else { return true };
        let others = image.brokers().values().filter(|broker| broker.id.0 != id && broker.is_active());
        // What is committed here this node has read.
        let has_read = |id: i32| self.heard.get(&id).is_some_and(|heard| heard.offset >= *offset - 1);
        others.into_iter().all(|other| other.id.0 == self.me || has_read(other.id.0))
    }

    /// Brokers that were silent for too long and are not fenced yet; those that are gone are forgotten. This node's own broker is never
    /// among them: it lives as long as whoever asks here, however long the machine slept.
    fn silent(&mut self, image: &Image, now: Millis) -> Vec<NodeId> {
        self.heard.retain(|id, _| image.broker(NodeId(*id)).is_some());
        let others = self.heard.iter().filter(|(id, _)| **id != self.me);
        let over = others.filter(|(_, heard)| now - heard.at >= self.timeout_ms);
        let unfenced = |id: &NodeId| image.broker(*id).is_some_and(|broker| !broker.fenced);
        over.map(|(id, _)| NodeId(*id)).filter(unfenced).collect()
    }

    fn deadline(&self, image: &Image) -> Option<Millis> {
        let unfenced = |id: i32| image.broker(NodeId(id)).is_some_and(|broker| !broker.fenced);
        let times =
            self.heard.iter().filter(|(id, _)| **id != self.me && unfenced(**id)).map(|(_, heard)| heard.at);
        times.min().map(|at| at + self.timeout_ms)
    }
}

impl State {
    /// This node leads, and has everything that was ever committed: it makes decisions from here on.
    pub(super) fn activate(&mut self, epoch: i32, now: Millis, out: &mut Effects) -> Result<(), String> {
        assert_eq!(self.raft.leading_epoch(), Some(epoch), "raft said so just now");
        let rules = Box::new(ServedRules(TableRules::new((*self.config).clone())));
        let seed = self.dice.roll();
        let image = self.log.committed.latest();
        let timeout_ms = i64::from(self.config.metadata_log.broker_session_timeout_ms);
        let sessions = BrokerSessions::new(image, timeout_ms, self.config.node_id, now);
        let settings = Settings::of(&self.config);
        let controller = Controller::new(self.log.committed.clone(), settings, rules, seed);
        let first = controller.activation(&self.bootstrap);
        let tokens = &self.config.tokens;
        let token_sweep_at = tokens.secret.as_ref().map(|_| now.saturating_add(tokens.check_interval_ms));
        let looks = Looks::new(&self.config.metadata_log, now);
        self.active = Some(Active { controller, sessions, token_sweep_at, looks });
        self.append(first, now, out)
    }

    /// This node does not lead any more: who waits for its decisions has to ask whoever does.
    pub(super) fn deactivate(&mut self) {
        self.active = None;
        self.released.extend(self.waiting.drain(..).map(|(_, then)| (then, false)));
    }

    /// Appends and replays the records of a decision, and has them flushed.
    pub(super) fn append<R>(
        &mut self,
        decision: Decision<R>,
        now: Millis,
        out: &mut Effects,
    ) -> Result<R, String> {
        let Decision { mut records, response, .. } = decision;
        if records.is_empty() {
            return Ok(response);
        }
        let epoch = self.raft.leading_epoch().expect("only a leader decides");
        let Active { controller, .. } = self.active.as_mut().expect("only an active controller decides");
        let mut bytes = 0;
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(MAX_RECORDS_PER_BATCH));
            let version = controller.context().metadata_version();
            let values: Result<Vec<_>, String> =
                records.iter().map(|record| frame(record, version)).collect();
            let values = values?;
            bytes += values.iter().map(|value| value.len() as u64).sum::<u64>();
            let appended = self.log.append(&values, std::mem::replace(&mut records, rest), epoch, now)?;
            for (offset, record) in &appended {
                let replayed = controller.replay(record, *offset);
                replayed.map_err(|error| format!("a record that we wrote: {error}"))?;
            }
        }
        self.drive(ottla_raft::Event::Appended { bytes }, now, out)?;
        Ok(response)
    }

    pub(super) fn token_sweep_deadline(&self) -> Option<Millis> {
        self.active.as_ref()?.token_sweep_at
    }

    /// Removes delegation tokens that are over, if it is time to look.
    pub(super) fn sweep_tokens(&mut self, now: Millis, out: &mut Effects) -> Result<(), String> {
        let interval = self.config.tokens.check_interval_ms;
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.token_sweep_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        let swept = ottla_controller::sweep_delegation_tokens(&active.controller.context(), now);
        let next = if swept.response { now } else { now.saturating_add(interval) };
        active.token_sweep_at = Some(next);
        self.append(swept, now, out).map(drop)
    }

    pub(super) fn sessions_deadline(&self) -> Option<Millis> {
        let active = self.active.as_ref()?;
        active.sessions.deadline(active.controller.image())
    }

    /// Fences brokers that were not heard of for too long.
    pub(super) fn fence_silent_brokers(&mut self, now: Millis, out: &mut Effects) -> Result<(), String> {
        let Some(Active { controller, sessions, .. }) = &mut self.active else { return Ok(()) };
        for broker in sessions.silent(controller.image(), now) {
            let Some(Active { controller, .. }) = &mut self.active else { return Ok(()) };
            let fenced = controller.fence_broker(broker).map_err(|error| error.to_string())?;
            self.append(fenced, now, out)?;
        }
        Ok(())
    }
}
