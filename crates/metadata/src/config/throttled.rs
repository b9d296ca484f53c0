//! Which replicas of a topic are throttled (`leader.replication.throttled.replicas`, `follower.replication.throttled.replicas`; KIP-73).

use std::collections::BTreeSet;

/// Replicas whose replication is throttled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThrottledReplicas {
    /// All of the topic.
    all: bool,
    /// Partition and broker of each.
    some: BTreeSet<(i32, i32)>,
}

impl ThrottledReplicas {
    /// Reads the items of a value that was checked: `*`, or pairs of partition and broker.
    pub(super) fn of(items: &[String]) -> ThrottledReplicas {
        let pair = |item: &String| {
            let (partition, broker) = item.split_once(':')?;
            Some((partition.parse().ok()?, broker.parse().ok()?))
        };
        ThrottledReplicas { all: items == ["*"], some: items.iter().filter_map(pair).collect() }
    }

    /// Whether the replica of a partition on a broker is among them.
    pub fn include(&self, partition: i32, broker: i32) -> bool {
        self.all || self.some.contains(&(partition, broker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_named_by_partition_and_broker() {
        let of = |items: &[&str]| {
            ThrottledReplicas::of(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>())
        };
        assert!(!of(&[]).include(0, 1));
        assert!(of(&["*"]).include(7, 1));
        let some = of(&["0:1", "1:2"]);
        assert!(some.include(0, 1) && some.include(1, 2));
        assert!(!some.include(0, 2) && !some.include(1, 1));
    }
}
