//! `ottla dev`: a cluster of several nodes on this machine, to develop against and to watch fail over.
//!
//! Every node is a process of its own (this program, `serve`), so that killing one is what it would be elsewhere: the others go on.
//! The tricky idea: nodes are in process groups of their own, so a Ctrl-C in the terminal reaches this process alone, which then stops
//! them all at once (there is nobody left to hand anything over to); and each node asks the kernel to be told when this process is gone, so that none is left behind.

mod plan;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use crate::start::{Signals, print};
use plan::{Plan, Ports};

/// Where clients connect if nothing else is said: the first free port from here on.
const FIRST_PORT: u16 = 9092;
/// How long nodes of an earlier start may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many lines of a node that does not start are shown.
const LINES_SHOWN: usize = 12;

/// The flags of `ottla dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// How many nodes, each broker and controller [default: 3, or as many as the directory holds]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(plan::NODES_MAX)))]
    nodes: Option<u16>,
    /// Where the nodes keep their data and what they say
    #[arg(long, value_name = "DIR", default_value = "ottla-dev")]
    dir: PathBuf,
    /// The first port that is tried; 0 takes any that are free
    #[arg(long, value_name = "PORT", default_value_t = FIRST_PORT)]
    port: u16,
    /// Begin with empty nodes: the data of an earlier cluster in this directory is deleted
    #[arg(long)]
    fresh: bool,
    /// Sets any configuration key on every node; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::cli::assignment)]
    set: Vec<(String, String)>,
}

/// What happens while the cluster runs.
enum Event {
    /// A node serves.
    Ready,
    /// A node has closed its output: it has ended, or is about to.
    Closed(usize),
    /// Somebody wants the cluster to stop.
    Stop,
}

/// Starts the nodes and runs them until somebody says stop.
pub fn run(args: DevArgs) -> ExitCode {
    match prepare(&args).and_then(|(plan, dir)| Cluster::start(&plan, &dir)?.watch()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("ottla: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Finds out what to start, and writes down what a restart has to know.
fn prepare(args: &DevArgs) -> Result<(Plan, PathBuf), String> {
    plan::wait_until_free(&args.dir, PATIENCE)?;
    if args.fresh {
        plan::forget(&args.dir)?;
    }
    fs::create_dir_all(&args.dir)
        .map_err(|error| format!("{} can not be made: {error}", args.dir.display()))?;
    let dir = fs::canonicalize(&args.dir).map_err(|error| format!("{}: {error}", args.dir.display()))?;
    let identity = plan::Identity::of(&dir, args.nodes)?;
    let ports = free_ports(identity.nodes, args.port)?;
    Ok((Plan { identity, ports, settings: args.set.clone() }, dir))
}

/// A port for clients and one for controllers for each node. Those of clients come first, one after the other where that is possible.
fn free_ports(nodes: u16, first: u16) -> Result<Vec<Ports>, String> {
    // All are held until all are found, so that none is found twice.
    let mut held: Vec<TcpListener> = Vec::new();
    let mut next = first;
    while held.len() < 2 * usize::from(nodes) {
        if let Ok(socket) = TcpListener::bind(("127.0.0.1", next)) {
            held.push(socket);
        }
        if first != 0 {
            next = next.checked_add(1).ok_or("no ports are free")?;
        }
    }
    let port =
        |socket: &TcpListener| socket.local_addr().map(|address| address.port()).map_err(|it| it.to_string());
    let ports = held.iter().map(port).collect::<Result<Vec<u16>, String>>()?;
    let (clients, controllers) = ports.split_at(usize::from(nodes));
    Ok(clients.iter().zip(controllers).map(|(&client, &controller)| Ports { client, controller }).collect())
}

/// The nodes, while they run.
struct Cluster {
    nodes: Vec<Option<Child>>,
    dir: PathBuf,
    events: Receiver<Event>,
}

impl Cluster {
    /// Starts every node, waits until all serve, and says where.
    fn start(plan: &Plan, dir: &Path) -> Result<Cluster, String> {
        let (sender, events) = channel();
        let mut cluster = Cluster { nodes: Vec::new(), dir: dir.to_owned(), events };
        listen(sender.clone())?;
        for node in 0..plan.ports.len() {
            cluster.nodes.push(Some(spawn(plan, node, dir, &sender)?));
        }
        let mut waiting = cluster.nodes.len();
        while waiting > 0 {
            match cluster.events.recv() {
                Ok(Event::Ready) => waiting -= 1,
                Ok(Event::Closed(node)) => return Err(cluster.story_of(node)),
                Ok(Event::Stop) | Err(_) => {
                    cluster.stop()?;
                    return Err("stopped before all nodes served".to_owned());
                }
            }
        }
        print(&plan.banner(dir));
        Ok(cluster)
    }

    /// Runs until somebody says stop, or no node is left.
    fn watch(mut self) -> Result<(), String> {
        while self.nodes.iter().any(Option::is_some) {
            match self.events.recv() {
                Ok(Event::Ready) => {}
                Ok(Event::Closed(node)) => {
                    let Some(status) = self.reap(node) else { continue };
                    print(&format!(
                        "node {} has ended ({status}); the others go on; its data is in {}\n",
                        node + 1,
                        plan::node_dir(&self.dir, node).display()
                    ));
                }
                Ok(Event::Stop) | Err(_) => return self.stop(),
            }
        }
        Err("all nodes have ended".to_owned())
    }

    /// Asks all nodes to stop, and waits. Who says stop once more does not want to wait.
    fn stop(&mut self) -> Result<(), String> {
        print("stopping\n");
        self.nodes.iter().flatten().for_each(|child| signal(child, Signal::INT));
        let mut unclean = Vec::new();
        while self.nodes.iter().any(Option::is_some) {
            match self.events.recv() {
                Ok(Event::Ready) => {}
                Ok(Event::Closed(node)) => {
                    if let Some(status) = self.reap(node).filter(|status| !status.success()) {
                        unclean.push(format!("node {} did not stop in order ({status})", node + 1));
                    }
                }
                Ok(Event::Stop) | Err(_) => {
                    self.nodes.iter().flatten().for_each(|child| signal(child, Signal::KILL));
                }
            }
        }
        if unclean.is_empty() { Ok(()) } else { Err(unclean.join("; ")) }
    }

    /// How a node whose output is closed has ended. `None` if that was asked before, or can not be told.
    fn reap(&mut self, node: usize) -> Option<ExitStatus> {
        self.nodes[node].take()?.wait().ok()
    }

    /// Why a node that should serve does not.
    fn story_of(&mut self, node: usize) -> String {
        let how = self.reap(node).map_or("it is gone".to_owned(), |status| status.to_string());
        let log = plan::node_log(&self.dir, node);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n    ");
        format!("node {} does not start ({how}); the end of {}:\n    {shown}", node + 1, log.display())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Those that are still there belong to a start that failed: they have nothing that anyone relies on.
        for child in self.nodes.iter_mut().flatten() {
            signal(child, Signal::KILL);
            let _ = child.wait();
        }
    }
}

/// Starts one node. What it prints goes to its log; the line that it serves is an event, and so is the end of its output.
fn spawn(plan: &Plan, node: usize, dir: &Path, events: &Sender<Event>) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let path = plan::node_log(dir, node);
    let log = File::create(&path).map_err(|error| format!("{} can not be made: {error}", path.display()))?;
    let mut told = log.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAFKA_") {
            command.env_remove(name);
        }
    }
    command.arg("serve").arg("--one-of-many").args(plan.arguments(node, dir));
    command.env("CLUSTER_ID", &plan.identity.cluster_id);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child =
        command.spawn().map_err(|error| format!("node {} can not be started: {error}", node + 1))?;
    let output = child.stdout.take();
    let events = events.clone();
    let follow = move || {
        for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok)
        {
            // A log that can not be written does not stop a node.
            let _ = writeln!(told, "{line}");
            if line.starts_with("ready in ") && events.send(Event::Ready).is_err() {
                return;
            }
        }
        // Nobody is left to be told when the cluster is being dropped.
        let _ = events.send(Event::Closed(node));
    };
    thread::Builder::new()
        .name(format!("ottla-dev-{}", node + 1))
        .spawn(follow)
        .map_err(|it| it.to_string())?;
    Ok(child)
}

/// Signals of this process become events, from now on.
fn listen(events: Sender<Event>) -> Result<(), String> {
    let signals = Signals::listen().map_err(|error| format!("signals can not be received: {error}"))?;
    let follow = move || signals.each(|| events.send(Event::Stop).is_ok());
    thread::Builder::new().name("ottla-dev-signals".into()).spawn(follow).map_err(|it| it.to_string())?;
    Ok(())
}

/// A child that was not waited for keeps its number, so this reaches nobody else.
fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself, which is what is wanted.
        let _ = kill_process(pid, signal);
    }
}
