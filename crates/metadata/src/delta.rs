//! The `Delta`: what a batch of records changed, as a broker needs it in order to act.
//!
//! The tricky idea: a delta speaks of before and after the whole batch, not of steps. A partition that changed three
//! times is there once, with its first old and its last new state; a topic that came and went leaves no trace.

use crate::broker::{Broker, ControllerNode};
use crate::image::Image;
use crate::quota::QuotaEntity;
use crate::resource::Resource;
use crate::security::ScramUser;
use crate::topic::{Partition, Topic};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What became different between two images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// Topics that did not exist before.
    pub topics_created: BTreeSet<TopicId>,
    /// Topics that exist no more, as they were before.
    pub topics_deleted: BTreeMap<TopicId, Arc<Topic>>,
    /// Partitions that are new or changed. Those of deleted topics are not here.
    pub partitions: BTreeMap<(TopicId, PartitionId), PartitionChange>,
    /// Resources whose configuration was written, even if to the same values: brokers re-read files then
    /// (KAFKA-14136).
    pub configs: BTreeSet<Resource>,
    /// Brokers that registered, changed or left.
    pub brokers: BTreeMap<NodeId, Change<Broker>>,
    /// Controllers that registered, changed or left.
    pub controllers: BTreeMap<NodeId, Change<ControllerNode>>,
    /// Features by name: level before and after.
    pub features: BTreeMap<Arc<str>, (i16, i16)>,
    /// Entities whose quotas changed.
    pub quotas: BTreeSet<QuotaEntity>,
    /// Access control entries that came or went.
    pub acls: BTreeSet<Uuid>,
    /// Users whose credentials changed.
    pub scram: BTreeSet<ScramUser>,
    /// Delegation tokens that came, changed or went.
    pub tokens: BTreeSet<Arc<str>>,
}

/// Something that is registered: before (`None`: it is new) and after (`None`: it is gone).
#[derive(Debug, Clone, PartialEq)]
pub struct Change<T> {
    /// Before the batch.
    pub old: Option<Arc<T>>,
    /// After the batch.
    pub new: Option<Arc<T>>,
}

/// A partition before (`None`: it is new) and after the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionChange {
    /// The topic's name, which logs and old requests go by.
    pub topic_name: Arc<str>,
    /// Before the batch.
    pub old: Option<Arc<Partition>>,
    /// After the batch.
    pub new: Arc<Partition>,
}

impl PartitionChange {
    /// Whether there was an election: the leader epoch is a new one.
    pub fn leader_changed(&self) -> bool {
        self.old.as_ref().is_none_or(|old| old.leader_epoch != self.new.leader_epoch)
    }
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// The difference between two images that were not reached from one another by replay: a snapshot was loaded.
    /// Costs a walk over both; what they share is recognised by pointer.
    pub fn between(old: &Image, new: &Image) -> Delta {
        let mut delta = Delta::default();
        delta.diff_topics(old, new);
        diff(&old.brokers, &new.brokers, same_arc, |id, old, new| {
            delta.brokers.insert(*id, Change { old: old.cloned(), new: new.cloned() });
        });
        diff(&old.controllers, &new.controllers, same_arc, |id, old, new| {
            delta.controllers.insert(*id, Change { old: old.cloned(), new: new.cloned() });
        });
        diff(&old.features, &new.features, PartialEq::eq, |name, old, new| {
            let level = |side: Option<&i16>| side.copied().unwrap_or(0);
            delta.features.insert(name.clone(), (level(old), level(new)));
        });
        let kinds: BTreeSet<_> = old.configs.keys().chain(new.configs.keys()).copied().collect();
        let none = imbl::OrdMap::new();
        for kind in kinds {
            let (old, new) =
                (old.configs.get(&kind).unwrap_or(&none), new.configs.get(&kind).unwrap_or(&none));
            diff(old, new, same_arc, |name, _, _| {
                delta.configs.insert(Resource { kind, name: name.clone() });
            });
        }
        diff(&old.quotas, &new.quotas, same_arc, |entity, _, _| {
            delta.quotas.insert(entity.clone());
        });
        diff(&old.acls, &new.acls, same_arc, |id, _, _| {
            delta.acls.insert(*id);
        });
        diff(&old.scram, &new.scram, same_arc, |user, _, _| {
            delta.scram.insert(user.clone());
        });
        diff(&old.tokens, &new.tokens, same_arc, |id, _, _| {
            delta.tokens.insert(id.clone());
        });
        delta
    }

    fn diff_topics(&mut self, old: &Image, new: &Image) {
        diff(&old.topics, &new.topics, same_arc, |id, old, new| match (old, new) {
            (Some(old), None) => {
                self.topics_deleted.insert(*id, old.clone());
            }
            (old, Some(new)) => {
                if old.is_none() {
                    self.topics_created.insert(*id);
                }
                for (partition, after) in new.partitions.iter() {
                    let before = old.and_then(|topic| topic.partitions.get(partition));
                    if before.is_none_or(|before| !same_arc(before, after)) {
                        self.partition_changed(new, *partition, before.cloned(), after.clone());
                    }
                }
            }
            (None, None) => {}
        });
    }

    pub(crate) fn topic_created(&mut self, id: TopicId) {
        self.topics_created.insert(id);
    }

    pub(crate) fn topic_deleted(&mut self, topic: &Arc<Topic>) {
        let range = (topic.id, PartitionId(i32::MIN))..=(topic.id, PartitionId(i32::MAX));
        let changed: Vec<_> =
            self.partitions.range(range).map(|(key, change)| (*key, change.old.clone())).collect();
        // The topic as it was before the batch: without the partitions that the batch added or changed.
        let mut before = Topic::clone(topic);
        for (key, old) in changed {
            self.partitions.remove(&key);
            match old {
                Some(old) => before.partitions.insert(key.1, old),
                None => before.partitions.remove(&key.1),
            };
        }
        if !self.topics_created.remove(&topic.id) {
            self.topics_deleted.insert(topic.id, Arc::new(before));
        }
    }

    pub(crate) fn partition_changed(
        &mut self,
        topic: &Topic,
        partition: PartitionId,
        old: Option<Arc<Partition>>,
        new: Arc<Partition>,
    ) {
        let change = self.partitions.entry((topic.id, partition)).or_insert_with(|| PartitionChange {
            topic_name: topic.name.clone(),
            old,
            new: new.clone(),
        });
        change.new = new;
    }

    pub(crate) fn broker_changed(&mut self, id: NodeId, old: Option<Arc<Broker>>, new: Option<Arc<Broker>>) {
        changed(&mut self.brokers, id, old, new);
    }

    pub(crate) fn controller_changed(
        &mut self,
        id: NodeId,
        old: Option<Arc<ControllerNode>>,
        new: Option<Arc<ControllerNode>>,
    ) {
        changed(&mut self.controllers, id, old, new);
    }

    pub(crate) fn feature_changed(&mut self, name: &Arc<str>, old: i16, new: i16) {
        let first = self.features.get(name).map_or(old, |(first, _)| *first);
        if first == new {
            self.features.remove(name);
        } else {
            self.features.insert(name.clone(), (first, new));
        }
    }
}

fn changed<T>(
    changes: &mut BTreeMap<NodeId, Change<T>>,
    id: NodeId,
    old: Option<Arc<T>>,
    new: Option<Arc<T>>,
) {
    let change = changes.entry(id).or_insert_with(|| Change { old, new: None });
    change.new = new;
    if change.old.is_none() && change.new.is_none() {
        changes.remove(&id);
    }
}

fn same_arc<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// Walks two ordered maps side by side and reports the keys whose values differ.
fn diff<'a, K: Ord + Clone, V: Clone>(
    old: &'a imbl::OrdMap<K, V>,
    new: &'a imbl::OrdMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
    mut report: impl FnMut(&'a K, Option<&'a V>, Option<&'a V>),
) {
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        match order {
            std::cmp::Ordering::Less => {
                left.next().into_iter().for_each(|(key, value)| report(key, Some(value), None))
            }
            std::cmp::Ordering::Greater => {
                right.next().into_iter().for_each(|(key, value)| report(key, None, Some(value)));
            }
            std::cmp::Ordering::Equal => {
                if let (Some((key, before)), Some((_, after))) = (left.next(), right.next())
                    && !same(before, after)
                {
                    report(key, Some(before), Some(after));
                }
            }
        }
    }
}
