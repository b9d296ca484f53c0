//! A consumer that reads from whichever replica answers (KIP-392), while nodes die: what it once saw at an offset is there for good.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::{Records, Request, records};

use super::world::Cluster;
use crate::client::{frame, read};

/// Followers serve consumers from this version on.
pub(super) const VERSION: i16 = 11;
/// The racks of a cluster whose followers are read from.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("broker.rack", "rack-{node}"),
    ("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector"),
];

/// What it read, and what it asks for.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The request under way, and the partition that it is for.
    in_flight: Option<(u64, i32)>,
    /// Value by partition and offset.
    pub seen: BTreeMap<(i32, i64), u64>,
}

/// A fetch of one partition, from an offset on.
pub(super) fn fetch(topic: &'static str, partition: i32, fetch_offset: i64) -> Bytes {
    let wanted =
        FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..Default::default() };
    frame(&FetchRequest { topics: vec![topic], ..Default::default() }, VERSION)
}

/// Offsets and values of records.
pub(super) fn values(records: Option<&Records<'_>>) -> Result<Vec<(i64, u64)>, String> {
    let Some(Records::Slice(bytes)) = records else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for batch in records::batches(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        batch.verify_crc().map_err(|error| error.to_string())?;
        let set = batch.records(1 << 20).map_err(|error| error.to_string())?;
        for record in set.iter() {
            let record = record.map_err(|error| format!("{error:?}"))?;
            let value = record.value.and_then(|value| value.try_into().ok());
            found.push((record.offset, u64::from_be_bytes(value.ok_or("a strange value")?)));
        }
    }
    Ok(found)
}

impl Reader {
    /// Takes what came, and asks for more, of a node and from an offset by lot.
    pub fn advance(
        &mut self,
        cluster: &mut Cluster,
        topic: &'static str,
        partitions: i32,
    ) -> Result<(), String> {
        if let Some((request, partition)) = self.in_flight {
            let Some(answer) = cluster.take_answer(request) else { return Ok(()) };
            self.in_flight = None;
            if let Some(answer) = answer {
                self.take(partition, &answer)?;
            }
        }
        let Some(node) = cluster.any_server() else { return Ok(()) };
        let partition = cluster.dice.below(partitions as u64) as i32;
        let next = self.seen.range((partition, 0)..(partition + 1, 0)).next_back();
        let next = next.map_or(0, |((_, offset), _)| offset + 1);
        let back = cluster.dice.below(20) as i64;
        let request = cluster.ask(node, fetch(topic, partition, (next - back).max(0)));
        self.in_flight = Some((request, partition));
        Ok(())
    }

    fn take(&mut self, partition: i32, answer: &Bytes) -> Result<(), String> {
        let body = &answer[4 + FetchRequest::KEY.response_header_version(VERSION) as usize..];
        let response: FetchResponse<'_> = read(body, VERSION)?;
        let data = &response.responses[0].partitions[0];
        let found = values(data.records.as_ref())?;
        for (offset, value) in found {
            if let Some(before) = self.seen.insert((partition, offset), value)
                && before != value
            {
                return Err(format!(
                    "partition {partition}: {before} was read at {offset}, and then {value}"
                ));
            }
        }
        Ok(())
    }
}
