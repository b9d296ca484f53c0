//! Random histories: whatever happened, replay is deterministic, snapshots are faithful and deltas are true.
//!
//! Method: a small generator makes records that fit (and some that do not, which must be refused without a panic);
//! batches of them are replayed, and after each batch the image is compared with its snapshot and its delta with the
//! difference of the two images.

use super::snapshot::reread;
use super::{Record, broker, change, config, feature, partition, remove, topic};
use crate::{Delta, Image};
use ottla_protocol::ids::{NodeId, PartitionId, TopicId};
use ottla_protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::producer_ids_record::ProducerIdsRecord;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn random_record(dice: &mut Dice, image: &Image, created: &mut u8) -> Record {
    // Mostly a topic that exists; sometimes one that does not.
    let existing = image.topics().keys().nth(dice.below(10) as usize);
    let id = existing.map_or(255, |id| id.0.0[0]);
    let index = dice.below(4) as i32;
    let node = 1 + dice.below(3) as i32;
    match dice.below(12) {
        0 if *created < 200 => {
            // An id is never used again, not even by the next topic of the same name.
            *created += 1;
            topic(*created, &format!("t{}.{}", dice.below(10), dice.below(2)))
        }
        1 | 2 => partition(id, index, &[node, 1 + node % 3]),
        3 => change(id, index, |c| c.leader = node),
        4 => change(id, index, |c| c.isr = Some(vec![node])),
        5 => change(id, index, |c| c.eligible_leader_replicas = Some(vec![node])),
        6 => remove(id),
        7 => config(2, &format!("t{}", dice.below(3)), "k", (dice.below(2) == 0).then_some("v")),
        8 => broker(node, image.last_offset() + 1),
        9 => MetadataRecord::BrokerRegistrationChangeRecord(BrokerRegistrationChangeRecord {
            broker_id: node,
            broker_epoch: image.broker(NodeId(node)).map_or(0, |broker| broker.broker_epoch),
            fenced: dice.below(3) as i8 - 1,
            ..Default::default()
        }),
        10 => feature("metadata.version", 20 + dice.below(14) as i16),
        _ => MetadataRecord::ProducerIdsRecord(ProducerIdsRecord {
            broker_id: node,
            broker_epoch: 0,
            next_producer_id: image.next_producer_id() + dice.below(3) as i64,
        }),
    }
}

/// Returns every image at the end of a batch.
fn run(seed: u64) -> Vec<Image> {
    let mut dice = Dice(seed);
    let mut image = Image::empty("cluster");
    let mut images = Vec::new();
    let mut created = 0;
    for _ in 0..20 {
        let before = image.clone();
        let mut delta = Delta::default();
        for _ in 0..dice.below(12) {
            let record = random_record(&mut dice, &image, &mut created);
            // A record that does not fit spoils image and delta: take copies, as a node would stop.
            let (mut next, mut next_delta) = (image.clone(), delta.clone());
            if next.replay(&record, image.last_offset() + 1, &mut next_delta).is_ok() {
                (image, delta) = (next, next_delta);
            }
        }
        check(&before, &image, &delta, seed);
        images.push(image.clone());
    }
    images
}

fn check(before: &Image, after: &Image, delta: &Delta, seed: u64) {
    assert_eq!(reread(after), *after, "seed {seed}");
    let between = Delta::between(before, after);
    let ids = |delta: &Delta| delta.topics_created.iter().copied().collect::<Vec<TopicId>>();
    assert_eq!(ids(delta), ids(&between), "seed {seed}");
    assert_eq!(delta.topics_deleted, between.topics_deleted, "seed {seed}");
    assert_eq!(delta.features, between.features, "seed {seed}");
    // Replay also tells what was written without becoming different.
    for (key, change) in &between.partitions {
        assert_eq!(delta.partitions.get(key), Some(change), "seed {seed}");
    }
    for (key, change) in &delta.partitions {
        let at = |image: &Image, key: &(TopicId, PartitionId)| image.partition(key.0, key.1).cloned();
        assert_eq!(
            (&change.old, Some(&change.new)),
            (&at(before, key), at(after, key).as_ref()),
            "seed {seed}"
        );
    }
    for (id, change) in &delta.brokers {
        assert_eq!((&change.old, &change.new), (&before.broker(*id).cloned(), &after.broker(*id).cloned()));
    }
    assert!(between.configs.is_subset(&delta.configs), "seed {seed}");
    let counted = after.partitions().count();
    assert_eq!(counted, after.partition_count(), "seed {seed}");
}

#[test]
fn random_histories() {
    for seed in 0..80 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
