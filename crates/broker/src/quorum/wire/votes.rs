//! Vote (52), versions 0-2: v1 names the voter that is asked and the disks of both, v2 tells a question from a request (KIP-996).

use ottla_protocol::messages::vote_request::{PartitionData, TopicData, VoteRequest};
use ottla_protocol::messages::vote_response::{
    NodeEndpoint, PartitionData as Answer, TopicData as AnswerTopic, VoteResponse,
};
use ottla_protocol::{ErrorCode, Uuid};
use ottla_raft::OffsetAndEpoch;

use super::{TOPIC, Wire, code, key, only, receiver, refusal};

impl Wire {
    pub(crate) fn vote_request(&self, request: &ottla_raft::VoteRequest) -> VoteRequest<'_> {
        let partition = PartitionData {
            partition_index: 0,
            replica_epoch: request.epoch,
            replica_id: request.candidate.id,
            replica_directory_id: Uuid(request.candidate.directory_id),
            voter_directory_id: request.voter.map_or(Uuid::ZERO, |voter| Uuid(voter.directory_id)),
            last_offset_epoch: request.log_end.epoch,
            last_offset: request.log_end.offset,
            pre_vote: request.pre_vote,
        };
        VoteRequest {
            cluster_id: self.cluster(),
            voter_id: request.voter.map_or(-1, |voter| voter.id),
            topics: vec![TopicData { topic_name: TOPIC.into(), partitions: vec![partition] }],
        }
    }

    /// What is asked; else the error for the whole answer.
    pub(crate) fn read_vote_request(
        &self,
        request: &VoteRequest<'_>,
    ) -> Result<ottla_raft::VoteRequest, ErrorCode> {
        self.check_cluster(request.cluster_id.as_deref())?;
        let topic = only(&request.topics).filter(|topic| topic.topic_name == TOPIC);
        let partition = topic.and_then(|topic| only(&topic.partitions));
        let asked =
            partition.filter(|partition| partition.partition_index == 0).ok_or(ErrorCode::InvalidRequest)?;
        Ok(ottla_raft::VoteRequest {
            epoch: asked.replica_epoch,
            candidate: key(asked.replica_id, asked.replica_directory_id),
            voter: receiver(request.voter_id, asked.voter_directory_id),
            log_end: OffsetAndEpoch { offset: asked.last_offset, epoch: asked.last_offset_epoch },
            pre_vote: asked.pre_vote,
        })
    }

    pub(crate) fn vote_response<'r>(&self, response: &'r ottla_raft::VoteResponse) -> VoteResponse<'r> {
        let leader = response.leader.as_ref();
        let answer = Answer {
            partition_index: 0,
            error_code: code(response.refusal).code(),
            leader_id: leader.map_or(-1, |leader| leader.id),
            leader_epoch: response.epoch,
            vote_granted: response.granted,
        };
        let endpoint = self.node_endpoint(leader);
        VoteResponse {
            error_code: ErrorCode::None.code(),
            topics: vec![AnswerTopic { topic_name: TOPIC.into(), partitions: vec![answer] }],
            node_endpoints: endpoint
                .map(|(node_id, host, port)| NodeEndpoint { node_id, host: host.into(), port })
                .into_iter()
                .collect(),
        }
    }

    /// What is answered; else the error of the whole answer, or of the partition if raft has no word for it.
    pub(crate) fn read_vote_response(
        &self,
        response: &VoteResponse<'_>,
    ) -> Result<ottla_raft::VoteResponse, ErrorCode> {
        let answer = only(&response.topics).and_then(|topic| only(&topic.partitions));
        let answer = answer.ok_or_else(|| ErrorCode::from_code(response.error_code))?;
        let nodes = response.node_endpoints.iter().map(|node| (node.node_id, &*node.host, node.port));
        Ok(ottla_raft::VoteResponse {
            refusal: refusal(answer.error_code)?,
            epoch: answer.leader_epoch,
            leader: self.leader(answer.leader_id, nodes),
            granted: answer.vote_granted,
        })
    }
}
