//! Configurations: set while the node runs, for a broker, all brokers or a topic; where a value comes from, and what is refused.

use ottla_protocol::compression::Codec;
use ottla_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use ottla_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResponse;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResponse;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Records};

use super::{Rig, batch};
use crate::client::read;
use crate::world::Death;

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const GROUP: i8 = 32;
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
fn what_can_not_be_changed_while_the_node_runs_is_refused() {
    let mut rig = Rig::new();
    // A restart is needed; and here; there is no such thing; not a number; no such broker.
    let refused = ErrorCode::InvalidRequest;
    assert_eq!(alter(&mut rig, BROKER, "1", "num.partitions", Some("3")), refused);
    assert_eq!(alter(&mut rig, BROKER, "1", "listeners", Some("PLAINTEXT://:1")), refused);
    assert_eq!(alter(&mut rig, BROKER, "", "config.providers", Some("vault")), refused);
    assert_eq!(alter(&mut rig, BROKER, "", "log.segment.bytes", Some("many")), refused);
    assert_eq!(
        alter(&mut rig, BROKER, "7", "log.segment.bytes", Some("2097152")),
        ErrorCode::BrokerIdNotRegistered
    );
    assert_eq!(alter(&mut rig, BROKER, "1", "log.segment.bytes", Some("2097152")), ErrorCode::None);
}

/// Operators and their tools set such keys on clusters of any kind, and would take an error for a reason to restart the node.
#[test]
fn what_nobody_acts_upon_is_kept_and_the_node_says_so() {
    let mut rig = Rig::new();
    assert_eq!(alter(&mut rig, BROKER, "", "num.io.threads", Some("16")), ErrorCode::None);
    assert_eq!(describe(&mut rig, BROKER, "1", "num.io.threads"), (Some("16".into()), 3, vec![3, 5]));
    let told = "set for brokers, but without effect here: num.io.threads";
    assert_eq!(rig.world.reports.iter().filter(|report| *report == told).count(), 1);
    assert_eq!(alter(&mut rig, BROKER, "1", "log.cleaner.backoff.ms", Some("100")), ErrorCode::None);
    assert_eq!(rig.world.reports.iter().filter(|report| report.contains("without effect")).count(), 1);
    assert_eq!(alter(&mut rig, BROKER, "", "num.io.threads", Some("many")), ErrorCode::InvalidRequest);
    // So are those of groups, within the bounds that the node sets.
    let invalid = ErrorCode::InvalidConfig;
    assert_eq!(alter(&mut rig, GROUP, "g", "share.session.timeout.ms", Some("50000")), ErrorCode::None);
    assert_eq!(describe(&mut rig, GROUP, "g", "share.session.timeout.ms").0.as_deref(), Some("50000"));
    assert_eq!(alter(&mut rig, GROUP, "g", "share.session.timeout.ms", Some("60001")), invalid);
    assert_eq!(alter(&mut rig, GROUP, "g", "share.delivery.count.limit", Some("11")), invalid);
    assert_eq!(alter(&mut rig, GROUP, "g", "streams.num.standby.replicas", Some("3")), invalid);
    assert_eq!(alter(&mut rig, GROUP, "g", "streams.num.standby.replicas", Some("2")), ErrorCode::None);
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

/// The log asks for the coordinator's word from then on, so produce has to get it.
#[test]
fn partitions_of_transactions_are_verified_from_the_moment_that_it_is_asked_for() {
    const KEY: &str = "transaction.partition.verification.enable";
    let mut rig = Rig::with(&[(KEY, "false"), ("transaction.state.log.num.partitions", "1")]);
    let (producer_id, epoch) = init(&mut rig);
    add_partition(&mut rig, producer_id, epoch);
    assert_eq!(produced_in_transaction(&mut rig, producer_id, epoch, 0), 0);
    assert_eq!(alter(&mut rig, BROKER, "1", KEY, Some("true")), ErrorCode::None);
    let (producer_id, epoch) = init(&mut rig);
    add_partition(&mut rig, producer_id, epoch);
    assert_eq!(produced_in_transaction(&mut rig, producer_id, epoch, 0), 0);
}

fn init(rig: &mut Rig) -> (i64, i16) {
    let request = InitProducerIdRequest {
        transactional_id: Some("x".into()),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    // At first the coordinator's topic has to be made, and what was open before has to be ended.
    for _ in 0..100 {
        let answer = rig.ask(&request, 4);
        let response: InitProducerIdResponse = read(&answer, 4).expect("an answer");
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => return (response.producer_id, response.producer_epoch),
            ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => {
                let keys = vec!["x".into()];
                rig.ask(
                    &FindCoordinatorRequest { key_type: 1, coordinator_keys: keys, ..Default::default() },
                    4,
                );
            }
            ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorLoadInProgress => {}
            error => panic!("{error:?}"),
        }
        let until = rig.world.now + 100;
        while rig.world.step(until) {}
    }
    panic!("no producer id");
}

fn add_partition(rig: &mut Rig, producer_id: i64, producer_epoch: i16) {
    let topic = AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![0] };
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "x".into(),
        v3_and_below_producer_id: producer_id,
        v3_and_below_producer_epoch: producer_epoch,
        v3_and_below_topics: vec![topic],
        ..Default::default()
    };
    let answer = rig.ask(&request, 3);
    let response: AddPartitionsToTxnResponse<'_> = read(&answer, 3).expect("an answer");
    let told = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
    assert_eq!(told.partition_error_code, 0);
}

fn produced_in_transaction(rig: &mut Rig, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> i16 {
    let options = BatchOptions {
        producer_id,
        producer_epoch,
        base_sequence,
        transactional: true,
        ..Default::default()
    };
    let mut builder = BatchBuilder::new(0, options);
    builder.push(rig.world.now, None, Some(b"v"), &[]);
    let batch = builder.finish();
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest {
        transactional_id: Some("x".into()),
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
    };
    let answer = rig.ask(&request, 9);
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
    response.responses[0].partition_responses[0].error_code
}
