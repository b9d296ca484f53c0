//! A transaction that hangs: a partition holds its first record, and its coordinator knows nothing of it.
//!
//! That is what a bug in an old client left behind (KIP-890): a producer that sent a batch late, when its transaction was over already.
//! Brokers refuse it since they ask the coordinator, so the script's brokers do not ask (`transaction.partition.verification.enable`).

use crate::steps::Trouble;
use crate::wire::Connection;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::wire::Records;
use ottla_protocol::{Message, Reader};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(30);
/// Versions from before transaction version 2, in which producers add their partitions themselves; this one does not.
const INIT_PRODUCER_ID_VERSION: i16 = 4;
const PRODUCE_VERSION: i16 = 11;

/// Leaves a hanging transaction of `transactional_id` in partition 0 of `topic`. The inner error: the broker would not have it.
pub fn begin(bootstrap: &str, transactional_id: &str, topic: &str) -> Result<Result<(), String>, Trouble> {
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    let request = InitProducerIdRequest {
        transactional_id: Some(transactional_id.into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let body = connection.ask(&request, INIT_PRODUCER_ID_VERSION)?;
    let mut reader = Reader::new(&body);
    let producer =
        InitProducerIdResponse::decode(&mut reader, INIT_PRODUCER_ID_VERSION).map_err(Trouble::new)?;
    if producer.error_code != 0 {
        return Ok(Err(format!("InitProducerId: error {}", producer.error_code)));
    }
    let mut batch = BatchBuilder::new(
        0,
        BatchOptions {
            producer_id: producer.producer_id,
            producer_epoch: producer.producer_epoch,
            base_sequence: 0,
            transactional: true,
            ..Default::default()
        },
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Trouble::new)?.as_millis() as i64;
    batch.push(now, None, Some(b"too late"), &[]);
    let batch = batch.finish();
    let request = ProduceRequest {
        transactional_id: Some(transactional_id.into()),
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) }],
            ..Default::default()
        }],
    };
    let body = connection.ask(&request, PRODUCE_VERSION)?;
    let response = ProduceResponse::decode(&mut Reader::new(&body), PRODUCE_VERSION).map_err(Trouble::new)?;
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    Ok(match partitions.find(|partition| partition.error_code != 0) {
        None => Ok(()),
        Some(refused) => Err(format!("Produce: error {}", refused.error_code)),
    })
}
