//! What runs all the time: Kafka's verifiable producer (acks=all, idempotent, numbers the records) and verifiable consumer (a group that
//! commits), each an unchanged Java client; and what their diaries say at the end.

use crate::broker::java;
use crate::steps::{self, Doing, Trouble};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a client may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many complaints of one kind are told.
const TOLD_MAX: usize = 5;

/// One of the two programs, and its diary: a line of JSON for everything that it is told.
pub struct Player {
    process: Child,
    diary: PathBuf,
    /// What the client's own log says: warnings of errors that it hides.
    said: PathBuf,
}

impl Player {
    /// The producer, so many records per second.
    pub fn producer(bootstrap: &str, topic: &str, rate: u32, logs: &Path) -> Result<Player, Trouble> {
        let config = logs.join("producer.properties");
        // The program's own default is not to retry.
        fs::write(&config, "enable.idempotence=true\nacks=all\nretries=2147483647\nlinger.ms=5\n")
            .doing("writing a configuration")?;
        let (rate, config) = (rate.to_string(), config.display().to_string());
        let arguments = ["--throughput", &rate, "--acks", "-1", "--command-config", &config];
        Player::start("VerifiableProducer", "producer", bootstrap, topic, &arguments, logs)
    }

    /// A consumer that commits what it was given.
    pub fn consumer(bootstrap: &str, topic: &str, group: &str, logs: &Path) -> Result<Player, Trouble> {
        let arguments = ["--group-id", group, "--verbose"];
        Player::start("VerifiableConsumer", group, bootstrap, topic, &arguments, logs)
    }

    /// A consumer that ends after so many records.
    pub fn reader(bootstrap: &str, topic: &str, records: u64, logs: &Path) -> Result<Player, Trouble> {
        let records = records.to_string();
        let arguments = ["--group-id", "reader", "--verbose", "--max-messages", &records];
        Player::start("VerifiableConsumer", "reader", bootstrap, topic, &arguments, logs)
    }

    fn start(
        class: &str,
        name: &str,
        bootstrap: &str,
        topic: &str,
        arguments: &[&str],
        logs: &Path,
    ) -> Result<Player, Trouble> {
        let (diary, said) = (logs.join(format!("{name}.json")), logs.join(format!("{name}.log")));
        let mut command = java("tools");
        command.arg(format!("org.apache.kafka.tools.{class}"));
        command.args(["--bootstrap-server", bootstrap, "--topic", topic]).args(arguments);
        command.stdin(Stdio::null()).stdout(File::create(&diary)?).stderr(File::create(&said)?);
        let process = command.spawn().doing(format!("starting {class}"))?;
        Ok(Player { process, diary, said })
    }

    /// How many bytes its diary has: it grows while the client gets on.
    pub fn written(&self) -> Result<u64, Trouble> {
        Ok(fs::metadata(&self.diary).doing("looking at a diary")?.len())
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> Result<bool, Trouble> {
        Ok(self.process.try_wait()?.is_some())
    }

    /// SIGTERM: it comes to its end in order.
    pub fn finish(&mut self) -> Result<(), Trouble> {
        if let (None, Some(pid)) = (self.process.try_wait()?, Pid::from_raw(self.process.id() as i32)) {
            kill_process(pid, Signal::TERM).map_err(Trouble::new)?;
        }
        self.wait()
    }

    /// Waits until it comes to its end by itself.
    pub fn wait(&mut self) -> Result<(), Trouble> {
        match steps::wait_until(&mut self.process, Instant::now() + PATIENCE)? {
            steps::Ended::Late => {
                Err(Trouble::new(format!("a client did not end; see {}", self.said.display())))
            }
            steps::Ended::Exit(_) => Ok(()),
        }
    }

    /// All that it wrote down.
    pub fn diary(&self) -> Result<Diary, Trouble> {
        let text = fs::read_to_string(&self.diary).doing("reading a diary")?;
        Diary::of(&text).map_err(Trouble::new)
    }

    /// How many warnings its client logged: each an error that it hid.
    pub fn warnings(&self) -> Result<usize, Trouble> {
        let text = fs::read_to_string(&self.said).doing("reading a log")?;
        Ok(text.lines().filter(|line| line.contains(" WARN ")).count())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where a record is.
pub type Place = (i64, i64);

/// What a client saw.
#[derive(Default)]
pub struct Diary {
    /// Numbers and where they were acknowledged or read, in the order in which that was told.
    pub records: Vec<(u64, Place)>,
    /// Errors that reached the program.
    pub errors: Vec<String>,
    pub commits: usize,
    /// The longest time between two entries, in milliseconds.
    pub longest_gap_ms: i64,
}

impl Diary {
    fn of(text: &str) -> Result<Diary, String> {
        let mut diary = Diary::default();
        let mut last = None;
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let entry: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            let number = |key: &str| entry[key].as_i64().ok_or_else(|| format!("no {key}: {line}"));
            match entry["name"].as_str().unwrap_or_default() {
                "producer_send_success" | "record_data" => {
                    let at = number("timestamp")?;
                    let before = *last.get_or_insert(at);
                    diary.longest_gap_ms = diary.longest_gap_ms.max(at - before);
                    last = Some(at);
                    let value = entry["value"].as_str().and_then(|value| value.parse().ok());
                    let value = value.ok_or_else(|| format!("no number: {line}"))?;
                    diary.records.push((value, (number("partition")?, number("offset")?)));
                }
                "producer_send_error" => diary.errors.push(line.to_owned()),
                "offsets_committed" => match entry["success"].as_bool() {
                    Some(true) => diary.commits += 1,
                    _ => diary.errors.push(line.to_owned()),
                },
                _ => {}
            }
        }
        Ok(diary)
    }
}

/// What is wrong: every acknowledged number has to be in the log where it was acknowledged, all numbers once; the group has to have
/// read all of it; and no error may have reached a program.
pub fn judge(producer: &Diary, consumer: &Diary, log: &Diary) -> Vec<String> {
    let mut wrong = Vec::new();
    for (who, diary) in [("producer", producer), ("consumer", consumer), ("reader", log)] {
        wrong.extend(diary.errors.iter().take(TOLD_MAX).map(|error| format!("the {who} was told {error}")));
    }
    let mut found: BTreeMap<u64, Place> = BTreeMap::new();
    let twice = log.records.iter().filter(|(number, place)| found.insert(*number, *place).is_some());
    let twice: Vec<_> = twice
        .map(|(number, place)| format!("record {number} is twice in the log, also at {place:?}"))
        .collect();
    wrong.extend(twice.into_iter().take(TOLD_MAX));
    let lost = producer.records.iter().filter(|(number, place)| found.get(number) != Some(place));
    wrong.extend(lost.take(TOLD_MAX).map(|(number, place)| {
        format!("record {number} was acknowledged at {place:?} and found at {:?}", found.get(number))
    }));
    let seen: BTreeSet<u64> = consumer.records.iter().map(|(number, _)| *number).collect();
    let unseen = found.keys().filter(|number| !seen.contains(number)).count();
    if unseen > 0 {
        wrong.push(format!("{unseen} records were not seen by the group"));
    }
    if consumer.records.len() > seen.len() {
        wrong.push(format!("{} records were given to the group again", consumer.records.len() - seen.len()));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diary(records: &[(u64, Place)]) -> Diary {
        Diary { records: records.to_vec(), ..Diary::default() }
    }

    #[test]
    fn diaries_of_kafkas_programs_are_read() {
        let text = r#"{"timestamp":10,"name":"startup_complete"}
{"timestamp":20,"name":"producer_send_success","key":null,"value":"7","topic":"orders","partition":3,"offset":9}
{"timestamp":70,"name":"producer_send_error","key":null,"value":"8","message":"late"}
{"timestamp":80,"name":"record_data","key":null,"value":"9","topic":"orders","partition":3,"offset":10}
{"timestamp":90,"name":"offsets_committed","offsets":[],"success":false,"error":"x"}
"#;
        let diary = Diary::of(text).expect("fine");
        assert_eq!(diary.records, [(7, (3, 9)), (9, (3, 10))]);
        assert_eq!((diary.errors.len(), diary.longest_gap_ms), (2, 60));
        assert!(Diary::of("{\"name\":\"record_data\"").is_err());
    }

    #[test]
    fn every_broken_promise_is_told() {
        let good = diary(&[(0, (0, 0)), (1, (0, 1))]);
        assert!(judge(&good, &good, &good).is_empty());
        type Records<'a> = &'a [(u64, Place)];
        let cases: &[(Records<'_>, Records<'_>, &str)] = &[
            (&[(0, (0, 0)), (1, (0, 1))], &[(0, (0, 0))], "record 1 was acknowledged"),
            (&[(0, (0, 0)), (1, (0, 1))], &[(0, (0, 0)), (1, (0, 2))], "record 1 was acknowledged"),
            (&[(0, (0, 0)), (1, (0, 1))], &[(0, (0, 0)), (1, (0, 1)), (1, (0, 2))], "twice"),
            (&[(0, (0, 0))], &[(0, (0, 0)), (1, (0, 1)), (2, (0, 2))], "1 records were not seen"),
        ];
        for (acknowledged, log, expected) in cases {
            let wrong = judge(&diary(acknowledged), &good, &diary(log));
            assert!(wrong.iter().any(|line| line.contains(expected)), "{expected}: {wrong:?}");
        }
        let again = judge(&good, &diary(&[(0, (0, 0)), (1, (0, 1)), (1, (0, 1))]), &good);
        assert_eq!(again, ["1 records were given to the group again"]);
    }
}
