//! Client programs that write histories (`tests/clients`, `crates/checker`): started, watched, killed, asked to finish.
//!
//! A program's output is its history and its log at once: lines that begin with `{` are events. The harness adds what the program can not
//! know of itself, namely that it was killed, with the same clock.

use crate::broker::{class_path, java};
use crate::clients::setup;
use crate::steps::{self, Doing, Ended, Trouble};
use crate::workspace;
use clap::ValueEnum;
use ottla_checker::History;
use ottla_checker::event::{Deed, Event};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// A client that has programs for histories.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Client {
    Java,
    Librdkafka,
    FranzGo,
}

/// `group.protocol`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Classic,
    Consumer,
}

impl Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Client::Java => "java",
            Client::Librdkafka => "librdkafka",
            Client::FranzGo => "franz-go",
        })
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "consumer",
        })
    }
}

impl Client {
    /// A member of a group.
    pub fn member(self) -> Command {
        match self {
            Client::Java => java_program("Member"),
            Client::Librdkafka => python_program("member.py"),
            Client::FranzGo => go_program("member"),
        }
    }

    /// A consume-transform-produce loop; franz-go's users write it by hand, so there is none.
    pub fn copier(self) -> Option<Command> {
        match self {
            Client::Java => Some(java_program("Copier")),
            Client::Librdkafka => Some(python_program("copier.py")),
            Client::FranzGo => None,
        }
    }
}

/// One of our Java programs.
fn java_program(class: &str) -> Command {
    let mut command = java("kafka");
    let classes = workspace::installed().join("java/classes");
    command
        .args(["-Xmx128m", "-cp"])
        .arg(format!("{}:{}", classes.display(), class_path("kafka")))
        .arg(class);
    command
}

fn python_program(script: &str) -> Command {
    let mut command = Command::new(workspace::installed().join("python/bin/python"));
    command.arg("-u").arg(workspace::suites().join("python").join(script));
    command
}

/// One of our Go programs.
pub fn go_program(name: &str) -> Command {
    Command::new(workspace::installed().join("go").join(name))
}

/// Installs whatever the programs need.
pub fn set_up() -> Result<(), Trouble> {
    setup::all()
}

/// A running program.
pub struct Player {
    name: String,
    log: PathBuf,
    process: Child,
    input: Option<ChildStdin>,
    read_up_to: u64,
    partial: Vec<u8>,
    events: Vec<Event>,
    is_over: bool,
}

impl Player {
    /// Starts `command BOOTSTRAP NAME arguments…`. Its log is `logs/LABEL.log`; `name` is the identity in the history.
    pub fn start(
        mut command: Command,
        bootstrap: &str,
        name: &str,
        label: &str,
        arguments: &[&str],
        logs: &Path,
    ) -> Result<Player, Trouble> {
        let log = logs.join(format!("{label}.log"));
        let out = File::create(&log).doing(format!("creating {}", log.display()))?;
        command.arg(bootstrap).arg(name).args(arguments);
        command.stdin(Stdio::piped()).stderr(out.try_clone()?).stdout(out);
        let mut process = command.spawn().doing(format!("starting {label}"))?;
        let input = process.stdin.take();
        Ok(Player {
            name: name.into(),
            log,
            process,
            input,
            read_up_to: 0,
            partial: Vec::new(),
            events: Vec::new(),
            is_over: false,
        })
    }

    /// Its identity.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything that it has written down so far.
    pub fn events(&mut self) -> Result<&[Event], Trouble> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.read_up_to))?;
        self.read_up_to += file.read_to_end(&mut self.partial)? as u64;
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&self.partial[..whole]).into_owned();
        self.partial.drain(..whole);
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let event = Event::parse(line)
                .map_err(|error| Trouble::new(format!("{}: {error}: {line}", self.name)))?;
            self.events.push(event);
        }
        Ok(&self.events)
    }

    /// Is there a line of its log that says this?
    pub fn has_said(&mut self, word: &str) -> Result<bool, Trouble> {
        let text = std::fs::read_to_string(&self.log).doing("reading a log")?;
        Ok(text.lines().any(|line| line == word))
    }

    /// Did it end by itself?
    pub fn has_ended(&mut self) -> Result<bool, Trouble> {
        Ok(!self.is_over && self.process.try_wait()?.is_some())
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<(), Trouble> {
        self.process.kill()?;
        self.process.wait()?;
        self.is_over = true;
        self.events()?;
        self.events.push(Event::new(now(), &self.name, Deed::Killed));
        Ok(())
    }

    /// Asks it to finish; does not wait.
    pub fn ask_to_finish(&mut self) {
        self.input = None;
    }

    /// Asks it to finish, and waits.
    pub fn finish(&mut self, patience: Duration) -> Result<Result<(), String>, Trouble> {
        if self.is_over {
            return Ok(Ok(()));
        }
        self.ask_to_finish();
        let ended = steps::wait_until(&mut self.process, Instant::now() + patience)?;
        self.is_over = true;
        self.events()?;
        Ok(match ended {
            Ended::Exit(status) if status.success() => Ok(()),
            ended => Err(format!("{} ended badly ({ended}); see {}", self.name, self.log.display())),
        })
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What all of them saw.
pub fn history(players: &mut [Player]) -> Result<History, Trouble> {
    let mut events = Vec::new();
    for player in players {
        events.extend_from_slice(player.events()?);
    }
    Ok(History::new(events))
}

/// CLOCK_MONOTONIC in nanoseconds, as all programs write it.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
