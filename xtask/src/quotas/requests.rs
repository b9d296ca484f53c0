//! Quotas of request time: two producers that ask as fast as they are let, one of them with twice the quota of the other.
//!
//! How long a request takes nobody outside knows. But requests of one kind take the same, so that who may use twice the time gets twice as
//! many of them through.

use super::{
    Measured, Options, PACE, PACE_KEPT, PATIENCE, UNHINDERED, limit, measured, producer, producer_with,
    steady_rate,
};
use crate::broker::Broker;
use crate::steps::{Doing, Trouble, wait_until};
use std::path::Path;
use std::time::{Duration, Instant};

/// Percents of a thread of the one; the other has twice as much.
const PERCENT: f64 = 0.5;
/// How far the quotient of the two rates may be from two. The clock tells the time, so that a thread which another program keeps waiting
/// seems to work.
const TOLERANCE: f64 = 0.25;
/// Records of a producer that is ended.
const ENDLESS: f64 = 1e9;

/// Measures; the inner error says what was not as it should be.
pub fn check(options: &Options, broker: &Broker, logs: &Path) -> Result<Result<String, String>, Trouble> {
    let seconds = options.seconds();
    limit(&broker.bootstrap(), "one", "request_percentage", PERCENT)?;
    limit(&broker.bootstrap(), "two", "request_percentage", 2.0 * PERCENT)?;
    // Each record is a request of its own, and the next one waits for its answer. Where the time ends them, both were held back alike.
    let eager =
        ["batch.size=0", "max.in.flight.requests.per.connection=1", "linger.ms=0", "buffer.memory=65536"];
    let asks = |client_id: &str| producer_with(broker, client_id, (ENDLESS, UNHINDERED), &eager, logs);
    let (mut one, mut two) = (asks("one")?, asks("two")?);
    let mut free = producer(broker, "beside", seconds as f64 * PACE, PACE, logs)?;
    let ended = wait_until(&mut free, Instant::now() + Duration::from_secs(seconds) + PATIENCE)?;
    for endless in [&mut one, &mut two] {
        endless.kill().doing("ending a producer")?;
        endless.wait().doing("ending a producer")?;
    }
    if !ended.success() {
        return Ok(Err(format!("a producer failed: {ended}; logs: {}", logs.display())));
    }
    Ok(judge(steady_rate("one", logs)?, steady_rate("two", logs)?, &measured("beside", logs)?))
}

fn judge(one: f64, two: f64, free: &Measured) -> Result<String, String> {
    if (two / one / 2.0 - 1.0).abs() > TOLERANCE {
        return Err(format!("{one:.0} requests/s with a quota of {PERCENT} %, {two:.0} with twice as much"));
    }
    if free.records_per_s < PACE * PACE_KEPT || free.pause_ms_max > 0.0 {
        let Measured { records_per_s, pause_ms_max } = free;
        return Err(format!(
            "the producer without a quota: {records_per_s:.0} records/s of {PACE}, told to pause for {pause_ms_max} ms"
        ));
    }
    Ok(format!(
        "a request quota of {PERCENT} % of a thread: {one:.0} requests/s, with twice as much {two:.0}; without a quota beside them: {:.0} \
         records/s of {PACE}, no pause",
        free.records_per_s
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_should_be() {
        let judged = |one: f64, two: f64, free: (f64, f64)| {
            judge(one, two, &Measured { records_per_s: free.0, pause_ms_max: free.1 }).is_ok()
        };
        assert!(judged(100.0, 190.0, (1_990.0, 0.0)));
        assert!(!judged(100.0, 110.0, (1_990.0, 0.0)), "nobody is held back");
        assert!(!judged(100.0, 300.0, (1_990.0, 0.0)));
        assert!(!judged(100.0, 200.0, (1_000.0, 0.0)), "another client pays");
        assert!(!judged(100.0, 200.0, (1_990.0, 5.0)), "another client is told to");
    }
}
