//! Fetch (1), versions 4-18, of `__cluster_metadata`: how replicas follow the quorum's leader (KIP-595).
//!
//! - Since v12 an answer can say that the logs differ, or that a snapshot is needed, and who leads; v17 names the asker's disk (KIP-853),
//!   v18 what it knows to be committed (KIP-1166).
//! - Records are believed after their checksums, offsets and epochs were checked. The last batch may have been cut off by the leader.

use bytes::Bytes;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ReplicaState};
use ottla_protocol::messages::fetch_response::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
    SnapshotId,
};
use ottla_protocol::records;
use ottla_protocol::{Chain, ErrorCode, Records, Uuid};
use ottla_raft::{FetchedRecords, OffsetAndEpoch};

use super::{TOPIC, Wire, code, control, key, only, refusal};

/// The most bytes that one fetch asks for, and that one answer has (Kafka: `controller.quorum.fetch.max.bytes`).
pub(crate) const FETCH_BYTES_MAX: i32 = 1 << 20;
/// How long a fetch waits at the leader for something new (Kafka: `MAX_FETCH_WAIT_MS`).
pub(crate) const FETCH_WAIT_MS: i32 = 500;

impl Wire {
    pub(crate) fn fetch_request(&self, request: &ottla_raft::FetchRequest) -> FetchRequest<'_> {
        let partition = FetchPartition {
            partition: 0,
            current_leader_epoch: request.epoch,
            fetch_offset: request.log_end.offset,
            last_fetched_epoch: request.log_end.epoch,
            partition_max_bytes: FETCH_BYTES_MAX,
            replica_directory_id: Uuid(request.replica.directory_id),
            high_watermark: request.high_watermark.unwrap_or(-1),
            ..Default::default()
        };
        FetchRequest {
            cluster_id: self.cluster(),
            replica_id: request.replica.id,
            replica_state: ReplicaState { replica_id: request.replica.id, replica_epoch: -1 },
            max_wait_ms: FETCH_WAIT_MS,
            min_bytes: 0,
            max_bytes: FETCH_BYTES_MAX,
            topics: vec![FetchTopic {
                topic: TOPIC.into(),
                topic_id: Uuid::METADATA_TOPIC,
                partitions: vec![partition],
            }],
            ..Default::default()
        }
    }

    /// What is asked; `None` if it is not about the metadata log. An error is for the whole answer.
    pub(crate) fn read_fetch_request(
        &self,
        request: &FetchRequest<'_>,
    ) -> Result<ottla_raft::FetchRequest, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let topic = only(&request.topics).filter(|topic| is_metadata(topic));
        let partition = topic.and_then(|topic| only(&topic.partitions));
        let asked =
            partition.filter(|partition| partition.partition == 0).ok_or(ErrorCode::InvalidRequest)?;
        if request.max_wait_ms < 0 || asked.last_fetched_epoch < 0 || asked.current_leader_epoch < 0 {
            return Err(ErrorCode::InvalidRequest);
        }
        // Up to v14 the asker stands elsewhere; each version leaves the other place at its default.
        let id = request.replica_id.max(request.replica_state.replica_id);
        Ok(ottla_raft::FetchRequest {
            request: 0,
            replica: key(id, asked.replica_directory_id),
            epoch: asked.current_leader_epoch,
            log_end: OffsetAndEpoch { offset: asked.fetch_offset, epoch: asked.last_fetched_epoch },
            high_watermark: Some(asked.high_watermark).filter(|offset| *offset >= 0),
        })
    }

    /// The answer; `log_start_offset` and the records are the log's.
    pub(crate) fn fetch_response<'r>(
        &self,
        response: &'r ottla_raft::FetchResponse,
        log_start_offset: i64,
        records: Chain,
    ) -> FetchResponse<'r> {
        let leader = response.leader.as_ref();
        let high_watermark = response.high_watermark.unwrap_or(-1);
        let mut data = PartitionData {
            partition_index: 0,
            error_code: code(response.refusal).code(),
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset,
            current_leader: LeaderIdAndEpoch {
                leader_id: leader.map_or(-1, |leader| leader.id),
                leader_epoch: response.epoch,
            },
            records: Some(Records::Chain(records)),
            ..Default::default()
        };
        if let Some(OffsetAndEpoch { offset, epoch }) = response.diverging {
            data.diverging_epoch = EpochEndOffset { epoch, end_offset: offset };
        }
        if let Some(OffsetAndEpoch { offset, epoch }) = response.snapshot {
            data.snapshot_id = SnapshotId { end_offset: offset, epoch };
        }
        let endpoint = self.node_endpoint(leader).map(|(node_id, host, port)| NodeEndpoint {
            node_id,
            host: host.into(),
            port: port.into(),
            rack: None,
        });
        FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic: TOPIC.into(),
                topic_id: Uuid::METADATA_TOPIC,
                partitions: vec![data],
            }],
            node_endpoints: endpoint.into_iter().collect(),
            ..Default::default()
        }
    }

    /// What is answered, and the records, which are slices of `frame`. Records that contradict themselves are an error.
    pub(crate) fn read_fetch_response(
        &self,
        response: &FetchResponse<'_>,
        frame: &Bytes,
    ) -> Result<(ottla_raft::FetchResponse, Bytes), ErrorCode> {
        if response.error_code != ErrorCode::None.code() {
            return Err(ErrorCode::from_code(response.error_code));
        }
        let data = only(&response.responses).and_then(|topic| only(&topic.partitions));
        let data = data.ok_or(ErrorCode::InvalidRequest)?;
        let nodes = response
            .node_endpoints
            .iter()
            .filter_map(|node| u16::try_from(node.port).ok().map(|port| (node.node_id, &*node.host, port)));
        let bytes = match &data.records {
            Some(Records::Slice(slice)) => frame.slice_ref(slice),
            Some(Records::Chain(_)) => return Err(ErrorCode::InvalidRecord),
            None => Bytes::new(),
        };
        let (bytes, records) = read_records(bytes)?;
        let diverging = &data.diverging_epoch;
        let snapshot = &data.snapshot_id;
        let response = ottla_raft::FetchResponse {
            refusal: refusal(data.error_code)?,
            epoch: data.current_leader.leader_epoch,
            leader: self.leader(data.current_leader.leader_id, nodes),
            high_watermark: Some(data.high_watermark).filter(|offset| *offset >= 0),
            diverging: (diverging.epoch >= 0)
                .then_some(OffsetAndEpoch { offset: diverging.end_offset, epoch: diverging.epoch }),
            snapshot: (snapshot.epoch >= 0)
                .then_some(OffsetAndEpoch { offset: snapshot.end_offset, epoch: snapshot.epoch }),
            records,
        };
        Ok((response, bytes))
    }
}

/// Whether a fetch of this topic concerns the quorum: by its id since v13, by its name before.
fn is_metadata(topic: &FetchTopic<'_>) -> bool {
    topic.topic_id == Uuid::METADATA_TOPIC || topic.topic == TOPIC
}

/// The whole batches among these bytes, and what raft needs to know of them.
fn read_records(bytes: Bytes) -> Result<(Bytes, Option<FetchedRecords>), ErrorCode> {
    let mut records: Option<FetchedRecords> = None;
    let mut size = 0;
    for batch in records::batches(&bytes) {
        let batch = batch.map_err(|_| ErrorCode::CorruptMessage)?;
        batch.verify_crc().map_err(|_| ErrorCode::CorruptMessage)?;
        let end = OffsetAndEpoch { offset: batch.next_offset(), epoch: batch.leader_epoch };
        let so_far = records.get_or_insert_with(|| FetchedRecords {
            base_offset: batch.base_offset,
            first_epoch: end.epoch,
            end: OffsetAndEpoch { offset: batch.base_offset, epoch: end.epoch },
            control: Vec::new(),
        });
        if batch.base_offset != so_far.end.offset || end.epoch < so_far.end.epoch {
            return Err(ErrorCode::InvalidRecord);
        }
        so_far.end = end;
        so_far.control.extend(control::controls(&batch).map_err(|_| ErrorCode::InvalidRecord)?);
        size += batch.size();
    }
    Ok((bytes.slice(..size), records))
}
