//! `cargo xtask telemetry`: Apache Kafka's Java producer is asked for its metrics (KIP-714), and what it tells appears on our page.

use crate::broker::{Broker, Kind};
use crate::clients::setup;
use crate::quotas;
use crate::steps::{Doing, Trouble, fresh_dir};
use crate::{wire, workspace};
use clap::Args;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::{Message, Reader};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The client that is asked.
const CLIENT: &str = "told";
/// How often, in milliseconds.
const INTERVAL_MS: &str = "1000";
/// What the resource is called that asks it, and its type.
const SUBSCRIPTION: (i8, &str) = (16, "proof");
/// Records that it sends meanwhile, and how many in a second.
const RECORDS: f64 = 30_000.0;
const PACE: f64 = 500.0;
/// How long it may take until something is to be seen: a Java program starts, and waits for half an interval at least.
const PATIENCE: Duration = Duration::from_secs(60);
/// What has to be seen: how many records were sent; it only grows.
const METRIC: &str = "org_apache_kafka_producer_record_send_total";

/// Which build to look at.
#[derive(Args)]
pub struct Options {
    /// Another binary than the release build
    #[arg(long)]
    pub binary: Option<PathBuf>,
}

/// The chore.
pub fn run(options: &Options) -> Result<bool, Trouble> {
    setup::all()?;
    let outcome = check(options)?;
    match &outcome {
        Ok(summary) => println!("{summary}"),
        Err(reason) => println!("FAIL telemetry: {reason}"),
    }
    Ok(outcome.is_ok())
}

/// Waits until the metric was seen to grow; the inner error says that it was not.
pub fn check(options: &Options) -> Result<Result<String, String>, Trouble> {
    let home = fresh_dir(&workspace::scratch("telemetry"))?;
    let logs = fresh_dir(&workspace::logs("telemetry"))?;
    let mut broker = Broker::new(Kind::Ottla, options.binary.clone(), &home, &logs)?;
    broker.set(&[("ottla.metrics.listen", "127.0.0.1:0")]);
    broker.start()?;
    let log = fs::read_to_string(broker.log()).doing("reading the broker's log")?;
    let page = log.lines().find_map(|line| line.strip_prefix("Listening METRICS ")?.split(' ').next());
    let page = page.ok_or_else(|| Trouble::new("the broker does not say where its metrics are"))?;
    subscribe(&broker.bootstrap())?;
    let mut producer = quotas::producer(&broker, CLIENT, RECORDS, PACE, &logs)?;
    let (deadline, mut first) = (Instant::now() + PATIENCE, None);
    let outcome = loop {
        match (sent(page)?, first) {
            (Some(now), Some(before)) if now > before => break Ok((before, now)),
            (Some(now), None) => first = Some(now),
            _ => {}
        }
        if Instant::now() > deadline {
            break Err(format!("{METRIC} of {CLIENT} was not seen to grow; logs: {}", logs.display()));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    // Whether it is still at work or has ended by now does not matter.
    let _ = producer.kill();
    producer.wait().doing("waiting for the producer")?;
    broker.stop()?;
    Ok(outcome
        .map(|(before, now)| format!("the Java producer told of {before} records sent, and then of {now}")))
}

/// The metric's value as the page has it.
fn sent(page: &str) -> Result<Option<f64>, Trouble> {
    let mut stream = TcpStream::connect(page).doing("connecting to the page of metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ottla\r\n\r\n").doing("asking for metrics")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).doing("reading metrics")?;
    Ok(value_in(&answer))
}

fn value_in(page: &str) -> Option<f64> {
    let label = format!("client_id=\"{CLIENT}\"");
    let is_it = |line: &&str| line.starts_with(&format!("{METRIC}{{")) && line.contains(&label);
    page.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

/// Asks the client, and it alone, for one metric.
fn subscribe(bootstrap: &str) -> Result<(), Trouble> {
    let matching = format!("client_id={CLIENT}");
    let values = [
        ("metrics", "org.apache.kafka.producer.record.send.total"),
        ("interval.ms", INTERVAL_MS),
        ("match", &matching),
    ];
    let config = |(name, value): (&'static str, &str)| AlterableConfig {
        name: name.into(),
        config_operation: 0,
        value: Some(value.to_owned().into()),
    };
    let (resource_type, name) = SUBSCRIPTION;
    let configs = values.into_iter().map(config).collect();
    let resources = vec![AlterConfigsResource { resource_type, resource_name: name.into(), configs }];
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    let answer = wire::Connection::open(bootstrap, PATIENCE)?.ask(&request, 1)?;
    let response = IncrementalAlterConfigsResponse::decode(&mut Reader::new(&answer), 1);
    let response = response.map_err(|error| Trouble::new(format!("IncrementalAlterConfigs: {error}")))?;
    match response.responses.first() {
        Some(resource) if resource.error_code == 0 => Ok(()),
        other => Err(Trouble::new(format!("IncrementalAlterConfigs: {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_client_counts() {
        let line = |client: &str, value: &str| {
            format!("{METRIC}{{client_instance_id=\"x\",client_id=\"{client}\"}} {value}\n")
        };
        let page = format!("# TYPE {METRIC} counter\n{}{}", line("other", "1"), line(CLIENT, "42"));
        assert_eq!(value_in(&page), Some(42.0));
        assert_eq!(value_in(&line("other", "1")), None);
    }
}
