//! The conditions of replication, taken away one at a time. Some are missed by the first seeds, some need so rare a story that many seeds
//! pass before one tells it. Conditions that another one backs (the leader epoch of a proposal by its partition epoch) are not listed.

use ottla_broker::replicas::ReplicaGuard;
use ottla_controller::Guard as ControllerGuard;

use super::run::run;
use super::stories;
use crate::lots;

/// A condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Of the replicas of a partition.
    Replica(ReplicaGuard),
    /// Of the controller.
    Controller(ControllerGuard),
}

/// Those that are missed by a story or within 100,000 seeds.
pub fn rules() -> Vec<Rule> {
    let replica = ReplicaGuard::ALL.iter().copied().map(Rule::Replica);
    replica.chain(ControllerGuard::ALL.iter().copied().map(Rule::Controller)).collect()
}

/// The first of the stories, or else of `most` seeds, that notices that a condition is missing, and what it says.
pub fn first_broken(rule: Rule, most: u64) -> Option<(u64, String)> {
    // What all runs begin with is made by the whole code.
    let _ = run(0);
    match rule {
        Rule::Replica(guard) => guard.remove(),
        Rule::Controller(guard) => guard.remove(),
    }
    let told = lots::first_broken(stories::ALL.len() as u64, |at| stories::ALL[at as usize]());
    let told = told.map(|(at, broken)| (at, format!("story {at}: {broken}")));
    let found = told.or_else(|| lots::first_broken(most, run));
    ReplicaGuard::restore();
    ControllerGuard::restore();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some that are missed soon; `cargo xtask sim replication --mutations` takes away all of them.
    #[test]
    fn without_any_of_these_conditions_a_promise_is_broken() {
        let soon = [
            Rule::Replica(ReplicaGuard::MaximalIsrCounts),
            Rule::Replica(ReplicaGuard::OwnLogFlushed),
            Rule::Replica(ReplicaGuard::DivergingOffset),
            Rule::Controller(ControllerGuard::ElectedIsComplete),
            Rule::Controller(ControllerGuard::EligibleBelowMinIsr),
            Rule::Controller(ControllerGuard::CleanKnowsItsEpoch),
        ];
        for rule in soon {
            assert!(first_broken(rule, 1_000).is_some(), "nobody misses {rule:?}");
        }
    }
}
