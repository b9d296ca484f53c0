//! The range assignor: each topic is cut into ranges, one for each subscriber, in an order that restarts do not change.
//!
//! Static members come first, by instance id, then the others by member id. Each topic remembers where its next range
//! begins; the first ranges are one longer where the topic does not divide evenly.

use super::{MemberSpec, Spec};
use crate::group::consumer::member::Target;
use ottla_protocol::Uuid;
use std::collections::BTreeMap;

struct Ranges {
    count: i32,
    length: i32,
    longer: i32,
    next: i32,
}

impl Ranges {
    fn take(&mut self) -> std::ops::Range<i32> {
        let length = self.length + i32::from(self.longer > 0);
        self.longer = (self.longer - 1).max(0);
        let start = self.next;
        self.next = (start + length).min(self.count);
        start..self.next
    }
}

pub(super) fn assign(spec: &Spec<'_>) -> Vec<Target> {
    let mut subscribers: BTreeMap<Uuid, i32> = BTreeMap::new();
    for topic in spec.members.iter().flat_map(|member| member.topics.iter()) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let mut ranges: BTreeMap<Uuid, Ranges> = BTreeMap::new();
    for (topic, subscribers) in subscribers {
        let count = spec.partition_counts[&topic];
        let (length, longer) = (count / subscribers, count % subscribers);
        ranges.insert(topic, Ranges { count, length, longer, next: 0 });
    }
    let mut order: Vec<usize> = (0..spec.members.len()).collect();
    order.sort_by_key(|index| {
        let MemberSpec { id, instance_id, .. } = &spec.members[*index];
        (instance_id.is_none(), *instance_id, *id)
    });
    let mut targets = vec![Target::new(); spec.members.len()];
    for index in order {
        for topic in spec.members[index].topics.iter() {
            let range = ranges.get_mut(topic).expect("its subscribers were counted").take();
            if !range.is_empty() {
                targets[index].insert(*topic, range.collect());
            }
        }
    }
    targets
}
