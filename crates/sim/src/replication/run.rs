//! What may happen next, by lot, and the calm after it.

use ottla_metadata::config::Durability;

use super::model::{Model, Setting};
use super::origin::NODES;
use crate::dice::Dice;

/// Something that may happen. Numbers are nodes, and places in [`Model::flight`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Deliver(usize),
    Repeat(usize),
    Lose(usize),
    Produce(usize),
    Flush(usize),
    Fetch(usize),
    Propose(usize),
    /// The next state of the metadata.
    Learn(usize),
    /// All that there are, of which the last counts.
    LearnAll(usize),
    LeaveBehind(usize),
    /// An answer is not waited for any more.
    GiveUp(usize),
    Fence(usize),
    Unfence(usize),
    /// The preferred leader takes the lead; who led stays in sync.
    Prefer,
    Stop(usize),
    Start(usize),
    /// So many of the records that are not on disk survive.
    Crash(usize, usize),
}

/// How often each misfortune may happen.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Budget {
    pub records: u32,
    pub repeats: u32,
    pub losses: u32,
    pub give_ups: u32,
    pub laggards: u32,
    pub fences: u32,
    pub elections: u32,
    pub stops: u32,
    pub crashes: u32,
    /// Crashes that lose what another replica may rely on: with the page cache alone one can be borne.
    pub wounds: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Run {
    pub model: Model,
    pub budget: Budget,
}

impl Run {
    pub fn actions(&self) -> Vec<Action> {
        let (model, budget) = (&self.model, &self.budget);
        let mut actions = Vec::new();
        for at in 0..model.flight().len() {
            actions.push(Action::Deliver(at));
            if budget.repeats > 0 {
                actions.push(Action::Repeat(at));
            }
            if budget.losses > 0 {
                actions.push(Action::Lose(at));
            }
        }
        if budget.elections > 0 && model.may_prefer() {
            actions.push(Action::Prefer);
        }
        for at in 0..NODES {
            self.add_actions_of(at, &mut actions);
        }
        actions
    }

    fn add_actions_of(&self, at: usize, actions: &mut Vec<Action>) {
        let (model, budget) = (&self.model, &self.budget);
        let node = model.node(at);
        if budget.fences > 0 && model.is_active(at) {
            actions.push(Action::Fence(at));
        }
        if !node.is_alive {
            actions.push(Action::Start(at));
            return;
        }
        if budget.records > 0 && model.may_produce(at) {
            actions.push(Action::Produce(at));
        }
        if node.synced < node.log.len() && model.durability() == Durability::Flushed {
            actions.push(Action::Flush(at));
        }
        if model.may_fetch(at) {
            actions.push(Action::Fetch(at));
        }
        if model.proposal(at).is_some() {
            actions.push(Action::Propose(at));
        }
        if model.may_learn(at) {
            actions.extend([Action::Learn(at), Action::LearnAll(at)]);
        }
        if budget.laggards > 0 && node.leading.is_some() {
            actions.push(Action::LeaveBehind(at));
        }
        if budget.give_ups > 0 && model.awaits(at) {
            actions.push(Action::GiveUp(at));
        }
        if model.may_unfence(at) {
            actions.push(Action::Unfence(at));
        }
        if budget.stops > 0 && model.is_active(at) {
            actions.push(Action::Stop(at));
        }
        if budget.crashes > 0 {
            let least = match model.durability() {
                Durability::Replicated if budget.wounds == 0 => node.log.len(),
                Durability::Replicated => node.log.len().saturating_sub(2),
                Durability::Flushed => node.synced,
            };
            actions.extend((least..=node.log.len()).map(|kept| Action::Crash(at, kept)));
        }
    }

    pub fn act(&mut self, action: Action) -> Result<(), String> {
        let (model, budget) = (&mut self.model, &mut self.budget);
        match action {
            Action::Deliver(at) => {
                let message = model.take(at);
                model.deliver(message)?;
            }
            Action::Repeat(at) => {
                budget.repeats -= 1;
                let message = model.flight()[at].clone();
                model.deliver(message)?;
            }
            Action::Lose(at) => {
                budget.losses -= 1;
                model.take(at);
            }
            Action::Produce(at) => {
                budget.records -= 1;
                model.produce(at);
            }
            Action::Flush(at) => model.flush(at),
            Action::Fetch(at) => model.fetch(at),
            Action::Propose(at) => model.propose(at),
            Action::Learn(at) => model.learn(at, false),
            Action::LearnAll(at) => model.learn(at, true),
            Action::LeaveBehind(at) => {
                if model.leave_behind(at) {
                    budget.laggards -= 1;
                }
            }
            Action::GiveUp(at) => {
                budget.give_ups -= 1;
                model.give_up(at);
            }
            Action::Fence(at) => {
                budget.fences -= 1;
                model.fence(at);
            }
            Action::Unfence(at) => model.unfence(at),
            Action::Prefer => {
                budget.elections -= 1;
                model.prefer();
            }
            Action::Stop(at) => {
                budget.stops -= 1;
                model.stop(at);
            }
            Action::Start(at) => model.start(at),
            Action::Crash(at, kept) => {
                budget.crashes -= 1;
                if model.durability() == Durability::Replicated && kept < model.node(at).log.len() {
                    budget.wounds -= 1;
                }
                model.crash(at, kept);
            }
        }
        model.sort_flight();
        model.check()
    }

    /// The network recovers, who died comes back, and everybody goes on.
    pub fn calm_down(&mut self) -> Result<(), String> {
        for _ in 0..60 {
            for at in 0..NODES {
                let model = &mut self.model;
                if !model.node(at).is_alive {
                    model.start(at);
                }
                if model.may_unfence(at) {
                    model.unfence(at);
                }
            }
            // Whoever waits for what was lost asks again.
            let is_silent = self.model.flight().is_empty();
            for at in 0..NODES {
                let model = &mut self.model;
                if model.may_learn(at) {
                    model.learn(at, true);
                }
                model.flush(at);
                if is_silent {
                    model.give_up(at);
                }
                if model.may_fetch(at) {
                    model.fetch(at);
                }
                model.propose(at);
                model.check()?;
            }
            while !self.model.flight().is_empty() {
                let message = self.model.take(0);
                self.model.deliver(message)?;
                self.model.check()?;
            }
            if self.model.check_at_the_end().is_ok() {
                return Ok(());
            }
        }
        self.model.check_at_the_end()
    }
}

/// Runs one seed. An error is a broken promise.
pub fn run(seed: u64) -> Result<(), String> {
    play(seed, &mut |_| {})
}

/// Runs one seed, and says what happened.
pub fn tell(seed: u64) -> (Vec<String>, Result<(), String>) {
    let mut story = Vec::new();
    let result = play(seed, &mut |step| story.push(step));
    (story, result)
}

fn play(seed: u64, note: &mut dyn FnMut(String)) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let durability = if seed.is_multiple_of(2) { Durability::Flushed } else { Durability::Replicated };
    let setting = Setting { durability, waits_for_joining: dice.once_in(3), late_answers: dice.once_in(3) };
    // Every seed knows some misfortunes only, so that those come together often.
    let mut up_to = |most: u64| if dice.once_in(3) { 0 } else { dice.below(most + 1) as u32 };
    let budget = Budget {
        records: 2 + up_to(6),
        repeats: up_to(4),
        losses: up_to(4),
        give_ups: up_to(4),
        laggards: up_to(4),
        fences: up_to(4),
        elections: up_to(3),
        stops: up_to(2),
        crashes: up_to(4),
        wounds: up_to(1),
    };
    note(format!("{setting:?} {budget:?}"));
    let mut run = Run { model: Model::new(setting), budget };
    for _ in 0..60 + dice.below(120) {
        let actions = run.actions();
        let calm: Vec<Action> = actions.iter().copied().filter(|action| !is_misfortune(*action)).collect();
        let wild: Vec<Action> = actions.into_iter().filter(|action| is_misfortune(*action)).collect();
        let of = if calm.is_empty() || (!wild.is_empty() && dice.once_in(6)) { wild } else { calm };
        if of.is_empty() {
            break;
        }
        let action = of[dice.below(of.len() as u64) as usize];
        let told = match action {
            Action::Deliver(at) | Action::Repeat(at) | Action::Lose(at) => {
                format!("{action:?} {:?}", run.model.flight()[at])
            }
            action => format!("{action:?}"),
        };
        note(told);
        run.act(action)?;
    }
    run.calm_down()
}

fn is_misfortune(action: Action) -> bool {
    matches!(
        action,
        Action::Repeat(_)
            | Action::Lose(_)
            | Action::LeaveBehind(_)
            | Action::GiveUp(_)
            | Action::Fence(_)
            | Action::Prefer
            | Action::Stop(_)
            | Action::Crash(..)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_kept() {
        for seed in 0..300 {
            run(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
    }
}
