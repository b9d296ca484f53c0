//! `ottla dev`: three nodes from one command; what a client wrote is there after a restart, and nothing is left running.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, ExitStatus};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{self, BatchBuilder, BatchOptions};
use ottla_protocol::{ErrorCode, Message, Reader, Records};

use crate::node::{ask, ottla, run, wait};

const TOPIC: &str = "orders";
/// Longer than three nodes take to elect, to register, and to hand everything over.
const PATIENCE: Duration = Duration::from_secs(60);
/// In sync again: less than any request to where nobody listens any more would wait (`request.timeout.ms`).
const IN_SYNC_MAX: Duration = Duration::from_secs(20);

/// A cluster that serves.
struct Dev {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addresses: Vec<String>,
}

impl Dev {
    fn start(dir: &Path, flags: &[&str]) -> Dev {
        let mut child = ottla(dir, &[&["dev", "--port", "0"], flags].concat()).spawn().expect("it runs");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut dev = Dev { child, stdout, addresses: Vec::new() };
        let mut seen = String::new();
        while dev.addresses.is_empty() {
            let mut line = String::new();
            if dev.stdout.read_line(&mut line).expect("readable") == 0 {
                let mut stderr = String::new();
                let _ = dev.child.stderr.take().expect("piped").read_to_string(&mut stderr);
                panic!("it does not serve: {seen}{stderr}");
            }
            if let Some(bootstrap) = line.trim().strip_prefix("bootstrap.servers=") {
                dev.addresses = bootstrap.split(',').map(String::from).collect();
            }
            seen.push_str(&line);
        }
        dev
    }

    fn connect(&self, node: usize) -> TcpStream {
        let stream = TcpStream::connect(&self.addresses[node]).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    /// The index of the leader of the topic's only partition; a topic that nobody knows yet is created by being asked for.
    fn leader(&self) -> usize {
        let deadline = Instant::now() + IN_SYNC_MAX;
        let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let mut stream = self.connect(0);
        while Instant::now() < deadline {
            let answer = ask(&mut stream, &request, 9).expect("answered");
            let response = MetadataResponse::decode(&mut Reader::new(&answer), 9).expect("readable");
            let partition = response.topics.first().and_then(|topic| topic.partitions.first());
            if let Some(partition) = partition.filter(|it| it.leader_id > 0 && it.isr_nodes.len() == 3) {
                return partition.leader_id as usize - 1;
            }
        }
        panic!("no leader with three replicas in sync");
    }

    fn produce(&self, value: &[u8]) -> i64 {
        let mut batch = BatchBuilder::new(0, BatchOptions::default());
        // A record from 1970 would be too old to be kept.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        batch.push(i64::try_from(now).expect("before 2262"), None, Some(value), &[]);
        let batch = batch.finish();
        let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
        let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ask(&mut self.connect(self.leader()), &request, 9).expect("answered");
            let response = ProduceResponse::decode(&mut Reader::new(&answer), 9).expect("readable");
            let told = &response.responses[0].partition_responses[0];
            if told.error_code == 0 {
                return told.base_offset;
            }
            // Nodes read the metadata each in its time: one that is asked too early has not heard of it yet.
            let error = ErrorCode::from_code(told.error_code);
            let is_early =
                matches!(error, ErrorCode::UnknownTopicOrPartition | ErrorCode::NotLeaderOrFollower);
            assert!(is_early && Instant::now() < deadline, "{error:?}");
        }
    }

    /// The first record. What is committed is known to a new leader when its followers have fetched.
    fn first(&self) -> Option<Vec<u8>> {
        let wanted = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![wanted], ..Default::default() };
        let request =
            FetchRequest { max_wait_ms: 30_000, min_bytes: 1, topics: vec![topic], ..Default::default() };
        let answer = ask(&mut self.connect(self.leader()), &request, 11).expect("answered");
        let response = FetchResponse::decode(&mut Reader::new(&answer), 11).expect("readable");
        let data = &response.responses[0].partitions[0];
        assert_eq!(data.error_code, 0, "{response:?}");
        let Some(Records::Slice(bytes)) = &data.records else { return None };
        let batch = records::batches(bytes).next()?.expect("whole");
        let set = batch.records(1 << 20).expect("records");
        let record = set.iter().next()?.expect("sound");
        record.value.map(<[u8]>::to_vec)
    }

    fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }

    fn end(mut self) -> ExitStatus {
        wait(&mut self.child).expect("it ends")
    }

    /// As Ctrl-C does it.
    fn stop(self) {
        self.signal("INT");
        assert_eq!(self.end().code(), Some(0));
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Harmless when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until nobody listens there any more.
fn wait_until_gone(address: &str) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "somebody still listens on {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_cluster_from_one_command_finds_its_data_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Dev::start(dir.path(), &["-n", "3"]);
    assert_eq!(cluster.addresses.len(), 3);
    assert_eq!(cluster.produce(b"first"), 0);
    let addresses = cluster.addresses.clone();
    cluster.stop();
    addresses.iter().for_each(|address| wait_until_gone(address));

    let again = Dev::start(dir.path(), &[]);
    assert_eq!(again.first().as_deref(), Some(b"first".as_slice()));
    assert_eq!(again.produce(b"second"), 1);
    // Whoever starts it and dies leaves no node behind.
    let addresses = again.addresses.clone();
    again.signal("KILL");
    assert_eq!(again.end().code(), None);
    addresses.iter().for_each(|address| wait_until_gone(address));

    let refused = run(ottla(dir.path(), &["dev", "-n", "5"]));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("holds a cluster of 3 nodes, not 5"), "{}", refused.stderr);

    let fresh = Dev::start(dir.path(), &["--fresh"]);
    assert_eq!(fresh.produce(b"anew"), 0);
    fresh.stop();
}

#[test]
fn a_node_that_does_not_start_is_named_with_what_it_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let ended = run(ottla(dir.path(), &["dev", "-n", "2", "--port", "0", "--set", "num.partitions=many"]));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("does not start") && ended.stderr.contains("num.partitions"),
        "{}",
        ended.stderr
    );
}
