//! AlterReplicaLogDirs 1-2 (KIP-113): replicas of this broker shall live in other log directories.
//!
//! The answer says that a move has begun, or that there is nothing to move; DescribeLogDirs shows how far it is. To name the directory in
//! which a replica is ends its move to another one. A replica that is not here yet is REPLICA_NOT_AVAILABLE, and is remembered: it will be
//! made in that directory. Cordoned directories are INVALID_REPLICA_ASSIGNMENT (KIP-1066).

use std::collections::BTreeMap;

use ottla_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest;
use ottla_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};

use crate::Broker;
use crate::call::Call;

/// Handles the request. A partition that is named twice goes to the directory that is named last.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: AlterReplicaLogDirsRequest<'_>) {
    if !call.may_wait {
        return call.on_reader_thread();
    }
    let mut wanted: BTreeMap<&str, BTreeMap<i32, &str>> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            let partitions = wanted.entry(&topic.name).or_default();
            partitions.extend(topic.partitions.iter().map(|index| (*index, &*dir.path)));
        }
    }
    let (now, mut results) = (call.now, Vec::new());
    for (name, partitions) in wanted {
        let moved = partitions.into_iter().map(|(partition_index, path)| {
            let error = broker.move_replica(name, partition_index, path, now, call.out);
            AlterReplicaLogDirPartitionResult { partition_index, error_code: error.code() }
        });
        let partitions = moved.collect();
        results.push(AlterReplicaLogDirTopicResult { topic_name: name.to_owned().into(), partitions });
    }
    call.respond(&AlterReplicaLogDirsResponse { results, ..Default::default() });
}
