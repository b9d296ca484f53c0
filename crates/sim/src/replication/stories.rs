//! Rare stories, told on purpose: each breaks a promise if one condition is missing, and lots tell it too seldom to wait for.

use super::story::{Story, Told};

/// Every story.
pub(super) const ALL: [fn() -> Told; 10] = [
    || led_between(false),
    || led_between(true),
    later_epoch,
    same_epoch,
    earlier_life,
    image_after_decision,
    gone_before_it_joins,
    eligible_and_preferred,
    elected_from_nobody,
    last_leader_comes_first,
];

/// Node 1 leads, everybody is in sync, and node 2 has a record of node 1 that node 0, which is preferred, has not.
fn second_leads_with_a_record() -> Result<Story, String> {
    let mut story = Story::begin();
    story.blinks(0)?;
    story.learns(&[0, 1, 2])?;
    story.fetches(0)?;
    story.proposes(1)?;
    story.blinks(2)?;
    story.learns(&[0, 1, 2])?;
    story.produces(1)?;
    story.fetches(2)?;
    Ok(story)
}

/// A leader leads again, and did not see that another one led in between, to whom a follower cut off what it had. What the follower said
/// before counts no more: neither what is remembered of it, nor a fetch of then that arrives now.
fn led_between(has_late_fetch: bool) -> Told {
    let mut story = second_leads_with_a_record()?;
    let mut late = None;
    if has_late_fetch {
        late = Some(story.fetch_is_held_back(2));
    } else {
        story.fetches(2)?;
    }
    story.is_preferred()?;
    story.learns(&[0, 2])?;
    story.fetches(2)?;
    story.fetches(2)?;
    story.proposes(0)?;
    story.is_fenced(0)?;
    story.learns(&[1])?;
    late.map_or(Ok(()), |late| story.arrives_late(late))
}

/// The same again, and the follower that cut off its record is not heard of any more; but who led in between is, as a follower in the new
/// epoch, by a leader that does not know of that yet. A record that one who is in sync has not would be committed.
fn later_epoch() -> Told {
    let mut story = second_leads_with_a_record()?;
    story.fetches(2)?;
    story.is_preferred()?;
    story.learns(&[0, 2])?;
    story.fetches(2)?;
    story.fetches(2)?;
    story.proposes(0)?;
    // Its log has nothing of the epoch in which it led, so that nothing else tells that there was one.
    story.dies_and_returns(0)?;
    story.is_unfenced(0)?;
    story.learns(&[0, 2])?;
    story.fetches(0)?;
    story.fetches(0)
}

/// A leader proposes somebody who is accepted, does not hear of it, and then reads of a state of the same leader epoch. The one who joined
/// counts nevertheless.
fn same_epoch() -> Told {
    let mut story = Story::begin();
    story.blinks(2)?;
    story.learns(&[0, 1, 2])?;
    story.fetches(2)?;
    // The partition stays as it is.
    story.blinks(2)?;
    story.proposes_unheard(0)?;
    story.learns_next(0)?;
    story.produces(0)?;
    story.fetches(1)?;
    story.fetches(1)
}

/// A fetch of a follower's earlier life arrives when its next life, which lost the record, is in sync.
fn earlier_life() -> Told {
    let mut story = Story::begin();
    story.produces(0)?;
    story.fetches(2)?;
    let late = story.fetch_is_held_back(2);
    story.loses_everything(2)?;
    story.is_unfenced(2)?;
    story.learns(&[0, 2])?;
    story.fetches_in_vain(2)?;
    story.proposes(0)?;
    story.fetches(1)?;
    story.fetches(1)?;
    story.arrives_late(late)
}

/// A leader knows from the controller's answer who joined, and then reads of an earlier state.
fn image_after_decision() -> Told {
    let mut story = Story::begin();
    story.blinks(2)?;
    story.learns(&[0, 1, 2])?;
    story.fetches(2)?;
    story.blinks(2)?;
    story.proposes(0)?;
    story.produces(0)?;
    story.fetches(1)?;
    story.fetches(1)?;
    story.learns_next(0)
}

/// A follower has caught up, and is gone when its leader proposes that it joins.
fn gone_before_it_joins() -> Told {
    let mut story = Story::begin();
    story.blinks(2)?;
    story.learns(&[0, 1, 2])?;
    story.fetches(2)?;
    story.is_fenced(2)?;
    story.proposes(0)
}

/// The preferred replica is eligible, and alive, and another one is in sync: that one would be forgotten if it had to go.
fn eligible_and_preferred() -> Told {
    let mut story = Story::begin();
    story.is_fenced(2)?;
    story.blinks(0)?;
    story.is_preferred()
}

/// Nobody is in sync, and one of those who are eligible comes back. The others are still away.
fn elected_from_nobody() -> Told {
    let mut story = Story::begin();
    for at in [2, 1, 0] {
        story.is_fenced(at)?;
    }
    story.is_unfenced(1)
}

/// The last leader comes back without what it had, before the one who is eligible does.
fn last_leader_comes_first() -> Told {
    let mut story = Story::begin();
    story.produces(0)?;
    for at in [2, 1, 0] {
        story.is_fenced(at)?;
    }
    story.loses_everything(0)?;
    story.is_unfenced(0)
}

#[cfg(test)]
mod tests {
    use super::super::mutations::{Rule, first_broken};
    use super::*;
    use ottla_broker::replicas::ReplicaGuard;
    use ottla_controller::Guard;

    #[test]
    fn stories_keep_their_promises_and_each_needs_its_condition() {
        ALL.iter().for_each(|story| story().expect("promises are kept"));
        let replica = |guard, broken| (Rule::Replica(guard), broken);
        let controller = |guard, broken| (Rule::Controller(guard), broken);
        for (rule, promise) in [
            replica(ReplicaGuard::FollowersOfThisEpoch, "I4"),
            replica(ReplicaGuard::FetchNotOlder, "I4"),
            replica(ReplicaGuard::FetchNotNewer, "I4"),
            replica(ReplicaGuard::LeaderEpochNewer, "I4"),
            replica(ReplicaGuard::EarlierLifeIsNotHeard, "I4"),
            replica(ReplicaGuard::ImageNotOlder, "I4"),
            controller(Guard::MemberIsActive, "KIP-841"),
            controller(Guard::FencedLeavesIsr, "KIP-841"),
            controller(Guard::ElectedFromEligibleIsAlone, "KIP-841"),
            controller(Guard::EligibleWhenIsrIsEmpty, "KIP-966"),
            controller(Guard::LastLeaderIsLastResort, "KIP-966"),
        ] {
            let (_, broken) = first_broken(rule, 0).unwrap_or_else(|| panic!("nobody misses {rule:?}"));
            assert!(broken.contains(promise), "{rule:?}: {broken}");
        }
    }
}
