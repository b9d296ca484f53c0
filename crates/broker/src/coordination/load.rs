//! Loading a coordinator: its partition's whole log is replayed, transaction markers included.

use ottla_coordinator::Coordinator;
use ottla_protocol::records::{self, ControlKey, ControlType};

use crate::effect::Millis;
use crate::partition::Partition;

/// Bytes read at once.
const LOAD_BYTES: usize = 5 << 20;
/// Bytes of one decompressed batch.
const LOAD_BATCH_BYTES_MAX: usize = 128 << 20;

/// Replays a partition's log from its start to its end. Returns its end and the leader epoch.
pub(super) fn load(
    partition: &Partition,
    coordinator: &mut impl Coordinator,
    now: Millis,
) -> Result<(i64, i32), String> {
    let name = format!("{}-{}", partition.topic.name, partition.index);
    let unreadable =
        |error: &dyn std::fmt::Display| format!("{name}: the coordinator can not be loaded: {error}");
    let positions = partition.positions(-1, now).map_err(|error| unreadable(&error))?;
    let mut offset = positions.log_start_offset;
    while offset < positions.log_end_offset {
        let chunk = partition
            .with_log(-1, now, |log, _| log.read(offset, LOAD_BYTES, positions.log_end_offset, true));
        let chunk = chunk.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
        let bytes = chunk.records.read().map_err(|error| unreadable(&error))?;
        let before = offset;
        // Compaction may leave a gap behind the last batch, and more behind the gap, or nothing.
        offset = offset.max(chunk.next_offset);
        for batch in records::batches(&bytes) {
            let batch = batch.map_err(|error| unreadable(&error))?;
            let set = batch.records(LOAD_BATCH_BYTES_MAX).map_err(|error| unreadable(&error))?;
            for record in set.iter() {
                let record = record.map_err(|error| unreadable(&error))?;
                if batch.is_control() {
                    let key = ControlKey::read(record.key).map_err(|error| unreadable(&error))?;
                    if let Some(end @ (ControlType::Commit | ControlType::Abort)) = key.control_type() {
                        coordinator.replay_end_transaction(batch.producer_id, end == ControlType::Commit);
                    }
                    continue;
                }
                let Some(key) = record.key else { continue };
                let producer_id = if batch.is_transactional() { batch.producer_id } else { -1 };
                let replayed = coordinator.replay(key, record.value, record.offset, producer_id);
                replayed.map_err(|error| unreadable(&error))?;
            }
        }
        if offset == before {
            return Err(unreadable(&"no batch where one has to be"));
        }
    }
    Ok((positions.log_end_offset, positions.leader_epoch))
}
