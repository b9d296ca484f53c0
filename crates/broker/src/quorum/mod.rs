//! The metadata quorum as this node takes part in it: raft decides what is committed, the metadata log remembers, the controller makes
//! the records.
//!
//! handle → append → replay → respond: a decision's records go to the log and are replayed into the controller at once, so that the
//! next decision builds on them; when raft says that they are committed they are replayed into the image that everybody reads, this
//! node acts on what changed, and only then does the response leave.

mod history;
mod snapshots;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_controller::{
    Controller, Decision, InternalTopic, MAX_RECORDS_PER_BATCH, Registration, Settings, TableRules,
    bootstrap_records, first_record,
};
use ottla_metadata::config::BrokerConfig;
use ottla_metadata::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use ottla_metadata::{Image, MetadataVersion, Replayer, features};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use ottla_protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use ottla_protocol::messages::kraft_version_record::KRaftVersionRecord;
use ottla_protocol::messages::leader_change_message::{LeaderChangeMessage, Voter};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::records::{BatchBuilder, BatchOptions, ControlType, control_batch};
use ottla_protocol::{Message, Uuid, Writer};
use ottla_raft::{
    EpochLog, Event, OffsetAndEpoch, Raft, ReplicaKey, VersionRange, Voter as RaftVoter, Voters,
};
use ottla_storage::{AppendOrigin, Disk, FlushDone, Log, QuorumState as QuorumFile, SnapshotId};

use history::{History, QuorumProtocol};
use snapshots::Snapshots;
pub(crate) use snapshots::{Cleaning, SnapshotJob};

use crate::Broker;
use crate::api::Circumstance;
use crate::call::{Call, Deferred};
use crate::config_rules::ServedRules;
use crate::effect::{Effect, Effects, FlushTarget, FlushTask, Millis, ReadTask};
use crate::open::CLUSTER_METADATA_DIR;
use crate::sessions::lock;
use crate::store::Store;

/// What happens once everything appended so far is committed.
#[derive(Debug)]
pub(crate) enum Then {
    /// These effects are pushed: a response that was encoded when the decision was made.
    Perform(Effects),
    /// A request that needed the change is handled again.
    Again(Deferred),
    /// A block of producer ids may be used, and the request that needed one, if any, is handled again.
    ProducerIds(Range<i64>, Option<Deferred>),
}

/// A request to be handled again, after the block of producer ids may be used.
type Again = (Option<Deferred>, Option<Range<i64>>);

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
    /// When the last committed batch was appended.
    committed_timestamp: Millis,
    /// Appended and not committed.
    uncommitted: VecDeque<Uncommitted>,
    protocol: QuorumProtocol,
    snapshots: Snapshots,
    /// Who waits for the high watermark to reach an offset, sorted by it.
    waiting: VecDeque<(i64, Then)>,
    flushing: bool,
    /// Why the log can not be written any more.
    failed: Option<String>,
}

/// A batch that was appended and is not committed.
#[derive(Debug)]
struct Uncommitted {
    end_offset: i64,
    bytes: usize,
    timestamp: Millis,
    /// Its records with their offsets.
    records: Vec<(i64, MetadataRecord<'static>)>,
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
        let history = History::read(&*disk, &dir, &mut log, &identity.cluster_id, now);
        let history = history.map_err(|error| damaged(&error))?;
        let voters = history.protocol.voter_ids().map_err(|error| damaged(&error))?;
        if voters.is_some_and(|voters| voters != [config.node_id]) {
            return Err(
                "the quorum of this cluster has other voters; this version serves a cluster of one node"
                    .to_owned(),
            );
        }
        let remembered = QuorumFile::read(&*disk, &dir).map_err(|error| damaged(&error))?;
        let me = ReplicaKey { id: config.node_id, directory_id: identity.directory_id.0 };
        let endpoints = ottla_raft::Endpoints::from([]);
        let kraft_versions = VersionRange { min: 0, max: 1 };
        let only = RaftVoter { key: me, endpoints: endpoints.clone(), kraft_versions };
        let settings = ottla_raft::Settings {
            me,
            endpoints,
            kraft_versions,
            static_voters: Voters::new(vec![only]).map_err(|id| format!("voter {id} is named twice"))?,
            bootstrap_servers: 0,
            may_vote: true,
            auto_join: false,
            election_timeout_ms: i64::from(config.quorum.election_timeout_ms),
            fetch_timeout_ms: i64::from(config.quorum.fetch_timeout_ms),
            election_backoff_max_ms: i64::from(config.quorum.election_backoff_max_ms),
            request_timeout_ms: i64::from(config.quorum.request_timeout_ms),
            retry_backoff_ms: i64::from(config.quorum.retry_backoff_ms),
            // Flushes gather what comes meanwhile: there is nothing to wait for.
            append_linger_ms: 0,
            seed: identity.seed,
        };
        let rules = Box::new(ServedRules(TableRules::new((**config).clone())));
        let controller =
            Controller::new(history.replayer.clone(), Settings::of(config), rules, identity.seed);
        let mut state = State {
            raft: Raft::new(settings, remembered.map(remembered_state).unwrap_or_default(), Vec::new()),
            high_watermark: 0,
            committed_timestamp: history.last_timestamp,
            committed: history.replayer,
            log,
            dir,
            disk,
            controller,
            uncommitted: VecDeque::new(),
            protocol: history.protocol,
            snapshots: Snapshots::new(
                history.snapshots,
                history.bytes_since_snapshot,
                config.metadata_log.clone(),
                now,
            ),
            waiting: VecDeque::new(),
            flushing: false,
            failed: None,
        };
        state.begin(config, &identity, &history.bootstrap, now)?;
        Ok(Quorum { state: Mutex::new(state) })
    }

    /// The quorum as its leader sees it, and its kraft.version; `None` if this node does not lead it.
    pub fn describe(&self, now: Millis) -> Option<(ottla_raft::QuorumDescription, i16)> {
        let state = lock(&self.state);
        state.raft.describe(now).map(|quorum| (quorum, state.protocol.kraft_version))
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
    fn begin(
        &mut self,
        config: &BrokerConfig,
        identity: &Identity,
        bootstrap: &[Bytes],
        now: Millis,
    ) -> Result<(), String> {
        self.drive(Event::Start, now, &mut Flushing::Inline)?;
        let Some(_) = self.raft.leading_epoch() else {
            return Err(
                "the only voter was not elected: its metadata log and its quorum-state contradict each other"
                    .to_owned(),
            );
        };
        let bootstrap = first_records(bootstrap)?;
        let activation = self.controller.activation(&bootstrap);
        self.append(activation, now, &mut Flushing::Inline)?;
        if let Some((feature, level)) = self.controller.context().image.unknown_features().first() {
            return Err(format!(
                "this cluster has {feature} at level {level}, which only a later release knows; downgrade the feature first"
            ));
        }
        let me = NodeId(config.node_id);
        let request = registration_request(config, identity, self.controller.context().image);
        let registration = Registration {
            version: 4,
            next_offset: self.log.log_end_offset(),
            has_live_session: false,
            kraft_version: self.protocol.kraft_version,
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
                    ottla_raft::Effect::AppendLeaderChange { epoch, voters, granted_by, control } => {
                        assert!(control.is_empty(), "what `format` said of the voters is written below");
                        self.append_leader_change(epoch, &voters, &granted_by, now)?;
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

    fn append_leader_change(
        &mut self,
        epoch: i32,
        voters: &[i32],
        granted_by: &[i32],
        now: Millis,
    ) -> Result<(), String> {
        let version = i16::from(self.protocol.kraft_version > 0);
        let directory_id = |id: i32| {
            let voter = self.raft.voters().get(id).filter(|_| version > 0);
            voter.map_or(Uuid::ZERO, |voter| Uuid(voter.key.directory_id))
        };
        let voter = |voter_id| Voter { voter_id, voter_directory_id: directory_id(voter_id) };
        let message = LeaderChangeMessage {
            version,
            leader_id: self.raft.settings().me.id,
            voters: voters.iter().map(|id| voter(*id)).collect(),
            granting_voters: granted_by.iter().map(|id| voter(*id)).collect(),
        };
        let mut writer = Writer::new();
        message.encode(&mut writer, version).map_err(|error| error.to_string())?;
        self.append_control(ControlType::LeaderChange, &writer.into_bytes(), epoch, now)?;
        if std::mem::take(&mut self.protocol.is_unwritten) {
            // What `format` said of the quorum goes into the log, as Kafka's first leader does it.
            let version = KRaftVersionRecord { version: 0, kraft_version: self.protocol.kraft_version };
            self.append_control(ControlType::KraftVersion, &snapshots::encode(&version)?, epoch, now)?;
            if let Some(voters) = self.protocol.voters.clone() {
                self.append_control(ControlType::KraftVoters, &voters, epoch, now)?;
            }
        }
        Ok(())
    }

    fn append_control(
        &mut self,
        control_type: ControlType,
        value: &[u8],
        epoch: i32,
        now: Millis,
    ) -> Result<(), String> {
        let options = BatchOptions { leader_epoch: epoch, ..Default::default() };
        let batch = control_batch(self.log.log_end_offset(), now, control_type, value, options);
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
                batch.push(now, None, Some(&snapshots::frame(record, version)?), &[]);
            }
            let records = std::mem::replace(&mut records, rest);
            let numbered = (base..).zip(records).collect();
            if let Err(error) = self.append_batch(batch.finish(), epoch, numbered, now) {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        self.drive(Event::Appended { bytes: 0 }, now, flushing)?;
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
        let end_offset = info.last_offset + 1;
        self.uncommitted.push_back(Uncommitted { end_offset, bytes: info.bytes, timestamp: now, records });
        Ok(())
    }

    /// Replays what is committed into the committed image.
    fn commit(&mut self) {
        let high_watermark = self.high_watermark;
        while let Some(batch) = self.uncommitted.pop_front_if(|batch| batch.end_offset <= high_watermark) {
            let Uncommitted { bytes, timestamp, records, .. } = batch;
            self.snapshots.grow(bytes);
            self.committed_timestamp = timestamp;
            for (offset, record) in &records {
                let replayed = self.committed.replay(record, *offset);
                replayed
                    .unwrap_or_else(|error| panic!("the controller replayed this record before: {error}"));
            }
        }
    }

    /// Has a snapshot taken if it is time; a metadata transaction that is open is waited for.
    fn plan_snapshot(&mut self, now: Millis, out: &mut Effects) {
        if self.committed.transaction_begin().is_none() && self.snapshots.begin(now) {
            let end_offset = self.high_watermark;
            let leader_epoch = self.log.epoch_at(end_offset - 1).unwrap_or(0);
            let id = SnapshotId { end_offset, leader_epoch };
            if self.snapshots.contains(id) {
                return self.snapshots.end(None);
            }
            out.push(Effect::Read(ReadTask::Snapshot(Box::new(SnapshotJob {
                disk: self.disk.clone(),
                dir: self.dir.clone(),
                id,
                image: self.committed.image().clone(),
                protocol: self.protocol.clone(),
                last_timestamp: self.committed_timestamp,
                now,
            }))));
        } else if let Some(at) = self.snapshots.due_at().filter(|at| *at > now) {
            out.push(Effect::Tick { at });
        }
    }

    /// Lets go of what newer snapshots stand for.
    fn clean_snapshots(&mut self, now: Millis, out: &mut Effects) {
        match self.snapshots.clean(&mut self.log, &self.disk, &self.dir, now) {
            Ok(Some(cleaning)) => out.push(Effect::Read(ReadTask::Clean(Box::new(cleaning)))),
            Ok(None) => {}
            Err(error) => out.push(Effect::Report(error)),
        }
        if let Some(at) = self.snapshots.clean_at().filter(|at| *at > now) {
            out.push(Effect::Tick { at });
        }
    }

    /// Holds `then` until everything appended so far is committed.
    fn wait(&mut self, then: Then, out: &mut Effects, again: &mut Vec<Again>) {
        self.waiting.push_back((self.log.log_end_offset(), then));
        self.release(out, again);
    }

    /// Lets go of whoever waits for something that is committed.
    fn release(&mut self, out: &mut Effects, again: &mut Vec<Again>) {
        // What is committed but not applied yet is not visible; `commit` and `apply` come first, under the same lock.
        while let Some((_, then)) = self.waiting.pop_front_if(|(end, _)| *end <= self.high_watermark) {
            match then {
                Then::Perform(effects) => out.extend(effects),
                Then::Again(deferred) => again.push((Some(deferred), None)),
                Then::ProducerIds(block, deferred) => again.push((deferred, Some(block))),
            }
        }
    }

    fn quorum_file(&self, state: &ottla_raft::QuorumState) -> QuorumFile {
        QuorumFile {
            leader_id: state.leader.unwrap_or(-1),
            leader_epoch: state.epoch,
            voted_id: state.voted.map_or(-1, |voted| voted.id),
            voted_directory_id: state.voted.map_or(Uuid::ZERO, |voted| Uuid(voted.directory_id)),
            current_voters: self.raft.voters().iter().map(|voter| voter.key.id).collect(),
            data_version: i16::from(self.protocol.kraft_version > 0),
        }
    }
}

/// The records that a cluster begins with: what `format` left, or those of a fresh cluster.
fn first_records(found: &[Bytes]) -> Result<Vec<MetadataRecord<'static>>, String> {
    if found.is_empty() {
        return Ok(bootstrap_records(MetadataVersion::LATEST, &[]));
    }
    let read = |value: &Bytes| {
        let record = MetadataRecord::decode_framed(value).map_err(|error| error.to_string())?;
        first_record(&record).ok_or_else(|| format!("the first checkpoint holds {record:?}"))
    };
    found.iter().map(read).collect()
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
    image: &Image,
) -> BrokerRegistrationRequest<'a> {
    let network = &config.network;
    let for_brokers = network
        .advertised_listeners
        .iter()
        .filter(|endpoint| !network.controller_listener_names.contains(&endpoint.name));
    let features = features::tolerated(|name| image.feature_level(name));
    let features = features.map(|(name, min_supported_version, max_supported_version)| Feature {
        name: name.into(),
        min_supported_version,
        max_supported_version,
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
        self.handle_again(again, call.now, call.out);
    }

    /// Creates topics with the cluster's defaults, then handles the request again. Topics that can not be created are left for it to
    /// report.
    pub(crate) fn auto_create(&self, call: &mut Call<'_>, names: &[String]) {
        let ordinary = names.iter().map(String::as_str);
        let ordinary = ordinary.filter(|name| ![CONSUMER_OFFSETS, TRANSACTION_STATE].contains(name));
        let mut request = ottla_controller::auto_create(ordinary);
        if names.iter().any(|name| name == TRANSACTION_STATE) {
            let topic = InternalTopic::of_transaction_state(&self.config);
            let min_isr = self.config.transactions.min_insync_replicas;
            request.topics.extend(ottla_controller::transaction_state(topic, min_isr).topics);
        }
        if names.iter().any(|name| name == CONSUMER_OFFSETS) {
            let offsets =
                ottla_controller::consumer_offsets(InternalTopic::of_consumer_offsets(&self.config));
            request.topics.extend(offsets.topics);
        }
        self.decide_first(call, |controller| controller.create_topics(&request));
    }

    /// Creates `__transaction_state`, then handles the request again.
    pub(crate) fn create_transactions_topic(&self, call: &mut Call<'_>) {
        let topic = InternalTopic::of_transaction_state(&self.config);
        let min_isr = self.config.transactions.min_insync_replicas;
        let request = ottla_controller::transaction_state(topic, min_isr);
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
                    again.push((Some(call.to_deferred()), None));
                }
            }
        }
        self.handle_again(again, call.now, call.out);
    }

    /// Reserves a block of producer ids, then handles the request again, if there is one.
    pub(crate) fn allocate_producer_ids(&self, deferred: Option<Deferred>, now: Millis, out: &mut Effects) {
        let mut again = Vec::new();
        {
            let state = &mut *lock(&self.quorum.state);
            let broker_epoch = self.broker_epoch();
            let request = AllocateProducerIdsRequest { broker_id: self.config.node_id, broker_epoch };
            let decided = state.controller.allocate_producer_ids(&request).map_err(|error| error.to_string());
            let appended =
                decided.and_then(|decision| state.append(decision, now, &mut Flushing::Effect(out)));
            match appended {
                Ok(block) => {
                    let ids =
                        block.producer_id_start..block.producer_id_start + i64::from(block.producer_id_len);
                    state.wait(Then::ProducerIds(ids, deferred), out, &mut again);
                }
                Err(error) => {
                    out.push(Effect::Report(error));
                    again.push((deferred, None));
                }
            }
        }
        self.handle_again(again, now, out);
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
            state.plan_snapshot(now, out);
            let delta = state.committed.take_delta();
            if !delta.is_empty() {
                self.apply(&state.committed.image().clone(), &delta, now, out);
            }
            state.release(out, &mut again);
        }
        self.handle_again(again, now, out);
    }

    /// Time passed: a snapshot may be due, or one may have become too old.
    pub(crate) fn on_quorum_tick(&self, now: Millis, out: &mut Effects) {
        let state = &mut *lock(&self.quorum.state);
        state.plan_snapshot(now, out);
        state.clean_snapshots(now, out);
    }

    /// A snapshot was written, or could not be.
    pub(crate) fn on_snapshot(&self, job: SnapshotJob, now: Millis, out: &mut Effects) {
        let written = job.run();
        let state = &mut *lock(&self.quorum.state);
        if let Err(error) = &written {
            out.push(Effect::Report(format!("no snapshot of the metadata could be taken: {error}")));
        }
        state.snapshots.end(written.ok());
        state.clean_snapshots(now, out);
        state.plan_snapshot(now, out);
    }

    /// Handles requests again, outside the lock.
    fn handle_again(&self, again: Vec<Again>, now: Millis, out: &mut Effects) {
        for (deferred, block) in again {
            if let Some(block) = block {
                self.producer_ids.refill(block);
            }
            if let Some(deferred) = deferred {
                self.again(deferred, Circumstance { retried: true, ..Circumstance::at(now) }, out);
            }
        }
    }
}
