//! What the subscribed topics look like, as one number: when it changes, the group needs another assignment (Kafka's
//! `Utils.computeTopicHash` and `computeGroupHash`).
//!
//! Kafka feeds XXH3 through hash4j: numbers in little endian, strings as UTF-16 code units in little endian followed by
//! their count. The number is kept in records, so it has to be the same to the bit.

use crate::group::consumer::group::Subscriptions;
use crate::group::topics::Topics;
use std::collections::BTreeMap;
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// The version of the hash of a topic.
const MAGIC: u8 = 0;

/// Hashes of topics, computed once until the topic changes. Holds no more than the topics of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicHashes {
    by_name: BTreeMap<Arc<str>, i64>,
}

impl TopicHashes {
    /// The topic changed.
    pub(crate) fn forget(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// The hash of those subscribed topics that exist, 0 if there are none.
    pub(crate) fn of_group(&mut self, subscriptions: &Subscriptions, topics: &dyn Topics) -> i64 {
        let mut bytes = Vec::new();
        // Ordered by bytes; Java orders by UTF-16 units, which for names of topics (they are ASCII) is the same.
        for name in subscriptions.keys() {
            let hash = match self.by_name.get(name) {
                Some(hash) => Some(*hash),
                None => topic_hash(name, topics).inspect(|hash| {
                    self.by_name.insert(name.clone(), *hash);
                }),
            };
            if let Some(hash) = hash {
                bytes.extend(hash.to_le_bytes());
            }
        }
        if bytes.is_empty() { 0 } else { XxHash3_64::oneshot(&bytes) as i64 }
    }
}

fn topic_hash(name: &str, topics: &dyn Topics) -> Option<i64> {
    let id = topics.id_of(name)?;
    let count = topics.partition_count(id)?;
    let mut bytes = vec![MAGIC];
    let (upper, lower) = id.halves();
    bytes.extend(upper.to_le_bytes());
    bytes.extend(lower.to_le_bytes());
    put_string(&mut bytes, name);
    bytes.extend(count.to_le_bytes());
    for partition in 0..count {
        bytes.extend(partition.to_le_bytes());
        let mut racks = topics.racks(id, partition);
        racks.sort_unstable();
        for rack in &racks {
            bytes.extend((rack.encode_utf16().count() as i32).to_le_bytes());
            put_string(&mut bytes, rack);
        }
    }
    Some(XxHash3_64::oneshot(&bytes) as i64)
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    let mut units = 0_i32;
    for unit in text.encode_utf16() {
        bytes.extend(unit.to_le_bytes());
        units += 1;
    }
    bytes.extend(units.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::consumer::group::SubscriptionCount;
    use ottla_protocol::Uuid;

    /// Two topics: `foo` with racks, `bar` with forty partitions and none.
    struct Cluster;

    const FOO: Uuid = Uuid::from_halves(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);
    const BAR: Uuid = Uuid::from_halves(1, 2);

    impl Topics for Cluster {
        fn id_of(&self, name: &str) -> Option<Uuid> {
            [("foo", FOO), ("bar", BAR)].iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
        }
        fn name_of(&self, _id: Uuid) -> Option<String> {
            None
        }
        fn has_partition(&self, _name: &str, _partition: i32) -> bool {
            true
        }
        fn partition_count(&self, id: Uuid) -> Option<i32> {
            Some(if id == FOO { 2 } else { 40 })
        }
        fn racks(&self, id: Uuid, partition: i32) -> Vec<String> {
            let racks = [["rack1", "rack0"], ["rack1", "rack2"]];
            if id == FOO { racks[partition as usize].map(String::from).to_vec() } else { vec![] }
        }
        fn names_after(&self, _after: Option<&str>, _max: usize) -> Vec<Arc<str>> {
            vec![]
        }
        fn version(&self) -> i64 {
            0
        }
    }

    /// The numbers are those of hash4j 0.22, which Kafka 4.4 uses.
    #[test]
    fn hashes_are_kafkas_to_the_bit() {
        assert_eq!(topic_hash("foo", &Cluster), Some(0x3ab7_dc17_403b_fe50));
        assert_eq!(topic_hash("bar", &Cluster), Some(0x7519_45c7_0d8c_13f4));
        let names = ["foo", "bar", "not there"];
        let subscriptions = names.map(|name| (Arc::from(name), SubscriptionCount::default())).into();
        assert_eq!(TopicHashes::default().of_group(&subscriptions, &Cluster), 0x523d_bf4e_1a43_90c9);
        assert_eq!(TopicHashes::default().of_group(&Subscriptions::new(), &Cluster), 0);
    }
}
