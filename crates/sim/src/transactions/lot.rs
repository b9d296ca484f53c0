//! The model by lot: one seed decides what clients want, what goes wrong, and in which order everything happens.

use std::hash::{DefaultHasher, Hash, Hasher};

use ottla_coordinator::TransactionVersion;
use ottla_storage::LogGuards;

use super::message::{DATA, OFFSETS};
use super::model::Setting;
use super::run::{Action, Budget, Run, script};
use crate::dice::Dice;

/// What is taken away of the rules besides those of the coordinators, if anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lacks {
    pub log: LogGuards,
    pub hurried: bool,
}

impl Lacks {
    pub const NOTHING: Lacks = Lacks { log: LogGuards::ALL, hurried: false };
}

/// Runs one seed. An error is a broken promise.
pub fn run(seed: u64) -> Result<(), String> {
    run_with(seed, Lacks::NOTHING, &mut |_| {})
}

/// The same, told: what happens, step by step, until there is calm.
pub fn tell(seed: u64) -> (Vec<String>, Result<(), String>) {
    let mut story = Vec::new();
    let result = run_with(seed, Lacks::NOTHING, &mut |step| story.push(step));
    (story, result)
}

pub(super) fn run_with(seed: u64, lacks: Lacks, watch: &mut dyn FnMut(String)) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let setting = setting(&mut dice, lacks);
    let txns: Vec<(Vec<usize>, bool)> = (0..1 + dice.below(4))
        .map(|_| {
            let mut partitions: Vec<usize> =
                (0..1 + dice.below(3)).map(|_| dice.below(DATA as u64) as usize).collect();
            if dice.once_in(2) {
                partitions.push(OFFSETS);
            }
            (partitions, !dice.once_in(3))
        })
        .collect();
    let txns: Vec<(&[usize], bool)> = txns.iter().map(|(parts, commit)| (&**parts, *commit)).collect();
    let budget = budget(&mut dice, &setting);
    let mut run = Run::new(setting, script(setting.clients_bump, &txns), budget);
    watch(format!("{setting:?} {budget:?} {txns:?}"));
    for _ in 0..30 + dice.below(150) {
        let actions = run.actions();
        let weights: Vec<u64> = actions.iter().map(|action| weight(*action, &run, seed)).collect();
        let total: u64 = weights.iter().sum();
        if total == 0 {
            break;
        }
        let mut lot = dice.below(total);
        let chosen = weights.iter().position(|weight| {
            let is_it = lot < *weight;
            lot = lot.saturating_sub(*weight);
            is_it
        });
        let action = actions[chosen.expect("a lot is below the total")];
        watch(run.describe(action));
        run.act(action)?;
    }
    run.calm_down()
}

fn setting(dice: &mut Dice, lacks: Lacks) -> Setting {
    let feature =
        [TransactionVersion::V2, TransactionVersion::V2, TransactionVersion::V1, TransactionVersion::V0]
            [dice.below(4) as usize];
    let clients_bump = feature >= TransactionVersion::V2 && !dice.once_in(3);
    Setting {
        feature,
        clients_bump,
        verifies: clients_bump || !dice.once_in(4),
        // Where a transaction has no epoch of its own, a producer that is not known in a partition may begin with any number (KIP-360),
        // so it is the one connection that keeps batches in order.
        window: if clients_bump { 1 + dice.below(3) as usize } else { 1 },
        is_used_up: dice.once_in(8),
        expires: dice.once_in(8),
        log: lacks.log,
        hurried: lacks.hurried,
    }
}

fn budget(dice: &mut Dice, setting: &Setting) -> Budget {
    Budget {
        repeats: dice.below(4) as u32,
        losses: dice.below(3) as u32,
        failed_markers: dice.below(3) as u32,
        crashes: dice.below(4) as u32,
        again: dice.below(4) as u32,
        // Without verification a batch that is late may begin a transaction that nobody ends. That is what it is for.
        give_ups: if setting.verifies { dice.below(2) as u32 } else { 0 },
        changes_of_mind: u32::from(dice.once_in(4)),
        deaths: if setting.verifies { u32::from(dice.once_in(4)) } else { 0 },
        rivals: u32::from(dice.once_in(2)),
        ticks: u32::from(dice.once_in(4)) * 2,
    }
}

/// Some messages are slow: most of what else may happen happens before they arrive.
fn weight(action: Action, run: &Run, seed: u64) -> u64 {
    match action {
        Action::Deliver(at) => {
            let mut hasher = DefaultHasher::new();
            (seed, run.model.flight[at]).hash(&mut hasher);
            if hasher.finish().is_multiple_of(4) { 1 } else { 16 }
        }
        Action::Commit | Action::Begin(_) => 16,
        Action::Resend(..) => 8,
        Action::Repeat(_) | Action::Lose(_) | Action::FailMarker(_) | Action::Again(..) => 2,
        Action::GiveUp(_) | Action::ChangeMind(_) | Action::Rival | Action::Tick => 2,
        Action::Crash(_) | Action::CrashNode(_) | Action::CrashOffsets | Action::Die(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_keep_their_promises_by_lot() {
        for seed in 0..400 {
            run(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
    }
}
