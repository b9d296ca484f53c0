//! What a run says at its end: one JSON object, with plain names and units in them.

use crate::process::{Memory, Usage};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fmt;

/// The figures of a run.
#[derive(Debug)]
pub struct Report {
    /// Length of the measured part.
    pub seconds: f64,
    /// Requests answered.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the records' values, before compression.
    pub payload_bytes: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
    /// Latencies in nanoseconds; empty where there are none.
    pub latency: Histogram<u64>,
    /// What this program used.
    pub own: Usage,
    /// What the broker used, and its memory at the end.
    pub broker: Option<(Usage, Memory)>,
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> Value {
        let mut all = json!({
            "seconds": self.seconds,
            "requests": self.requests,
            "records": self.records,
            "payload_bytes": self.payload_bytes,
            "wire_bytes": self.wire_bytes,
            "requests_per_s": self.requests as f64 / self.seconds,
            "records_per_s": self.records as f64 / self.seconds,
            "payload_mb_per_s": self.payload_bytes as f64 / self.seconds / 1e6,
            "client": { "cpu_s": self.own.cpu_s(), "cpu_share": self.own.cpu_s() / self.seconds },
        });
        if !self.latency.is_empty() {
            let us = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
            all["latency_us"] = json!({
                "mean": self.latency.mean() / 1e3,
                "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p999": us(0.999), "p9999": us(0.9999),
                "max": self.latency.max() as f64 / 1e3,
            });
        }
        if let Some((usage, memory)) = &self.broker {
            let per = |count: u64| if count == 0 { Value::Null } else { json!(usage.cpu_s() / count as f64) };
            let scaled = |count: u64, scale: f64| per(count).as_f64().map(|value| value * scale);
            all["broker"] = json!({
                "cpu_s": usage.cpu_s(),
                "cpu_share": usage.cpu_s() / self.seconds,
                "cpu_s_per_gb": scaled(self.payload_bytes, 1e9),
                "cpu_us_per_request": scaled(self.requests, 1e6),
                "switches_per_request":
                    (usage.switches_voluntary + usage.switches_involuntary) as f64 / self.requests.max(1) as f64,
                "switches_voluntary": usage.switches_voluntary,
                "switches_involuntary": usage.switches_involuntary,
                "rss_kib": memory.rss_kib,
                "pss_kib": memory.pss_kib,
                "threads": memory.threads,
            });
        }
        all
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.json())
    }
}
