//! Start-up, as straight code: lock and identify the directory, recover the logs, elect this node, register it, and take up its work.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ottla_controller::Dice;
use ottla_coordinator::{ConsumerConfig, MigrationPolicy, TransactionConfig};
use ottla_metadata::config::{BrokerConfig, ConsumerGroupSettings};
use ottla_metadata::topic_name::CLUSTER_METADATA;
use ottla_metadata::{Delta, Image};
use ottla_storage::{Disk, HashSecret, LogDir, LogDirError, MetaProperties, PartitionDirKind, PartitionName};

use crate::Broker;
use crate::coordination::{Coordinators, Parked, Remotes};
use crate::crew::{Alone, Crew, Job};
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::lifecycle::Lifecycle;
use crate::partition::Partition;
use crate::peers::Peers;
use crate::purgatory::Purgatory;
use crate::quorum::{Identity, Quorum};
use crate::quotas::{ClientQuotas, ConnectionQuotas, MutationQuotas, Windows};
use crate::replication::{Fetchers, IsrChanges};
use crate::sessions::{Sessions, lock};
use crate::store::Store;
use crate::topics::Topics;
use crate::upkeep::Upkeep;

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
        let NodeConfig { broker: config, cluster_id } = node;
        check_served(&config)?;
        let config = Arc::new(config);
        let mut dice = Dice::new(seed);
        let mut dir = LogDir::open(disk, Path::new(&config.log_dirs[0]))?;
        dir.check_identity(cluster_id.as_deref(), Some(config.node_id))?;
        let meta = match dir.meta_properties() {
            Some(meta) if meta.directory_id.is_some() => meta.clone(),
            found => {
                let cluster_id = found.map(|meta| meta.cluster_id.clone()).or(cluster_id);
                if cluster_id.is_none() && !config.is_cluster_of_one() {
                    return Err(OpenError::Unserved(format!(
                        "{}: the directory is empty, and this node has others: all of them need the same cluster id; set CLUSTER_ID",
                        config.log_dirs[0]
                    )));
                }
                let cluster_id = cluster_id.unwrap_or_else(|| dice.uuid().to_string());
                let meta =
                    MetaProperties { cluster_id, node_id: config.node_id, directory_id: Some(dice.uuid()) };
                dir.format(meta.clone())?;
                meta
            }
        };
        let directory_id = meta.directory_id.expect("given above if it was missing");
        let clean = dir.take_clean_shutdown()?;
        let previous_broker_epoch = clean.as_ref().map(|clean| clean.broker_epoch);
        let store = Arc::new(Store::new(dir, &config, clean.is_some())?);
        let identity = Identity {
            cluster_id: meta.cluster_id.clone(),
            directory_id,
            incarnation_id: dice.uuid(),
            previous_broker_epoch: previous_broker_epoch.unwrap_or(-1),
            seed: dice.roll(),
        };
        let peers = Arc::new(Peers::new(config.node_id));
        let quorum = Quorum::open(&store, &config, &identity, &peers, now).map_err(OpenError::Damaged)?;
        let secret = HashSecret(dice.roll(), dice.roll());
        let upkeep = Upkeep::new(&config, store.cleaned_offsets(), secret, now);
        let broker = Arc::new(Broker {
            cluster_id: meta.cluster_id.clone(),
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
            quotas: ClientQuotas::new(Windows::of(config.quotas.clients)),
            limits_time: AtomicBool::new(false),
            connection_quotas: ConnectionQuotas::new(Windows::of(config.quotas.clients)),
            mutation_quotas: MutationQuotas::new(Windows::of(config.quotas.controller)),
            upkeep,
            producer_ids: Arc::default(),
            peers,
            fetchers: Fetchers::default(),
            isr_changes: IsrChanges::default(),
            lifecycle: Lifecycle::new(identity),
            forwards: Mutex::default(),
            crew,
            was_clean: clean.is_some(),
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
        // Others may have been added to the voters that the configuration knows.
        let votes_alone = self.quorum.voters().iter().all(|voter| voter.key.id == self.config.node_id);
        if self.config.is_cluster_of_one() && votes_alone && !self.is_serving() {
            let why = match self.lifecycle.refusal() {
                Some(error) => format!("the node can not register: {}", error.message()),
                None => "the only voter was not elected: its metadata log and its quorum-state contradict each other".to_owned(),
            };
            return Err(OpenError::Damaged(why));
        }
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
        self.settle_directories(image, now)?;
        let delta = Delta::between(&Image::empty(&self.cluster_id), image);
        self.reconfigure(image, &delta, out);
        self.take_up_partitions(image, &delta, now, out);
        if !self.was_clean {
            // After a clean stop there is nothing to recover: logs open on their first use.
            self.recover(&*self.crew, now)?;
        }
        // Coordinators are loaded by `apply`, from logs that are there now.
        self.apply(image, &delta, now, out);
        Ok(())
    }

    /// Opens every log that the directory holds, several at a time (`num.recovery.threads.per.data.dir`).
    fn recover(&self, crew: &dyn Crew, now: Millis) -> Result<(), OpenError> {
        let topics = self.topics();
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let found: Vec<_> = partitions
            .filter(|partition| self.store.has_log(&partition.topic.name, partition.index))
            .collect();
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some(partition) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
                if partition.settle(now).is_err() {
                    lock(&failed).get_or_insert_with(|| self.damaged(partition));
                    return;
                }
            }
        };
        let threads = usize::try_from(self.config.retention.recovery_threads_per_dir).unwrap_or(1);
        crew.run((0..threads.min(found.len())).map(|_| Box::new(work) as Job<'_>).collect());
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

    /// Puts directories aside that belong to no topic (any more), and removes those that were being deleted.
    fn settle_directories(&self, image: &Image, now: Millis) -> Result<(), OpenError> {
        let mut kept = BTreeSet::from([PartitionName::new(CLUSTER_METADATA, 0)]);
        for found in self.store.dir().partitions()? {
            let (topic, index) = (&found.partition.topic, found.partition.partition);
            let path = self.store.root().join(&found.name);
            let io = |error| OpenError::Directory(LogDirError::Io(path.clone(), error));
            match found.kind {
                PartitionDirKind::Delete => self.store.disk().remove_dir_all(&path).map_err(io)?,
                PartitionDirKind::Current if found.name != CLUSTER_METADATA_DIR => {
                    let described = image.topic_by_name(topic);
                    let id = self.store.topic_id_of(topic, index).map_err(io)?;
                    let ours = described.is_some_and(|described| {
                        index < described.partition_count() && Some(described.id.0) == id
                    });
                    if ours {
                        kept.insert(found.partition.clone());
                    } else {
                        // Strays of one name are told apart by their topic, or by when they were found.
                        let unique = id.map_or(now as u128, |id| u128::from_be_bytes(id.0));
                        self.store
                            .set_aside(topic, index, PartitionDirKind::Stray, unique)
                            .map_err(|error| OpenError::Damaged(format!("{}: {error}", path.display())))?;
                    }
                }
                _ => {}
            }
        }
        self.store.retain_hints(|name| kept.contains(name));
        self.upkeep.retain(|name| kept.contains(name));
        self.upkeep.write_checkpoint(&self.store)?;
        let root = self.store.root().to_path_buf();
        self.store.sync_root().map_err(|error| OpenError::Directory(LogDirError::Io(root, error)))
    }
}

/// Refuses what would be ignored otherwise.
fn check_served(config: &BrokerConfig) -> Result<(), OpenError> {
    if config.log_dirs.len() != 1 {
        let dirs = config.log_dirs.join(",");
        return Err(OpenError::Unserved(format!(
            "log.dirs={dirs}: this version serves one log directory; name one"
        )));
    }
    if config.metadata_log_dir != config.log_dirs[0] {
        return Err(OpenError::Unserved(format!(
            "metadata.log.dir={}: this version keeps the metadata log in the log directory; leave the key out",
            config.metadata_log_dir
        )));
    }
    Ok(())
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
