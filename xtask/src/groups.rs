//! `cargo xtask groups`: groups under load. A thousand members join one group (classic, then KIP-848), one of them leaves, while somebody
//! produces; ten thousand groups commit a million offsets, which are there again after a restart.
//!
//! The members are cheap: a thread with a connection each, speaking the protocol and nothing else (`members`), so that what is measured
//! is the broker and not a thousand clients. They stand for programs on other machines, so the scheduler is told to have the broker and
//! the producer that is watched go before them. The same run against Apache Kafka beside it gives ratios.

mod members;
mod offsets;

use crate::bench::peer::JVM_AS_SHIPPED;
use crate::broker::{Broker, Kind};
use crate::steps::{Trouble, fresh_dir};
use crate::wire::Connection;
use crate::workspace;
use clap::Args;
use members::{Load, Protocol};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::MetadataResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::wire::Records;
use ottla_protocol::{Message, Reader};
use rustix::process::Pid;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// The broker under test
    #[arg(long, value_enum, default_value = "ottla")]
    pub against: Kind,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Members of the one group
    #[arg(long, default_value_t = 1000)]
    pub members: usize,
    /// Groups that commit offsets
    #[arg(long, default_value_t = 10_000)]
    pub groups: usize,
    /// Offsets that each of them commits
    #[arg(long, default_value_t = 100)]
    pub offsets: usize,
}

/// How long any single request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much the broker and the watched producer count for the scheduler.
const FIRST: i32 = -20;
/// How long the producer is watched while nothing else happens.
const QUIET: Duration = Duration::from_secs(3);
/// A thousand members connect at once, and whoever finds the backlog full tries again after a second: that is not what is measured here.
const SETTINGS: &[(&str, &str)] = &[("socket.listen.backlog.size", "4096")];

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let logs = fresh_dir(&workspace::logs("groups"))?;
    let home = fresh_dir(&workspace::scratch("groups"))?;
    let mut broker = Broker::new(options.against, options.binary.clone(), &home, &logs)?;
    broker.set(SETTINGS);
    broker.set_jvm(JVM_AS_SHIPPED);
    broker.start()?;
    create_topic(&broker.bootstrap(), "members", options.members)?;
    create_topic(&broker.bootstrap(), "records", 1)?;
    create_topic(&broker.bootstrap(), "offsets", options.offsets)?;
    find_coordinator(&broker.bootstrap(), "classic")?;
    println!("{}:", broker.name());
    if let Err(error) = put_first(broker.pid()?) {
        println!("  (the broker does not go before the members: {error}; the latencies are theirs, too)");
    }
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        let quiet = Watch::over(&broker.bootstrap(), || {
            std::thread::sleep(QUIET);
            Ok(())
        })?;
        let mut load = None;
        let busy = Watch::over(&broker.bootstrap(), || {
            load = Some(Load::run(&broker.bootstrap(), protocol, options.members)?);
            Ok(())
        })?;
        let Some(load) = load else { return Err(Trouble::new("nothing was measured")) };
        println!(
            "  {} members, {protocol}: joined in {} ms, one left and was replaced in {} ms; produce p99 {} us quiet, {} us meanwhile",
            options.members,
            load.joining.1.duration_since(load.joining.0).as_millis(),
            load.leaving.1.duration_since(load.leaving.0).as_millis(),
            quiet.p99(|_| true).as_micros(),
            busy.p99(|at| load.is_busy(at)).as_micros(),
        );
    }
    let kept = offsets::measure(&mut broker, options.groups, options.offsets)?;
    println!("  {kept}");
    broker.stop()?;
    Ok(true)
}

/// Latencies of a producer that sends one small batch after the other.
struct Watch {
    /// When each was sent, and how long its answer took.
    latencies: Vec<(Instant, Duration)>,
}

impl Watch {
    /// Produces while `deed` is done.
    fn over(bootstrap: &str, deed: impl FnOnce() -> Result<(), Trouble>) -> Result<Watch, Trouble> {
        let is_over = AtomicBool::new(false);
        let (latencies, done) = std::thread::scope(|scope| {
            let producer = scope.spawn(|| produce_until(bootstrap, &is_over));
            let done = deed();
            is_over.store(true, Ordering::Release);
            (producer.join(), done)
        });
        done?;
        let latencies = latencies.map_err(|_| Trouble::new("the producer panicked"))??;
        Ok(Watch { latencies })
    }

    /// The 99th percentile of those that were sent at certain times.
    fn p99(&self, is_then: impl Fn(Instant) -> bool) -> Duration {
        let then = self.latencies.iter().filter(|(at, _)| is_then(*at));
        let mut latencies: Vec<Duration> = then.map(|(_, latency)| *latency).collect();
        latencies.sort();
        latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Has every thread of a process that there is now go before all others (`nice` -20), which takes a privilege.
fn put_first(process: u32) -> io::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        rustix::process::setpriority_process(task, FIRST)?;
    }
    Ok(())
}

fn produce_until(bootstrap: &str, is_over: &AtomicBool) -> Result<Vec<(Instant, Duration)>, Trouble> {
    // Without the privilege the run has said so already.
    let _ = rustix::process::setpriority_process(None, FIRST);
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    let mut batch = BatchBuilder::new(0, BatchOptions::default());
    batch.push(1, None, Some(&[b'x'; 100]), &[]);
    let batch = batch.finish();
    let mut latencies = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        let request = ProduceRequest {
            acks: 1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: "records".into(),
                partition_data: vec![PartitionProduceData {
                    index: 0,
                    records: Some(Records::Slice(&batch)),
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let begun = Instant::now();
        connection.ask(&request, 11)?;
        latencies.push((begun, begun.elapsed()));
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(latencies)
}

fn create_topic(bootstrap: &str, name: &str, partitions: usize) -> Result<(), Trouble> {
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions as i32,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    connection.ask(&request, 5)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        let body = connection.ask(&request, 12)?;
        let response = MetadataResponse::decode(&mut Reader::new(&body), 12).map_err(Trouble::new)?;
        let has_leaders = response.topics.iter().all(|topic| {
            topic.error_code == 0
                && topic.partitions.len() == partitions
                && topic.partitions.iter().all(|partition| partition.leader_id >= 0)
        });
        if has_leaders {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Trouble::new(format!("{name} does not come into being")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until there is a coordinator: the first who asks for one has the internal topic created.
fn find_coordinator(bootstrap: &str, group: &str) -> Result<(), Trouble> {
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = FindCoordinatorRequest {
            key_type: 0,
            coordinator_keys: vec![group.into()],
            ..Default::default()
        };
        let body = connection.ask(&request, 4)?;
        let response = FindCoordinatorResponse::decode(&mut Reader::new(&body), 4).map_err(Trouble::new)?;
        if response.coordinators.iter().all(|coordinator| coordinator.error_code == 0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Trouble::new(format!("no coordinator for {group}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
