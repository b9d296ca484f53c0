//! Fetch 4-18: reads committed records for consumers, waiting for `min_bytes` up to `max_wait_ms`.
//!
//! - v11 consumers read from a replica in their rack, if brokers are told to send them there (KIP-392, `fetch/nearest.rs`).
//! - v7 incremental sessions (KIP-227), v9 leader-epoch fencing (KIP-320), v12 diverging epochs, v13 topic ids (KIP-516).
//! - At least one batch comes whole, even above the limits (KIP-74).
//!
//! One function, [`advance`], carries a fetch from any point: it looks, and then either answers, or parks the fetch on its partitions,
//! or sends it to a reader thread because the disk is needed. It runs on whatever thread has news for the fetch.

mod nearest;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::{ErrorCode, Records, Uuid};

use crate::Broker;
use crate::call::{Call, ReplyTo};
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::partition::{FollowerFetch, Partition, PartitionRead, ReadRequest};
use crate::quotas::Flow;
use crate::sessions::{Footing, Key, News, Wanted, lock};
use nearest::Near;

/// First version that names topics by id.
const FIRST_TOPIC_ID_VERSION: i16 = 13;
/// First version whose consumers may read from followers.
const FIRST_RACK_VERSION: i16 = 11;

/// A fetch under way.
#[derive(Debug)]
pub struct PendingFetch {
    reply: ReplyTo,
    footing: Footing,
    targets: Vec<Target>,
    /// Who pays for it.
    client_id: Box<str>,
    committed_only: bool,
    /// The broker that fetches as a follower, if one does.
    follower: Option<FollowerFetch>,
    /// Where the consumer is, if it may be sent to a replica there.
    near: Option<Near>,
    /// A follower whose consumers shall not have to wait hears at once of what is committed.
    hears_commits: bool,
    /// Whether what a follower says of itself was taken note of.
    was_receipted: AtomicBool,
    min_bytes: i64,
    max_bytes: usize,
    /// `max_wait_ms` from the arrival.
    deadline: Millis,
    /// Committed bytes seen for it while parked.
    gathered: AtomicI64,
    answered: AtomicBool,
}

#[derive(Debug)]
struct Target {
    wanted: Wanted,
    partition: Result<Arc<Partition>, ErrorCode>,
}

impl PendingFetch {
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// More bytes were committed on a partition that this fetch follows. Whether that is enough.
    pub(crate) fn gain(&self, bytes: u64) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        !self.is_answered()
            && self.gathered.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes) >= self.min_bytes
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&self) {
        self.answered.store(true, Ordering::Release);
    }

    pub(crate) fn hears_commits(&self) -> bool {
        self.hears_commits
    }

    pub(crate) fn reply(&self) -> ReplyTo {
        self.reply
    }
}

/// Handles a fetch as it arrives.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: FetchRequest<'_>) {
    let by_topic_id = call.reply.version >= FIRST_TOPIC_ID_VERSION;
    let name = |topic: &str, id: Uuid| -> Arc<str> {
        match broker.topics().by_id(id) {
            Some(topic) if by_topic_id => topic.topic.name.clone(),
            _ => topic.into(),
        }
    };
    let wanted = request
        .topics
        .iter()
        .flat_map(|topic| {
            let name = name(&topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |partition| Wanted {
                topic: name.clone(),
                topic_id: topic.topic_id,
                index: partition.partition,
                fetch_offset: partition.fetch_offset,
                log_start_offset: partition.log_start_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                told_high_watermark: -1,
            })
        })
        .collect();
    let forgotten: Vec<Key> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| {
            let name = name(&topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |&index| Key::new(&name, topic.topic_id, index))
        })
        .collect();
    let session = (request.session_id, request.session_epoch);
    let follower = follower_of(broker, &request);
    let entered =
        broker.sessions().enter(session, by_topic_id, wanted, &forgotten, follower.is_some(), call.now);
    let (footing, wanted) = match entered {
        Ok(entered) => entered,
        Err(error) => {
            let response = FetchResponse { error_code: error.code(), ..Default::default() };
            return call.respond(&response);
        }
    };
    let topics = broker.topics();
    let targets = wanted
        .into_iter()
        .map(|wanted| {
            let partition = if by_topic_id {
                topics.partition_by_id(wanted.topic_id, wanted.index)
            } else {
                topics.partition_by_name(&wanted.topic, wanted.index)
            };
            Target { wanted, partition }
        })
        .collect();
    let limit = broker.config().requests.fetch_max_bytes;
    let granted = match follower {
        Some(_) => usize::MAX,
        None => broker.quotas.fetch_bytes_max(&broker.image(), call.client_id),
    };
    let fetch = Arc::new(PendingFetch {
        reply: call.reply,
        footing,
        targets,
        client_id: call.client_id.into(),
        committed_only: request.isolation_level == 1,
        follower,
        hears_commits: follower.is_some() && broker.config().replication.reads_by_rack,
        near: Near::of(broker, call, &request),
        was_receipted: AtomicBool::new(false),
        min_bytes: i64::from(request.min_bytes),
        max_bytes: usize::try_from(request.max_bytes.clamp(0, limit)).unwrap_or(0).min(granted),
        deadline: call.now + i64::from(request.max_wait_ms.max(0)),
        gathered: AtomicI64::new(0),
        answered: AtomicBool::new(false),
    });
    advance(broker, &fetch, false, call.now, call.out);
}

/// The broker that fetches as a follower. Up to v14 it is named elsewhere; only since v15 it says which life of it fetches (KIP-903).
pub(crate) fn follower_of(broker: &Broker, request: &FetchRequest<'_>) -> Option<FollowerFetch> {
    let id = request.replica_id.max(request.replica_state.replica_id);
    let broker_epoch = request.replica_state.replica_epoch;
    (id >= 0).then(|| {
        let image = broker.image();
        let known = image.broker(NodeId(id));
        let is_eligible =
            known.is_some_and(|it| it.is_active() && (broker_epoch < 0 || it.broker_epoch == broker_epoch));
        FollowerFetch { id, broker_epoch, log_start_offset: -1, is_eligible }
    })
}

/// Carries the fetch on: answers it if it has enough or its time is up, parks it if it has not, and sends it to a reader thread when
/// the disk is needed and this thread may not wait (`may_wait`).
pub(crate) fn advance(
    broker: &Broker,
    fetch: &Arc<PendingFetch>,
    may_wait: bool,
    now: Millis,
    out: &mut Effects,
) {
    loop {
        if fetch.is_answered() {
            return;
        }
        let Some(reads) = look(broker, fetch, may_wait, now, out) else {
            out.push(Effect::Read(ReadTask::Fetch(fetch.clone())));
            return;
        };
        let bytes: usize = reads.iter().map(|read| read.records.len()).sum();
        let notable = fetch.targets.iter().zip(&reads).any(|(target, read)| is_notable(fetch, target, read));
        let enough = i64::try_from(bytes).unwrap_or(i64::MAX) >= fetch.min_bytes;
        if enough || notable || reads.is_empty() || now >= fetch.deadline {
            return answer(broker, fetch, reads, now, out);
        }
        fetch.gathered.store(bytes as i64, Ordering::Release);
        // Registered before it is parked: whoever wakes it must find it.
        broker.purgatory().enter_fetch(fetch);
        let parked = fetch.targets.iter().zip(&reads).all(|(target, read)| {
            match (&target.partition, read.positions) {
                (Ok(partition), Some(positions)) => {
                    partition.park(fetch, positions, fetch.follower.is_some(), now, out)
                }
                _ => true,
            }
        });
        if parked {
            out.push(Effect::Deadline { token: fetch.reply.token, at: fetch.deadline });
            return;
        }
    }
}

/// Whether there is something to tell other than records.
fn is_notable(fetch: &PendingFetch, target: &Target, read: &PartitionRead) -> bool {
    let Some(positions) = read.positions.filter(|_| read.error == ErrorCode::None) else { return true };
    // A follower's log shall begin where the leader's does, and can: all that goes is committed, and it has it.
    let (theirs, ours) = (target.wanted.log_start_offset, positions.log_start_offset);
    let is_left_behind = fetch.follower.is_some()
        && (0..ours).contains(&theirs)
        && ours <= positions.high_watermark.min(target.wanted.fetch_offset);
    let is_news = fetch.hears_commits
        && matches!(fetch.footing, Footing::Continued(..))
        && target.wanted.told_high_watermark < positions.high_watermark;
    read.diverging.is_some() || read.preferred.is_some() || is_left_behind || is_news
}

/// Reads every partition once. `None`: a reader thread is needed.
fn look(
    broker: &Broker,
    fetch: &PendingFetch,
    may_wait: bool,
    now: Millis,
    out: &mut Effects,
) -> Option<Vec<PartitionRead>> {
    if may_wait {
        broker.make_room_for_logs(fetch.targets.len(), now, out);
    }
    let receipt = fetch.follower.filter(|_| !fetch.was_receipted.load(Ordering::Acquire));
    let me = broker.config.node_id;
    let is_exceeded = fetch.follower.is_some() && {
        let limit = broker.live_config().replication.leader_throttle_bytes;
        broker.throttles.leader.is_exceeded(limit, now)
    };
    let mut left = fetch.max_bytes;
    let mut at_least_one = true;
    let mut has_later_start = false;
    let mut reads = Vec::with_capacity(fetch.targets.len());
    for target in &fetch.targets {
        let mut read = match &target.partition {
            Err(error) => PartitionRead::failed(*error),
            Ok(partition) => partition.read(
                ReadRequest {
                    offset: target.wanted.fetch_offset,
                    max_bytes: left.min(usize::try_from(target.wanted.max_bytes).unwrap_or(0)),
                    current_leader_epoch: target.wanted.current_leader_epoch,
                    last_fetched_epoch: target.wanted.last_fetched_epoch,
                    committed_only: fetch.committed_only,
                    at_least_one,
                    may_wait,
                    by_follower: fetch.follower.is_some(),
                    is_throttled: is_exceeded
                        && fetch.follower.is_some_and(|from| partition.throttles(me, from.id)),
                    from_any_replica: fetch.follower.is_none() && fetch.reply.version >= FIRST_RACK_VERSION,
                    receipt: receipt.map(|from| FollowerFetch {
                        log_start_offset: target.wanted.log_start_offset,
                        ..from
                    }),
                },
                now,
            )?,
        };
        if let Ok(partition) = &target.partition {
            if let Some(near) = fetch.near.as_ref().filter(|_| read.error == ErrorCode::None) {
                near.redirect(broker, partition, target.wanted.fetch_offset, &mut read);
            }
            broker.wake(partition, std::mem::take(&mut read.wakes), now, out);
            if read.has_proposal {
                broker.propose_isr(partition, now, out);
            }
            has_later_start |= read.begins_later;
        }
        left = left.saturating_sub(read.records.len());
        at_least_one &= read.records.is_empty();
        reads.push(read);
    }
    fetch.was_receipted.store(true, Ordering::Release);
    if has_later_start {
        broker.advance_deletions(out);
    }
    Some(reads)
}

fn answer(broker: &Broker, fetch: &PendingFetch, reads: Vec<PartitionRead>, now: Millis, out: &mut Effects) {
    if fetch.answered.swap(true, Ordering::AcqRel) {
        return;
    }
    broker.purgatory().leave(fetch.reply.token);
    let bytes = reads.iter().map(|read| read.records.len()).sum();
    let charged = if fetch.follower.is_some() { 0 } else { bytes };
    note_throttled(broker, fetch, &reads, now);
    let throttle_time_ms = broker.charge(Flow::Fetch, &fetch.client_id, charged, fetch.reply.token, now, out);
    let mut session = match &fetch.footing {
        Footing::Sessionless => None,
        Footing::Begun(session, _) | Footing::Continued(session, _) => Some(lock(session)),
    };
    let tell_all = !matches!(fetch.footing, Footing::Continued(..));
    let mut topics: Vec<FetchableTopicResponse<'_>> = Vec::new();
    for (target, read) in fetch.targets.iter().zip(reads) {
        let news = News {
            has_records: !read.records.is_empty(),
            error: read.error.code(),
            diverges: read.diverging.is_some(),
            is_redirected: read.preferred.is_some(),
            high_watermark: read.positions.map_or(-1, |positions| positions.high_watermark),
            log_start_offset: read.positions.map_or(-1, |positions| positions.log_start_offset),
        };
        let Wanted { topic, topic_id, index, .. } = &target.wanted;
        let key = Key::new(topic, *topic_id, *index);
        let worth = session.as_mut().is_none_or(|session| session.worth_telling(&key, &news));
        if !worth && !tell_all {
            continue;
        }
        let data = partition_data(*index, read);
        match topics.last_mut().filter(|last| last.topic_id == *topic_id && *last.topic == **topic) {
            Some(last) => last.partitions.push(data),
            None => topics.push(FetchableTopicResponse {
                topic: (&**topic).into(),
                topic_id: *topic_id,
                partitions: vec![data],
            }),
        }
    }
    drop(session);
    let response = FetchResponse {
        throttle_time_ms,
        session_id: fetch.footing.session_id(),
        responses: topics,
        ..Default::default()
    };
    fetch.reply.send(&response, out);
}

/// What goes to throttled followers counts.
fn note_throttled(broker: &Broker, fetch: &PendingFetch, reads: &[PartitionRead], now: Millis) {
    let is_limited = || broker.live_config().replication.leader_throttle_bytes < i64::MAX;
    if fetch.follower.is_none() || !is_limited() {
        return;
    }
    let me = broker.config.node_id;
    let bytes: usize = fetch
        .targets
        .iter()
        .zip(reads)
        .filter(|(target, read)| {
            let settings = target.partition.as_ref().ok().filter(|_| !read.records.is_empty());
            let settings = settings.map(|partition| partition.settings());
            settings.is_some_and(|settings| settings.leader_throttled.include(target.wanted.index, me))
        })
        .map(|(_, read)| read.records.len())
        .sum();
    if bytes > 0 {
        broker.throttles.leader.note(bytes, now);
    }
}

fn partition_data<'r>(index: i32, read: PartitionRead) -> PartitionData<'r> {
    let positions = read.positions;
    let mut data = PartitionData {
        partition_index: index,
        error_code: read.error.code(),
        high_watermark: positions.map_or(-1, |positions| positions.high_watermark),
        last_stable_offset: positions.map_or(-1, |positions| positions.last_stable_offset),
        log_start_offset: positions.map_or(-1, |positions| positions.log_start_offset),
        aborted_transactions: None,
        records: Some(Records::Chain(read.records)),
        ..Default::default()
    };
    if positions.is_some() && !read.aborted.is_empty() {
        let aborted = read.aborted.into_iter();
        data.aborted_transactions = Some(
            aborted
                .map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset })
                .collect(),
        );
    }
    if let Some(replica) = read.preferred {
        data.preferred_read_replica = replica;
    }
    if let Some((epoch, end_offset)) = read.diverging {
        data.diverging_epoch = EpochEndOffset { epoch, end_offset };
    }
    data
}
