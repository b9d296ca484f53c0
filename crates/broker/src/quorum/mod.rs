//! The metadata quorum as this node takes part in it: raft decides what is committed, the metadata log remembers, and on the node that
//! leads, the controller makes the records.
//!
//! handle → append → replay → respond: a decision's records go to the log and are replayed into the controller at once, so that the
//! next decision builds on them; when raft says that they are committed they are replayed into the image that everybody reads, every
//! node acts on what changed, and only then does the response leave.
//!
//! The one tricky idea: a cluster of one is no special case. Its only voter elects itself, its broker registers with its controller, and
//! all of it goes through the same steps; only that no message has to leave the node.
//!
//! | file | what |
//! |---|---|
//! | `history` | what a node finds when it starts |
//! | `log` | the metadata log, and how what is in it becomes the image |
//! | `drive` | raft's events in, its effects out |
//! | `serve` | the quorum's requests of other nodes, and fetches that wait |
//! | `answers` | what other nodes answered |
//! | `decide` | decisions of the active controller, here or elsewhere |
//! | `active` | what only the active controller knows: whose broker lives |
//! | `balance` | leaders that are not preferred, and partitions without one |
//! | `snapshots` | when a snapshot is taken, and what goes afterwards |
//! | `wire` | between raft's messages and Kafka's |

mod active;
mod answers;
mod balance;
mod checkpoint;
mod decide;
mod drive;
mod history;
mod log;
pub(crate) mod serve;
mod snapshots;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI16, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ottla_controller::{Dice, bootstrap_records, first_record};
use ottla_metadata::config::BrokerConfig;
use ottla_metadata::{Image, MetadataVersion};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::{Listener, Uuid};
use ottla_raft::{Endpoint, Endpoints, Raft, ReplicaKey, VersionRange, Voter as RaftVoter, Voters};
use ottla_storage::{Disk, QuorumState as QuorumFile, SnapshotId, SnapshotWriter};

pub(crate) use active::Deciding;
pub(crate) use answers::{Answer, Ask};
pub(crate) use checkpoint::{CheckpointWriter, Heading};
pub(crate) use drive::PersistJob;
pub(crate) use serve::{ParkedFetch, SnapshotRead};
pub(crate) use snapshots::{Cleaning, SnapshotJob};

use crate::Broker;
use crate::call::{Deferred, ReplyTo};
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::open::CLUSTER_METADATA_DIR;
use crate::peers::{Lane, Peer, Peers, peer};
use crate::sessions::lock;
use crate::store::Store;
use active::Active;
use history::History;
use log::{Epochs, MetadataLog};
use serve::Asked;
use snapshots::Snapshots;
use wire::Wire;

/// Levels of kraft.version that this node supports.
const KRAFT_VERSIONS: VersionRange = VersionRange { min: 0, max: 1 };

/// What happens once everything appended so far is committed, or this node does not lead any more.
#[derive(Debug)]
pub(crate) enum Then {
    /// A response that was encoded when the decision was made.
    Respond(ReplyTo, Effects),
    /// A request that needed the change is handled again.
    Again(Deferred),
    /// This node asked its own controller.
    Told(Answer),
}

impl Then {
    /// Whether a client of this very node waits.
    fn is_for_clients(&self) -> bool {
        match self {
            Then::Respond(reply, _) => reply.envelope.is_none() && reply.key.is_served_by(Listener::Broker),
            Then::Again(_) => true,
            Then::Told(_) => false,
        }
    }
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
    wire: Wire,
    /// The leader of the newest epoch, if it is known and can be reached.
    leader: ArcSwapOption<LeaderAddress>,
    /// Who led last, as far as this node knows; -1 before it knew of anybody.
    last_leader: AtomicI32,
    /// The level of kraft.version.
    kraft_version: AtomicI16,
}

/// Who leads the quorum, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaderAddress {
    pub id: i32,
    /// Host and port; `None` for this node itself.
    pub address: Option<(String, u16)>,
}

#[derive(Debug)]
struct State {
    raft: Raft,
    log: MetadataLog,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    config: Arc<BrokerConfig>,
    wire: Wire,
    peers: Arc<Peers>,
    /// Servers that can be asked who leads.
    servers: Vec<(String, u16)>,
    high_watermark: i64,
    /// There is one while this node leads and has everything that was ever committed.
    active: Option<Active>,
    /// The records that a cluster begins with.
    bootstrap: Vec<MetadataRecord<'static>>,
    dice: Dice,
    snapshots: Snapshots,
    /// Who waits for the high watermark to reach an offset, sorted by it.
    waiting: VecDeque<(i64, Then)>,
    /// For whom it was reached, while this node has not acted upon what is committed yet.
    to_be_acted_upon: VecDeque<Then>,
    /// Whom it was reached for, or who waited for a leadership that ended (false); taken out of the lock before it is acted upon.
    released: Vec<(Then, bool)>,
    /// Requests of other nodes that raft has not answered yet.
    asked: BTreeMap<u64, Asked>,
    asked_last: u64,
    fetches: Vec<ParkedFetch>,
    /// Records, or bytes of a snapshot, that came with the answer that raft is looking at.
    arrived: Option<(u64, Bytes)>,
    /// The snapshot that is being fetched.
    download: Option<SnapshotWriter>,
    /// The image before a snapshot took its place.
    replaced: Option<Image>,
    /// Serialises writes of the quorum state: the number of the newest that is on disk.
    persisted: Arc<Mutex<u64>>,
    flushing: bool,
    /// Quorum states that could not be written for want of something.
    unpersisted: Vec<PersistJob>,
    /// When that is tried again, and a flush that failed so.
    retry_at: Option<Millis>,
    /// Whether this node acts on what is committed.
    stage: Stage,
    /// This node is about to stop, and has not said yet that it may.
    is_leaving: bool,
    /// Why the log can not be written any more.
    failed: Option<String>,
}

/// How far a broker is with its start. It knows the cluster when it reads of its own registration: what is in its directories is held
/// against that image, and against no earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its registration was not read yet.
    Behind,
    /// It is recovering its logs, or loading coordinators that it leads by now: what is committed meanwhile is acted upon afterwards.
    TakingUp,
    /// Changes are acted upon as they are committed.
    Following,
}

impl Quorum {
    /// Recovers the metadata log. Nothing is decided or sent before [`Broker::start_quorum`].
    pub fn open(
        store: &Store,
        config: &Arc<BrokerConfig>,
        identity: &Identity,
        peers: &Arc<Peers>,
        now: Millis,
    ) -> Result<Quorum, String> {
        let dir = store.metadata_root().path().join(CLUSTER_METADATA_DIR);
        let disk = store.disk().clone();
        let damaged = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.display());
        let mut log = store.open_metadata_log(&dir, config, now).map_err(|error| damaged(&error))?;
        // What raft finds in the log counts as being on disk.
        log.flush().map_err(|error| damaged(&error))?;
        let history = History::read(&*disk, &dir, &mut log, &identity.cluster_id, now);
        let history = history.map_err(|error| damaged(&error))?;
        let bootstrap = first_records(&history.bootstrap).map_err(|error| damaged(&error))?;
        let remembered = QuorumFile::read(&*disk, &dir).map_err(|error| damaged(&error))?;
        let listener = config.network.controller_listener_names.first();
        let wire = Wire {
            cluster_id: identity.cluster_id.as_str().into(),
            listener: listener.map_or("CONTROLLER", |name| name).into(),
        };
        let joins = history.joins();
        let servers = servers(config, joins);
        let settings = raft_settings(config, identity, &wire, servers.len(), joins)?;
        let state = State {
            raft: Raft::new(settings, remembered.map(remembered_state).unwrap_or_default(), history.control),
            log: MetadataLog::new(
                log,
                store.metadata_root().clone(),
                history.replayer,
                history.last_timestamp,
                history.tail,
            ),
            dir,
            disk,
            config: config.clone(),
            wire: wire.clone(),
            peers: peers.clone(),
            servers,
            high_watermark: 0,
            active: None,
            bootstrap,
            dice: Dice::new(identity.seed),
            snapshots: Snapshots::new(history.snapshots, config.metadata_log.clone(), now),
            waiting: VecDeque::new(),
            to_be_acted_upon: VecDeque::new(),
            released: Vec::new(),
            asked: BTreeMap::new(),
            asked_last: 0,
            fetches: Vec::new(),
            arrived: None,
            download: None,
            replaced: None,
            persisted: Arc::default(),
            flushing: false,
            unpersisted: Vec::new(),
            retry_at: None,
            stage: if config.roles.broker { Stage::Behind } else { Stage::Following },
            is_leaving: false,
            failed: None,
        };
        let kraft_version = AtomicI16::new(state.raft.kraft_version());
        Ok(Quorum {
            state: Mutex::new(state),
            wire,
            leader: ArcSwapOption::empty(),
            last_leader: AtomicI32::new(-1),
            kraft_version,
        })
    }

    /// The quorum as its leader sees it, and where its voters listen; `None` if this node does not lead it.
    pub fn describe(&self, now: Millis) -> Option<(ottla_raft::QuorumDescription, Voters)> {
        let state = lock(&self.state);
        let described = state.raft.describe(now);
        described.map(|quorum| (quorum, self.voters_with_own(&state)))
    }

    /// The voters; without a record of them this node knows of itself better than the configuration does.
    fn voters_with_own(&self, state: &State) -> Voters {
        let settings = state.raft.settings();
        let own = RaftVoter {
            key: settings.me,
            endpoints: settings.endpoints.clone(),
            kraft_versions: settings.kraft_versions,
        };
        let voters = state.raft.voters();
        voters.with_updated(&own, true).unwrap_or_else(|| voters.clone())
    }

    /// Who leads, if that is known.
    pub fn leader(&self) -> Option<Arc<LeaderAddress>> {
        self.leader.load_full()
    }

    /// Who led last, as far as this node knows; -1 before it knew of anybody. Nobody may lead at the moment, or another.
    pub fn last_leader(&self) -> i32 {
        self.last_leader.load(Ordering::Relaxed)
    }

    /// The level of kraft.version.
    pub fn kraft_version(&self) -> i16 {
        self.kraft_version.load(Ordering::Relaxed)
    }

    /// Between raft's messages and Kafka's.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Where this node listens for controllers.
    pub fn own_endpoints(&self) -> Endpoints {
        lock(&self.state).raft.settings().endpoints.clone()
    }

    /// The voters, and where they listen.
    pub fn voters(&self) -> Voters {
        self.voters_with_own(&lock(&self.state))
    }

    /// The committed image.
    pub fn committed_image(&self) -> Image {
        lock(&self.state).log.committed.image().clone()
    }

    /// Flushes and closes the log.
    pub fn close(&self) -> Result<(), String> {
        let state = &mut *lock(&self.state);
        state.log.log.close().map_err(|error| format!("{}: {error}", state.dir.display()))
    }
}

impl LeaderAddress {
    /// The leader as a connection; `None` if it is this node.
    pub fn peer(&self, lane: Lane) -> Option<Peer> {
        self.address.as_ref().map(|(host, port)| peer(host, *port, lane))
    }
}

impl State {
    /// Brings everything up to date with what raft said: the image, this node, and who waits.
    fn settle(&mut self, broker: &Broker, now: Millis, out: &mut Effects) -> Result<(), String> {
        self.commit()?;
        self.act_on_image(broker, now, out)?;
        self.advance_fetches(now, out);
        self.release();
        self.plan_snapshot(now, out);
        let deadlines = [
            self.raft.next_deadline(),
            self.fetches_deadline(),
            self.sessions_deadline(),
            self.looks_deadline(),
            self.token_sweep_deadline(),
        ];
        if let Some(at) = deadlines.into_iter().flatten().min() {
            out.push(Effect::Tick { at });
        }
        if self.is_leaving && self.raft.can_stop() {
            self.is_leaving = false;
            out.push(Effect::MayStop);
        }
        broker.quorum.kraft_version.store(self.raft.kraft_version(), Ordering::Relaxed);
        if let Some(leader) = self.raft.leader() {
            broker.quorum.last_leader.store(leader, Ordering::Relaxed);
        }
        let leader = self.leader_address();
        if broker.quorum.leader.load().as_deref() != leader.as_ref() {
            broker.quorum.leader.store(leader.map(Arc::new));
            broker.lifecycle.hurry(now);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        let bytes = self.log.commit(self.high_watermark)?;
        if bytes > 0 {
            self.snapshots.grow(bytes);
        }
        Ok(())
    }

    fn act_on_image(&mut self, broker: &Broker, now: Millis, out: &mut Effects) -> Result<(), String> {
        let mut delta = self.log.committed.take_delta();
        if let Some(before) = self.replaced.take() {
            delta = ottla_metadata::Delta::between(&before, self.log.committed.image());
        }
        if delta.is_empty() {
            return Ok(());
        }
        let image = self.log.committed.image().clone();
        if let Some((feature, level)) = image.unknown_features().first() {
            return Err(format!(
                "this cluster has {feature} at level {level}, which only a later release knows; downgrade the feature first"
            ));
        }
        match self.stage {
            Stage::Following if broker.has_to_load(&image, &delta) => {
                self.stage = Stage::TakingUp;
                let before = broker.image().clone();
                out.push(Effect::Read(ReadTask::Apply(Box::new((Image::clone(&before), image)))));
            }
            Stage::Following => broker.apply(&image, &delta, now, out),
            Stage::Behind if broker.lifecycle.is_registered_in(&image) => {
                self.stage = Stage::TakingUp;
                out.push(Effect::Read(ReadTask::TakeUp(Box::new(image))));
            }
            Stage::Behind => broker.image.store(Arc::new(image)),
            Stage::TakingUp => {}
        }
        Ok(())
    }

    fn leader_address(&self) -> Option<LeaderAddress> {
        let leader = self.raft.known_leader()?;
        if leader.id == self.config.node_id {
            // Before it is active it can not decide, and will soon.
            return self.active.is_some().then_some(LeaderAddress { id: leader.id, address: None });
        }
        let address = self.wire.address(&leader.endpoints)?;
        Some(LeaderAddress { id: leader.id, address: Some((address.host.clone(), address.port)) })
    }

    /// Has a snapshot taken if it is time; a metadata transaction that is open is waited for.
    fn plan_snapshot(&mut self, now: Millis, out: &mut Effects) {
        if self.log.committed.transaction_begin().is_none() && self.snapshots.begin(now) {
            let end_offset = self.high_watermark;
            let leader_epoch = self.log.log.epoch_at(end_offset - 1).unwrap_or(0);
            let id = SnapshotId { end_offset, leader_epoch };
            if self.snapshots.contains(id) {
                return self.snapshots.end(None);
            }
            let (voters, kraft_version) = self.raft.voters_at(end_offset - 1);
            out.push(Effect::Read(ReadTask::Snapshot(Box::new(SnapshotJob {
                disk: self.disk.clone(),
                dir: self.dir.clone(),
                id,
                image: self.log.committed.image().clone(),
                kraft_version,
                voters: voters.clone(),
                last_timestamp: self.log.committed_timestamp,
                now,
            }))));
        } else if let Some(at) = self.snapshots.due_at().filter(|at| *at > now) {
            out.push(Effect::Tick { at });
        }
    }

    /// Lets go of what newer snapshots stand for.
    fn clean_snapshots(&mut self, now: Millis, out: &mut Effects) -> Result<(), String> {
        let start = self.log.log.log_start_offset();
        match self.snapshots.clean(&mut self.log.log, &self.disk, &self.dir, now) {
            Ok(Some(cleaning)) => out.push(Effect::Read(ReadTask::Clean(Box::new(cleaning)))),
            Ok(None) => {}
            Err(error) => out.push(Effect::Report(error)),
        }
        if let Some(at) = self.snapshots.clean_at().filter(|at| *at > now) {
            out.push(Effect::Tick { at });
        }
        if self.log.log.log_start_offset() > start {
            self.drive(ottla_raft::Event::LogPrefixDeleted, now, out)?;
        }
        Ok(())
    }

    /// Holds `then` until everything appended so far is committed.
    fn wait(&mut self, then: Then) {
        self.waiting.push_back((self.log.log.log_end_offset(), then));
    }

    /// Lets go of whoever waits for something that is committed and acted upon.
    fn release(&mut self) {
        let committed = self.high_watermark;
        while let Some((_, then)) = self.waiting.pop_front_if(|(end, _)| *end <= committed) {
            self.to_be_acted_upon.push_back(then);
        }
        // A client of this node looks at once for what it asked for; other nodes do not.
        let held: Vec<Then> = std::mem::take(&mut self.to_be_acted_upon).into();
        for then in held {
            if self.stage == Stage::TakingUp && then.is_for_clients() {
                self.to_be_acted_upon.push_back(then);
            } else {
                self.released.push((then, true));
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
            data_version: i16::from(self.raft.kraft_version() > 0),
        }
    }
}

impl Broker {
    /// Does something with the quorum, brings everything up to date with it, and lets those go on who waited for that. An error is the
    /// end of this node: it could go on only by forgetting what it promised.
    fn with_quorum<R>(
        &self,
        now: Millis,
        out: &mut Effects,
        act: impl FnOnce(&mut State, &mut Effects) -> Result<R, String>,
    ) -> Option<R> {
        let (result, released) = {
            let state = &mut *lock(&self.quorum.state);
            if state.failed.is_some() {
                return None;
            }
            let acted = act(state, out).and_then(|result| {
                state.settle(self, now, out)?;
                Ok(result)
            });
            match acted {
                Ok(result) => (result, std::mem::take(&mut state.released)),
                Err(error) => {
                    let reason = format!("{}: {error}", state.dir.display());
                    state.failed = Some(reason.clone());
                    out.push(Effect::Halt(reason));
                    return None;
                }
            }
        };
        for (then, committed) in released {
            self.on_settled(then, committed, now, out);
        }
        self.advance_lifecycle(now, out);
        Some(result)
    }

    /// The logs are recovered: from here on this node acts on what is committed.
    pub(crate) fn follow_image(&self, taken_up: &Image, now: Millis, out: &mut Effects) {
        self.with_quorum(now, out, |state, out| {
            state.stage = Stage::Following;
            state.log.committed.take_delta();
            state.replaced = None;
            let image = state.log.committed.image().clone();
            let delta = ottla_metadata::Delta::between(taken_up, &image);
            if !delta.is_empty() {
                self.apply(&image, &delta, now, out);
            }
            Ok(())
        });
    }

    /// This node is about to stop: somebody else shall lead the quorum. [`Effect::MayStop`] says when it may.
    pub fn leave_quorum(&self, now: Millis, out: &mut Effects) {
        self.with_quorum(now, out, |state, out| {
            state.is_leaving = true;
            state.drive(ottla_raft::Event::Stop, now, out)
        });
    }

    /// A snapshot was written, or could not be.
    pub(crate) fn on_snapshot(&self, job: SnapshotJob, now: Millis, out: &mut Effects) {
        let written = job.run();
        self.with_quorum(now, out, |state, out| {
            if let Err(error) = &written {
                let report = format!("no snapshot of the metadata could be taken: {error}");
                out.push(Effect::Report(report));
            }
            state.snapshots.end(written.ok());
            state.clean_snapshots(now, out)
        });
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

/// Where other controllers reach this node, for each of its controller listeners: as advertised, else where it listens, else (it listens
/// everywhere) as the voters say (`KafkaConfig.effectiveAdvertisedControllerListeners`). The shell knows the machine's name.
fn own_endpoints(config: &BrokerConfig) -> Endpoints {
    let network = &config.network;
    let voter = config.quorum.voters.iter().find(|voter| voter.id == config.node_id);
    let names = network.controller_listener_names.iter();
    let found = names.filter_map(|name| {
        let named = |endpoint: &&ottla_metadata::config::Endpoint| endpoint.name == *name;
        network.advertised_controllers.iter().find(named).or_else(|| network.listeners.iter().find(named))
    });
    found
        .map(|endpoint| {
            let (host, port) = match (endpoint.host.as_str(), voter) {
                ("" | "0.0.0.0" | "::", Some(voter)) => (voter.host.clone(), voter.port),
                ("", None) => ("localhost".to_owned(), endpoint.port),
                (host, _) => (host.to_owned(), endpoint.port),
            };
            Endpoint { listener: endpoint.name.clone(), host, port }
        })
        .collect()
}

/// Servers that can be asked who leads: those that are named for it, else the other voters. A node that `joins` others does not count as
/// the only voter, whatever it was taken for by its configuration.
fn servers(config: &BrokerConfig, joins: bool) -> Vec<(String, u16)> {
    let quorum = &config.quorum;
    let voters = quorum.voters.iter().filter(|voter| voter.id != config.node_id);
    let voters = voters.map(|voter| (voter.host.clone(), voter.port));
    let named = quorum.bootstrap_servers.clone();
    let alone = config.roles.controller && quorum.voters.len() == 1 && !joins;
    if named.is_empty() || alone { voters.collect() } else { named }
}

fn raft_settings(
    config: &BrokerConfig,
    identity: &Identity,
    wire: &Wire,
    bootstrap_servers: usize,
    joins: bool,
) -> Result<ottla_raft::Settings, String> {
    let quorum = &config.quorum;
    let me = ReplicaKey { id: config.node_id, directory_id: identity.directory_id.0 };
    let voter = |voter: &ottla_metadata::config::Voter| RaftVoter {
        key: ReplicaKey { id: voter.id, directory_id: Uuid::ZERO.0 },
        endpoints: [Endpoint {
            listener: wire.listener.to_string(),
            host: voter.host.clone(),
            port: voter.port,
        }]
        .into(),
        // What it supports it tells whoever leads.
        kraft_versions: VersionRange { min: 0, max: 0 },
    };
    let voters = quorum.voters.iter().filter(|_| !joins).map(voter);
    let voters = Voters::new(voters.collect());
    Ok(ottla_raft::Settings {
        me,
        endpoints: own_endpoints(config),
        kraft_versions: KRAFT_VERSIONS,
        static_voters: voters.map_err(|id| format!("voter {id} is named twice"))?,
        bootstrap_servers,
        may_vote: config.roles.controller,
        auto_join: quorum.auto_join,
        election_timeout_ms: i64::from(quorum.election_timeout_ms),
        fetch_timeout_ms: i64::from(quorum.fetch_timeout_ms),
        election_backoff_max_ms: i64::from(quorum.election_backoff_max_ms),
        request_timeout_ms: i64::from(quorum.request_timeout_ms),
        retry_backoff_ms: i64::from(quorum.retry_backoff_ms),
        // Flushes gather what comes meanwhile: there is nothing to wait for.
        append_linger_ms: 0,
        seed: identity.seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(settings: &[(&str, &str)]) -> Vec<(String, u16)> {
        let given = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (config, _) = BrokerConfig::resolve(&given).expect("a configuration");
        own_endpoints(&config).iter().map(|it| (it.host.clone(), it.port)).collect()
    }

    #[test]
    fn controllers_are_told_where_they_reach_each_other() {
        let node = [
            ("process.roles", "controller"),
            ("node.id", "1"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.bootstrap.servers", "a:9093,b:9093"),
        ];
        let with = |more: &[(&'static str, &'static str)]| told(&[&node, more].concat());
        let everywhere = ("listeners", "CONTROLLER://:9093");
        let advertised = ("advertised.listeners", "CONTROLLER://ctrl1:19093");
        assert_eq!(with(&[everywhere, advertised]), [("ctrl1".to_owned(), 19093)]);
        assert_eq!(with(&[("listeners", "CONTROLLER://10.0.0.1:9093")]), [("10.0.0.1".to_owned(), 9093)]);
        let voters = ("controller.quorum.voters", "1@ctrl2:29093,2@other:9093");
        assert_eq!(with(&[everywhere, voters]), [("ctrl2".to_owned(), 29093)]);
    }
}
