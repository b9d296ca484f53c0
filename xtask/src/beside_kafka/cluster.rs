//! The nodes of a mixed cluster as processes: one controller, and brokers of both kinds, each started with a file of properties of its own.

use crate::broker::{Kind, java};
use crate::nemesis::cluster::whole_as_seen_by;
use crate::steps::{self, Doing, Ended, Trouble, run_logged, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CLUSTER_ID: &str = "b3R0bGEtYmVzaWRlLTAwMQ";
/// How long a node may take to serve: a JVM, on a busy machine, whose earlier life's session has to end first.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// The same for both kinds. Sessions are shorter than Kafka's default, so that a node that was killed can come back soon.
const SETTINGS: &[(&str, &str)] = &[
    ("controller.listener.names", "CONTROLLER"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("num.partitions", "3"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("broker.heartbeat.interval.ms", "500"),
    ("broker.session.timeout.ms", "3000"),
    // Snapshots of the metadata come often, so that everybody is met by some.
    ("metadata.log.max.record.bytes.between.snapshots", "200"),
];

/// One process.
pub struct Node {
    pub kind: Kind,
    pub id: u16,
    is_controller: bool,
    port: u16,
    home: PathBuf,
    logs: PathBuf,
    starts: u32,
    process: Option<Child>,
}

impl Node {
    /// How messages call it.
    pub fn name(&self) -> String {
        let role = if self.is_controller { "controller" } else { "broker" };
        format!("{role} {} ({})", self.id, self.kind.name())
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its log directory.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The folder of the metadata log that it keeps.
    pub fn metadata(&self) -> PathBuf {
        self.data().join("__cluster_metadata-0")
    }

    fn properties(&self) -> PathBuf {
        self.home.join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.logs.join(format!("node-{}-{}.log", self.id, self.starts))
    }

    /// Whether its process is there.
    fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts it, and waits until it serves. Returns how long that took.
    pub fn start(&mut self, binary: &Path) -> Result<Duration, Trouble> {
        assert!(self.process.is_none(), "start of a node that runs");
        self.starts += 1;
        let begun = Instant::now();
        let log = self.log();
        let out = File::create(&log).doing(format!("creating {}", log.display()))?;
        let mut command = match self.kind {
            Kind::Kafka => {
                let mut command = java("kafka");
                command.args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"]);
                command.arg("kafka.Kafka");
                command
            }
            _ => {
                let mut command = Command::new(binary);
                command.arg("serve");
                command
            }
        };
        command.arg(self.properties()).stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        self.process = Some(command.spawn().doing(format!("starting {}", self.name()))?);
        while !fs::read_to_string(&log).is_ok_and(|text| text.contains("Kafka Server started")) {
            if !self.is_running() || begun.elapsed() > START_PATIENCE {
                steps::show_end(&log, 20);
                return Err(Trouble::new(format!("{} does not serve; log: {}", self.name(), log.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(begun.elapsed())
    }

    /// SIGTERM; waits for the end. Returns how long that took.
    pub fn stop(&mut self) -> Result<Duration, Trouble> {
        let Some(mut process) = self.process.take() else { return Ok(Duration::ZERO) };
        let begun = Instant::now();
        if let Some(pid) = Pid::from_raw(process.id() as i32) {
            kill_process(pid, Signal::TERM).map_err(Trouble::new)?;
        }
        let ended = wait_until(&mut process, begun + Duration::from_secs(60))?;
        // A JVM reports 128 + SIGTERM after an orderly shutdown.
        let in_order = |ended: &Ended| match ended {
            Ended::Exit(status) => status.success() || status.code() == Some(143),
            Ended::Late => false,
        };
        if in_order(&ended) {
            return Ok(begun.elapsed());
        }
        steps::show_end(&self.log(), 20);
        Err(Trouble::new(format!("{} did not stop in order: {ended}", self.name())))
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<(), Trouble> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    fn format(&self, binary: &Path, changes_quorum: bool) -> Result<(), Trouble> {
        let mut command = match self.kind {
            Kind::Kafka => {
                let mut command = java("kafka");
                command.arg("kafka.tools.StorageTool");
                command
            }
            _ => {
                let mut command = Command::new(binary);
                command.arg("storage");
                command
            }
        };
        command.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(self.properties());
        if self.is_controller && changes_quorum {
            command.arg("--standalone");
        }
        let log = self.logs.join(format!("format-{}.log", self.id));
        let ended = run_logged(&mut command, &log, Duration::from_secs(60))?;
        if ended.success() {
            return Ok(());
        }
        steps::show_end(&log, 20);
        Err(Trouble::new(format!("formatting the directory of {}: {ended}", self.name())))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing can be done about a kill that fails while we are on the way out.
        let _ = self.kill();
    }
}

/// The controller, node 1, and the brokers after it.
pub struct Cluster {
    binary: PathBuf,
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Formatted nodes that do not run; the first is the controller.
    pub fn new(
        binary: PathBuf,
        kinds: &[Kind],
        fixed_quorum: bool,
        home: &Path,
        logs: &Path,
    ) -> Result<Cluster, Trouble> {
        // All at once, so that no port is found twice.
        let free: Vec<TcpListener> = kinds
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0").doing("looking for a free port"))
            .collect::<Result<_, _>>()?;
        let ports = free
            .iter()
            .map(|socket| Ok(socket.local_addr()?.port()))
            .collect::<Result<Vec<u16>, Trouble>>()?;
        drop(free);
        let controller = format!("127.0.0.1:{}", ports[0]);
        let quorum = match fixed_quorum {
            true => format!("controller.quorum.voters=1@{controller}\n"),
            false => format!("controller.quorum.bootstrap.servers={controller}\n"),
        };
        let mut nodes = Vec::new();
        for ((kind, port), id) in kinds.iter().zip(ports).zip(1..) {
            let is_controller = id == 1;
            let home = home.join(format!("node-{id}"));
            fs::create_dir_all(&home).doing(format!("creating {}", home.display()))?;
            let logs = logs.to_path_buf();
            let node = Node { kind: *kind, id, is_controller, port, home, logs, starts: 0, process: None };
            let (role, listener) =
                if is_controller { ("controller", "CONTROLLER") } else { ("broker", "PLAINTEXT") };
            let mut text = format!(
                "process.roles={role}\nnode.id={id}\nlog.dirs={}\nlisteners={listener}://{}\n{quorum}",
                node.data().display(),
                node.address()
            );
            SETTINGS.iter().for_each(|(key, value)| text.push_str(&format!("{key}={value}\n")));
            fs::write(node.properties(), text).doing("writing the properties")?;
            node.format(&binary, !fixed_quorum)?;
            nodes.push(node);
        }
        Ok(Cluster { binary, nodes })
    }

    /// A node by its id.
    pub fn node(&mut self, id: u16) -> &mut Node {
        &mut self.nodes[usize::from(id) - 1]
    }

    /// Starts a node that does not run.
    pub fn start(&mut self, id: u16) -> Result<Duration, Trouble> {
        let binary = self.binary.clone();
        self.node(id).start(&binary)
    }

    /// The brokers that run.
    pub fn brokers(&self) -> impl Iterator<Item = &Node> {
        self.nodes[1..].iter().filter(|node| node.process.is_some())
    }

    /// Where clients begin.
    pub fn bootstrap(&self) -> String {
        self.brokers().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// Waits until every partition has all its replicas in sync, as every broker sees it.
    pub fn wait_whole(&mut self, patience: Duration) -> Result<Duration, Trouble> {
        let begun = Instant::now();
        loop {
            let is_whole = |node: &Node| whole_as_seen_by(&node.name(), &node.address());
            let missing = self.brokers().try_for_each(is_whole);
            for node in &mut self.nodes {
                if node.process.is_some() && !node.is_running() {
                    steps::show_end(&node.log(), 20);
                    return Err(Trouble::new(format!("{} ended by itself", node.name())));
                }
            }
            match missing {
                Ok(()) => return Ok(begun.elapsed()),
                Err(missing) if begun.elapsed() > patience => {
                    return Err(Trouble::new(format!("not whole after {} s: {missing}", patience.as_secs())));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
