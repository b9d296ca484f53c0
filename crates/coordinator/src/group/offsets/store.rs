//! The committed offsets of all groups on this partition, and those of transactions that are still open.
//!
//! Millions of offsets are kept here, so an offset is 64 bytes beside its partition number: what few offsets have (a note,
//! an expiry of its own) sits behind one pointer, partitions of a topic are a sorted vector, names of topics are shared.

use crate::guards::Guard;
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was committed for one partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Committed {
    pub offset: i64,
    pub commit_timestamp: i64,
    /// Where in `__consumer_offsets` the commit is: of two commits the later in the log wins, whatever the order in
    /// which transactions end. -1 while it is not in the log.
    pub record_offset: i64,
    pub topic_id: Uuid,
    pub leader_epoch: i32,
    extra: Option<Box<Extra>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Extra {
    metadata: Box<str>,
    expire_timestamp: Option<i64>,
}

impl Committed {
    pub(crate) fn new(offset: i64, leader_epoch: i32, commit_timestamp: i64, topic_id: Uuid) -> Committed {
        Committed { offset, commit_timestamp, record_offset: -1, topic_id, leader_epoch, extra: None }
    }

    pub(crate) fn with_extra(mut self, metadata: &str, expire_timestamp: Option<i64>) -> Committed {
        self.extra = (!metadata.is_empty() || expire_timestamp.is_some())
            .then(|| Box::new(Extra { metadata: metadata.into(), expire_timestamp }));
        self
    }

    pub(crate) fn metadata(&self) -> &str {
        self.extra.as_ref().map_or("", |extra| &extra.metadata)
    }

    pub(crate) fn expire_timestamp(&self) -> Option<i64> {
        self.extra.as_ref()?.expire_timestamp
    }
}

/// The offsets of one topic in one group, sorted by partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partitions(Vec<(i32, Committed)>);

impl Partitions {
    fn position(&self, partition: i32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&partition, |(index, _)| *index)
    }

    pub(crate) fn get(&self, partition: i32) -> Option<&Committed> {
        self.position(partition).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, &Committed)> {
        self.0.iter().map(|(partition, committed)| (*partition, committed))
    }

    fn insert(&mut self, partition: i32, committed: Committed) -> bool {
        match self.position(partition) {
            Ok(at) => {
                self.0[at].1 = committed;
                false
            }
            Err(at) => {
                // Most topics of most groups have few partitions: grow by half, not by doubling from four.
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(self.0.len() / 2 + 1);
                }
                self.0.insert(at, (partition, committed));
                true
            }
        }
    }
}

pub(crate) type Topics = BTreeMap<Arc<str>, Partitions>;

#[derive(Debug, Clone, Default)]
pub(crate) struct OffsetMap {
    groups: BTreeMap<Arc<str>, Topics>,
    /// Every topic name once, however many groups consume it.
    names: BTreeSet<Arc<str>>,
    count: usize,
}

impl OffsetMap {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn group(&self, group: &str) -> Option<&Topics> {
        self.groups.get(group)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Topics)> {
        self.groups.iter()
    }

    pub(crate) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.get(topic)?.get(partition)
    }

    fn insert(&mut self, group: &str, topic: &str, partition: i32, committed: Committed) {
        let topics = match self.groups.get_mut(group) {
            Some(topics) => topics,
            None => self.groups.entry(Arc::from(group)).or_default(),
        };
        let partitions = match topics.get_mut(topic) {
            Some(partitions) => partitions,
            None => {
                let name = self.names.get(topic).cloned().unwrap_or_else(|| Arc::from(topic));
                self.names.insert(name.clone());
                topics.entry(name).or_default()
            }
        };
        self.count += usize::from(partitions.insert(partition, committed));
    }

    fn remove(&mut self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        let topics = self.groups.get_mut(group)?;
        let partitions = topics.get_mut(topic)?;
        let at = partitions.position(partition).ok()?;
        let (_, committed) = partitions.0.remove(at);
        self.count -= 1;
        if partitions.0.is_empty() {
            let (name, _) = topics.remove_entry(topic).expect("it was just there");
            // Ours and the one in the set: nobody else uses the name.
            if Arc::strong_count(&name) == 2 {
                self.names.remove(&name);
            }
            if topics.is_empty() {
                self.groups.remove(group);
            }
        }
        Some(committed)
    }
}

/// Partition → producers with an open transaction on it.
type OpenPartitions = BTreeMap<i32, BTreeSet<i64>>;

/// Committed offsets, and pending ones of open transactions. Changes only by replay.
#[derive(Debug, Clone, Default)]
pub(crate) struct OffsetStore {
    pub committed: OffsetMap,
    pending: BTreeMap<i64, OffsetMap>,
    /// Group → topic → partition → producers with an open transaction on it. No level is ever empty.
    open: BTreeMap<Arc<str>, BTreeMap<Arc<str>, OpenPartitions>>,
}

impl OffsetStore {
    pub(crate) fn put(&mut self, group: &str, topic: &str, partition: i32, committed: Committed) {
        self.committed.insert(group, topic, partition, committed);
    }

    pub(crate) fn put_pending(
        &mut self,
        producer: i64,
        group: &str,
        topic: &str,
        partition: i32,
        c: Committed,
    ) {
        self.pending.entry(producer).or_default().insert(group, topic, partition, c);
        let topics = self.open.entry(Arc::from(group)).or_default();
        let partitions = topics.entry(Arc::from(topic)).or_default();
        partitions.entry(partition).or_default().insert(producer);
    }

    /// A tombstone removes the offset and what open transactions wanted to put there.
    pub(crate) fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        self.committed.remove(group, topic, partition);
        let producers =
            self.open.get(group).and_then(|t| t.get(topic)).and_then(|p| p.get(&partition)).cloned();
        for producer in producers.into_iter().flatten() {
            if let Some(pending) = self.pending.get_mut(&producer) {
                pending.remove(group, topic, partition);
            }
            self.close(group, topic, partition, producer);
        }
    }

    /// The transaction of a producer is over. Commit or abort, nothing of it is pending any more.
    pub(crate) fn end_transaction(&mut self, producer: i64, commit: bool) {
        let Some(pending) = self.pending.remove(&producer) else { return };
        for (group, topics) in pending.groups {
            for (topic, partitions) in topics {
                for (partition, committed) in partitions.0 {
                    self.close(&group, &topic, partition, producer);
                    let current = self.committed.get(&group, &topic, partition);
                    let is_newer =
                        current.is_none_or(|current| committed.record_offset > current.record_offset);
                    let is_newer = is_newer || !Guard::LaterCommitWins.stands();
                    if (commit || !Guard::AbortDropsOffsets.stands()) && is_newer {
                        self.committed.insert(&group, &topic, partition, committed);
                    }
                }
            }
        }
    }

    fn close(&mut self, group: &str, topic: &str, partition: i32, producer: i64) {
        let Some(topics) = self.open.get_mut(group) else { return };
        let Some(partitions) = topics.get_mut(topic) else { return };
        let Some(producers) = partitions.get_mut(&partition) else { return };
        producers.remove(&producer);
        if producers.is_empty() {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.open.remove(group);
        }
    }

    pub(crate) fn is_pending(&self, group: &str, topic: &str, partition: i32) -> bool {
        let partitions = self.open.get(group).and_then(|topics| topics.get(topic));
        partitions.is_some_and(|partitions| partitions.contains_key(&partition))
    }

    pub(crate) fn has_pending(&self, group: &str) -> bool {
        self.open.contains_key(group)
    }

    /// Partitions of a group on which a transaction is open.
    pub(crate) fn pending_of(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let topics = self.open.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (topic, *partition)))
    }

    /// Everything pending, by producer.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (i64, &OffsetMap)> {
        self.pending.iter().map(|(producer, offsets)| (*producer, offsets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64, record_offset: i64) -> Committed {
        let mut committed = Committed::new(offset, 0, 0, Uuid::ZERO);
        committed.record_offset = record_offset;
        committed
    }

    #[test]
    fn an_offset_is_small_and_names_are_shared_and_released() {
        assert!(size_of::<(i32, Committed)>() <= 72, "{}", size_of::<(i32, Committed)>());
        let mut store = OffsetStore::default();
        for group in ["g1", "g2"] {
            for partition in [2, 0, 1] {
                store.put(group, "t", partition, at(partition.into(), 0));
            }
        }
        assert_eq!((store.committed.count(), store.committed.names.len()), (6, 1));
        let order: Vec<_> = store.committed.group("g1").unwrap()["t"].iter().map(|(p, _)| p).collect();
        assert_eq!(order, [0, 1, 2]);
        for group in ["g1", "g2"] {
            for partition in 0..3 {
                store.remove(group, "t", partition);
            }
        }
        assert_eq!(store.committed.count(), 0);
        assert!(store.committed.groups.is_empty() && store.committed.names.is_empty());
    }

    #[test]
    fn of_two_commits_the_later_in_the_log_wins() {
        let mut store = OffsetStore::default();
        store.put_pending(1, "g", "t", 0, at(10, 5));
        store.put("g", "t", 0, at(20, 6));
        assert!(store.is_pending("g", "t", 0) && store.has_pending("g"));
        store.end_transaction(1, true);
        assert_eq!(store.committed.get("g", "t", 0).unwrap().offset, 20);
        store.put_pending(2, "g", "t", 0, at(30, 7));
        store.put_pending(3, "g", "t", 0, at(40, 8));
        store.end_transaction(3, false);
        assert!(store.is_pending("g", "t", 0));
        store.end_transaction(2, true);
        assert!(!store.has_pending("g"));
        assert_eq!(store.committed.get("g", "t", 0).unwrap().offset, 30);
    }

    #[test]
    fn a_tombstone_takes_pending_offsets_with_it() {
        let mut store = OffsetStore::default();
        store.put("g", "t", 0, at(1, 1));
        store.put_pending(1, "g", "t", 0, at(10, 5));
        store.remove("g", "t", 0);
        assert!(!store.has_pending("g"));
        store.end_transaction(1, true);
        assert_eq!(store.committed.count(), 0);
    }
}
