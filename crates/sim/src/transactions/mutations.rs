//! The rules on which exactly-once rests, taken away one at a time: each is missed within a few thousand seeds, as a promise is broken
//! or an assertion of the coordinators fails.

use ottla_coordinator::Guard;
use ottla_storage::{LogGuard, LogGuards};

use super::lot::{Lacks, run_with};
use crate::lots;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Of the transaction coordinator.
    Coordinator(Guard),
    /// Of the producers' state of a partition.
    Log(LogGuard),
    /// Of the runtime: markers are written, and EndTxn answered, when the decision is committed.
    DecisionIsCommittedFirst,
}

/// All of them.
pub fn rules() -> Vec<Rule> {
    let coordinator = Guard::TRANSACTIONS.iter().copied().map(Rule::Coordinator);
    let log = LogGuard::ALL.into_iter().map(Rule::Log);
    coordinator.chain(log).chain([Rule::DecisionIsCommittedFirst]).collect()
}

/// The first of `most` seeds that notices that a rule is missing, and what it says.
pub fn first_broken(rule: Rule, most: u64) -> Option<(u64, String)> {
    let mut lacks = Lacks::NOTHING;
    match rule {
        Rule::Coordinator(guard) => guard.remove(),
        Rule::Log(guard) => lacks.log = LogGuards::without(guard),
        Rule::DecisionIsCommittedFirst => lacks.hurried = true,
    }
    let found = lots::first_broken(most, |seed| run_with(seed, lacks, &mut |_| {}));
    Guard::restore();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules that are missed soon; `cargo xtask sim transactions --mutations` takes away all of them.
    #[test]
    fn without_any_of_these_rules_a_promise_is_broken() {
        let soon = [
            Rule::Coordinator(Guard::AddChecksEpoch),
            Rule::Coordinator(Guard::EndBumpsEpoch),
            Rule::Coordinator(Guard::InitAbortsOngoing),
            Rule::Coordinator(Guard::CompleteNeedsAllMarkers),
            Rule::Log(LogGuard::Duplicate),
            Rule::DecisionIsCommittedFirst,
        ];
        for rule in soon {
            assert!(first_broken(rule, 400).is_some(), "nobody misses {rule:?}");
        }
    }
}
