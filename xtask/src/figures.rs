//! `cargo xtask figures`: the figures of docs/performance.md, measured anew and written there.
//!
//! Each is a median over fresh processes; none compares with another system (that is the benchmark's task).

use crate::broker::{Broker, Kind};
use crate::steps::{Trouble, fresh_dir};
use crate::{wire, workspace};
use clap::Args;
use ottla_protocol::Records;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::BatchBuilder;
use ottla_protocol::{Message, Reader};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the table stands, between these two lines.
const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";
/// Idle connections opened for the memory figure.
const CONNECTIONS: usize = 1_000;
/// Logs of one batch each for the other recovery figure.
const SMALL_LOGS: i32 = 3_000;
/// Logs for the figure of scale: several times the files that most systems let a process have open.
const MANY_LOGS: i32 = 100_000;
/// What one request creates of them: Kafka takes no more than 10,000 records.
const PARTITIONS_MAX: i32 = 5_000;
/// Bytes of log for the recovery figure.
const LOG_BYTES: usize = 1 << 30;
/// Processes started for the start-up figure.
const STARTS: usize = 21;
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether to write what was measured.
#[derive(Args)]
pub struct Options {
    /// Only print the table
    #[arg(long)]
    dry_run: bool,
}

struct Figure {
    what: &'static str,
    value: String,
    goal: &'static str,
    met: bool,
}

/// Runs the chore.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let figures = measure()?;
    let mut table = String::from("| figure | measured | goal |\n|---|---|---|\n");
    for Figure { what, value, goal, .. } in &figures {
        table.push_str(&format!("| {what} | {value} | {goal} |\n"));
    }
    println!("{table}");
    if !options.dry_run {
        let page = workspace::root().join(PAGE);
        let text = fs::read_to_string(&page)?;
        let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
            return Err(Trouble::new(format!("{PAGE}: the lines {BEGIN} and {END} are missing")));
        };
        let text = format!("{}{BEGIN}\n{table}{}", &text[..begin], &text[end..]);
        fs::write(page, text)?;
    }
    Ok(figures.iter().all(|figure| figure.met))
}

fn measure() -> Result<Vec<Figure>, Trouble> {
    let home = fresh_dir(&workspace::scratch("figures"))?;
    let logs = fresh_dir(&workspace::logs("figures"))?;
    let mut figures = Vec::new();

    let mut starts = Vec::new();
    let mut stops = Vec::new();
    for round in 0..STARTS {
        let mut broker = Broker::new(Kind::Ottla, None, &home.join(format!("start-{round}")), &logs)?;
        starts.push(broker.start()?);
        stops.push(broker.stop()?);
    }
    figures.push(time("exec to ready, empty directory", median(starts), 50));
    figures.push(time("SIGTERM to exit, idle", median(stops), 100));

    let mut broker = Broker::new(Kind::Ottla, None, &home.join("idle"), &logs)?;
    broker.start()?;
    let idle = broker.rss_kib()?;
    figures.push(memory("resident memory, idle", idle, 30));
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut connection = wire::Connection::open(&broker.bootstrap(), PATIENCE)?;
        connection.ask(&MetadataRequest { topics: Some(Vec::new()), ..Default::default() }, 12)?;
        connections.push(connection);
    }
    figures.push(memory("added by 1,000 idle connections", broker.rss_kib()?.saturating_sub(idle), 20));
    drop(connections);
    broker.stop()?;

    let binary = fs::metadata(workspace::ottla())?.len() >> 10;
    figures.push(memory("size of the binary", binary, 30));
    figures.push(time(
        "restart after kill -9 with 1 GiB of log",
        recovery(&home.join("recovery"), &logs)?,
        1_000,
    ));
    figures.push(time(
        "restart after kill -9 with 3,000 small logs",
        small_logs(&home.join("small"), &logs)?,
        1_000,
    ));
    let (took, memory_kib) = many_logs(&home.join("many"), &logs)?;
    let took = format!("{:.1} s", took.as_secs_f64());
    figures.push(told("100,000 partitions created, and a record in each", took));
    figures.push(told("resident memory then", format!("{} MB", memory_kib >> 10)));
    Ok(figures)
}

/// Has very many partitions take a record each. How long that took, and how much memory the broker has then.
fn many_logs(home: &Path, logs: &Path) -> Result<(Duration, u64), Trouble> {
    let mut broker = Broker::new(Kind::Ottla, None, home, logs)?;
    broker.start()?;
    let mut connection = wire::Connection::open(&broker.bootstrap(), PATIENCE)?;
    let begun = Instant::now();
    for part in 0..MANY_LOGS / PARTITIONS_MAX {
        fill_logs(&mut connection, &format!("many-{part}"), PARTITIONS_MAX)?;
    }
    let took = begun.elapsed();
    let memory = broker.rss_kib()?;
    broker.stop()?;
    Ok((took, memory))
}

/// Creates a topic of that many partitions, and produces a batch of one record to each.
fn fill_logs(connection: &mut wire::Connection, topic: &str, count: i32) -> Result<(), Trouble> {
    let topics = vec![CreatableTopic {
        name: topic.into(),
        num_partitions: count,
        replication_factor: 1,
        ..Default::default()
    }];
    let body =
        connection.ask(&CreateTopicsRequest { topics, timeout_ms: 60_000, ..Default::default() }, 7)?;
    let response = CreateTopicsResponse::decode(&mut Reader::new(&body), 7).map_err(Trouble::new)?;
    if let Some(failed) = response.topics.iter().find(|topic| topic.error_code != 0) {
        return Err(Trouble::new(format!("creating {topic} failed with {}", failed.error_code)));
    }
    let batch = batch(1);
    for start in (0..count).step_by(500) {
        produce(connection, topic, start..(start + 500).min(count), &batch)?;
    }
    Ok(())
}

fn recovery(home: &Path, logs: &Path) -> Result<Duration, Trouble> {
    let mut broker = Broker::new(Kind::Ottla, None, home, logs)?;
    broker.start()?;
    let mut connection = wire::Connection::open(&broker.bootstrap(), PATIENCE)?;
    let topic = MetadataRequestTopic { name: Some("figures".into()), ..Default::default() };
    connection.ask(
        &MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: true, ..Default::default() },
        9,
    )?;
    let batch = batch(900);
    let mut written = 0;
    while written < LOG_BYTES {
        produce(&mut connection, "figures", 0..3, &batch)?;
        written += 3 * batch.len();
    }
    broker.kill()?;
    let took = broker.start()?;
    broker.stop()?;
    Ok(took)
}

/// A restart after kill -9 with many logs of one batch each.
fn small_logs(home: &Path, logs: &Path) -> Result<Duration, Trouble> {
    let mut broker = Broker::new(Kind::Ottla, None, home, logs)?;
    broker.start()?;
    let mut connection = wire::Connection::open(&broker.bootstrap(), PATIENCE)?;
    fill_logs(&mut connection, "small", SMALL_LOGS)?;
    broker.kill()?;
    let took = broker.start()?;
    broker.stop()?;
    Ok(took)
}

/// A batch of that many records of one KiB.
fn batch(records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0, ottla_protocol::records::BatchOptions::default());
    let value = vec![b'x'; 1024];
    for _ in 0..records {
        builder.push(now_ms(), None, Some(&value), &[]);
    }
    builder.finish()
}

/// The time of a record that is produced now: one of long ago would be deleted at the first look for what is too old.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("this is after 1970");
    i64::try_from(now.as_millis()).expect("this is before the year 292,000,000")
}

/// Sends the batch to each of these partitions.
fn produce(
    connection: &mut wire::Connection,
    topic: &str,
    partitions: std::ops::Range<i32>,
    batch: &[u8],
) -> Result<(), Trouble> {
    let data = |index| PartitionProduceData { index, records: Some(Records::Slice(batch)) };
    let partition_data = partitions.map(data).collect();
    let request = ProduceRequest {
        acks: 1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }],
        ..Default::default()
    };
    let body = connection.ask(&request, 9)?;
    let response = ProduceResponse::decode(&mut Reader::new(&body), 9).map_err(Trouble::new)?;
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != 0) {
        Some(failed) => Err(Trouble::new(format!("produce failed with {}", failed.error_code))),
        None => Ok(()),
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn time(what: &'static str, took: Duration, goal_ms: u64) -> Figure {
    let goal = match goal_ms {
        50 => "< 50 ms",
        100 => "< 100 ms",
        _ => "< 1 s",
    };
    Figure {
        what,
        value: format!("{:.0} ms", took.as_secs_f64() * 1e3),
        goal,
        met: took < Duration::from_millis(goal_ms),
    }
}

/// A figure without a goal.
fn told(what: &'static str, value: String) -> Figure {
    Figure { what, value, goal: "–", met: true }
}

fn memory(what: &'static str, kib: u64, goal_mib: u64) -> Figure {
    let goal = if goal_mib == 20 { "< 20 MB" } else { "< 30 MB" };
    Figure { what, value: format!("{:.1} MB", kib as f64 / 1024.0), goal, met: kib < goal_mib << 10 }
}
