//! What clients did and saw, and whether a log that keeps its promises could have shown them that.
//!
//! Clients of any language write one JSON object per line ([`event`]); the lines of all of them, put in the order of one clock, are a
//! [`History`]; [`check`] names every anomaly in it. The tricky idea: nothing is compared with what the broker says of itself. An
//! anomaly is a contradiction among things that clients saw, so a broker that lies to everyone alike is found out all the same.
//!
//! The names are those of the Kafka workload of Jepsen where it has one (`lost-write`, `unseen`, `duplicate`, `inconsistent-offsets`,
//! `G1a`, `precommitted-read`, `nonmonotonic-poll`, …); ownership and committed offsets have names of our own. Dependency cycles
//! between transactions are not looked for: the transactions of these workloads copy, they do not read what they wrote.

pub mod event;
mod offsets;
mod ownership;
mod records;
#[cfg(test)]
mod tests;

use event::{Event, Partition};
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// Everything that happened, in the order of the clock that the clients share.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// Sorts by time; events of one client that carry the same time stay in their order.
    pub fn new(mut events: Vec<Event>) -> History {
        events.sort_by_key(|event| event.time);
        History { events }
    }

    /// Reads lines that begin with `{`; others are the chatter of a client's log. A half line, as a killed client leaves it at the
    /// end of its file, is dropped; one elsewhere is an error.
    pub fn parse(texts: &[String]) -> Result<History, String> {
        let mut events = Vec::new();
        for text in texts {
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines().filter(|line| line.starts_with('{')) {
                events.push(Event::parse(line).map_err(|error| format!("{error} in {line}"))?);
            }
        }
        Ok(History::new(events))
    }

    /// The events in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// One contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Its name.
    pub kind: &'static str,
    /// Who, where, when.
    pub story: String,
}

impl Anomaly {
    fn new(kind: &'static str, story: impl Into<String>) -> Anomaly {
        Anomaly { kind, story: story.into() }
    }
}

/// What a history amounts to.
#[derive(Debug, Default)]
pub struct Report {
    /// Everything that is wrong.
    pub anomalies: Vec<Anomaly>,
    /// How much there was to look at, by kind of event.
    pub counts: BTreeMap<&'static str, usize>,
}

impl Report {
    /// Is there nothing wrong?
    pub fn is_good(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// How many events of a kind the history has.
    pub fn count(&self, kind: &str) -> usize {
        self.counts.get(kind).copied().unwrap_or(0)
    }
}

/// How many anomalies of one kind are told in full.
const TOLD_MAX: usize = 5;

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        f.write_str(&counts.join(", "))?;
        let mut told: BTreeMap<&str, usize> = BTreeMap::new();
        for anomaly in &self.anomalies {
            let count = told.entry(anomaly.kind).or_default();
            *count += 1;
            if *count <= TOLD_MAX {
                write!(f, "\n  {}: {}", anomaly.kind, anomaly.story)?;
            }
        }
        for (kind, count) in told.iter().filter(|(_, count)| **count > TOLD_MAX) {
            write!(f, "\n  {kind}: {count} in all")?;
        }
        Ok(())
    }
}

/// Looks for all anomalies.
pub fn check(history: &History) -> Report {
    let mut report = Report::default();
    for event in &history.events {
        *report.counts.entry(event.deed.kind()).or_default() += 1;
    }
    let stints = ownership::stints(history);
    ownership::check(&stints, &mut report.anomalies);
    offsets::check(history, &stints, &mut report.anomalies);
    records::check(history, &mut report.anomalies);
    report
}

/// Whether a topic is the copy of another, each record once: `source` as its final readers saw it, against `copy`, whose values are
/// those of the source with a `#` and something after it.
pub fn check_copy(history: &History, source: &str, copy: &str) -> Vec<Anomaly> {
    records::check_copy(history, source, copy)
}

fn at(partition: &Partition, offset: i64) -> String {
    format!("{partition}@{offset}")
}
