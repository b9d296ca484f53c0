//! Rare stories, told on purpose: each breaks a promise if one condition is missing, and lots tell it too seldom to wait for.

use ottla_metadata::config::Durability;

use super::model::{Message, Model, Setting};

/// Every story.
pub(super) const ALL: [fn() -> Result<(), String>; 4] =
    [leads_again(false), leads_again(true), earlier_life, image_after_decision];

fn begin() -> Model {
    let durability = Durability::Replicated;
    Model::new(Setting { durability, waits_for_joining: false, late_answers: false })
}

/// Everything that is under way arrives.
fn arrive(model: &mut Model) -> Result<(), String> {
    while !model.flight.is_empty() {
        let message = model.flight.remove(0);
        model.deliver(message)?;
        model.check()?;
    }
    Ok(())
}

fn fetch(model: &mut Model, at: usize) -> Result<(), String> {
    model.fetch(at);
    arrive(model)
}

fn propose(model: &mut Model, at: usize) -> Result<(), String> {
    model.propose(at);
    arrive(model)
}

fn learn(model: &mut Model, nodes: &[usize]) -> Result<(), String> {
    for at in nodes {
        model.learn(*at, true);
        model.check()?;
    }
    Ok(())
}

const fn leads_again(has_late_fetch: bool) -> fn() -> Result<(), String> {
    if has_late_fetch { || led_between(true) } else { || led_between(false) }
}

/// A leader leads again, and did not see that another one led in between, to whom a follower cut off what it had. What the follower said
/// before counts no more: neither what is remembered of it, nor a fetch of then that arrives now.
fn led_between(has_late_fetch: bool) -> Result<(), String> {
    let mut model = begin();
    model.fence(0);
    model.unfence(0);
    learn(&mut model, &[0, 1, 2])?;
    fetch(&mut model, 0)?;
    propose(&mut model, 1)?;
    model.fence(2);
    model.unfence(2);
    learn(&mut model, &[0, 1, 2])?;
    model.produce(1);
    fetch(&mut model, 2)?;
    let mut late = None;
    if has_late_fetch {
        model.fetch(2);
        late = model.flight.pop();
        model.nodes[2].awaits_fetch = None;
    } else {
        fetch(&mut model, 2)?;
    }
    model.prefer();
    learn(&mut model, &[0, 2])?;
    fetch(&mut model, 2)?;
    fetch(&mut model, 2)?;
    propose(&mut model, 0)?;
    model.fence(0);
    learn(&mut model, &[1])?;
    model.flight.extend(late);
    arrive(&mut model)
}

/// A fetch of a follower's earlier life arrives when its next life, which lost the record, is in sync.
fn earlier_life() -> Result<(), String> {
    let mut model = begin();
    model.produce(0);
    fetch(&mut model, 2)?;
    model.fetch(2);
    let late: Option<Message> = model.flight.pop();
    model.crash(2, 0);
    model.start(2);
    model.unfence(2);
    learn(&mut model, &[0, 2])?;
    model.fetch(2);
    let asked = model.flight.pop().ok_or("it fetches")?;
    model.deliver(asked)?;
    // The answer, with the record, is lost.
    model.flight.clear();
    propose(&mut model, 0)?;
    fetch(&mut model, 1)?;
    fetch(&mut model, 1)?;
    model.flight.extend(late);
    arrive(&mut model)
}

/// A leader knows from the controller's answer who joined, and then reads of an earlier state.
fn image_after_decision() -> Result<(), String> {
    let mut model = begin();
    model.fence(2);
    model.unfence(2);
    learn(&mut model, &[0, 1, 2])?;
    fetch(&mut model, 2)?;
    model.fence(2);
    model.unfence(2);
    propose(&mut model, 0)?;
    model.produce(0);
    fetch(&mut model, 1)?;
    fetch(&mut model, 1)?;
    model.learn(0, false);
    model.check()
}

#[cfg(test)]
mod tests {
    use super::super::mutations::{Rule, first_broken};
    use super::*;
    use ottla_broker::replicas::ReplicaGuard;

    #[test]
    fn stories_keep_their_promises_and_each_needs_its_condition() {
        ALL.iter().for_each(|story| story().expect("promises are kept"));
        use ReplicaGuard::{EarlierLifeIsNotHeard, FetchNotOlder, FollowersOfThisEpoch, ImageNotOlder};
        for guard in [FollowersOfThisEpoch, FetchNotOlder, EarlierLifeIsNotHeard, ImageNotOlder] {
            assert!(first_broken(Rule::Replica(guard), 0).is_some(), "nobody misses {guard:?}");
        }
    }
}
