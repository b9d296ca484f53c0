//! Acting on what was committed: topics come and go, leaders change, configurations change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_coordinator::{Coordinator, GroupCoordinator, Outcome, TransactionCoordinator, TransactionVersion};
use ottla_metadata::config::{Durability, NoteKind, TopicConfig};
use ottla_metadata::features::TRANSACTION_VERSION;
use ottla_metadata::topic_name::{self, CONSUMER_OFFSETS, TRANSACTION_STATE};
use ottla_metadata::{Delta, Image, Partition as Described, PartitionChange, ResourceType};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, TopicId};
use ottla_storage::PartitionDirKind;

use crate::Broker;
use crate::coordination::Coordinators;
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::open::{group_config, transaction_config};
use crate::partition::{Abandoned, Partition, Topic};
use crate::topics::TopicPartitions;
use crate::upkeep::Doomed;

impl Broker {
    /// Makes this node what `image` says, given what changed. The new image is visible to requests when this returns, and everything
    /// that it speaks of is served by then.
    pub(crate) fn apply(&self, image: &Image, delta: &Delta, now: Millis, out: &mut Effects) {
        let reconfigured = self.reconfigure(image, delta, now, out);
        if !self.config.roles.broker {
            self.image.store(Arc::new(image.clone()));
            return self.serve_if_unfenced(image, out);
        }
        self.delete_topics(delta, now, out);
        self.take_up_partitions(image, delta, now, out);
        self.configure_topics(image, delta, reconfigured, out);
        self.note_time_quotas(image, delta);
        self.note_subscriptions(image, delta);
        self.image.store(Arc::new(image.clone()));
        self.serve_if_unfenced(image, out);
        self.advance_fetchers(now, out);
        // Who died is not waited for.
        self.advance_deletions(out);
        self.tell_groups_of_topics(image, delta, now, out);
        // Groups first: transactions that end may have offsets to decide.
        let group = |index| self.group_coordinator(index, now);
        self.coordinate(&self.groups, CONSUMER_OFFSETS, (image, delta), group, now, out);
        let version = transaction_version(image);
        let transaction = |_| {
            TransactionCoordinator::new(transaction_config(&self.config), version, self.producer_ids.clone())
        };
        self.coordinate(&self.transactions, TRANSACTION_STATE, (image, delta), transaction, now, out);
        self.transactions.each(self, now, out, |coordinator| {
            coordinator.set_version(version);
            Outcome::default()
        });
    }

    /// Consumer groups look again at topics that came, went, grew or moved.
    fn tell_groups_of_topics(&self, image: &Image, delta: &Delta, now: Millis, out: &mut Effects) {
        let looks_different = |change: &PartitionChange| {
            change.old.as_ref().is_none_or(|old| old.replicas != change.new.replicas)
        };
        let changed = delta.partitions.values().filter(|change| looks_different(change));
        let mut names: BTreeSet<&str> = changed.map(|change| &*change.topic_name).collect();
        names.extend(delta.topics_deleted.values().map(|topic| &*topic.name));
        if names.is_empty() {
            return;
        }
        let names: Vec<&str> = names.into_iter().collect();
        let (some_are_new, version) = (!delta.topics_created.is_empty(), image.last_offset());
        self.groups.each(self, now, out, |coordinator| {
            coordinator.on_topics_changed(&names, some_are_new, version);
            Outcome::default()
        });
    }

    fn delete_topics(&self, delta: &Delta, now: Millis, out: &mut Effects) {
        if delta.topics_deleted.is_empty() {
            return;
        }
        let mut topics = (**self.topics.load()).clone();
        let mut gone = Vec::new();
        for id in delta.topics_deleted.keys() {
            gone.extend(topics.remove(id.0));
        }
        self.topics.store(Arc::new(topics));
        for topic in &gone {
            for partition in &topic.partitions {
                self.remove_replica(partition, now, out);
            }
        }
        self.upkeep.forget(gone.iter().flat_map(|topic| &topic.partitions));
        out.push(Effect::Read(ReadTask::Forget));
        for offsets in gone.iter().filter(|topic| &*topic.topic.name == CONSUMER_OFFSETS) {
            for partition in &offsets.partitions {
                self.groups.resign(self, partition.index, now, out);
            }
        }
        for states in gone.iter().filter(|topic| &*topic.topic.name == TRANSACTION_STATE) {
            for partition in &states.partitions {
                self.transactions.resign(self, partition.index, now, out);
            }
        }
        let named: Vec<(Uuid, &str)> =
            gone.iter().map(|topic| (topic.topic.id, &*topic.topic.name)).collect();
        self.groups.each(self, now, out, |coordinator| coordinator.on_topics_deleted(&named, now));
    }

    /// There shall be no replica of that partition here any more: whoever waits is told, and its files go. That their names are free has to
    /// be made durable afterwards ([`ReadTask::Forget`]).
    fn remove_replica(&self, partition: &Arc<Partition>, now: Millis, out: &mut Effects) {
        self.fetchers.leave((partition.topic.id, partition.index));
        let (abandoned, wakes) = partition.delete();
        self.wake(partition, wakes, now, out);
        if let Some(abandoned) = abandoned {
            self.discard(partition, Abandoned { home: None, ..abandoned }, now, out);
        }
        let delay = self.live_config().topic_defaults.file_delete_delay_ms;
        let name = &partition.topic.name;
        let Some(root) = partition.root().filter(|root| !root.is_offline()) else { return };
        // The same replica may have been here before, and what is left of it still wait for its end.
        let unique = self.moves.unique(now);
        match root.set_aside(name, partition.index, PartitionDirKind::Delete, unique) {
            Ok(Some(path)) => self.store.doom(Doomed::Directory(path), now + delay, out),
            Ok(None) => {}
            Err(error) => {
                self.store.fail_if_broken(&root, &error);
                out.push(Effect::Report(format!("{name}-{}: {error}", partition.index)));
                self.store.doom(Doomed::Names(root), now + delay, out);
            }
        }
    }

    pub(crate) fn take_up_partitions(&self, image: &Image, delta: &Delta, now: Millis, out: &mut Effects) {
        let changed: BTreeSet<TopicId> = delta.partitions.keys().map(|(id, _)| *id).collect();
        if changed.is_empty() {
            return;
        }
        let mut topics = (**self.topics.load()).clone();
        let mut removed = Vec::new();
        for id in changed {
            let Some(described) = image.topic(id) else { continue };
            let known = topics.by_id(id.0).cloned();
            let topic = known.as_ref().map_or_else(
                || {
                    Arc::new(Topic {
                        id: id.0,
                        name: described.name.clone(),
                        internal: topic_name::is_internal(&described.name),
                    })
                },
                |known| known.topic.clone(),
            );
            let mut partitions = known.map(|known| known.partitions.clone()).unwrap_or_default();
            let settings = self.topic_settings(image, &described.name, out);
            for index in partitions.len()..described.partitions.len() {
                partitions.push(Partition::new(
                    topic.clone(),
                    index as i32,
                    settings.clone(),
                    self.store.clone(),
                ));
            }
            for (index, state) in described.partitions.iter() {
                let Some(partition) =
                    usize::try_from(index.0).ok().and_then(|index| partitions.get_mut(index))
                else {
                    continue;
                };
                // It was moved elsewhere. (What a node finds when it starts is held against the image then.)
                if partition.root().is_some() && !state.replicas.contains(&NodeId(self.config.node_id)) {
                    self.remove_replica(partition, now, out);
                    removed.push(partition.clone());
                    *partition = Partition::new(topic.clone(), index.0, settings.clone(), self.store.clone());
                }
                self.take_role(partition, state, now, out);
            }
            topics.insert(TopicPartitions { topic, partitions });
        }
        self.topics.store(Arc::new(topics));
        if !removed.is_empty() {
            self.upkeep.forget(removed.iter());
            out.push(Effect::Read(ReadTask::Forget));
        }
    }

    /// Leads a partition, follows its leader, or neither.
    fn take_role(&self, partition: &Arc<Partition>, state: &Described, now: Millis, out: &mut Effects) {
        let me = NodeId(self.config.node_id);
        let key = (partition.topic.id, partition.index);
        let leader_epoch = state.leader_epoch.0;
        self.house(partition, state, now, out);
        let wakes = match state.leader {
            Some(leader) if leader == me => {
                self.fetchers.leave(key);
                let wakes = partition.become_leader(me.0, state, now);
                if partition.has_followers() {
                    out.push(Effect::Tick { at: now });
                }
                wakes
            }
            Some(leader) if state.replicas.contains(&me) => {
                let (is_new, wakes) = partition.become_follower(leader_epoch);
                if is_new {
                    let is_in_sync = state.isr.contains(&me);
                    self.fetchers.follow(partition, (leader.0, leader_epoch), is_in_sync, now);
                }
                wakes
            }
            _ => {
                self.fetchers.leave(key);
                partition.resign(leader_epoch)
            }
        };
        self.wake(partition, wakes, now, out);
    }

    /// Lays what was set for brokers while they run over what this one was started with. Returns whether anything was.
    pub(crate) fn reconfigure(&self, image: &Image, delta: &Delta, now: Millis, out: &mut Effects) -> bool {
        let own = self.config.node_id.to_string();
        let concerns_me = |name: &str| name.is_empty() || name == own;
        let mut changed = delta.configs.iter().filter(|resource| resource.kind == ResourceType::BROKER);
        if !changed.any(|resource| concerns_me(&resource.name)) {
            return false;
        }
        let of = |name: &str| image.config(ResourceType::BROKER, name).map(|map| (**map).clone());
        let (mut default, mut own) = (of("").unwrap_or_default(), of(&own).unwrap_or_default());
        let (live, notes) = loop {
            match self.config.reconfigure(&default, &own) {
                Ok(resolved) => break resolved,
                // It was checked when it was set, but perhaps by a node that was started with other values. The others count.
                Err(error) => {
                    out.push(Effect::Report(format!("what was set for brokers does not fit: {error}")));
                    if own.remove(&error.key).or_else(|| default.remove(&error.key)).is_none() {
                        return false;
                    }
                }
            }
        };
        self.store.set_producer_rules(&live.transactions);
        let live = Arc::new(live);
        let before = self.live.swap(live.clone());
        let is_news = |key: &String| live.layers.dynamic(key) != before.layers.dynamic(key);
        let without_effect = notes.iter().filter(|note| note.kind != NoteKind::Advice);
        let without_effect: Vec<&str> = without_effect
            .flat_map(|note| note.keys.iter().filter(|key| is_news(key)).map(String::as_str))
            .collect();
        if !without_effect.is_empty() {
            let keys = without_effect.join(", ");
            out.push(Effect::Report(format!("set for brokers, but without effect here: {keys}")));
        }
        if before.cordoned_log_dirs != live.cordoned_log_dirs {
            // The controller has to know where no new replicas go.
            self.lifecycle.hurry(now);
            out.push(Effect::Tick { at: now });
        }
        out.push(Effect::Reconfigure(live));
        true
    }

    /// `all`: the defaults of all topics may have changed.
    fn configure_topics(&self, image: &Image, delta: &Delta, all: bool, out: &mut Effects) {
        let topics = self.topics();
        let named = delta.configs.iter().filter(|resource| resource.kind == ResourceType::TOPIC);
        let named = named.filter_map(|resource| topics.by_name(&resource.name));
        let changed: Vec<_> = if all { topics.iter().collect() } else { named.collect() };
        for topic in changed {
            let settings = self.topic_settings(image, &topic.topic.name, out);
            for partition in &topic.partitions {
                partition.configure(settings.clone());
            }
        }
    }

    /// The configuration in force for a topic. One that no longer resolves (it was valid when it was set) is reported, and the node's
    /// defaults are used.
    fn topic_settings(&self, image: &Image, name: &str, out: &mut Effects) -> Arc<TopicConfig> {
        let none = BTreeMap::new();
        let overrides = image.config(ResourceType::TOPIC, name).map_or(&none, |map| &**map);
        let live = self.live_config();
        let mut settings = TopicConfig::resolve(overrides, &live).unwrap_or_else(|error| {
            out.push(Effect::Report(format!("topic {name}: {error}; the defaults are used")));
            live.topic_defaults.clone()
        });
        if topic_name::is_internal(name) {
            // What coordinators promise has to be on disk, whatever the node's data topics do.
            settings.durability = Durability::Flushed;
        }
        Arc::new(settings)
    }

    /// Whether acting on what changed means to read logs: those of coordinators that this node leads from now on.
    pub(crate) fn has_to_load(&self, image: &Image, delta: &Delta) -> bool {
        let me = NodeId(self.config.node_id);
        let of_coordinator = |id: TopicId| {
            let name = image.topic(id).map(|topic| &*topic.name);
            name.is_some_and(|name| [CONSUMER_OFFSETS, TRANSACTION_STATE].contains(&name))
        };
        delta.partitions.iter().any(|((id, index), change)| {
            let leads = change.new.leader == Some(me) && change.leader_changed();
            let is_new = || {
                let topics = self.topics();
                let known = topics.by_id(id.0).and_then(|topic| topic.partition(index.0).ok());
                known.is_none_or(|partition| partition.is_fresh())
            };
            self.config.roles.broker && leads && of_coordinator(*id) && !is_new()
        })
    }

    /// Leads the coordinators of the partitions of `topic` that this node leads, and no others.
    fn coordinate<C: Coordinator>(
        &self,
        coordinators: &Coordinators<C>,
        topic: &str,
        (image, delta): (&Image, &Delta),
        new: impl Fn(i32) -> C,
        now: Millis,
        out: &mut Effects,
    ) {
        let Some(id) = image.topic_id(topic) else { return coordinators.set_partitions(0) };
        let topics = self.topics();
        let Some(topic) = topics.by_id(id.0) else { return };
        // Before anybody is led: what a coordinator begins with may be for another one.
        coordinators.set_partitions(topic.partitions.len());
        let me = NodeId(self.config.node_id);
        for ((_, index), change) in delta.partitions.iter().filter(|((topic, _), _)| *topic == id) {
            let Ok(partition) = topic.partition(index.0) else { continue };
            if change.new.leader != Some(me) {
                coordinators.resign(self, index.0, now, out);
            } else if change.leader_changed() {
                // It may have led before, and others in between.
                coordinators.resign(self, index.0, now, out);
                if let Err(error) = coordinators.lead(self, partition, new(index.0), now, out) {
                    out.push(Effect::Report(error));
                }
            }
        }
    }

    fn group_coordinator(&self, index: i32, now: Millis) -> GroupCoordinator {
        // Another seed for every partition and every life: member ids are never given twice.
        let seed = self.coordinator_seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ now as u64;
        GroupCoordinator::new(group_config(&self.config), seed)
    }
}

/// The rules of transactions that the cluster has agreed upon.
fn transaction_version(image: &Image) -> TransactionVersion {
    TransactionVersion(image.features().get(TRANSACTION_VERSION).copied().unwrap_or(0))
}
