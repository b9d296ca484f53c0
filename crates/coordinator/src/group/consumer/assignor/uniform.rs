//! The uniform assignor where all members subscribe to the same topics: everybody gets a quota, keeps of what it has as
//! much as fits in, and is filled up from what is left.

use super::{Spec, give};
use crate::group::consumer::member::Target;
use std::collections::BTreeSet;

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Target> {
    let members = spec.members.len();
    let topics = &spec.members[0].topics;
    let total: usize = topics.iter().map(|topic| spec.partition_counts[topic] as usize).sum();
    let quota_min = total / members;
    // So many members get one more than the others.
    let mut extras = total % members;

    let mut taken = BTreeSet::new();
    let mut targets = vec![Target::new(); members];
    let mut unfilled = Vec::new();
    for (index, member) in spec.members.iter().enumerate() {
        let mut has_extra = extras > 0;
        let mut quota = quota_min + usize::from(has_extra);
        for (topic, partition) in member.kept(spec) {
            if quota > 0 && taken.insert((topic, partition)) {
                give(&mut targets[index], topic, partition);
                quota -= 1;
            }
        }
        if quota > 0 && has_extra && members - index > extras {
            // Does not need its extra to keep what it has: somebody else may, and enough members are left to take it.
            has_extra = false;
            quota -= 1;
        }
        extras -= usize::from(has_extra);
        if quota > 0 {
            unfilled.push((index, quota));
        }
    }

    let all = topics.iter().flat_map(|topic| (0..spec.partition_counts[topic]).map(move |p| (*topic, p)));
    let mut free = all.filter(|partition| !taken.contains(partition));
    for (index, quota) in unfilled {
        for (topic, partition) in free.by_ref().take(quota) {
            give(&mut targets[index], topic, partition);
        }
    }
    assert!(free.next().is_none(), "the quotas add up to all partitions");
    targets
}
