//! Configurations: set while the node runs, for a broker, all brokers or a topic; where a value comes from, and what is refused.

use ottla_protocol::ErrorCode;
use ottla_protocol::compression::Codec;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResponse;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};

use super::{Rig, batch};
use crate::client::read;
use crate::world::Death;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

pub(super) fn alter(
    rig: &mut Rig,
    kind: i8,
    name: &'static str,
    key: &'static str,
    value: Option<&'static str>,
) -> ErrorCode {
    let config = AlterableConfig {
        name: key.into(),
        config_operation: if value.is_some() { SET } else { DELETE },
        value: value.map(Into::into),
    };
    let resource =
        AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = rig.ask(&request, 1);
    let response: IncrementalAlterConfigsResponse<'_> = read(&answer, 1).expect("an alter configs response");
    ErrorCode::from_code(response.responses[0].error_code)
}

/// Value and source of a key, and the sources of what is behind it.
fn describe(rig: &mut Rig, kind: i8, name: &'static str, key: &'static str) -> (Option<String>, i8, Vec<i8>) {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: Some(vec![key.into()]),
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    let answer = rig.ask(&request, 4);
    let response: DescribeConfigsResponse<'_> = read(&answer, 4).expect("a describe configs response");
    let told = &response.results[0].configs[0];
    let synonyms = told.synonyms.iter().map(|synonym| synonym.source).collect();
    (told.value.as_deref().map(str::to_owned), told.config_source, synonyms)
}

#[test]
fn what_is_set_for_brokers_takes_effect_at_once_and_outlives_a_restart() {
    let mut rig = Rig::new();
    let large = "x".repeat(5_000);
    let large = batch(&[&large], rig.world.now);
    assert_eq!(rig.produced(0, -1, &large), (0, 0));
    assert_eq!(alter(&mut rig, BROKER, "", "message.max.bytes", Some("1000")), ErrorCode::None);
    assert_eq!(rig.produced(0, -1, &large).0, ErrorCode::MessageTooLarge.code());
    rig.world.restart(Death::PowerLoss).expect("the node starts again");
    assert_eq!(rig.produced(0, -1, &large).0, ErrorCode::MessageTooLarge.code());
    // The one for this broker is stronger, the topic's own stronger still.
    assert_eq!(alter(&mut rig, BROKER, "1", "message.max.bytes", Some("2000")), ErrorCode::None);
    assert_eq!(describe(&mut rig, BROKER, "1", "message.max.bytes"), (Some("2000".into()), 2, vec![2, 3, 5]));
    assert_eq!(describe(&mut rig, TOPIC, "t", "max.message.bytes"), (Some("2000".into()), 2, vec![2, 3, 5]));
    assert_eq!(describe(&mut rig, BROKER, "", "message.max.bytes"), (Some("1000".into()), 3, vec![3]));
    assert_eq!(alter(&mut rig, TOPIC, "t", "max.message.bytes", Some("9000")), ErrorCode::None);
    assert_eq!(rig.produced(0, -1, &large), (0, 1));
    assert_eq!(alter(&mut rig, TOPIC, "t", "max.message.bytes", None), ErrorCode::None);
    assert_eq!(alter(&mut rig, BROKER, "1", "message.max.bytes", None), ErrorCode::None);
    assert_eq!(alter(&mut rig, BROKER, "", "message.max.bytes", None), ErrorCode::None);
    assert_eq!(describe(&mut rig, BROKER, "1", "message.max.bytes").1, 5);
    assert_eq!(rig.produced(0, -1, &large), (0, 2));
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let mut rig = Rig::new();
    // A restart is needed; nothing acts upon it; one value only for one broker; not a number; no such broker.
    let refused = ErrorCode::InvalidRequest;
    assert_eq!(alter(&mut rig, BROKER, "1", "num.partitions", Some("3")), refused);
    assert_eq!(alter(&mut rig, BROKER, "1", "listeners", Some("PLAINTEXT://:1")), refused);
    assert_eq!(alter(&mut rig, BROKER, "", "num.replica.fetchers", Some("3")), refused);
    assert_eq!(alter(&mut rig, BROKER, "", "log.segment.bytes", Some("many")), refused);
    assert_eq!(
        alter(&mut rig, BROKER, "7", "log.segment.bytes", Some("2097152")),
        ErrorCode::BrokerIdNotRegistered
    );
    assert_eq!(alter(&mut rig, BROKER, "1", "log.segment.bytes", Some("2097152")), ErrorCode::None);
}

#[test]
fn records_in_compressed_batches_are_limited_at_once() {
    let mut rig = Rig::new();
    let options = BatchOptions { codec: Codec::Zstd, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(0, options);
    builder.push(rig.world.now, None, Some(&[b'x'; 5_000]), &[]);
    let packed = builder.finish();
    let key = "max.decompressed.message.bytes";
    assert_eq!(rig.produced(0, -1, &packed), (0, 0));
    assert_eq!(alter(&mut rig, BROKER, "", key, Some("4000")), ErrorCode::None);
    assert_eq!(rig.produced(0, -1, &packed).0, ErrorCode::InvalidRecord.code());
    assert_eq!(alter(&mut rig, TOPIC, "t", key, Some("6000")), ErrorCode::None);
    assert_eq!(rig.produced(0, -1, &packed), (0, 1));
}

#[test]
fn the_cleaner_is_changed_while_it_runs() {
    let mut rig = Rig::new();
    let mut set = |key, value| alter(&mut rig, BROKER, "1", key, Some(value));
    assert_eq!(set("log.cleaner.threads", "3"), ErrorCode::None);
    assert_eq!(set("log.cleaner.io.max.bytes.per.second", "1000000"), ErrorCode::None);
    assert_eq!(set("log.cleaner.io.buffer.load.factor", "0.5"), ErrorCode::None);
    assert_eq!(set("log.cleaner.backoff.ms", "100"), ErrorCode::None);
    // Each of the threads needs more than a mebibyte.
    assert_eq!(set("log.cleaner.dedupe.buffer.size", "3145728"), ErrorCode::InvalidRequest);
    assert_eq!(set("log.cleaner.dedupe.buffer.size", "3145731"), ErrorCode::None);
    assert_eq!(set("log.cleaner.enable", "false"), ErrorCode::InvalidRequest, "a restart is needed");
    assert_eq!(describe(&mut rig, BROKER, "1", "log.cleaner.threads"), (Some("3".into()), 2, vec![2, 5]));
}

/// Tools that keep a cluster as it is written down somewhere compare what was set, not what it amounts to.
#[test]
fn what_was_set_is_told_even_if_it_is_the_default() {
    let mut rig = Rig::new();
    let before = describe(&mut rig, TOPIC, "t", "retention.ms");
    assert_eq!((before.0.as_deref(), before.1), (Some("604800000"), 5));
    assert_eq!(alter(&mut rig, TOPIC, "t", "retention.ms", Some("604800000")), ErrorCode::None);
    let after = describe(&mut rig, TOPIC, "t", "retention.ms");
    assert_eq!((after.0.as_deref(), after.1), (Some("604800000"), 1));
    assert_eq!(alter(&mut rig, TOPIC, "t", "retention.ms", None), ErrorCode::None);
    assert_eq!(describe(&mut rig, TOPIC, "t", "retention.ms").1, 5);
}
