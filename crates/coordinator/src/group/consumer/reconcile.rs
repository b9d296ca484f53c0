//! How far one member may follow the target assignment. This is where no partition gets two owners: a member first gives
//! up what it is not to have, and is given a partition only when nobody else holds it.
//!
//! ```text
//!            something to give up                     all given up
//!   Stable ───────────────────────► Unrevoked ───────────────────────► Stable, if everything it lacks is free
//!     ▲  ╲                          (old epoch)                    ╲
//!     │    ╲ nothing to give up, but something is not free           ╲► Unreleased, if something is not
//!     │      ╲───────────────────► Unreleased                           (new epoch)
//!     └── the last of it is free ── (new epoch)
//! ```

use crate::group::consumer::draft::Draft;
use crate::group::consumer::heartbeat::Refusal;
use crate::group::consumer::member::{Owned, Progress, Standing};
use crate::group::consumer::target::{Goal, subscribed_ids};
use crate::group::topics::Topics;
use crate::guards::Guard;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// What the member says it owns; `None` if it did not say.
pub(crate) type Claimed<'c> = Option<&'c [(Uuid, &'c [i32])]>;

/// The standing that the member may have next. `has_new_subscription`: what it subscribes to changed just now.
pub(crate) fn reconcile(
    draft: &Draft<'_>,
    goal: &Goal,
    has_new_subscription: bool,
    claimed: Claimed<'_>,
    topics: &dyn Topics,
) -> Result<Standing, Refusal> {
    let standing = &*draft.member.standing;
    if !has_new_subscription && standing.is_reconciled_to(goal.assignment_epoch) {
        return Ok(standing.clone());
    }
    let step = Step { draft, goal, claimed, topics };
    Ok(match standing.progress {
        Progress::Stable if standing.member_epoch != goal.assignment_epoch => {
            step.follow(standing.member_epoch)
        }
        Progress::Stable => step.unsubscribe(),
        Progress::Unrevoked if step.still_owns(&standing.revoking) => match has_new_subscription {
            true => step.unsubscribe(),
            false => standing.clone(),
        },
        Progress::Unrevoked | Progress::Unreleased => step.follow(standing.member_epoch),
        Progress::Unknown if claimed.is_some_and(|claimed| claimed.is_empty()) => {
            step.follow(goal.assignment_epoch)
        }
        Progress::Unknown => {
            let text = "The consumer group member is in a unknown state. The member must abandon all its partitions \
                        and rejoin.";
            return Err(Refusal::new(ErrorCode::FencedMemberEpoch, text));
        }
    })
}

struct Step<'s> {
    draft: &'s Draft<'s>,
    goal: &'s Goal,
    claimed: Claimed<'s>,
    topics: &'s dyn Topics,
}

impl Step<'_> {
    /// Whether the member may still work on any of these partitions. One that does not say may work on all of them.
    fn still_owns(&self, revoking: &Owned) -> bool {
        if !Guard::RevocationIsConfirmed.stands() {
            return false;
        }
        let Some(claimed) = self.claimed else { return true };
        claimed.iter().any(|(topic, partitions)| {
            revoking.get(topic).is_some_and(|revoking| partitions.iter().any(|p| revoking.contains_key(p)))
        })
    }

    /// Takes away what the member does not subscribe to any more, and changes nothing else.
    fn unsubscribe(&self) -> Standing {
        let standing = &*self.draft.member.standing;
        let subscribed = subscribed_ids(self.draft, &self.draft.member, self.topics);
        let (assigned, unwanted): (Owned, Owned) =
            standing.assigned.clone().into_iter().partition(|(topic, _)| subscribed.contains(topic));
        if unwanted.is_empty() {
            return standing.clone();
        }
        let mut revoking = standing.revoking.clone();
        for (topic, partitions) in unwanted {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let next = Standing { previous_member_epoch: standing.member_epoch, assigned, ..standing.clone() };
        match self.still_owns(&revoking) {
            true => Standing { progress: Progress::Unrevoked, revoking, ..next },
            false => next,
        }
    }

    /// Goes as far toward the goal as the others allow.
    fn follow(&self, member_epoch: i32) -> Standing {
        let standing = &*self.draft.member.standing;
        let subscribed = subscribed_ids(self.draft, &self.draft.member, self.topics);
        let nothing = BTreeSet::new();
        let target_of = |topic: &Uuid| match subscribed.contains(topic) {
            true => self.goal.target.get(topic).unwrap_or(&nothing),
            false => &nothing,
        };
        let (mut assigned, mut revoking) = (Owned::new(), Owned::new());
        for (topic, partitions) in &standing.assigned {
            let target = target_of(topic);
            let (kept, lost): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
                partitions.iter().partition(|(partition, _)| target.contains(*partition));
            if !kept.is_empty() {
                assigned.insert(*topic, kept);
            }
            if !lost.is_empty() {
                revoking.insert(*topic, lost);
            }
        }
        if !revoking.is_empty() && self.still_owns(&revoking) {
            return Standing {
                member_epoch,
                previous_member_epoch: standing.member_epoch,
                progress: Progress::Unrevoked,
                assigned,
                revoking,
            };
        }
        let since = self.goal.assignment_epoch;
        let mut progress = Progress::Stable;
        for topic in self.goal.target.keys() {
            for partition in target_of(topic) {
                if assigned.get(topic).is_some_and(|kept| kept.contains_key(partition)) {
                    continue;
                }
                if self.draft.is_free(*topic, *partition) || !Guard::AssignmentWaitsForOwner.stands() {
                    assigned.entry(*topic).or_default().insert(*partition, since);
                } else {
                    progress = Progress::Unreleased;
                }
            }
        }
        Standing {
            member_epoch: since,
            previous_member_epoch: standing.member_epoch,
            progress,
            assigned,
            revoking: Owned::new(),
        }
    }
}
