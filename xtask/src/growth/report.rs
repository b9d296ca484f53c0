//! What a run amounts to: a sentence, and a page for `docs`.

use super::load::Diary;
use super::many::Many;
use super::tools::{Moved, RECORD_BYTES};
use std::time::Duration;

/// How fast a cluster took records.
pub struct Rate {
    pub nodes: usize,
    pub replicas: usize,
    pub records_per_s: f64,
}

/// When a tool was asked, and how many partitions were moved.
type Progress = Vec<(Duration, usize)>;

/// Everything that was seen.
pub struct Page {
    rate: u32,
    share: f64,
    steps: Vec<(String, Duration, Progress)>,
    pub rates: Vec<Rate>,
    pub many: Option<Many>,
    /// Warnings that the clients logged: errors that they hid.
    pub hidden: usize,
    /// Errors that reached a client.
    errors: usize,
    /// Broken promises.
    pub wrong: Vec<String>,
    acknowledged: usize,
    commits: usize,
    /// Milliseconds without an acknowledgement, and without a record for the consumer.
    gaps: (i64, i64),
}

impl Page {
    /// Of a run that begins.
    pub fn new(rate: u32, share: f64) -> Page {
        let (steps, rates, wrong) = (Vec::new(), Vec::new(), Vec::new());
        Page {
            rate,
            share,
            steps,
            rates,
            many: None,
            hidden: 0,
            errors: 0,
            wrong,
            acknowledged: 0,
            commits: 0,
            gaps: (0, 0),
        }
    }

    /// Something that was done.
    pub fn step(&mut self, what: &str, took: Duration) {
        crate::steps::say(what, took);
        self.steps.push((what.to_owned(), took, Vec::new()));
    }

    /// Partitions that were moved.
    pub fn moved(&mut self, what: &str, moved: Moved) {
        let what = format!("{} partitions moved: {what}", moved.partitions);
        crate::steps::say(&what, moved.took);
        self.steps.push((what, moved.took, moved.progress));
    }

    /// What the clients saw.
    pub fn clients(&mut self, produced: &Diary, consumed: &Diary) {
        self.acknowledged = produced.records.len();
        self.commits = consumed.commits;
        self.errors = produced.errors.len() + consumed.errors.len();
        self.gaps = (produced.longest_gap_ms, consumed.longest_gap_ms);
    }

    /// Good: a sentence. Bad: all that is wrong.
    pub fn verdict(&self) -> Result<String, String> {
        let mut wrong = self.wrong.clone();
        wrong.extend(self.many.iter().flat_map(Many::missed));
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        let many = self.many.as_ref().map(|many| format!("; {many}")).unwrap_or_default();
        Ok(format!(
            "{} steps, {} records acknowledged and read back once, no error reached a client, longest wait {} ms{many}",
            self.steps.len(),
            self.acknowledged,
            self.gaps.0,
        ))
    }

    /// A page of `docs`.
    pub fn text(&self) -> String {
        let verdict = match self.verdict() {
            Ok(_) => "Nothing was lost, nothing came twice, no error reached a client.".to_owned(),
            Err(reason) => format!("**Missed:** {reason}"),
        };
        let mut page = format!(
            "# Growth: one node, three, five\n\n```console\n$ cargo xtask growth --report docs/growth.md\n```\n\n\
             Written by that command. Every node is a process that was formatted (`ottla storage format`) and started; the first begins \
             alone (`--standalone`), two more join the quorum by themselves, two are brokers only. Partitions are moved with Kafka's \
             `kafka-reassign-partitions`, led by whom they prefer with `kafka-leader-election`, a node is forgotten with `kafka-cluster \
             unregister`. Meanwhile, from the first step to the last, Kafka's verifiable producer writes {} numbered records per second \
             (`acks=all`, idempotent), and its verifiable consumer reads and commits them in a group. Kafka's default timeouts, \
             `min.insync.replicas=2`.\n\n{verdict}\n",
            self.rate
        );
        self.write_clients(&mut page);
        self.write_rates(&mut page);
        if let Some(many) = &self.many {
            page.push_str(&many.section());
        }
        page
    }

    fn write_clients(&self, page: &mut String) {
        if self.steps.is_empty() {
            return;
        }
        page.push_str(&format!(
            "\n| | |\n|---|---|\n\
             | records acknowledged, and each found once where it was acknowledged | {} |\n\
             | commits of the group | {} |\n\
             | errors that reached a client | {} |\n\
             | warnings that the clients logged: errors that they hid and tried again | {} |\n\
             | longest time without an acknowledgement | {} ms |\n\
             | longest time without a record for the consumer | {} ms |\n",
            self.acknowledged, self.commits, self.errors, self.hidden, self.gaps.0, self.gaps.1
        ));
        page.push_str("\n| step | took | progress, as the tool told it |\n|---|---|---|\n");
        for (what, took, progress) in &self.steps {
            let progress =
                progress.iter().map(|(at, count)| format!("{count} after {:.1} s", at.as_secs_f64()));
            let progress = progress.collect::<Vec<_>>().join(", ");
            page.push_str(&format!("| {what} | {:.1} s | {progress} |\n", took.as_secs_f64()));
        }
        page.push_str(
            "\nA step that moves partitions holds the starts of the tools' JVMs, more than a second each, one for every look at the progress; \
             a restart and a new disk end when every replica is in sync again.\n",
        );
    }

    fn write_rates(&self, page: &mut String) {
        if self.rates.is_empty() {
            return;
        }
        page.push_str(&format!(
            "\n## Throughput\n\n`kafka-producer-perf-test`, {RECORD_BYTES} bytes a record, batches of at most 4 KiB, `acks=all`, idempotent, on 30 \
             partitions, while the load above goes on. All nodes share one machine and one disk, so each is held to {:.0} % of a processor \
             while this is measured (a control group): a node more is then what a machine more would be.\n\n\
             | nodes | replicas | records per second |\n|---|---|---|\n",
            self.share * 100.0
        ));
        for Rate { nodes, replicas, records_per_s } in &self.rates {
            page.push_str(&format!("| {nodes} | {replicas} | {records_per_s:.0} |\n"));
        }
    }
}
