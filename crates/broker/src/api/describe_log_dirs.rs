//! DescribeLogDirs 1-5 (KIP-113): which replicas live in which log directory, and their sizes; v4 adds the size of its file system
//! (KIP-827), v5 whether it is cordoned (KIP-1066). A replica that moves is in two of them: in the new one as a future replica, which lags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

use crate::Broker;
use crate::call::Call;
use crate::partition::Partition;
use crate::store::Root;

/// Handles the request. Null topics: all. Topics that are unknown here are left out, as in Kafka.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeLogDirsRequest<'_>) {
    if !call.may_wait {
        return call.on_reader_thread();
    }
    let table = broker.topics();
    let partitions: Vec<Arc<Partition>> = match &request.topics {
        None => table.iter().flat_map(|topic| topic.partitions.iter().cloned()).collect(),
        Some(asked) => {
            let asked =
                asked.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&topic.topic, *index)));
            let asked: BTreeSet<_> = asked.collect();
            asked
                .into_iter()
                .filter_map(|(topic, index)| table.partition_by_name(topic, index).ok())
                .collect()
        }
    };
    let cordoned = broker.cordoned_dirs();
    let describe = |root: &Arc<Root>| {
        let log_dir = root.path().display().to_string();
        match root.usage().ok().filter(|_| !root.is_offline()) {
            None => failed(log_dir),
            Some((total, usable)) => DescribeLogDirsResult {
                error_code: ErrorCode::None.code(),
                log_dir: log_dir.into(),
                topics: replicas_in(root, &partitions),
                total_bytes: bytes(total),
                usable_bytes: bytes(usable),
                is_cordoned: cordoned.contains(&root.id()),
            },
        }
    };
    let store = broker.store();
    let known = store.roots().iter().filter(|root| root.holds_partitions).map(describe);
    let results = known.chain(store.unopened().iter().map(|(path, _)| failed(path.clone())));
    call.respond(&DescribeLogDirsResponse { results: results.collect(), ..Default::default() });
}

fn failed(log_dir: String) -> DescribeLogDirsResult<'static> {
    let error_code = ErrorCode::KafkaStorageError.code();
    DescribeLogDirsResult { error_code, log_dir: log_dir.into(), ..Default::default() }
}

fn replicas_in(root: &Arc<Root>, partitions: &[Arc<Partition>]) -> Vec<DescribeLogDirsTopic<'static>> {
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in partitions {
        if partition.root().is_some_and(|home| Arc::ptr_eq(&home, root)) {
            topics.entry(partition.topic.name.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: partition.index,
                partition_size: bytes(partition.size()),
                offset_lag: 0,
                is_future_key: false,
            });
        }
        if let Some((_, size, offset_lag)) =
            partition.future().filter(|(future, ..)| Arc::ptr_eq(future, root))
        {
            topics.entry(partition.topic.name.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: partition.index,
                partition_size: bytes(size),
                offset_lag,
                is_future_key: true,
            });
        }
    }
    let topic = |(name, partitions): (Arc<str>, _)| DescribeLogDirsTopic {
        name: name.to_string().into(),
        partitions,
    };
    topics.into_iter().map(topic).collect()
}

fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
