//! AlterConfigs and IncrementalAlterConfigs: what is set, and every refusal.

use super::{Cluster, topic};
use ottla_metadata::ResourceType;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::{alter_configs_request as old, incremental_alter_configs_request as new};
use std::borrow::Cow;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn incremental(
    kind: i8,
    name: &str,
    edits: &[(&str, i8, Option<&str>)],
) -> new::AlterConfigsResource<'static> {
    let configs = edits.iter().map(|(name, operation, value)| new::AlterableConfig {
        name: Cow::Owned((*name).to_owned()),
        config_operation: *operation,
        value: value.map(|value| Cow::Owned(value.to_owned())),
    });
    new::AlterConfigsResource {
        resource_type: kind,
        resource_name: Cow::Owned(name.to_owned()),
        configs: configs.collect(),
    }
}

fn replacing(kind: i8, name: &str, values: &[(&str, Option<&str>)]) -> old::AlterConfigsResource<'static> {
    let configs = values.iter().map(|(name, value)| old::AlterableConfig {
        name: Cow::Owned((*name).to_owned()),
        value: value.map(|value| Cow::Owned(value.to_owned())),
    });
    old::AlterConfigsResource {
        resource_type: kind,
        resource_name: Cow::Owned(name.to_owned()),
        configs: configs.collect(),
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::with(2);
    cluster.create(vec![topic("t", 1, 1), topic("u", 1, 1)]);
    cluster
}

/// Asks for one resource; what is granted is appended. Gives code, message and the number of records.
fn alter(cluster: &mut Cluster, resource: new::AlterConfigsResource<'static>) -> (i16, String, usize) {
    let request = new::IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let decision = cluster.controller.incremental_alter_configs(&request);
    let records = decision.records.len();
    let response = cluster.append(decision);
    let answer = &response.responses[0];
    (answer.error_code, answer.error_message.clone().unwrap_or_default().into_owned(), records)
}

fn replace(cluster: &mut Cluster, resource: old::AlterConfigsResource<'static>) -> (i16, String, usize) {
    let request = old::AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let decision = cluster.controller.alter_configs(&request);
    let records = decision.records.len();
    let response = cluster.append(decision);
    let answer = &response.responses[0];
    (answer.error_code, answer.error_message.clone().unwrap_or_default().into_owned(), records)
}

fn check(answer: (i16, String, usize), code: ErrorCode, says: &str) {
    assert_eq!(answer.0, code.code(), "{}", answer.1);
    assert!(answer.1.contains(says), "{:?} does not say {says:?}", answer.1);
    assert_eq!(answer.2, 0, "a refusal writes nothing");
}

fn value(cluster: &Cluster, name: &str, key: &str) -> Option<String> {
    cluster.controller.image().config_value(ResourceType::TOPIC, name, key).map(str::to_owned)
}

#[test]
fn single_keys() {
    let mut cluster = cluster();
    let mut edit = |edits: &[(&str, i8, Option<&str>)], records: usize| {
        let (code, message, written) = alter(&mut cluster, incremental(TOPIC, "t", edits));
        assert_eq!((code, written), (0, records), "{message}");
    };
    edit(&[("retention.ms", SET, Some("7")), ("segment.ms", SET, Some("8"))], 2);
    // The same value again is no change for a topic.
    edit(&[("retention.ms", SET, Some("7"))], 0);
    edit(&[("segment.ms", DELETE, None), ("retention.bytes", DELETE, None)], 1);
    // Appending starts from what is inherited, subtracting too.
    edit(&[("cleanup.policy", APPEND, Some("compact"))], 1);
    assert_eq!(value(&cluster, "t", "cleanup.policy").as_deref(), Some("delete,compact"));
    let (code, _, _) =
        alter(&mut cluster, incremental(TOPIC, "t", &[("cleanup.policy", SUBTRACT, Some("delete"))]));
    assert_eq!(code, 0);
    assert_eq!(value(&cluster, "t", "cleanup.policy").as_deref(), Some("compact"));
    assert_eq!(value(&cluster, "t", "retention.ms").as_deref(), Some("7"));
    assert_eq!(value(&cluster, "t", "segment.ms"), None);
}

#[test]
fn refusals_of_single_keys() {
    let mut cluster = cluster();
    let mut refuse = |kind, name: &str, edits: &[(&str, i8, Option<&str>)], code, says: &str| {
        check(alter(&mut cluster, incremental(kind, name, edits)), code, says);
    };
    let good = [("retention.ms", SET, Some("1"))];
    refuse(TOPIC, "nope", &good, ErrorCode::UnknownTopicOrPartition, "The topic 'nope' does not exist.");
    refuse(TOPIC, "", &good, ErrorCode::InvalidRequest, "no default for all topics");
    refuse(TOPIC, "a b", &good, ErrorCode::InvalidTopicException, "is invalid");
    refuse(99, "t", &good, ErrorCode::UnsupportedVersion, "Resource type 99 is unknown.");
    refuse(0, "t", &good, ErrorCode::UnsupportedVersion, "Resource type 0 is unknown.");
    refuse(8, "1", &[("logger", SET, Some("INFO"))], ErrorCode::InvalidRequest, "BROKER_LOGGER");
    refuse(
        BROKER,
        "7",
        &[("num.io.threads", SET, Some("1"))],
        ErrorCode::BrokerIdNotRegistered,
        "no node with id 7",
    );
    refuse(BROKER, "x", &[("num.io.threads", SET, Some("1"))], ErrorCode::InvalidRequest, "decimal");
    refuse(
        BROKER,
        "1",
        &[("process.roles", SET, Some("broker"))],
        ErrorCode::InvalidRequest,
        "Cannot update these configs dynamically: [process.roles]",
    );
    refuse(GROUP, "", &[], ErrorCode::InvalidRequest, "no default for all groups");
    let mut t = |edits: &[(&str, i8, Option<&str>)], code, says: &str| refuse(TOPIC, "t", edits, code, says);
    t(
        &[("retention.ms", SET, Some("soon"))],
        ErrorCode::InvalidConfig,
        "Invalid value soon for configuration retention.ms: Not a number of type LONG",
    );
    t(&[("no.such.key", SET, Some("1"))], ErrorCode::InvalidConfig, "Unknown topic config name: no.such.key");
    t(&[("retention.ms", SET, None)], ErrorCode::InvalidRequest, "missing for: retention.ms");
    t(&[("cleanup.policy", APPEND, None)], ErrorCode::InvalidRequest, "A value is missing");
    t(
        &[("retention.ms", APPEND, Some("1"))],
        ErrorCode::InvalidConfig,
        "APPEND needs a key that holds a list",
    );
    t(
        &[("retention.ms", SUBTRACT, Some("1"))],
        ErrorCode::InvalidConfig,
        "SUBTRACT needs a key that holds a list",
    );
    t(&[("retention.ms", 7, Some("1"))], ErrorCode::InvalidRequest, "Operation 7");
    t(
        &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)],
        ErrorCode::InvalidRequest,
        "more than once: retention.ms",
    );
    // One bad key spoils its resource.
    t(
        &[("segment.ms", SET, Some("1")), ("retention.ms", SET, Some("x"))],
        ErrorCode::InvalidConfig,
        "retention.ms",
    );
    t(&[("retention.ms", SET, Some(&"9".repeat(32_768)))], ErrorCode::InvalidConfig, "longer than 32767");
    assert_eq!(cluster.controller.image().config(ResourceType::TOPIC, "t"), None);
}

#[test]
fn resources_stand_for_themselves() {
    let cluster = cluster();
    let one = |name: &str, value: &str| incremental(TOPIC, name, &[("retention.ms", SET, Some(value))]);
    let mut request = new::IncrementalAlterConfigsRequest {
        resources: vec![one("t", "x"), one("u", "5"), one("t", "6"), one("nope", "1")],
        ..Default::default()
    };
    let decision = cluster.controller.incremental_alter_configs(&request);
    let codes: Vec<_> =
        decision.response.responses.iter().map(|r| (r.resource_name.as_ref(), r.error_code)).collect();
    assert_eq!(codes, [("t", 42), ("u", 0), ("nope", 3)]);
    assert_eq!(decision.records.len(), 1);
    request.validate_only = true;
    let only = cluster.controller.incremental_alter_configs(&request);
    assert_eq!((only.records.len(), only.response), (0, decision.response));
}

#[test]
fn brokers_are_told_even_of_the_same_value() {
    let mut cluster = cluster();
    for _ in 0..2 {
        let edits = [("num.io.threads", SET, Some("9"))];
        let (code, message, records) = alter(&mut cluster, incremental(BROKER, "1", &edits));
        assert_eq!((code, records), (0, 1), "{message}");
    }
    // The default of all brokers has an empty name; a broker that is not there has none.
    let (code, message, records) =
        alter(&mut cluster, incremental(BROKER, "", &[("log.retention.ms", SET, Some("9"))]));
    assert_eq!((code, records), (0, 1), "{message}");
}

#[test]
fn the_minimum_of_replicas_and_eligible_replicas() {
    let mut cluster = cluster();
    let edits = [("min.insync.replicas", SET, Some("2"))];
    check(alter(&mut cluster, incremental(BROKER, "1", &edits)), ErrorCode::InvalidConfig, "(ELR)");
    let gone = [("min.insync.replicas", DELETE, None)];
    check(alter(&mut cluster, incremental(BROKER, "", &gone)), ErrorCode::InvalidConfig, "not removed");
    let mut cleared = |kind, name: &str| {
        let (code, message, records) = alter(&mut cluster, incremental(kind, name, &edits));
        assert_eq!((code, records), (0, 2), "{message}");
        match cluster.log.last() {
            Some(MetadataRecord::ClearElrRecord(record)) => record.topic_name.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(cleared(TOPIC, "t"), "t");
    assert_eq!(cleared(BROKER, ""), "");
}

#[test]
fn the_old_way_replaces_everything() {
    let mut cluster = cluster();
    let first = replacing(TOPIC, "t", &[("retention.ms", Some("7")), ("segment.ms", Some("8"))]);
    assert_eq!(replace(&mut cluster, first).2, 2);
    let second = replacing(TOPIC, "t", &[("retention.ms", Some("7")), ("retention.bytes", Some("9"))]);
    // One is new, one is gone, one stays.
    assert_eq!(replace(&mut cluster, second).2, 2);
    assert_eq!(value(&cluster, "t", "retention.ms").as_deref(), Some("7"));
    assert_eq!(value(&cluster, "t", "segment.ms"), None);
    assert_eq!(replace(&mut cluster, replacing(TOPIC, "t", &[])).2, 2);
    assert_eq!(cluster.controller.image().config(ResourceType::TOPIC, "t"), None);
}

#[test]
fn refusals_of_the_old_way() {
    let mut cluster = cluster();
    let mut refuse = |kind, name: &str, values: &[(&str, Option<&str>)], code, says: &str| {
        check(replace(&mut cluster, replacing(kind, name, values)), code, says);
    };
    let good = [("retention.ms", Some("1"))];
    refuse(TOPIC, "nope", &good, ErrorCode::UnknownTopicOrPartition, "does not exist");
    refuse(99, "t", &good, ErrorCode::UnsupportedVersion, "is unknown");
    refuse(BROKER, "9", &[("num.io.threads", Some("2"))], ErrorCode::BrokerIdNotRegistered, "no node");
    refuse(TOPIC, "t", &[("retention.ms", None)], ErrorCode::InvalidRequest, "A value is missing");
    refuse(TOPIC, "t", &[("retention.ms", Some("x"))], ErrorCode::InvalidConfig, "retention.ms");
    refuse(
        TOPIC,
        "t",
        &[("retention.ms", Some("1")), ("retention.ms", Some("2"))],
        ErrorCode::InvalidRequest,
        "given more than once",
    );
    let request = old::AlterConfigsRequest {
        resources: vec![
            replacing(TOPIC, "t", &good),
            replacing(TOPIC, "t", &good),
            replacing(TOPIC, "u", &good),
        ],
        validate_only: true,
    };
    let decision = cluster.controller.alter_configs(&request);
    let codes: Vec<i16> = decision.response.responses.iter().map(|answer| answer.error_code).collect();
    assert_eq!((codes, decision.records.len()), (vec![42, 0], 0));
}
