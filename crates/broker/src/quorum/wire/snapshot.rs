//! FetchSnapshot (59), versions 0-1: a part of a snapshot, by its position (KIP-630); v1 names the asker's disk.

use bytes::Bytes;
use ottla_protocol::messages::fetch_snapshot_request as request;
use ottla_protocol::messages::fetch_snapshot_response as response;
use ottla_protocol::{Chain, ErrorCode, Records, Uuid};
use ottla_raft::{FetchSnapshotRequest, FetchSnapshotResponse, OffsetAndEpoch};

use super::fetch::FETCH_BYTES_MAX;
use super::{TOPIC, Wire, code, key, only, refusal};

impl Wire {
    pub(crate) fn fetch_snapshot_request(
        &self,
        asked: &FetchSnapshotRequest,
    ) -> request::FetchSnapshotRequest<'_> {
        let partition = request::PartitionSnapshot {
            partition: 0,
            current_leader_epoch: asked.epoch,
            snapshot_id: request::SnapshotId {
                end_offset: asked.snapshot.offset,
                epoch: asked.snapshot.epoch,
            },
            position: asked.position,
            replica_directory_id: Uuid(asked.replica.directory_id),
        };
        request::FetchSnapshotRequest {
            cluster_id: self.cluster(),
            replica_id: asked.replica.id,
            max_bytes: FETCH_BYTES_MAX,
            topics: vec![request::TopicSnapshot { name: TOPIC.into(), partitions: vec![partition] }],
        }
    }

    /// What is asked, and how many bytes the answer may have.
    pub(crate) fn read_fetch_snapshot_request(
        &self,
        request: &request::FetchSnapshotRequest<'_>,
    ) -> Result<(FetchSnapshotRequest, usize), ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let topic = only(&request.topics).filter(|topic| topic.name == TOPIC);
        let partition = topic.and_then(|topic| only(&topic.partitions));
        let asked = partition
            .filter(|partition| partition.partition == 0)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let bytes_max = request.max_bytes.clamp(0, FETCH_BYTES_MAX) as usize;
        let asked = FetchSnapshotRequest {
            request: 0,
            replica: key(request.replica_id, asked.replica_directory_id),
            epoch: asked.current_leader_epoch,
            snapshot: OffsetAndEpoch { offset: asked.snapshot_id.end_offset, epoch: asked.snapshot_id.epoch },
            position: asked.position,
        };
        Ok((asked, bytes_max))
    }

    pub(crate) fn fetch_snapshot_response<'r>(
        &self,
        answer: &'r FetchSnapshotResponse,
        bytes: Chain,
    ) -> response::FetchSnapshotResponse<'r> {
        let leader = answer.leader.as_ref();
        let partition = response::PartitionSnapshot {
            index: 0,
            error_code: code(answer.refusal).code(),
            snapshot_id: response::SnapshotId {
                end_offset: answer.snapshot.offset,
                epoch: answer.snapshot.epoch,
            },
            current_leader: response::LeaderIdAndEpoch {
                leader_id: leader.map_or(-1, |leader| leader.id),
                leader_epoch: answer.epoch,
            },
            size: answer.size,
            position: answer.position,
            unaligned_records: Some(Records::Chain(bytes)),
        };
        let node = self.node_endpoint(leader);
        response::FetchSnapshotResponse {
            topics: vec![response::TopicSnapshot { name: TOPIC.into(), partitions: vec![partition] }],
            node_endpoints: node
                .map(|(node_id, host, port)| response::NodeEndpoint { node_id, host: host.into(), port })
                .into_iter()
                .collect(),
            ..Default::default()
        }
    }

    /// What is answered, and the bytes, a slice of `frame`.
    pub(crate) fn read_fetch_snapshot_response(
        &self,
        response: &response::FetchSnapshotResponse<'_>,
        frame: &Bytes,
    ) -> Result<(FetchSnapshotResponse, Bytes), ErrorCode> {
        if response.error_code != ErrorCode::None.code() {
            return Err(ErrorCode::from_code(response.error_code));
        }
        let answer = only(&response.topics).and_then(|topic| only(&topic.partitions));
        let answer = answer.ok_or(ErrorCode::InvalidRequest)?;
        let bytes = match &answer.unaligned_records {
            Some(Records::Slice(slice)) => frame.slice_ref(slice),
            Some(Records::Chain(_)) => return Err(ErrorCode::InvalidRecord),
            None => Bytes::new(),
        };
        let nodes = response.node_endpoints.iter().map(|node| (node.node_id, &*node.host, node.port));
        let answer = FetchSnapshotResponse {
            refusal: refusal(answer.error_code)?,
            epoch: answer.current_leader.leader_epoch,
            leader: self.leader(answer.current_leader.leader_id, nodes),
            snapshot: OffsetAndEpoch {
                offset: answer.snapshot_id.end_offset,
                epoch: answer.snapshot_id.epoch,
            },
            size: answer.size,
            position: answer.position,
            bytes: bytes.len() as i64,
        };
        Ok((answer, bytes))
    }
}
