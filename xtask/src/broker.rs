//! A broker under test as a process: Ottla, Apache Kafka as the oracle that says what a case must see, or another one to be measured
//! beside.
//!
//! The tricky idea: output goes to a file and the file is polled, so that a broker that is killed, or that hangs, never
//! blocks its keeper on a pipe. The port is chosen once and kept, because clients must find a restarted broker again.

use crate::steps::{Doing, Trouble, wait_until};
use crate::workspace;
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Which broker.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Ottla,
    Kafka,
    /// A broker in Rust that keeps its topics in memory: for the benchmark alone.
    #[value(skip)]
    Tansu,
}

impl Kind {
    /// The name of its folders and keys.
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Ottla => "ottla",
            Kind::Kafka => "kafka",
            Kind::Tansu => "tansu",
        }
    }

    /// How messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ottla => "ottla",
            Kind::Kafka => "Apache Kafka",
            Kind::Tansu => "Tansu",
        }
    }
}

/// What both brokers are given beside their defaults: small internal topics, and no waiting for a group's first members.
const SETTINGS: &[(&str, &str)] = &[
    ("num.partitions", "3"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
];

/// How long a start may take: Apache Kafka recovers a thousand topics slowly on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// A broker and where it keeps things.
pub struct Broker {
    kind: Kind,
    binary: PathBuf,
    home: PathBuf,
    logs: PathBuf,
    port: u16,
    controller_port: u16,
    /// Kafka's quorum is formatted as one whose voters may change (KIP-853).
    quorum_may_change: bool,
    /// Apache Kafka's directory is formatted by Ottla.
    formatted_by_ottla: bool,
    /// Ottla is given the file that Kafka is given, instead of flags.
    by_file: bool,
    starts: u32,
    process: Option<Child>,
    /// What it is given besides [`SETTINGS`].
    settings: Vec<(String, String)>,
    /// Options of the JVM that take the place of those that start fast.
    jvm: Option<Vec<String>>,
}

impl Broker {
    /// A stopped broker with an empty data directory below `home`.
    pub fn new(kind: Kind, binary: Option<PathBuf>, home: &Path, logs: &Path) -> Result<Broker, Trouble> {
        fs::create_dir_all(home).doing(format!("creating {}", home.display()))?;
        fs::create_dir_all(logs).doing(format!("creating {}", logs.display()))?;
        Ok(Broker {
            kind,
            binary: binary.unwrap_or_else(workspace::ottla),
            home: home.to_path_buf(),
            logs: logs.to_path_buf(),
            port: free_port()?,
            controller_port: free_port()?,
            quorum_may_change: false,
            formatted_by_ottla: false,
            by_file: false,
            starts: 0,
            process: None,
            settings: Vec::new(),
            jvm: None,
        })
    }

    /// Gives it more settings; later ones win.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        let owned = settings.iter().map(|(key, value)| (String::from(*key), String::from(*value)));
        self.settings.extend(owned);
    }

    /// Has the JVM run with these options instead of those that make it start fast.
    pub fn set_jvm(&mut self, options: &[&str]) {
        self.jvm = Some(options.iter().copied().map(String::from).collect());
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Result<u32, Trouble> {
        self.process.as_ref().map(Child::id).ok_or_else(|| Trouble::new("the broker does not run"))
    }

    /// Has Apache Kafka start on a directory that Ottla formats.
    pub fn let_ottla_format(&mut self) {
        self.formatted_by_ottla = true;
    }

    /// Has Ottla started with the very file of properties that Kafka is started with, instead of flags.
    pub fn start_by_file(&mut self) {
        self.by_file = true;
    }

    /// Has Kafka format a quorum whose voters may change.
    pub fn let_quorum_change(&mut self) {
        self.quorum_may_change = true;
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where other controllers connect.
    pub fn controller(&self) -> String {
        format!("127.0.0.1:{}", self.controller_port)
    }

    /// The log directory: `meta.properties` and one folder per partition.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// What the newest process printed.
    pub fn log(&self) -> PathBuf {
        self.logs.join(format!("broker-{}.log", self.starts))
    }

    /// Starts the broker and waits until it says that it serves. Returns how long that took.
    pub fn start(&mut self) -> Result<Duration, Trouble> {
        assert!(self.process.is_none(), "start of a running broker");
        if self.kind == Kind::Kafka || self.by_file {
            self.write_properties()?;
        }
        if self.kind == Kind::Kafka && self.starts == 0 {
            self.format_kafka()?;
        }
        self.starts += 1;
        let log = self.log();
        let out = File::create(&log).doing(format!("creating {}", log.display()))?;
        let mut command = match self.kind {
            Kind::Ottla => self.ottla_command(),
            Kind::Kafka => self.kafka_command(),
            Kind::Tansu => self.tansu_command(),
        };
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        let begun = Instant::now();
        let child = command.spawn().doing(match self.kind {
            Kind::Ottla => format!("starting {} (cargo build --release)", self.binary.display()),
            Kind::Kafka | Kind::Tansu => format!("starting {}", self.name()),
        })?;
        self.process = Some(child);
        self.wait_ready(&log, begun + START_PATIENCE)?;
        Ok(begun.elapsed())
    }

    /// Resident memory of the process, in KiB.
    pub fn rss_kib(&self) -> Result<u64, Trouble> {
        let pid = self.pid()?;
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).doing("reading the size of the broker")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        kib.ok_or_else(|| Trouble::new("the size of the broker is not told"))
    }

    /// How messages call it.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Asks the broker to stop (SIGTERM) and waits; a broker that does not stop within a minute has failed.
    pub fn stop(&mut self) -> Result<Duration, Trouble> {
        let Some(mut child) = self.process.take() else { return Ok(Duration::ZERO) };
        let begun = Instant::now();
        if let Some(pid) = Pid::from_raw(child.id() as i32) {
            kill_process(pid, Signal::TERM).map_err(Trouble::new)?;
        }
        let ended = wait_until(&mut child, begun + Duration::from_secs(60))?;
        // A JVM reports 128 + SIGTERM after an orderly shutdown.
        let orderly = match &ended {
            crate::steps::Ended::Exit(status) => status.success() || status.code() == Some(143),
            crate::steps::Ended::Late => false,
        };
        if !orderly {
            return Err(Trouble::new(format!("{} did not stop in order: {ended}", self.name())));
        }
        Ok(begun.elapsed())
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<(), Trouble> {
        if let Some(mut child) = self.process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Is the process still there? Suites fail in confusing ways when the broker died below them.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.process {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    fn wait_ready(&mut self, log: &Path, deadline: Instant) -> Result<(), Trouble> {
        loop {
            if self.is_ready(log) {
                return Ok(());
            }
            if !self.is_alive() || Instant::now() > deadline {
                self.kill()?;
                crate::steps::show_end(log, 30);
                return Err(Trouble::new(format!("{} did not start; log: {}", self.name(), log.display())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_ready(&self, log: &Path) -> bool {
        if self.kind == Kind::Tansu {
            return TcpStream::connect(self.bootstrap()).is_ok();
        }
        fs::read(log).is_ok_and(|text| String::from_utf8_lossy(&text).contains("Kafka Server started"))
    }

    /// It has no settings that others have, too.
    fn tansu_command(&self) -> Command {
        let mut command = Command::new(workspace::installed().join("tansu/bin/tansu"));
        let url = format!("tcp://{}", self.bootstrap());
        command.args(["broker", "--storage-engine", "memory://tansu/"]);
        command.args(["--listener-url", &url, "--advertised-listener-url", &url]);
        command
    }

    fn ottla_command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        if self.by_file {
            command.arg("serve").arg(self.properties());
            return command;
        }
        command.arg("serve").arg("--data-dir").arg(self.data()).arg("--listen").arg(self.bootstrap());
        for (key, value) in self.all_settings() {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command
    }

    fn all_settings(&self) -> std::collections::BTreeMap<&str, &str> {
        let own = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        SETTINGS.iter().copied().chain(own).collect()
    }

    fn kafka_command(&self) -> Command {
        let mut command = match &self.jvm {
            None => java("kafka"),
            Some(options) => {
                let mut command = Command::new("java");
                command.args(options).arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
                command.arg("-cp").arg(class_path("kafka"));
                command
            }
        };
        if self.jvm.is_none() {
            command.arg("-Xmx1g");
        }
        command
            .args(["-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"])
            .arg("kafka.Kafka")
            .arg(self.properties());
        command
    }

    fn properties(&self) -> PathBuf {
        self.home.join("server.properties")
    }

    fn write_properties(&self) -> Result<(), Trouble> {
        let (port, controller) = (self.port, self.controller_port);
        let quorum = if self.quorum_may_change {
            format!("bootstrap.servers=127.0.0.1:{controller}")
        } else {
            format!("voters=1@127.0.0.1:{controller}")
        };
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\nlog.dirs={}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\ncontroller.quorum.{quorum}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n",
            self.data().display()
        );
        for (key, value) in self.all_settings() {
            text.push_str(&format!("{key}={value}\n"));
        }
        fs::write(self.properties(), text).doing("writing the properties")
    }

    fn format_kafka(&self) -> Result<(), Trouble> {
        let log = self.logs.join("format.log");
        let mut command = if self.formatted_by_ottla {
            let mut command = Command::new(&self.binary);
            command.arg("storage");
            command
        } else {
            let mut command = java("kafka");
            command.arg("kafka.tools.StorageTool");
            command
        };
        command.args(["format", "--cluster-id", "b3R0bGEtdGVzdHMtMDAwMQ", "--config"]);
        command.arg(self.properties());
        if self.quorum_may_change {
            command.arg("--standalone");
        }
        let ended = crate::steps::run_logged(&mut command, &log, Duration::from_secs(60))?;
        if !ended.success() {
            crate::steps::show_end(&log, 20);
            return Err(Trouble::new(format!("formatting Apache Kafka's data directory: {ended}")));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Nothing can be done about a kill that fails while we are on the way out.
        let _ = self.kill();
    }
}

/// `java` with one of the two sets of jars on its class path ("kafka" or "tools"), set up to start fast and log little.
pub fn java(jars: &str) -> Command {
    let mut command = Command::new("java");
    command.args(java_options(jars));
    command
}

/// What stands between `java` and the main class.
pub fn java_options(jars: &str) -> Vec<String> {
    let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    let mut options: Vec<String> =
        ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", quiet].map(String::from).into();
    let archive = class_archive(jars);
    if archive.exists() {
        options.push(format!("-XX:SharedArchiveFile={}", archive.display()));
    }
    options.extend(["-cp".into(), class_path(jars)]);
    options
}

/// Loaded classes, kept from one run of a tool to the next: it halves the time that a tool takes to start.
pub fn class_archive(jars: &str) -> PathBuf {
    workspace::installed().join(jars).join("classes.jsa")
}

/// The class path of one set of jars: each by name, because the compiler expands no wildcard when it is run as a module.
pub fn class_path(jars: &str) -> String {
    let libs = workspace::installed().join(jars).join("libs");
    let mut found: Vec<String> = fs::read_dir(&libs)
        .map(|entries| entries.flatten().map(|entry| entry.path().display().to_string()).collect())
        .unwrap_or_default();
    found.sort();
    found.join(":")
}

fn free_port() -> Result<u16, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").doing("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
