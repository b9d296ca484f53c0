//! This node as a follower: what it fetches from the leaders of its partitions (Kafka: `ReplicaFetcherThread`, `AbstractFetcherThread`).
//!
//! One fetch at a time goes to each leader, for all partitions that follow it, and names those of which it has something new to say
//! (`session`). The one tricky idea: a fetch is a receipt. It says up to
//! where this replica has everything, so it is not sent before what came with the last one is on disk, where the topic wants that; and it
//! names the epoch of the last record, so that the leader sees where the two logs part (KIP-320, KIP-595), and nothing has to be cut off
//! on suspicion.

mod isr;
mod session;
mod throttle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, ReplicaState};
use ottla_protocol::messages::fetch_response::{FetchResponse, PartitionData};
use ottla_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::list_offsets_response::ListOffsetsResponse;
use ottla_protocol::{ErrorCode, Message, Reader, Records, Uuid};

use crate::Broker;
use crate::checkpoints::Unwritten;
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::partition::{Fetched, Partition};
use crate::peers::{Awaited, Lane, Peer, peer};
use crate::sessions::lock;

pub(crate) use isr::IsrChanges;
#[cfg(feature = "mutations")]
pub use isr::was_refused;
use session::{Said, Session};
pub(crate) use throttle::{Throttle, Throttles};

/// First pause of a partition that was refused, or of a leader that did not answer: often another node is to be asked a moment later. Each
/// further one is twice as long, up to `replica.fetch.backoff.ms`.
const PAUSE_MS: Millis = 50;
/// How long a partition is left out when throttled replicas had too much.
const THROTTLED_MS: Millis = 200;
/// The version of the fetches of followers: topics by id, the epoch of the broker (KIP-903), no more than an older release knows.
const FETCH_VERSION: i16 = 17;
const LIST_OFFSETS_VERSION: i16 = 9;
/// "The first offset", in ListOffsets.
const EARLIEST: i64 = -2;

/// A partition by its topic's id and its index.
pub(crate) type PartitionKey = (Uuid, i32);

/// All leaders that this node follows.
#[derive(Debug, Default)]
pub(crate) struct Fetchers {
    leaders: Mutex<BTreeMap<i32, Fetcher>>,
}

/// What is fetched from one leader.
#[derive(Debug, Default)]
struct Fetcher {
    followed: BTreeMap<PartitionKey, Followed>,
    /// What the leader was told.
    session: Session,
    /// Fetches in a row that were not answered.
    unanswered: u32,
    /// A fetch is under way, or its answer is being worked upon.
    is_busy: bool,
    /// When the next may be sent.
    at: Millis,
}

#[derive(Debug, Clone)]
struct Followed {
    partition: Arc<Partition>,
    leader_epoch: i32,
    /// It is left out until then.
    until: Millis,
    /// Fetches in a row that were refused.
    refused: u32,
    /// The leader has more that is committed, as far as is known.
    is_behind: bool,
}

/// How long to wait after so many failures in a row.
fn pause_ms(failures: u32, longest: Millis) -> Millis {
    (PAUSE_MS << failures.min(16)).min(longest.max(1))
}

/// What became of the part of an answer that concerns one partition.
enum Outcome {
    Fetched,
    /// It rests for a while.
    Pause,
    /// The leader's log begins after the end of this one, or something of the kind.
    OutOfRange,
}

impl Fetchers {
    /// The partition follows `leader` in this epoch, and nobody else. Who is in sync has nothing to catch up with.
    pub fn follow(
        &self,
        partition: &Arc<Partition>,
        (leader, leader_epoch): (i32, i32),
        is_in_sync: bool,
        now: Millis,
    ) {
        let key = (partition.topic.id, partition.index);
        let mut leaders = lock(&self.leaders);
        for (id, fetcher) in leaders.iter_mut() {
            if *id != leader {
                fetcher.followed.remove(&key);
            }
        }
        let followed = Followed {
            partition: partition.clone(),
            leader_epoch,
            until: now,
            refused: 0,
            is_behind: !is_in_sync,
        };
        leaders.entry(leader).or_default().followed.insert(key, followed);
    }

    /// The partition follows nobody any more.
    pub fn leave(&self, key: PartitionKey) {
        lock(&self.leaders).values_mut().for_each(|fetcher| {
            fetcher.followed.remove(&key);
        });
    }

    fn ids(&self) -> Vec<i32> {
        lock(&self.leaders).keys().copied().collect()
    }

    /// What is to be fetched from a leader now; it is busy from then on.
    /// `is_throttled`: who waits, unless it is in sync.
    fn begin(
        &self,
        leader: i32,
        may_wait: bool,
        is_throttled: impl Fn(&Partition) -> bool,
        now: Millis,
        out: &mut Effects,
    ) -> Option<Vec<Followed>> {
        let mut leaders = lock(&self.leaders);
        let fetcher = leaders.get_mut(&leader)?;
        if fetcher.is_busy || fetcher.followed.is_empty() {
            return None;
        }
        for followed in fetcher.followed.values_mut() {
            if followed.until <= now && followed.is_behind && is_throttled(&followed.partition) {
                followed.until = now + THROTTLED_MS;
            }
        }
        let next = fetcher.followed.values().map(|followed| followed.until).min()?.max(fetcher.at);
        if next > now {
            out.push(Effect::Tick { at: next });
            return None;
        }
        let due: Vec<Followed> =
            fetcher.followed.values().filter(|followed| followed.until <= now).cloned().collect();
        if !due.iter().all(|followed| followed.partition.is_receipted()) {
            // The flush that is under way comes back here.
            return None;
        }
        fetcher.is_busy = true;
        if !may_wait && !due.iter().all(|followed| followed.partition.is_at_hand()) {
            out.push(Effect::Read(ReadTask::ReplicaFetch { leader }));
            return None;
        }
        Some(due)
    }

    /// What has to be said to a leader, if these partitions are wanted from it.
    fn say(&self, leader: i32, wanted: BTreeMap<PartitionKey, FetchPartition>) -> Option<Said> {
        lock(&self.leaders).get_mut(&leader).map(|fetcher| fetcher.session.say(wanted))
    }

    /// The leader answered; it has a session of that id, or none.
    fn on_answer(&self, leader: i32, error: ErrorCode, session_id: i32) {
        if let Some(fetcher) = lock(&self.leaders).get_mut(&leader) {
            fetcher.session.on_answer(error, session_id);
        }
    }

    /// The work on an answer is over. Those that were refused rest.
    fn end(&self, leader: i32, resting: &[PartitionKey], longest: Millis, now: Millis) {
        let mut leaders = lock(&self.leaders);
        let Some(fetcher) = leaders.get_mut(&leader) else { return };
        (fetcher.is_busy, fetcher.at, fetcher.unanswered) = (false, now, 0);
        let resting: BTreeSet<&PartitionKey> = resting.iter().collect();
        for (key, followed) in &mut fetcher.followed {
            if resting.contains(key) {
                followed.until = now + pause_ms(followed.refused, longest);
                followed.refused += 1;
            } else if followed.until <= now {
                followed.refused = 0;
            }
        }
    }

    /// There was no answer, or nobody who could be asked. Returns when the next fetch may be sent.
    fn end_unanswered(&self, leader: i32, longest: Millis, now: Millis) -> Millis {
        let mut leaders = lock(&self.leaders);
        let Some(fetcher) = leaders.get_mut(&leader) else { return now };
        fetcher.session.on_lost();
        (fetcher.is_busy, fetcher.at) = (false, now + pause_ms(fetcher.unanswered, longest));
        fetcher.unanswered += 1;
        fetcher.at
    }

    fn release(&self, leader: i32) {
        if let Some(fetcher) = lock(&self.leaders).get_mut(&leader) {
            fetcher.is_busy = false;
        }
    }

    /// Whether the leader has more that is committed.
    fn note_lag(&self, leader: i32, key: PartitionKey, is_behind: bool) {
        let mut leaders = lock(&self.leaders);
        let followed = leaders.get_mut(&leader).and_then(|fetcher| fetcher.followed.get_mut(&key));
        if let Some(followed) = followed {
            followed.is_behind = is_behind;
        }
    }

    /// Who an answer is for, if it still follows in the epoch that was asked in.
    fn asked(&self, leader: i32, key: PartitionKey) -> Option<Followed> {
        let leaders = lock(&self.leaders);
        let fetcher = leaders.get(&leader)?;
        let followed = fetcher.followed.get(&key)?;
        fetcher.session.asked_in(&key, followed.leader_epoch).then(|| followed.clone())
    }

    fn find(&self, leader: i32, key: PartitionKey) -> Option<Followed> {
        lock(&self.leaders).get(&leader)?.followed.get(&key).cloned()
    }
}

impl Broker {
    /// Fetches from every leader from which something is to be fetched.
    pub(crate) fn advance_fetchers(&self, now: Millis, out: &mut Effects) {
        for leader in self.fetchers.ids() {
            self.fetch_from(leader, false, now, out);
        }
    }

    /// A thread that may wait for the disk opens the logs first.
    pub(crate) fn on_replica_fetch(&self, leader: i32, now: Millis, out: &mut Effects) {
        self.fetchers.release(leader);
        self.fetch_from(leader, true, now, out);
    }

    fn fetch_from(&self, leader: i32, may_wait: bool, now: Millis, out: &mut Effects) {
        let limit = self.live_config().replication.follower_throttle_bytes;
        let is_exceeded = self.throttles.follower.is_exceeded(limit, now);
        let is_throttled = |partition: &Partition| is_exceeded && self.is_throttled_follower(partition);
        let Some(due) = self.fetchers.begin(leader, may_wait, is_throttled, now, out) else { return };
        let Some(to) = self.broker_peer(leader, Lane::Replication) else {
            return self.pause_fetcher(leader, now, out);
        };
        let settings = self.config.replication.fetch;
        let mut wanted = BTreeMap::new();
        for followed in &due {
            let Ok(position) = followed.partition.follow_position(followed.leader_epoch, now) else {
                continue;
            };
            let asked = FetchPartition {
                partition: followed.partition.index,
                current_leader_epoch: followed.leader_epoch,
                fetch_offset: position.log_end_offset,
                last_fetched_epoch: position.last_epoch,
                log_start_offset: position.log_start_offset,
                partition_max_bytes: settings.partition_max_bytes,
                ..Default::default()
            };
            wanted.insert((followed.partition.topic.id, followed.partition.index), asked);
        }
        if wanted.is_empty() {
            return self.pause_fetcher(leader, now, out);
        }
        let Some(said) = self.fetchers.say(leader, wanted) else { return };
        let request = FetchRequest {
            replica_state: ReplicaState {
                replica_id: self.config.node_id,
                replica_epoch: self.broker_epoch(),
            },
            max_wait_ms: settings.wait_max_ms,
            min_bytes: settings.min_bytes,
            max_bytes: settings.response_max_bytes,
            session_id: said.session.0,
            session_epoch: said.session.1,
            topics: said.topics,
            forgotten_topics_data: said.forgotten,
            ..Default::default()
        };
        let timeout_ms = i64::from(settings.timeout_ms);
        self.peers.send(to, (&request, FETCH_VERSION), Awaited::ReplicaFetch { leader }, timeout_ms, out);
    }

    fn is_throttled_follower(&self, partition: &Partition) -> bool {
        partition.settings().follower_throttled.include(partition.index, self.config.node_id)
    }

    /// Nothing can be fetched from a leader right now.
    fn pause_fetcher(&self, leader: i32, now: Millis, out: &mut Effects) {
        let longest = i64::from(self.config.replication.fetch.backoff_ms);
        let at = self.fetchers.end_unanswered(leader, longest, now);
        out.push(Effect::Tick { at });
    }

    /// Another broker, at the listener of brokers.
    pub(crate) fn broker_peer(&self, id: i32, lane: Lane) -> Option<Peer> {
        let image = self.image();
        let broker = image.broker(NodeId(id))?;
        let endpoint = broker.endpoint(&self.config.network.inter_broker_listener)?;
        Some(peer(&endpoint.host, endpoint.port, lane))
    }

    /// A leader answered, or did not. Appends and cuts off; waits for the disk.
    pub(crate) fn on_replica_fetched(
        &self,
        leader: i32,
        body: Option<&Bytes>,
        version: i16,
        now: Millis,
        out: &mut Effects,
    ) {
        let read = |frame: &Bytes| {
            let response = FetchResponse::decode(&mut Reader::new(frame), version).ok()?;
            let error = ErrorCode::from_code(response.error_code);
            self.fetchers.on_answer(leader, error, response.session_id);
            match error {
                ErrorCode::None => Some(self.take_answer(leader, frame, response, now, out)),
                // Everything is said anew, at once.
                ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError => Some(Vec::new()),
                _ => None,
            }
        };
        let longest = i64::from(self.config.replication.fetch.backoff_ms);
        match body.and_then(read) {
            Some(resting) => self.fetchers.end(leader, &resting, longest, now),
            None => drop(self.fetchers.end_unanswered(leader, longest, now)),
        }
        self.fetch_from(leader, true, now, out);
    }

    /// Returns the partitions that rest.
    fn take_answer(
        &self,
        leader: i32,
        frame: &Bytes,
        response: FetchResponse<'_>,
        now: Millis,
        out: &mut Effects,
    ) -> Vec<PartitionKey> {
        let mut resting = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                let key = (topic.topic_id, data.partition_index);
                let Some(followed) = self.fetchers.asked(leader, key) else { continue };
                match self.take_partition(leader, &followed, &data, frame, now, out) {
                    Outcome::Fetched => {}
                    Outcome::Pause => resting.push(key),
                    Outcome::OutOfRange => {
                        resting.push(key);
                        self.ask_start(leader, &followed, out);
                    }
                }
            }
        }
        resting
    }

    fn take_partition(
        &self,
        leader: i32,
        followed: &Followed,
        data: &PartitionData<'_>,
        frame: &Bytes,
        now: Millis,
        out: &mut Effects,
    ) -> Outcome {
        let Followed { partition, leader_epoch, .. } = followed;
        match ErrorCode::from_code(data.error_code) {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => return Outcome::OutOfRange,
            _ => return Outcome::Pause,
        }
        if data.diverging_epoch.epoch >= 0 {
            let (epoch, end) = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
            return match partition.cut_off(*leader_epoch, (epoch, end), now) {
                Ok(recovery_point_fell) => self.after_cut(recovery_point_fell, now, out),
                Err(()) => Outcome::Pause,
            };
        }
        let records = match &data.records {
            Some(Records::Slice(slice)) => frame.slice_ref(slice),
            _ => Bytes::new(),
        };
        match partition.append_fetched(*leader_epoch, &records, data.high_watermark, now, out) {
            Ok(Fetched { wakes, is_behind }) => {
                self.wake(partition, wakes, now, out);
                if !records.is_empty() && self.is_throttled_follower(partition) {
                    self.throttles.follower.note(records.len(), now);
                }
                if is_behind != followed.is_behind {
                    self.fetchers.note_lag(leader, (partition.topic.id, partition.index), is_behind);
                }
                self.after_fetch(followed, data.log_start_offset, now, out)
            }
            Err(()) => Outcome::Pause,
        }
    }

    /// Records that were deleted at the leader are deleted here.
    fn after_fetch(&self, followed: &Followed, leader_start: i64, now: Millis, out: &mut Effects) -> Outcome {
        let Followed { partition, leader_epoch, .. } = followed;
        if let Some(job) = partition.follow_start(*leader_epoch, leader_start)
            && let Err(error) = self.dispose_of(vec![(partition.clone(), job)], now, out)
        {
            out.push(Effect::Report(error));
            return Outcome::Pause;
        }
        Outcome::Fetched
    }

    /// What was cut off must not be believed to be there at the next start.
    fn after_cut(&self, recovery_point_fell: bool, now: Millis, out: &mut Effects) -> Outcome {
        let unwritten = if recovery_point_fell { self.write_checkpoints(now) } else { Unwritten::new() };
        if unwritten.is_empty() {
            return Outcome::Fetched;
        }
        out.extend(unwritten.into_values().map(|error| Effect::Report(error.to_string())));
        Outcome::Pause
    }

    /// Asks where the leader's log begins.
    fn ask_start(&self, leader: i32, followed: &Followed, out: &mut Effects) {
        let Some(to) = self.broker_peer(leader, Lane::Controller) else { return };
        let partition = &followed.partition;
        let asked = ListOffsetsPartition {
            partition_index: partition.index,
            current_leader_epoch: followed.leader_epoch,
            timestamp: EARLIEST,
        };
        let request = ListOffsetsRequest {
            replica_id: self.config.node_id,
            topics: vec![ListOffsetsTopic { name: (&*partition.topic.name).into(), partitions: vec![asked] }],
            ..Default::default()
        };
        let key = (partition.topic.id, partition.index);
        let awaited = Awaited::LeaderStart { leader, leader_epoch: followed.leader_epoch, key };
        let timeout_ms = i64::from(self.config.replication.fetch.timeout_ms);
        self.peers.send(to, (&request, LIST_OFFSETS_VERSION), awaited, timeout_ms, out);
    }

    /// The leader said where its log begins: one that ends before has nothing of use. Waits for the disk.
    pub(crate) fn on_leader_start(
        &self,
        (leader, leader_epoch): (i32, i32),
        key: PartitionKey,
        body: Option<&Bytes>,
        version: i16,
        now: Millis,
        out: &mut Effects,
    ) {
        let read = |frame: &Bytes| {
            let response = ListOffsetsResponse::decode(&mut Reader::new(frame), version).ok()?;
            let partition = response.topics.first()?.partitions.first()?.clone();
            (partition.error_code == ErrorCode::None.code()).then_some(partition.offset)
        };
        let Some(start) = body.and_then(read) else { return };
        let Some(followed) = self.fetchers.find(leader, key) else { return };
        if let Ok(true) = followed.partition.start_over(leader_epoch, start, now) {
            out.extend(
                self.write_checkpoints(now).into_values().map(|error| Effect::Report(error.to_string())),
            );
        }
        self.fetch_from(leader, true, now, out);
    }
}
