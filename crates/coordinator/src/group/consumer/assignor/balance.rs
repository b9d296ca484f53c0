//! The uniform assignor where members subscribe to different topics: keep what may be kept, give what is free to whoever
//! has least, then move partitions from those who have most to those who have least until that helps no more.
//!
//! Topics go first of which every subscriber will have to take many partitions, for they leave the least choice. Where
//! subscriptions overlap without being the same, a perfect balance may take very many rounds: after some it is let be.

use super::{Spec, give};
use crate::group::consumer::member::Target;
use ottla_protocol::Uuid;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Passes over all topics in search of a better balance, as in Kafka.
const ROUNDS_MAX: usize = 16;

/// One topic: who may have its partitions, and who has them.
struct Topic {
    id: Uuid,
    /// Indexes of members.
    subscribers: Vec<usize>,
    /// Partition → index of a member.
    owners: Vec<Option<usize>>,
}

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Target> {
    let mut topics: BTreeMap<Uuid, Topic> = BTreeMap::new();
    for (index, member) in spec.members.iter().enumerate() {
        for id in member.topics.iter() {
            let fresh = || {
                let owners = vec![None; spec.partition_counts[id] as usize];
                Topic { id: *id, subscribers: Vec::new(), owners }
            };
            topics.entry(*id).or_insert_with(fresh).subscribers.push(index);
        }
    }
    // How many partitions each member has.
    let mut loads = vec![0_usize; spec.members.len()];
    for (index, member) in spec.members.iter().enumerate() {
        for (id, partition) in member.kept(spec) {
            let topic = topics.get_mut(&id).expect("it subscribes to the topic");
            let owner = &mut topic.owners[partition as usize];
            if owner.is_none() {
                *owner = Some(index);
                loads[index] += 1;
            }
        }
    }

    let mut topics: Vec<Topic> = topics.into_values().collect();
    topics.sort_by(|a, b| {
        // More partitions for each subscriber first: a/b > c/d is a·d > c·b.
        let (mine, theirs) = (a.owners.len() * b.subscribers.len(), b.owners.len() * a.subscribers.len());
        theirs.cmp(&mine).then(a.subscribers.len().cmp(&b.subscribers.len())).then(a.id.cmp(&b.id))
    });
    topics.iter_mut().for_each(|topic| fill(topic, &mut loads));
    for _ in 0..ROUNDS_MAX {
        let moved: usize = topics.iter_mut().map(|topic| level(topic, &mut loads)).sum();
        if moved == 0 {
            break;
        }
    }

    let mut targets = vec![Target::new(); spec.members.len()];
    for topic in &topics {
        for (partition, owner) in topic.owners.iter().enumerate() {
            let owner = owner.expect("every topic here has a subscriber");
            give(&mut targets[owner], topic.id, partition as i32);
        }
    }
    targets
}

/// Gives the free partitions of a topic to those of its subscribers that have least.
fn fill(topic: &mut Topic, loads: &mut [usize]) {
    let by_load = topic.subscribers.iter().map(|member| Reverse((loads[*member], *member)));
    let mut by_load: BinaryHeap<_> = by_load.collect();
    for owner in topic.owners.iter_mut().filter(|owner| owner.is_none()) {
        let Reverse((load, member)) = by_load.pop().expect("a topic is here because of a subscriber");
        *owner = Some(member);
        loads[member] = load + 1;
        by_load.push(Reverse((load + 1, member)));
    }
}

/// Moves partitions of a topic to subscribers that have at least two less than those who give. Returns how many moved.
fn level(topic: &mut Topic, loads: &mut [usize]) -> usize {
    let mut takers: BTreeSet<(usize, usize)> =
        topic.subscribers.iter().map(|member| (loads[*member], *member)).collect();
    let mut held: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (partition, owner) in topic.owners.iter().enumerate() {
        held.entry(owner.expect("no partition is free any more")).or_default().push(partition);
    }
    let mut givers: BTreeSet<(usize, usize)> = held.keys().map(|member| (loads[*member], *member)).collect();
    let mut moved = 0;
    while let (Some(&(most, giver)), Some(&(least, taker))) = (givers.last(), takers.first())
        && most > least + 1
    {
        let partition = held.get_mut(&giver).and_then(Vec::pop).expect("who gives has something");
        topic.owners[partition] = Some(taker);
        for (member, load) in [(giver, most - 1), (taker, least + 1)] {
            takers.remove(&(loads[member], member));
            givers.remove(&(loads[member], member));
            loads[member] = load;
            takers.insert((load, member));
        }
        // What moved here stays: a taker never gives in the same round, it has too little for that.
        held.entry(taker).or_default();
        for member in [giver, taker] {
            if held.get(&member).is_some_and(|partitions| !partitions.is_empty()) {
                givers.insert((loads[member], member));
            }
        }
        moved += 1;
    }
    moved
}
