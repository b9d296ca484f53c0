//! A client of transactions: each request by its name, with what matters of its answer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_broker::Token;
use ottla_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use ottla_protocol::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;
use ottla_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use ottla_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResponse;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::describe_transactions_request::DescribeTransactionsRequest;
use ottla_protocol::messages::describe_transactions_response::DescribeTransactionsResponse;
use ottla_protocol::messages::end_txn_request::EndTxnRequest;
use ottla_protocol::messages::end_txn_response::EndTxnResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use ottla_protocol::messages::txn_offset_commit_response::TxnOffsetCommitResponse;
use ottla_protocol::records::{self, BatchBuilder, BatchOptions, ControlKey, ControlType};
use ottla_protocol::{ErrorCode, Records, Request};

use crate::client::{body, frame, read};
use crate::world::World;

pub(super) const ID: &str = "shop";
pub(super) const GROUP: &str = "billing";
const SETTINGS: &[(&str, &str)] = &[
    ("log.dirs", "/data"),
    ("num.partitions", "2"),
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
];

/// A producer id and its epoch.
pub(super) type Producer = (i64, i16);

/// The client, and the node that it talks to.
pub(super) struct Rig {
    pub world: World,
}

/// What a reader sees of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub values: Vec<String>,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
}

impl Rig {
    pub fn new(seed: u64) -> Rig {
        Rig::with(seed, &[])
    }

    pub fn with(seed: u64, more: &[(&str, &str)]) -> Rig {
        let settings: Vec<_> = SETTINGS.iter().chain(more).copied().collect();
        let mut rig = Rig { world: World::new(seed, &settings).expect("an empty disk starts") };
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        };
        rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
        rig.find_coordinator(1, ID);
        rig.find_coordinator(0, GROUP);
        rig
    }

    pub fn find_coordinator(&mut self, key_type: i8, key: &str) -> i16 {
        let request = FindCoordinatorRequest { key: key.into(), key_type, ..Default::default() };
        let answer = self.ask(&request, 3);
        read::<FindCoordinatorResponse<'_>>(&answer, 3).unwrap().error_code
    }

    pub fn send<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Token {
        self.world.send(frame(request, version))
    }

    /// The answer if it comes within `ms` of virtual time.
    pub fn answer<'a, R: Request<'a>>(&mut self, token: Token, version: i16, ms: i64) -> Option<Bytes> {
        let until = self.world.now + ms;
        loop {
            if let Some(response) = self.world.take_answer(token) {
                return Some(body::<R>(response, version).expect("an answer with a body"));
            }
            if !self.world.step(until) {
                return None;
            }
        }
    }

    pub fn ask<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> Bytes {
        let token = self.send(request, version);
        self.answer::<R>(token, version, 60_000).unwrap_or_else(|| panic!("{} is never answered", R::NAME))
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: i64) {
        let until = self.world.now + ms;
        while self.world.step(until) {}
    }

    pub fn init_once(&mut self, expected: Option<Producer>) -> Result<Producer, ErrorCode> {
        let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.into()),
            transaction_timeout_ms: 60_000,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        let answer = self.ask(&request, 4);
        let response: InitProducerIdResponse = read(&answer, 4).unwrap();
        code(response.error_code).map(|()| (response.producer_id, response.producer_epoch))
    }

    /// As clients do: CONCURRENT_TRANSACTIONS is tried again.
    pub fn init(&mut self) -> Producer {
        for _ in 0..100 {
            match self.init_once(None) {
                Err(ErrorCode::ConcurrentTransactions) => self.pass(20),
                result => return result.expect("InitProducerId"),
            }
        }
        panic!("a transaction never ends");
    }

    pub fn add(&mut self, (id, epoch): Producer, partitions: &[i32]) -> Result<(), ErrorCode> {
        let topic = AddPartitionsToTxnTopic { name: "t".into(), partitions: partitions.to_vec() };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.into(),
            v3_and_below_producer_id: id,
            v3_and_below_producer_epoch: epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        let answer = self.ask(&request, 3);
        let response: AddPartitionsToTxnResponse<'_> = read(&answer, 3).unwrap();
        code(response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)
    }

    pub fn send_produce(
        &mut self,
        version: i16,
        (producer_id, producer_epoch): Producer,
        partition: i32,
        base_sequence: i32,
        values: &[&str],
    ) -> Token {
        let options = BatchOptions {
            producer_id,
            producer_epoch,
            base_sequence,
            transactional: true,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(0, options);
        for value in values {
            builder.push(self.world.now, None, Some(value.as_bytes()), &[]);
        }
        let batch = builder.finish();
        let data = PartitionProduceData { index: partition, records: Some(Records::Slice(&batch)) };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest {
            transactional_id: Some(ID.into()),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![topic],
        };
        self.send(&request, version)
    }

    pub fn produced(&mut self, token: Token, version: i16) -> Result<i64, ErrorCode> {
        let answer = self.answer::<ProduceRequest<'_>>(token, version, 60_000).expect("an answer");
        let response: ProduceResponse<'_> = read(&answer, version).unwrap();
        let told = &response.responses[0].partition_responses[0];
        code(told.error_code).map(|()| told.base_offset)
    }

    /// Produces by the rules of version 2.
    pub fn produce(
        &mut self,
        producer: Producer,
        partition: i32,
        sequence: i32,
        values: &[&str],
    ) -> Result<i64, ErrorCode> {
        let token = self.send_produce(12, producer, partition, sequence, values);
        self.produced(token, 12)
    }

    pub fn send_end(
        &mut self,
        version: i16,
        (producer_id, producer_epoch): Producer,
        committed: bool,
    ) -> Token {
        let request = EndTxnRequest { transactional_id: ID.into(), producer_id, producer_epoch, committed };
        self.send(&request, version)
    }

    pub fn ended(&mut self, token: Token, version: i16) -> Result<Producer, ErrorCode> {
        let answer = self.answer::<EndTxnRequest<'_>>(token, version, 60_000).expect("an answer");
        let response: EndTxnResponse = read(&answer, version).unwrap();
        code(response.error_code).map(|()| (response.producer_id, response.producer_epoch))
    }

    /// Ends by the rules of version 2, trying again what passes, as clients do.
    pub fn end(&mut self, producer: Producer, committed: bool) -> Result<Producer, ErrorCode> {
        for _ in 0..100 {
            let token = self.send_end(5, producer, committed);
            match self.ended(token, 5) {
                Err(ErrorCode::ConcurrentTransactions | ErrorCode::CoordinatorNotAvailable) => self.pass(20),
                result => return result,
            }
        }
        panic!("a transaction never ends");
    }

    pub fn add_offsets(&mut self, (producer_id, producer_epoch): Producer) -> Result<(), ErrorCode> {
        let request = AddOffsetsToTxnRequest {
            transactional_id: ID.into(),
            producer_id,
            producer_epoch,
            group_id: GROUP.into(),
        };
        let answer = self.ask(&request, 3);
        code(read::<AddOffsetsToTxnResponse>(&answer, 3).unwrap().error_code)
    }

    pub fn commit_offset(
        &mut self,
        version: i16,
        (producer_id, producer_epoch): Producer,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.into(),
            group_id: GROUP.into(),
            producer_id,
            producer_epoch,
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = self.ask(&request, version);
        let response: TxnOffsetCommitResponse<'_> = read(&answer, version).unwrap();
        code(response.topics[0].partitions[0].error_code)
    }

    /// The committed offset of partition 0, for a consumer that wants only decided ones.
    pub fn committed_offset(&mut self) -> Result<i64, ErrorCode> {
        let topic =
            OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
        let group = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: Some(vec![topic]),
            member_epoch: -1,
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
        let answer = self.ask(&request, 8);
        let response: OffsetFetchResponse<'_> = read(&answer, 8).unwrap();
        code(response.groups[0].error_code)?;
        let partition = &response.groups[0].topics[0].partitions[0];
        code(partition.error_code).map(|()| partition.committed_offset)
    }

    /// Reads a partition from its beginning as a client does: control records are left out, and so are aborted ones if only committed
    /// records are wanted.
    pub fn read(&mut self, partition: i32, committed_only: bool) -> Seen {
        let mut seen = Seen::default();
        let mut offset = 0;
        loop {
            let wanted = FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            let topic = FetchTopic { topic: "t".into(), partitions: vec![wanted], ..Default::default() };
            let request = FetchRequest {
                max_wait_ms: 0,
                min_bytes: 0,
                isolation_level: i8::from(committed_only),
                topics: vec![topic],
                ..Default::default()
            };
            let answer = self.ask(&request, 11);
            let response: FetchResponse<'_> = read(&answer, 11).unwrap();
            let told = &response.responses[0].partitions[0];
            assert_eq!(told.error_code, 0, "a fetch from offset {offset}");
            seen.high_watermark = told.high_watermark;
            seen.last_stable_offset = told.last_stable_offset;
            let Some(Records::Slice(bytes)) = &told.records else { return seen };
            // Producers whose aborted transaction begins at an offset, as a consumer keeps them.
            let mut begins: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for aborted in told.aborted_transactions.iter().flatten() {
                begins.entry(aborted.first_offset).or_default().push(aborted.producer_id);
            }
            let mut aborting: BTreeSet<i64> = BTreeSet::new();
            let before = offset;
            for batch in records::batches(bytes) {
                let Ok(batch) = batch else { break };
                let header = batch.header();
                offset = header.next_offset();
                let due: Vec<i64> = begins.range(..offset).flat_map(|(_, ids)| ids.clone()).collect();
                begins.retain(|first, _| *first >= offset);
                aborting.extend(due);
                let set = batch.records(1 << 20).unwrap();
                for record in set.iter() {
                    let record = record.unwrap();
                    if header.is_control() {
                        let end = ControlKey::read(record.key).unwrap().control_type();
                        if end == Some(ControlType::Abort) {
                            aborting.remove(&header.producer_id);
                        }
                        continue;
                    }
                    let hidden =
                        committed_only && header.is_transactional() && aborting.contains(&header.producer_id);
                    if !hidden && record.offset >= before {
                        seen.values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    }
                }
            }
            if offset == before {
                return seen;
            }
        }
    }

    /// The values that readers of committed records see.
    pub fn committed(&mut self, partition: i32) -> Vec<String> {
        self.read(partition, true).values
    }

    /// State of the transactional id.
    pub fn state(&mut self) -> String {
        let request = DescribeTransactionsRequest { transactional_ids: vec![ID.into()] };
        let answer = self.ask(&request, 0);
        let response: DescribeTransactionsResponse<'_> = read(&answer, 0).unwrap();
        let state = &response.transaction_states[0];
        match code(state.error_code) {
            Ok(()) => state.transaction_state.to_string(),
            Err(error) => format!("{error:?}"),
        }
    }

    /// Waits until nothing is undecided, and says that the last stable offset is the end.
    pub fn assert_settles(&mut self) {
        self.pass(2_000);
        for partition in 0..2 {
            let seen = self.read(partition, true);
            assert_eq!(seen.last_stable_offset, seen.high_watermark, "partition {partition} is undecided");
        }
    }
}

pub(super) fn code(code: i16) -> Result<(), ErrorCode> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        error => Err(error),
    }
}
