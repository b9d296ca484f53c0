//! DescribeLogDirs 1-5 (KIP-113): which partitions live in the log directory, and their sizes.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

use crate::Broker;
use crate::call::Call;

/// Handles the request. Null topics: all. Topics that are unknown here are left out, as in Kafka.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeLogDirsRequest<'_>) {
    if !call.may_wait {
        return call.on_reader_thread();
    }
    let table = broker.topics();
    let size = |index: i32, size: u64| DescribeLogDirsPartition {
        partition_index: index,
        partition_size: i64::try_from(size).unwrap_or(i64::MAX),
        offset_lag: 0,
        is_future_key: false,
    };
    let topics = match &request.topics {
        None => table
            .iter()
            .map(|topic| DescribeLogDirsTopic {
                name: topic.topic.name.to_string().into(),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|partition| size(partition.index, partition.size()))
                    .collect(),
            })
            .collect(),
        Some(asked) => asked
            .iter()
            .map(|topic| DescribeLogDirsTopic {
                name: topic.topic.clone(),
                partitions: topic
                    .partitions
                    .iter()
                    .filter_map(|&index| table.partition_by_name(&topic.topic, index).ok())
                    .map(|partition| size(partition.index, partition.size()))
                    .collect(),
            })
            .filter(|topic| !topic.partitions.is_empty())
            .collect(),
    };
    let store = broker.store();
    let (error, (total, usable)) = match store.usage() {
        Ok(usage) => (ErrorCode::None, usage),
        Err(_) => (ErrorCode::KafkaStorageError, (0, 0)),
    };
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let result = DescribeLogDirsResult {
        error_code: error.code(),
        log_dir: store.root().display().to_string().into(),
        topics,
        total_bytes: bytes(total),
        usable_bytes: bytes(usable),
        is_cordoned: false,
    };
    call.respond(&DescribeLogDirsResponse { results: vec![result], ..Default::default() });
}
