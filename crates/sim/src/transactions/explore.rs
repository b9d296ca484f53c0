//! Two ways through the model: all of them at a small scope, and many of them by lot at a larger one; and the list of rules without
//! which the second way finds a broken promise.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use ottla_coordinator::transaction::{Guard, Guards};
use ottla_storage::{LogGuard, LogGuards};

use super::check::{Reader, last_stable};
use super::client::{Client, Op};
use super::model::{Message, Model, Rules};
use crate::dice::Dice;

/// Something that may happen next.
#[derive(Debug, Clone, Copy)]
enum Action {
    Deliver(usize),
    /// It arrives, and will arrive again.
    Repeat(usize),
    Lose(usize),
    Commit,
    /// The coordinator dies, and so many of its uncommitted records survive.
    Crash(usize),
    /// A client begins its next request.
    Begin(usize),
    /// A client asks again, as no answer has come.
    Again(usize),
    GiveUp(usize),
    Die(usize),
    /// Another client takes the transactional id.
    Rival,
    /// Time passes until the coordinator has something to do.
    Tick,
}

/// How often each misfortune may happen.
#[derive(Debug, Clone, Copy)]
struct Budget {
    repeats: u32,
    losses: u32,
    crashes: u32,
    again: u32,
    give_ups: u32,
    deaths: u32,
    rivals: u32,
    ticks: u32,
}

#[derive(Debug, Clone)]
struct Run {
    model: Model,
    reader: Reader,
    budget: Budget,
}

impl Run {
    fn new(rules: Rules, script: Vec<Op>, budget: Budget) -> Run {
        let mut model = Model::new(rules);
        model.start_client(script);
        Run { model, reader: Reader::new(), budget }
    }

    fn actions(&self) -> Vec<Action> {
        let (model, budget) = (&self.model, &self.budget);
        let mut actions = Vec::new();
        for (at, message) in model.flight.iter().enumerate() {
            actions.push(Action::Deliver(at));
            // Not InitProducerId: a second one is another producer, which fences the first, as it should.
            let from_client =
                matches!(message, Message::End { .. } | Message::Produce { .. } | Message::Marker { .. });
            if from_client && budget.repeats > 0 {
                actions.push(Action::Repeat(at));
            }
            if budget.losses > 0 && matches!(message, Message::Reply { .. }) {
                actions.push(Action::Lose(at));
            }
        }
        if model.has_uncommitted() {
            actions.push(Action::Commit);
        }
        if budget.crashes > 0 {
            actions.extend((0..=model.uncommitted()).map(Action::Crash));
        }
        for (at, client) in model.clients.iter().enumerate() {
            if client.may_begin() {
                actions.push(Action::Begin(at));
            }
            if client.is_waiting() && client.is_past_init() && budget.again > 0 {
                actions.push(Action::Again(at));
            }
            if client.is_producing() && budget.give_ups > 0 {
                actions.push(Action::GiveUp(at));
            }
            if !client.is_done() && budget.deaths > 0 {
                actions.push(Action::Die(at));
            }
        }
        if budget.rivals > 0 {
            actions.push(Action::Rival);
        }
        if budget.ticks > 0 && model.next_deadline().is_some() {
            actions.push(Action::Tick);
        }
        actions
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        let (model, budget) = (&mut self.model, &mut self.budget);
        match action {
            Action::Deliver(at) => {
                let message = model.flight.remove(at);
                model.deliver(message);
            }
            Action::Repeat(at) => {
                budget.repeats -= 1;
                let message = model.flight[at].clone();
                model.deliver(message);
            }
            Action::Lose(at) => {
                budget.losses -= 1;
                model.flight.remove(at);
            }
            Action::Commit => model.commit(),
            Action::Crash(kept) => {
                budget.crashes -= 1;
                model.crash(kept);
            }
            Action::Begin(client) => model.send(client),
            Action::Again(client) => {
                budget.again -= 1;
                model.send(client);
            }
            Action::GiveUp(client) => {
                budget.give_ups -= 1;
                model.clients[client].give_up();
            }
            Action::Die(client) => {
                budget.deaths -= 1;
                model.clients[client].dead = true;
            }
            Action::Rival => {
                budget.rivals -= 1;
                model.start_client(vec![Op::Init, Op::Produce(1), Op::End(true)]);
            }
            Action::Tick => {
                budget.ticks -= 1;
                // A transaction may have taken too long.
                model.clients.iter_mut().for_each(|client| client.may_be_fenced = true);
                model.tick();
            }
        }
        model.flight.sort();
        self.reader.look(&self.model)
    }

    /// The network recovers: everything arrives, everybody goes on until he is done, and time passes.
    fn quiesce(&mut self) -> Result<(), String> {
        for round in 0..400 {
            while let Some(message) = self.model.flight.first().cloned() {
                self.model.flight.remove(0);
                self.model.deliver(message);
                self.reader.look(&self.model)?;
            }
            self.model.commit();
            for client in 0..self.model.clients.len() {
                if self.model.flight.is_empty() && !self.model.clients[client].is_done() {
                    self.model.send(client);
                }
            }
            if self.model.flight.is_empty() && !self.model.has_uncommitted() {
                // Nobody wants anything: either all is decided, or time has to pass until somebody is given up.
                let is_settled = self.model.partitions.iter().all(|p| last_stable(p) == p.log.end_offset());
                if is_settled && self.model.clients.iter().all(Client::is_done) || round > 200 {
                    break;
                }
                self.model.tick();
            }
        }
        self.reader.look_at_the_end(&self.model)
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", (&self.model, &self.budget)).hash(&mut hasher);
        hasher.finish()
    }
}

fn script(txns: &[(&[usize], bool)]) -> Vec<Op> {
    let mut script = vec![Op::Init];
    for (partitions, commit) in txns {
        script.extend(partitions.iter().map(|partition| Op::Produce(*partition)));
        script.push(Op::End(*commit));
    }
    script
}

/// Every order of the first `depth` things that happen, on copies, each followed by calm; states that were seen are left. Returns how
/// many there were.
fn explore(start: Run, depth: usize) -> usize {
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let mut level = vec![(start, Vec::new())];
    for _ in 0..depth {
        let mut next_level = Vec::new();
        for (run, path) in level {
            let mut end = run.clone();
            end.quiesce().unwrap_or_else(|broken| panic!("{broken}\nafter {path:?}"));
            for action in run.actions() {
                let mut next = run.clone();
                next.act(action).unwrap_or_else(|broken| panic!("{broken}\nafter {path:?} and {action:?}"));
                if seen.insert(next.fingerprint()) {
                    let mut path = path.clone();
                    path.push(action);
                    next_level.push((next, path));
                }
            }
        }
        level = next_level;
    }
    seen.len()
}

/// Seeds of a sweep.
const SEEDS: u64 = 400;
/// How many steps are taken in every order.
const DEPTH: usize = 14;

const QUIET: Budget =
    Budget { repeats: 0, losses: 0, crashes: 0, again: 0, give_ups: 0, deaths: 0, rivals: 0, ticks: 0 };

/// Runs one seed.
fn run(seed: u64, rules: Rules) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let txns: Vec<(Vec<usize>, bool)> = (0..1 + dice.below(4))
        .map(|_| {
            let partitions = match dice.below(4) {
                0 => vec![0],
                1 => vec![1],
                2 => vec![1, 0],
                _ => vec![0, 1],
            };
            (partitions, !dice.once_in(3))
        })
        .collect();
    let txns: Vec<(&[usize], bool)> =
        txns.iter().map(|(partitions, commit)| (&**partitions, *commit)).collect();
    let budget = Budget {
        repeats: dice.below(4) as u32,
        losses: dice.below(3) as u32,
        crashes: dice.below(4) as u32,
        again: dice.below(4) as u32,
        give_ups: dice.below(2) as u32,
        deaths: u32::from(dice.once_in(6)),
        rivals: u32::from(dice.once_in(3)),
        ticks: u32::from(dice.once_in(4)) * 2,
    };
    let mut run = Run::new(rules, script(&txns), budget);
    for _ in 0..20 + dice.below(100) {
        let actions = run.actions();
        let Some(action) = actions.get(dice.below(actions.len().max(1) as u64) as usize) else { break };
        run.act(*action)?;
    }
    run.quiesce()
}

#[test]
fn one_transaction_and_the_next_in_every_order() {
    let budget = Budget { repeats: 1, ..QUIET };
    let states = explore(Run::new(Rules::default(), script(&[(&[0], true), (&[1], false)]), budget), DEPTH);
    assert!(states > 40, "only {states} states: something is not explored");
}

#[test]
fn late_produces_and_late_ends_in_every_order() {
    let budget = Budget { give_ups: 1, ..QUIET };
    let states = explore(Run::new(Rules::default(), script(&[(&[0, 1], true), (&[0], true)]), budget), DEPTH);
    assert!(states > 40, "only {states} states: something is not explored");
}

#[test]
fn transactions_keep_their_promises_by_lot() {
    for seed in 0..SEEDS {
        run(seed, Rules::default()).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn a_coordinator_that_dies_at_any_moment() {
    let budget = Budget { crashes: 1, ..QUIET };
    let states = explore(Run::new(Rules::default(), script(&[(&[0, 1], true)]), budget), DEPTH);
    assert!(states > 40, "only {states} states: something is not explored");
}

/// Goes through the seeds until one breaks a promise.
fn first_broken(rules: Rules) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| {
        let result = std::panic::catch_unwind(|| run(seed, rules));
        // An assertion of the coordinator is as good as a broken promise.
        match result {
            Ok(Ok(())) => None,
            Ok(Err(broken)) => Some((seed, broken)),
            Err(_) => Some((seed, "an assertion".to_owned())),
        }
    })
}

#[test]
fn without_any_of_these_rules_a_promise_is_broken() {
    let coordinator = [
        Guard::AddChecksEpoch,
        Guard::EndKnowsRetry,
        Guard::EndBumpsEpoch,
        Guard::InitBumpsEpoch,
        Guard::InitAbortsOngoing,
        Guard::InitWaitsForMarkers,
        Guard::AddWaitsForMarkers,
    ];
    let log = [LogGuard::Duplicate];
    let mut rules: Vec<(String, Rules)> = coordinator
        .into_iter()
        .map(|guard| {
            (format!("{guard:?}"), Rules { coordinator: Guards::without(guard), ..Rules::default() })
        })
        .collect();
    rules.extend(
        log.map(|guard| (format!("{guard:?}"), Rules { log: LogGuards::without(guard), ..Rules::default() })),
    );
    rules.push(("DecisionIsCommittedFirst".to_owned(), Rules { hurried: true, ..Rules::default() }));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<(String, Option<(u64, String)>)> =
        rules.into_iter().map(|(name, rules)| (name, first_broken(rules))).collect();
    std::panic::set_hook(hook);
    let missed: Vec<&String> =
        found.iter().filter(|(_, found)| found.is_none()).map(|(name, _)| name).collect();
    assert!(missed.is_empty(), "nobody misses {missed:?}");
}
