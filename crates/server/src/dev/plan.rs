//! What a cluster on this machine consists of: who its nodes are, where they listen, and with what they are started.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ottla_storage::{Disk, LOCK};

use crate::real_disk::RealDisk;
use crate::storage::random_uuid;

/// What a restart has to know, in the directory of the cluster.
const IDENTITY: &str = "cluster.properties";
/// How many nodes, if nobody says so.
const NODES: u16 = 3;
/// How many there may be.
pub const NODES_MAX: u16 = 9;
/// How often it is looked whether the nodes of an earlier start have ended.
const POLL: Duration = Duration::from_millis(10);
/// Kafka's default for its internal topics, as far as there are nodes.
const REPLICAS: u16 = 3;

/// Who the nodes are. It stays for the life of the data: the voters of a quorum are not changed by starting others.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub nodes: u16,
}

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub client: u16,
    pub controller: u16,
}

/// A cluster to be started.
#[derive(Debug)]
pub struct Plan {
    pub identity: Identity,
    pub ports: Vec<Ports>,
    /// What was set on the command line.
    pub settings: Vec<(String, String)>,
}

impl Identity {
    /// That of the cluster in `dir`, or a new one.
    pub fn of(dir: &Path, wanted: Option<u16>) -> Result<Identity, String> {
        let path = dir.join(IDENTITY);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let identity =
                    Identity { cluster_id: random_uuid().to_string(), nodes: wanted.unwrap_or(NODES) };
                let text = format!("cluster.id={}\nnodes={}\n", identity.cluster_id, identity.nodes);
                fs::write(&path, text)
                    .map_err(|error| format!("{} can not be written: {error}", path.display()))?;
                return Ok(identity);
            }
            Err(error) => return Err(format!("{} can not be read: {error}", path.display())),
        };
        let identity = Identity::parse(&text)
            .ok_or_else(|| format!("{} is not as it was written; --fresh begins anew", path.display()))?;
        match wanted {
            Some(wanted) if wanted != identity.nodes => Err(format!(
                "{} holds a cluster of {} nodes, not {wanted}; --fresh begins anew, --dir takes another directory",
                dir.display(),
                identity.nodes
            )),
            _ => Ok(identity),
        }
    }

    fn parse(text: &str) -> Option<Identity> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        Some(Identity {
            cluster_id: value("cluster.id").filter(|id| !id.is_empty())?.to_owned(),
            nodes: value("nodes")?.parse().ok().filter(|nodes| (1..=NODES_MAX).contains(nodes))?,
        })
    }
}

/// Waits until nobody uses the data that nodes of an earlier start left in `dir`: nodes whose starter was killed stop in order, which takes
/// a moment. Those that are still there after `patience` belong to a cluster that runs.
pub fn wait_until_free(dir: &Path, patience: Duration) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    for data in (0..usize::from(NODES_MAX)).map(|node| node_dir(dir, node)).filter(|data| data.exists()) {
        let free = || RealDisk.try_lock(&data.join(LOCK)).map(drop);
        while let Err(error) = free() {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(format!("{} can not be used: {error}", data.display()));
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{} is used by a node that runs; stop its cluster first",
                    data.display()
                ));
            }
            thread::sleep(POLL);
        }
    }
    Ok(())
}

/// Deletes what an earlier cluster left in `dir`, and nothing else.
pub fn forget(dir: &Path) -> Result<(), String> {
    let told = |path: &Path, result: std::io::Result<()>| match result {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("{} can not be deleted: {error}", path.display()))
        }
        _ => Ok(()),
    };
    for node in 0..usize::from(NODES_MAX) {
        let (data, log) = (node_dir(dir, node), node_log(dir, node));
        told(&data, fs::remove_dir_all(&data))?;
        told(&log, fs::remove_file(&log))?;
    }
    let identity = dir.join(IDENTITY);
    told(&identity, fs::remove_file(&identity))
}

/// The data of a node, by its index.
pub fn node_dir(dir: &Path, node: usize) -> PathBuf {
    dir.join(format!("node-{}", node + 1))
}

/// What a node says.
pub fn node_log(dir: &Path, node: usize) -> PathBuf {
    dir.join(format!("node-{}.log", node + 1))
}

impl Plan {
    /// With what `ottla serve` is started as this node.
    pub fn arguments(&self, node: usize, dir: &Path) -> Vec<String> {
        let Ports { client, controller } = self.ports[node];
        let voters = self.ports.iter().enumerate();
        let voters: Vec<String> =
            voters.map(|(at, ports)| format!("{}@127.0.0.1:{}", at + 1, ports.controller)).collect();
        let nodes = self.identity.nodes;
        let replicas = nodes.min(REPLICAS).to_string();
        // As many as may be away without stopping the writers, one, where there are enough.
        let in_sync = if nodes >= REPLICAS { "2" } else { "1" };
        let own = [
            ("node.id", (node + 1).to_string()),
            ("process.roles", "broker,controller".to_owned()),
            ("listeners", format!("PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("controller.quorum.voters", voters.join(",")),
            ("default.replication.factor", replicas.clone()),
            ("min.insync.replicas", in_sync.to_owned()),
            ("offsets.topic.replication.factor", replicas.clone()),
            ("transaction.state.log.replication.factor", replicas),
            ("transaction.state.log.min.isr", in_sync.to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            // A node that was killed is missed sooner than elsewhere, and a restart need not wait for that: nothing here is far away.
            ("broker.heartbeat.interval.ms", "500".to_owned()),
            ("broker.session.timeout.ms", "3000".to_owned()),
        ];
        let mut arguments = vec!["--data-dir".to_owned(), node_dir(dir, node).display().to_string()];
        let given = self.settings.iter().map(|(key, value)| (key.as_str(), value.clone()));
        for (key, value) in own.into_iter().chain(given) {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        arguments
    }

    /// What an operator wants to know, and the line to copy.
    pub fn banner(&self, dir: &Path) -> String {
        let addresses: Vec<String> =
            self.ports.iter().map(|ports| format!("127.0.0.1:{}", ports.client)).collect();
        let mut text = format!(
            "Ottla {}: {} nodes of cluster {}, each broker and controller\n",
            env!("CARGO_PKG_VERSION"),
            self.identity.nodes,
            self.identity.cluster_id
        );
        for (node, address) in addresses.iter().enumerate() {
            text.push_str(&format!(
                "node {} on {address}, data in {}\n",
                node + 1,
                node_dir(dir, node).display()
            ));
        }
        text + &format!("bootstrap.servers={}\n", addresses.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_the_nodes_are_outlives_a_restart_and_no_other_number_of_nodes_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Identity::of(dir.path(), None).expect("new");
        assert_eq!(first.nodes, NODES);
        assert_eq!(Identity::of(dir.path(), None).expect("found"), first);
        assert_eq!(Identity::of(dir.path(), Some(3)).expect("found"), first);
        let refused = Identity::of(dir.path(), Some(5)).expect_err("another number");
        assert!(refused.contains("a cluster of 3 nodes, not 5"), "{refused}");
        forget(dir.path()).expect("deleted");
        let second = Identity::of(dir.path(), Some(5)).expect("new");
        assert_eq!(second.nodes, 5);
        assert_ne!(second.cluster_id, first.cluster_id);
    }

    #[test]
    fn data_that_a_node_uses_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        wait_until_free(dir.path(), Duration::ZERO).expect("nobody is there");
        let data = node_dir(dir.path(), 1);
        fs::create_dir_all(&data).expect("made");
        let held = RealDisk.try_lock(&data.join(LOCK)).expect("free");
        let refused = wait_until_free(dir.path(), Duration::ZERO).expect_err("a node runs");
        assert!(refused.contains("node-2 is used by a node that runs"), "{refused}");
        drop(held);
        wait_until_free(dir.path(), Duration::ZERO).expect("it has ended");
    }

    #[test]
    fn forgetting_leaves_alone_what_is_not_a_nodes() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("notes.txt");
        fs::write(&own, "mine").expect("written");
        fs::create_dir_all(node_dir(dir.path(), 0).join("orders-0")).expect("made");
        forget(dir.path()).expect("deleted");
        assert!(own.exists());
        assert!(!node_dir(dir.path(), 0).exists());
        forget(&dir.path().join("nowhere")).expect("nothing to delete");
    }

    #[test]
    fn a_file_that_was_damaged_is_no_identity() {
        for text in [
            "",
            "cluster.id=\nnodes=3\n",
            "cluster.id=x\nnodes=0\n",
            "cluster.id=x\nnodes=many\n",
            "nodes=3\n",
        ] {
            assert_eq!(Identity::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn factors_are_no_larger_than_the_cluster() {
        let plan = |nodes: u16| {
            let ports = (0..nodes).map(|at| Ports { client: 1 + at, controller: 11 + at }).collect();
            let settings = vec![("num.partitions".to_owned(), "6".to_owned())];
            Plan { identity: Identity { cluster_id: "c".into(), nodes }, ports, settings }
        };
        let has = |nodes: u16, setting: &str| {
            plan(nodes).arguments(0, Path::new("d")).contains(&setting.to_owned())
        };
        for (nodes, factor, in_sync) in [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)] {
            assert!(has(nodes, &format!("default.replication.factor={factor}")), "{nodes}");
            assert!(has(nodes, &format!("min.insync.replicas={in_sync}")), "{nodes}");
            assert!(has(nodes, "num.partitions=6"));
        }
        assert!(has(2, "controller.quorum.voters=1@127.0.0.1:11,2@127.0.0.1:12"));
    }
}
