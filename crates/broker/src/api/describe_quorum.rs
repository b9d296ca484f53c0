//! DescribeQuorum 0-2 (KIP-595, KIP-642, KIP-853): who leads the metadata quorum, what is committed, and how far its replicas are.
//!
//! v1 tells when a replica fetched and was caught up, v2 its disk, and where the voters listen.

use ottla_protocol::messages::describe_quorum_request::DescribeQuorumRequest;
use ottla_protocol::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use ottla_protocol::{ErrorCode, Uuid};
use ottla_raft::ReplicaDescription;

use crate::Broker;
use crate::call::Call;

const TOPIC: &str = "__cluster_metadata";
/// The first version that knows of disks and of where voters listen.
const FIRST_WITH_DIRECTORIES: i16 = 2;

/// Handles the request. There is one partition that can be asked for.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeQuorumRequest<'_>) {
    let is_quorum = match request.topics.as_slice() {
        [topic] => {
            &*topic.topic_name == TOPIC
                && matches!(topic.partitions.as_slice(), [it] if it.partition_index == 0)
        }
        _ => false,
    };
    if !is_quorum {
        return call.respond(&refusal(&request, ErrorCode::UnknownTopicOrPartition));
    }
    if broker.forward_to_leader(call) {
        return;
    }
    let Some((quorum, voters)) = broker.quorum.describe(call.now) else {
        return call.respond(&refusal(&request, ErrorCode::NotLeaderOrFollower));
    };
    let with_directories = call.reply.version >= FIRST_WITH_DIRECTORIES;
    let replica = |replica: &ReplicaDescription| ReplicaState {
        replica_id: replica.key.id,
        // That of a voter which only a configuration file names is not known; an observer tells its own.
        replica_directory_id: if with_directories { Uuid(replica.key.directory_id) } else { Uuid::ZERO },
        log_end_offset: replica.log_end_offset.unwrap_or(-1),
        last_fetch_timestamp: replica.fetched_at.unwrap_or(-1),
        last_caught_up_timestamp: replica.caught_up_at.unwrap_or(-1),
    };
    let partition = PartitionData {
        partition_index: 0,
        leader_id: quorum.leader,
        leader_epoch: quorum.epoch,
        high_watermark: quorum.high_watermark.unwrap_or(-1),
        current_voters: quorum.voters.iter().map(replica).collect(),
        observers: quorum.observers.iter().map(replica).collect(),
        ..Default::default()
    };
    let nodes = voters.iter().map(|voter| Node {
        node_id: voter.key.id,
        listeners: voter
            .endpoints
            .iter()
            .map(|endpoint| Listener {
                name: endpoint.listener.as_str().into(),
                host: endpoint.host.as_str().into(),
                port: endpoint.port,
            })
            .collect(),
    });
    let response = DescribeQuorumResponse {
        topics: vec![TopicData { topic_name: TOPIC.into(), partitions: vec![partition] }],
        nodes: if with_directories { nodes.collect() } else { Vec::new() },
        ..Default::default()
    };
    call.respond(&response);
}

fn refusal<'a>(request: &DescribeQuorumRequest<'a>, error: ErrorCode) -> DescribeQuorumResponse<'a> {
    let partition = |partition_index| PartitionData {
        partition_index,
        error_code: error.code(),
        leader_id: -1,
        leader_epoch: -1,
        high_watermark: -1,
        ..Default::default()
    };
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic.partitions.iter().map(|it| partition(it.partition_index)).collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), ..Default::default() }
}
