//! Small scopes of the model, explored in every order to their end.

use std::collections::BTreeSet;

use super::message::OFFSETS;
use super::model::Setting;
use super::run::{Action, Budget, Run, script};

/// A scope that is small enough to explore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Two transactions, and the network repeats a message.
    Repeats,
    /// A client gives up waiting, and goes on with its next transaction.
    GivesUp,
    /// The coordinator or its node dies once, in any state.
    Crash,
    /// A marker can not be written at first, and the coordinator dies.
    FailedMarker,
    /// Another client takes the transactional id.
    Rival,
    /// Two batches in flight, in any order.
    Window,
    /// A client of version 1 gives up waiting.
    OlderGivesUp,
    /// The coordinator dies while it serves a client of version 1.
    OlderCrash,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 8] = [
        Scope::Repeats,
        Scope::GivesUp,
        Scope::Crash,
        Scope::FailedMarker,
        Scope::Rival,
        Scope::Window,
        Scope::OlderGivesUp,
        Scope::OlderCrash,
    ];

    fn start(self) -> Run {
        let none = Budget::default();
        let v2 = |txns: &[(&[usize], bool)], budget| Run::new(Setting::V2, script(true, txns), budget);
        let v1 = |txns: &[(&[usize], bool)], budget| Run::new(Setting::V1, script(false, txns), budget);
        match self {
            Scope::Repeats => v2(&[(&[0], true), (&[0], false)], Budget { repeats: 1, ..none }),
            Scope::GivesUp => v2(&[(&[0], true), (&[0], true)], Budget { give_ups: 1, again: 1, ..none }),
            Scope::Crash => v2(&[(&[0, OFFSETS], true)], Budget { crashes: 1, ..none }),
            Scope::FailedMarker => {
                v2(&[(&[0, 1], true)], Budget { failed_markers: 1, crashes: 1, ticks: 1, ..none })
            }
            Scope::Rival => v2(&[(&[0, 1], true)], Budget { rivals: 1, ..none }),
            Scope::Window => {
                let setting = Setting { window: 2, ..Setting::V2 };
                Run::new(setting, script(true, &[(&[0, 0], true)]), Budget { again: 1, losses: 1, ..none })
            }
            Scope::OlderGivesUp => v1(&[(&[0], true), (&[1], true)], Budget { give_ups: 1, ..none }),
            Scope::OlderCrash => v1(&[(&[0], true), (&[0], true)], Budget { crashes: 1, ..none }),
        }
    }
}

/// What an exploration has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Whether these are all.
    pub is_complete: bool,
}

/// Every order of what may happen in a scope, on copies; states that were seen are left. One state in `calm_in` is followed by calm.
/// An error is a broken promise, and how it came to be broken.
pub fn explore(scope: Scope, states_max: usize, calm_in: u64) -> Result<Explored, String> {
    let start = scope.start();
    let mut seen: BTreeSet<u64> = BTreeSet::from([start.fingerprint()]);
    let actions = start.actions();
    let mut path = vec![(start, actions)];
    let told = |path: &[(Run, Vec<Action>)], what: String| {
        let taken: Vec<String> = path.iter().map(|(run, _)| format!("{:?}", run.model.flight)).collect();
        format!("{scope:?}: {what}\nthe messages under way:\n{}", taken.join("\n"))
    };
    while let Some((run, actions)) = path.last_mut() {
        let Some(action) = actions.pop() else {
            path.pop();
            continue;
        };
        let mut next = run.clone();
        let acted = next.act(action);
        acted.map_err(|broken| told(&path, format!("{broken} after {action:?}")))?;
        let fingerprint = next.fingerprint();
        if !seen.insert(fingerprint) {
            continue;
        }
        let actions = next.actions();
        if actions.is_empty() || fingerprint.is_multiple_of(calm_in) {
            let calmed = next.clone().calm_down();
            calmed.map_err(|broken| told(&path, format!("{broken} after {action:?} and calm")))?;
        }
        if seen.len() == states_max {
            return Ok(Explored { states: seen.len(), is_complete: false });
        }
        path.push((next, actions));
    }
    Ok(Explored { states: seen.len(), is_complete: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// States of one scope in the fast tests; `cargo xtask sim transactions --states N` goes on.
    const STATES_MAX: usize = 400;

    #[test]
    fn a_beginning_of_every_scope_in_every_order() {
        for scope in Scope::ALL {
            let explored = explore(scope, STATES_MAX, 16).unwrap_or_else(|broken| panic!("{broken}"));
            assert!(explored.states > 100, "{scope:?}: {explored:?}, something is not explored");
        }
    }
}
