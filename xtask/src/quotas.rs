//! `cargo xtask quotas`: quotas of producers, consumers and request time, measured with Kafka's own perf tools, and other clients that must
//! not notice.
//!
//! Of producers two run at once: one with a quota and as much as it can send, one without and at a steady pace. The first must come to its
//! quota within a tenth and be told to pause; the second must keep its pace and never be told to. The others are alike.

mod consumed;
mod requests;

use crate::broker::{Broker, Kind, java};
use crate::clients::setup;
use crate::steps::{Doing, Trouble, fresh_dir, wait_until};
use crate::{wire, workspace};
use clap::{Args, ValueEnum};
use ottla_protocol::messages::alter_client_quotas_request::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use ottla_protocol::messages::alter_client_quotas_response::AlterClientQuotasResponse;
use ottla_protocol::{Message, Reader};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The quota, in bytes a second.
const QUOTA: f64 = 1e6;
/// The pace of a producer that sends as much as it can.
const UNHINDERED: f64 = -1.0;
/// Bytes of a record; what a batch adds to them is below a hundredth.
const RECORD_BYTES: u32 = 1_000;
/// How far the measured rate may be from the quota.
const TOLERANCE: f64 = 0.1;
/// Records a second of the client without a quota.
const PACE: f64 = 2_000.0;
/// The share of its pace that it has to keep.
const PACE_KEPT: f64 = 0.95;
/// What all windows but one grant is granted at once, and again when it is forgotten: a run has to be so many times as long as that.
const WINDOWS_SPANNED_MIN: u64 = 5;
/// What may be added to a run: the start of two Java programs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A kind of quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Of {
    Producers,
    Consumers,
    Requests,
}

/// How to measure.
#[derive(Args)]
pub struct Options {
    /// Which quotas; all of them unless named
    #[arg(long = "of", value_enum)]
    kinds: Vec<Of>,
    /// Seconds that the client with the quota sends for
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Windows of a second over which rates are measured (`quota.window.num`)
    #[arg(long, default_value_t = 11)]
    windows: u64,
    /// Against which broker
    #[arg(long, value_enum, default_value_t = Kind::Ottla)]
    against: Kind,
    /// Another binary than the release build
    #[arg(long)]
    binary: Option<PathBuf>,
}

impl Options {
    /// The short form of `cargo xtask test`. The window that is granted at once adds a twentieth to what is measured, half of the tolerance.
    /// Quotas of time are left out: how long a request takes on a machine that tests something else besides says little.
    pub fn smoke() -> Options {
        Options {
            kinds: vec![Of::Producers, Of::Consumers],
            seconds: 20,
            windows: 2,
            against: Kind::Ottla,
            binary: None,
        }
    }

    /// How long to measure.
    fn seconds(&self) -> u64 {
        self.seconds.max(self.windows * WINDOWS_SPANNED_MIN)
    }

    fn measures(&self, kind: Of) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// What a producer measured of itself.
struct Measured {
    records_per_s: f64,
    /// The longest pause in milliseconds that an answer told.
    pause_ms_max: f64,
}

/// The chore.
pub fn run(options: &Options) -> Result<bool, Trouble> {
    setup::all()?;
    let outcome = check(options)?;
    match &outcome {
        Ok(summary) => println!("{summary}"),
        Err(reason) => println!("FAIL quotas: {reason}"),
    }
    Ok(outcome.is_ok())
}

/// Measures; the inner error says what was not as it should be.
pub fn check(options: &Options) -> Result<Result<String, String>, Trouble> {
    let home = fresh_dir(&workspace::scratch("quotas"))?;
    let logs = fresh_dir(&workspace::logs("quotas"))?;
    let mut broker = Broker::new(options.against, options.binary.clone(), &home, &logs)?;
    broker.set(&[("quota.window.num", &options.windows.to_string())]);
    broker.start()?;
    let mut summaries = Vec::new();
    for (kind, check) in [
        (Of::Producers, check_producers as Check),
        (Of::Consumers, consumed::check),
        (Of::Requests, requests::check),
    ] {
        if options.measures(kind) {
            match check(options, &broker, &logs)? {
                Ok(summary) => summaries.push(summary),
                Err(reason) => return Ok(Err(reason)),
            }
        }
    }
    broker.stop()?;
    Ok(Ok(summaries.join("\n")))
}

/// What one kind of quota is checked with.
type Check = fn(&Options, &Broker, &Path) -> Result<Result<String, String>, Trouble>;

fn check_producers(
    options: &Options,
    broker: &Broker,
    logs: &Path,
) -> Result<Result<String, String>, Trouble> {
    let seconds = options.seconds();
    limit(&broker.bootstrap(), "limited", "producer_byte_rate", QUOTA)?;
    let mut limited =
        producer(broker, "limited", seconds as f64 * QUOTA / f64::from(RECORD_BYTES), UNHINDERED, logs)?;
    let mut free = producer(broker, "free", seconds as f64 * PACE, PACE, logs)?;
    let deadline = Instant::now() + Duration::from_secs(seconds) + PATIENCE;
    let ended = [wait_until(&mut limited, deadline)?, wait_until(&mut free, deadline)?];
    if let Some(ended) = ended.iter().find(|ended| !ended.success()) {
        return Ok(Err(format!("a producer failed: {ended}; logs: {}", logs.display())));
    }
    let (limited, free) = (measured("limited", logs)?, measured("free", logs)?);
    Ok(judge(&limited, &free))
}

/// Whether a rate is what the quota says.
fn within(what: &str, rate: f64, quota: f64) -> Result<(), String> {
    match (rate / quota - 1.0).abs() > TOLERANCE {
        true => Err(format!("{what}: {rate:.0} bytes/s with a quota of {quota:.0}")),
        false => Ok(()),
    }
}

fn judge(limited: &Measured, free: &Measured) -> Result<String, String> {
    let rate = limited.records_per_s * f64::from(RECORD_BYTES);
    within("a producer quota", rate, QUOTA)?;
    if limited.pause_ms_max <= 0.0 {
        return Err("the limited producer was never told to pause".to_owned());
    }
    if free.records_per_s < PACE * PACE_KEPT || free.pause_ms_max > 0.0 {
        let Measured { records_per_s, pause_ms_max } = free;
        return Err(format!(
            "the producer without a quota: {records_per_s:.0} records/s of {PACE}, told to pause for {pause_ms_max} ms"
        ));
    }
    Ok(format!(
        "a producer quota of {QUOTA:.0} bytes/s: {rate:.0} measured, pauses up to {:.0} ms; without a quota beside it: {:.0} records/s of {PACE}, no pause",
        limited.pause_ms_max, free.records_per_s
    ))
}

/// Gives a client id its quota.
fn limit(bootstrap: &str, client_id: &'static str, key: &'static str, value: f64) -> Result<(), Trouble> {
    let entity = EntityData { entity_type: "client-id".into(), entity_name: Some(client_id.into()) };
    let op = OpData { key: key.into(), value, remove: false };
    let entries = vec![EntryData { entity: vec![entity], ops: vec![op] }];
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    let answer = wire::Connection::open(bootstrap, PATIENCE)?.ask(&request, 1)?;
    let response = AlterClientQuotasResponse::decode(&mut Reader::new(&answer), 1);
    let response = response.map_err(|error| Trouble::new(format!("AlterClientQuotas: {error}")))?;
    match response.entries.first() {
        Some(entry) if entry.error_code == 0 => Ok(()),
        other => Err(Trouble::new(format!("AlterClientQuotas: {other:?}"))),
    }
}

/// `kafka-producer-perf-test` as the client `client_id`, with a topic of the same name.
pub fn producer(
    broker: &Broker,
    client_id: &str,
    records: f64,
    pace: f64,
    logs: &Path,
) -> Result<Child, Trouble> {
    producer_with(broker, client_id, (records, pace), &[], logs)
}

/// The same with further properties.
fn producer_with(
    broker: &Broker,
    client_id: &str,
    (records, pace): (f64, f64),
    properties: &[&str],
    logs: &Path,
) -> Result<Child, Trouble> {
    let log = log_of(client_id, logs);
    let out = File::create(&log).doing(format!("creating {}", log.display()))?;
    let mut command = java("tools");
    command.arg("org.apache.kafka.tools.ProducerPerformance");
    command.args(["--topic", client_id, "--num-records", &records.to_string()]);
    command.args(["--throughput", &pace.to_string(), "--record-size", &RECORD_BYTES.to_string()]);
    command.args(["--print-metrics", "--producer-props", "acks=1"]);
    command.arg(format!("client.id={client_id}")).arg(format!("bootstrap.servers={}", broker.bootstrap()));
    command.args(properties);
    command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
    command.spawn().doing("starting kafka-producer-perf-test")
}

fn log_of(client_id: &str, logs: &Path) -> PathBuf {
    logs.join(format!("{client_id}.log"))
}

/// Reads the last line like `20000 records sent, 1000.5 records/sec (...)`, and the metric of pauses behind it.
fn measured(client_id: &str, logs: &Path) -> Result<Measured, Trouble> {
    let log = log_of(client_id, logs);
    let text = fs::read_to_string(&log).doing(format!("reading {}", log.display()))?;
    read(&text).ok_or_else(|| Trouble::new(format!("no result in {}", log.display())))
}

fn read(text: &str) -> Option<Measured> {
    let number = |text: &str| text.trim().replace(',', ".").parse().ok();
    let last = text.lines().rev().find(|line| line.contains("records/sec"))?;
    let rate = last.split("records sent, ").nth(1)?.split(' ').next()?;
    Some(Measured {
        records_per_s: number(rate)?,
        pause_ms_max: pause_of(text, "produce-throttle-time-max")?,
    })
}

/// The value of a metric among those that a tool prints.
fn pause_of(text: &str, metric: &str) -> Option<f64> {
    let value = text.lines().find(|line| line.contains(metric))?.rsplit(':').next()?;
    value.trim().replace(',', ".").parse().ok()
}

/// Records a second of a producer that was ended before it was through, by what it said every five seconds; without the first time, in which
/// what was saved up is used up.
fn steady_rate(client_id: &str, logs: &Path) -> Result<f64, Trouble> {
    let log = log_of(client_id, logs);
    let text = fs::read_to_string(&log).doing(format!("reading {}", log.display()))?;
    let rates = steady(&text);
    match rates.len() {
        0 => Err(Trouble::new(format!("no rates in {}", log.display()))),
        count => Ok(rates.iter().sum::<f64>() / count as f64),
    }
}

fn steady(text: &str) -> Vec<f64> {
    let rate =
        |line: &str| line.split("records sent, ").nth(1)?.split(' ').next()?.replace(',', ".").parse().ok();
    text.lines().filter_map(rate).skip(1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
5001 records sent, 1000.0 records/sec (0.95 MB/sec), 9.1 ms avg latency, 200.0 ms max latency.
20000 records sent, 985.2 records/sec (0.94 MB/sec), 9.10 ms avg latency, 200.00 ms max latency, 1 ms 50th.

producer-metrics:produce-throttle-time-avg:{client-id=limited}               : 512.500
producer-metrics:produce-throttle-time-max:{client-id=limited}               : 990.000
";

    #[test]
    fn what_the_perf_tool_prints() {
        let measured = read(OUTPUT).expect("a result");
        assert_eq!((measured.records_per_s, measured.pause_ms_max), (985.2, 990.0));
        assert!(read("nothing").is_none());
        assert_eq!(steady(OUTPUT), [985.2]);
    }

    #[test]
    fn what_is_not_as_it_should_be() {
        let judged = |limited: (f64, f64), free: (f64, f64)| {
            let of = |(records_per_s, pause_ms_max)| Measured { records_per_s, pause_ms_max };
            judge(&of(limited), &of(free)).is_ok()
        };
        assert!(judged((1_050.0, 900.0), (1_990.0, 0.0)));
        assert!(!judged((1_150.0, 900.0), (1_990.0, 0.0)), "too fast");
        assert!(!judged((850.0, 900.0), (1_990.0, 0.0)), "too slow");
        assert!(!judged((1_000.0, 0.0), (1_990.0, 0.0)), "not told");
        assert!(!judged((1_000.0, 900.0), (1_500.0, 0.0)), "another client pays");
        assert!(!judged((1_000.0, 900.0), (1_990.0, 5.0)), "another client is told to");
    }
}
