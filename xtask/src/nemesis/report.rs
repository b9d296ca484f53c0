//! What a run amounts to: a sentence, and a page for `docs`.

use super::Options;
use super::load::Outcome;
use super::schedule::{Fault, Kind};
use std::collections::BTreeMap;
use std::time::Duration;

/// A fault that came.
pub struct Happened {
    pub fault: Fault,
    /// When (CLOCK_MONOTONIC).
    pub at: Duration,
}

/// The anomalies that are looked for, as `ottla-checker` and the journal call them.
const LOOKED_FOR: &[&str] = &[
    "lost-write",
    "unseen",
    "duplicate",
    "inconsistent-offsets",
    "nonmonotonic-send",
    "G1a",
    "precommitted-read",
    "nonmonotonic-poll",
    "int-nonmonotonic-poll",
    "poll-skip",
    "int-poll-skip",
    "double-ownership",
    "offset-regression",
    "phantom",
];

/// A run that is over.
pub struct Summary<'a> {
    options: &'a Options,
    happened: &'a [Happened],
    outcome: &'a Outcome,
    played: Duration,
    healed: Duration,
    /// Whether the network and a disk could be broken.
    could_break: (bool, bool),
}

impl<'a> Summary<'a> {
    /// Of everything that was found.
    pub fn new(
        options: &'a Options,
        happened: &'a [Happened],
        outcome: &'a Outcome,
        played: Duration,
        healed: Duration,
        could_break: (bool, bool),
    ) -> Summary<'a> {
        Summary { options, happened, outcome, played, healed, could_break }
    }

    /// All acknowledged records, of the journal and of the histories.
    fn acknowledged(&self) -> u64 {
        self.outcome.acknowledged + self.outcome.report.count("acked") as u64
    }

    fn longest_wait(&self) -> Duration {
        self.outcome.waits.iter().map(|(_, took)| *took).max().unwrap_or_default()
    }

    /// The longest wait for an acknowledgement that began while a fault, or what came of it, was there: until the next one.
    fn longest_wait_of(&self, at: usize) -> Duration {
        let from = self.happened[at].at;
        let until = self.happened.get(at + 1).map_or(Duration::MAX, |next| next.at);
        let waits = self.outcome.waits.iter().filter(|(ended, took)| {
            let begun = ended.saturating_sub(*took);
            // A record may have been sent just before.
            begun + Duration::from_millis(500) >= from && begun < until
        });
        waits.map(|(_, took)| *took).max().unwrap_or_default()
    }

    /// Good: a sentence. Bad: all that is wrong.
    pub fn verdict(&self) -> Result<String, String> {
        let Outcome { report, complaints, journal, .. } = self.outcome;
        if report.is_good() && complaints.is_empty() {
            return Ok(format!(
                "{} faults, {} records acknowledged, no anomaly; longest wait for an acknowledgement {:.1} s; {journal}; {report}",
                self.happened.len(),
                self.acknowledged(),
                self.longest_wait().as_secs_f64(),
            ));
        }
        Err(format!("{}; {journal}; {report}", complaints.join("; ")))
    }

    /// A page of `docs`.
    pub fn page(&self) -> String {
        let Options { minutes, seed, brokers, rate, steady, .. } = self.options;
        let layout = match brokers {
            0 => "three nodes, each broker and controller".to_owned(),
            brokers => format!("three controllers and {brokers} brokers"),
        };
        let network = match self.could_break.0 {
            true => "a network namespace each",
            false => "loopback; the network was not broken",
        };
        let disk = match self.could_break.1 {
            true => "one with a file system of its own, which was filled",
            false => "no disk was filled",
        };
        let verdict = match self.verdict() {
            Ok(_) => "No anomaly.".to_owned(),
            Err(reason) => format!("**Broken:** {reason}"),
        };
        let mut page = format!(
            "# Nemesis: real processes, real clients, faults\n\n\
             ```console\n$ cargo xtask nemesis --minutes {minutes} --seed {seed} --brokers {brokers} --rate {rate} --steady {steady}\n```\n\n\
             Written by that command (`--report FILE`). Nodes: {layout}, with {network}, {disk}; Kafka's default timeouts, replication \
             factor 3, `min.insync.replicas=2`, `acks=all`. Clients: a franz-go producer with a memory (idempotent, {rate} records/s, \
             every record compared with the log at the end), a steady producer ({steady} records/s), transactional copiers of the Java \
             client and of librdkafka, group members of librdkafka and franz-go, readers with `read_committed`.\n\n\
             {verdict}\n\n\
             | | |\n|---|---|\n\
             | faults | {} in {:.0} minutes |\n\
             | records acknowledged | {} |\n\
             | the journal | {} |\n\
             | transactions ended | {} |\n\
             | polls, commits | {}, {} |\n\
             | copiers that were stuck (see `load`) and replaced | {} |\n\
             | longest wait of a record for its acknowledgement | {:.1} s |\n\
             | whole again after the last fault (every replica in sync) | {:.1} s |\n",
            self.happened.len(),
            self.played.as_secs_f64() / 60.0,
            self.acknowledged(),
            self.outcome.journal,
            self.outcome.report.count("ended"),
            self.outcome.report.count("polled"),
            self.outcome.report.count("committed"),
            if self.outcome.replaced.is_empty() {
                "none".to_owned()
            } else {
                self.outcome.replaced.join(", ")
            },
            self.longest_wait().as_secs_f64(),
            self.healed.as_secs_f64(),
        );
        page.push_str("\n| anomaly looked for | found |\n|---|---|\n");
        for kind in LOOKED_FOR {
            let count = self.outcome.report.anomalies.iter().filter(|anomaly| anomaly.kind == *kind).count();
            page.push_str(&format!("| {kind} | {count} |\n"));
        }
        page.push_str("\n| fault | times | longest | longest wait for an acknowledgement, until the next fault |\n|---|---|---|---|\n");
        let mut kinds: BTreeMap<Kind, (usize, Duration, Duration)> = BTreeMap::new();
        for (at, Happened { fault, .. }) in self.happened.iter().enumerate() {
            let row = kinds.entry(fault.kind).or_default();
            *row = (row.0 + 1, row.1.max(fault.lasts), row.2.max(self.longest_wait_of(at)));
        }
        for (kind, (times, lasts, wait)) in kinds {
            let (lasts, wait) = (lasts.as_secs_f64(), wait.as_secs_f64());
            page.push_str(&format!("| {} | {times} | {lasts:.1} s | {wait:.1} s |\n", kind.name()));
        }
        page.push_str("\nA wait is that of a client: it holds the fault itself, the election, and what the client's own timeouts add.\n");
        page
    }
}
