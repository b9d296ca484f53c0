//! Transactions at small scope: the real transaction coordinator, the real group coordinator of an offsets partition and the real
//! producers' state of all partitions, and between them a network that delays, reorders, repeats and loses.
//!
//! The tricky idea: everything that can happen is a function on a value that can be copied. One driver takes all of them, in every order,
//! on copies; another one takes them by lot. What is modelled here and not real is what the broker does in between: the runtime of the
//! coordinators (records, commit, held replies and deeds), and the queue of a partition in which a transaction is about to begin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_coordinator::transaction::{AddPartitions, MarkerEvent, MarkerResult, Markers, TopicPartition};
use ottla_coordinator::{
    Context, Coordinator, Deed, Outcome, ProducerIds, Record, Response, TransactionConfig,
    TransactionCoordinator, TransactionVersion, Waiter,
};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use ottla_protocol::messages::end_txn_request::EndTxnRequest;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_storage::LogGuards;

use super::client::{Client, Op};
use super::message::{Marked, Marker, Message, OFFSETS, PARTITIONS, Producer};
use super::offsets::{GROUP, Offsets, Topic};
use super::partition::Partition;
use super::primed::used_up;

pub(super) const ID: &str = "t-id";
const TIMEOUT_MS: i32 = 60_000;

/// Producer ids one after the other. Copies of a model share the source, which is set to what the copy has reached before it is used.
#[derive(Debug)]
struct Ids(AtomicI64);

impl ProducerIds for Ids {
    fn next(&self) -> Option<i64> {
        Some(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// The circumstances of a run, and what is taken away of the rules, if anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// The finalized level of `transaction.version`.
    pub feature: TransactionVersion,
    /// Clients play by the rules of version 2.
    pub clients_bump: bool,
    /// `transaction.partition.verification.enable`.
    pub verifies: bool,
    /// Batches that a client has in flight at most.
    pub window: usize,
    /// The epochs of the transactional id are nearly used up.
    pub is_used_up: bool,
    /// A transactional id is forgotten when it is idle for a while.
    pub expires: bool,
    pub log: LogGuards,
    /// Markers are written, and EndTxn answered, before the decision is committed.
    pub hurried: bool,
}

impl Setting {
    pub const V2: Setting = Setting {
        feature: TransactionVersion::V2,
        clients_bump: true,
        verifies: true,
        window: 1,
        is_used_up: false,
        expires: false,
        log: LogGuards::ALL,
        hurried: false,
    };
    pub const V1: Setting = Setting { clients_bump: false, ..Setting::V2 };
}

#[derive(Debug, Clone)]
enum Asker {
    Client { client: usize, op: usize },
    Partition { partition: usize, producer: Producer, admission: u64, adds: bool },
}

#[derive(Debug, Clone)]
enum Parcel {
    Reply(Asker, Response),
    Deed(Deed),
}

/// Counts without making two states different.
#[derive(Clone, Default)]
pub(super) struct Unseen<T>(pub T);

impl<T> fmt::Debug for Unseen<T> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub now: i64,
    pub setting: Setting,
    ids: Unseen<Arc<Ids>>,
    next_id: i64,
    coordinator: TransactionCoordinator,
    coordinator_epoch: i32,
    /// The log of the coordinator. What is below `committed` does not matter to what may happen next.
    records: Vec<Record>,
    committed: usize,
    held: VecDeque<(usize, Parcel)>,
    asker: Option<Asker>,
    last_waiter: Unseen<u128>,
    pub partitions: Vec<Partition>,
    pub offsets: Offsets,
    pub flight: Vec<Message>,
    pub clients: Vec<Client>,
    /// Epochs below this one are fenced, as somebody was told.
    pub fenced_below: BTreeMap<i64, i16>,
    given: BTreeSet<Producer>,
    last_given: Option<usize>,
    pub broken: Option<String>,
}

impl Model {
    pub fn new(setting: Setting) -> Model {
        let ids = Arc::new(Ids(AtomicI64::new(1)));
        let mut model = Model {
            now: 1_000_000,
            setting,
            coordinator: new_coordinator(&setting, ids.clone()),
            ids: Unseen(ids),
            next_id: 1,
            coordinator_epoch: -1,
            records: Vec::new(),
            committed: 0,
            held: VecDeque::new(),
            asker: None,
            last_waiter: Unseen(0),
            partitions: (0..PARTITIONS).map(|_| Partition::new(&setting)).collect(),
            offsets: Offsets::new(),
            flight: Vec::new(),
            clients: Vec::new(),
            fenced_below: BTreeMap::new(),
            given: BTreeSet::new(),
            last_given: None,
            broken: None,
        };
        if setting.is_used_up {
            model.records.push(used_up(model.now));
        }
        model.load();
        model
    }

    pub fn break_promise(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    // The runtime of the coordinator

    fn load(&mut self) {
        // The epoch before is not in the log: who goes on (KIP-360) and missed the answer is not known to be who he says.
        for client in self.clients.iter_mut().filter(|client| client.is_going_on()) {
            client.may_be_fenced = true;
        }
        self.committed = self.records.len();
        self.coordinator_epoch += 1;
        self.coordinator = new_coordinator(&self.setting, self.ids.0.clone());
        for (offset, record) in self.records.iter().enumerate() {
            let replayed = self.coordinator.replay(&record.key, record.value.as_deref(), offset as i64, -1);
            replayed.expect("our own records");
        }
        let outcome = self.coordinator.on_loaded(self.coordinator_epoch, self.now, &Topic);
        self.take(outcome);
    }

    /// Its records are appended and replayed; replies and deeds wait for the commit.
    fn take(&mut self, mut outcome: Outcome) {
        let deeds = std::mem::take(&mut outcome.deeds);
        let replies = if outcome.records.is_empty() {
            outcome.replies
        } else {
            let base = self.records.len() as i64;
            self.records.extend(outcome.records.iter().cloned());
            self.coordinator.on_appended(outcome, base, self.now)
        };
        let end = self.records.len();
        for reply in replies {
            let asker = self.asker.take().expect("a reply has an asker");
            self.held.push_back((end, Parcel::Reply(asker, reply.response)));
        }
        self.held.extend(deeds.into_iter().map(|deed| (end, Parcel::Deed(deed))));
        self.release();
    }

    fn release(&mut self) {
        let committed = if self.setting.hurried { self.records.len() } else { self.committed };
        while let Some((_, parcel)) = self.held.pop_front_if(|(end, _)| *end <= committed) {
            match parcel {
                Parcel::Reply(asker, response) => self.reply(&asker, &response),
                Parcel::Deed(Deed::WriteMarkers(markers)) => self.send_markers(&markers),
            }
        }
    }

    fn send_markers(&mut self, markers: &Markers) {
        for partition in &markers.partitions {
            self.flight.push(Message::Marker(Marker {
                partition: (0..PARTITIONS).find(|p| named(*p) == *partition).expect("one of ours"),
                producer: (markers.producer_id, markers.producer_epoch),
                coordinator_epoch: markers.coordinator_epoch,
                commit: markers.commit,
                bumps: markers.version.bumps_epoch(),
                round: markers.round,
            }));
        }
    }

    fn reply(&mut self, asker: &Asker, response: &Response) {
        let nobody = (-1, -1);
        match (asker, response) {
            (Asker::Client { client, op }, Response::InitProducerId(response)) => {
                let producer = (response.producer_id, response.producer_epoch);
                if response.error_code == 0 {
                    self.on_epoch_given(*client, producer);
                }
                self.reply_to(*client, *op, response.error_code, producer);
            }
            (Asker::Client { client, op }, Response::EndTxn(response)) => {
                let producer = (response.producer_id, response.producer_epoch);
                self.reply_to(*client, *op, response.error_code, producer);
            }
            (Asker::Client { client, op }, Response::AddPartitionsToTxn(answer)) => {
                self.reply_to(*client, *op, answer.partitions[0].1.code(), nobody);
            }
            (Asker::Client { client, op }, Response::AddOffsetsToTxn(response)) => {
                self.reply_to(*client, *op, response.error_code, nobody);
            }
            (
                Asker::Partition { partition, producer, admission, adds },
                Response::AddPartitionsToTxn(answer),
            ) => {
                let error = match answer.partitions[0].1 {
                    // As the broker translates it.
                    ErrorCode::ConcurrentTransactions if !adds => ErrorCode::CoordinatorNotAvailable,
                    error => error,
                };
                let (partition, producer, admission) = (*partition, *producer, *admission);
                self.flight.push(Message::Answer { partition, producer, admission, error: error.code() });
            }
            (asker, response) => unreachable!("{asker:?} is not told {response:?}"),
        }
    }

    pub fn reply_to(&mut self, client: usize, op: usize, error: i16, producer: Producer) {
        self.flight.push(Message::Reply { client, op, error, producer });
    }

    /// A client is about to be told that it has an epoch: whoever had one before is fenced from now on.
    fn on_epoch_given(&mut self, client: usize, (id, epoch): Producer) {
        let fenced = self.fenced_below.entry(id).or_insert(0);
        *fenced = (*fenced).max(epoch);
        if !self.given.insert((id, epoch)) && self.last_given != Some(client) {
            self.break_promise(format!("I18: {:?} is given to client {client} too", (id, epoch)));
        }
        if self.clients[client].producer.is_some() && self.last_given != Some(client) {
            self.break_promise(format!("client {client} was fenced, and is back"));
        }
        self.last_given = Some(client);
    }

    fn ask(
        &mut self,
        asker: Asker,
        api_version: i16,
        handle: impl FnOnce(&mut TransactionCoordinator, &Context<'_>) -> Outcome,
    ) {
        self.last_waiter.0 += 1;
        assert!(self.asker.replace(asker).is_none(), "every request is replied to at once");
        let waiter = Waiter(self.last_waiter.0);
        let context =
            Context { now: self.now, waiter, api_version, client_id: "", client_host: "", topics: &Topic };
        self.ids.0.0.store(self.next_id, Ordering::Relaxed);
        let outcome = handle(&mut self.coordinator, &context);
        self.next_id = self.ids.0.0.load(Ordering::Relaxed);
        self.take(outcome);
    }

    pub fn uncommitted(&self) -> usize {
        self.records.len() - self.committed
    }

    /// Everything appended so far is on disk.
    pub fn commit(&mut self) {
        self.committed = self.records.len();
        self.release();
    }

    /// The coordinator dies; of what was not committed, `kept` records survive. Another one takes over.
    pub fn crash(&mut self, kept: usize) {
        self.records.truncate(self.committed + kept);
        // Partitions that wait for its word are told to ask again; clients find out by themselves.
        for (_, parcel) in std::mem::take(&mut self.held) {
            if let Parcel::Reply(Asker::Partition { partition, producer, admission, .. }, _) = parcel {
                let error = ErrorCode::NotCoordinator.code();
                self.flight.push(Message::Answer { partition, producer, admission, error });
            }
        }
        self.load();
    }

    /// The node dies with everything that is under way on it. Partitions keep their logs: what they acknowledged is on disk.
    pub fn crash_node(&mut self, kept: usize) {
        self.records.truncate(self.committed + kept);
        self.held.clear();
        self.flight.retain(|message| !message.is_inside());
        self.partitions.iter_mut().for_each(Partition::restart);
        self.offsets.fail_over(self.now);
        self.load();
    }

    /// When the coordinator has something to do.
    pub fn next_deadline(&self) -> Option<i64> {
        self.coordinator.next_deadline()
    }

    /// Time passes.
    pub fn pass_until(&mut self, until: i64) {
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.ids.0.0.store(self.next_id, Ordering::Relaxed);
            let outcome = self.coordinator.on_timeout(self.now, &Topic);
            self.next_id = self.ids.0.0.load(Ordering::Relaxed);
            self.take(outcome);
        }
        self.now = self.now.max(until);
    }

    // The network

    /// A message arrives.
    pub fn deliver(&mut self, message: Message) {
        match message {
            Message::Init { client, op, expected } => self.on_init(Asker::Client { client, op }, expected),
            Message::Add { client, op, producer, partition } => {
                self.on_add(Asker::Client { client, op }, producer, partition)
            }
            Message::End { client, op, producer, commit, bumps } => {
                self.on_end(Asker::Client { client, op }, producer, commit, bumps)
            }
            Message::Ask { partition, producer, admission, adds } => {
                self.on_ask(Asker::Partition { partition, producer, admission, adds })
            }
            Message::Marked { partition, coordinator_epoch, round, result } => {
                let result = match result {
                    Marked::Done => MarkerResult::Done,
                    Marked::NotNow => MarkerResult::NotNow,
                    Marked::Fenced => MarkerResult::Fenced,
                };
                let partition = named(partition);
                let event =
                    MarkerEvent { transactional_id: ID.into(), coordinator_epoch, round, partition, result };
                let outcome = self.coordinator.on_marker(&event, self.now);
                self.take(outcome);
            }
            Message::Produce(batch) => self.on_produce(batch),
            Message::Answer { partition, producer, admission, error } => {
                self.on_answer(partition, producer, admission, error);
            }
            Message::Marker(marker) => self.on_marker(marker),
            Message::Reply { client, op, error, producer } => {
                let error = ErrorCode::from_code(error);
                if let Err(broken) = self.clients[client].on_reply(op, error, producer) {
                    self.break_promise(format!("client {client}: {broken}"));
                }
            }
        }
    }

    fn on_init(&mut self, asker: Asker, expected: Option<Producer>) {
        let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.into()),
            transaction_timeout_ms: TIMEOUT_MS,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        self.ask(asker, 5, |coordinator, context| coordinator.handle_init_producer_id(&request, context));
    }

    fn on_add(&mut self, asker: Asker, (producer_id, producer_epoch): Producer, partition: usize) {
        if partition == OFFSETS {
            let request = AddOffsetsToTxnRequest {
                transactional_id: ID.into(),
                producer_id,
                producer_epoch,
                group_id: GROUP.into(),
            };
            self.ask(asker, 3, |coordinator, context| {
                coordinator.handle_add_offsets(&request, named(OFFSETS), context)
            });
            return;
        }
        let partitions = [named(partition)];
        let asked = AddPartitions {
            transactional_id: ID,
            producer_id,
            producer_epoch,
            partitions: &partitions,
            verify_only: false,
            client_version: TransactionVersion::V0,
        };
        self.ask(asker, 3, |coordinator, context| coordinator.handle_add_partitions(&asked, context));
    }

    fn on_end(
        &mut self,
        asker: Asker,
        (producer_id, producer_epoch): Producer,
        committed: bool,
        bumps: bool,
    ) {
        let request = EndTxnRequest { transactional_id: ID.into(), producer_id, producer_epoch, committed };
        let version = if bumps { 5 } else { 4 };
        self.ask(asker, version, |coordinator, context| coordinator.handle_end_txn(&request, context));
    }

    fn on_ask(&mut self, asker: Asker) {
        let Asker::Partition { partition, producer, adds, .. } = asker else {
            unreachable!("partitions ask")
        };
        let partitions = [named(partition)];
        let asked = AddPartitions {
            transactional_id: ID,
            producer_id: producer.0,
            producer_epoch: producer.1,
            partitions: &partitions,
            verify_only: !adds,
            client_version: TransactionVersion::V2,
        };
        self.ask(asker, i16::MAX, |coordinator, context| coordinator.handle_add_partitions(&asked, context));
    }

    // Clients

    pub fn begin(&mut self, client: usize) {
        let message = self.clients[client].begin(client);
        self.flight.push(message);
    }

    pub fn again(&mut self, client: usize, at: usize) {
        let message = self.clients[client].again(client, at);
        self.flight.push(message);
    }

    /// Whether a request of a client, or its answer, is under way somewhere.
    pub fn is_under_way(&self, client: usize, op: usize) -> bool {
        let is_held = |parcel: &Parcel| match parcel {
            Parcel::Reply(Asker::Client { client: c, op: o }, _) => (*c, *o) == (client, op),
            _ => false,
        };
        self.flight.iter().any(|message| message.concerns() == Some((client, op)))
            || self.held.iter().any(|(_, parcel)| is_held(parcel))
            || self.partitions.iter().any(|partition| partition.has_queued(client, op))
    }

    /// Starts a client. From the second one on all of them can be fenced, so that a refusal is no broken promise.
    pub fn start_client(&mut self, script: Vec<Op>) {
        self.clients.push(Client::new(script, self.setting.clients_bump, self.setting.window));
        if self.clients.len() > 1 {
            self.clients.iter_mut().for_each(|client| client.may_be_fenced = true);
        }
    }
}

pub(super) fn named(partition: usize) -> TopicPartition {
    if partition == OFFSETS { ("__consumer_offsets".into(), 0) } else { ("t".into(), partition as i32) }
}

fn new_coordinator(setting: &Setting, ids: Arc<Ids>) -> TransactionCoordinator {
    let mut config = TransactionConfig {
        // The first look for transactions that take too long finds all that were open at the last one.
        abort_interval_ms: i64::from(TIMEOUT_MS) + 1_000,
        ..TransactionConfig::default()
    };
    if setting.expires {
        (config.id_expiration_ms, config.remove_interval_ms) = (100_000, 30_000);
    }
    TransactionCoordinator::new(config, setting.feature, ids)
}
