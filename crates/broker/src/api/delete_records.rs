//! DeleteRecords 0-2 (KIP-107): moves the start of a log up; whole segments below it are removed.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use ottla_storage::DeleteJob;

use crate::Broker;
use crate::call::Call;
use crate::partition::Partition;

/// "Everything that is committed."
const HIGH_WATERMARK: i64 = -1;

/// Handles the request on a reader thread: files are removed, and the new start is on disk before the answer leaves.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DeleteRecordsRequest<'_>) {
    if !call.may_wait {
        return call.on_reader_thread();
    }
    let table = broker.topics();
    let now = call.now;
    let mut jobs = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let deleted = table
                .partition_by_name(&topic.name, asked.partition_index)
                .and_then(|partition| Ok((delete(broker, &partition, asked, now)?, partition)));
            let (low_watermark, error_code) = match deleted {
                Ok(((low_watermark, job), partition)) => {
                    jobs.push((partition, job));
                    (low_watermark, 0)
                }
                Err(error) => (-1, error.code()),
            };
            DeleteRecordsPartitionResult { partition_index: asked.partition_index, low_watermark, error_code }
        });
        topics.push(DeleteRecordsTopicResult { name: topic.name.clone(), partitions: partitions.collect() });
    }
    let mut response = DeleteRecordsResponse { topics, ..Default::default() };
    let removed = broker.dispose_of(jobs, now, call.out);
    if let Err(error) = removed {
        call.out.push(crate::Effect::Report(error));
        for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.error_code = ErrorCode::KafkaStorageError.code();
        }
    }
    call.respond(&response);
}

fn delete(
    broker: &Broker,
    partition: &Partition,
    asked: &DeleteRecordsPartition,
    now: i64,
) -> Result<(i64, DeleteJob), ErrorCode> {
    if partition.topic.internal {
        return Err(ErrorCode::InvalidTopicException);
    }
    if broker.is_compacted_only(&partition.topic.name) {
        return Err(ErrorCode::PolicyViolation);
    }
    partition.with_log(-1, now, |log, positions| {
        let to = if asked.offset == HIGH_WATERMARK { positions.high_watermark } else { asked.offset };
        if to < 0 || to > positions.high_watermark {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let job = log.advance_log_start_offset(to).map_err(|error| error.code())?;
        Ok((log.log_start_offset(), job))
    })?
}
