//! The assignors of the coordinator: who is to have which partition. Pure functions from members, their subscriptions and
//! what they are to have now, to what they are to have next.
//!
//! - `uniform` (the default): everybody has the same number of partitions, give or take one, and as few as possible move.
//! - `range`: each topic is cut into as many ranges as it has subscribers; topics of the same size are cut alike, so that
//!   partition n of all of them goes to the same member.

mod balance;
mod range;
mod uniform;

use crate::group::consumer::member::Target;
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// The names of the assignors of consumer groups (`group.consumer.assignors`), the default first.
pub const NAMES: [&str; 2] = ["uniform", "range"];

/// What an assignor is told.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    /// By member id, ascending.
    pub members: Vec<MemberSpec<'a>>,
    /// Whether all members subscribe to the same topics.
    pub is_homogeneous: bool,
    /// How many partitions each subscribed topic has.
    pub partition_counts: BTreeMap<Uuid, i32>,
}

#[derive(Debug)]
pub(crate) struct MemberSpec<'a> {
    pub id: &'a Arc<str>,
    pub instance_id: Option<&'a str>,
    /// Existing topics that it subscribes to.
    pub topics: Rc<BTreeSet<Uuid>>,
    /// What it is to have so far.
    pub current: Arc<Target>,
}

impl MemberSpec<'_> {
    /// What it may keep: partitions of topics that it still subscribes to.
    fn kept<'s>(&'s self, spec: &'s Spec<'_>) -> impl Iterator<Item = (Uuid, i32)> + 's {
        let subscribed = self.current.iter().filter(|(topic, _)| self.topics.contains(*topic));
        subscribed.flat_map(|(topic, partitions)| {
            let count = spec.partition_counts[topic];
            partitions
                .iter()
                .filter(move |p| (0..count).contains(*p))
                .map(move |partition| (*topic, *partition))
        })
    }
}

/// What each member is to have, in the order of the members. The name is one of [`NAMES`].
pub(crate) fn assign(name: &str, spec: &Spec<'_>) -> Vec<Target> {
    match name {
        _ if spec.members.is_empty() => Vec::new(),
        "range" => range::assign(spec),
        _ if spec.is_homogeneous => uniform::assign(spec),
        _ => balance::assign(spec),
    }
}

fn give(target: &mut Target, topic: Uuid, partition: i32) {
    let is_new = target.entry(topic).or_default().insert(partition);
    assert!(is_new, "a partition is given once");
}

#[cfg(test)]
mod tests;
