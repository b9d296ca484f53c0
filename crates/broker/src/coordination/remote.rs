//! What the coordinators of this node have to say to other brokers, and what its partitions ask of coordinators elsewhere (Kafka:
//! `TransactionMarkerChannelManager`, `AddPartitionsToTxnManager`).
//!
//! The tricky idea: nothing here decides. A marker whose partition is led elsewhere, and a question whose coordinator is, become part of a
//! request, and what comes back ends where the answer of this node would have: with an error for each, or with the same error for all when
//! there is no answer. Whoever waits repeats what can be repeated. One request of each kind is under way to a broker at a time, and takes
//! with it everything that gathered meanwhile.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_coordinator::transaction::{MarkerEvent, PartitionsAnswer, TopicPartition};
use ottla_metadata::topic_name::TRANSACTION_STATE;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use ottla_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResponse;
use ottla_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use ottla_protocol::messages::write_txn_markers_response::WriteTxnMarkersResponse;
use ottla_protocol::{ErrorCode, Message, Reader};

use crate::Broker;
use crate::coordination::admission::Ask;
use crate::coordination::markers::{MarkerWaiter, PartitionMarker};
use crate::effect::{Effects, Millis};
use crate::peers::{Awaited, Lane};
use crate::sessions::lock;

/// Markers, or questions, that may wait for one broker; whoever brings more is told to come back later.
const WAITING_MAX: usize = 10_000;
/// How many of them one request takes along.
const REQUEST_MAX: usize = 1_000;
/// The version that says by which rules the transaction was ended (KIP-1228).
const WRITE_MARKERS_VERSION: i16 = 2;
/// The newest version that brokers speak.
const ADD_PARTITIONS_VERSION: i16 = 5;

/// A marker for a partition that another broker leads.
#[derive(Debug, Clone)]
pub(crate) struct MarkerLetter {
    pub marker: PartitionMarker,
    /// Names the partition, and is what the coordinator hears.
    pub event: Arc<MarkerEvent>,
}

/// What waits for other brokers, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    markers: Mutex<BTreeMap<i32, Mailbox<MarkerLetter>>>,
    asks: Mutex<BTreeMap<i32, Mailbox<Arc<Ask>>>>,
}

/// What waits for one broker.
#[derive(Debug)]
struct Mailbox<T> {
    waiting: VecDeque<T>,
    /// A request is under way.
    is_busy: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox { waiting: VecDeque::new(), is_busy: false }
    }
}

impl<T> Mailbox<T> {
    /// Takes something in, unless there is too much already.
    fn post(&mut self, letter: T) -> Result<(), T> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(letter);
        }
        self.waiting.push_back(letter);
        Ok(())
    }

    /// What the next request takes along, in the order in which it came, if none is under way; what does not fit in waits for another.
    fn take(&mut self, mut fits: impl FnMut(&T) -> bool) -> Vec<T> {
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        if self.is_busy {
            return taken;
        }
        for letter in std::mem::take(&mut self.waiting) {
            if taken.len() < REQUEST_MAX && fits(&letter) {
                taken.push(letter);
            } else {
                left.push_back(letter);
            }
        }
        self.waiting = left;
        self.is_busy = !taken.is_empty();
        taken
    }
}

impl Broker {
    /// Who leads a partition, as far as this node knows.
    pub(crate) fn leader_of(&self, topic: &str, index: i32) -> Option<i32> {
        let image = self.image();
        let described = image.topic_by_name(topic)?.partitions.get(&PartitionId(index))?;
        described.leader.map(|leader| leader.0)
    }

    /// Hands a marker to the broker that leads its partition. It is sent by [`Broker::send_markers`].
    pub(crate) fn post_marker(&self, broker: i32, letter: MarkerLetter, now: Millis, out: &mut Effects) {
        let posted = lock(&self.remotes.markers).entry(broker).or_default().post(letter);
        if let Err(letter) = posted {
            self.settle_letter(&letter, ErrorCode::LeaderNotAvailable, now, out);
        }
    }

    /// Sends the markers that wait for a broker, unless it has not answered the last ones yet.
    pub(crate) fn send_markers(&self, broker: i32, now: Millis, out: &mut Effects) {
        let letters = {
            let mut mailboxes = lock(&self.remotes.markers);
            let Some(mailbox) = mailboxes.get_mut(&broker) else { return };
            // The answer names producers only: a request ends one transaction of each.
            let mut of_producers = BTreeMap::new();
            mailbox.take(|letter| match of_producers.entry(letter.marker.producer_id) {
                Entry::Vacant(entry) => *entry.insert(letter.marker) == letter.marker,
                Entry::Occupied(entry) => *entry.get() == letter.marker,
            })
        };
        if letters.is_empty() {
            return;
        }
        let Some(to) = self.broker_peer(broker, Lane::Markers) else {
            return self.on_markers_answered(broker, &letters, None, WRITE_MARKERS_VERSION, now, out);
        };
        let mut by_producer: BTreeMap<i64, (PartitionMarker, BTreeMap<&str, Vec<i32>>)> = BTreeMap::new();
        for MarkerLetter { marker, event } in &letters {
            let (_, topics) =
                by_producer.entry(marker.producer_id).or_insert_with(|| (*marker, BTreeMap::new()));
            topics.entry(&event.partition.0).or_default().push(event.partition.1);
        }
        let markers = by_producer.into_values().map(|(marker, topics)| WritableTxnMarker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            transaction_result: marker.commit,
            topics: topics
                .into_iter()
                .map(|(name, partition_indexes)| WritableTxnMarkerTopic {
                    name: name.to_owned().into(),
                    partition_indexes,
                })
                .collect(),
            coordinator_epoch: marker.coordinator_epoch,
            transaction_version: marker.version.0 as i8,
        });
        let request = WriteTxnMarkersRequest { markers: markers.collect() };
        let timeout_ms = i64::from(self.config.network.request_timeout_ms);
        let awaited = Awaited::Markers { broker, letters };
        self.peers.send(to, (&request, WRITE_MARKERS_VERSION), awaited, timeout_ms, out);
    }

    /// A broker answered the markers that were sent to it, or did not: then they are sent again, by whoever they are for.
    pub(crate) fn on_markers_answered(
        &self,
        broker: i32,
        letters: &[MarkerLetter],
        body: Option<&Bytes>,
        version: i16,
        now: Millis,
        out: &mut Effects,
    ) {
        let response =
            body.and_then(|frame| WriteTxnMarkersResponse::decode(&mut Reader::new(frame), version).ok());
        let mut errors: BTreeMap<(i64, &str, i32), ErrorCode> = BTreeMap::new();
        for marker in response.iter().flat_map(|response| &response.markers) {
            for topic in &marker.topics {
                for partition in &topic.partitions {
                    let key = (marker.producer_id, &*topic.name, partition.partition_index);
                    errors.insert(key, ErrorCode::from_code(partition.error_code));
                }
            }
        }
        if let Some(mailbox) = lock(&self.remotes.markers).get_mut(&broker) {
            mailbox.is_busy = false;
        }
        for letter in letters {
            let (topic, index) = &letter.event.partition;
            let told = errors.get(&(letter.marker.producer_id, &**topic, *index)).copied();
            self.settle_letter(letter, told.unwrap_or(ErrorCode::NetworkException), now, out);
        }
        self.send_markers(broker, now, out);
    }

    fn settle_letter(&self, letter: &MarkerLetter, error: ErrorCode, now: Millis, out: &mut Effects) {
        self.on_marker_settled(&MarkerWaiter::Coordinator(letter.event.clone()), error, now, out);
    }

    /// The broker that coordinates a transaction. `Err`: nobody does.
    pub(super) fn transaction_coordinator(&self, transactional_id: &str) -> Result<i32, ErrorCode> {
        let index = self.transactions.partition_of(transactional_id);
        let leader = index.and_then(|index| self.leader_of(TRANSACTION_STATE, index));
        leader.ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// Asks a coordinator on another broker.
    pub(super) fn post_ask(&self, broker: i32, ask: &Arc<Ask>, now: Millis, out: &mut Effects) {
        let posted = lock(&self.remotes.asks).entry(broker).or_default().post(ask.clone());
        match posted {
            Ok(()) => self.send_asks(broker, now, out),
            Err(ask) => {
                let error = ErrorCode::CoordinatorNotAvailable;
                let answer = PartitionsAnswer::all(&ask.transactional_id, &ask.partitions, error);
                self.on_ask_answered(&ask, &answer, now, out);
            }
        }
    }

    fn send_asks(&self, broker: i32, now: Millis, out: &mut Effects) {
        let asks = {
            let mut mailboxes = lock(&self.remotes.asks);
            let Some(mailbox) = mailboxes.get_mut(&broker) else { return };
            // The answer names transactional ids only: a request asks once for each.
            let mut ids = BTreeSet::new();
            mailbox.take(|ask| ids.insert(ask.transactional_id.clone()))
        };
        if asks.is_empty() {
            return;
        }
        let Some(to) = self.broker_peer(broker, Lane::Transactions) else {
            return self.on_asks_answered(broker, &asks, None, ADD_PARTITIONS_VERSION, now, out);
        };
        let transactions = asks.iter().map(|ask| AddPartitionsToTxnTransaction {
            transactional_id: ask.transactional_id.clone().into(),
            producer_id: ask.producer_id,
            producer_epoch: ask.producer_epoch,
            verify_only: !ask.adds,
            topics: by_topic(&ask.partitions),
        });
        let request =
            AddPartitionsToTxnRequest { transactions: transactions.collect(), ..Default::default() };
        let timeout_ms = i64::from(self.config.network.request_timeout_ms);
        let awaited = Awaited::Admissions { broker, asks };
        self.peers.send(to, (&request, ADD_PARTITIONS_VERSION), awaited, timeout_ms, out);
    }

    /// A broker answered for the coordinators that are on it, or did not.
    pub(crate) fn on_asks_answered(
        &self,
        broker: i32,
        asks: &[Arc<Ask>],
        body: Option<&Bytes>,
        version: i16,
        now: Millis,
        out: &mut Effects,
    ) {
        let response =
            body.and_then(|frame| AddPartitionsToTxnResponse::decode(&mut Reader::new(frame), version).ok());
        let for_all = match response.as_ref().map(|response| ErrorCode::from_code(response.error_code)) {
            Some(ErrorCode::None) => None,
            Some(ErrorCode::ClusterAuthorizationFailed) => Some(ErrorCode::InvalidTxnState),
            Some(error) => Some(error),
            None => Some(ErrorCode::NetworkException),
        };
        let mut errors: BTreeMap<(&str, &str, i32), ErrorCode> = BTreeMap::new();
        for transaction in response.iter().flat_map(|response| &response.results_by_transaction) {
            for topic in &transaction.topic_results {
                for partition in &topic.results_by_partition {
                    let key = (&*transaction.transactional_id, &*topic.name, partition.partition_index);
                    errors.insert(key, ErrorCode::from_code(partition.partition_error_code));
                }
            }
        }
        if let Some(mailbox) = lock(&self.remotes.asks).get_mut(&broker) {
            mailbox.is_busy = false;
        }
        for ask in asks {
            let told = ask.partitions.iter().map(|partition| {
                let key = (&*ask.transactional_id, &*partition.0, partition.1);
                let error = for_all.or_else(|| errors.get(&key).copied());
                (partition.clone(), error.unwrap_or(ErrorCode::NetworkException))
            });
            let partitions = told.collect();
            let answer =
                PartitionsAnswer { transactional_id: ask.transactional_id.as_str().into(), partitions };
            self.on_ask_answered(ask, &answer, now, out);
        }
        self.send_asks(broker, now, out);
    }
}

fn by_topic(partitions: &[TopicPartition]) -> Vec<AddPartitionsToTxnTopic<'static>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in partitions {
        topics.entry(topic).or_default().push(*index);
    }
    let topics = topics.into_iter();
    topics
        .map(|(name, partitions)| AddPartitionsToTxnTopic { name: name.to_owned().into(), partitions })
        .collect()
}
