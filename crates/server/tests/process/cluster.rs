//! Three nodes as processes: they form a cluster, replicate, and lose nothing that was acknowledged when one is killed.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{self, BatchBuilder, BatchOptions};
use ottla_protocol::{Message, Reader, Records, Request};

use crate::node::{Node, ask, ottla};

const TOPIC: &str = "orders";
const NODES: usize = 3;
/// Longer than any election or fencing takes with Kafka's default timeouts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the nodes listen: (clients, controllers).
fn free_ports() -> [(u16, u16); NODES] {
    let sockets: Vec<TcpListener> =
        (0..2 * NODES).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let port = |at: usize| sockets[at].local_addr().expect("bound").port();
    std::array::from_fn(|node| (port(2 * node), port(2 * node + 1)))
}

struct Cluster {
    ports: [(u16, u16); NODES],
    dir: tempfile::TempDir,
    nodes: BTreeMap<usize, Node>,
}

impl Cluster {
    fn start() -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let mut cluster = Cluster { ports: free_ports(), dir, nodes: BTreeMap::new() };
        let starting: Vec<_> = (0..NODES)
            .map(|node| {
                let command = cluster.command(node);
                std::thread::spawn(move || Node::start(command))
            })
            .collect();
        for (index, thread) in starting.into_iter().enumerate() {
            cluster.nodes.insert(index, thread.join().expect("it starts"));
        }
        cluster
    }

    fn command(&self, node: usize) -> std::process::Command {
        let (clients, controllers) = self.ports[node];
        let voters = self.ports.iter().enumerate();
        let voters: Vec<String> =
            voters.map(|(id, (_, port))| format!("{}@127.0.0.1:{port}", id + 1)).collect();
        let id = (node + 1).to_string();
        let dir = format!("node-{id}");
        let listeners =
            format!("listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controllers}");
        let settings = [
            format!("node.id={id}"),
            "process.roles=broker,controller".to_owned(),
            listeners,
            "controller.listener.names=CONTROLLER".to_owned(),
            format!("controller.quorum.voters={}", voters.join(",")),
            // Shorter than Kafka's defaults, so that the test is.
            "controller.quorum.fetch.timeout.ms=1000".to_owned(),
            "controller.quorum.election.timeout.ms=500".to_owned(),
            "broker.heartbeat.interval.ms=200".to_owned(),
            "broker.session.timeout.ms=1500".to_owned(),
        ];
        let mut args = vec!["--data-dir", &dir];
        settings.iter().for_each(|setting| args.extend(["--set", setting]));
        let mut command = ottla(self.dir.path(), &args);
        command.env("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw");
        command
    }

    fn kill(&mut self, node: usize) {
        let killed = self.nodes.remove(&node).expect("it runs");
        killed.signal("KILL");
        killed.wait();
    }

    fn restart(&mut self, node: usize) {
        let command = self.command(node);
        self.nodes.insert(node, Node::start(command));
    }

    /// Asks a node; `None` if it does not answer.
    fn ask<'a, R: Request<'a>>(&self, node: usize, request: &R, version: i16) -> Option<Bytes> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[node].0)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        ask(&mut stream, request, version)
    }

    fn any(&self) -> usize {
        *self.nodes.keys().next().expect("one runs")
    }

    /// (leader, ISR) of partition 0 as a node sees it.
    fn partition(&self, node: usize) -> Option<(usize, Vec<i32>)> {
        let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let answer = self.ask(node, &request, 9)?;
        let response = MetadataResponse::decode(&mut Reader::new(&answer), 9).expect("readable");
        let partition = response.topics.first()?.partitions.first()?.clone();
        (partition.leader_id > 0).then(|| (partition.leader_id as usize - 1, partition.isr_nodes))
    }

    /// Waits until everybody is in sync again.
    fn heal(&self) {
        wait_for("everybody in the ISR", || {
            let isr = self.partition(self.any()).map(|(_, isr)| isr);
            isr.filter(|isr| isr.len() == NODES)
        });
    }

    /// Produces one record, wherever the leader is; returns its offset when it is acknowledged.
    fn produce(&self, value: u64) -> i64 {
        wait_for("an acknowledgement", || {
            let (leader, _) = self.nodes.keys().find_map(|node| self.partition(*node))?;
            let mut batch = BatchBuilder::new(0, BatchOptions::default());
            batch.push(1, None, Some(&value.to_be_bytes()), &[]);
            let batch = batch.finish();
            let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 2_000,
                topic_data: vec![TopicProduceData {
                    name: TOPIC.into(),
                    partition_data: vec![data],
                    ..Default::default()
                }],
                ..Default::default()
            };
            let answer = self.ask(leader, &request, 9)?;
            let response = ProduceResponse::decode(&mut Reader::new(&answer), 9).expect("readable");
            let told = &response.responses.first()?.partition_responses.first()?;
            (told.error_code == 0).then_some(told.base_offset)
        })
    }

    /// Every committed record by its offset.
    fn read_all(&self) -> BTreeMap<i64, u64> {
        let mut found = BTreeMap::new();
        let (leader, _) = wait_for("a leader", || self.partition(self.any()));
        loop {
            let offset = found.last_key_value().map_or(0, |(offset, _)| offset + 1);
            let wanted =
                FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
            let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![wanted], ..Default::default() };
            let request = FetchRequest { topics: vec![topic], ..Default::default() };
            let answer = self.ask(leader, &request, 11).expect("the leader answers");
            let response = FetchResponse::decode(&mut Reader::new(&answer), 11).expect("readable");
            let data = &response.responses[0].partitions[0];
            assert_eq!(data.error_code, 0);
            let Some(Records::Slice(bytes)) = &data.records else { return found };
            let before = found.len();
            for batch in records::batches(bytes) {
                let set = batch.expect("whole").records(1 << 20).expect("records");
                for record in set.iter() {
                    let record = record.expect("sound");
                    let value = record.value.and_then(|value| value.try_into().ok()).expect("8 bytes");
                    found.insert(record.offset, u64::from_be_bytes(value));
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }
}

/// Tries until it works; the pause only keeps the machine free for those who are waited for.
fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn create_topic(cluster: &Cluster) {
    let config = CreatableTopicConfig { name: "min.insync.replicas".into(), value: Some("2".into()) };
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: 1,
        replication_factor: 3,
        configs: vec![config],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
    // Whichever is asked: those that do not lead the quorum forward it.
    let answer = wait_for("a topic", || cluster.ask(2, &request, 5));
    let response = CreateTopicsResponse::decode(&mut Reader::new(&answer), 5).expect("readable");
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

#[test]
fn nothing_acknowledged_is_lost_when_nodes_are_killed() {
    let mut cluster = Cluster::start();
    create_topic(&cluster);
    cluster.heal();
    let mut acknowledged: BTreeMap<i64, u64> = BTreeMap::new();
    let mut value = 0;
    let mut outages = Vec::new();
    for _ in 0..3 {
        let mut produce = |cluster: &Cluster, count: u64| {
            for _ in 0..count {
                acknowledged.insert(cluster.produce(value), value);
                value += 1;
            }
        };
        produce(&cluster, 50);
        let (leader, _) = cluster.partition(cluster.any()).expect("a leader");
        cluster.kill(leader);
        let killed_at = Instant::now();
        produce(&cluster, 1);
        outages.push(killed_at.elapsed());
        produce(&cluster, 50);
        let found = cluster.read_all();
        for (offset, value) in &acknowledged {
            assert_eq!(found.get(offset), Some(value), "offset {offset} was acknowledged");
        }
        cluster.restart(leader);
        cluster.heal();
    }
    println!("outages after a kill: {outages:?}");
    for (_, node) in std::mem::take(&mut cluster.nodes) {
        node.signal("TERM");
        let (status, _, stderr) = node.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
    assert!(Path::new(cluster.dir.path()).join("node-1").exists());
}
