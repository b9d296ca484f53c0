//! Deltas: before and after a batch, without the steps between.

use super::{broker, change, config, feature, partition, remove, replay, replay_on, topic, topic_id};
use crate::resource::{Resource, ResourceType};
use crate::topic::nodes;
use crate::{Delta, Image};
use ottla_protocol::ids::{NodeId, PartitionId};

#[test]
fn a_new_topic() {
    let (_, delta) =
        replay(&[topic(1, "a"), partition(1, 0, &[1, 2]), partition(1, 1, &[2, 1])]).expect("fits");
    assert!(delta.topics_created.contains(&topic_id(1)));
    assert_eq!(delta.partitions.len(), 2);
    let change = &delta.partitions[&(topic_id(1), PartitionId(1))];
    assert_eq!((&*change.topic_name, change.old.is_none(), change.new.leader), ("a", true, Some(NodeId(2))));
    assert!(change.leader_changed());
}

#[test]
fn steps_are_summed_up() {
    let (image, _) = replay(&[topic(1, "a"), partition(1, 0, &[1, 2])]).expect("fits");
    let records = [
        change(1, 0, |c| c.isr = Some(vec![1])),
        change(1, 0, |c| c.isr = Some(vec![1, 2])),
        change(1, 0, |c| c.isr = Some(vec![2])),
    ];
    let (_, delta) = replay_on(image, &records).expect("fits");
    let change = &delta.partitions[&(topic_id(1), PartitionId(0))];
    let old = change.old.as_ref().expect("there before");
    assert_eq!((&old.isr, &change.new.isr), (&nodes(&[1, 2]), &nodes(&[2])));
    assert_eq!((old.partition_epoch, change.new.partition_epoch), (0, 3));
    assert!(!change.leader_changed());
    assert!(delta.topics_created.is_empty());
}

#[test]
fn a_topic_that_came_and_went_leaves_no_trace() {
    let (_, delta) = replay(&[topic(1, "a"), partition(1, 0, &[1]), remove(1)]).expect("fits");
    assert!(delta.is_empty());
}

#[test]
fn a_deleted_topic_is_shown_as_it_was() {
    let (image, _) =
        replay(&[topic(1, "a"), partition(1, 0, &[1]), config(2, "a", "k", Some("v"))]).expect("fits");
    let before = image.topic(topic_id(1)).expect("there").clone();
    let records = [
        change(1, 0, |c| c.leader = -1),
        partition(1, 1, &[1]),
        remove(1),
        topic(2, "a"),
        partition(2, 0, &[1]),
    ];
    let (_, delta) = replay_on(image, &records).expect("fits");
    assert_eq!(delta.topics_deleted[&topic_id(1)], before);
    assert_eq!(delta.partitions.keys().collect::<Vec<_>>(), [&(topic_id(2), PartitionId(0))]);
    assert!(delta.configs.contains(&Resource { kind: ResourceType::TOPIC, name: "a".into() }));
}

#[test]
fn brokers_and_features() {
    let (image, delta) = replay(&[broker(1, 5), feature("metadata.version", 33)]).expect("fits");
    let change = &delta.brokers[&NodeId(1)];
    assert!(change.old.is_none() && change.new.is_some());
    assert_eq!(delta.features.get("metadata.version"), Some(&(0, 33)));
    // There and back is no change.
    let (_, delta) = replay_on(image, &[feature("x", 1), feature("x", 0)]).expect("fits");
    assert!(delta.features.is_empty());
}

#[test]
fn a_config_written_to_the_same_value_is_told() {
    let (image, _) = replay(&[config(4, "1", "k", Some("v"))]).expect("fits");
    let (same, delta) = replay_on(image.clone(), &[config(4, "1", "k", Some("v"))]).expect("fits");
    assert_eq!(same, image);
    assert_eq!(delta.configs.len(), 1);
}

#[test]
fn between_equals_what_replay_says() {
    let (old, _) = replay(&[
        broker(1, 5),
        topic(1, "a"),
        partition(1, 0, &[1]),
        partition(1, 1, &[1]),
        topic(2, "b"),
        partition(2, 0, &[1]),
        config(2, "a", "k", Some("v")),
        feature("metadata.version", 30),
    ])
    .expect("fits");
    let records = [
        broker(2, 9),
        broker(1, 10),
        change(1, 1, |c| c.leader = -1),
        remove(2),
        topic(3, "c"),
        partition(3, 0, &[2]),
        config(2, "a", "k", None),
        config(4, "", "k", Some("v")),
        feature("metadata.version", 33),
    ];
    let (new, said) = replay_on(old.clone(), &records).expect("fits");
    assert_eq!(Delta::between(&old, &new), said);
    assert!(Delta::between(&new, &new).is_empty());
    let vanished = Delta::between(&new, &Image::empty("cluster"));
    assert_eq!(vanished.topics_deleted.len(), 2);
    assert_eq!(vanished.brokers.len(), 2);
    assert!(vanished.brokers.values().all(|change| change.new.is_none()));
}
