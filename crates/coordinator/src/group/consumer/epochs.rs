//! When a group needs another epoch: a subscription or the preferred assignor changed, or the topics did.

use crate::group::consumer::draft::Draft;
use crate::group::consumer::group::Subscriptions;
use crate::group::consumer::records;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The group epoch after this one.
pub(crate) fn next(group_epoch: i32) -> i32 {
    group_epoch.checked_add(1).expect("a group does not live to see two thousand million rebalances")
}

/// Puts the group at its next epoch if `is_needed`, or if the topics that it subscribes to look different.
pub(crate) fn advance(draft: &mut Draft<'_>, is_needed: bool, metadata_hash: i64) {
    if is_needed || metadata_hash != draft.group.metadata_hash {
        draft.group_epoch = next(draft.group_epoch);
        draft.records.push(records::group_epoch(&draft.group.id, draft.group_epoch, metadata_hash));
    }
    if draft.group.has_partition_metadata {
        draft.records.push(records::partition_metadata_tombstone(&draft.group.id));
    }
}

/// The assignor that most members ask for; of equals the first by name.
pub(crate) fn preferred_assignor(counts: &BTreeMap<Arc<str>, usize>) -> Option<&Arc<str>> {
    let most = counts.values().max()?;
    counts.iter().find(|(_, count)| *count == most).map(|(name, _)| name)
}

/// How many members ask for each assignor, once this one has its way.
pub(crate) fn assignors_with(draft: &Draft<'_>) -> BTreeMap<Arc<str>, usize> {
    let mut counts = draft.group.assignors().clone();
    if draft.before.profile.assignor != draft.member.profile.assignor {
        if let Some(old) = &draft.before.profile.assignor
            && let Some(count) = counts.get_mut(old)
        {
            *count -= 1;
        }
        if let Some(new) = &draft.member.profile.assignor {
            *counts.entry(new.clone()).or_default() += 1;
        }
        counts.retain(|_, count| *count > 0);
    }
    counts
}

/// Whether all members subscribe to the same topics, so that the simpler assignment will do.
pub(crate) fn is_homogeneous(
    regexes: &BTreeMap<Arc<str>, usize>,
    subscriptions: &Subscriptions,
    member_count: usize,
) -> bool {
    match regexes.values().next() {
        None => subscriptions.values().all(|count| count.by_name == member_count),
        Some(subscribers) => {
            *subscribers == member_count
                && subscriptions.values().all(|count| count.by_regex == 1 && count.by_name == 0)
        }
    }
}
