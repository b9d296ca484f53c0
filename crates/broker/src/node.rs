//! The broker object: what the shell calls, and where each call goes.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use ottla_coordinator::{GroupCoordinator, TransactionCoordinator};
use ottla_metadata::ResourceType;
use ottla_metadata::config::{BrokerConfig, TopicConfig};
use ottla_metadata::topic_name::{CONSUMER_OFFSETS, TRANSACTION_STATE};
use ottla_metadata::{Delta, Image};
use ottla_protocol::ErrorCode;

use crate::api::delete_records::Deletions;
use crate::api::produce::Gather;
use crate::api::{self, Circumstance};
use crate::call::Deferred;
use crate::connection::Connection;
use crate::coordination::{Coordinators, MarkerWrite, Parked, Remotes};
use crate::crew::Crew;
use crate::effect::{Effect, Effects, FlushOutcome, FlushTarget, Millis, ReadTask, Token};
use crate::lifecycle::Lifecycle;
use crate::log_dirs::Assignments;
use crate::loggers::Loggers;
use crate::moves::Moves;
use crate::partition::{Partition, Wakes};
use crate::peers::{Forwarded, Peers};
use crate::producer_ids::ProducerIds;
use crate::purgatory::{Purgatory, Waiting};
use crate::quorum::Quorum;
use crate::quotas::{ClientQuotas, ConnectionQuotas, MutationQuotas};
use crate::replication::{Fetchers, IsrChanges, Throttles};
use crate::sessions::{Sessions, lock};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::topics::Topics;
use crate::upkeep::{Chore, Upkeep};

/// One node of a cluster.
#[derive(Debug)]
pub struct Broker {
    /// What the node was started with.
    pub(crate) config: Arc<BrokerConfig>,
    /// The same with what was set while it runs, for this broker and for all.
    pub(crate) live: ArcSwap<BrokerConfig>,
    pub(crate) cluster_id: String,
    pub(crate) store: Arc<Store>,
    /// What is committed of the cluster's metadata.
    pub(crate) image: ArcSwap<Image>,
    pub(crate) topics: ArcSwap<Topics>,
    pub(crate) quorum: Quorum,
    pub(crate) groups: Coordinators<GroupCoordinator>,
    pub(crate) transactions: Coordinators<TransactionCoordinator>,
    /// Questions to transaction coordinators that will be asked again.
    pub(crate) parked: Parked,
    /// Markers for partitions, and questions to coordinators, of other brokers.
    pub(crate) remotes: Remotes,
    /// Feeds the coordinators that this node will lead.
    pub(crate) coordinator_seed: u64,
    pub(crate) sessions: Sessions,
    pub(crate) purgatory: Purgatory,
    /// Deletions of records that wait for followers.
    pub(crate) deletions: Deletions,
    pub(crate) quotas: ClientQuotas,
    /// Who wants to hear what this node has to say.
    pub(crate) loggers: Arc<Loggers>,
    /// What clients tell of themselves; `None`: nobody could look at it.
    pub(crate) telemetry: Option<Telemetry>,
    /// Whether the time of anybody's requests is limited.
    pub(crate) limits_time: AtomicBool,
    pub(crate) mutation_quotas: MutationQuotas,
    pub(crate) connection_quotas: ConnectionQuotas,
    pub(crate) upkeep: Upkeep,
    pub(crate) producer_ids: Arc<ProducerIds>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) fetchers: Fetchers,
    pub(crate) isr_changes: IsrChanges,
    /// What throttled replicas moved lately.
    pub(crate) throttles: Throttles,
    pub(crate) lifecycle: Lifecycle,
    /// What the controller has to be told of the directories of replicas.
    pub(crate) assignments: Assignments,
    /// Logs that move to other directories.
    pub(crate) moves: Moves,
    /// Requests for the active controller that wait for one.
    pub(crate) forwards: Mutex<Vec<(Millis, Box<Forwarded>)>>,
    /// Who helps to recover logs.
    pub(crate) crew: Box<dyn Crew>,
    /// What arose while the node started; it goes out with the first tick.
    pub(crate) startup: Mutex<Effects>,
}

impl Broker {
    /// Handles one request frame (header and body, without the size). Its answer is a [`Effect::Respond`], now or later.
    pub fn on_frame(
        &self,
        connection: &mut Connection,
        frame: Bytes,
        token: Token,
        now: Millis,
        out: &mut Effects,
    ) {
        let mut gather = Gather::default();
        self.on_frame_of_many(connection, frame, token, now, &mut gather, out);
        self.on_gathered(&mut gather, now, out);
    }

    /// Like [`Broker::on_frame`], for a loop with more to do: appends are gathered, and made by [`Broker::on_gathered`], which has to be
    /// called before the loop waits.
    pub fn on_frame_of_many(
        &self,
        connection: &mut Connection,
        frame: Bytes,
        token: Token,
        now: Millis,
        gather: &mut Gather,
        out: &mut Effects,
    ) {
        let at = Circumstance::at(now);
        api::dispatch(self, connection, &frame, token, at, gather, out);
    }

    /// The time of an [`Effect::Deadline`] came.
    pub fn on_deadline(&self, token: Token, now: Millis, out: &mut Effects) {
        match self.purgatory.find(token) {
            Some(Waiting::Fetch(fetch)) => api::fetch::advance(self, &fetch, false, now, out),
            Some(Waiting::Produce(produce)) => produce.on_timed_out(self, out),
            Some(Waiting::Deletion(deletion)) => deletion.on_timed_out(self, out),
            None => {}
        }
    }

    /// A flush came back.
    pub fn on_flushed(&self, outcome: FlushOutcome, now: Millis, out: &mut Effects) {
        match outcome.target {
            FlushTarget::Partition(partition) => {
                self.store.want_checkpoint(now, out);
                let wakes = partition.on_flushed(outcome.done, now, out);
                self.wake(&partition, wakes, now, out);
                self.advance_fetchers(now, out);
                if outcome.was_due {
                    self.store.flushes.end();
                    self.begin_due_flushes(now, out);
                }
            }
            FlushTarget::Metadata => self.on_metadata_flushed(outcome.done, now, out),
        }
        self.on_dirs_failed(now, out);
    }

    /// Gives the disk as many of the flushes that are due as may be under way.
    fn begin_due_flushes(&self, now: Millis, out: &mut Effects) {
        while let Some(partition) = self.store.flushes.begin(now) {
            match partition.on_flush_due() {
                Some(task) => out.push(Effect::Flush(task)),
                None => self.store.flushes.end(),
            }
        }
    }

    /// Performs an [`Effect::Read`], on a thread that may wait for the disk.
    pub fn on_read(&self, task: ReadTask, now: Millis, out: &mut Effects) {
        match task {
            ReadTask::Fetch(fetch) => api::fetch::advance(self, &fetch, true, now, out),
            ReadTask::Checkpoint => {
                let unwritten = self.write_checkpoints(now);
                if !unwritten.is_empty() {
                    self.store.want_checkpoint(now, out);
                }
                out.extend(unwritten.into_values().map(|error| Effect::Report(error.to_string())));
            }
            ReadTask::TakeUp(image) => self.on_take_up(&image, now, out),
            ReadTask::Apply(images) => {
                let (before, after) = *images;
                self.apply(&after, &Delta::between(&before, &after), now, out);
                self.follow_image(&after, now, out);
            }
            ReadTask::Persist(job) => self.on_persist(*job, now, out),
            ReadTask::MetadataFetch(fetch) => self.on_metadata_read(&fetch, now, out),
            ReadTask::SnapshotRead(read) => read.run(out),
            ReadTask::SnapshotArrived { request, body, version } => {
                self.on_snapshot_fetched(request, body.as_ref(), version, now, out);
            }
            ReadTask::DivergenceArrived { request, body, version } => {
                self.on_fetched(request, body, version, true, now, out);
            }
            ReadTask::ReplicaFetch { leader } => self.on_replica_fetch(leader, now, out),
            ReadTask::ReplicaFetched { leader, body, version } => {
                self.on_replica_fetched(leader, body.as_ref(), version, now, out);
            }
            ReadTask::LeaderStart { leader, leader_epoch, key, body, version } => {
                self.on_leader_start((leader, leader_epoch), key, body.as_ref(), version, now, out);
            }
            ReadTask::Snapshot(job) => self.on_snapshot(*job, now, out),
            ReadTask::Clean(cleaning) => out.extend(cleaning.run().err().map(Effect::Report)),
            ReadTask::Forget => self.forget_deleted(out),
            ReadTask::Reopen(partition) => self.reopen(&partition, now, out),
            ReadTask::Request(deferred) => {
                self.again(deferred, Circumstance { may_wait: true, ..Circumstance::at(now) }, out);
            }
            ReadTask::InOrder(deferred) => {
                let token = deferred.token;
                self.again(deferred, Circumstance { may_wait: true, ..Circumstance::at(now) }, out);
                out.push(Effect::Resume { token });
            }
            ReadTask::Marker(write) => {
                let MarkerWrite { partition, marker, waiter } = *write;
                match partition.settle(now) {
                    Ok(()) => {
                        self.write_marker((&partition.topic.name, partition.index), &marker, waiter, now, out)
                    }
                    Err(error) => self.on_marker_settled(&waiter, error, now, out),
                }
            }
        }
        self.on_dirs_failed(now, out);
    }

    /// The time of an [`Effect::Tick`] came: group timers, periodic flushes.
    pub fn on_tick(&self, now: Millis, out: &mut Effects) {
        out.append(&mut lock(&self.startup));
        self.on_dirs_failed(now, out);
        out.extend(self.store.take_reports().into_iter().map(Effect::Report));
        self.begin_due_flushes(now, out);
        let doomed = self.store.due_removals(now);
        if !doomed.is_empty() {
            out.push(Effect::Chore(Chore::removal(doomed)));
        }
        if self.store.take_due_checkpoint(now) {
            out.push(Effect::Read(ReadTask::Checkpoint));
        }
        if let Some(at) = self.store.next_due() {
            out.push(Effect::Tick { at });
        }
        self.on_quorum_tick(now, out);
        self.resend_forwarded(now, out);
        self.advance_fetchers(now, out);
        self.on_isr_tick(now, out);
        self.on_log_dirs_tick(now, out);
        self.upkeep.plan(&self.live_config(), now, out);
        self.moves.plan(self.config.moves.threads, now, out);
        self.groups.on_tick(self, now, out);
        self.transactions.on_tick(self, now, out);
        self.reask_due(now, out);
        if self.producer_ids.take_starved() {
            self.allocate_producer_ids(None, now, out);
        }
    }

    /// A connection is gone: nobody waits for its requests any more. `any` names one of its requests, whichever.
    pub fn on_disconnect(&self, any: Token) {
        if let Some(telemetry) = &self.telemetry {
            telemetry.on_disconnect(any);
        }
        for waiting in self.purgatory.take_connection(any) {
            match waiting {
                Waiting::Fetch(fetch) => fetch.forget(),
                Waiting::Produce(produce) => produce.forget(),
                Waiting::Deletion(deletion) => deletion.forget(),
            }
        }
    }

    /// Stops cleanly: every log is flushed and closed, the checkpoints are written, and the directory is marked as cleanly left.
    /// May wait for the disk. Nothing may be asked of the broker afterwards.
    pub fn shutdown(&self) -> Result<(), String> {
        if self.config.roles.broker && !self.lifecycle.is_taken_up() {
            // It never came to know its cluster: its logs were not looked at, so nothing new is said of them, nor that they are clean.
            return self.quorum.close();
        }
        let mut failures = self.close_logs();
        failures.extend(self.quorum.close().err());
        // A directory that is marked as cleanly left is believed: one failure, and the next start recovers instead.
        if !failures.is_empty() {
            return Err(failures.join("; "));
        }
        for root in self.store.online() {
            root.dir().write_clean_shutdown(self.broker_epoch()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Wakes whom a high watermark satisfied. Called outside all locks.
    pub(crate) fn wake(&self, partition: &Arc<Partition>, wakes: Wakes, now: Millis, out: &mut Effects) {
        for (produce, entry) in wakes.produces {
            produce.on_settled(self, entry, ErrorCode::None, out);
        }
        for (produce, entry, error) in wakes.failed {
            produce.on_settled(self, entry, error, out);
        }
        for fetch in wakes.fetches {
            api::fetch::advance(self, &fetch, false, now, out);
        }
        if let Some(high_watermark) = wakes.coordinator {
            match &*partition.topic.name {
                TRANSACTION_STATE => {
                    self.transactions.on_committed(self, partition.index, high_watermark, now, out)
                }
                CONSUMER_OFFSETS => self.groups.on_committed(self, partition.index, high_watermark, now, out),
                _ => {}
            }
        }
        if wakes.coordinator_failed {
            match &*partition.topic.name {
                TRANSACTION_STATE => self.transactions.resign(self, partition.index, now, out),
                _ => self.groups.resign(self, partition.index, now, out),
            }
        }
        for (waiter, error) in wakes.markers {
            self.on_marker_settled(&waiter, error, now, out);
        }
        if wakes.is_still {
            self.moves.wake((partition.topic.id, partition.index), now, out);
        }
    }

    /// Handles a request again from its frame.
    pub(crate) fn again(&self, deferred: Deferred, at: Circumstance, out: &mut Effects) {
        let Deferred { frame, mut connection, token, envelope } = deferred;
        let mut gather = Gather::default();
        let circumstance = Circumstance { envelope, ..at };
        api::dispatch(self, &mut connection, &frame, token, circumstance, &mut gather, out);
        self.on_gathered(&mut gather, at.now, out);
    }

    /// Whether old records of a topic go by compaction alone, so that nobody may delete them by offset.
    pub(crate) fn is_compacted_only(&self, topic: &str) -> bool {
        let overrides = self.image().config(ResourceType::TOPIC, topic).cloned();
        let live = self.live_config();
        let settings = overrides.map(|overrides| TopicConfig::resolve(&overrides, &live));
        let cleanup = match settings {
            Some(Ok(settings)) => settings.cleanup,
            _ => live.topic_defaults.cleanup,
        };
        cleanup.compact && !cleanup.delete
    }

    /// The configuration in force: what the node was started with, and over it what was set while it runs.
    pub fn live_config(&self) -> Guard<Arc<BrokerConfig>> {
        self.live.load()
    }

    /// What the node was started with.
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    /// Id of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The committed image of the cluster.
    pub fn image(&self) -> Guard<Arc<Image>> {
        self.image.load()
    }

    pub(crate) fn topics(&self) -> Guard<Arc<Topics>> {
        self.topics.load()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(crate) fn purgatory(&self) -> &Purgatory {
        &self.purgatory
    }

    pub(crate) fn producer_ids(&self) -> &ProducerIds {
        &self.producer_ids
    }

    pub(crate) fn groups(&self) -> &Coordinators<GroupCoordinator> {
        &self.groups
    }

    pub(crate) fn transactions(&self) -> &Coordinators<TransactionCoordinator> {
        &self.transactions
    }

    /// Whether connections of that listener come from controllers and brokers, not from clients.
    pub(crate) fn is_controller_listener(&self, listener: &str) -> bool {
        self.config.network.controller_listener_names.iter().any(|name| name == listener)
    }

    /// Whether clients are served: this broker is not fenced, or is none.
    pub fn is_serving(&self) -> bool {
        self.lifecycle.is_serving()
    }

    pub(crate) fn broker_epoch(&self) -> i64 {
        let me = ottla_protocol::ids::NodeId(self.config.node_id);
        self.image().broker(me).map_or(-1, |node| node.broker_epoch)
    }
}
