//! Start-up, as straight code: lock and identify the directory, recover the logs, elect this node, register it, and take up its work.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ottla_controller::Dice;
use ottla_coordinator::{ConsumerConfig, MigrationPolicy, TransactionConfig};
use ottla_metadata::config::{BrokerConfig, ConsumerGroupSettings};
use ottla_metadata::{Delta, Image};
use ottla_storage::{Disk, HashSecret, LogDirError};

use crate::Broker;
use crate::coordination::{Coordinators, Parked, Remotes};
use crate::crew::{Alone, Crew, Job};
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::lifecycle::Lifecycle;
use crate::log_dirs::Assignments;
use crate::loggers::Loggers;
use crate::moves::Moves;
use crate::partition::Partition;
use crate::peers::Peers;
use crate::purgatory::Purgatory;
use crate::quorum::{Identity, Quorum};
use crate::quotas::{ClientQuotas, ConnectionQuotas, MutationQuotas, Windows};
use crate::replication::{Fetchers, IsrChanges};
use crate::sessions::{Sessions, lock};
use crate::store::{Root, Store};
use crate::telemetry::Telemetry;
use crate::topics::Topics;
use crate::upkeep::Upkeep;

mod dirs;
mod settle;

/// The name of the metadata log's directory.
pub(crate) const CLUSTER_METADATA_DIR: &str = "__cluster_metadata-0";

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Resolved configuration; the ports of its listeners are the real ones.
    pub broker: BrokerConfig,
    /// The cluster id that an empty directory is formatted with, or that a formatted one must have. `None`: a fresh id, or whatever
    /// the directory says.
    pub cluster_id: Option<String>,
    /// The loggers of the process.
    pub loggers: Arc<Loggers>,
}

/// Why a node does not start. `Display` is one sentence that says what to do.
#[derive(Debug)]
pub enum OpenError {
    /// The log directory can not be used.
    Directory(LogDirError),
    /// The configuration asks for something that this version does not do.
    Unserved(String),
    /// A log or the metadata in it can not be read.
    Damaged(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Directory(error) => error.fmt(f),
            OpenError::Unserved(sentence) | OpenError::Damaged(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<LogDirError> for OpenError {
    fn from(error: LogDirError) -> Self {
        OpenError::Directory(error)
    }
}

impl Broker {
    /// Starts a node on a disk: formats an empty directory, recovers what a crash left, and returns when the node can serve. `seed`
    /// feeds everything that is drawn by lot (ids, jitter). Afterwards the shell calls [`Broker::on_tick`] once, to arm the timers.
    pub fn open(
        disk: Arc<dyn Disk>,
        node: NodeConfig,
        now: Millis,
        seed: u64,
    ) -> Result<Arc<Broker>, OpenError> {
        Broker::open_with(Box::new(Alone), disk, node, now, seed)
    }

    /// Like [`Broker::open`], with a crew that recovers logs side by side.
    pub fn open_with(
        crew: Box<dyn Crew>,
        disk: Arc<dyn Disk>,
        node: NodeConfig,
        now: Millis,
        seed: u64,
    ) -> Result<Arc<Broker>, OpenError> {
        let NodeConfig { broker: config, cluster_id, loggers } = node;
        let config = Arc::new(config);
        let mut dice = Dice::new(seed);
        let opened = dirs::open(&disk, &config, cluster_id, &mut dice)?;
        let cluster_id = opened.cluster_id;
        let identity = Identity {
            cluster_id: cluster_id.clone(),
            directory_id: opened.metadata_root.id(),
            incarnation_id: dice.uuid(),
            previous_broker_epoch: opened.previous_broker_epoch,
            seed: dice.roll(),
        };
        let store = Arc::new(Store::new(opened.roots, opened.metadata_root, opened.unopened, &config));
        for (path, why) in store.unopened() {
            store.report(format!("log directory {path} does not work, and is left out: {why}"));
        }
        let peers = Arc::new(Peers::new(config.node_id));
        let quorum = Quorum::open(&store, &config, &identity, &peers, now).map_err(OpenError::Damaged)?;
        let secret = HashSecret(dice.roll(), dice.roll());
        let cleaned = store.roots().iter().flat_map(|root| root.cleaned_offsets()).collect();
        let upkeep = Upkeep::new(&config, cleaned, secret, now);
        let broker = Arc::new(Broker {
            cluster_id,
            image: ArcSwap::new(Arc::new(quorum.committed_image())),
            topics: ArcSwap::new(Arc::new(Topics::default())),
            quorum,
            groups: Coordinators::new(i64::from(config.offsets.commit_timeout_ms)),
            transactions: Coordinators::new(i64::from(config.network.request_timeout_ms)),
            parked: Parked::default(),
            remotes: Remotes::default(),
            coordinator_seed: dice.roll(),
            sessions: Sessions::new(
                usize::try_from(config.requests.fetch_session_slots).unwrap_or(0),
                dice.roll(),
            ),
            purgatory: Purgatory::new(),
            deletions: Default::default(),
            quotas: ClientQuotas::new(Windows::of(config.quotas.clients)),
            loggers,
            telemetry: config.telemetry.listen.as_ref().map(|_| {
                Telemetry::new(usize::try_from(config.telemetry.max_bytes).unwrap_or(0), dice.roll())
            }),
            limits_time: AtomicBool::new(false),
            connection_quotas: ConnectionQuotas::new(Windows::of(config.quotas.clients)),
            mutation_quotas: MutationQuotas::new(Windows::of(config.quotas.controller)),
            upkeep,
            producer_ids: Arc::default(),
            peers,
            fetchers: Fetchers::default(),
            isr_changes: IsrChanges::default(),
            throttles: crate::replication::Throttles::new(config.quotas.replication),
            lifecycle: Lifecycle::new(identity),
            assignments: Assignments::default(),
            moves: Moves::new(config.quotas.moves, dice.roll()),
            forwards: Mutex::default(),
            crew,
            startup: Mutex::default(),
            store,
            live: ArcSwap::new(config.clone()),
            config,
        });
        broker.begin(now)?;
        Ok(broker)
    }

    /// Goes as far as this node can go without others and without time: a cluster of one serves when this returns, another node waits for
    /// its peers. Waits for the disk.
    fn begin(&self, now: Millis) -> Result<(), OpenError> {
        let mut arising = Effects::new();
        self.start_quorum(now, &mut arising);
        if !self.config.roles.broker {
            self.serve_if_unfenced(&self.image(), &mut arising);
        }
        let mut left = Effects::new();
        while !arising.is_empty() {
            for effect in std::mem::take(&mut arising) {
                match effect {
                    Effect::Flush(task) => self.on_flushed(task.run(), now, &mut arising),
                    Effect::Read(
                        task @ (ReadTask::Persist(_) | ReadTask::TakeUp(_) | ReadTask::Apply(_)),
                    ) => {
                        self.on_read(task, now, &mut arising);
                    }
                    Effect::Halt(reason) => return Err(OpenError::Damaged(reason)),
                    other => left.push(other),
                }
            }
        }
        // Others may have been added to the voters that the configuration knows, or this node is to be added to theirs.
        let voters = self.quorum.voters();
        let votes_alone =
            !voters.is_empty() && voters.iter().all(|voter| voter.key.id == self.config.node_id);
        if self.config.is_cluster_of_one() && votes_alone && !self.is_serving() {
            let why = match self.lifecycle.refusal() {
                Some(error) => format!("the node can not register: {}", error.message()),
                None => "the only voter was not elected: its metadata log and its quorum-state contradict each other".to_owned(),
            };
            return Err(OpenError::Damaged(why));
        }
        self.refill(now, &mut left);
        // Timers, reports, and requests to other nodes go out with the first tick.
        lock(&self.startup).append(&mut left);
        Ok(())
    }

    /// The cluster is known: what the directory holds is held against it. Waits for the disk.
    pub(crate) fn on_take_up(&self, image: &Image, now: Millis, out: &mut Effects) {
        match self.take_up(image, now, out) {
            Ok(()) => {
                self.lifecycle.on_taken_up(now);
                self.follow_image(image, now, out);
            }
            Err(error) => out.push(Effect::Halt(error.to_string())),
        }
    }

    /// Serves what the image says, recovering the logs that the directory holds.
    fn take_up(&self, image: &Image, now: Millis, out: &mut Effects) -> Result<(), OpenError> {
        for (feature, level) in image.unserved_features() {
            self.store.report(format!(
                "{feature} is finalised at level {level}, which this version does not serve; what it left in the logs is kept as it is"
            ));
        }
        self.settle_directories(image, now, out)?;
        let delta = Delta::between(&Image::empty(&self.cluster_id), image);
        self.reconfigure(image, &delta, now, out);
        self.take_up_partitions(image, &delta, now, out);
        self.recover(&*self.crew, now)?;
        self.resume_moves(now, out);
        self.on_dirs_failed(now, out);
        // Coordinators are loaded by `apply`, from logs that are there now.
        self.apply(image, &delta, now, out);
        Ok(())
    }

    /// Opens every log of the directories that were not left in order, several at a time (`num.recovery.threads.per.data.dir`). After a
    /// clean stop there is nothing to recover: logs open on their first use.
    fn recover(&self, crew: &dyn Crew, now: Millis) -> Result<(), OpenError> {
        let topics = self.topics();
        let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
        let lives_in = |partition: &&Arc<Partition>, root: &Arc<Root>| {
            partition.root().is_some_and(|home| Arc::ptr_eq(&home, root)) && !partition.is_fresh()
        };
        let queues = self.store.homes().filter(|root| !root.was_clean);
        let queues: Vec<Recovering<'_>> = queues
            .map(|root| Recovering {
                root,
                found: partitions().filter(|it| lives_in(it, root)).collect(),
                next: AtomicUsize::new(0),
            })
            .collect();
        let failed = Mutex::new(None);
        let work = |Recovering { root, found, next }: &Recovering<'_>| {
            while let Some(partition) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                // The others go on without a directory that fails; a log that lacks something now is opened when it is needed.
                if partition.try_settle(now).is_err_and(|unsettled| !unsettled.passes) && !root.is_offline() {
                    lock(&failed).get_or_insert_with(|| self.damaged(partition));
                    return;
                }
            }
        };
        let threads = usize::try_from(self.live_config().retention.recovery_threads_per_dir).unwrap_or(1);
        let jobs = queues.iter().flat_map(|queue| (0..threads.min(queue.found.len())).map(move |_| queue));
        let work = &work;
        crew.run(jobs.map(|queue| Box::new(move || work(queue)) as Job<'_>).collect());
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    fn damaged(&self, partition: &Partition) -> OpenError {
        let reported = self.store.take_reports();
        let unnamed = format!("{}-{}: the log can not be opened", partition.topic.name, partition.index);
        OpenError::Damaged(reported.into_iter().next_back().unwrap_or(unnamed))
    }
}

/// The logs of a directory that were not left in order.
struct Recovering<'t> {
    root: &'t Arc<Root>,
    found: Vec<&'t Arc<Partition>>,
    /// The first that nobody has taken.
    next: AtomicUsize,
}

pub(crate) fn group_config(config: &BrokerConfig) -> ottla_coordinator::Config {
    let (groups, offsets) = (&config.groups, &config.offsets);
    ottla_coordinator::Config {
        group_min_session_timeout_ms: groups.min_session_timeout_ms,
        group_max_session_timeout_ms: groups.max_session_timeout_ms,
        group_initial_rebalance_delay_ms: groups.initial_rebalance_delay_ms,
        group_max_size: usize::try_from(groups.max_size).unwrap_or(usize::MAX),
        offset_metadata_max: usize::try_from(offsets.metadata_max_bytes).unwrap_or(0),
        offsets_retention_ms: offsets.retention_ms,
        offsets_retention_check_interval_ms: offsets.retention_check_interval_ms,
        consumer: consumer_config(&config.consumer_groups),
        ..Default::default()
    }
}

fn consumer_config(groups: &ConsumerGroupSettings) -> ConsumerConfig {
    ConsumerConfig {
        session_timeout_ms: groups.session_timeout_ms.default,
        heartbeat_interval_ms: groups.heartbeat_interval_ms.default,
        assignment_interval_ms: groups.assignment_interval_ms.default,
        max_size: usize::try_from(groups.max_size).unwrap_or(usize::MAX),
        assignors: groups.assignors.clone(),
        migration_policy: match &*groups.migration_policy {
            "disabled" => MigrationPolicy::Disabled,
            "downgrade" => MigrationPolicy::Downgrade,
            "upgrade" => MigrationPolicy::Upgrade,
            _ => MigrationPolicy::Bidirectional,
        },
        regex_refresh_interval_ms: groups.regex_refresh_interval_ms.into(),
    }
}

pub(crate) fn transaction_config(config: &BrokerConfig) -> TransactionConfig {
    let transactions = &config.transactions;
    TransactionConfig {
        max_timeout_ms: transactions.max_timeout_ms,
        id_expiration_ms: i64::from(transactions.transactional_id_expiration_ms),
        abort_interval_ms: i64::from(transactions.abort_interval_ms),
        remove_interval_ms: i64::from(transactions.remove_interval_ms),
        ..TransactionConfig::default()
    }
}
