//! DescribeProducers 0 (KIP-664): who writes to a partition, as the partition's producer state knows it.

use ottla_protocol::messages::describe_producers_request::DescribeProducersRequest;
use ottla_protocol::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};

use crate::Broker;
use crate::call::Call;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeProducersRequest<'_>) {
    let table = broker.topics();
    let now = call.now;
    let asked = request
        .topics
        .iter()
        .flat_map(|topic| topic.partition_indexes.iter().map(|index| (&*topic.name, *index)));
    let known: Vec<_> =
        asked.filter_map(|(topic, index)| table.partition_by_name(topic, index).ok()).collect();
    if call.must_leave(&known) {
        return call.on_reader_thread();
    }
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&partition_index| {
            let found = table.partition_by_name(&topic.name, partition_index).and_then(|partition| {
                partition.with_log(-1, now, |log, _| log.producers().map(describe).collect::<Vec<_>>())
            });
            let empty = PartitionResponse { partition_index, ..Default::default() };
            match found {
                Ok(active_producers) => PartitionResponse { active_producers, ..empty },
                Err(error) => PartitionResponse { error_code: error.code(), ..empty },
            }
        });
        TopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    let response = DescribeProducersResponse { topics: topics.collect(), ..Default::default() };
    call.respond(&response);
}

fn describe(producer: ottla_storage::ProducerSummary) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.producer_epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.current_txn_start_offset.unwrap_or(-1),
    }
}
