//! BeginQuorumEpoch (53) and EndQuorumEpoch (54), versions 0-1: v1 says where the leader listens, and names disks (KIP-853).

use ottla_protocol::messages::begin_quorum_epoch_request as begin;
use ottla_protocol::messages::begin_quorum_epoch_response as begun;
use ottla_protocol::messages::end_quorum_epoch_request as end;
use ottla_protocol::messages::end_quorum_epoch_response as ended;
use ottla_protocol::{ErrorCode, Uuid};
use ottla_raft::{Endpoint, Leader, QuorumResponse};

use super::{TOPIC, Wire, code, key, only, receiver, refusal};

impl Wire {
    pub(crate) fn begin_request<'r>(
        &'r self,
        request: &'r ottla_raft::BeginQuorumEpochRequest,
    ) -> begin::BeginQuorumEpochRequest<'r> {
        let partition = begin::PartitionData {
            partition_index: 0,
            voter_directory_id: request.voter.map_or(Uuid::ZERO, |voter| Uuid(voter.directory_id)),
            leader_id: request.leader.id,
            leader_epoch: request.epoch,
        };
        let endpoints = request.leader.endpoints.iter();
        begin::BeginQuorumEpochRequest {
            cluster_id: self.cluster(),
            voter_id: request.voter.map_or(-1, |voter| voter.id),
            topics: vec![begin::TopicData { topic_name: TOPIC.into(), partitions: vec![partition] }],
            leader_endpoints: endpoints
                .map(|endpoint| begin::LeaderEndpoint {
                    name: endpoint.listener.as_str().into(),
                    host: endpoint.host.as_str().into(),
                    port: endpoint.port,
                })
                .collect(),
        }
    }

    pub(crate) fn read_begin_request(
        &self,
        request: &begin::BeginQuorumEpochRequest<'_>,
    ) -> Result<ottla_raft::BeginQuorumEpochRequest, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let topic = only(&request.topics).filter(|topic| topic.topic_name == TOPIC);
        let partition = topic.and_then(|topic| only(&topic.partitions));
        let said =
            partition.filter(|partition| partition.partition_index == 0).ok_or(ErrorCode::InvalidRequest)?;
        let endpoints = request.leader_endpoints.iter();
        let endpoints = endpoints.map(|at| endpoint(&at.name, &at.host, at.port)).collect();
        Ok(ottla_raft::BeginQuorumEpochRequest {
            epoch: said.leader_epoch,
            leader: Leader { id: said.leader_id, endpoints },
            voter: receiver(request.voter_id, said.voter_directory_id),
        })
    }

    pub(crate) fn begin_response<'r>(
        &self,
        response: &'r QuorumResponse,
    ) -> begun::BeginQuorumEpochResponse<'r> {
        let leader = response.leader.as_ref();
        let answer = begun::PartitionData {
            partition_index: 0,
            error_code: code(response.refusal).code(),
            leader_id: leader.map_or(-1, |leader| leader.id),
            leader_epoch: response.epoch,
        };
        let node = self.node_endpoint(leader);
        begun::BeginQuorumEpochResponse {
            error_code: ErrorCode::None.code(),
            topics: vec![begun::TopicData { topic_name: TOPIC.into(), partitions: vec![answer] }],
            node_endpoints: node
                .map(|(node_id, host, port)| begun::NodeEndpoint { node_id, host: host.into(), port })
                .into_iter()
                .collect(),
        }
    }

    pub(crate) fn read_begin_response(
        &self,
        response: &begun::BeginQuorumEpochResponse<'_>,
    ) -> Result<QuorumResponse, ErrorCode> {
        let answer = only(&response.topics).and_then(|topic| only(&topic.partitions));
        let answer = answer.ok_or_else(|| ErrorCode::from_code(response.error_code))?;
        let nodes = response.node_endpoints.iter().map(|node| (node.node_id, &*node.host, node.port));
        Ok(QuorumResponse {
            refusal: refusal(answer.error_code)?,
            epoch: answer.leader_epoch,
            leader: self.leader(answer.leader_id, nodes),
        })
    }

    /// Version 0 names successors by their ids, version 1 with their disks: both are filled in.
    pub(crate) fn end_request<'r>(
        &'r self,
        request: &'r ottla_raft::EndQuorumEpochRequest,
    ) -> end::EndQuorumEpochRequest<'r> {
        let preferred = request.preferred.iter();
        let partition = end::PartitionData {
            partition_index: 0,
            leader_id: request.leader.id,
            leader_epoch: request.epoch,
            preferred_successors: preferred.clone().map(|replica| replica.id).collect(),
            preferred_candidates: preferred
                .map(|replica| end::ReplicaInfo {
                    candidate_id: replica.id,
                    candidate_directory_id: Uuid(replica.directory_id),
                })
                .collect(),
        };
        let endpoints = request.leader.endpoints.iter();
        end::EndQuorumEpochRequest {
            cluster_id: self.cluster(),
            topics: vec![end::TopicData { topic_name: TOPIC.into(), partitions: vec![partition] }],
            leader_endpoints: endpoints
                .map(|endpoint| end::LeaderEndpoint {
                    name: endpoint.listener.as_str().into(),
                    host: endpoint.host.as_str().into(),
                    port: endpoint.port,
                })
                .collect(),
        }
    }

    pub(crate) fn read_end_request(
        &self,
        request: &end::EndQuorumEpochRequest<'_>,
    ) -> Result<ottla_raft::EndQuorumEpochRequest, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let topic = only(&request.topics).filter(|topic| topic.topic_name == TOPIC);
        let partition = topic.and_then(|topic| only(&topic.partitions));
        let said =
            partition.filter(|partition| partition.partition_index == 0).ok_or(ErrorCode::InvalidRequest)?;
        let by_disk = said.preferred_candidates.iter();
        let by_disk = by_disk.map(|candidate| key(candidate.candidate_id, candidate.candidate_directory_id));
        let by_id = said.preferred_successors.iter().map(|id| key(*id, Uuid::ZERO));
        let endpoints = request.leader_endpoints.iter();
        let endpoints = endpoints.map(|at| endpoint(&at.name, &at.host, at.port)).collect();
        Ok(ottla_raft::EndQuorumEpochRequest {
            epoch: said.leader_epoch,
            leader: Leader { id: said.leader_id, endpoints },
            preferred: by_disk.chain(by_id).collect(),
        })
    }

    pub(crate) fn end_response<'r>(&self, response: &'r QuorumResponse) -> ended::EndQuorumEpochResponse<'r> {
        let leader = response.leader.as_ref();
        let answer = ended::PartitionData {
            partition_index: 0,
            error_code: code(response.refusal).code(),
            leader_id: leader.map_or(-1, |leader| leader.id),
            leader_epoch: response.epoch,
        };
        let node = self.node_endpoint(leader);
        ended::EndQuorumEpochResponse {
            error_code: ErrorCode::None.code(),
            topics: vec![ended::TopicData { topic_name: TOPIC.into(), partitions: vec![answer] }],
            node_endpoints: node
                .map(|(node_id, host, port)| ended::NodeEndpoint { node_id, host: host.into(), port })
                .into_iter()
                .collect(),
        }
    }

    pub(crate) fn read_end_response(
        &self,
        response: &ended::EndQuorumEpochResponse<'_>,
    ) -> Result<QuorumResponse, ErrorCode> {
        let answer = only(&response.topics).and_then(|topic| only(&topic.partitions));
        let answer = answer.ok_or_else(|| ErrorCode::from_code(response.error_code))?;
        let nodes = response.node_endpoints.iter().map(|node| (node.node_id, &*node.host, node.port));
        Ok(QuorumResponse {
            refusal: refusal(answer.error_code)?,
            epoch: answer.leader_epoch,
            leader: self.leader(answer.leader_id, nodes),
        })
    }
}

pub(super) fn endpoint(listener: &str, host: &str, port: u16) -> Endpoint {
    Endpoint { listener: listener.to_owned(), host: host.to_owned(), port }
}
