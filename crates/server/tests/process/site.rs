//! Nodes of a cluster, each with a configuration file of its own: roles alone, quorums that change, nodes that move.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::describe_quorum_request::{self as quorum, DescribeQuorumRequest};
use ottla_protocol::messages::describe_quorum_response::{DescribeQuorumResponse, ReplicaState};
use ottla_protocol::{Message, Reader, Request, Uuid};

use crate::node::{Ended, Node, ottla, run};
use crate::talk::{PATIENCE, ask_at};

pub const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";
/// Shorter than Kafka's defaults, so that the tests are.
const TIMES: &str = "controller.quorum.fetch.timeout.ms=1000\ncontroller.quorum.election.timeout.ms=500\n\
                     broker.heartbeat.interval.ms=200\nbroker.session.timeout.ms=1500\n";

/// A cluster.
pub struct Site {
    dir: tempfile::TempDir,
    ports: BTreeMap<i32, u16>,
    pub nodes: BTreeMap<i32, Node>,
}

/// The quorum as DescribeQuorum tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub leader: i32,
    pub voters: Vec<i32>,
    pub observers: Vec<i32>,
    /// The disks of the voters.
    pub disks: BTreeMap<i32, Uuid>,
    /// Where the voters listen for each other.
    pub ports: BTreeMap<i32, u16>,
    pub hosts: BTreeMap<i32, String>,
}

impl Site {
    /// A place for these nodes, each with a free port.
    pub fn new(ids: &[i32]) -> Site {
        let mut site = Site {
            dir: tempfile::tempdir().expect("a directory"),
            ports: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        // All at once, so that all are different.
        let sockets: Vec<TcpListener> = ids.iter().map(|_| free_port()).collect();
        let ports = sockets.iter().map(|socket| socket.local_addr().expect("bound").port());
        site.ports = ids.iter().copied().zip(ports).collect();
        site
    }

    /// Where a node listens.
    pub fn port(&self, id: i32) -> u16 {
        self.ports[&id]
    }

    /// The node listens elsewhere from its next start on.
    pub fn move_to_another_port(&mut self, id: i32) {
        let port = free_port().local_addr().expect("bound").port();
        assert_ne!(self.ports.insert(id, port), Some(port));
    }

    /// `127.0.0.1:port` of each of them.
    pub fn addresses(&self, ids: &[i32]) -> String {
        let addresses: Vec<String> = ids.iter().map(|id| format!("127.0.0.1:{}", self.port(*id))).collect();
        addresses.join(",")
    }

    /// `controller.quorum.voters`.
    pub fn voters(&self, ids: &[i32]) -> String {
        let voters: Vec<String> = ids.iter().map(|id| format!("{id}@127.0.0.1:{}", self.port(*id))).collect();
        voters.join(",")
    }

    fn data(&self, id: i32) -> PathBuf {
        self.dir.path().join(format!("data-{id}"))
    }

    /// Describes a node in its file: `role` alone, and what `more` says.
    pub fn configure(&self, id: i32, role: &str, more: &str) {
        let listener = if role == "controller" { "CONTROLLER" } else { "PLAINTEXT" };
        let text = format!(
            "process.roles={role}\nnode.id={id}\nlisteners={listener}://127.0.0.1:{}\n\
             controller.listener.names=CONTROLLER\nlog.dirs=data-{id}\n{TIMES}{more}\n",
            self.port(id)
        );
        fs::write(self.file(id), text).expect("written");
    }

    fn file(&self, id: i32) -> PathBuf {
        self.dir.path().join(format!("{id}.properties"))
    }

    /// `ottla storage format` with what `words` add.
    pub fn format(&self, id: i32, words: &str) {
        let file = self.file(id).display().to_string();
        let mut arguments = vec!["storage", "format", "-c", &file, "-t", CLUSTER_ID];
        arguments.extend(words.split_whitespace());
        let Ended { code, stderr, .. } = run(ottla(self.dir.path(), &arguments));
        assert_eq!(code, Some(0), "{stderr}");
    }

    /// Its disk is lost.
    pub fn wipe(&self, id: i32) {
        assert!(!self.nodes.contains_key(&id), "it does not run");
        fs::remove_dir_all(self.data(id)).expect("there was one");
    }

    /// The `directory.id` of its disk.
    pub fn disk(&self, id: i32) -> Uuid {
        let text = fs::read_to_string(self.data(id).join("meta.properties")).expect("formatted");
        let line = text.lines().find_map(|line| line.strip_prefix("directory.id="));
        line.expect("it has an id").parse().expect("a UUID")
    }

    /// Starts nodes at once, and waits until each serves.
    pub fn start(&mut self, ids: &[i32]) {
        let starting: Vec<_> = ids
            .iter()
            .map(|id| {
                let file = self.file(*id).display().to_string();
                let mut command = ottla(self.dir.path(), &["serve", &file]);
                command.env("CLUSTER_ID", CLUSTER_ID);
                (*id, std::thread::spawn(move || Node::start(command)))
            })
            .collect();
        for (id, thread) in starting {
            self.nodes.insert(id, thread.join().expect("it starts"));
        }
    }

    /// kill -9.
    pub fn kill(&mut self, id: i32) {
        let killed = self.nodes.remove(&id).expect("it runs");
        killed.signal("KILL");
        killed.wait();
    }

    /// SIGTERM.
    pub fn stop(&mut self, id: i32) {
        self.nodes.remove(&id).expect("it runs").stop();
    }

    /// All of them, in order.
    pub fn stop_all(mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.stop();
        }
    }

    /// Asks a node; `None` if it does not answer.
    pub fn ask<'a, R: Request<'a>>(&self, id: i32, request: &R, version: i16) -> Option<Bytes> {
        ask_at(self.port(id), request, version)
    }

    /// The quorum as its leader describes it to a node; `None` as long as nobody does.
    pub fn describe(&self, id: i32) -> Option<Described> {
        let partition = quorum::PartitionData { partition_index: 0 };
        let topic =
            quorum::TopicData { topic_name: "__cluster_metadata".into(), partitions: vec![partition] };
        let request = DescribeQuorumRequest { topics: vec![topic] };
        let answer = self.ask(id, &request, 2)?;
        let response = DescribeQuorumResponse::decode(&mut Reader::new(&answer), 2).expect("readable");
        let partition = response.topics.first()?.partitions.first()?;
        let told = (response.error_code == 0 && partition.error_code == 0).then_some(partition)?;
        let of = |replicas: &[ReplicaState]| replicas.iter().map(|replica| replica.replica_id).collect();
        let nodes = response.nodes.iter();
        let listeners = nodes.filter_map(|node| Some((node.node_id, node.listeners.first()?)));
        Some(Described {
            leader: partition.leader_id,
            voters: of(&told.current_voters),
            observers: of(&told.observers),
            disks: told.current_voters.iter().map(|it| (it.replica_id, it.replica_directory_id)).collect(),
            ports: listeners.clone().map(|(id, listener)| (id, listener.port)).collect(),
            hosts: listeners.map(|(id, listener)| (id, listener.host.to_string())).collect(),
        })
    }

    /// Waits until the quorum is as it should be, as told to a node.
    pub fn wait_quorum(&self, id: i32, what: &str, is_so: impl Fn(&Described) -> bool) -> Described {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            last = self.describe(id).or(last);
            if let Some(described) = last.as_ref().filter(|described| is_so(described)) {
                return described.clone();
            }
            assert!(Instant::now() < deadline, "{what}: {last:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The level at which a node says that a feature is finalised; 0 if it does not say.
    pub fn level(&self, id: i32, feature: &str) -> Option<i16> {
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = self.ask(id, &request, 4)?;
        let response = ApiVersionsResponse::decode(&mut Reader::new(&answer), 4).expect("readable");
        let found = response.finalized_features.iter().find(|it| it.name == feature);
        Some(found.map_or(0, |it| it.max_version_level))
    }
}

fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}
