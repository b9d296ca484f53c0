//! The nodes of a cluster as processes, each with its own network and disk where a chore wants that and it is permitted.

use super::network::{Network, Side};
use crate::small_disk::SmallDisk;
use crate::steps::{Doing, Trouble, run_logged, wait_until};
use crate::wire::Connection;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::{Message, Reader};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to serve, with everything else that wants the processors.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// The file system of the node whose disk fills up.
const SMALL_DISK_BYTES: u64 = 6 << 30;
/// The version of Metadata that is asked for.
const METADATA: i16 = 9;
const CLUSTER_ID: &str = "b3R0bGEtY2x1c3RlcnMwMQ";

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Controller,
    Broker,
    Both,
}

struct Node {
    role: Role,
    client_port: u16,
    controller_port: u16,
    process: Option<Child>,
    is_paused: bool,
    starts: u32,
}

/// A cluster.
pub struct Cluster {
    binary: PathBuf,
    home: PathBuf,
    logs: PathBuf,
    nodes: Vec<Node>,
    /// What all nodes are given besides who they are.
    common: &'static [(&'static str, &'static str)],
    /// The first controller begins alone, the others join it by themselves; otherwise the voters are fixed.
    quorum_grows: bool,
    pub network: Option<Network>,
    small_disk: Option<SmallDisk>,
    is_full: bool,
}

impl Cluster {
    /// Nodes that do not run yet, on one machine; the settings `common` are for all of them.
    pub fn new(
        binary: PathBuf,
        home: &Path,
        logs: &Path,
        roles: &[Role],
        common: &'static [(&'static str, &'static str)],
    ) -> Result<Cluster, Trouble> {
        // They are found all at once, so that they differ.
        let free: Vec<TcpListener> = (0..2 * roles.len())
            .map(|_| TcpListener::bind("127.0.0.1:0").doing("looking for a free port"))
            .collect::<Result<_, _>>()?;
        let port = |at: usize| Ok::<u16, Trouble>(free[at].local_addr()?.port());
        let nodes = roles.iter().enumerate().map(|(at, role)| {
            let (client_port, controller_port) = (port(2 * at)?, port(2 * at + 1)?);
            Ok(Node { role: *role, client_port, controller_port, process: None, is_paused: false, starts: 0 })
        });
        let nodes = nodes.collect::<Result<Vec<Node>, Trouble>>()?;
        let (home, logs) = (home.to_path_buf(), logs.to_path_buf());
        Ok(Cluster {
            binary,
            home,
            logs,
            nodes,
            common,
            quorum_grows: false,
            network: None,
            small_disk: None,
            is_full: false,
        })
    }

    /// Has the quorum begin with the first node; the other controllers join it when they are there. Nodes are to be formatted then.
    pub fn let_quorum_grow(&mut self) {
        self.quorum_grows = true;
    }

    /// Gives every node a network of its own, and the last one a small disk, where that is permitted.
    pub fn make_breakable(&mut self) {
        self.network = Network::new(self.len());
        if self.network.is_some() {
            // In namespaces of their own all may have the same ports.
            self.nodes.iter_mut().for_each(|node| (node.client_port, node.controller_port) = (9092, 9093));
        }
        self.small_disk = self.mount_small_disk();
    }

    /// Gives the last node a file system of its own, if that is permitted here.
    fn mount_small_disk(&self) -> Option<SmallDisk> {
        let mounted = SmallDisk::mount(&self.data(self.nodes.len() - 1), SMALL_DISK_BYTES);
        if mounted.is_none() {
            println!("no file system can be mounted here: no disk fills up");
        }
        mounted
    }

    /// Whether a disk can be filled.
    pub fn has_small_disk(&self) -> bool {
        self.small_disk.is_some()
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes that are brokers.
    pub fn brokers(&self) -> Vec<usize> {
        (0..self.len()).filter(|node| self.nodes[*node].role != Role::Controller).collect()
    }

    /// How a report calls a node.
    pub fn name(&self, node: usize) -> String {
        let what = match self.nodes[node].role {
            Role::Controller => "controller",
            Role::Broker => "broker",
            Role::Both => "node",
        };
        format!("{what} {}", node + 1)
    }

    fn address(&self, node: usize) -> String {
        self.network.as_ref().map_or("127.0.0.1".into(), |network| network.address(Side::Node(node)))
    }

    /// Where clients reach a node.
    pub fn client_address(&self, node: usize) -> String {
        format!("{}:{}", self.address(node), self.nodes[node].client_port)
    }

    /// Where clients begin.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.brokers().iter().map(|node| self.client_address(*node)).collect();
        addresses.join(",")
    }

    fn data(&self, node: usize) -> PathBuf {
        self.home.join(format!("node-{}", node + 1))
    }

    /// The log directory of a node: beside `lost+found`, where there is one.
    pub fn log_dir(&self, node: usize) -> PathBuf {
        self.data(node).join("data")
    }

    /// The process of a node.
    pub fn pid(&self, node: usize) -> Result<u32, Trouble> {
        let process = self.nodes[node].process.as_ref();
        process.map(Child::id).ok_or_else(|| Trouble::new(format!("{} does not run", self.name(node))))
    }

    /// Formats the log directory of a node that does not run, as an operator does after putting in a new disk.
    pub fn format(&self, node: usize) -> Result<(), Trouble> {
        let file = self.home.join(format!("node-{}.properties", node + 1));
        let mut text = format!("log.dirs={}\n", self.log_dir(node).display());
        self.settings(node).iter().for_each(|(key, value)| text.push_str(&format!("{key}={value}\n")));
        fs::write(&file, text).doing(format!("writing {}", file.display()))?;
        let mut command = Command::new(&self.binary);
        command.args(["storage", "format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&file);
        if self.quorum_grows && self.nodes[node].role != Role::Broker {
            command.arg(if node == 0 { "--standalone" } else { "--no-initial-controllers" });
        }
        let log = self.logs.join(format!("format-{}.log", node + 1));
        let ended = run_logged(&mut command, &log, Duration::from_secs(60))?;
        if !ended.success() {
            crate::steps::show_end(&log, 20);
            return Err(Trouble::new(format!("formatting for {}: {ended}", self.name(node))));
        }
        Ok(())
    }

    fn log(&self, node: usize) -> PathBuf {
        self.logs.join(format!("node-{}-{}.log", node + 1, self.nodes[node].starts))
    }

    /// Starts a node that does not run; does not wait until it serves.
    pub fn start(&mut self, node: usize) -> Result<(), Trouble> {
        if self.is_running(node) {
            return Ok(());
        }
        self.nodes[node].starts += 1;
        let log = self.log(node);
        let out = File::create(&log).doing(format!("creating {}", log.display()))?;
        let mut command = match &self.network {
            Some(network) => network.command(node, &self.binary),
            None => Command::new(&self.binary),
        };
        command.arg("serve").arg("--data-dir").arg(self.log_dir(node));
        self.settings(node).iter().for_each(|(key, value)| {
            command.args(["--set", &format!("{key}={value}")]);
        });
        command.env("CLUSTER_ID", CLUSTER_ID);
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        let process =
            command.spawn().doing(format!("starting {} (cargo build --release)", self.binary.display()))?;
        self.nodes[node].process = Some(process);
        Ok(())
    }

    fn settings(&self, node: usize) -> Vec<(String, String)> {
        let Node { role, client_port, controller_port, .. } = self.nodes[node];
        let address = self.address(node);
        let voters = (0..self.len()).filter(|other| self.nodes[*other].role != Role::Broker);
        let voters: Vec<String> = voters
            .map(|other| {
                let address = format!("{}:{}", self.address(other), self.nodes[other].controller_port);
                if self.quorum_grows { address } else { format!("{}@{address}", other + 1) }
            })
            .collect();
        let quorum = if self.quorum_grows { "bootstrap.servers" } else { "voters" };
        let (client, controller) = (
            format!("PLAINTEXT://{address}:{client_port}"),
            format!("CONTROLLER://{address}:{controller_port}"),
        );
        let (roles, listeners) = match role {
            Role::Controller => ("controller", controller),
            Role::Broker => ("broker", client),
            Role::Both => ("broker,controller", format!("{client},{controller}")),
        };
        let own = [
            ("node.id", (node + 1).to_string()),
            ("process.roles", roles.to_owned()),
            ("listeners", listeners),
            ("controller.listener.names", "CONTROLLER".to_owned()),
        ];
        let quorum = [
            (format!("controller.quorum.{quorum}"), voters.join(",")),
            (
                "controller.quorum.auto.join.enable".to_owned(),
                (self.quorum_grows && role != Role::Broker).to_string(),
            ),
        ];
        let fixed = self.common.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let known = own.into_iter().chain(fixed).map(|(key, value)| (key.to_owned(), value));
        quorum.into_iter().chain(known).collect()
    }

    /// Whether the process is there.
    pub fn is_running(&mut self, node: usize) -> bool {
        self.nodes[node].process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts all nodes, and waits until all serve.
    pub fn start_all(&mut self) -> Result<(), Trouble> {
        (0..self.len()).try_for_each(|node| self.start(node))?;
        (0..self.len()).try_for_each(|node| self.wait_ready(node))
    }

    /// Waits until a node says that it serves.
    pub fn wait_ready(&mut self, node: usize) -> Result<(), Trouble> {
        let deadline = Instant::now() + START_PATIENCE;
        let log = self.log(node);
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains("\nready in ") {
                return Ok(());
            }
            if !self.is_running(node) || Instant::now() > deadline {
                crate::steps::show_end(&log, 20);
                return Err(Trouble::new(format!(
                    "{} does not serve; log: {}",
                    self.name(node),
                    log.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// kill -9.
    pub fn kill(&mut self, node: usize) -> Result<(), Trouble> {
        self.nodes[node].is_paused = false;
        if let Some(mut process) = self.nodes[node].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// SIGTERM; waits for the end.
    pub fn stop(&mut self, node: usize) -> Result<(), Trouble> {
        self.signal(node, Signal::TERM)?;
        let log = self.log(node);
        let Some(mut process) = self.nodes[node].process.take() else { return Ok(()) };
        let ended = wait_until(&mut process, Instant::now() + Duration::from_secs(60))?;
        if ended.success() {
            return Ok(());
        }
        crate::steps::show_end(&log, 20);
        Err(Trouble::new(format!("{} did not stop in order: {ended}", self.name(node))))
    }

    /// SIGSTOP.
    pub fn pause(&mut self, node: usize) -> Result<(), Trouble> {
        self.nodes[node].is_paused = true;
        self.signal(node, Signal::STOP)
    }

    fn signal(&mut self, node: usize, signal: Signal) -> Result<(), Trouble> {
        let pid = self.nodes[node].process.as_ref().and_then(|child| Pid::from_raw(child.id() as i32));
        pid.map_or(Ok(()), |pid| kill_process(pid, signal).map_err(Trouble::new))
    }

    /// Leaves no room on the small disk.
    pub fn fill_disk(&mut self) -> Result<(), Trouble> {
        let Some(disk) = &self.small_disk else { return Ok(()) };
        self.is_full = true;
        disk.fill()
    }

    /// Undoes everything that was done to a cluster, and starts the nodes that do not run. Returns those that had ended by themselves.
    pub fn heal(&mut self) -> Result<(), Trouble> {
        if let Some(network) = &mut self.network {
            network.heal()?;
        }
        if let Some(disk) = self.small_disk.as_ref().filter(|_| self.is_full) {
            disk.relieve()?;
            self.is_full = false;
        }
        for node in 0..self.len() {
            if std::mem::take(&mut self.nodes[node].is_paused) {
                self.signal(node, Signal::CONT)?;
            }
        }
        (0..self.len()).try_for_each(|node| self.start(node))
    }

    /// The node that ended although nobody ended it, if there is one.
    pub fn has_died(&mut self) -> Option<usize> {
        (0..self.len()).find(|node| self.nodes[*node].process.is_some() && !self.is_running(*node))
    }

    /// Shows what a node said at last.
    pub fn show_end(&self, node: usize) {
        crate::steps::show_end(&self.log(node), 20);
    }

    /// Everything that a broker knows of the topics.
    pub fn metadata<T>(
        &self,
        node: usize,
        look: impl FnOnce(&MetadataResponse<'_>) -> T,
    ) -> Result<T, Trouble> {
        let body = metadata(&self.client_address(node))?;
        Ok(look(&MetadataResponse::decode(&mut Reader::new(&body), METADATA).map_err(Trouble::new)?))
    }

    /// Whether every partition has a leader and all its replicas in sync, as every broker sees it that was started and not stopped. `Err`:
    /// what is missing.
    pub fn is_whole(&self) -> Result<(), String> {
        let mut brokers = self.brokers().into_iter().filter(|node| self.nodes[*node].process.is_some());
        brokers.try_for_each(|node| whole_as_seen_by(&self.name(node), &self.client_address(node)))
    }

    /// Waits until it is so.
    pub fn wait_whole(&self, patience: Duration) -> Result<Result<Duration, String>, Trouble> {
        let begun = Instant::now();
        loop {
            match self.is_whole() {
                Ok(()) => return Ok(Ok(begun.elapsed())),
                Err(missing) if begun.elapsed() > patience => return Ok(Err(missing)),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

/// Whether every partition has a leader and all its replicas in sync, as this broker sees it. `Err`: what is missing.
pub fn whole_as_seen_by(name: &str, address: &str) -> Result<(), String> {
    let body = metadata(address).map_err(|error| format!("{name}: {error}"))?;
    let response =
        MetadataResponse::decode(&mut Reader::new(&body), METADATA).map_err(|error| error.to_string())?;
    for topic in &response.topics {
        for partition in &topic.partitions {
            if partition.leader_id < 0 || partition.isr_nodes.len() < partition.replica_nodes.len() {
                let topic = topic.name.as_deref().unwrap_or("?");
                return Err(format!(
                    "{name}: {topic}-{} has leader {} and ISR {:?} of {:?}",
                    partition.partition_index,
                    partition.leader_id,
                    partition.isr_nodes,
                    partition.replica_nodes
                ));
            }
        }
    }
    Ok(())
}

/// What a broker answers to who asks for all topics.
fn metadata(address: &str) -> std::io::Result<Vec<u8>> {
    let mut connection = Connection::open(address, Duration::from_secs(5))?;
    connection.ask(&MetadataRequest { topics: None, ..Default::default() }, METADATA)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.len() {
            // Nothing can be done about a kill that fails while we are on the way out.
            let _ = self.kill(node);
        }
    }
}
