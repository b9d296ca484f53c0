//! The metadata quorum as this node takes part in it: raft decides what is committed, the metadata log remembers, the controller makes
//! the records.
//!
//! handle → append → replay → respond: a decision's records go to the log and are replayed into the controller at once, so that the
//! next decision builds on them; when raft says that they are committed they are replayed into the image that everybody reads, this
//! node acts on what changed, and only then does the response leave.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_controller::{
    Controller, Decision, InternalTopic, MAX_RECORDS_PER_BATCH, Registration, Settings, TableRules,
    bootstrap_records,
};
use ottla_metadata::config::BrokerConfig;
use ottla_metadata::{Image, MetadataVersion, Replayer, features, record_version};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use ottla_protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use ottla_protocol::messages::leader_change_message::{LeaderChangeMessage, Voter};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::records::{self, BatchBuilder, BatchOptions, ControlType, control_batch};
use ottla_protocol::{Message, Uuid, Writer};
use ottla_raft::{EpochLog, Event, OffsetAndEpoch, Raft, ReplicaKey};
use ottla_storage::{AppendOrigin, Disk, FlushDone, Log, QuorumState as QuorumFile};

use crate::Broker;
use crate::api::Circumstance;
use crate::call::{Call, Deferred};
use crate::config_rules::ServedRules;
use crate::effect::{Effect, Effects, FlushTarget, FlushTask, Millis};
use crate::open::CLUSTER_METADATA_DIR;
use crate::sessions::lock;
use crate::store::Store;

/// Bytes read at once while the metadata log is replayed.
const REPLAY_BYTES: usize = 8 << 20;
/// Bytes of one decompressed batch of the metadata log.
const REPLAY_BATCH_BYTES_MAX: usize = 64 << 20;

/// What happens once everything appended so far is committed.
#[derive(Debug)]
pub(crate) enum Then {
    /// These effects are pushed: a response that was encoded when the decision was made.
    Perform(Effects),
    /// A request that needed the change is handled again.
    Again(Deferred),
    /// A block of producer ids may be used, and the request that needed one is handled again.
    ProducerIds(Range<i64>, Deferred),
}

/// Who this node is, in this life.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub cluster_id: String,
    pub directory_id: Uuid,
    pub incarnation_id: Uuid,
    /// The broker epoch of the life that ended cleanly, or -1.
    pub previous_broker_epoch: i64,
    pub seed: u64,
}

#[derive(Debug)]
pub(crate) struct Quorum {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    raft: Raft,
    log: Log,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    controller: Controller,
    /// The committed image under construction.
    committed: Replayer,
    high_watermark: i64,
    /// Appended and not committed: end offset of each batch, and its records with their offsets.
    uncommitted: VecDeque<(i64, Vec<(i64, MetadataRecord<'static>)>)>,
    /// Who waits for the high watermark to reach an offset, sorted by it.
    waiting: VecDeque<(i64, Then)>,
    flushing: bool,
    /// Why the log can not be written any more.
    failed: Option<String>,
}

/// Where flushes happen.
enum Flushing<'e> {
    /// Here and now: the node is starting.
    Inline,
    /// On a disk thread.
    Effect(&'e mut Effects),
}

struct Epochs<'l>(&'l Log);

impl EpochLog for Epochs<'_> {
    fn log_end_offset(&self) -> i64 {
        self.0.log_end_offset()
    }

    fn log_start_offset(&self) -> i64 {
        self.0.log_start_offset()
    }

    fn last_epoch(&self) -> i32 {
        self.0.latest_epoch().unwrap_or(0)
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch {
        let (epoch, offset) = self.0.end_offset_for_epoch(epoch).unwrap_or((0, self.0.log_start_offset()));
        OffsetAndEpoch { offset, epoch }
    }
}

impl Quorum {
    /// Recovers the metadata log, elects this node, and writes what a node writes when it starts. Everything is committed on return.
    pub fn open(
        store: &Store,
        config: &Arc<BrokerConfig>,
        identity: Identity,
        now: Millis,
    ) -> Result<Quorum, String> {
        let dir = store.root().join(CLUSTER_METADATA_DIR);
        let disk = store.disk().clone();
        let damaged = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.display());
        let mut log = store.open_metadata_log(&dir, config, now).map_err(|error| damaged(&error))?;
        let replayed = replay(&mut log, &identity.cluster_id).map_err(|error| damaged(&error))?;
        let remembered = QuorumFile::read(&*disk, &dir).map_err(|error| damaged(&error))?;
        let me = ReplicaKey { id: config.node_id, directory_id: identity.directory_id.0 };
        let settings = ottla_raft::Settings {
            me,
            voters: vec![me],
            election_timeout_ms: i64::from(config.quorum.election_timeout_ms),
            fetch_timeout_ms: i64::from(config.quorum.fetch_timeout_ms),
            election_backoff_max_ms: i64::from(config.quorum.election_backoff_max_ms),
            request_timeout_ms: i64::from(config.quorum.request_timeout_ms),
            retry_backoff_ms: i64::from(config.quorum.retry_backoff_ms),
            seed: identity.seed,
        };
        let rules = Box::new(ServedRules(TableRules::new((**config).clone())));
        let controller = Controller::new(replayed.clone(), Settings::of(config), rules, identity.seed);
        let mut state = State {
            raft: Raft::new(settings, remembered.map(remembered_state).unwrap_or_default()),
            high_watermark: 0,
            committed: replayed,
            log,
            dir,
            disk,
            controller,
            uncommitted: VecDeque::new(),
            waiting: VecDeque::new(),
            flushing: false,
            failed: None,
        };
        state.begin(config, &identity, now)?;
        Ok(Quorum { state: Mutex::new(state) })
    }

    /// The committed image.
    pub fn committed_image(&self) -> Image {
        lock(&self.state).committed.image().clone()
    }

    /// Flushes and closes the log.
    pub fn close(&self) -> Result<(), String> {
        let state = &mut *lock(&self.state);
        state.log.close().map_err(|error| format!("{}: {error}", state.dir.display()))
    }
}

impl State {
    /// Election, first records, registration: what a node does before it serves.
    fn begin(&mut self, config: &BrokerConfig, identity: &Identity, now: Millis) -> Result<(), String> {
        self.drive(Event::Start, now, &mut Flushing::Inline)?;
        let Some(_) = self.raft.leading_epoch() else {
            return Err(
                "the only voter was not elected: its metadata log and its quorum-state contradict each other"
                    .to_owned(),
            );
        };
        let bootstrap = bootstrap_records(MetadataVersion::LATEST, &[]);
        let activation = self.controller.activation(&bootstrap);
        self.append(activation, now, &mut Flushing::Inline)?;
        let me = NodeId(config.node_id);
        let request = registration_request(config, identity);
        let registration = Registration {
            version: 4,
            next_offset: self.log.log_end_offset(),
            has_live_session: false,
            kraft_version: 0,
        };
        let registered = self.controller.register_broker(&request, registration);
        let registered = registered.map_err(|error| format!("the node can not register: {error}"))?;
        self.append(registered, now, &mut Flushing::Inline)?;
        let unfenced = self
            .controller
            .unfence_broker(me)
            .map_err(|error| format!("the node can not be unfenced: {error}"))?;
        self.append(unfenced, now, &mut Flushing::Inline)?;
        assert_eq!(self.high_watermark, self.log.log_end_offset(), "with one voter, flushed is committed");
        self.commit();
        self.committed.take_delta();
        Ok(())
    }

    /// Feeds raft, and performs what it asks for.
    fn drive(&mut self, event: Event, now: Millis, flushing: &mut Flushing<'_>) -> Result<(), String> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.raft.on(event, now, &Epochs(&self.log), &mut effects);
            for effect in effects {
                match effect {
                    ottla_raft::Effect::PersistQuorumState { sequence, state } => {
                        let file = self.quorum_file(&state);
                        file.write(&*self.disk, &self.dir)
                            .map_err(|error| format!("{}: {error}", self.dir.display()))?;
                        events.push_back(Event::QuorumStatePersisted { sequence });
                    }
                    ottla_raft::Effect::AppendLeaderChange { epoch, granted_by } => {
                        self.append_leader_change(epoch, &granted_by, now)?;
                    }
                    ottla_raft::Effect::FlushLog => match flushing {
                        Flushing::Inline => {
                            if let Some(job) = self.log.begin_flush() {
                                self.log.on_flushed(job.run()).map_err(|error| error.to_string())?;
                            }
                            events.push_back(Event::LogFlushed { end_offset: self.log.synced_offset() });
                        }
                        Flushing::Effect(out) => self.begin_flush(out),
                    },
                    ottla_raft::Effect::HighWatermark { offset } => {
                        assert!(offset >= self.high_watermark, "the high watermark never goes back");
                        self.high_watermark = offset;
                    }
                    ottla_raft::Effect::BecameLeader { .. } | ottla_raft::Effect::LeaderChanged { .. } => {}
                    other => return Err(format!("a quorum of one does not {other:?}")),
                }
            }
        }
        Ok(())
    }

    fn begin_flush(&mut self, out: &mut Effects) {
        if self.flushing {
            return;
        }
        if let Some(job) = self.log.begin_flush() {
            self.flushing = true;
            out.push(Effect::Flush(FlushTask { target: FlushTarget::Metadata, birth: None, job }));
        }
    }

    fn append_leader_change(&mut self, epoch: i32, granted_by: &[i32], now: Millis) -> Result<(), String> {
        let voter = |voter_id: i32| Voter { voter_id, ..Default::default() };
        let message = LeaderChangeMessage {
            version: 0,
            leader_id: self.raft.settings().me.id,
            voters: self.raft.settings().voters.iter().map(|replica| voter(replica.id)).collect(),
            granting_voters: granted_by.iter().map(|id| voter(*id)).collect(),
        };
        let mut writer = Writer::new();
        message.encode(&mut writer, 0).map_err(|error| error.to_string())?;
        let options = BatchOptions { leader_epoch: epoch, ..Default::default() };
        let base = self.log.log_end_offset();
        let batch = control_batch(base, now, ControlType::LeaderChange, &writer.into_bytes(), options);
        self.append_batch(batch, epoch, Vec::new(), now)
    }

    /// Appends and replays the records of a decision, and has them flushed.
    fn append<R>(
        &mut self,
        decision: Decision<R>,
        now: Millis,
        flushing: &mut Flushing<'_>,
    ) -> Result<R, String> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let Decision { mut records, response, .. } = decision;
        if records.is_empty() {
            return Ok(response);
        }
        let epoch = self.raft.leading_epoch().ok_or("this node does not lead the quorum")?;
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(MAX_RECORDS_PER_BATCH));
            let base = self.log.log_end_offset();
            let version = self.controller.context().metadata_version();
            let options = BatchOptions { leader_epoch: epoch, ..Default::default() };
            let mut batch = BatchBuilder::new(base, options);
            for record in &records {
                let mut writer = Writer::new();
                record
                    .encode_framed(record_version(record, version), &mut writer)
                    .map_err(|error| error.to_string())?;
                batch.push(now, None, Some(&writer.into_bytes()), &[]);
            }
            let records = std::mem::replace(&mut records, rest);
            let numbered = (base..).zip(records).collect();
            if let Err(error) = self.append_batch(batch.finish(), epoch, numbered, now) {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        self.drive(Event::Appended, now, flushing)?;
        Ok(response)
    }

    fn append_batch(
        &mut self,
        batch: Vec<u8>,
        epoch: i32,
        records: Vec<(i64, MetadataRecord<'static>)>,
        now: Millis,
    ) -> Result<(), String> {
        let batch = Bytes::from(batch);
        let appended = self.log.append(&batch, AppendOrigin::RaftLeader, epoch, now);
        let info = appended.map_err(|error| format!("{}: {error}", self.dir.display()))?;
        for (offset, record) in &records {
            self.controller
                .replay(record, *offset)
                .map_err(|error| format!("a record that we wrote: {error}"))?;
        }
        self.uncommitted.push_back((info.last_offset + 1, records));
        Ok(())
    }

    /// Replays what is committed into the committed image.
    fn commit(&mut self) {
        while let Some((_, records)) = self.uncommitted.pop_front_if(|(end, _)| *end <= self.high_watermark) {
            for (offset, record) in &records {
                let replayed = self.committed.replay(record, *offset);
                replayed
                    .unwrap_or_else(|error| panic!("the controller replayed this record before: {error}"));
            }
        }
    }

    /// Holds `then` until everything appended so far is committed.
    fn wait(&mut self, then: Then, out: &mut Effects, again: &mut Vec<(Deferred, Option<Range<i64>>)>) {
        self.waiting.push_back((self.log.log_end_offset(), then));
        self.release(out, again);
    }

    /// Lets go of whoever waits for something that is committed.
    fn release(&mut self, out: &mut Effects, again: &mut Vec<(Deferred, Option<Range<i64>>)>) {
        // What is committed but not applied yet is not visible; `commit` and `apply` come first, under the same lock.
        while let Some((_, then)) = self.waiting.pop_front_if(|(end, _)| *end <= self.high_watermark) {
            match then {
                Then::Perform(effects) => out.extend(effects),
                Then::Again(deferred) => again.push((deferred, None)),
                Then::ProducerIds(block, deferred) => again.push((deferred, Some(block))),
            }
        }
    }

    fn quorum_file(&self, state: &ottla_raft::QuorumState) -> QuorumFile {
        QuorumFile {
            leader_id: state.leader.unwrap_or(-1),
            leader_epoch: state.epoch,
            voted_id: state.voted.map_or(-1, |voted| voted.id),
            voted_directory_id: Uuid::ZERO,
            current_voters: self.raft.settings().voters.iter().map(|voter| voter.id).collect(),
            data_version: 0,
        }
    }
}

/// What the file says, as raft remembers it.
fn remembered_state(file: QuorumFile) -> ottla_raft::QuorumState {
    let id = |id: i32| (id >= 0).then_some(id);
    ottla_raft::QuorumState {
        epoch: file.leader_epoch,
        leader: id(file.leader_id),
        voted: id(file.voted_id).map(|id| ReplicaKey { id, directory_id: file.voted_directory_id.0 }),
    }
}

fn registration_request<'a>(
    config: &'a BrokerConfig,
    identity: &'a Identity,
) -> BrokerRegistrationRequest<'a> {
    let network = &config.network;
    let for_brokers = network
        .advertised_listeners
        .iter()
        .filter(|endpoint| !network.controller_listener_names.contains(&endpoint.name));
    let features = features::supported().map(|(name, min_supported_version, max_supported_version)| {
        Feature { name: name.into(), min_supported_version, max_supported_version }
    });
    BrokerRegistrationRequest {
        broker_id: config.node_id,
        cluster_id: identity.cluster_id.as_str().into(),
        incarnation_id: identity.incarnation_id,
        listeners: for_brokers
            .map(|endpoint| Listener {
                name: endpoint.name.as_str().into(),
                host: endpoint.host.as_str().into(),
                port: endpoint.port,
                security_protocol: endpoint.security_protocol as i16,
            })
            .collect(),
        features: features.collect(),
        rack: config.rack.as_deref().map(Into::into),
        is_migrating_zk_broker: false,
        log_dirs: vec![identity.directory_id],
        previous_broker_epoch: identity.previous_broker_epoch,
    }
}

/// Reads the whole metadata log.
fn replay(log: &mut Log, cluster_id: &str) -> Result<Replayer, String> {
    let mut replayer = Replayer::new(Image::empty(cluster_id));
    let mut offset = log.log_start_offset();
    while offset < log.log_end_offset() {
        let chunk =
            log.read(offset, REPLAY_BYTES, log.log_end_offset(), true).map_err(|error| error.to_string())?;
        let bytes = chunk.records.read().map_err(|error| error.to_string())?;
        let before = offset;
        for batch in records::batches(&bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            offset = offset.max(batch.header().next_offset());
            if batch.header().is_control() {
                continue;
            }
            let set = batch.records(REPLAY_BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
            for record in set.iter() {
                let record = record.map_err(|error| format!("{error:?}"))?;
                let value = record
                    .value
                    .ok_or_else(|| format!("the record at offset {} has no value", record.offset))?;
                let decoded = MetadataRecord::decode_framed(value);
                let decoded =
                    decoded.map_err(|error| format!("the record at offset {}: {error}", record.offset))?;
                let replayed = replayer.replay(&decoded, record.offset);
                replayed.map_err(|error| format!("the record at offset {}: {error}", record.offset))?;
            }
        }
        if offset == before {
            return Err(format!("there is no batch at offset {offset}"));
        }
    }
    replayer.take_delta();
    Ok(replayer)
}

impl Broker {
    /// Has the controller decide, and answers when its records are committed.
    pub(crate) fn decide<'m, R: Message<'m>>(
        &self,
        call: &mut Call<'_>,
        decide: impl FnOnce(&mut Controller) -> Decision<R>,
    ) {
        let mut again = Vec::new();
        {
            let state = &mut *lock(&self.quorum.state);
            let decision = decide(&mut state.controller);
            match state.append(decision, call.now, &mut Flushing::Effect(call.out)) {
                Ok(response) => {
                    let mut answer = Effects::new();
                    call.reply.send(&response, &mut answer);
                    state.wait(Then::Perform(answer), call.out, &mut again);
                }
                Err(error) => {
                    call.out.push(Effect::Report(error));
                    call.reply.close(call.out);
                }
            }
        }
        self.go_on(again, call.now, call.out);
    }

    /// Creates topics with the cluster's defaults, then handles the request again. Topics that can not be created are left for it to
    /// report.
    pub(crate) fn auto_create(&self, call: &mut Call<'_>, names: &[String]) {
        let request = ottla_controller::auto_create(names.iter().map(String::as_str));
        self.decide_first(call, |controller| controller.create_topics(&request));
    }

    /// Creates `__consumer_offsets`, then handles the request again.
    pub(crate) fn create_offsets_topic(&self, call: &mut Call<'_>) {
        let request = ottla_controller::consumer_offsets(InternalTopic::of_consumer_offsets(&self.config));
        self.decide_first(call, |controller| controller.create_topics(&request));
    }

    fn decide_first<R>(&self, call: &mut Call<'_>, decide: impl FnOnce(&mut Controller) -> Decision<R>) {
        let mut again = Vec::new();
        {
            let state = &mut *lock(&self.quorum.state);
            let decision = decide(&mut state.controller);
            match state.append(decision, call.now, &mut Flushing::Effect(call.out)) {
                Ok(_) => state.wait(Then::Again(call.to_deferred()), call.out, &mut again),
                Err(error) => {
                    call.out.push(Effect::Report(error));
                    again.push((call.to_deferred(), None));
                }
            }
        }
        self.go_on(again, call.now, call.out);
    }

    /// Reserves a block of producer ids, then handles the request again.
    pub(crate) fn allocate_producer_ids(&self, call: &mut Call<'_>) {
        let mut again = Vec::new();
        {
            let state = &mut *lock(&self.quorum.state);
            let broker_epoch = self.broker_epoch();
            let request = AllocateProducerIdsRequest { broker_id: self.config.node_id, broker_epoch };
            let decided = state.controller.allocate_producer_ids(&request).map_err(|error| error.to_string());
            let appended = decided
                .and_then(|decision| state.append(decision, call.now, &mut Flushing::Effect(call.out)));
            match appended {
                Ok(block) => {
                    let ids =
                        block.producer_id_start..block.producer_id_start + i64::from(block.producer_id_len);
                    state.wait(Then::ProducerIds(ids, call.to_deferred()), call.out, &mut again);
                }
                Err(error) => {
                    call.out.push(Effect::Report(error));
                    again.push((call.to_deferred(), None));
                }
            }
        }
        self.go_on(again, call.now, call.out);
    }

    /// The metadata log was flushed: what raft says is committed is acted upon, then whoever waited for it is answered.
    pub(crate) fn on_metadata_flushed(&self, done: FlushDone, now: Millis, out: &mut Effects) {
        let mut again = Vec::new();
        {
            let state = &mut *lock(&self.quorum.state);
            state.flushing = false;
            let flushed =
                state.log.on_flushed(done).map_err(|error| format!("{}: {error}", state.dir.display()));
            let driven = flushed.and_then(|end_offset| {
                state.drive(Event::LogFlushed { end_offset }, now, &mut Flushing::Effect(out))
            });
            if let Err(error) = driven {
                state.failed = Some(error.clone());
                out.push(Effect::Halt(error));
                return;
            }
            if state.log.synced_offset() < state.log.log_end_offset() {
                state.begin_flush(out);
            }
            state.commit();
            let delta = state.committed.take_delta();
            if !delta.is_empty() {
                self.apply(&state.committed.image().clone(), &delta, now, out);
            }
            state.release(out, &mut again);
        }
        self.go_on(again, now, out);
    }

    /// Handles requests again, outside the lock.
    fn go_on(&self, again: Vec<(Deferred, Option<Range<i64>>)>, now: Millis, out: &mut Effects) {
        for (deferred, block) in again {
            if let Some(block) = block {
                self.producer_ids.refill(block);
            }
            self.again(deferred, Circumstance { now, retried: true, may_wait: false }, out);
        }
    }
}
