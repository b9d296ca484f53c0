//! Three nodes as processes: they form a cluster, replicate, and lose nothing that was acknowledged when one is killed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use crate::node::{Node, ottla};
use crate::talk::{Brokers, create_topic, partition, produce, read_all, wait_in_sync};

const TOPIC: &str = "orders";
const NODES: usize = 3;

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

    /// Those that run.
    fn brokers(&self) -> Brokers {
        self.nodes.keys().map(|node| (*node as i32 + 1, self.ports[*node].0)).collect()
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_nodes_are_killed() {
    let mut cluster = Cluster::start();
    create_topic(cluster.ports[2].0, TOPIC, 3);
    wait_in_sync(&cluster.brokers(), TOPIC, NODES);
    let mut acknowledged: BTreeMap<i64, u64> = BTreeMap::new();
    let mut value = 0;
    let mut outages = Vec::new();
    for _ in 0..3 {
        let mut write = |cluster: &Cluster, count: u64| {
            for _ in 0..count {
                acknowledged.insert(produce(&cluster.brokers(), TOPIC, value), value);
                value += 1;
            }
        };
        write(&cluster, 50);
        let brokers = cluster.brokers();
        let asked = brokers.values().next().expect("one runs");
        let (leader, _) = partition(*asked, TOPIC).expect("a leader");
        let leader = leader as usize - 1;
        cluster.kill(leader);
        let killed_at = Instant::now();
        write(&cluster, 1);
        outages.push(killed_at.elapsed());
        write(&cluster, 50);
        let found = read_all(&cluster.brokers(), TOPIC);
        for (offset, value) in &acknowledged {
            assert_eq!(found.get(offset), Some(value), "offset {offset} was acknowledged");
        }
        cluster.restart(leader);
        wait_in_sync(&cluster.brokers(), TOPIC, NODES);
    }
    println!("outages after a kill: {outages:?}");
    for (_, node) in std::mem::take(&mut cluster.nodes) {
        node.signal("TERM");
        let (status, _, stderr) = node.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
    assert!(Path::new(cluster.dir.path()).join("node-1").exists());
}
