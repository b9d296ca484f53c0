//! Transactions of version 2 at small scope: the real coordinator and the real producers' state of two partitions, and between them a
//! network that delays, reorders, repeats and loses.
//!
//! The tricky idea: everything that can happen is an [`Action`] on a value. One driver takes all of them, in every order, on copies;
//! another one takes them by lot. What is modelled here and not real is what the broker does in between: the runtime of the coordinator
//! (records, commit, held replies and deeds), and the queue of a partition in which a transaction is about to begin.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_coordinator::transaction::{
    AddPartitions, Guards, MarkerEvent, MarkerResult, Markers, TopicPartition,
};
use ottla_coordinator::{
    Context, Coordinator, Deed, Outcome, ProducerIds, Record, Response, Topics, TransactionConfig,
    TransactionCoordinator, TransactionVersion, Waiter,
};
use ottla_protocol::messages::end_txn_request::EndTxnRequest;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::{ErrorCode, Uuid};
use ottla_storage::{Admission, AppendOrigin, LogGuards, ModelAppend, ModelBatch, ModelLog};

use super::client::{Client, Op};

pub(super) const ID: &str = "t-id";
pub(super) const PARTITIONS: usize = 2;
const TIMEOUT_MS: i32 = 60_000;

/// Producer id and epoch.
pub(super) type Producer = (i64, i16);
/// A record's value: which client wrote it, in which of its transactions, to which partition.
pub(super) type Value = (usize, usize, usize);

#[derive(Debug, Default)]
struct Ids(AtomicI64);

impl ProducerIds for Ids {
    fn next(&self) -> Option<i64> {
        Some(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct NoTopics;

impl Topics for NoTopics {
    fn id_of(&self, _: &str) -> Option<Uuid> {
        None
    }
    fn name_of(&self, _: Uuid) -> Option<String> {
        None
    }
    fn has_partition(&self, _: &str, _: i32) -> bool {
        true
    }
    fn partition_count(&self, _: Uuid) -> Option<i32> {
        None
    }
    fn racks(&self, _: Uuid, _: i32) -> Vec<String> {
        Vec::new()
    }
    fn names_after(&self, _: Option<&str>, _: usize) -> Vec<Arc<str>> {
        Vec::new()
    }
    fn version(&self) -> i64 {
        0
    }
}

/// What is taken away, if anything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    pub coordinator: Guards,
    pub log: LogGuards,
    /// Markers are written, and EndTxn answered, before the decision is committed.
    pub hurried: bool,
    /// Batches of a producer overtake one that waits for the coordinator's word.
    pub unordered: bool,
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Message {
    Init {
        client: usize,
        op: usize,
        expected: Option<Producer>,
    },
    End {
        client: usize,
        op: usize,
        producer: Producer,
        commit: bool,
    },
    Produce {
        client: usize,
        op: usize,
        producer: Producer,
        sequence: i32,
        value: Value,
    },
    /// A partition asks whether a transaction may begin in it.
    Ask {
        partition: usize,
        producer: Producer,
        admission: u64,
    },
    Answer {
        partition: usize,
        producer: Producer,
        admission: u64,
        error: i16,
    },
    Marker {
        partition: usize,
        producer: Producer,
        coordinator_epoch: i32,
        commit: bool,
        round: u64,
    },
    Marked {
        partition: usize,
        coordinator_epoch: i32,
        round: u64,
        result: u8,
    },
    /// To a client: the error, and the producer that it is from now on.
    Reply {
        client: usize,
        op: usize,
        error: i16,
        producer: Producer,
    },
}

#[derive(Debug, Clone)]
enum Asker {
    Client { client: usize, op: usize },
    Partition { partition: usize, producer: Producer, admission: u64 },
}

#[derive(Debug, Clone)]
enum Parcel {
    Reply(Asker, Response),
    Deed(Deed),
}

/// A batch in a partition.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub offset: i64,
    pub producer: Producer,
    /// `None`: the end of a transaction.
    pub value: Option<Value>,
    pub commit: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Partition {
    pub log: ModelLog,
    pub entries: Vec<Entry>,
    /// Producer, first and last offset of aborted transactions.
    pub aborted: Vec<(i64, i64, i64)>,
    admissions: BTreeMap<u64, Admission>,
    queues: BTreeMap<Producer, VecDeque<(usize, usize, i32, Value)>>,
}

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub now: i64,
    rules: Rules,
    ids: Arc<Ids>,
    coordinator: TransactionCoordinator,
    coordinator_epoch: i32,
    records: Vec<Record>,
    committed: usize,
    held: VecDeque<(usize, Parcel)>,
    askers: BTreeMap<u128, Asker>,
    last_waiter: u128,
    pub partitions: Vec<Partition>,
    pub flight: Vec<Message>,
    pub clients: Vec<Client>,
    /// Epochs below this one are fenced, as somebody was told.
    fenced_below: BTreeMap<i64, i16>,
    pub broken: Option<String>,
}

impl Model {
    pub fn new(rules: Rules) -> Model {
        let ids = Arc::new(Ids::default());
        let partition = || Partition {
            log: ModelLog::new(rules.log),
            entries: Vec::new(),
            aborted: Vec::new(),
            admissions: BTreeMap::new(),
            queues: BTreeMap::new(),
        };
        let mut model = Model {
            now: 1_000_000,
            rules,
            coordinator: new_coordinator(rules, ids.clone()),
            ids,
            coordinator_epoch: 0,
            records: Vec::new(),
            committed: 0,
            held: VecDeque::new(),
            askers: BTreeMap::new(),
            last_waiter: 0,
            partitions: (0..PARTITIONS).map(|_| partition()).collect(),
            flight: Vec::new(),
            clients: Vec::new(),
            fenced_below: BTreeMap::new(),
            broken: None,
        };
        let outcome = model.coordinator.on_loaded(0, model.now, &NoTopics);
        model.take(outcome);
        model
    }

    pub fn break_promise(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    // The runtime of the coordinator

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
            let asker = self.askers.remove(&reply.waiter.0).expect("a reply has an asker");
            self.held.push_back((end, Parcel::Reply(asker, reply.response)));
        }
        self.held.extend(deeds.into_iter().map(|deed| (end, Parcel::Deed(deed))));
        self.release();
    }

    fn release(&mut self) {
        let committed = if self.rules.hurried { self.records.len() } else { self.committed };
        while let Some((_, parcel)) = self.held.pop_front_if(|(end, _)| *end <= committed) {
            match parcel {
                Parcel::Reply(asker, response) => self.reply(&asker, &response),
                Parcel::Deed(Deed::WriteMarkers(markers)) => self.send_markers(&markers),
            }
        }
    }

    fn send_markers(&mut self, markers: &Markers) {
        for (_, partition) in &markers.partitions {
            self.flight.push(Message::Marker {
                partition: *partition as usize,
                producer: (markers.producer_id, markers.producer_epoch),
                coordinator_epoch: markers.coordinator_epoch,
                commit: markers.commit,
                round: markers.round,
            });
        }
    }

    fn reply(&mut self, asker: &Asker, response: &Response) {
        match (asker, response) {
            (Asker::Client { client, op }, Response::InitProducerId(response)) => {
                let producer = (response.producer_id, response.producer_epoch);
                if response.error_code == 0 {
                    self.on_epoch_given(producer);
                }
                self.reply_to(*client, *op, response.error_code, producer);
            }
            (Asker::Client { client, op }, Response::EndTxn(response)) => {
                let producer = (response.producer_id, response.producer_epoch);
                self.reply_to(*client, *op, response.error_code, producer);
            }
            (Asker::Partition { partition, producer, admission }, Response::AddPartitionsToTxn(answer)) => {
                let error = answer.partitions[0].1.code();
                let (partition, producer, admission) = (*partition, *producer, *admission);
                self.flight.push(Message::Answer { partition, producer, admission, error });
            }
            (asker, response) => unreachable!("{asker:?} is not told {response:?}"),
        }
    }

    fn reply_to(&mut self, client: usize, op: usize, error: i16, producer: Producer) {
        self.flight.push(Message::Reply { client, op, error, producer });
    }

    /// A client is about to be told that it has an epoch: whoever had one before is fenced from now on.
    fn on_epoch_given(&mut self, (id, epoch): Producer) {
        let fenced = self.fenced_below.entry(id).or_insert(0);
        *fenced = (*fenced).max(epoch);
    }

    fn ask(
        &mut self,
        asker: Asker,
        handle: impl FnOnce(&mut TransactionCoordinator, &Context<'_>) -> Outcome,
    ) {
        self.last_waiter += 1;
        self.askers.insert(self.last_waiter, asker);
        let context = Context {
            now: self.now,
            waiter: Waiter(self.last_waiter),
            api_version: 5,
            client_id: "",
            client_host: "",
            topics: &NoTopics,
        };
        let outcome = handle(&mut self.coordinator, &context);
        self.take(outcome);
    }

    pub fn has_uncommitted(&self) -> bool {
        self.committed < self.records.len()
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
        self.committed = self.records.len();
        // Partitions that wait for its word are told to ask again; clients find out by themselves.
        for (_, parcel) in std::mem::take(&mut self.held) {
            if let Parcel::Reply(asker, _) = parcel {
                self.refuse(asker);
            }
        }
        assert!(self.askers.is_empty(), "every request is replied to at once");
        self.coordinator_epoch += 1;
        self.coordinator = new_coordinator(self.rules, self.ids.clone());
        for (offset, record) in self.records.iter().enumerate() {
            let replayed = self.coordinator.replay(&record.key, record.value.as_deref(), offset as i64, -1);
            replayed.expect("our own records");
        }
        let outcome = self.coordinator.on_loaded(self.coordinator_epoch, self.now, &NoTopics);
        self.take(outcome);
    }

    fn refuse(&mut self, asker: Asker) {
        if let Asker::Partition { partition, producer, admission } = asker {
            let error = ErrorCode::NotCoordinator.code();
            self.flight.push(Message::Answer { partition, producer, admission, error });
        }
    }

    /// Time moves to the coordinator's next deadline.
    pub fn tick(&mut self) {
        if let Some(at) = self.coordinator.next_deadline() {
            self.now = self.now.max(at);
            let outcome = self.coordinator.on_timeout(self.now, &NoTopics);
            self.take(outcome);
        }
    }

    /// Whether markers wait to be sent again.
    pub fn next_deadline(&self) -> Option<i64> {
        self.coordinator.next_deadline()
    }

    // The network

    /// A message arrives.
    pub fn deliver(&mut self, message: Message) {
        match message {
            Message::Init { client, op, expected } => {
                let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
                self.ask(Asker::Client { client, op }, |coordinator, context| {
                    let request = InitProducerIdRequest {
                        transactional_id: Some(ID.into()),
                        transaction_timeout_ms: TIMEOUT_MS,
                        producer_id,
                        producer_epoch,
                        ..Default::default()
                    };
                    coordinator.handle_init_producer_id(&request, context)
                });
            }
            Message::End { client, op, producer, commit } => {
                self.ask(Asker::Client { client, op }, |coordinator, context| {
                    let request = EndTxnRequest {
                        transactional_id: ID.into(),
                        producer_id: producer.0,
                        producer_epoch: producer.1,
                        committed: commit,
                    };
                    coordinator.handle_end_txn(&request, context)
                });
            }
            Message::Ask { partition, producer, admission } => {
                let asker = Asker::Partition { partition, producer, admission };
                self.ask(asker, |coordinator, context| {
                    let partitions = [named(partition)];
                    let asked = AddPartitions {
                        transactional_id: ID,
                        producer_id: producer.0,
                        producer_epoch: producer.1,
                        partitions: &partitions,
                        verify_only: false,
                        client_version: TransactionVersion::V2,
                    };
                    coordinator.handle_add_partitions(&asked, context)
                });
            }
            Message::Produce { client, op, producer, sequence, value } => {
                self.on_produce(client, op, producer, sequence, value);
            }
            Message::Answer { partition, producer, admission, error } => {
                self.on_answer(partition, producer, admission, error);
            }
            Message::Marker { partition, producer, coordinator_epoch, commit, round } => {
                self.on_marker(partition, producer, coordinator_epoch, commit, round);
            }
            Message::Marked { partition, coordinator_epoch, round, result } => {
                let result = match result {
                    0 => MarkerResult::Done,
                    1 => MarkerResult::NotNow,
                    _ => MarkerResult::Fenced,
                };
                let partition = named(partition);
                let event =
                    MarkerEvent { transactional_id: ID.into(), coordinator_epoch, round, partition, result };
                let outcome = self.coordinator.on_marker(&event, self.now);
                self.take(outcome);
            }
            Message::Reply { client, op, error, producer } => self.on_reply(client, op, error, producer),
        }
    }

    // Partitions

    fn on_produce(&mut self, client: usize, op: usize, producer: Producer, sequence: i32, value: Value) {
        let index = value.2;
        let partition = &mut self.partitions[index];
        if let Some(queue) = partition.queues.get_mut(&producer)
            && !self.rules.unordered
        {
            queue.push_back((client, op, sequence, value));
            return;
        }
        let batch = ModelBatch { producer_id: producer.0, producer_epoch: producer.1, sequence };
        match partition.log.apply_for_admission(&batch, self.now) {
            Err(error) => self.reply_to(client, op, error.code().code(), producer),
            Ok(None) => self.append(client, op, producer, sequence, value, None),
            Ok(Some(admission)) => {
                partition.admissions.insert(admission.number(), admission);
                partition.queues.entry(producer).or_default().push_back((client, op, sequence, value));
                let admission = admission.number();
                self.flight.push(Message::Ask { partition: index, producer, admission });
            }
        }
    }

    fn on_answer(&mut self, partition: usize, producer: Producer, admission: u64, error: i16) {
        let queue = self.partitions[partition].queues.remove(&producer).unwrap_or_default();
        let admission = self.partitions[partition].admissions.get(&admission).copied();
        for (client, op, sequence, value) in queue {
            if error == 0 {
                self.append(client, op, producer, sequence, value, admission);
            } else {
                self.reply_to(client, op, error, producer);
            }
        }
    }

    fn append(
        &mut self,
        client: usize,
        op: usize,
        producer: Producer,
        sequence: i32,
        value: Value,
        admission: Option<Admission>,
    ) {
        let partition = &mut self.partitions[value.2];
        let batch = ModelBatch { producer_id: producer.0, producer_epoch: producer.1, sequence };
        let origin = AppendOrigin::Client { zstd_allowed: true, admission };
        match partition.log.append(&batch, origin) {
            Err(error) => self.reply_to(client, op, error.code().code(), producer),
            Ok(ModelAppend::Duplicate) => self.reply_to(client, op, 0, producer),
            Ok(ModelAppend::At(offset, _)) => {
                partition.entries.push(Entry { offset, producer, value: Some(value), commit: false });
                if self.fenced_below.get(&producer.0).is_some_and(|fenced| producer.1 < *fenced) {
                    self.break_promise(format!(
                        "{value:?} of {producer:?} is appended although it is fenced"
                    ));
                }
                self.reply_to(client, op, 0, producer);
            }
        }
    }

    fn on_marker(
        &mut self,
        index: usize,
        producer: Producer,
        coordinator_epoch: i32,
        commit: bool,
        round: u64,
    ) {
        let partition = &mut self.partitions[index];
        let batch = ModelBatch { producer_id: producer.0, producer_epoch: producer.1, sequence: -1 };
        let result = match partition.log.append_marker(&batch, commit, coordinator_epoch) {
            Ok(ModelAppend::At(offset, aborted)) => {
                partition.entries.push(Entry { offset, producer, value: None, commit });
                partition.aborted.extend(aborted);
                0
            }
            Ok(ModelAppend::Duplicate) => unreachable!("a marker is no duplicate"),
            Err(error) if error.code() == ErrorCode::TransactionCoordinatorFenced => 2,
            Err(_) => 0,
        };
        self.flight.push(Message::Marked { partition: index, coordinator_epoch, round, result });
    }

    /// The answers that the network lost make nobody wait for ever: a client asks again.
    pub fn send(&mut self, client: usize) {
        if let Some(message) = self.clients[client].message(client) {
            self.flight.push(message);
        }
    }

    fn on_reply(&mut self, client: usize, op: usize, error: i16, producer: Producer) {
        if let Err(broken) = self.clients[client].on_reply(op, ErrorCode::from_code(error), producer) {
            self.break_promise(format!("client {client}: {broken}"));
        }
    }

    /// Whether a client could be fenced, so that a refusal is no broken promise.
    pub fn start_client(&mut self, script: Vec<Op>) {
        let may_be_fenced = !self.clients.is_empty();
        for client in &mut self.clients {
            client.may_be_fenced = true;
        }
        self.clients.push(Client::new(script, may_be_fenced));
    }
}

fn named(partition: usize) -> TopicPartition {
    ("t".into(), partition as i32)
}

fn new_coordinator(rules: Rules, ids: Arc<Ids>) -> TransactionCoordinator {
    let config = TransactionConfig { guards: rules.coordinator, ..TransactionConfig::default() };
    TransactionCoordinator::new(config, TransactionVersion::V2, ids)
}
