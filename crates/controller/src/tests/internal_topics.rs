//! Topics of the cluster itself, and those that a client merely touched.

use super::{Cluster, broker_config};
use crate::{InternalTopic, auto_create, consumer_offsets, share_group_state, transaction_state, unlimited};
use ottla_metadata::ResourceType;
use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;

fn create(cluster: &mut Cluster, request: &CreateTopicsRequest<'_>) -> Vec<i16> {
    let decision = cluster.controller.create_topics(request, &mut unlimited);
    cluster.append(decision).topics.iter().map(|topic| topic.error_code).collect()
}

#[test]
fn consumer_offsets_of_a_cluster_of_one() {
    let mut cluster = Cluster::with(1);
    let settings = InternalTopic::of_consumer_offsets(&broker_config());
    assert_eq!(create(&mut cluster, &consumer_offsets(settings)), [0]);
    let topic = cluster.controller.image().topic_by_name("__consumer_offsets").expect("there");
    assert_eq!((topic.partition_count(), topic.replication_factor()), (50, 1));
    let configs = cluster.controller.image().config(ResourceType::TOPIC, "__consumer_offsets").expect("set");
    let configs: Vec<(&str, &str)> =
        configs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected =
        [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
    assert_eq!(configs, expected);
    // Somebody else was faster: said, not done twice.
    assert_eq!(create(&mut cluster, &consumer_offsets(settings)), [36]);
}

#[test]
fn kafkas_defaults_need_three_brokers() {
    let mut cluster = Cluster::with(1);
    assert_eq!(create(&mut cluster, &consumer_offsets(InternalTopic::CONSUMER_OFFSETS)), [38]);
}

#[test]
fn the_other_two() {
    let mut cluster = Cluster::with(1);
    let settings = InternalTopic::of_transaction_state(&broker_config());
    assert_eq!(create(&mut cluster, &transaction_state(settings, 1)), [0]);
    assert_eq!(create(&mut cluster, &share_group_state(settings, 1)), [0]);
}

#[test]
fn topics_that_were_touched() {
    let mut cluster = Cluster::with(1);
    assert_eq!(create(&mut cluster, &auto_create(["a", "b c", "d"])), [0, 17, 0]);
    assert_eq!(cluster.controller.image().topic_by_name("a").map(|topic| topic.partition_count()), Some(1));
}
