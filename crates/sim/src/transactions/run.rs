//! A run of the model: what may happen next, and what becomes of it.
//!
//! The tricky idea: misfortunes come out of a budget, and what only counts (waiters, promises already checked) is no part of a state. So
//! the states of a small scope are finite.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

use super::check::{Reader, last_stable};
use super::client::{Client, Op};
use super::message::{Message, OFFSETS};
use super::model::{Model, Setting};

/// Something that may happen next. Numbers are places in [`Model::flight`], clients, and places in what a client has in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Deliver(usize),
    /// It arrives, and will arrive again.
    Repeat(usize),
    Lose(usize),
    /// A marker arrives at a partition that can not take it right now.
    FailMarker(usize),
    Commit,
    /// The coordinator moves, and so many of its uncommitted records survive.
    Crash(usize),
    /// The whole node dies.
    CrashNode(usize),
    /// The group coordinator moves.
    CrashOffsets,
    /// A client begins its next request.
    Begin(usize),
    /// A client asks again after an error that passes.
    Resend(usize, usize),
    /// A client asks again, as no answer has come.
    Again(usize, usize),
    GiveUp(usize),
    ChangeMind(usize),
    Die(usize),
    /// Another client takes the transactional id.
    Rival,
    /// Time passes until the coordinator has something to do.
    Tick,
}

/// How often each misfortune may happen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Budget {
    pub repeats: u32,
    pub losses: u32,
    pub failed_markers: u32,
    pub crashes: u32,
    pub again: u32,
    pub give_ups: u32,
    pub changes_of_mind: u32,
    pub deaths: u32,
    pub rivals: u32,
    pub ticks: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Run {
    pub model: Model,
    reader: Reader,
    budget: Budget,
}

/// Rounds of calm after which everybody has come to an end, if ever.
const CALM_ROUNDS: usize = 300;

impl Run {
    pub fn new(setting: Setting, script: Vec<Op>, budget: Budget) -> Run {
        let mut model = Model::new(setting);
        model.start_client(script);
        Run { model, reader: Reader::new(), budget }
    }

    pub fn actions(&self) -> Vec<Action> {
        let (model, budget) = (&self.model, &self.budget);
        let mut actions = Vec::new();
        for (at, message) in model.flight.iter().enumerate() {
            actions.push(Action::Deliver(at));
            if budget.repeats > 0 && may_repeat(message) {
                actions.push(Action::Repeat(at));
            }
            if budget.losses > 0 && (message.request().is_some() || matches!(message, Message::Reply { .. }))
            {
                actions.push(Action::Lose(at));
            }
            if budget.failed_markers > 0 && matches!(message, Message::Marker(_)) {
                actions.push(Action::FailMarker(at));
            }
        }
        if model.uncommitted() > 0 {
            actions.push(Action::Commit);
        }
        if budget.crashes > 0 {
            actions.extend((0..=model.uncommitted()).map(Action::Crash));
            actions.extend((0..=model.uncommitted()).map(Action::CrashNode));
            actions.push(Action::CrashOffsets);
        }
        for at in 0..model.clients.len() {
            self.add_actions_of(at, &mut actions);
        }
        if budget.rivals > 0 {
            actions.push(Action::Rival);
        }
        if budget.ticks > 0 && model.next_deadline().is_some() {
            actions.push(Action::Tick);
        }
        actions
    }

    fn add_actions_of(&self, at: usize, actions: &mut Vec<Action>) {
        let (client, budget) = (&self.model.clients[at], &self.budget);
        if client.may_begin() {
            actions.push(Action::Begin(at));
        }
        for (n, flying) in client.flying.iter().enumerate() {
            let is_idempotent = matches!(flying.step, Op::Produce(partition) if partition != OFFSETS);
            if !flying.is_waiting {
                actions.push(Action::Resend(at, n));
            } else if budget.again > 0
                && flying.step != Op::Init
                // Without an epoch for every transaction a request that is asked twice and late may decide the next one. That is how
                // those versions are.
                && (client.bumps || is_idempotent || !self.model.is_under_way(at, flying.op))
            {
                actions.push(Action::Again(at, n));
            }
        }
        if client.is_producing() && budget.give_ups > 0 {
            actions.push(Action::GiveUp(at));
        }
        let may_change =
            client.is_committing() && (client.bumps || !self.model.is_under_way(at, client.flying[0].op));
        if may_change && budget.changes_of_mind > 0 {
            actions.push(Action::ChangeMind(at));
        }
        if !client.is_done() && budget.deaths > 0 {
            actions.push(Action::Die(at));
        }
    }

    /// What an action is about.
    pub fn describe(&self, action: Action) -> String {
        match action {
            Action::Deliver(at) | Action::Repeat(at) | Action::Lose(at) | Action::FailMarker(at) => {
                format!("{action:?}: {:?}", self.model.flight[at])
            }
            action => format!("{action:?}"),
        }
    }

    pub fn act(&mut self, action: Action) -> Result<(), String> {
        let (model, budget) = (&mut self.model, &mut self.budget);
        match action {
            Action::Deliver(at) => {
                let message = model.flight.remove(at);
                model.deliver(message);
            }
            Action::Repeat(at) => {
                budget.repeats -= 1;
                let message = model.flight[at];
                model.deliver(message);
            }
            Action::Lose(at) => {
                budget.losses -= 1;
                model.flight.remove(at);
            }
            Action::FailMarker(at) => {
                budget.failed_markers -= 1;
                if let Message::Marker(marker) = model.flight.remove(at) {
                    model.fail_marker(marker);
                }
            }
            Action::Commit => model.commit(),
            Action::Crash(kept) => {
                budget.crashes -= 1;
                model.crash(kept);
            }
            Action::CrashNode(kept) => {
                budget.crashes -= 1;
                model.crash_node(kept);
            }
            Action::CrashOffsets => {
                budget.crashes -= 1;
                model.offsets.fail_over(model.now);
            }
            Action::Begin(client) => model.begin(client),
            Action::Resend(client, at) => model.again(client, at),
            Action::Again(client, at) => {
                budget.again -= 1;
                model.again(client, at);
            }
            Action::GiveUp(client) => {
                budget.give_ups -= 1;
                model.clients[client].give_up();
            }
            Action::ChangeMind(client) => {
                budget.changes_of_mind -= 1;
                model.clients[client].change_mind();
            }
            Action::Die(client) => {
                budget.deaths -= 1;
                model.clients[client].die();
            }
            Action::Rival => {
                budget.rivals -= 1;
                let script = script(model.setting.clients_bump, &[(&[1, OFFSETS], true)]);
                model.start_client(script);
            }
            Action::Tick => {
                budget.ticks -= 1;
                // A transaction may have taken too long.
                model.clients.iter_mut().for_each(|client| client.may_be_fenced = true);
                if let Some(at) = model.next_deadline() {
                    model.pass_until(at);
                }
            }
        }
        model.flight.sort();
        self.reader.look(&self.model)
    }

    /// The network recovers: everything arrives, everybody goes on until he is done, and time passes.
    pub fn calm_down(&mut self) -> Result<(), String> {
        for _ in 0..CALM_ROUNDS {
            while !self.model.flight.is_empty() {
                let message = self.model.flight.remove(0);
                self.model.deliver(message);
                self.reader.look(&self.model)?;
            }
            self.model.commit();
            // Who hears nothing more asks again.
            let is_silent = self.model.flight.is_empty();
            for client in (0..self.model.clients.len()).filter(|_| is_silent) {
                self.go_on(client);
            }
            let is_quiet = self.model.flight.is_empty() && self.model.uncommitted() == 0;
            // Nobody wants anything: either all is decided, or time has to pass until somebody is given up.
            if is_quiet && self.model.clients.iter().all(Client::is_done) {
                if self.model.partitions.iter().all(|p| last_stable(p) == p.log.end_offset()) {
                    break;
                }
                let Some(at) = self.model.next_deadline() else { break };
                self.model.pass_until(at);
            } else {
                self.model.pass_until(self.model.now + 100);
            }
        }
        self.reader.look_at_the_end(&self.model)
    }

    fn go_on(&mut self, client: usize) {
        for at in 0..self.model.clients[client].flying.len() {
            self.model.again(client, at);
        }
        while self.model.clients[client].may_begin() {
            self.model.begin(client);
        }
    }

    /// The same for two runs to which the same can happen. What was read is no part of it: it follows from the logs.
    pub fn fingerprint(&self) -> u64 {
        struct Digest(DefaultHasher);
        impl Write for Digest {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        let mut digest = Digest(DefaultHasher::new());
        write!(digest, "{:?}", (&self.model, &self.budget)).expect("a digest takes everything");
        digest.0.finish()
    }
}

/// Only what a network or a broker repeats without harm, by the rules of the version: a second InitProducerId is another producer,
/// which fences the first, as it should.
fn may_repeat(message: &Message) -> bool {
    match message {
        Message::Produce(batch) => batch.adds || batch.value.partition != OFFSETS,
        Message::End { bumps, .. } => *bumps,
        Message::Marker(marker) => marker.bumps,
        _ => false,
    }
}

/// What a client does: transactions, each with the partitions of its records, and whether it is committed.
pub(super) fn script(bumps: bool, txns: &[(&[usize], bool)]) -> Vec<Op> {
    let mut script = vec![Op::Init];
    for (partitions, commit) in txns {
        for (at, partition) in partitions.iter().enumerate() {
            if !bumps && !partitions[..at].contains(partition) {
                script.push(Op::Add(*partition));
            }
            script.push(Op::Produce(*partition));
        }
        script.push(Op::End(*commit));
    }
    script
}
