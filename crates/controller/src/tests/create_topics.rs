//! CreateTopics: every refusal, and what is written and answered when there is none.

use super::{Cluster, assigned, configured, dir, topic};
use crate::{Decision, Settings, unlimited};
use ottla_metadata::topic::nodes;
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::{LeaderEpoch, NodeId};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use ottla_protocol::messages::metadata_record::MetadataRecord;

fn decide(
    cluster: &mut Cluster,
    topics: Vec<CreatableTopic<'static>>,
    validate_only: bool,
) -> Decision<CreateTopicsResponse<'static>> {
    let request = CreateTopicsRequest { topics, validate_only, ..Default::default() };
    cluster.controller.create_topics(&request, &mut unlimited)
}

fn ask(cluster: &mut Cluster, topic: CreatableTopic<'static>) -> CreatableTopicResult<'static> {
    let decision = decide(cluster, vec![topic], false);
    if decision.response.topics[0].error_code != 0 {
        assert_eq!(decision.records, [], "a refused topic writes nothing");
    }
    decision.response.topics.into_iter().next().expect("one answer")
}

fn check(cluster: &mut Cluster, topic: CreatableTopic<'static>, code: ErrorCode, says: &str) {
    let name = topic.name.to_string();
    let answer = ask(cluster, topic);
    let message = answer.error_message.unwrap_or_default();
    assert_eq!((answer.name.as_ref(), answer.error_code), (name.as_str(), code.code()), "{message}");
    assert!(message.contains(says), "{message:?} does not say {says:?}");
}

#[test]
fn names() {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("there", 1, 1), topic("with.dot", 1, 1)]);
    let mut check = |name: &str, code, says: &str| check(&mut cluster, topic(name, 1, 1), code, says);
    check("", ErrorCode::InvalidTopicException, "the empty string is not allowed");
    check(".", ErrorCode::InvalidTopicException, "'.' is not allowed");
    check("a b", ErrorCode::InvalidTopicException, "ASCII alphanumerics");
    check(&"x".repeat(250), ErrorCode::InvalidTopicException, "longer than the max allowed length 249");
    check("with_dot", ErrorCode::InvalidTopicException, "collides with existing topic: with.dot");
    check("there", ErrorCode::TopicAlreadyExists, "Topic 'there' already exists.");
    check("with.dot", ErrorCode::TopicAlreadyExists, "Topic 'with.dot' already exists.");
    check("__cluster_metadata", ErrorCode::InvalidRequest, "metadata log");
    check("__consumer_offsets", ErrorCode::None, "");
}

#[test]
fn counts() {
    let mut cluster = Cluster::with(2);
    let mut check = |partitions, factor, code, says: &str| {
        check(&mut cluster, topic("t", partitions, factor), code, says)
    };
    check(0, 1, ErrorCode::InvalidPartitions, "at least 1");
    check(-2, 1, ErrorCode::InvalidPartitions, "at least 1");
    check(1, 0, ErrorCode::InvalidReplicationFactor, "at least 1");
    check(1, -2, ErrorCode::InvalidReplicationFactor, "at least 1");
    check(1, 3, ErrorCode::InvalidReplicationFactor, "only 2 broker(s)");
    check(10_001, 1, ErrorCode::PolicyViolation, "more than 10000 partitions");
    // The topic's own record counts too.
    check(10_000, 1, ErrorCode::PolicyViolation, "too many records");
    check(9_999, 1, ErrorCode::None, "");
    check(i32::MAX, i16::MAX, ErrorCode::PolicyViolation, "more than 10000 partitions");
    check(i32::MIN, i16::MIN, ErrorCode::InvalidReplicationFactor, "at least 1");
    check(3, 2, ErrorCode::None, "");
}

#[test]
fn nobody_is_there() {
    let mut cluster = Cluster::with(2);
    cluster.fence(1);
    cluster.fence(2);
    check(
        &mut cluster,
        topic("t", 1, 1),
        ErrorCode::InvalidReplicationFactor,
        "All brokers are currently fenced",
    );
    check(&mut cluster, assigned("t", &[(0, &[1])]), ErrorCode::InvalidReplicaAssignment, "is fenced or in");
    let mut bare = Cluster::bare(&[], Settings::default(), 1);
    check(&mut bare, topic("t", 1, 1), ErrorCode::InvalidReplicationFactor, "fenced");
}

#[test]
fn assignments() {
    let mut cluster = Cluster::with(3);
    let mut refuse = |assignments: &[(i32, &[i32])], says: &str| {
        check(&mut cluster, assigned("t", assignments), ErrorCode::InvalidReplicaAssignment, says);
    };
    refuse(&[(0, &[])], "no replicas");
    refuse(&[(0, &[9])], "no such broker is registered");
    refuse(&[(0, &[1, 1])], "two replicas of a partition on broker 1");
    refuse(&[(0, &[1]), (0, &[2])], "Partition 0 is assigned more than once");
    refuse(&[(0, &[1]), (1, &[1, 2])], "other partitions have 1");
    refuse(&[(1, &[1])], "without a gap");
    refuse(&[(0, &[1]), (2, &[1])], "without a gap");
    refuse(&[(-1, &[1]), (0, &[1])], "without a gap");
    let with = |partitions, factor| CreatableTopic {
        num_partitions: partitions,
        replication_factor: factor,
        ..assigned("t", &[(0, &[1])])
    };
    check(&mut cluster, with(-1, 1), ErrorCode::InvalidRequest, "replication factor must be -1");
    check(&mut cluster, with(1, -1), ErrorCode::InvalidRequest, "numPartitions must be -1");

    cluster.fence(3);
    cluster.create(vec![assigned("t", &[(1, &[3, 2]), (0, &[1, 2])])]);
    let partition = cluster.partition("t", 1);
    assert_eq!((partition.replicas, partition.isr), (nodes(&[3, 2]), nodes(&[2])));
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(2)), LeaderEpoch(0)));
    assert_eq!(partition.directories, [dir(3), dir(2)]);
}

#[test]
fn configurations() {
    let mut cluster = Cluster::with(1);
    let mut refuse = |configs: &[(&str, Option<&str>)], says: &str| {
        check(&mut cluster, configured(topic("t", 1, 1), configs), ErrorCode::InvalidConfig, says);
    };
    refuse(&[("retention.ms", None), ("segment.ms", None)], "no value: retention.ms,segment.ms");
    refuse(&[("retention.ms", Some("soon"))], "retention.ms");
    refuse(&[("no.such.key", Some("1"))], "no.such.key");
    refuse(&[("cleanup.policy", Some("burn"))], "cleanup.policy");
    refuse(&[("retention.ms", Some(&"1".repeat(40_000)))], "longer than 32767");

    cluster.create(vec![configured(
        topic("t", 2, 1),
        &[("retention.ms", Some("7")), ("cleanup.policy", Some("compact"))],
    )]);
    let kinds: Vec<&str> = cluster.log[cluster.log.len() - 5..]
        .iter()
        .map(|record| match record {
            MetadataRecord::TopicRecord(_) => "topic",
            MetadataRecord::ConfigRecord(_) => "config",
            MetadataRecord::PartitionRecord(_) => "partition",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["topic", "config", "config", "partition", "partition"]);
}

#[test]
fn what_is_answered() {
    let mut cluster = Cluster::with(2);
    let answer = ask(&mut cluster, configured(topic("t", -1, -1), &[("retention.ms", Some("7"))]));
    assert_eq!((answer.error_code, answer.error_message), (0, None));
    assert_eq!((answer.num_partitions, answer.replication_factor, answer.topic_config_error_code), (1, 1, 0));
    assert_ne!(answer.topic_id, ottla_protocol::Uuid::ZERO);
    let configs = answer.configs.expect("shown");
    assert!(configs.is_sorted_by(|a, b| a.name < b.name) && configs.len() > 20, "{}", configs.len());
    let of = |name: &str| configs.iter().find(|config| config.name == name).expect("shown");
    assert_eq!((of("retention.ms").value.as_deref(), of("retention.ms").config_source), (Some("7"), 1));
    assert_eq!(
        (of("cleanup.policy").value.as_deref(), of("cleanup.policy").config_source),
        (Some("delete"), 5)
    );

    // A dynamic default of all brokers shows through.
    cluster.set_config(4, "", "log.cleanup.policy", Some("compact"));
    let answer = ask(&mut cluster, topic("t", 1, 1));
    let configs = answer.configs.expect("shown");
    let policy = configs.iter().find(|config| config.name == "cleanup.policy").expect("shown");
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 3));
}

#[test]
fn defaults_of_the_cluster() {
    let mut cluster = Cluster::with(3);
    let settings = Settings {
        default_partitions: 4,
        default_replication_factor: 2,
        ..cluster.controller.settings().clone()
    };
    cluster.controller.set_settings(settings);
    cluster.create(vec![topic("t", -1, -1)]);
    let created = cluster.controller.image().topic_by_name("t").expect("there");
    assert_eq!((created.partition_count(), created.replication_factor()), (4, 2));
}

#[test]
fn each_topic_stands_for_itself() {
    let mut cluster = Cluster::with(1);
    let topics = vec![
        topic("good", 1, 1),
        topic("a b", 1, 1),
        topic("twice", 1, 1),
        topic("twice", 2, 1),
        topic("fine", 1, 1),
    ];
    let decision = decide(&mut cluster, topics, false);
    assert!(decision.atomic);
    let codes: Vec<(&str, i16)> =
        decision.response.topics.iter().map(|t| (t.name.as_ref(), t.error_code)).collect();
    assert_eq!(codes, [("good", 0), ("a b", 17), ("twice", 42), ("fine", 0)]);
    assert_eq!(decision.records.len(), 4);
}

#[test]
fn only_validating_writes_nothing() {
    let mut cluster = Cluster::with(1);
    let decision = decide(&mut cluster, vec![topic("t", 2, 1), topic("u", 1, 5)], true);
    assert_eq!(decision.records, []);
    let codes: Vec<i16> = decision.response.topics.iter().map(|t| t.error_code).collect();
    assert_eq!(codes, [0, 38]);
    assert_eq!(decision.response.topics[0].num_partitions, 2);
}

#[test]
fn a_topic_of_that_minimum_has_no_eligible_replicas_to_clear_but_says_so() {
    // Setting min.insync.replicas always comes with a ClearElrRecord while ELR is on, for new topics too.
    let mut cluster = Cluster::with(1);
    cluster.create(vec![configured(topic("t", 1, 1), &[("min.insync.replicas", Some("1"))])]);
    assert!(
        cluster
            .log
            .iter()
            .any(|record| matches!(record, MetadataRecord::ClearElrRecord(r) if r.topic_name == "t"))
    );
    let mut without = Cluster::with_features(1, &[("eligible.leader.replicas.version", 0)]);
    without.create(vec![configured(topic("t", 1, 1), &[("min.insync.replicas", Some("1"))])]);
    assert!(!without.log.iter().any(|record| matches!(record, MetadataRecord::ClearElrRecord(_))));
}
