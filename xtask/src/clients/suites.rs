//! The suites: how each is called, and how the lines that it prints become results.

use crate::broker::{class_path, java, java_options};
use crate::steps::{self, Trouble};
use crate::workspace;
use clap::ValueEnum;
use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many suites run at once. Most of a suite's time is waiting: for polls, for heartbeats, for a JVM to start.
const LANES: usize = 3;

/// No suite needs half as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// One client's suite.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    Tools,
    Go,
    Java,
    KafkaPython,
    Confluent,
    Node,
    /// A thousand topics, by franz-go: run by itself after the others.
    Many,
}

/// Which start of the broker the suites are talking to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Round {
    First,
    AfterStop,
    AfterKill,
}

/// Counted results.
#[derive(Default, Clone, Copy)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Counts one named check, and says so.
    pub fn count(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                println!("  ok   {name}");
                self.passed += 1;
            }
            Err(reason) => {
                println!("  FAIL {name}: {reason}");
                self.failed += 1;
            }
        }
    }
}

impl Round {
    pub fn all() -> &'static [Round] {
        &[Round::First, Round::AfterStop, Round::AfterKill]
    }

    pub fn number(self) -> u32 {
        match self {
            Round::First => 0,
            Round::AfterStop => 1,
            Round::AfterKill => 2,
        }
    }
}

impl Suite {
    /// All, the longest first, so that the lanes end together.
    pub fn all() -> Vec<Suite> {
        vec![
            Suite::Tools,
            Suite::Java,
            Suite::KafkaPython,
            Suite::Confluent,
            Suite::Go,
            Suite::Node,
            Suite::Many,
        ]
    }

    fn name(self) -> &'static str {
        match self {
            Suite::Tools => "tools",
            Suite::Go => "go",
            Suite::Java => "java",
            Suite::KafkaPython => "kafka-python",
            Suite::Confluent => "confluent",
            Suite::Node => "node",
            Suite::Many => "thousand-topics",
        }
    }

    fn command(self) -> Command {
        let sources = workspace::suites();
        let installed = workspace::installed();
        let python = |script: &str| {
            let mut command = Command::new(installed.join("python/bin/python"));
            command.arg("-u").arg(sources.join(script));
            command
        };
        match self {
            Suite::Go | Suite::Many => Command::new(installed.join("go/suite")),
            Suite::Java => {
                let mut command = java("kafka");
                let classes = installed.join("java/classes");
                command.arg("-cp").arg(format!("{}:{}", classes.display(), class_path("kafka"))).arg("Suite");
                command
            }
            Suite::KafkaPython => python("python/kafka_python.py"),
            Suite::Confluent => python("python/confluent.py"),
            Suite::Tools => {
                let mut command = python("tools/suite.py");
                command.env("TOOLS_JAVA", format!("java {}", java_options("tools").join(" ")));
                command
            }
            Suite::Node => {
                let mut command = Command::new("node");
                command
                    .env("NODE_PATH", installed.join("node/node_modules"))
                    .arg(sources.join("node/suite.js"));
                command
            }
        }
    }
}

/// What every suite of a run is told.
pub struct Run<'a> {
    pub bootstrap: String,
    pub name: String,
    pub case: &'a str,
    pub notes: PathBuf,
    pub logs: PathBuf,
}

/// Runs one round of the chosen suites, a few at a time, and prints each suite's cases as it ends.
pub fn run_round(chosen: &[Suite], round: Round, run: &Run) -> Result<Tally, Trouble> {
    let (last, first): (Vec<Suite>, Vec<Suite>) = chosen.iter().partition(|suite| **suite == Suite::Many);
    let mut tally = run_lanes(first, round, run)?;
    tally.add(&run_lanes(last, round, run)?);
    Ok(tally)
}

fn run_lanes(suites: Vec<Suite>, round: Round, run: &Run) -> Result<Tally, Trouble> {
    let queue: Mutex<VecDeque<Suite>> = Mutex::new(suites.into());
    let total = Mutex::new(Ok(Tally::default()));
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some(suite) = next() {
                    let result = run_suite(suite, round, run);
                    let Ok(mut total) = total.lock() else { return };
                    match (result, &mut *total) {
                        (Ok(ran), Ok(sum)) => sum.add(&ran.report()),
                        (Err(trouble), total) => *total = Err(trouble),
                        (_, Err(_)) => return,
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(|_| Err(Trouble::new("a lane of suites panicked")))
}

/// A suite that has ended, not yet reported: lines of two suites must not mix.
struct Ran {
    suite: Suite,
    round: Round,
    ended: steps::Ended,
    log: PathBuf,
    took: Duration,
}

fn run_suite(suite: Suite, round: Round, run: &Run) -> Result<Ran, Trouble> {
    let log = run.logs.join(format!("{}-{}.log", suite.name(), round.number()));
    let case = if suite == Suite::Many { "thousand-topics" } else { run.case };
    let mut command = suite.command();
    command
        .args([run.bootstrap.as_str(), &run.name, &round.number().to_string(), case])
        .env("NOTES", &run.notes);
    let begun = Instant::now();
    let ended = steps::run_logged(&mut command, &log, PATIENCE)?;
    Ok(Ran { suite, round, ended, log, took: begun.elapsed() })
}

impl Ran {
    /// Reads the log. A suite that ends badly without naming a case counts as one failure: silence is no success.
    fn report(&self) -> Tally {
        let Ran { suite, round, ended, log, took } = self;
        let mut tally = Tally::default();
        let text =
            fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        steps::say(&format!("{}, round {}", suite.name(), round.number()), *took);
        for line in text.lines() {
            if line.starts_with("ok ") {
                println!("  {line}");
                tally.passed += 1;
            } else if line.starts_with("FAIL ") {
                println!("  {line}");
                tally.failed += 1;
            }
        }
        if !ended.success() && tally.failed == 0 {
            println!("  FAIL {}: {ended}", suite.name());
            steps::show_end(log, 20);
            tally.failed += 1;
        } else if tally.failed > 0 {
            println!("    log: {}", log.display());
        }
        tally
    }
}
