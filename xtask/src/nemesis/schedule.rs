//! What goes wrong, and when: decided by a seed before anything runs.
//!
//! The tricky idea: nothing here looks at the cluster, so a seed names the same faults for every run. Whom a fault meets is a number, which
//! is taken modulo the nodes that there are.

use crate::crash::Dice;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9, and a start after a while.
    Kill,
    /// Two nodes killed, so that nothing can go on for a while.
    KillTwo,
    /// All nodes killed at once.
    KillAll,
    /// SIGSTOP, and SIGCONT after a while.
    Pause,
    /// SIGTERM, and a start after a while.
    Restart,
    /// A node and the others do not hear each other.
    Isolate,
    /// A node is not heard by the others, but hears them.
    Mute,
    /// A node does not hear the others, but is heard.
    Deafen,
    /// Two nodes do not hear each other; both hear the rest.
    Part,
    /// A node and the clients do not hear each other; the nodes do.
    HideFromClients,
    /// The file system of a node is full.
    FillDisk,
}

impl Kind {
    /// All, with how often each comes.
    const WEIGHTS: [(Kind, u64); 11] = [
        (Kind::Kill, 26),
        (Kind::KillTwo, 4),
        (Kind::KillAll, 3),
        (Kind::Pause, 17),
        (Kind::Restart, 8),
        (Kind::Isolate, 12),
        (Kind::Mute, 7),
        (Kind::Deafen, 7),
        (Kind::Part, 7),
        (Kind::HideFromClients, 5),
        (Kind::FillDisk, 4),
    ];

    /// Whether it needs a network of its own for each node.
    pub fn needs_network(self) -> bool {
        matches!(self, Kind::Isolate | Kind::Mute | Kind::Deafen | Kind::Part | Kind::HideFromClients)
    }

    /// How a report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill -9",
            Kind::KillTwo => "kill -9 of two nodes",
            Kind::KillAll => "kill -9 of all nodes",
            Kind::Pause => "SIGSTOP, SIGCONT",
            Kind::Restart => "SIGTERM and restart",
            Kind::Isolate => "partition: one node from all others, both ways",
            Kind::Mute => "partition: nobody hears one node",
            Kind::Deafen => "partition: one node hears nobody",
            Kind::Part => "partition: between two nodes only",
            Kind::HideFromClients => "partition: one node from the clients",
            Kind::FillDisk => "full disk",
        }
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// Whom it meets, and whom beside; any number.
    pub whom: usize,
    pub beside: usize,
    /// How long it lasts.
    pub lasts: Duration,
    /// How long nothing happens afterwards.
    pub rest: Duration,
}

/// Faults without end.
pub struct Schedule {
    dice: Dice,
    is_possible: fn(Kind) -> bool,
}

impl Schedule {
    /// What the seed says, without the kinds that are not possible here.
    pub fn new(seed: u64, is_possible: fn(Kind) -> bool) -> Schedule {
        Schedule { dice: Dice::new(seed), is_possible }
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        let total: u64 = Kind::WEIGHTS.iter().map(|(_, weight)| weight).sum();
        loop {
            let mut at = self.dice.below(total);
            let kind = Kind::WEIGHTS.iter().find_map(|(kind, weight)| match at.checked_sub(*weight) {
                None => Some(*kind),
                Some(left) => {
                    at = left;
                    None
                }
            })?;
            // Most are short; some outlast a session (9 s) and what clients wait for.
            let lasts = match self.dice.below(4) {
                0 => 10_000 + self.dice.below(4_000),
                1 => self.dice.below(500),
                _ => 500 + self.dice.below(4_000),
            };
            let fault = Fault {
                kind,
                whom: self.dice.below(1_000) as usize,
                beside: self.dice.below(1_000) as usize,
                lasts: Duration::from_millis(lasts),
                rest: Duration::from_millis(500 + self.dice.below(3_500)),
            };
            if (self.is_possible)(kind) {
                return Some(fault);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_fixes_the_faults_and_every_kind_comes() {
        let faults: Vec<Fault> = Schedule::new(7, |_| true).take(500).collect();
        assert_eq!(faults, Schedule::new(7, |_| true).take(500).collect::<Vec<_>>());
        assert_ne!(faults, Schedule::new(8, |_| true).take(500).collect::<Vec<_>>());
        let kinds: BTreeSet<Kind> = faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), Kind::WEIGHTS.len());
    }

    #[test]
    fn what_is_not_possible_does_not_come() {
        assert!(Schedule::new(7, |kind| !kind.needs_network()).take(500).all(|it| !it.kind.needs_network()));
    }
}
