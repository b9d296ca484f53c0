//! A partition on this node: its log, what is committed of it, and who waits for that to change.
//!
//! Everything sits behind one short lock, taken once per batch and never held across a wait. Whoever moves the high watermark takes
//! the waiters it satisfies out of the lock and wakes them outside ([`Wakes`]): answering may touch other partitions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use ottla_metadata::config::{Durability, TopicConfig};
use ottla_protocol::records::BatchHeader;
use ottla_protocol::{ErrorCode, Uuid};
use ottla_storage::{Admission, AppendError, AppendOrigin, CloseSync, FlushDone, Log, Meaning, StorageError};

use crate::api::fetch::PendingFetch;
use crate::api::produce::{Entry, PendingProduce};
use crate::coordination::MarkerWaiter;
use crate::effect::{Effect, Effects, FlushTarget, FlushTask, Millis};
use crate::replication::PartitionKey;
use crate::store::{Birth, Root, Store};

pub(crate) use append::Joining;

pub(crate) mod agreement;
mod append;
mod copying;
mod disk;
mod following;
mod future;
pub(crate) mod guard;
pub(crate) mod leading;
mod moving;
mod reading;
mod turning;
mod upkeep;

pub(crate) use copying::PIECE_BYTES;
pub(crate) use following::Fetched;
pub(crate) use future::Future;
use leading::Leading;
pub(crate) use leading::{FollowerFetch, Proposal, Readable};
use moving::Moving;
pub(crate) use moving::{Abandoned, Destination, Obstacle, Stage};
pub(crate) use reading::{PartitionRead, ReadRequest};
pub(crate) use turning::Turned;

/// Bytes of one log that may wait for the periodic flush: what is written in one go holds up the disk, and whoever writes meanwhile.
const UNFLUSHED_BYTES_MAX: u64 = 32 << 20;
/// Pause before a flush that failed for want of something is tried again.
const FLUSH_RETRY_MS: Millis = 100;

/// What all partitions of a topic share.
#[derive(Debug)]
pub struct Topic {
    /// Id, new with every creation of the name.
    pub id: Uuid,
    /// Name.
    pub name: Arc<str>,
    /// Whether clients are kept from writing to it (`__consumer_offsets`, ...).
    pub internal: bool,
}

/// One partition.
#[derive(Debug)]
pub struct Partition {
    /// Its topic.
    pub topic: Arc<Topic>,
    /// Its index.
    pub index: i32,
    store: Arc<Store>,
    core: Mutex<Core>,
    /// Held while the log is opened or loaded, by threads that may wait for the disk; `core` is taken within it, never around it.
    settling: Mutex<()>,
}

#[derive(Debug)]
struct Core {
    /// The log directory in which the replica lives; `None`: there is none here, or it is not known where.
    root: Option<Arc<Root>>,
    /// `None` until first needed: an idle partition costs no files.
    log: Option<Log>,
    /// There is no directory yet: the log is empty and begins at 0.
    fresh: bool,
    /// The directory was created and is not known to be durable yet; the first flush makes it so.
    birth: Option<Arc<Birth>>,
    /// Until the log's new name is durable: what is on disk under the old one ends there.
    durable_below: Option<i64>,
    /// The move to another log directory that is under way.
    moving: Option<Moving>,
    settings: Arc<TopicConfig>,
    role: Role,
    leader_epoch: i32,
    /// What this node knows as the leader, if it is that.
    leading: Option<Leading>,
    /// Records below are committed (exclusive).
    high_watermark: i64,
    /// Appends above the high watermark: end offset and bytes of each, in order.
    uncommitted: VecDeque<(i64, u64)>,
    /// Who waits for the high watermark to reach an offset, sorted by it.
    acks: VecDeque<Ack>,
    /// Fetches that wait for more committed bytes. May hold answered ones until the next purge.
    fetches: Vec<Arc<PendingFetch>>,
    fetches_purged_len: usize,
    /// Fetches of followers, which wait for anything that is appended.
    replica_fetches: Vec<Arc<PendingFetch>>,
    flush: Flush,
    /// The disk did not take the last append, which was reported; it may take the next one.
    append_failed: bool,
    /// The last flush failed for want of something, which was reported; it is tried again.
    flush_failed: bool,
    /// Batches of producers (id and epoch) whose transaction is about to begin here, in the order in which they came.
    admissions: BTreeMap<(i64, i16), VecDeque<Applicant>>,
    /// Whether anybody read or wrote since the last checkpoint.
    used: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Leader,
    /// Another node leads, and this one has a replica.
    Follower,
    /// No leader here: another node leads, or nobody does.
    Idle,
    /// The topic was deleted.
    Deleted,
    /// The log directory failed; only a restart brings it back.
    Offline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Nothing asked for.
    Idle,
    /// Listed for the periodic flush.
    Listed,
    /// The disk is at it.
    Running,
}

#[derive(Debug)]
struct Ack {
    required: i64,
    waiter: Committed,
}

/// Who is told when an offset is committed.
#[derive(Debug, Clone)]
pub(crate) enum Committed {
    /// A produce request with `acks=all`, and the entry of its response that this append filled.
    Produce(Arc<PendingProduce>, Entry),
    /// The coordinator whose partition this is.
    Coordinator,
    /// Whoever ends a transaction here.
    Marker(MarkerWaiter),
}

/// A batch that waits until its transaction may begin here.
#[derive(Debug)]
pub(crate) struct Applicant {
    pub records: Bytes,
    pub zstd_allowed: bool,
    pub produce: Arc<PendingProduce>,
    pub entry: Entry,
}

/// What a transactional batch has to wait for.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// Nothing: its transaction is open here.
    Open,
    /// The coordinator's word, which somebody has to ask for.
    Ask(Admission),
    /// The batches before it.
    Queued,
}

/// Waiters taken out of the lock, to be woken by whoever moved the high watermark.
#[derive(Debug, Default)]
#[must_use = "waiters that are not woken wait for ever"]
pub(crate) struct Wakes {
    pub produces: Vec<(Arc<PendingProduce>, Entry)>,
    pub fetches: Vec<Arc<PendingFetch>>,
    /// The high watermark that the coordinator of this partition may act on.
    pub coordinator: Option<i64>,
    /// Produces that can no longer succeed, and why.
    pub failed: Vec<(Arc<PendingProduce>, Entry, ErrorCode)>,
    /// Markers that are committed, or will not be.
    pub markers: Vec<(MarkerWaiter, ErrorCode)>,
    /// The coordinator's records can no longer be committed.
    pub coordinator_failed: bool,
    /// The move of the log waited for a flush that came back.
    pub is_still: bool,
}

impl Wakes {
    fn is_empty(&self) -> bool {
        self.produces.is_empty() && self.fetches.is_empty() && self.coordinator.is_none()
    }
}

/// What the checkpoints say of a log: recovery point, log start offset, high watermark.
pub(crate) type Checkpointed = (i64, i64, i64);

/// Positions of a log as seen by readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Positions {
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    pub leader_epoch: i32,
    /// Where the records of this leader's epoch begin; 0 where nobody leads.
    pub epoch_start_offset: i64,
}

/// Why an append was refused.
#[derive(Debug)]
pub(crate) enum AppendRefusal {
    Code(ErrorCode),
    /// The coordinator of its transaction did not agree.
    Unverified(ErrorCode),
    Invalid(AppendError),
}

impl Partition {
    pub(crate) fn new(
        topic: Arc<Topic>,
        index: i32,
        settings: Arc<TopicConfig>,
        store: Arc<Store>,
    ) -> Arc<Self> {
        let root = store.found(&topic.name, index);
        root.iter().for_each(|root| root.move_in());
        let copied = root.as_ref().and_then(|_| store.found_future(&topic.name, index));
        let core = Core {
            fresh: root.is_none(),
            root,
            log: None,
            birth: None,
            durable_below: None,
            moving: copied.map(|(root, path)| Moving::new(root, path, None)),
            settings,
            role: Role::Idle,
            leader_epoch: -1,
            leading: None,
            high_watermark: 0,
            uncommitted: VecDeque::new(),
            acks: VecDeque::new(),
            fetches: Vec::new(),
            fetches_purged_len: 0,
            replica_fetches: Vec::new(),
            flush: Flush::Idle,
            append_failed: false,
            flush_failed: false,
            admissions: BTreeMap::new(),
            used: false,
        };
        Arc::new(Partition { topic, index, store, core: Mutex::new(core), settling: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        crate::sessions::lock(&self.core)
    }

    /// Its topic's id, and its index.
    pub(crate) fn key(&self) -> PartitionKey {
        (self.topic.id, self.index)
    }

    /// The topic is gone: lets go of the log and of everyone who waits. Whoever is opening the log right now is waited for, that nobody
    /// looks for its files any more when this returns.
    pub(crate) fn delete(&self) -> (Option<Abandoned>, Wakes) {
        let _alone = crate::sessions::lock(&self.settling);
        let mut core = self.lock();
        core.role = Role::Deleted;
        core.log = None;
        core.root.iter().for_each(|root| root.move_out());
        (core.abandon_move(), core.abandon(ErrorCode::NotLeaderOrFollower))
    }

    /// The log directory in which the replica lives, if there is one here.
    pub(crate) fn root(&self) -> Option<Arc<Root>> {
        self.lock().root.clone()
    }

    /// The replica, of which there is nothing yet, lives here from now on.
    pub(crate) fn move_in(&self, root: &Arc<Root>) {
        let mut core = self.lock();
        assert!(core.fresh && core.root.is_none(), "a replica lives in one log directory");
        root.move_in();
        core.root = Some(root.clone());
    }

    /// The log directory failed, or is not there: nobody can be served.
    pub(crate) fn go_offline(&self) -> (Option<Abandoned>, Wakes) {
        let mut core = self.lock();
        if core.role == Role::Deleted {
            return (None, Wakes::default());
        }
        core.role = Role::Offline;
        core.log = None;
        (core.abandon_move(), core.abandon(ErrorCode::KafkaStorageError))
    }

    /// Whether the log directory failed, or is not there.
    pub(crate) fn is_offline(&self) -> bool {
        self.lock().role == Role::Offline
    }

    /// New topic configuration.
    pub(crate) fn configure(&self, settings: Arc<TopicConfig>) {
        let mut core = self.lock();
        if let Some(log) = core.log.as_mut() {
            log.set_config(self.store.log_config(&settings));
        }
        core.settings = settings;
    }

    /// A transactional batch wants to be appended. If its transaction is not open here, it is kept until
    /// [`Partition::on_admission`]; the first one's caller has to ask the transaction's coordinator.
    pub(crate) fn begin(
        &self,
        header: &BatchHeader,
        bumps_epoch: bool,
        applicant: Applicant,
        now: Millis,
    ) -> Result<Beginning, AppendRefusal> {
        let mut core = self.lock();
        core.check_leader(-1).map_err(AppendRefusal::Code)?;
        if let Some(queue) = core.admissions.get_mut(&(header.producer_id, header.producer_epoch)) {
            queue.push_back(applicant);
            return Ok(Beginning::Queued);
        }
        let log = core.log(self, now).map_err(AppendRefusal::Code)?;
        let applied = log.apply_for_admission(header, bumps_epoch, now).map_err(AppendRefusal::Invalid)?;
        let Some(admission) = applied else { return Ok(Beginning::Open) };
        core.admissions.insert((header.producer_id, header.producer_epoch), VecDeque::from([applicant]));
        Ok(Beginning::Ask(admission))
    }

    /// A coordinator's records want to be part of a transaction here: the admission that they need, if any.
    pub(crate) fn apply_for_admission(
        &self,
        header: &BatchHeader,
        bumps_epoch: bool,
        now: Millis,
    ) -> Result<Option<Admission>, ErrorCode> {
        let applied = self.with_log(-1, now, |log, _| log.apply_for_admission(header, bumps_epoch, now))?;
        applied.map_err(|error| error.code())
    }

    /// The coordinator's word on whether a producer's transaction may begin here. What waited for it is appended, in the order in which
    /// it came, or refused. Returns who is settled by that; the others wait for their commit.
    pub(crate) fn on_admission(
        self: &Arc<Self>,
        producer: (i64, i16),
        admitted: Result<Admission, ErrorCode>,
        now: Millis,
        out: &mut Effects,
    ) -> (Vec<(Arc<PendingProduce>, Entry)>, Wakes) {
        let (mut settled, mut wakes) = (Vec::new(), Wakes::default());
        let mut core = self.lock();
        // One lock over all of them: nobody appends in between.
        for applicant in core.admissions.remove(&producer).unwrap_or_default() {
            let Applicant { records, zstd_allowed, produce, entry } = applicant;
            let appended = admitted.map_err(AppendRefusal::Unverified).and_then(|admission| {
                let origin = AppendOrigin::Client { zstd_allowed, admission: Some(admission) };
                let waiter = produce.waits_for_commit().then(|| Committed::Produce(produce.clone(), entry));
                core.append(self, &records, origin, waiter, &mut wakes, now, out)
            });
            // Under the lock, so that the answer knows the offset before it can learn of the commit.
            produce.fill(entry, &appended);
            let waits = matches!(appended, Ok((_, false))) && produce.waits_for_commit();
            if !waits {
                settled.push((produce, entry));
            }
        }
        (settled, wakes)
    }

    /// Positions for ListOffsets and friends. Waits for the disk unless the log [is at hand](Partition::is_at_hand).
    pub(crate) fn positions(&self, current_leader_epoch: i32, now: Millis) -> Result<Positions, ErrorCode> {
        self.lock_settled(current_leader_epoch, now)?.positions()
    }

    /// Sees to it that the coordinator of this partition hears when the log is committed up to `end`. Returns what is committed now.
    pub(crate) fn await_commit(self: &Arc<Self>, end: i64, now: Millis, out: &mut Effects) -> i64 {
        let mut core = self.lock();
        if core.high_watermark < end && core.role == Role::Leader {
            let at = core.acks.partition_point(|ack| ack.required <= end);
            core.acks.insert(at, Ack { required: end, waiter: Committed::Coordinator });
            core.plan_flush(self, true, now, out);
        }
        core.high_watermark
    }

    /// Records below it are committed (exclusive).
    pub(crate) fn high_watermark(&self) -> i64 {
        self.lock().high_watermark
    }

    /// Locks the partition with its log at hand, if this node leads it.
    fn lock_settled(
        &self,
        current_leader_epoch: i32,
        now: Millis,
    ) -> Result<MutexGuard<'_, Core>, ErrorCode> {
        let core = self.lock();
        core.check_leader(current_leader_epoch)?;
        if core.is_at_hand() {
            return Ok(core);
        }
        drop(core);
        self.settle(now)?;
        let core = self.lock();
        core.check_leader(current_leader_epoch)?;
        Ok(core)
    }

    /// Runs `inquire` on the log of the leader, under the lock: for rare questions (epochs, producers) that memory can answer. Waits for
    /// the disk unless the log [is at hand](Partition::is_at_hand).
    pub(crate) fn with_log<T>(
        &self,
        current_leader_epoch: i32,
        now: Millis,
        inquire: impl FnOnce(&mut Log, Positions) -> T,
    ) -> Result<T, ErrorCode> {
        let mut core = self.lock_settled(current_leader_epoch, now)?;
        core.log(self, now)?;
        let positions = core.positions()?;
        Ok(inquire(core.log.as_mut().expect("opened above"), positions))
    }

    /// Bytes of records on disk, without opening a log that nobody used. May wait for the disk.
    pub(crate) fn size(&self) -> u64 {
        let (open, root) = {
            let core = self.lock();
            (core.log.as_ref().map(Log::size), core.root.clone())
        };
        open.unwrap_or_else(|| root.map_or(0, |root| root.log_bytes(&self.topic.name, self.index)))
    }

    /// A flush came back.
    pub(crate) fn on_flushed(self: &Arc<Self>, done: FlushDone, now: Millis, out: &mut Effects) -> Wakes {
        let mut core = self.lock();
        core.flush = Flush::Idle;
        // It may be one of a log that was given up since.
        let Some(log) = core.log.as_mut().filter(|log| log.is_flushing()) else { return Wakes::default() };
        let mut wakes = Wakes::default();
        match log.on_flushed(done) {
            Ok(_) => {
                (core.birth, core.flush_failed) = (None, false);
                core.durable_below = None;
                core.advance_own(now, &mut wakes);
                wakes.is_still = core.is_turning();
                let urgent = !core.acks.is_empty()
                    || core.fetches.iter().any(|fetch| !fetch.is_answered())
                    || core.role == Role::Follower;
                core.plan_flush(self, urgent, now, out);
            }
            // Who waits goes on waiting, until their time is up: the records are in the log.
            Err(error) if log.failure().is_none() => core.postpone_flush(self, &error, now, out),
            Err(error) => {
                wakes = core.fail(self, &error);
                out.push(Effect::Tick { at: now });
            }
        }
        wakes
    }

    /// The periodic flush reached this partition.
    pub(crate) fn on_flush_due(self: &Arc<Self>) -> Option<FlushTask> {
        let mut core = self.lock();
        if core.flush != Flush::Listed {
            return None;
        }
        core.flush = Flush::Idle;
        core.flush_task(self).map(|task| FlushTask { was_due: true, ..task })
    }

    /// Whether closing the log will write anything.
    pub(crate) fn is_changed(&self) -> bool {
        self.lock().log.as_ref().is_some_and(Log::is_changed)
    }

    /// Flushes and closes the log, on the way down. Returns the recovery point and high watermark for the checkpoints, which are true once
    /// the log is durable.
    pub(crate) fn close(&self, sync: CloseSync) -> Option<(Arc<Root>, Result<Checkpointed, String>)> {
        let mut core = self.lock();
        let high_watermark = core.high_watermark;
        let mut log = core.log.take()?;
        let root = core.root.clone()?;
        let start = log.log_start_offset();
        let born = core.birth.take().map_or(Ok(()), |birth| match sync {
            CloseSync::Files => birth.complete(),
            CloseSync::Tree => birth.begin(),
        });
        let born = born.map_err(|error| error.to_string());
        let closed = born.and_then(|()| log.close_with(sync).map_err(|error| error.to_string()));
        let closed = match closed {
            // What is behind the high watermark may be on no other replica.
            Ok(()) => Ok((log.recovery_point(), start, high_watermark)),
            Err(error) => Err(format!("{}-{}: {error}", self.topic.name, self.index)),
        };
        Some((root, closed))
    }

    /// (recovery point, log start offset, high watermark) of an open log, for the periodic checkpoints of its directory. On the way old
    /// producers are forgotten, and a log that was idle since the last time lets go of its files.
    pub(crate) fn checkpoint(&self, now: Millis) -> Option<(Arc<Root>, Checkpointed)> {
        let core = &mut *self.lock();
        let log = core.log.as_mut()?;
        log.expire_producers(now);
        if !std::mem::take(&mut core.used) {
            self.release(core);
        }
        let log = core.log.as_ref()?;
        Some((core.root.clone()?, (log.recovery_point(), log.log_start_offset(), core.high_watermark)))
    }
}

impl Core {
    fn check_leader(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        match self.role {
            Role::Deleted => return Err(ErrorCode::UnknownTopicOrPartition),
            Role::Offline => return Err(ErrorCode::KafkaStorageError),
            Role::Follower | Role::Idle => return Err(ErrorCode::NotLeaderOrFollower),
            Role::Leader => {}
        }
        self.check_epoch(current_leader_epoch)
    }

    fn check_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        agreement::check_epoch(self.leader_epoch, current_leader_epoch)
    }

    /// The log, created if there is none yet, which costs no wait: its directory is made in the page cache, and durable with the first
    /// flush.
    fn log(&mut self, of: &Partition, now: Millis) -> Result<&mut Log, ErrorCode> {
        if self.role == Role::Offline {
            return Err(ErrorCode::KafkaStorageError);
        }
        self.used = true;
        if self.fresh {
            // Not there: the replica was not given to this node yet.
            let root = self.root.clone().ok_or(ErrorCode::NotLeaderOrFollower)?;
            let created = of.store.create_log(&root, &of.topic, of.index, &self.settings, now);
            let created = created.map_err(|error| of.unusable(&root, "can not be created", &error));
            let (log, birth) = created?;
            self.fresh = false;
            self.birth = Some(Arc::new(birth));
            self.begin(log, 0, now);
        }
        // Not there: the node stops, or the caller did not have the log settled.
        self.log.as_mut().ok_or(ErrorCode::NotLeaderOrFollower)
    }

    fn positions(&mut self) -> Result<Positions, ErrorCode> {
        if self.fresh {
            return Ok(Positions {
                high_watermark: 0,
                last_stable_offset: 0,
                log_start_offset: 0,
                log_end_offset: 0,
                leader_epoch: self.leader_epoch,
                epoch_start_offset: 0,
            });
        }
        let (high_watermark, leader_epoch) = (self.high_watermark, self.leader_epoch);
        let epoch_start_offset = self.leading.as_ref().map_or(0, |leading| leading.epoch_start_offset);
        let log = self.log.as_mut().ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok(Positions {
            high_watermark,
            last_stable_offset: log.last_stable_offset(high_watermark),
            log_start_offset: log.log_start_offset(),
            log_end_offset: log.log_end_offset(),
            leader_epoch,
            epoch_start_offset,
        })
    }

    /// Raises the high watermark and takes out whom that satisfies.
    fn advance(&mut self, to: i64, wakes: &mut Wakes) {
        if to <= self.high_watermark {
            return;
        }
        let end = self.log.as_ref().map_or(0, Log::log_end_offset);
        assert!(to <= end, "nothing beyond the log end is committed");
        self.high_watermark = to;
        let bytes = self.take_committed();
        while let Some(ack) = self.acks.pop_front_if(|ack| ack.required <= to) {
            match ack.waiter {
                Committed::Produce(produce, entry) => wakes.produces.push((produce, entry)),
                Committed::Coordinator => wakes.coordinator = Some(to),
                Committed::Marker(waiter) => {
                    wakes.markers.push((waiter, ErrorCode::None));
                    // What a marker decided may be shown to whoever asks the coordinator of this partition.
                    wakes.coordinator = Some(to);
                }
            }
        }
        self.wake_fetches(bytes, wakes);
        if self.replica_fetches.iter().any(|fetch| fetch.hears_commits()) {
            wakes.fetches.append(&mut self.replica_fetches);
        }
    }

    /// Takes out what is committed by now. Returns how many bytes that are.
    fn take_committed(&mut self) -> u64 {
        let (mut bytes, committed) = (0, self.high_watermark);
        while let Some((_, size)) = self.uncommitted.pop_front_if(|(end, _)| *end <= committed) {
            bytes += size;
        }
        bytes
    }

    /// So many bytes more are committed: takes out the fetches for which that is enough. It may be more than that: what an earlier life or
    /// leader appended was not counted.
    fn wake_fetches(&mut self, bytes: u64, wakes: &mut Wakes) {
        let bytes = bytes.max(1);
        self.fetches.retain(|fetch| {
            let satisfied = fetch.gain(bytes);
            if satisfied {
                wakes.fetches.push(fetch.clone());
            }
            !satisfied && !fetch.is_answered()
        });
    }

    /// The log failed. For want of something: it is opened anew soon. Else its directory is out of use.
    fn fail(&mut self, of: &Partition, why: &dyn std::fmt::Display) -> Wakes {
        self.tell_failure(of, why);
        if self.root.as_ref().is_some_and(|root| root.is_offline()) {
            self.role = Role::Offline;
        }
        self.abandon(ErrorCode::KafkaStorageError)
    }

    /// If the log failed, those hear of it who act on that, outside of this lock.
    fn tell_failure(&self, of: &Partition, why: &dyn std::fmt::Display) {
        match self.log.as_ref().and_then(Log::failure).map(StorageError::meaning) {
            None => {}
            Some(meaning) if meaning.passes() => of.store.close_failed(of.key()),
            Some(_) => self.root.iter().for_each(|root| of.store.fail(root, why)),
        }
    }

    /// The flush is to be tried again soon. If it was for want of space the reserve makes some.
    fn postpone_flush(&mut self, of: &Arc<Partition>, error: &StorageError, now: Millis, out: &mut Effects) {
        if !std::mem::replace(&mut self.flush_failed, true) {
            out.push(Effect::Report(format!("{}-{}: {error}", of.topic.name, of.index)));
        }
        if let Some(root) = self.root.as_ref().filter(|_| error.meaning() == Meaning::Full) {
            root.reserve.give_up();
        }
        self.flush = Flush::Listed;
        of.store.list_for_flush(of.clone(), FLUSH_RETRY_MS, now, out);
    }

    /// Nobody here will see the high watermark move again.
    fn abandon(&mut self, error: ErrorCode) -> Wakes {
        let mut wakes = Wakes { fetches: std::mem::take(&mut self.fetches), ..Wakes::default() };
        wakes.fetches.append(&mut self.replica_fetches);
        for applicant in std::mem::take(&mut self.admissions).into_values().flatten() {
            wakes.failed.push((applicant.produce, applicant.entry, error));
        }
        for ack in self.acks.drain(..) {
            match ack.waiter {
                Committed::Produce(produce, entry) => wakes.failed.push((produce, entry, error)),
                Committed::Coordinator => wakes.coordinator_failed = true,
                Committed::Marker(waiter) => wakes.markers.push((waiter, error)),
            }
        }
        wakes
    }

    /// Sees to it that what is appended reaches the disk: now if somebody waits for it, else with the periodic flush.
    fn plan_flush(&mut self, of: &Arc<Partition>, urgent: bool, now: Millis, out: &mut Effects) {
        let is_turning = self.is_turning();
        let Some(log) = self.log.as_mut() else { return };
        if is_turning || self.flush == Flush::Running || log.synced_offset() >= log.log_end_offset() {
            return;
        }
        let urgent = urgent && self.settings.durability == Durability::Flushed
            || log.unflushed_records() >= self.settings.flush_messages
            || log.unflushed_bytes() >= UNFLUSHED_BYTES_MAX
            || log.is_overdue();
        if urgent {
            self.begin_flush(of, out);
            return;
        }
        out.extend(log.begin_write_back().map(Effect::WriteBack));
        if self.flush == Flush::Idle {
            self.flush = Flush::Listed;
            of.store.list_for_flush(of.clone(), self.settings.flush_ms, now, out);
        }
    }

    fn begin_flush(&mut self, of: &Arc<Partition>, out: &mut Effects) {
        out.extend(self.flush_task(of).map(Effect::Flush));
    }

    /// What has to be done to flush the log, if it needs a flush and none is under way.
    fn flush_task(&mut self, of: &Arc<Partition>) -> Option<FlushTask> {
        // What counts as durable waits for the copy that takes the log's place.
        if self.is_turning() || self.flush == Flush::Running {
            return None;
        }
        let job = self.log.as_mut()?.begin_flush()?;
        self.flush = Flush::Running;
        Some(FlushTask {
            target: FlushTarget::Partition(of.clone()),
            birth: self.birth.clone(),
            job,
            was_due: false,
        })
    }
}
