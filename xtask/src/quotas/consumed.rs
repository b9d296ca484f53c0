//! A consumer quota, measured with Kafka's perf tool: two consumers read the same records at once, one of them with a quota.

use super::{
    Measured, Options, PATIENCE, QUOTA, RECORD_BYTES, UNHINDERED, limit, log_of, pause_of, producer, within,
};
use crate::broker::{Broker, java};
use crate::steps::{Doing, Trouble, wait_until};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// As `WINDOWS_SPANNED_MIN`: who fetches takes all that is granted at once, at the end of a run as at its beginning.
const WINDOWS_SPANNED_MIN: u64 = 20;
/// How many times as fast as the one with the quota the other has to be.
const FREE_TIMES_MIN: f64 = 5.0;
const MIB: f64 = 1_048_576.0;

/// Measures; the inner error says what was not as it should be.
pub fn check(options: &Options, broker: &Broker, logs: &Path) -> Result<Result<String, String>, Trouble> {
    let seconds = options.seconds().max(options.windows * WINDOWS_SPANNED_MIN);
    let records = seconds as f64 * QUOTA / f64::from(RECORD_BYTES);
    let mut loader = producer(broker, "read", records, UNHINDERED, logs)?;
    let loaded = wait_until(&mut loader, Instant::now() + PATIENCE)?;
    limit(&broker.bootstrap(), "slow", "consumer_byte_rate", QUOTA)?;
    let mut limited = consumer(broker, "slow", records, logs)?;
    let mut free = consumer(broker, "fast", records, logs)?;
    let deadline = Instant::now() + Duration::from_secs(seconds) + PATIENCE;
    let ended = [loaded, wait_until(&mut limited, deadline)?, wait_until(&mut free, deadline)?];
    if let Some(ended) = ended.iter().find(|ended| !ended.success()) {
        return Ok(Err(format!("a tool failed: {ended}; logs: {}", logs.display())));
    }
    Ok(judge(&measured("slow", logs)?, &measured("fast", logs)?))
}

fn judge(limited: &Measured, free: &Measured) -> Result<String, String> {
    let rate = |of: &Measured| of.records_per_s * f64::from(RECORD_BYTES);
    let (slow, fast) = (rate(limited), rate(free));
    within("a consumer quota", slow, QUOTA)?;
    if limited.pause_ms_max <= 0.0 {
        return Err("the limited consumer was never told to pause".to_owned());
    }
    if fast < FREE_TIMES_MIN * QUOTA || free.pause_ms_max > 0.0 {
        let pause = free.pause_ms_max;
        return Err(format!("the consumer without a quota: {fast:.0} bytes/s, told to pause for {pause} ms"));
    }
    Ok(format!(
        "a consumer quota of {QUOTA:.0} bytes/s: {slow:.0} measured, pauses up to {:.0} ms; without a quota beside it: {fast:.0} bytes/s, \
         no pause",
        limited.pause_ms_max
    ))
}

/// `kafka-consumer-perf-test` as the client `client_id`, on the topic `read`.
fn consumer(broker: &Broker, client_id: &str, records: f64, logs: &Path) -> Result<Child, Trouble> {
    let log = log_of(client_id, logs);
    let out = File::create(&log).doing(format!("creating {}", log.display()))?;
    let mut command = java("tools");
    command.args(["org.apache.kafka.tools.ConsumerPerformance", "--topic", "read", "--print-metrics"]);
    command.args(["--bootstrap-server", &broker.bootstrap(), "--group", client_id, "--timeout", "60000"]);
    command.args(["--num-records", &records.to_string()]);
    command.args(["--command-property", &format!("client.id={client_id}")]);
    command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
    command.spawn().doing("starting kafka-consumer-perf-test")
}

fn measured(client_id: &str, logs: &Path) -> Result<Measured, Trouble> {
    let log = log_of(client_id, logs);
    let text = fs::read_to_string(&log).doing(format!("reading {}", log.display()))?;
    read(&text).ok_or_else(|| Trouble::new(format!("no result in {}", log.display())))
}

/// Reads the line like `begin, end, 57.22, 0.93, 60000, 983.5, 3184, 57821, 0.98, 1037.6`: the last but one are MiB in a second, without the
/// time that it took to join the group.
fn read(text: &str) -> Option<Measured> {
    let columns = text.lines().map(|line| line.split(", ").collect::<Vec<_>>());
    let mib =
        columns.filter(|columns| columns.len() == 10).find_map(|columns| columns[8].trim().parse().ok());
    let mib: f64 = mib?;
    let pause_ms_max = pause_of(text, "fetch-throttle-time-max")?;
    Some(Measured { records_per_s: mib * MIB / f64::from(RECORD_BYTES), pause_ms_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
2026-11-26 22:00:00:000, 2026-11-26 22:01:00:000, 57.2205, 0.9537, 60000, 1000.0000, 3000, 57000, 1.0039, 1052.6316

consumer-fetch-manager-metrics:fetch-throttle-time-avg:{client-id=slow} : 12.500
consumer-fetch-manager-metrics:fetch-throttle-time-max:{client-id=slow} : 990.000
";

    #[test]
    fn what_the_perf_tool_prints() {
        let measured = read(OUTPUT).expect("a result");
        assert_eq!((measured.records_per_s.round(), measured.pause_ms_max), (1_053.0, 990.0));
        assert!(read("nothing").is_none());
    }

    #[test]
    fn what_is_not_as_it_should_be() {
        let judged = |limited: (f64, f64), free: (f64, f64)| {
            let of = |(records_per_s, pause_ms_max)| Measured { records_per_s, pause_ms_max };
            judge(&of(limited), &of(free)).is_ok()
        };
        assert!(judged((1_050.0, 900.0), (20_000.0, 0.0)));
        assert!(!judged((1_150.0, 900.0), (20_000.0, 0.0)), "too fast");
        assert!(!judged((1_000.0, 0.0), (20_000.0, 0.0)), "not told");
        assert!(!judged((1_000.0, 900.0), (2_000.0, 0.0)), "another client pays");
        assert!(!judged((1_000.0, 900.0), (20_000.0, 5.0)), "another client is told to");
    }
}
