//! Transactions over partitions that several nodes lead, while nodes die and are cut off: what was committed is there, whole and once; what
//! was aborted is seen by nobody who reads what is committed; offsets went with it; and nothing stays open.

use std::collections::BTreeMap;

use ottla_broker::Millis;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::records::{self, ControlKey, ControlType};
use ottla_protocol::{Records, Request};

use super::world::Cluster;
use super::writer::{Outcome, Writer};
use crate::client::{frame, read};

pub(super) const LEDGER: &str = "ledger";
pub(super) const PARTITIONS: i32 = 3;

/// Transactional producers, and readers of what they commit.
#[derive(Debug)]
pub(super) struct Ledger {
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

/// Reads a partition as a consumer with `isolation.level=read_committed`.
#[derive(Debug, Default)]
struct Reader {
    offset: i64,
    in_flight: Option<(u64, Millis)>,
    /// What it saw, and how often.
    seen: BTreeMap<u64, u32>,
    /// Whether everything in the log was decided, and read, the last time.
    is_done: bool,
}

impl Ledger {
    pub fn new(cluster: &mut Cluster) -> Ledger {
        let writers = (0..3).map(|index| Writer::new(index, index == 0 || cluster.dice.once_in(2)));
        Ledger { writers: writers.collect(), readers: (0..PARTITIONS).map(|_| Reader::default()).collect() }
    }

    /// Everybody goes on, as far as they can; at times one of the producers dies.
    pub fn advance(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for writer in &mut self.writers {
            if cluster.dice.once_in(500) {
                writer.die();
            }
            writer.advance(cluster)?;
        }
        self.read(cluster)
    }

    fn read(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        for (index, reader) in self.readers.iter_mut().enumerate() {
            reader.advance(index as i32, cluster)?;
        }
        Ok(())
    }

    /// How many transactions are known to be committed.
    pub fn committed(&self) -> usize {
        let past = self.writers.iter().flat_map(|writer| &writer.past);
        past.filter(|past| past.outcome == Outcome::Committed).count()
    }

    /// No more transactions.
    pub fn stop(&mut self) {
        self.writers.iter_mut().for_each(Writer::stop);
    }

    /// Whether all producers stopped, and everything that they wrote is decided and read.
    pub fn is_settled(&mut self, cluster: &mut Cluster) -> Result<bool, String> {
        for writer in &mut self.writers {
            writer.advance(cluster)?;
        }
        if !self.writers.iter().all(|writer| writer.has_stopped) {
            self.readers.iter_mut().for_each(|reader| reader.is_done = false);
        }
        self.read(cluster)?;
        Ok(self.writers.iter().all(|writer| writer.has_stopped)
            && self.readers.iter().all(|reader| reader.is_done))
    }

    /// The groups whose offsets have to be compared with [`Ledger::check`].
    pub fn groups(&self) -> Vec<String> {
        self.writers.iter().map(Writer::group).collect()
    }

    /// Compares what was read with what the producers were told.
    pub fn check(&self, offsets: &[i64]) -> Result<(), String> {
        for (writer, offset) in self.writers.iter().zip(offsets) {
            let id = writer.transactional_id();
            let (mut committed, mut may_be) = (-1, vec![]);
            for past in &writer.past {
                let seen = past.values.iter().map(|(partition, value)| {
                    self.readers[*partition as usize].seen.get(value).copied().unwrap_or(0)
                });
                let seen: Vec<u32> = seen.collect();
                let is_whole = seen.iter().all(|times| *times == 1);
                let is_absent = seen.iter().all(|times| *times == 0);
                let is_right = match past.outcome {
                    Outcome::Committed => is_whole,
                    Outcome::Aborted => is_absent,
                    Outcome::Unknown => is_whole || is_absent,
                };
                if !is_right {
                    return Err(format!("{id}: {past:?} was seen {seen:?} times"));
                }
                let happened = match past.outcome {
                    Outcome::Unknown if seen.is_empty() => None,
                    _ => Some(is_whole && past.outcome != Outcome::Aborted),
                };
                match (past.offset, happened) {
                    (Some(offset), Some(true)) => {
                        committed = offset;
                        may_be.clear();
                    }
                    (Some(offset), None) => may_be.push(offset),
                    _ => {}
                }
            }
            if *offset != committed && !may_be.contains(offset) {
                return Err(format!("{id}: offset {offset} is committed, not {committed} (or {may_be:?})"));
            }
        }
        Ok(())
    }
}

impl Reader {
    fn advance(&mut self, partition: i32, cluster: &mut Cluster) -> Result<(), String> {
        if let Some((request, until)) = self.in_flight {
            match cluster.take_answer(request) {
                Some(answer) => {
                    self.in_flight = None;
                    if let Some(answer) = answer {
                        let at = 4 + FetchRequest::KEY.response_header_version(11) as usize;
                        self.take(partition, &answer[at..])?;
                    }
                }
                None if cluster.now >= until => self.in_flight = None,
                None => return Ok(()),
            }
        }
        let Some(leader) = cluster.leader(LEDGER, PartitionId(partition)) else { return Ok(()) };
        let wanted = FetchPartition {
            partition,
            fetch_offset: self.offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: LEDGER.into(), partitions: vec![wanted], ..Default::default() };
        let request = FetchRequest {
            isolation_level: 1,
            max_wait_ms: 500,
            min_bytes: 1,
            topics: vec![topic],
            ..Default::default()
        };
        self.in_flight = Some((cluster.ask(leader, frame(&request, 11)), cluster.now + 5_000));
        Ok(())
    }

    fn take(&mut self, partition: i32, body: &[u8]) -> Result<(), String> {
        let response: FetchResponse<'_> = read(body, 11)?;
        let data = &response.responses[0].partitions[0];
        self.is_done = false;
        if data.error_code != 0 {
            // A new leader may not know yet that so much is committed.
            return Ok(());
        }
        let mut aborted: Vec<(i64, i64)> =
            data.aborted_transactions.iter().flatten().map(|it| (it.first_offset, it.producer_id)).collect();
        aborted.sort_unstable();
        let mut aborted = aborted.into_iter().peekable();
        let mut aborting = Vec::new();
        if let Some(Records::Slice(bytes)) = &data.records {
            for batch in records::batches(bytes) {
                let batch = batch.map_err(|error| error.to_string())?;
                batch.verify_crc().map_err(|error| error.to_string())?;
                if batch.next_offset() > data.last_stable_offset {
                    return Err(format!("{LEDGER}-{partition}: read beyond what is decided"));
                }
                while let Some((_, producer)) = aborted.next_if(|(first, _)| *first <= batch.base_offset) {
                    aborting.push(producer);
                }
                let set = batch.records(1 << 20).map_err(|error| error.to_string())?;
                for record in set.iter() {
                    let record = record.map_err(|error| format!("{error:?}"))?;
                    if batch.is_control() {
                        let key = ControlKey::read(record.key).map_err(|error| format!("{error:?}"))?;
                        if key.control_type() == Some(ControlType::Abort) {
                            aborting.retain(|producer| *producer != batch.producer_id);
                        }
                        continue;
                    }
                    if record.offset < self.offset || aborting.contains(&batch.producer_id) {
                        continue;
                    }
                    let value =
                        record.value.and_then(|value| value.try_into().ok()).ok_or("a strange value")?;
                    *self.seen.entry(u64::from_be_bytes(value)).or_default() += 1;
                }
                self.offset = self.offset.max(batch.next_offset());
            }
        }
        let end = data.high_watermark;
        self.is_done = end > 0 && data.last_stable_offset == end && self.offset == end;
        Ok(())
    }
}

/// The request for what a group has committed.
pub(super) fn offset_fetch(group: &str) -> bytes::Bytes {
    let topic = OffsetFetchRequestTopic { name: LEDGER.into(), partition_indexes: vec![0] };
    let request = OffsetFetchRequest {
        group_id: group.to_owned().into(),
        topics: Some(vec![topic]),
        require_stable: true,
        ..Default::default()
    };
    frame(&request, 7)
}

/// The committed offset; an error while there is none that is stable.
pub(super) fn committed_offset(body: &[u8]) -> Result<i64, String> {
    let response: OffsetFetchResponse<'_> = read(body, 7)?;
    let partition = response.topics.first().and_then(|topic| topic.partitions.first());
    let error = partition.map_or(response.error_code, |partition| partition.error_code);
    match partition {
        Some(partition) if error == 0 && response.error_code == 0 => Ok(partition.committed_offset),
        _ => Err(format!("error {} for an offset", if error == 0 { response.error_code } else { error })),
    }
}
