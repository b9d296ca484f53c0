//! A transactional producer of a simulated cluster, as a state machine: it looks for its coordinators, writes to several partitions, commits
//! offsets with it, ends the transaction, and dies at times. What it was told is what the check goes by.
//!
//! The tricky idea: an answer that never comes is not an answer. A commit that was asked for and not confirmed may have happened.

use bytes::Bytes;
use ottla_broker::Millis;
use ottla_protocol::ids::PartitionId;
use ottla_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use ottla_protocol::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;
use ottla_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use ottla_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResponse;
use ottla_protocol::messages::end_txn_request::EndTxnRequest;
use ottla_protocol::messages::end_txn_response::EndTxnResponse;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use ottla_protocol::messages::txn_offset_commit_response::TxnOffsetCommitResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Records, Request};

use super::transactions::{LEDGER, PARTITIONS};
use super::world::Cluster;
use crate::client::{frame, read};

/// Every request is answered within this time, whatever happens to the cluster.
const ANSWERED_MS: Millis = 90_000;
/// Shorter than any fault that is worth the name, so that coordinators abort as well.
const TRANSACTION_TIMEOUT_MS: i32 = 8_000;

/// How a transaction ended, as far as the producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    Aborted,
    /// It asked to commit, and never heard.
    Unknown,
}

/// A transaction that the producer is done with.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub values: Vec<(i32, u64)>,
    /// The offset that was committed with it.
    pub offset: Option<i64>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Default)]
struct Current {
    /// What it writes, one batch after the other.
    values: Vec<(i32, u64)>,
    written: usize,
    /// Partitions that were added (before version 2).
    added: Vec<i32>,
    offset: Option<i64>,
    offsets_added: bool,
    offsets_committed: bool,
    commits: bool,
    /// EndTxn was sent at least once.
    is_ending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Find,
    Init,
    Add(i32),
    Write,
    AddOffsets,
    FindGroup,
    CommitOffsets,
    End,
}

#[derive(Debug)]
struct InFlight {
    request: u64,
    step: Step,
    since: Millis,
    /// When the producer gives up and asks again, on another connection.
    until: Millis,
}

#[derive(Debug)]
pub(super) struct Writer {
    index: u64,
    /// Plays by the rules of version 2 (KIP-890).
    is_modern: bool,
    coordinator: Option<usize>,
    group_coordinator: Option<usize>,
    producer: Option<(i64, i16)>,
    sequences: [i32; PARTITIONS as usize],
    current: Option<Current>,
    in_flight: Option<InFlight>,
    rest_until: Millis,
    next_value: u64,
    next_offset: i64,
    pub past: Vec<Past>,
    is_stopping: bool,
    /// It stopped, and left nothing open behind.
    pub has_stopped: bool,
}

/// What becomes of a request that was refused.
enum Advice {
    Retry,
    /// Another node coordinates, maybe.
    Look,
    /// The transaction can not be saved.
    Abort,
}

fn advice(error: ErrorCode) -> Advice {
    match error {
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => Advice::Look,
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::ConcurrentTransactions
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut
        | ErrorCode::NetworkException
        | ErrorCode::UnstableOffsetCommit
        | ErrorCode::KafkaStorageError => Advice::Retry,
        _ => Advice::Abort,
    }
}

impl Writer {
    pub fn new(index: u64, is_modern: bool) -> Writer {
        Writer {
            index,
            is_modern,
            coordinator: None,
            group_coordinator: None,
            producer: None,
            sequences: [0; PARTITIONS as usize],
            current: None,
            in_flight: None,
            rest_until: 0,
            next_value: 0,
            next_offset: 1,
            past: Vec::new(),
            is_stopping: false,
            has_stopped: false,
        }
    }

    pub fn transactional_id(&self) -> String {
        format!("writer-{}", self.index)
    }

    pub fn group(&self) -> String {
        format!("group-{}", self.index)
    }

    /// The process ends, in the middle of whatever it does; another one takes its place.
    pub fn die(&mut self) {
        self.in_flight = None;
        self.abandon();
    }

    /// No further transaction: what is open is aborted.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        self.die();
    }

    /// Goes on without the open transaction: whoever initialises the producer anew aborts it, unless it was decided before.
    fn abandon(&mut self) {
        self.producer = None;
        let Some(current) = self.current.take() else { return };
        let is_decided = current.is_ending && current.commits;
        self.close(current, if is_decided { Outcome::Unknown } else { Outcome::Aborted });
    }

    fn close(&mut self, current: Current, outcome: Outcome) {
        let Current { values, written, offset, offsets_committed, .. } = current;
        let offset = offset.filter(|_| offsets_committed || outcome != Outcome::Committed);
        // What was not acknowledged may be there, if the transaction was aborted: it must not be seen.
        let values = if outcome == Outcome::Committed { values[..written].to_vec() } else { values };
        self.past.push(Past { values, offset, outcome });
    }

    /// Takes an answer if there is one, and asks for the next thing if nothing is under way.
    pub fn advance(&mut self, cluster: &mut Cluster) -> Result<(), String> {
        if self.has_stopped {
            return Ok(());
        }
        if let Some(InFlight { request, step, since, until }) = self.in_flight {
            match cluster.take_answer(request) {
                Some(answer) => {
                    self.in_flight = None;
                    // Not at once again: the cluster shall get on.
                    self.rest_until = cluster.now + 20;
                    match answer {
                        Some(answer) => self.take(step, &answer)?,
                        None => self.look_again(step),
                    }
                }
                None if cluster.now - since > ANSWERED_MS => {
                    return Err(format!("{}: {step:?} is never answered", self.transactional_id()));
                }
                None if cluster.now >= until => {
                    self.in_flight = None;
                    self.look_again(step);
                }
                None => return Ok(()),
            }
        }
        if self.has_stopped || cluster.now < self.rest_until {
            return Ok(());
        }
        self.ask(cluster);
        Ok(())
    }

    fn look_again(&mut self, step: Step) {
        match step {
            Step::CommitOffsets | Step::FindGroup => self.group_coordinator = None,
            Step::Write => {}
            _ => self.coordinator = None,
        }
    }

    fn next_step(&mut self, cluster: &mut Cluster) -> Step {
        if self.coordinator.is_none() {
            return Step::Find;
        }
        if self.producer.is_none() {
            return Step::Init;
        }
        if self.current.is_none() {
            self.current = Some(self.begin(cluster));
        }
        let current = self.current.as_ref().expect("begun above");
        if current.is_ending {
            return Step::End;
        }
        if let Some((partition, _)) = current.values.get(current.written) {
            if !self.is_modern && !current.added.contains(partition) {
                return Step::Add(*partition);
            }
            return Step::Write;
        }
        if current.offset.is_some() && !current.offsets_committed {
            if !self.is_modern && !current.offsets_added {
                return Step::AddOffsets;
            }
            return if self.group_coordinator.is_some() { Step::CommitOffsets } else { Step::FindGroup };
        }
        Step::End
    }

    fn begin(&mut self, cluster: &mut Cluster) -> Current {
        let mut values = Vec::new();
        for partition in 0..PARTITIONS {
            for _ in 0..cluster.dice.below(3) {
                self.next_value += 1;
                values.push((partition, (self.index << 32) | self.next_value));
            }
        }
        let offset = (cluster.dice.once_in(2) || values.is_empty()).then(|| {
            self.next_offset += 1;
            self.next_offset
        });
        Current { values, offset, commits: !cluster.dice.once_in(3), ..Current::default() }
    }

    fn ask(&mut self, cluster: &mut Cluster) {
        let step = self.next_step(cluster);
        let Some((node, frame)) = self.request(step, cluster) else { return };
        let request = cluster.ask(node, frame);
        // A request of version 2 may be overtaken by its own repetition; those of before have no protection against it.
        let patience =
            if self.is_modern { 500 + cluster.dice.below(20_000) as Millis } else { 2 * ANSWERED_MS };
        let (since, until) = (cluster.now, cluster.now + patience);
        self.in_flight = Some(InFlight { request, step, since, until });
    }

    /// Where the next request goes, and what it says. `None`: there is nobody to ask.
    fn request(&mut self, step: Step, cluster: &mut Cluster) -> Option<(usize, Bytes)> {
        let transactional_id = self.transactional_id();
        let (producer_id, producer_epoch) = self.producer.unwrap_or((-1, -1));
        let current = self.current.as_mut();
        let coordinator = self.coordinator;
        Some(match step {
            Step::Find | Step::FindGroup => {
                let (key, key_type) =
                    if step == Step::Find { (transactional_id, 1) } else { (self.group(), 0) };
                let request = FindCoordinatorRequest { key: key.into(), key_type, ..Default::default() };
                (cluster.any_server()?, frame(&request, 3))
            }
            Step::Init => {
                let request = InitProducerIdRequest {
                    transactional_id: Some(transactional_id.into()),
                    transaction_timeout_ms: TRANSACTION_TIMEOUT_MS,
                    producer_id: -1,
                    producer_epoch: -1,
                    ..Default::default()
                };
                (coordinator?, frame(&request, 4))
            }
            Step::Add(partition) => {
                let topic = AddPartitionsToTxnTopic { name: LEDGER.into(), partitions: vec![partition] };
                let request = AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: transactional_id.into(),
                    v3_and_below_producer_id: producer_id,
                    v3_and_below_producer_epoch: producer_epoch,
                    v3_and_below_topics: vec![topic],
                    ..Default::default()
                };
                (coordinator?, frame(&request, 3))
            }
            Step::Write => {
                let current = current?;
                let (partition, value) = current.values[current.written];
                let mut batch = BatchBuilder::new(
                    0,
                    BatchOptions {
                        producer_id,
                        producer_epoch,
                        base_sequence: self.sequences[partition as usize],
                        transactional: true,
                        ..BatchOptions::default()
                    },
                );
                batch.push(cluster.now, None, Some(&value.to_be_bytes()), &[]);
                let batch = batch.finish();
                let data = PartitionProduceData { index: partition, records: Some(Records::Slice(&batch)) };
                let topic = TopicProduceData {
                    name: LEDGER.into(),
                    partition_data: vec![data],
                    ..Default::default()
                };
                let request = ProduceRequest {
                    transactional_id: Some(transactional_id.into()),
                    acks: -1,
                    timeout_ms: 3_000,
                    topic_data: vec![topic],
                };
                let leader = cluster.leader(LEDGER, PartitionId(partition))?;
                (leader, frame(&request, self.produce_version()))
            }
            Step::AddOffsets => {
                let request = AddOffsetsToTxnRequest {
                    transactional_id: transactional_id.into(),
                    producer_id,
                    producer_epoch,
                    group_id: self.group().into(),
                };
                (coordinator?, frame(&request, 3))
            }
            Step::CommitOffsets => {
                let partition = TxnOffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: current?.offset?,
                    ..Default::default()
                };
                let topic = TxnOffsetCommitRequestTopic {
                    name: LEDGER.into(),
                    partitions: vec![partition],
                    ..Default::default()
                };
                let request = TxnOffsetCommitRequest {
                    transactional_id: transactional_id.into(),
                    group_id: self.group().into(),
                    producer_id,
                    producer_epoch,
                    generation_id_or_member_epoch: -1,
                    topics: vec![topic],
                    ..Default::default()
                };
                (self.group_coordinator?, frame(&request, self.offsets_version()))
            }
            Step::End => {
                let current = current?;
                current.is_ending = true;
                let request = EndTxnRequest {
                    transactional_id: transactional_id.into(),
                    producer_id,
                    producer_epoch,
                    committed: current.commits,
                };
                (coordinator?, frame(&request, self.end_version()))
            }
        })
    }

    fn produce_version(&self) -> i16 {
        if self.is_modern { 12 } else { 11 }
    }

    fn offsets_version(&self) -> i16 {
        if self.is_modern { 5 } else { 4 }
    }

    fn end_version(&self) -> i16 {
        if self.is_modern { 5 } else { 4 }
    }

    fn take(&mut self, step: Step, answer: &Bytes) -> Result<(), String> {
        match step {
            Step::Find | Step::FindGroup => {
                let response: FindCoordinatorResponse<'_> = body::<FindCoordinatorRequest<'_>, _>(answer, 3)?;
                let found = (response.error_code == 0).then_some(response.node_id as usize - 1);
                if step == Step::Find {
                    self.coordinator = found;
                } else {
                    self.group_coordinator = found;
                }
            }
            Step::Init => {
                let response: InitProducerIdResponse = body::<InitProducerIdRequest<'_>, _>(answer, 4)?;
                if response.error_code != 0 {
                    return self.refused(step, response.error_code);
                }
                self.producer = Some((response.producer_id, response.producer_epoch));
                self.sequences = [0; PARTITIONS as usize];
                self.has_stopped = self.is_stopping;
            }
            Step::Add(partition) => {
                let response: AddPartitionsToTxnResponse<'_> =
                    body::<AddPartitionsToTxnRequest<'_>, _>(answer, 3)?;
                let error =
                    response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
                if error != 0 {
                    return self.refused(step, error);
                }
                if let Some(current) = &mut self.current {
                    current.added.push(partition);
                }
            }
            Step::Write => {
                let version = self.produce_version();
                let response: ProduceResponse<'_> = body::<ProduceRequest<'_>, _>(answer, version)?;
                let error = response.responses[0].partition_responses[0].error_code;
                if error != 0 && error != ErrorCode::DuplicateSequenceNumber.code() {
                    return self.refused(step, error);
                }
                if let Some(current) = &mut self.current {
                    let (partition, _) = current.values[current.written];
                    current.written += 1;
                    self.sequences[partition as usize] += 1;
                }
            }
            Step::AddOffsets => {
                let response: AddOffsetsToTxnResponse = body::<AddOffsetsToTxnRequest<'_>, _>(answer, 3)?;
                if response.error_code != 0 {
                    return self.refused(step, response.error_code);
                }
                if let Some(current) = &mut self.current {
                    current.offsets_added = true;
                }
            }
            Step::CommitOffsets => {
                let version = self.offsets_version();
                let response: TxnOffsetCommitResponse<'_> =
                    body::<TxnOffsetCommitRequest<'_>, _>(answer, version)?;
                let error = response.topics[0].partitions[0].error_code;
                if error != 0 {
                    return self.refused(step, error);
                }
                if let Some(current) = &mut self.current {
                    current.offsets_committed = true;
                }
            }
            Step::End => {
                let response: EndTxnResponse = body::<EndTxnRequest<'_>, _>(answer, self.end_version())?;
                if response.error_code != 0 {
                    return self.refused(step, response.error_code);
                }
                let current = self.current.take().ok_or("an end of nothing")?;
                let outcome = if current.commits { Outcome::Committed } else { Outcome::Aborted };
                self.close(current, outcome);
                if self.is_modern {
                    self.producer = Some((response.producer_id, response.producer_epoch));
                    self.sequences = [0; PARTITIONS as usize];
                }
            }
        }
        Ok(())
    }

    fn refused(&mut self, step: Step, error: i16) -> Result<(), String> {
        match advice(ErrorCode::from_code(error)) {
            Advice::Retry => {}
            Advice::Look => self.look_again(step),
            Advice::Abort => self.abandon(),
        }
        Ok(())
    }
}

fn body<'a, R: Request<'a>, M: ottla_protocol::Message<'a>>(
    answer: &'a Bytes,
    version: i16,
) -> Result<M, String> {
    read(&answer[4 + R::KEY.response_header_version(version) as usize..], version)
}
