//! What the committed offsets must be, told from what was acknowledged.
//!
//! The coordinator moves offsets from pending to committed as markers come by. The ledger keeps the history instead, and asks of every
//! partition: which is the latest commit in the log, behind the last deletion, that is plain or whose transaction committed? So the one
//! finds the mistakes of the other. A commit that was refused or could not be written is not in the ledger: if anybody sees it, that is
//! a broken promise, and so is an offset that is gone without a deletion in the ledger.

use crate::rig::Rig;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// Group, topic, partition.
pub type Key = (String, String, i32);

/// A commit that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub offset: i64,
    pub committed_at: i64,
    pub topic_id: Uuid,
}

#[derive(Debug, Clone)]
enum Entry {
    /// With a producer: it counts when the producer's next marker says commit.
    Commit {
        key: Key,
        kept: Kept,
        producer: Option<i64>,
    },
    Marker {
        producer: i64,
        commit: bool,
    },
    Deletion {
        key: Key,
    },
}

/// The history, in the order of the log.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    /// Those of the offsets whose answer is no error.
    pub fn commit(
        &mut self,
        rig: &Rig,
        group: &str,
        offsets: &[(&str, i32, i64)],
        answers: &[ErrorCode],
        producer: Option<i64>,
    ) {
        for ((topic, partition, offset), answer) in offsets.iter().zip(answers) {
            if *answer == ErrorCode::None {
                let key = (group.to_string(), topic.to_string(), *partition);
                let topic_id = rig.cluster.topics[*topic].0;
                let kept = Kept { offset: *offset, committed_at: rig.now, topic_id };
                self.entries.push(Entry::Commit { key, kept, producer });
            }
        }
    }

    pub fn marker(&mut self, producer: i64, commit: bool) {
        self.entries.push(Entry::Marker { producer, commit });
    }

    pub fn deletion(&mut self, key: &Key) {
        self.entries.push(Entry::Deletion { key: key.clone() });
    }

    /// The group is deleted, and with it whatever it has or may get.
    pub fn group_deletion(&mut self, group: &str) {
        let keys: BTreeSet<Key> = self.keys().filter(|key| key.0 == group).cloned().collect();
        keys.iter().for_each(|key| self.deletion(key));
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Commit { key, .. } => Some(key),
            Entry::Marker { .. } | Entry::Deletion { .. } => None,
        })
    }

    /// What the commits behind each partition's last deletion came to, in the order of the log: `None` is not decided yet. Read from
    /// the end, where the later is known before the earlier.
    fn commits(&self) -> Vec<(&Key, Kept, Option<bool>)> {
        let mut deleted = BTreeSet::new();
        let mut ended = BTreeMap::new();
        let mut commits = Vec::new();
        for entry in self.entries.iter().rev() {
            match entry {
                Entry::Deletion { key } => drop(deleted.insert(key)),
                Entry::Marker { producer, commit } => drop(ended.insert(*producer, *commit)),
                Entry::Commit { key, .. } if deleted.contains(key) => {}
                Entry::Commit { key, kept, producer } => {
                    let counts = producer.map_or(Some(true), |producer| ended.get(&producer).copied());
                    commits.push((key, *kept, counts));
                }
            }
        }
        commits.reverse();
        commits
    }

    /// What has to be seen.
    pub fn visible(&self) -> BTreeMap<Key, Kept> {
        let counting = self.commits().into_iter().filter(|(.., counts)| *counts == Some(true));
        counting.map(|(key, kept, _)| (key.clone(), kept)).collect()
    }

    /// Where a transaction is open.
    pub fn pending(&self) -> BTreeSet<Key> {
        let open = self.commits().into_iter().filter(|(.., counts)| counts.is_none());
        open.map(|(key, ..)| key.clone()).collect()
    }

    /// What the coordinator does not show any more. Whether it may be gone, others have to say.
    pub fn missing(&self, rig: &Rig) -> Vec<(Key, Kept)> {
        let shown = self.shown(rig);
        self.visible().into_iter().filter(|(key, _)| !shown.contains_key(key)).collect()
    }

    fn shown(&self, rig: &Rig) -> BTreeMap<Key, i64> {
        let groups: BTreeSet<&str> = self.keys().map(|(group, ..)| group.as_str()).collect();
        let mut shown = BTreeMap::new();
        for group in groups {
            for (topic, partition, offset, answer) in rig.fetch(group, false) {
                assert_eq!(answer, ErrorCode::None, "{group} {topic}-{partition} can be read");
                shown.insert((group.to_string(), topic, partition), offset);
            }
        }
        shown
    }

    /// The coordinator shows what it has to, and nothing else; and it says where a transaction is open.
    pub fn check(&self, rig: &Rig) {
        let mut shown = self.shown(rig);
        for ((group, topic, partition), kept) in self.visible() {
            let shown = shown.remove(&(group.clone(), topic.clone(), partition));
            let offset = kept.offset;
            assert_eq!(shown, Some(offset), "{group} {topic}-{partition} is at {offset}, not as shown");
        }
        assert!(shown.is_empty(), "nobody committed, or it was deleted: {shown:?}");
        let pending = self.pending();
        let keys: BTreeSet<&Key> = self.keys().collect();
        for key in keys {
            let (group, topic, partition) = key;
            let is_unstable = rig.is_unstable(group, topic, *partition);
            assert_eq!(is_unstable, pending.contains(key), "{group} {topic}-{partition}: is it stable?");
        }
    }
}
