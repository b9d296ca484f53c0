//! What is measured: names, units, and which direction is better. A run yields a [`Figures`], a scenario one for each side of a pair.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A kind of figure.
#[derive(Debug, PartialEq)]
pub struct Figure {
    /// Its key in the results.
    pub key: &'static str,
    /// Its name in tables.
    pub name: &'static str,
    pub unit: &'static str,
    pub more_is_better: bool,
}

const fn less(key: &'static str, name: &'static str, unit: &'static str) -> Figure {
    Figure { key, name, unit, more_is_better: false }
}

const fn more(key: &'static str, name: &'static str, unit: &'static str) -> Figure {
    Figure { key, name, unit, more_is_better: true }
}

pub static CPU_PER_GB: Figure = less("cpu_s_per_gb", "broker CPU per GB", "s");
pub static CPU_PER_REQUEST: Figure = less("cpu_us_per_request", "broker CPU per request", "µs");
pub static SWITCHES: Figure = less("switches_per_request", "context switches per request", "");
pub static MB_PER_S: Figure = more("mb_per_s", "throughput", "MB/s");
pub static REQUESTS_PER_S: Figure = more("requests_per_s", "requests per second", "1/s");
pub static RECORDS_PER_S: Figure = more("records_per_s", "records per second", "1/s");
pub static P50: Figure = less("p50_us", "p50", "µs");
pub static P99: Figure = less("p99_us", "p99", "µs");
pub static P999: Figure = less("p999_us", "p99.9", "µs");
pub static MAX: Figure = less("max_us", "max", "µs");
pub static RSS: Figure = less("rss_mib", "resident memory after the run", "MiB");
pub static START: Figure = less("start_ms", "exec to first acknowledged produce", "ms");
pub static STOP: Figure = less("stop_ms", "SIGTERM to exit", "ms");
pub static RSS_IDLE: Figure = less("rss_idle_mib", "resident memory, idle", "MiB");
pub static RSS_CONNECTIONS: Figure =
    less("rss_connections_mib", "resident memory with all connections", "MiB");
pub static RSS_PARTITIONS: Figure = less("rss_partitions_mib", "resident memory with all partitions", "MiB");
pub static CREATE: Figure = less("create_ms", "creation until producible", "ms");

/// All kinds, in the order of tables.
pub static ALL: [&Figure; 17] = [
    &CPU_PER_GB,
    &CPU_PER_REQUEST,
    &SWITCHES,
    &MB_PER_S,
    &REQUESTS_PER_S,
    &RECORDS_PER_S,
    &P50,
    &P99,
    &P999,
    &MAX,
    &START,
    &STOP,
    &CREATE,
    &RSS,
    &RSS_IDLE,
    &RSS_CONNECTIONS,
    &RSS_PARTITIONS,
];

/// What one run yielded, by key.
#[derive(Debug, Clone, Default)]
pub struct Figures(pub BTreeMap<&'static str, f64>);

impl Figures {
    pub fn set(&mut self, figure: &Figure, value: f64) {
        self.0.insert(figure.key, value);
    }

    pub fn get(&self, figure: &Figure) -> Option<f64> {
        self.0.get(figure.key).copied()
    }

    pub fn json(&self) -> Value {
        json!(self.0)
    }

    /// What `ottla-bench` reported.
    pub fn of_report(report: &Value) -> Figures {
        let mut figures = Figures::default();
        let places = [
            (&CPU_PER_GB, "/broker/cpu_s_per_gb", 1.0),
            (&CPU_PER_REQUEST, "/broker/cpu_us_per_request", 1.0),
            (&SWITCHES, "/broker/switches_per_request", 1.0),
            (&MB_PER_S, "/payload_mb_per_s", 1.0),
            (&REQUESTS_PER_S, "/requests_per_s", 1.0),
            (&RECORDS_PER_S, "/records_per_s", 1.0),
            (&P50, "/latency_us/p50", 1.0),
            (&P99, "/latency_us/p99", 1.0),
            (&P999, "/latency_us/p999", 1.0),
            (&MAX, "/latency_us/max", 1.0),
            (&RSS, "/broker/rss_kib", 1.0 / 1024.0),
        ];
        for (figure, place, scale) in places {
            if let Some(value) = report.pointer(place).and_then(Value::as_f64) {
                figures.set(figure, value * scale);
            }
        }
        figures
    }
}

/// The middle of some values, and their ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_pairs() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
