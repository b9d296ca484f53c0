//! Every deadline of the coordinator in the order of time. A key has at most one deadline; scheduling again moves it.

use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// What happens at a deadline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TimerKey {
    /// Look for offsets that may go: expired ones and those of deleted topics.
    CleanUp,
    /// The join phase of this group is over, complete or not.
    Join(Arc<str>),
    /// Members of this group that did not ask for their assignment are out.
    Sync(Arc<str>),
    /// The session of this member (group, member id) is over. Also the patience with a member that was told its id.
    Session(Arc<str>, Arc<str>),
    /// The time of a member of a consumer group to give partitions up is over.
    Revocation(Arc<str>, Arc<str>),
    /// A classic member of a consumer group was told to join again and has not.
    ClassicJoin(Arc<str>, Arc<str>),
    /// A classic member of a consumer group joined and has not asked for its assignment.
    ClassicSync(Arc<str>, Arc<str>),
    /// The next step in resolving the regular expressions of this group.
    Resolve(Arc<str>),
}

impl TimerKey {
    /// Group and member, of a timer that takes a member out of a consumer group.
    pub(crate) fn member(&self) -> Option<(&Arc<str>, &Arc<str>)> {
        match self {
            TimerKey::Session(group, member)
            | TimerKey::Revocation(group, member)
            | TimerKey::ClassicJoin(group, member)
            | TimerKey::ClassicSync(group, member) => Some((group, member)),
            TimerKey::CleanUp | TimerKey::Join(_) | TimerKey::Sync(_) | TimerKey::Resolve(_) => None,
        }
    }
}

/// Keys are only ever looked up, so no order of theirs is observed; of those that are due at the same time the first is who was there first.
type ByKey = HashMap<TimerKey, Place, BuildHasherDefault<DefaultHasher>>;

/// Where a deadline stands: when it is, and how many were set before it.
type Place = (i64, u64);

#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    by_key: ByKey,
    by_time: BTreeMap<Place, TimerKey>,
    count: u64,
}

impl Timers {
    pub(crate) fn schedule(&mut self, key: TimerKey, at: i64) {
        let place = (at, self.count);
        match self.by_key.entry(key) {
            Entry::Occupied(entry) if entry.get().0 == at => return,
            Entry::Occupied(mut entry) => {
                let key = self.by_time.remove(&entry.insert(place));
                self.by_time.insert(place, key.expect("each key has one deadline"));
            }
            Entry::Vacant(entry) => {
                self.by_time.insert(place, entry.key().clone());
                entry.insert(place);
            }
        }
        self.count += 1;
    }

    /// Lets a deadline that is set already stand.
    pub(crate) fn schedule_if_absent(&mut self, key: TimerKey, at: i64) {
        if !self.by_key.contains_key(&key) {
            self.schedule(key, at);
        }
    }

    pub(crate) fn cancel(&mut self, key: &TimerKey) {
        if let Some(place) = self.by_key.remove(key) {
            self.by_time.remove(&place);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the earliest timer whose time has come.
    pub(crate) fn pop_due(&mut self, now: i64) -> Option<TimerKey> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        assert_eq!(self.by_key.len(), self.by_time.len(), "each key has one deadline");
        Some(key)
    }

    /// Takes the earliest timer if its time has come and `wanted` says so.
    pub(crate) fn pop_due_if(&mut self, now: i64, wanted: impl Fn(&TimerKey) -> bool) -> Option<TimerKey> {
        let (_, key) = self.by_time.first_key_value()?;
        if wanted(key) { self.pop_due(now) } else { None }
    }

    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
        self.by_time.clear();
    }
}
