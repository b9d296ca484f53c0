//! OffsetForLeaderEpoch 2-4 (KIP-101, KIP-320): where the records of the largest epoch not above the asked one end.

use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderEpochRequest;
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use crate::Broker;
use crate::call::Call;

/// Handles the request. An epoch that this log knows nothing of is answered with -1/-1 and no error.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: OffsetForLeaderEpochRequest<'_>) {
    let table = broker.topics();
    let now = call.now;
    let asked = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|asked| (&*topic.topic, asked.partition)));
    let known: Vec<_> =
        asked.filter_map(|(topic, index)| table.partition_by_name(topic, index).ok()).collect();
    if call.must_leave(&known) {
        return call.on_reader_thread();
    }
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = table.partition_by_name(&topic.topic, asked.partition).and_then(|partition| {
                partition.with_log(asked.current_leader_epoch, now, |log, _| {
                    log.end_offset_for_epoch(asked.leader_epoch)
                })
            });
            let empty = EpochEndOffset { partition: asked.partition, ..Default::default() };
            match found {
                Ok(Some((leader_epoch, end_offset))) => EpochEndOffset { leader_epoch, end_offset, ..empty },
                Ok(None) => empty,
                Err(error) => EpochEndOffset { error_code: error.code(), ..empty },
            }
        });
        OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions: partitions.collect() }
    });
    let response = OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() };
    call.respond(&response);
}
