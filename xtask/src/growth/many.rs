//! Very many partitions on three nodes: how long they take to be there, what they cost at rest, and how long the death of a broker is felt.

use crate::nemesis::cluster::{Cluster, Role};
use crate::steps::{Trouble, fresh_dir};
use crate::wire::Connection;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::describe_quorum_request::{self, DescribeQuorumRequest};
use ottla_protocol::messages::describe_quorum_response::DescribeQuorumResponse;
use ottla_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::list_offsets_response::ListOffsetsResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_protocol::{Message, Reader, Records};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Kafka's controller writes at most ten thousand records for one request.
const PARTITIONS_PER_TOPIC: i32 = 5_000;
/// How many partitions one request writes to.
const PARTITIONS_PER_REQUEST: usize = 500;
/// Kafka's default of `broker.session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(9);
const PATIENCE: Duration = Duration::from_secs(120);
/// Over which idle nodes are watched, and before that: what was begun is done then.
const WATCHED: Duration = Duration::from_secs(20);
const SETTLED: Duration = Duration::from_secs(10);
/// Ticks of /proc in a second (USER_HZ).
const TICKS_PER_S: f64 = 100.0;

/// What was seen; goals in [`Many::missed`].
pub struct Many {
    partitions: i32,
    /// Until the requests were answered, and until every node knew every partition led with all replicas in sync.
    answered: Duration,
    created: Duration,
    /// Per cent of a processor, by node.
    idle: Vec<f64>,
    memory_mib: Vec<u64>,
    /// Until every partition had taken a record.
    filled: Duration,
    failovers: Vec<Failover>,
}

/// A node was killed.
struct Failover {
    whom: &'static str,
    /// How many partitions it led.
    led: usize,
    /// Until both others knew that they lead all of them.
    elected: Duration,
    /// Until both answered for all of them.
    over: Duration,
    /// From its next start until everything was in sync.
    whole: Duration,
}

/// The whole measurement.
pub fn measure(binary: PathBuf, partitions: i32, home: &Path, logs: &Path) -> Result<Many, Trouble> {
    let home = fresh_dir(home)?;
    let logs = fresh_dir(&logs.join("many"))?;
    let mut cluster = Cluster::new(binary, &home, &logs, &[Role::Both; 3], &[])?;
    cluster.start_all()?;
    let begun = Instant::now();
    create(&cluster, partitions)?;
    let answered = begun.elapsed();
    wait_created(&cluster, partitions as usize)?;
    let created = begun.elapsed();
    println!("{partitions} partitions: answered after {answered:.1?}, created after {created:.1?}");
    let begun = Instant::now();
    fill(&cluster)?;
    let filled = begun.elapsed();
    std::thread::sleep(SETTLED);
    let before = ticks(&cluster)?;
    let watched = Instant::now();
    std::thread::sleep(WATCHED);
    let after = ticks(&cluster)?;
    let spent = before.iter().zip(&after).map(|(before, after)| (after - before) / TICKS_PER_S);
    let idle: Vec<f64> = spent.map(|spent| spent / watched.elapsed().as_secs_f64() * 100.0).collect();
    let memory_mib =
        (0..3).map(|node| memory_mib(cluster.pid(node)?)).collect::<Result<Vec<u64>, Trouble>>()?;
    println!("idle: {idle:.1?} % of a processor, {memory_mib:?} MiB");
    let mut failovers = Vec::new();
    for is_controller in [false, true] {
        let active = active_controller(&cluster)?;
        let victim = if is_controller { active } else { (active + 1) % 3 };
        let whom = if is_controller { "the active controller" } else { "another node" };
        let led = led_by(&cluster, active, victim)?;
        let killed = Instant::now();
        cluster.kill(victim)?;
        let (elected, over) = wait_taken_over(&cluster, victim, killed)?;
        let begun = Instant::now();
        cluster.start(victim)?;
        cluster.wait_ready(victim)?;
        cluster.wait_whole(PATIENCE)?.map_err(Trouble::new)?;
        let whole = begun.elapsed();
        println!(
            "{whom} led {led}: others led after {elected:.1?}, answered for all after {over:.1?}; in sync {whole:.1?} after its start"
        );
        failovers.push(Failover { whom, led, elected, over, whole });
    }
    Ok(Many { partitions, answered, created, filled, idle, memory_mib, failovers })
}

impl Many {
    /// The goals that were missed.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        if self.created > Duration::from_secs(5) {
            missed.push(format!(
                "{} partitions took {:.1?} to be created (goal 5 s)",
                self.partitions, self.created
            ));
        }
        for Failover { whom, over, .. } in &self.failovers {
            let after = over.saturating_sub(SESSION);
            if after > Duration::from_secs(3) {
                missed.push(format!(
                    "others answered for {whom} {after:.1?} after its session was over (goal 3 s)"
                ));
            }
        }
        for idle in self.idle.iter().filter(|idle| **idle > 5.0) {
            missed.push(format!("an idle node spends {idle:.1} % of a processor (goal 5 %)"));
        }
        missed
    }

    /// A part of the page.
    pub fn section(&self) -> String {
        let list = |all: &[String]| all.join(", ");
        let idle: Vec<String> = self.idle.iter().map(|idle| format!("{idle:.1} %")).collect();
        let memory: Vec<String> = self.memory_mib.iter().map(|mib| format!("{mib} MiB")).collect();
        let mut section = format!(
            "\n## {} partitions, three replicas each, on three nodes\n\nThree nodes that are broker and controller, Kafka's default settings and \
             timeouts, two CreateTopics requests. *Created* is when every node knows every partition with a leader and three replicas in sync. \
             Every partition takes a record (`acks=all`). A killed node is missed when its session is over ({} s, `broker.session.timeout.ms`); \
             others *answer* for its partitions when ListOffsets tells the end of each, which a leader refuses until it knows it.\n\n| | seen | goal |\n|---|---|---|\n\
             | answered | {:.1} s | |\n| created | {:.1} s | 5 s |\n| a record in every partition, on three disks | {:.1} s | |\n| idle, of a processor, by node | {} | 5 % |\n| resident memory, by node | {} | |\n",
            self.partitions,
            SESSION.as_secs(),
            self.answered.as_secs_f64(),
            self.created.as_secs_f64(),
            self.filled.as_secs_f64(),
            list(&idle),
            list(&memory),
        );
        for Failover { whom, led, elected, over, whole } in &self.failovers {
            let over = over.as_secs_f64();
            section.push_str(&format!(
                "| kill -9 of {whom}, which led {led}: others lead | {:.1} s | |\n\
                 | … and answer for everything | {over:.1} s | {} s and 3 s |\n\
                 | … everything in sync after its next start | {:.1} s | |\n",
                elected.as_secs_f64(),
                SESSION.as_secs(),
                whole.as_secs_f64(),
            ));
        }
        section
    }
}

impl Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle.iter().copied().fold(0.0, f64::max);
        let over = self.failovers.iter().map(|failover| failover.over).max().unwrap_or_default();
        write!(
            f,
            "{} partitions created in {:.1?}, idle nodes at most {idle:.1} %, others answer for a killed node after at most {over:.1?}",
            self.partitions, self.created
        )
    }
}

fn create(cluster: &Cluster, partitions: i32) -> Result<(), Trouble> {
    let mut connection = Connection::open(&cluster.client_address(0), PATIENCE)?;
    for first in (0..partitions).step_by(PARTITIONS_PER_TOPIC as usize) {
        let name = format!("many-{}", first / PARTITIONS_PER_TOPIC);
        let num_partitions = PARTITIONS_PER_TOPIC.min(partitions - first);
        let topic = CreatableTopic {
            name: name.as_str().into(),
            num_partitions,
            replication_factor: 3,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
        let body = connection.ask(&request, 7)?;
        let response = CreateTopicsResponse::decode(&mut Reader::new(&body), 7).map_err(Trouble::new)?;
        if let Some(failed) = response.topics.iter().find(|topic| topic.error_code != 0) {
            return Err(Trouble::new(format!("creating {name} failed with {}", failed.error_code)));
        }
    }
    Ok(())
}

/// Until every node knows all of them, led and in sync.
fn wait_created(cluster: &Cluster, partitions: usize) -> Result<(), Trouble> {
    let begun = Instant::now();
    for node in 0..cluster.len() {
        while cluster.metadata(node, |response| {
            response.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>()
        })? < partitions
        {
            if begun.elapsed() > PATIENCE {
                return Err(Trouble::new(format!("{} does not know all partitions", cluster.name(node))));
            }
        }
    }
    cluster.wait_whole(PATIENCE)?.map(drop).map_err(Trouble::new)
}

/// Which node is the active controller.
fn active_controller(cluster: &Cluster) -> Result<usize, Trouble> {
    let mut connection = Connection::open(&cluster.client_address(0), PATIENCE)?;
    let partitions = vec![describe_quorum_request::PartitionData { partition_index: 0 }];
    let topic = describe_quorum_request::TopicData { topic_name: "__cluster_metadata".into(), partitions };
    let body = connection.ask(&DescribeQuorumRequest { topics: vec![topic] }, 2)?;
    let response = DescribeQuorumResponse::decode(&mut Reader::new(&body), 2).map_err(Trouble::new)?;
    let leader =
        response.topics.first().and_then(|topic| topic.partitions.first()).map(|found| found.leader_id);
    match leader {
        Some(id) if id > 0 => Ok(id as usize - 1),
        _ => Err(Trouble::new("nobody knows the active controller")),
    }
}

/// How many partitions `node` leads, as `witness` sees it.
fn led_by(cluster: &Cluster, witness: usize, node: usize) -> Result<usize, Trouble> {
    let id = node as i32 + 1;
    cluster.metadata(witness, |response| {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.filter(|partition| partition.leader_id == id).count()
    })
}

/// Until both nodes that are left know that they lead everything, and until they answer for all of it.
fn wait_taken_over(
    cluster: &Cluster,
    victim: usize,
    killed: Instant,
) -> Result<(Duration, Duration), Trouble> {
    let dead = victim as i32 + 1;
    let rest: Vec<usize> = (0..cluster.len()).filter(|node| *node != victim).collect();
    let mut led = Vec::new();
    while led.len() < rest.len() {
        let node = rest[led.len()];
        led.extend(leaderships(cluster, node, dead)?.map(|own| (node, own)));
        check_patience(cluster, node, killed)?;
    }
    let elected = killed.elapsed();
    for (node, own) in &led {
        while !answers(cluster, *node, own)? {
            check_patience(cluster, *node, killed)?;
        }
    }
    Ok((elected, killed.elapsed()))
}

fn check_patience(cluster: &Cluster, node: usize, since: Instant) -> Result<(), Trouble> {
    match since.elapsed() > PATIENCE {
        true => Err(Trouble::new(format!("{} did not take over", cluster.name(node)))),
        false => Ok(()),
    }
}

/// Has every partition take a record that all replicas have.
fn fill(cluster: &Cluster) -> Result<(), Trouble> {
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Trouble::new)?;
    builder.push(now.as_millis() as i64, None, Some(b"one"), &[]);
    let batch = builder.finish();
    for node in 0..cluster.len() {
        let own = leaderships(cluster, node, 0)?.ok_or_else(|| Trouble::new("some are not led"))?;
        let mut connection = Connection::open(&cluster.client_address(node), PATIENCE)?;
        for (topic, partitions) in &own {
            for some in partitions.chunks(PARTITIONS_PER_REQUEST) {
                produce(&mut connection, topic, some, &batch)?;
            }
        }
    }
    Ok(())
}

fn produce(
    connection: &mut Connection,
    topic: &str,
    partitions: &[i32],
    batch: &[u8],
) -> Result<(), Trouble> {
    let data = |index: &i32| PartitionProduceData { index: *index, records: Some(Records::Slice(batch)) };
    let partition_data = partitions.iter().map(data).collect();
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 60_000,
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

/// What a node says that it leads; `None` while it says that the dead one, or nobody, leads something.
fn leaderships(
    cluster: &Cluster,
    node: usize,
    dead: i32,
) -> Result<Option<BTreeMap<String, Vec<i32>>>, Trouble> {
    let id = node as i32 + 1;
    cluster.metadata(node, |response| {
        let mut own = BTreeMap::new();
        for topic in &response.topics {
            let name = topic.name.as_deref()?.to_owned();
            if topic.partitions.iter().any(|partition| [dead, -1].contains(&partition.leader_id)) {
                return None;
            }
            let led = topic.partitions.iter().filter(|partition| partition.leader_id == id);
            own.insert(name, led.map(|partition| partition.partition_index).collect());
        }
        Some(own)
    })
}

/// Whether a node says where the logs end that it leads: after the record that each took.
fn answers(cluster: &Cluster, node: usize, own: &BTreeMap<String, Vec<i32>>) -> Result<bool, Trouble> {
    const LATEST: i64 = -1;
    let mut connection = Connection::open(&cluster.client_address(node), PATIENCE)?;
    let partition = |partition_index| ListOffsetsPartition {
        partition_index,
        current_leader_epoch: -1,
        timestamp: LATEST,
    };
    let topics = own.iter().map(|(name, partitions)| ListOffsetsTopic {
        name: name.as_str().into(),
        partitions: partitions.iter().copied().map(partition).collect(),
    });
    let request = ListOffsetsRequest { replica_id: -1, topics: topics.collect(), ..Default::default() };
    let body = connection.ask(&request, 7)?;
    let response = ListOffsetsResponse::decode(&mut Reader::new(&body), 7).map_err(Trouble::new)?;
    let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(partitions.all(|partition| partition.error_code == 0 && partition.offset == 1))
}

/// Processor time of every node so far.
fn ticks(cluster: &Cluster) -> Result<Vec<f64>, Trouble> {
    (0..cluster.len())
        .map(|node| {
            let text = fs::read_to_string(format!("/proc/{}/stat", cluster.pid(node)?))?;
            let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            // After the name: state is the first, utime and stime are the 12th and 13th.
            let tick = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
            tick(11)
                .zip(tick(12))
                .map(|(user, system)| user + system)
                .ok_or_else(|| Trouble::new("no times in stat"))
        })
        .collect()
}

fn memory_mib(pid: u32) -> Result<u64, Trouble> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib >> 10).ok_or_else(|| Trouble::new("the size of a node is not told"))
}
