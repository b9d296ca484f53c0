//! One transaction coordinator, a log that appends at once, and markers that are written when a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_coordinator::transaction::{
    AddPartitions, MarkerEvent, MarkerResult, Markers, TopicPartition, TransactionFilter,
};
use ottla_coordinator::{
    Context, Coordinator, Deed, Outcome, ProducerIds, Record, Response, Topics, TransactionConfig,
    TransactionCoordinator, TransactionVersion, Waiter,
};
use ottla_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use ottla_protocol::messages::end_txn_request::EndTxnRequest;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::{ErrorCode, Uuid};

pub const START: i64 = 1_700_000_000_000;
pub const TIMEOUT_MS: i32 = 60_000;

/// Producer id and epoch.
pub type Producer = (i64, i16);

/// Ids from 1,000 on; a test may take them away.
#[derive(Debug)]
pub struct Ids(pub AtomicI64);

impl ProducerIds for Ids {
    fn next(&self) -> Option<i64> {
        let next = self.0.load(Ordering::Relaxed);
        (next >= 0).then(|| self.0.fetch_add(1, Ordering::Relaxed))
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

pub struct Rig {
    pub coordinator: TransactionCoordinator,
    pub config: TransactionConfig,
    pub version: TransactionVersion,
    pub ids: Arc<Ids>,
    pub now: i64,
    pub log: Vec<Record>,
    pub fail_next: Option<ErrorCode>,
    /// Markers that nobody has written yet.
    pub markers: Vec<Markers>,
    epoch: i32,
}

pub fn part(partition: i32) -> TopicPartition {
    ("t".into(), partition)
}

impl Rig {
    pub fn new(version: TransactionVersion) -> Rig {
        Rig::with(version, TransactionConfig::default(), Vec::new())
    }

    /// A coordinator of a partition that holds these records already.
    pub fn with(version: TransactionVersion, config: TransactionConfig, log: Vec<Record>) -> Rig {
        let ids = Arc::new(Ids(AtomicI64::new(1_000)));
        let coordinator = TransactionCoordinator::new(config.clone(), version, ids.clone());
        let mut rig = Rig {
            coordinator,
            config,
            version,
            ids,
            now: START,
            log,
            fail_next: None,
            markers: Vec::new(),
            epoch: 0,
        };
        rig.fail_over();
        rig
    }

    /// Another coordinator takes over, with nothing but the log.
    pub fn fail_over(&mut self) {
        self.coordinator = TransactionCoordinator::new(self.config.clone(), self.version, self.ids.clone());
        for (offset, record) in self.log.iter().enumerate() {
            let replayed = self.coordinator.replay(&record.key, record.value.as_deref(), offset as i64, -1);
            replayed.expect("it can be read");
        }
        self.markers.clear();
        self.epoch += 1;
        let outcome = self.coordinator.on_loaded(self.epoch, self.now, &NoTopics);
        assert_eq!(self.settle(outcome), None);
    }

    /// Does what the broker does with an outcome; returns the answer, if there is one.
    fn settle(&mut self, mut outcome: Outcome) -> Option<Response> {
        let deeds = std::mem::take(&mut outcome.deeds);
        let mut replies = if outcome.records.is_empty() {
            outcome.replies
        } else if let Some(error) = self.fail_next.take() {
            return self.coordinator.on_append_failed(outcome, error, self.now).pop().map(|r| r.response);
        } else {
            let base_offset = self.log.len() as i64;
            self.log.extend(outcome.records.iter().cloned());
            self.coordinator.on_appended(outcome, base_offset, self.now)
        };
        self.markers.extend(deeds.into_iter().map(|Deed::WriteMarkers(markers)| markers));
        replies.pop().map(|reply| reply.response)
    }

    fn ask(
        &mut self,
        api_version: i16,
        handle: impl FnOnce(&mut TransactionCoordinator, &Context<'_>) -> Outcome,
    ) -> Response {
        let context = Context {
            now: self.now,
            waiter: Waiter(0),
            api_version,
            client_id: "",
            client_host: "",
            topics: &NoTopics,
        };
        let outcome = handle(&mut self.coordinator, &context);
        self.settle(outcome).expect("requests are answered at once")
    }

    pub fn init_with(
        &mut self,
        version: i16,
        request: &InitProducerIdRequest<'_>,
    ) -> Result<Producer, ErrorCode> {
        match self.ask(version, |coordinator, context| coordinator.handle_init_producer_id(request, context))
        {
            Response::InitProducerId(init) => {
                code(init.error_code).map(|()| (init.producer_id, init.producer_epoch))
            }
            other => panic!("not an answer to InitProducerId: {other:?}"),
        }
    }

    pub fn init(&mut self, id: &str, expected: Option<Producer>) -> Result<Producer, ErrorCode> {
        let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some(id.to_owned().into()),
            transaction_timeout_ms: TIMEOUT_MS,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        self.init_with(5, &request)
    }

    fn partitions(&mut self, asked: &AddPartitions<'_>) -> ErrorCode {
        match self.ask(5, |coordinator, context| coordinator.handle_add_partitions(asked, context)) {
            Response::AddPartitionsToTxn(answer) => answer.partitions[0].1,
            other => panic!("not an answer to AddPartitionsToTxn: {other:?}"),
        }
    }

    pub fn add(&mut self, id: &str, (producer_id, producer_epoch): Producer, partition: i32) -> ErrorCode {
        let partitions = [part(partition)];
        self.partitions(&AddPartitions {
            transactional_id: id,
            producer_id,
            producer_epoch,
            partitions: &partitions,
            verify_only: false,
            client_version: self.version,
        })
    }

    pub fn verify(&mut self, id: &str, (producer_id, producer_epoch): Producer, partition: i32) -> ErrorCode {
        let partitions = [part(partition)];
        self.partitions(&AddPartitions {
            transactional_id: id,
            producer_id,
            producer_epoch,
            partitions: &partitions,
            verify_only: true,
            client_version: self.version,
        })
    }

    pub fn add_offsets(&mut self, id: &str, (producer_id, producer_epoch): Producer) -> ErrorCode {
        let request = AddOffsetsToTxnRequest {
            transactional_id: id.to_owned().into(),
            producer_id,
            producer_epoch,
            group_id: "g".into(),
        };
        let partition = ("__consumer_offsets".into(), 0);
        let answer =
            self.ask(3, |coordinator, context| coordinator.handle_add_offsets(&request, partition, context));
        match answer {
            Response::AddOffsetsToTxn(added) => ErrorCode::from_code(added.error_code),
            other => panic!("not an answer to AddOffsetsToTxn: {other:?}"),
        }
    }

    pub fn end(
        &mut self,
        version: i16,
        id: &str,
        (producer_id, producer_epoch): Producer,
        committed: bool,
    ) -> Result<Producer, ErrorCode> {
        let request =
            EndTxnRequest { transactional_id: id.to_owned().into(), producer_id, producer_epoch, committed };
        match self.ask(version, |coordinator, context| coordinator.handle_end_txn(&request, context)) {
            Response::EndTxn(end) => code(end.error_code).map(|()| (end.producer_id, end.producer_epoch)),
            other => panic!("not an answer to EndTxn: {other:?}"),
        }
    }

    /// All markers that were asked for are written, or can not be.
    pub fn write_markers(&mut self, result: MarkerResult) {
        for markers in std::mem::take(&mut self.markers) {
            for partition in &markers.partitions {
                let event = MarkerEvent {
                    transactional_id: markers.transactional_id.clone(),
                    coordinator_epoch: markers.coordinator_epoch,
                    round: markers.round,
                    partition: partition.clone(),
                    result,
                };
                let outcome = self.coordinator.on_marker(&event, self.now);
                assert_eq!(self.settle(outcome), None);
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    pub fn advance(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let outcome = self.coordinator.on_timeout(self.now, &NoTopics);
            assert_eq!(self.settle(outcome), None);
        }
        self.now = until;
    }

    pub fn state(&self, id: &str) -> String {
        self.coordinator.describe(id).transaction_state.to_string()
    }

    pub fn list(&self, filter: &TransactionFilter<'_>) -> Vec<String> {
        let listed = self.coordinator.list(filter, self.now);
        listed.iter().map(|state| state.transactional_id.to_string()).collect()
    }
}

fn code(code: i16) -> Result<(), ErrorCode> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        error => Err(error),
    }
}
