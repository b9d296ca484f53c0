//! Everything that can happen at a small scope: breadth first, so that what is found is the shortest way there.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use ottla_metadata::config::Durability;

use super::model::{Model, Setting};
use super::run::{Action, Budget, Run};
use crate::digest::Digest;

/// How much may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A record, a proposal to leave, a lost message.
    Shrinking,
    /// A record, a broker whose session ends.
    Fencing,
    /// A record, a power loss; what counts is on disk.
    PowerLoss,
    /// A record, a death that loses what is not on disk, though it counts.
    Wound,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 4] = [Scope::Shrinking, Scope::Fencing, Scope::PowerLoss, Scope::Wound];

    fn begin(self) -> Run {
        let none = Budget {
            records: 1,
            repeats: 0,
            losses: 0,
            give_ups: 0,
            laggards: 0,
            fences: 0,
            elections: 0,
            stops: 0,
            crashes: 0,
            wounds: 0,
        };
        let (durability, budget) = match self {
            Scope::Shrinking => {
                (Durability::Replicated, Budget { laggards: 1, losses: 1, give_ups: 1, ..none })
            }
            Scope::Fencing => (Durability::Replicated, Budget { fences: 1, ..none }),
            Scope::PowerLoss => (Durability::Flushed, Budget { crashes: 1, ..none }),
            Scope::Wound => (Durability::Replicated, Budget { crashes: 1, wounds: 1, ..none }),
        };
        let setting = Setting { durability, waits_for_joining: false, late_answers: false };
        Run { model: Model::new(setting), budget }
    }
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps of the longest of the shortest ways.
    pub depth: usize,
    /// Whether there is nothing else within the scope.
    pub is_exhaustive: bool,
}

/// Explores up to so many states. An error is a broken promise, and the way there.
pub fn explore(scope: Scope, states_max: usize) -> Result<Explored, String> {
    let begin = scope.begin();
    let mut seen = BTreeSet::from([fingerprint(&begin)]);
    // How each state was reached: from which, and by what.
    let mut ways: Vec<(u32, Action)> = Vec::new();
    let mut frontier = vec![(u32::MAX, begin)];
    let mut depth = 0;
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (way, run) in &frontier {
            for action in run.actions() {
                if seen.len() >= states_max {
                    return Ok(Explored { states: seen.len(), depth, is_exhaustive: false });
                }
                let mut after = run.clone();
                let result = after.act(action);
                after.model.drop_spent();
                ways.push((*way, action));
                let here = (ways.len() - 1) as u32;
                if let Err(broken) = result {
                    return Err(format!("{broken}; by {:?}", path(&ways, here)));
                }
                if seen.insert(fingerprint(&after)) {
                    next.push((here, after));
                } else {
                    ways.pop();
                }
            }
        }
        frontier = next;
        depth += 1;
    }
    Ok(Explored { states: seen.len(), depth, is_exhaustive: true })
}

fn path(ways: &[(u32, Action)], mut at: u32) -> Vec<Action> {
    let mut path = Vec::new();
    while let Some((before, action)) = ways.get(at as usize) {
        path.push(*action);
        at = *before;
    }
    path.reverse();
    path
}

fn fingerprint(run: &Run) -> u64 {
    let mut digest = Digest::new();
    run.model.fingerprint(&mut digest);
    run.budget.hash(&mut digest);
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_kept_in_every_order() {
        for scope in Scope::ALL {
            let explored = explore(scope, 1_500).unwrap_or_else(|broken| panic!("{scope:?}: {broken}"));
            assert!(explored.states > 1_000 || explored.is_exhaustive, "{scope:?}: {explored:?}");
        }
    }
}
