//! Three controllers and a broker, each with a role of its own, of Ottla or of Apache Kafka.

use super::Options;
use crate::broker::{Kind, java};
use crate::steps::{self, Doing, Trouble, fresh_dir};
use crate::workspace;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CLUSTER_ID: &str = "b3R0bGEtdm90ZXJzLTAwMQ";
/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes with one role each.
pub struct Site {
    kind: Kind,
    binary: PathBuf,
    home: PathBuf,
    logs: PathBuf,
    ports: BTreeMap<i32, u16>,
    nodes: BTreeMap<i32, Child>,
    starts: u32,
}

impl Site {
    /// A place for three controllers and a broker, each with a free port.
    pub fn new(options: &Options, home: &Path, logs: &Path) -> Result<Site, Trouble> {
        let ids = [1, 2, 3, 11];
        // All at once, so that all are different.
        let sockets = ids.map(|_| free_port());
        let mut ports = BTreeMap::new();
        for (id, socket) in ids.into_iter().zip(sockets) {
            ports.insert(id, socket?.local_addr()?.port());
        }
        Ok(Site {
            kind: options.against,
            binary: options.binary.clone().unwrap_or_else(workspace::ottla),
            home: fresh_dir(home)?,
            logs: fresh_dir(logs)?,
            ports,
            nodes: BTreeMap::new(),
            starts: 0,
        })
    }

    /// Where a node listens.
    pub fn address(&self, id: i32) -> String {
        format!("127.0.0.1:{}", self.ports[&id])
    }

    /// The same of several, between commas.
    pub fn addresses(&self, ids: &[i32]) -> String {
        ids.iter().map(|id| self.address(*id)).collect::<Vec<_>>().join(",")
    }

    /// The node listens elsewhere from its next start on.
    pub fn move_elsewhere(&mut self, id: i32) -> Result<(), Trouble> {
        self.ports.insert(id, free_port()?.local_addr()?.port());
        Ok(())
    }

    /// The file of a node.
    pub fn file(&self, id: i32) -> PathBuf {
        self.home.join(format!("{id}.properties"))
    }

    fn data(&self, id: i32) -> PathBuf {
        self.home.join(format!("data-{id}"))
    }

    /// Writes it: one role, and what `more` says.
    pub fn configure(&self, id: i32, role: &str, more: &str) -> Result<(), Trouble> {
        let listener = if role == "controller" { "CONTROLLER" } else { "PLAINTEXT" };
        let text = format!(
            "process.roles={role}\nnode.id={id}\nlisteners={listener}://{}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             controller.quorum.fetch.timeout.ms=1000\n{more}\n",
            self.address(id),
            self.data(id).display()
        );
        fs::write(self.file(id), text).doing("writing the properties of a node")
    }

    /// Formats the directory of a node with its own tool.
    pub fn format(&self, id: i32, how: &str) -> Result<(), Trouble> {
        let log = self.logs.join(format!("format-{id}.log"));
        let mut command = match self.kind {
            Kind::Kafka => {
                let mut command = java("kafka");
                command.arg("kafka.tools.StorageTool");
                command
            }
            _ => {
                let mut command = Command::new(&self.binary);
                command.arg("storage");
                command
            }
        };
        command.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(self.file(id));
        command.args(how.split_whitespace());
        let ended = steps::run_logged(&mut command, &log, PATIENCE)?;
        if !ended.success() {
            steps::show_end(&log, 20);
            return Err(Trouble::new(format!("formatting the directory of node {id}: {ended}")));
        }
        Ok(())
    }

    /// The `directory.id` of a node.
    pub fn disk(&self, id: i32) -> Result<String, Trouble> {
        let path = self.data(id).join("meta.properties");
        let text = fs::read_to_string(&path).doing(format!("reading {}", path.display()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("directory.id="));
        line.map(str::to_owned).ok_or_else(|| Trouble::new(format!("{} names no directory", path.display())))
    }

    /// A voter as `describe --status` shows it.
    pub fn voter(&self, id: i32) -> Result<String, Trouble> {
        Ok(format!(
            "{{\"id\": {id}, \"directoryId\": \"{}\", \"endpoints\": [\"CONTROLLER://{}\"]}}",
            self.disk(id)?,
            self.address(id)
        ))
    }

    /// A voter as errors name it.
    pub fn key(&self, id: i32) -> Result<String, Trouble> {
        Ok(format!("ReplicaKey(id={id}, directoryId={})", self.disk(id)?))
    }

    /// Starts nodes, and waits until each serves.
    pub fn start(&mut self, ids: &[i32]) -> Result<(), Trouble> {
        let mut started = Vec::new();
        for id in ids {
            self.starts += 1;
            let log = self.logs.join(format!("node-{id}-{}.log", self.starts));
            let out = File::create(&log).doing(format!("creating {}", log.display()))?;
            let mut command = match self.kind {
                Kind::Kafka => {
                    let mut command = java("kafka");
                    command.args([
                        "-Xmx256m",
                        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
                        "kafka.Kafka",
                    ]);
                    command
                }
                _ => {
                    let mut command = Command::new(&self.binary);
                    command.arg("serve");
                    command
                }
            };
            command.arg(self.file(*id)).stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
            let child = command
                .spawn()
                .doing(format!("starting {} (cargo build --release)", self.binary.display()))?;
            self.nodes.insert(*id, child);
            started.push((*id, log));
        }
        started.into_iter().try_for_each(|(id, log)| self.wait_ready(id, &log))
    }

    fn wait_ready(&mut self, id: i32, log: &Path) -> Result<(), Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(log).unwrap_or_default();
            if text.contains("Kafka Server started") {
                return Ok(());
            }
            let lives = self.nodes.get_mut(&id).is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            if !lives || Instant::now() > deadline {
                steps::show_end(log, 20);
                return Err(Trouble::new(format!("node {id} does not serve; log: {}", log.display())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM; waits for the end.
    pub fn stop(&mut self, id: i32) -> Result<(), Trouble> {
        let Some(mut child) = self.nodes.remove(&id) else { return Ok(()) };
        if let Some(pid) = Pid::from_raw(child.id() as i32) {
            kill_process(pid, Signal::TERM).map_err(Trouble::new)?;
        }
        let ended = steps::wait_until(&mut child, Instant::now() + PATIENCE)?;
        // A JVM that was told to stop ends with 143.
        let fine = ended.success() || self.kind == Kind::Kafka;
        if fine { Ok(()) } else { Err(Trouble::new(format!("node {id} did not stop in order: {ended}"))) }
    }

    /// Brokers first: they say goodbye to controllers.
    pub fn stop_all(&mut self) -> Result<(), Trouble> {
        let ids: Vec<i32> = self.nodes.keys().rev().copied().collect();
        ids.into_iter().try_for_each(|id| self.stop(id))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.nodes.values_mut() {
            // Those that have ended already need no end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> Result<TcpListener, Trouble> {
    TcpListener::bind("127.0.0.1:0").doing("looking for a free port")
}
