//! From the command line to a node that serves, and back to a clean end.
//!
//! The tricky idea is the order: sockets are bound first (a port in use is found out before anything is touched, and port 0 becomes
//! a real port that can be advertised), then data is recovered, and only then does anyone accept from the sockets. Peers that come
//! in between wait in the backlog.

use std::io::{self, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ottla_broker::{Broker, Effects, NodeConfig};
use ottla_metadata::config::{BrokerConfig, Endpoint};
use ottla_storage::{Disk, Usage};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock::Clock;
use crate::config::{self, Configured, Request};
use crate::crew::Threads;
use crate::data_dir;
use crate::listeners;
use crate::logging;
use crate::metrics_page;
use crate::real_disk::RealDisk;
use crate::shell::{ConnectionLimits, Limits, Listening, Node, NodeThreads};

/// The configuration can not be used.
const EXIT_CONFIGURATION: u8 = 2;
/// The node could not start, or could not go on.
const EXIT_FAILURE: u8 = 1;
/// What the page of metrics is called where listeners have their names.
const METRICS: &str = "METRICS";
/// How long handing over leaderships may take.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);
/// How long handing over the leadership of the quorum may take.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// A second signal ended a node that was stopping (128 + SIGINT).
const EXIT_INTERRUPTED: i32 = 130;

/// Whom a node that is interrupted leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// A cluster that goes on, as after SIGTERM.
    Others,
    /// Nobody: the whole cluster stops, and there is no use in handing anything over.
    Nobody,
}

/// Starts a node and runs it to its end.
pub fn serve(request: Request, interrupted: Company) -> ExitCode {
    abort_on_panic();
    let clock = Arc::new(Clock::default());
    let mut configured = match config::load(&request) {
        Ok(configured) => configured,
        Err(errors) => return refuse(EXIT_CONFIGURATION, &errors),
    };
    speak_up(&configured);
    allow_many_files();
    match start(&mut configured, &clock).and_then(|running| run(running, interrupted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(EXIT_FAILURE, &[error]),
    }
}

/// Prints the configuration that [`serve`] would use.
pub fn print_config(request: Request) -> ExitCode {
    match config::load(&request) {
        Ok(configured) => {
            print(&configured.describe());
            configured.warnings.iter().for_each(|warning| eprintln!("ottla: {warning}"));
            ExitCode::SUCCESS
        }
        Err(errors) => refuse(EXIT_CONFIGURATION, &errors),
    }
}

fn refuse(code: u8, errors: &[String]) -> ExitCode {
    errors.iter().for_each(|error| eprintln!("ottla: {error}"));
    ExitCode::from(code)
}

fn speak_up(configured: &Configured) {
    if let Some(level) = &configured.log_level
        && !logging::set_level(level)
    {
        crate::warn!("KAFKA_LOG4J_ROOT_LOGLEVEL={level}: no such level; INFO is used");
    }
    configured.warnings.iter().for_each(|warning| crate::warn!("{warning}"));
    configured.remarks.iter().for_each(|remark| crate::info!("{remark}"));
}

/// A node that serves.
struct Running {
    node: Arc<Node>,
    threads: NodeThreads,
    signals: Signals,
}

/// Binds, recovers, starts all threads, and says so.
fn start(configured: &mut Configured, clock: &Arc<Clock>) -> Result<Running, String> {
    let is_told = configured.is_given("controller.quorum.voters");
    let listening = bind_all(&mut configured.broker, is_told)?;
    let metrics = bind_metrics(&configured.broker)?;
    let limits = limits(configured);
    let dirs = configured.broker.log_dirs.iter().chain([&configured.broker.metadata_log_dir]);
    for dir in dirs {
        match data_dir::prepare(Path::new(dir)) {
            Ok(()) => {}
            // The node goes on without a directory that does not work, if it is not the one that it can not do without.
            Err(data_dir::Unfit::Broken(why)) if *dir != configured.broker.metadata_log_dir => {
                crate::warn!("{why}");
            }
            Err(unfit) => return Err(unfit.to_string()),
        }
    }
    let node_config = NodeConfig {
        broker: configured.broker.clone(),
        cluster_id: configured.cluster_id.clone(),
        loggers: logging::loggers(),
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let broker = Broker::open_with(Box::new(Threads), disk, node_config, clock.now(), rand::random())
        .map_err(|error| error.to_string())?;
    let banner = banner(&broker, &configured.broker, &listening, metrics.as_ref());
    if !broker.is_serving() {
        print(&format!("node {} waits for the quorum\n", configured.broker.node_id));
    }
    let since = Arc::clone(clock);
    let on_serve = Box::new(move || print(&format!("{banner}ready in {} ms\n", since.uptime_ms())));
    let node = Node::new(broker, Arc::clone(clock), limits, on_serve);
    let signals = Signals::listen().map_err(|error| format!("signals can not be received: {error}"))?;
    if let Some(socket) = metrics {
        metrics_page::serve(Arc::clone(&node), socket)
            .map_err(|error| format!("metrics can not be shown: {error}"))?;
    }
    let threads = node.start(listening).map_err(|error| format!("no thread could be started: {error}"))?;
    Ok(Running { node, threads, signals })
}

/// Binds every listener, and puts real ports and names in the place of 0 and nothing. `is_told`: the voters are configured.
fn bind_all(config: &mut BrokerConfig, is_told: bool) -> Result<Vec<Listening>, String> {
    let network = &mut config.network;
    let mut bound = Vec::new();
    for listener in &mut network.listeners {
        let socket = listeners::bind(&listener.name, &listener.host, listener.port, network.backlog)?;
        let port =
            socket.local_addr().map_err(|error| format!("listener {}: {error}", listener.name))?.port();
        for advertised in network.advertised_listeners.iter_mut().chain(&mut network.advertised_controllers) {
            if advertised.name == listener.name && advertised.port == 0 {
                advertised.port = port;
            }
        }
        listener.port = port;
        bound.push(Listening { name: listener.name.as_str().into(), socket });
    }
    let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    for advertised in network.advertised_listeners.iter_mut().filter(|advertised| advertised.host.is_empty())
    {
        advertised.host = machine();
    }
    // What the voters are told to be counts before the machine's name; that a node alone is its own voter tells nobody where it is.
    let is_voter = is_told && config.quorum.voters.iter().any(|voter| voter.id == config.node_id);
    let everywhere = |host: &str| matches!(host, "" | "0.0.0.0" | "::");
    for advertised in network.advertised_controllers.iter_mut().filter(|it| everywhere(&it.host) && !is_voter)
    {
        advertised.host = machine();
    }
    Ok(bound)
}

/// The socket of the page of metrics, if it is wanted.
fn bind_metrics(config: &BrokerConfig) -> Result<Option<TcpListener>, String> {
    let wanted = config.telemetry.listen.as_ref();
    let bind = |(host, port): &(String, u16)| listeners::bind(METRICS, host, *port, config.network.backlog);
    wanted.map(bind).transpose()
}

fn limits(configured: &Configured) -> Limits {
    let network = &configured.broker.network;
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Half for what comes in and half for what goes out: neither can take the other's place and so stop it.
    let memory = usize::try_from(configured.broker.memory_limit_bytes / 2).unwrap_or(usize::MAX);
    // Kafka's defaults for buffers would only switch the kernel's own tuning off.
    let if_given = |key: &str, bytes: Option<i32>| bytes.filter(|_| configured.is_given(key)).map(count);
    Limits {
        loops: configured
            .number("ottla.threads")
            .and_then(|threads| usize::try_from(threads).ok())
            .unwrap_or(cores)
            .clamp(1, 1024),
        request_bytes_max: count(network.request_max_bytes),
        request_memory_bytes: memory,
        response_memory_bytes: memory,
        connections: ConnectionLimits::of(network),
        idle_ms_max: network.connections_max_idle_ms,
        send_buffer_bytes: if_given("socket.send.buffer.bytes", network.send_buffer_bytes),
        receive_buffer_bytes: if_given("socket.receive.buffer.bytes", network.receive_buffer_bytes),
        ..Limits::default()
    }
}

/// What an operator wants to see once, and the two lines that test harnesses wait for.
fn banner(
    broker: &Broker,
    config: &BrokerConfig,
    listening: &[Listening],
    metrics: Option<&TcpListener>,
) -> String {
    let roles = match (config.roles.broker, config.roles.controller) {
        (true, true) => "broker and controller",
        (true, false) => "broker",
        _ => "controller",
    };
    let mut lines = vec![
        format!("Ottla {} (compatible with Apache Kafka 4.4)", env!("CARGO_PKG_VERSION")),
        format!("node {} of cluster {}, {roles}", config.node_id, broker.cluster_id()),
    ];
    lines.extend(config.log_dirs.iter().take(2).map(|dir| describe_dir(Path::new(dir))));
    for Listening { name, socket } in listening.iter().take(4) {
        let bound = socket.local_addr().map_or("?".to_owned(), |address| address.to_string());
        let advertised = config.network.advertised_listeners.iter().find(|endpoint| endpoint.name == **name);
        let told = advertised.map_or("not told to clients".to_owned(), |endpoint| {
            format!("clients are told {}", address_of(endpoint))
        });
        lines.push(format!("Listening {name} {bound} ({told})"));
    }
    if let Some(bound) = metrics.and_then(|socket| socket.local_addr().ok()) {
        lines.push(format!("Listening {METRICS} {bound} (http, /metrics)"));
    }
    lines.push("Transitioning from RECOVERY to RUNNING".to_owned());
    lines.push("Kafka Server started".to_owned());
    lines.into_iter().map(|line| line + "\n").collect()
}

fn address_of(endpoint: &Endpoint) -> String {
    let text = endpoint.to_string();
    text.split_once("://").map_or(text.clone(), |(_, address)| address.to_owned())
}

fn describe_dir(dir: &Path) -> String {
    let shown: PathBuf = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    match RealDisk.usage(dir) {
        Ok(Usage { total, usable }) => {
            format!("data in {} ({} of {} free)", shown.display(), size(usable), size(total))
        }
        Err(_) => format!("data in {}", shown.display()),
    }
}

fn size(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)];
    let (name, unit) = units.into_iter().find(|(_, unit)| bytes >= *unit).unwrap_or(("KiB", 1 << 10));
    format!("{:.1} {name}", bytes as f64 / unit as f64)
}

/// Prints to stdout in one piece. Nobody is left to be told that stdout is closed.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The signals that end a node. Before they are listened to, they end the process as it stands, which recovery survives.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen.
    pub fn listen() -> io::Result<Signals> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        drop(context);
        Ok(Signals { runtime, terminate, interrupt })
    }

    /// Calls `told` for every signal, until it returns false.
    pub fn each(self, mut told: impl FnMut() -> bool) {
        let Signals { runtime, mut terminate, mut interrupt } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if !told() {
                    return;
                }
            }
        });
    }
}

/// Waits for the end: a signal, or a broker that can not go on.
fn run(Running { node, threads, signals }: Running, interrupted: Company) -> Result<(), String> {
    let Signals { runtime, mut terminate, mut interrupt } = signals;
    runtime.block_on(async {
        let company = tokio::select! {
            _ = terminate.recv() => Company::Others,
            _ = interrupt.recv() => interrupted,
            reason = node.halted() => return Err(reason),
        };
        if company == Company::Others {
            leave(&node, &mut terminate, &mut interrupt).await;
        }
        let (sender, stopped) = tokio::sync::oneshot::channel();
        let stop = move || {
            threads.stop();
            // The other end is only gone when the process is.
            let _ = sender.send(node.broker.shutdown());
        };
        thread::Builder::new().name("ottla-stop".into()).spawn(stop).map_err(|error| error.to_string())?;
        tokio::select! {
            result = stopped => result.unwrap_or(Ok(())),
            _ = terminate.recv() => std::process::exit(EXIT_INTERRUPTED),
            _ = interrupt.recv() => std::process::exit(EXIT_INTERRUPTED),
        }
    })
}

/// Hands over what this node leads, and then its place in the quorum, as long as there is somebody to hand it to. A second signal, or
/// too long a time, ends the waiting: the others notice then.
async fn leave(node: &Arc<Node>, terminate: &mut Signal, interrupt: &mut Signal) {
    type Step = fn(&Broker, i64, &mut Effects);
    let steps: [(Step, Duration); 2] =
        [(Broker::begin_shutdown, SHUTDOWN_MAX), (Broker::leave_quorum, LEAVE_MAX)];
    for (step, patience) in steps {
        let mut effects = Effects::new();
        step(&node.broker, node.clock.now(), &mut effects);
        node.perform(effects, None);
        tokio::select! {
            () = node.may_stop() => {}
            () = tokio::time::sleep(patience) => {}
            _ = terminate.recv() => std::process::exit(EXIT_INTERRUPTED),
            _ = interrupt.recv() => std::process::exit(EXIT_INTERRUPTED),
        }
    }
}

/// An invariant that does not hold must not be survived: what would be acknowledged then could be wrong.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let trace = std::backtrace::Backtrace::capture();
        crate::error!("thread {name} panicked, the process ends: {panic}");
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            eprintln!("{trace}");
        }
        std::process::abort();
    }));
}

/// Has the kernel interrupt this process when its parent is gone, however that came about.
pub fn end_with_parent() {
    use rustix::process::{Signal, set_parent_process_death_signal};
    if let Err(error) = set_parent_process_death_signal(Some(Signal::INT)) {
        crate::warn!("this node will not notice the end of the process that started it: {error}");
    }
}

/// Raises the limit of open files as far as this user may.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            crate::debug!("the limit of open files stays at {:?}: {error}", limit.current);
        }
    }
}
