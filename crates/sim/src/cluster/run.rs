//! One run of a cluster: producers write with `acks=all` while nodes die, lose their power, or are cut off, one at a time; then everything
//! heals, and what was acknowledged has to be where it was acknowledged, on a cluster whose nodes agree.

mod moves;

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_broker::Millis;
use ottla_metadata::topic_name::CONSUMER_OFFSETS;
use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Records, Request};

use super::reader::{self, Reader};
use super::transactions::{self, LEDGER, Ledger, committed_offset, offset_fetch};
use super::world::Cluster;
use crate::client::{frame, read};

const NODES: usize = 3;
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 2;
/// Virtual time of the faults.
const PLAY_MS: Millis = 40_000;
/// How long healing may take: fencing, elections and catching up, with room.
const HEAL_MS: Millis = 60_000;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterReport {
    /// A fingerprint of everything that happened: the same seed gives the same.
    pub trace: u64,
    /// Records that were acknowledged.
    pub acknowledged: usize,
    /// Transactions that were committed.
    pub committed: usize,
    /// Records that were read from whichever replica answered.
    pub read: usize,
    /// How many faults there were.
    pub faults: u64,
}

#[derive(Debug, Default)]
struct Producer {
    /// The request under way, and the value that it carries.
    in_flight: Option<(u64, u64)>,
    next_value: u64,
    acknowledged: BTreeMap<i64, u64>,
    high_watermark: i64,
}

struct Run {
    cluster: Cluster,
    producers: Vec<Producer>,
    faults: u64,
    /// When the next thing goes wrong, and when what is wrong is over.
    fault_at: Millis,
    rejoin_at: Option<Millis>,
    /// Transactions, in runs that have them.
    ledger: Option<Ledger>,
    /// Reads from all replicas, in runs that do.
    reader: Option<Reader>,
    /// Whether logs move between directories.
    moves: bool,
}

/// Runs one seed. An error is a broken promise.
pub fn run_cluster(seed: u64) -> Result<ClusterReport, String> {
    run(seed, false)
}

/// Runs one seed with transactional producers as well. An error is a broken promise.
pub fn run_cluster_transactions(seed: u64) -> Result<ClusterReport, String> {
    run(seed, true)
}

fn new(seed: u64, with_transactions: bool) -> Run {
    // Every other cluster has racks, and is read from all of its nodes.
    let reads = seed.is_multiple_of(2);
    // In some of the others logs move between directories.
    let moves = seed % 4 == 1;
    let settings = match (reads, moves) {
        (true, _) => reader::SETTINGS,
        (_, true) => moves::SETTINGS,
        _ => &[],
    };
    let mut run = new_with(seed, with_transactions, settings);
    run.moves = moves;
    run.reader = reads.then(Reader::default);
    run
}

fn new_with(seed: u64, with_transactions: bool, settings: &[(&'static str, &'static str)]) -> Run {
    let lost_one_in = [u64::MAX, 200, 40][(seed % 3) as usize];
    let mut cluster = Cluster::new(seed, NODES, lost_one_in, settings);
    let ledger = with_transactions.then(|| Ledger::new(&mut cluster));
    Run {
        cluster,
        ledger,
        reader: None,
        moves: false,
        producers: (0..PARTITIONS).map(|_| Producer::default()).collect(),
        faults: 0,
        fault_at: 0,
        rejoin_at: None,
    }
}

fn run(seed: u64, with_transactions: bool) -> Result<ClusterReport, String> {
    let mut run = new(seed, with_transactions);
    run.play().map_err(|broken| {
        let reports = run.cluster.reports.iter().rev().take(5).cloned().collect::<Vec<_>>().join("; ");
        format!("{broken} (reported: {reports})")
    })
}

impl Run {
    fn play(&mut self) -> Result<ClusterReport, String> {
        self.begin()?;
        self.create_topic(TOPIC, PARTITIONS)?;
        if self.ledger.is_some() {
            self.create_topic(LEDGER, transactions::PARTITIONS)?;
        }
        let end = self.cluster.now + PLAY_MS;
        self.fault_at = self.cluster.now + 1_000;
        while self.cluster.now < end {
            let until = self.cluster.now + 1 + self.cluster.dice.below(20) as i64;
            while self.cluster.step(until)? {}
            self.produce()?;
            if let Some(reader) = &mut self.reader {
                reader.advance(&mut self.cluster, TOPIC, PARTITIONS)?;
            }
            if let Some(ledger) = &mut self.ledger {
                ledger.advance(&mut self.cluster)?;
            }
            self.move_something();
            self.go_wrong();
        }
        self.cluster.heal();
        self.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(()))?;
        for partition in 0..PARTITIONS {
            // A new leader learns what is committed from the next fetches of its followers: a reader may have to wait for that.
            let end = self.cluster.now + HEAL_MS;
            loop {
                match self.check(partition) {
                    Err(broken) if self.cluster.now >= end => return Err(broken),
                    Err(_) => self.wait_a_second()?,
                    Ok(()) => break,
                }
            }
        }
        self.wait_for("nodes that agree", HEAL_MS, |run| run.do_agree().then_some(()))?;
        let acknowledged = self.producers.iter().map(|producer| producer.acknowledged.len()).sum();
        let committed = match self.ledger.take() {
            Some(ledger) => self.check_ledger(ledger)?,
            None => 0,
        };
        let read = self.reader.as_ref().map_or(0, |reader| reader.seen.len());
        Ok(ClusterReport { trace: self.cluster.trace, acknowledged, committed, read, faults: self.faults })
    }

    /// Everything that was begun is decided, and what was decided is so.
    fn check_ledger(&mut self, mut ledger: Ledger) -> Result<usize, String> {
        ledger.stop();
        let end = self.cluster.now + HEAL_MS;
        while !ledger.is_settled(&mut self.cluster)? {
            if self.cluster.now >= end {
                return Err(format!("transactions stay open: {ledger:?}"));
            }
            let until = self.cluster.now + 20;
            while self.cluster.step(until)? {}
        }
        let mut offsets = Vec::new();
        for group in ledger.groups() {
            let asked = self.wait_for("offsets that are stable", HEAL_MS, |run| {
                // Perhaps nobody ever came to commit one.
                let knows_none = |node| {
                    let broker = run.cluster.broker(node);
                    broker.is_some_and(|broker| broker.image().topic_by_name(CONSUMER_OFFSETS).is_none())
                };
                if (0..NODES).all(knows_none) {
                    return Some(-1);
                }
                let node = run.cluster.dice.below(NODES as u64) as usize;
                let answer = run.ask::<OffsetFetchRequest<'_>>(node, offset_fetch(&group), 7).ok()?;
                committed_offset(&answer).ok()
            });
            offsets.push(asked?);
        }
        ledger.check(&offsets)?;
        Ok(ledger.committed())
    }

    fn begin(&mut self) -> Result<(), String> {
        self.wait_for("three nodes that serve", HEAL_MS, |run| {
            (0..NODES).all(|node| run.cluster.serves(node)).then_some(())
        })
    }

    fn wait_a_second(&mut self) -> Result<(), String> {
        let until = self.cluster.now + 1_000;
        while self.cluster.step(until)? {}
        Ok(())
    }

    /// Lets the cluster go on until something is so.
    fn wait_for<T>(
        &mut self,
        what: &str,
        patience: Millis,
        mut look: impl FnMut(&mut Run) -> Option<T>,
    ) -> Result<T, String> {
        let end = self.cluster.now + patience;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if self.cluster.now >= end {
                return Err(format!("no {what} within {patience} ms"));
            }
            let until = self.cluster.now + 20;
            while self.cluster.step(until)? {}
        }
    }

    /// One thing at a time, and the next one when the cluster is whole again: more could not be survived by what is promised.
    fn go_wrong(&mut self) {
        let now = self.cluster.now;
        if self.rejoin_at.is_some_and(|at| at <= now) {
            self.rejoin_at = None;
            self.cluster.rejoin();
        }
        if now < self.fault_at || self.rejoin_at.is_some() || !self.is_whole() {
            return;
        }
        self.faults += 1;
        let node = self.cluster.dice.below(NODES as u64) as usize;
        let pause = 1 + self.cluster.dice.below(6_000) as i64;
        match self.cluster.dice.below(3) {
            0 => self.cluster.kill(node, false, pause),
            1 => self.cluster.kill(node, true, pause),
            _ => {
                self.cluster.cut_off(node);
                self.rejoin_at = Some(now + pause);
            }
        }
        self.fault_at = now + self.cluster.dice.below(3_000) as i64;
    }

    /// Whether every node serves, sees the same, and every replica is in sync.
    fn is_whole(&self) -> bool {
        (0..NODES).all(|node| {
            let Some(broker) = self.cluster.broker(node).filter(|_| self.cluster.serves(node)) else {
                return false;
            };
            let image = broker.image();
            let all_active = (1..=NODES as i32).all(|id| image.is_active(NodeId(id)));
            let mut partitions = image.topics_by_name().flat_map(|topic| topic.partitions.values());
            all_active && partitions.all(|partition| partition.isr.len() == NODES)
        })
    }

    /// Nodes that have read equally far know the same.
    fn do_agree(&self) -> bool {
        let images: Vec<_> =
            (0..NODES).filter_map(|node| self.cluster.broker(node)).map(|it| it.image().clone()).collect();
        images.len() == NODES
            && images
                .iter()
                .all(|image| image.last_offset() == images[0].last_offset() && **image == *images[0])
    }

    fn create_topic(&mut self, name: &'static str, num_partitions: i32) -> Result<(), String> {
        self.create_topic_with(name, num_partitions, ("min.insync.replicas", "2"))
    }

    fn create_topic_with(
        &mut self,
        name: &'static str,
        num_partitions: i32,
        (key, value): (&'static str, &'static str),
    ) -> Result<(), String> {
        let config = CreatableTopicConfig { name: key.into(), value: Some(value.into()) };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor: NODES as i16,
            configs: vec![config],
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..Default::default() };
        let created = self.wait_for("a topic", HEAL_MS, |run| {
            // Whoever is asked forwards it. An answer may be lost on its way: then it is there already.
            let node = run.cluster.dice.below(NODES as u64) as usize;
            let answer = run.ask::<CreateTopicsRequest<'_>>(node, frame(&request, 5), 5).ok()?;
            let response: CreateTopicsResponse<'_> = read(&answer, 5).ok()?;
            let error = ErrorCode::from_code(response.topics.first()?.error_code);
            matches!(error, ErrorCode::None | ErrorCode::TopicAlreadyExists).then_some(())
        });
        created?;
        self.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(()))
    }

    /// Every producer has one record under way; what is not acknowledged is sent anew, so that it may be there twice.
    fn produce(&mut self) -> Result<(), String> {
        for partition in 0..self.producers.len() as i32 {
            let index = partition as usize;
            if let Some((request, value)) = self.producers[index].in_flight {
                let Some(answer) = self.cluster.take_answer(request) else { continue };
                self.producers[index].in_flight = None;
                if let Some(answer) = answer {
                    self.note_acknowledgement(index, value, &answer)?;
                }
            }
            let Some(leader) = self.cluster.leader(TOPIC, PartitionId(partition)) else { continue };
            let value = self.producers[index].next_value;
            let mut batch = BatchBuilder::new(0, BatchOptions::default());
            batch.push(self.cluster.now, None, Some(&value.to_be_bytes()), &[]);
            let batch = batch.finish();
            let data = PartitionProduceData { index: partition, records: Some(Records::Slice(&batch)) };
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 3_000,
                topic_data: vec![TopicProduceData {
                    name: TOPIC.into(),
                    partition_data: vec![data],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let request = self.cluster.ask(leader, frame(&request, 9));
            let producer = &mut self.producers[index];
            producer.in_flight = Some((request, value));
            producer.next_value += 1;
        }
        Ok(())
    }

    fn note_acknowledgement(&mut self, index: usize, value: u64, answer: &Bytes) -> Result<(), String> {
        let body = answer.slice(4 + ProduceRequest::KEY.response_header_version(9) as usize..);
        let response: ProduceResponse<'_> = read(&body, 9)?;
        let told = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let told = told.ok_or("a produce response without its partition")?;
        if told.error_code != 0 {
            return Ok(());
        }
        let producer = &mut self.producers[index];
        if let Some(before) = producer.acknowledged.insert(told.base_offset, value) {
            return Err(format!(
                "{TOPIC}-{index}: values {before} and {value} were both acknowledged at offset {}",
                told.base_offset
            ));
        }
        Ok(())
    }

    /// Reads everything, and compares it with what was acknowledged.
    fn check(&mut self, partition: i32) -> Result<(), String> {
        let mut found: BTreeMap<i64, u64> = BTreeMap::new();
        let mut offset = 0;
        loop {
            let leader =
                self.wait_for("a leader", HEAL_MS, |run| run.cluster.leader(TOPIC, PartitionId(partition)))?;
            let asked = reader::fetch(TOPIC, partition, offset);
            let answer = self.ask::<FetchRequest<'_>>(leader, asked, reader::VERSION)?;
            let response: FetchResponse<'_> = read(&answer, reader::VERSION)?;
            let data = &response.responses[0].partitions[0];
            if data.error_code != 0 {
                return Err(format!("{TOPIC}-{partition}: error {} for a fetch", data.error_code));
            }
            let producer = &mut self.producers[partition as usize];
            producer.high_watermark = producer.high_watermark.max(data.high_watermark);
            let before = offset;
            for (at, value) in reader::values(data.records.as_ref())? {
                found.insert(at, value);
                offset = at + 1;
            }
            if offset == before {
                break;
            }
        }
        for (offset, value) in &self.producers[partition as usize].acknowledged {
            if found.get(offset) != Some(value) {
                return Err(format!(
                    "{TOPIC}-{partition}: value {value} was acknowledged at offset {offset}, where {:?} is",
                    found.get(offset)
                ));
            }
        }
        let seen = self.reader.iter().flat_map(|reader| &reader.seen);
        for ((_, offset), value) in seen.filter(|((at, _), _)| *at == partition) {
            if found.get(offset) != Some(value) {
                return Err(format!(
                    "{TOPIC}-{partition}: value {value} was read at offset {offset}, where {:?} is",
                    found.get(offset)
                ));
            }
        }
        Ok(())
    }

    /// Asks a node and waits for the answer, as long as a client would.
    fn ask<'a, R: Request<'a>>(&mut self, node: usize, frame: Bytes, version: i16) -> Result<Bytes, String> {
        let request = self.cluster.ask(node, frame);
        let end = self.cluster.now + HEAL_MS;
        loop {
            if let Some(answer) = self.cluster.take_answer(request) {
                let answer = answer.ok_or_else(|| format!("{} v{version} was not answered", R::NAME))?;
                return Ok(answer.slice(4 + R::KEY.response_header_version(version) as usize..));
            }
            if !self.cluster.step(end)? {
                return Err(format!("{} v{version} is not answered", R::NAME));
            }
        }
    }
}

#[cfg(test)]
mod receipts;
#[cfg(test)]
mod replication;

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::messages::alter_partition_reassignments_request::{
        AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
    };
    use ottla_protocol::messages::alter_partition_reassignments_response::AlterPartitionReassignmentsResponse;
    use ottla_protocol::messages::delete_records_request::{
        DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    };
    use ottla_protocol::messages::delete_records_response::DeleteRecordsResponse;

    /// Seeds that once failed stay here.
    const REGRESSIONS: &[u64] = &[117];

    #[test]
    fn nothing_acknowledged_is_lost_on_many_seeds() {
        let (mut acknowledged, mut read) = (0, 0);
        for seed in (0..6).chain(REGRESSIONS.iter().copied()) {
            match run_cluster(seed) {
                Ok(report) => {
                    acknowledged += report.acknowledged;
                    read += report.read;
                }
                Err(broken) => panic!("seed {seed}: {broken}"),
            }
        }
        assert!(acknowledged > 500, "a sweep in which nothing is acknowledged shows nothing");
        assert!(read > 200, "a sweep in which nothing is read shows nothing: {read}");
    }

    #[test]
    fn transactions_over_several_nodes_are_whole_on_many_seeds() {
        let mut committed = 0;
        for seed in 0..6 {
            match run_cluster_transactions(seed) {
                Ok(report) => committed += report.committed,
                Err(broken) => panic!("seed {seed}: {broken}"),
            }
        }
        assert!(committed > 100, "a sweep in which nothing is committed shows nothing: {committed}");
    }

    #[test]
    fn deleted_records_and_replicas_that_moved_leave_no_files() {
        let mut run = new(5, false);
        run.begin().expect("a cluster that serves");
        run.create_topic(TOPIC, 1).expect("a topic");
        let produced = run.wait_for("ten records", HEAL_MS, |run| {
            run.produce().expect("a sound answer");
            let acknowledged = &run.producers[0].acknowledged;
            (acknowledged.len() >= 10).then(|| acknowledged.keys().max().copied())
        });
        let newest = produced.expect("records").expect("at least ten");

        // DeleteRecords at the leader: the logs of all replicas begin later.
        let partition = DeleteRecordsPartition { partition_index: 0, offset: newest };
        let topic = DeleteRecordsTopic { name: TOPIC.into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5_000 };
        run.wait_for("a leader that deletes", HEAL_MS, |run| {
            let leader = run.cluster.leader(TOPIC, PartitionId(0))?;
            let answer = run.ask::<DeleteRecordsRequest<'_>>(leader, frame(&request, 2), 2).ok()?;
            let response: DeleteRecordsResponse<'_> = read(&answer, 2).ok()?;
            (response.topics[0].partitions[0].error_code == 0).then_some(())
        })
        .expect("records can be deleted");
        run.wait_for("logs that begin later everywhere", HEAL_MS, |run| {
            let line = format!("{TOPIC} 0 {newest}\n");
            let begins = |node| run.cluster.file(node, "log-start-offset-checkpoint").contains(&line);
            (0..NODES).all(begins).then_some(())
        })
        .expect("followers follow");

        // The replica of the third node goes.
        reassign(&mut run, &[1, 2]);
        let log = format!("{TOPIC}-0/leader-epoch-checkpoint");
        assert!(!run.cluster.file(0, &log).is_empty(), "there is a replica where there shall be one");
        let gone = |run: &mut Run| {
            let is_empty = !run.cluster.directories(2).iter().any(|name| name.starts_with(TOPIC));
            is_empty.then_some(())
        };
        run.wait_for("files that are gone", 2 * HEAL_MS, gone).expect("what was moved is removed");
        // It comes back, empty, and catches up.
        reassign(&mut run, &[1, 2, 3]);
        run.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(()))
            .expect("it comes back");
    }

    #[test]
    fn a_replica_may_leave_again_before_its_files_of_the_time_before_are_gone() {
        // With one log directory for each node.
        let mut run = new(7, false);
        run.begin().expect("a cluster that serves");
        run.create_topic(TOPIC, 1).expect("a topic");
        for round in 1..=3 {
            run.wait_for("records", HEAL_MS, |run| {
                run.produce().expect("a sound answer");
                (run.producers[0].acknowledged.len() >= 5 * round).then_some(())
            })
            .expect("somebody leads");
            reassign(&mut run, &[1, 2]);
            run.wait_for("a name that is free", HEAL_MS, |run| {
                let is_there = run.cluster.directories(2).contains(&format!("{TOPIC}-0"));
                (!is_there).then_some(())
            })
            .expect("it goes");
            reassign(&mut run, &[1, 2, 3]);
            run.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(()))
                .expect("it comes back");
        }
    }

    /// Says where the replicas of the first partition shall be, until that is taken up.
    fn reassign(run: &mut Run, replicas: &[i32]) {
        run.wait_for("a reassignment", HEAL_MS, |run| {
            let replicas = Some(replicas.to_vec());
            let partitions = vec![ReassignablePartition { partition_index: 0, replicas }];
            let topics = vec![ReassignableTopic { name: TOPIC.into(), partitions }];
            let request =
                AlterPartitionReassignmentsRequest { timeout_ms: 5_000, topics, ..Default::default() };
            let asked = run.ask::<AlterPartitionReassignmentsRequest<'_>>(0, frame(&request, 1), 1);
            let answer = asked.ok()?;
            let response: AlterPartitionReassignmentsResponse<'_> = read(&answer, 1).ok()?;
            (response.error_code == 0 && response.responses[0].partitions[0].error_code == 0).then_some(())
        })
        .expect("partitions can be moved");
    }

    #[test]
    fn leadership_goes_back_to_the_preferred_replica() {
        let mut run = new(7, false);
        run.begin().expect("a cluster that serves");
        run.create_topic(TOPIC, PARTITIONS).expect("a topic");
        let preferred = |run: &Run| {
            let broker = run.cluster.broker(0).expect("it lives");
            let image = broker.image();
            let partitions = image.topic_by_name(TOPIC).expect("created above").partitions.clone();
            partitions.values().all(|partition| partition.leader == partition.replicas.first().copied())
        };
        let leader = run.wait_for("a leader", HEAL_MS, |run| run.cluster.leader(TOPIC, PartitionId(0)));
        run.cluster.kill(leader.expect("somebody leads"), false, 8_000);
        run.wait_for("another leader", HEAL_MS, |run| {
            (run.cluster.broker(0).is_some() && !preferred(run)).then_some(())
        })
        .expect("others take over");
        run.wait_for("everybody in every ISR", HEAL_MS, |run| run.is_whole().then_some(()))
            .expect("it comes back");
        run.wait_for("preferred leaders", 60_000, |run| preferred(run).then_some(()))
            .expect("they lead again");
    }

    #[test]
    fn a_seed_is_a_function() {
        assert_eq!(run_cluster(3), run_cluster(3));
        assert_eq!(run_cluster_transactions(3), run_cluster_transactions(3));
    }
}
