//! The requests that the chore makes beside its producer.

use crate::wire::Connection;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_records_response::DeleteRecordsResponse;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::delete_topics_response::DeleteTopicsResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{self, BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Message, Reader, Records};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Bytes of a record.
pub const VALUE_BYTES: usize = 256 << 10;

/// A connection; errors are sentences.
pub struct Client(Connection);

impl Client {
    pub fn open(address: &str) -> Result<Client, String> {
        Connection::open(address, PATIENCE).map(Client).map_err(|error| error.to_string())
    }

    pub fn create(&mut self, name: &str, num_partitions: i32) -> Result<(), String> {
        let topic =
            CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let answer = self.0.ask(&request, 5).map_err(|error| error.to_string())?;
        let response: CreateTopicsResponse<'_> = read(&answer, 5)?;
        good(response.topics[0].error_code, "CreateTopics")
    }

    /// A batch of one record, acks=all. `Err`: there was no answer.
    pub fn produce(&mut self, topic: &str, index: i32, value: &[u8]) -> Result<(ErrorCode, i64), String> {
        let mut builder = BatchBuilder::new(0, BatchOptions::default());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        builder.push(now.as_millis() as i64, None, Some(value), &[]);
        let batch = builder.finish();
        let data = PartitionProduceData { index, records: Some(Records::Slice(&batch)) };
        let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        let answer = self.0.ask(&request, 9).map_err(|error| error.to_string())?;
        let response: ProduceResponse<'_> = read(&answer, 9)?;
        let told = &response.responses[0].partition_responses[0];
        Ok((ErrorCode::from_code(told.error_code), told.base_offset))
    }

    /// Writes so many bytes to a topic.
    pub fn fill(&mut self, topic: &str, bytes: usize) -> Result<(), String> {
        for _ in 0..bytes.div_ceil(VALUE_BYTES) {
            let (error, _) = self.produce(topic, 0, &[7; VALUE_BYTES])?;
            good(error.code(), "Produce")?;
        }
        Ok(())
    }

    pub fn delete(&mut self, name: &str) -> Result<(), String> {
        let request =
            DeleteTopicsRequest { topic_names: vec![name.into()], timeout_ms: 10_000, ..Default::default() };
        let answer = self.0.ask(&request, 5).map_err(|error| error.to_string())?;
        let response: DeleteTopicsResponse<'_> = read(&answer, 5)?;
        good(response.responses[0].error_code, "DeleteTopics")
    }

    /// Deletes all records of a topic of one partition.
    pub fn delete_records(&mut self, name: &str) -> Result<(), String> {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
        let topic = DeleteRecordsTopic { name: name.into(), partitions };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
        let answer = self.0.ask(&request, 2).map_err(|error| error.to_string())?;
        let response: DeleteRecordsResponse<'_> = read(&answer, 2)?;
        good(response.topics[0].partitions[0].error_code, "DeleteRecords")
    }

    pub fn retain_bytes(&mut self, name: &str, bytes: u64) -> Result<(), String> {
        let value = bytes.to_string();
        let config = AlterableConfig {
            name: "retention.bytes".into(),
            config_operation: 0,
            value: Some(value.as_str().into()),
        };
        let resource =
            AlterConfigsResource { resource_type: 2, resource_name: name.into(), configs: vec![config] };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = self.0.ask(&request, 1).map_err(|error| error.to_string())?;
        let response: IncrementalAlterConfigsResponse<'_> = read(&answer, 1)?;
        good(response.responses[0].error_code, "IncrementalAlterConfigs")
    }

    /// Reads a partition from its begin to its end, and shows every record. Returns the bytes of the values.
    pub fn read_all(
        &mut self,
        topic: &str,
        partition: i32,
        mut visit: impl FnMut(i64, &[u8]) -> Result<(), String>,
    ) -> Result<usize, String> {
        let (mut offset, mut bytes) = (0, 0);
        loop {
            let wanted = FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            let of_topic = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..Default::default() };
            let request = FetchRequest {
                max_wait_ms: 0,
                min_bytes: 0,
                max_bytes: 1 << 20,
                topics: vec![of_topic],
                ..Default::default()
            };
            let answer = self.0.ask(&request, 11).map_err(|error| format!("a fetch of {topic}: {error}"))?;
            let response: FetchResponse<'_> = read(&answer, 11)?;
            let data = &response.responses[0].partitions[0];
            good(data.error_code, "Fetch")?;
            if offset >= data.high_watermark {
                return Ok(bytes);
            }
            let Some(Records::Slice(found)) = &data.records else {
                return Err(format!("no records of {topic}-{partition} at offset {offset}"));
            };
            let before = offset;
            for batch in records::batches(found) {
                let batch = batch.map_err(|error| error.to_string())?;
                batch.verify_crc().map_err(|error| error.to_string())?;
                for record in &batch.records(1 << 26).map_err(|error| error.to_string())? {
                    let record = record.map_err(|error| error.to_string())?;
                    let value = record.value.unwrap_or_default();
                    if record.offset >= offset {
                        visit(record.offset, value)?;
                        bytes += value.len();
                        offset = record.offset + 1;
                    }
                }
            }
            if offset == before {
                return Err(format!("no whole record of {topic}-{partition} at offset {offset}"));
            }
        }
    }
}

fn read<'a, M: Message<'a>>(body: &'a [u8], version: i16) -> Result<M, String> {
    M::decode(&mut Reader::new(body), version).map_err(|error| error.to_string())
}

fn good(code: i16, what: &str) -> Result<(), String> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        error => Err(format!("{what} is answered with {}", error.name())),
    }
}
