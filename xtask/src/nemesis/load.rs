//! What runs against the cluster: producers, exactly-once copiers, members of a group, readers. Each writes down what it saw.

use crate::players::{self, Client, Player, go_program};
use crate::steps::{self, Doing, Ended, Trouble};
use crate::workspace;
use ottla_checker::event::{Deed, Event};
use ottla_checker::{Report, check, check_copy};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const SOURCE: &str = "source";
const PARTITIONS: &str = "3";
/// Bytes of a value of the journal.
const VALUE_BYTES: &str = "64";
/// How long the end may take: the copiers have to come to the end of the source, and everything is read again.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long the first acknowledgement may take.
const BEGIN_PATIENCE: Duration = Duration::from_secs(60);

/// All of it.
pub struct Load {
    bootstrap: String,
    logs: PathBuf,
    journal: Journal,
    producer: Player,
    watcher: Player,
    copiers: Vec<Copier>,
    members: Vec<Player>,
}

/// A copier: the process that runs now, and those before it.
struct Copier {
    client: Client,
    target: String,
    player: Player,
    dead: Vec<Player>,
    /// Ended transactions when last looked at, and since when there have been no more.
    ended: usize,
    since: Instant,
}

/// A copier that ends no transaction for so long is killed and replaced, as its operator would: the next one takes over its transactional
/// id. (librdkafka waits for ever in `send_offsets_to_transaction` for a coordinator that moved; see `tests/clients/python/copier.py`.)
const STUCK: Duration = Duration::from_secs(60);

impl Copier {
    fn start(client: Client, target: String, bootstrap: &str, logs: &Path) -> Result<Copier, Trouble> {
        let player = Copier::play(client, &target, 0, bootstrap, logs)?;
        Ok(Copier { client, target, player, dead: Vec::new(), ended: 0, since: Instant::now() })
    }

    fn play(
        client: Client,
        target: &str,
        number: usize,
        bootstrap: &str,
        logs: &Path,
    ) -> Result<Player, Trouble> {
        let command = client.copier().ok_or_else(|| Trouble::new(format!("{client} has no copier")))?;
        let (group, label, number) =
            (format!("{target}-group"), format!("{target}.{number}"), number.to_string());
        Player::start(command, bootstrap, target, &label, &[&group, "classic", SOURCE, target, &number], logs)
    }

    fn replace(&mut self, bootstrap: &str, logs: &Path) -> Result<(), Trouble> {
        self.player.kill()?;
        let fresh = Copier::play(self.client, &self.target, self.dead.len() + 1, bootstrap, logs)?;
        self.dead.push(std::mem::replace(&mut self.player, fresh));
        (self.ended, self.since) = (0, Instant::now());
        Ok(())
    }

    fn is_stuck(&mut self) -> Result<bool, Trouble> {
        let is_end = |event: &&Event| matches!(event.deed, Deed::Ended { .. });
        let ended = self.player.events()?.iter().filter(is_end).count();
        if ended != self.ended {
            (self.ended, self.since) = (ended, Instant::now());
        }
        Ok(self.since.elapsed() > STUCK)
    }

    /// Comes to the end of the source; one that is stuck is replaced once.
    fn finish(&mut self, bootstrap: &str, logs: &Path) -> Result<Result<(), String>, Trouble> {
        self.player.ask_to_finish();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.player.has_ended()? {
            if self.is_stuck()? {
                self.replace(bootstrap, logs)?;
                self.player.ask_to_finish();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.player.finish(Duration::ZERO)
    }
}

/// What came of it.
pub struct Outcome {
    /// What the histories show.
    pub report: Report,
    /// Why a client could not go on, or the journal does not agree with the log.
    pub complaints: Vec<String>,
    /// Copiers that were stuck and had to be replaced.
    pub replaced: Vec<String>,
    /// The journal's last line.
    pub journal: String,
    /// Records that were acknowledged to the journal.
    pub acknowledged: u64,
    /// Acknowledgements that were waited for: when they came (CLOCK_MONOTONIC), and how long that took.
    pub waits: Vec<(Duration, Duration)>,
}

impl Load {
    /// Starts everything; the topics exist when this returns.
    pub fn start(bootstrap: &str, rate: u32, steady_rate: u32, logs: &Path) -> Result<Load, Trouble> {
        let bootstrap = bootstrap.to_owned();
        let copied = [Client::Librdkafka, Client::Java];
        let targets: Vec<String> = copied.iter().map(|client| format!("copy-{client}")).collect();
        let mut topics = vec!["0", SOURCE, PARTITIONS];
        topics.extend(targets.iter().flat_map(|target| [target.as_str(), PARTITIONS]));
        let mut creator =
            Player::start(go_program("steady"), &bootstrap, "creator", "creator", &topics, logs)?;
        creator.finish(PATIENCE)?.map_err(Trouble::new)?;
        let steady_rate = steady_rate.to_string();
        let arguments = [&steady_rate, SOURCE, PARTITIONS];
        let producer =
            Player::start(go_program("steady"), &bootstrap, "producer", "producer", &arguments, logs)?;
        let watched: Vec<&str> = ["live"].into_iter().chain(targets.iter().map(String::as_str)).collect();
        let watcher = Player::start(go_program("reader"), &bootstrap, "watcher", "watcher", &watched, logs)?;
        let copiers = copied.into_iter().zip(targets);
        let copiers = copiers.map(|(client, target)| Copier::start(client, target, &bootstrap, logs));
        let copiers = copiers.collect::<Result<Vec<_>, Trouble>>()?;
        let members = [(Client::Librdkafka, 1), (Client::Librdkafka, 2), (Client::FranzGo, 3)];
        let members = members.map(|(client, number)| {
            // Clients of one kind share a group: their assignors are their own.
            let (group, name) = (format!("members-{client}"), format!("member-{number}-{client}"));
            let mut command = client.member();
            command.env("SESSION_MS", "6000");
            Player::start(command, &bootstrap, &name, &name, &[&group, "classic", SOURCE], logs)
        });
        let members = members.into_iter().collect::<Result<Vec<Player>, Trouble>>()?;
        let journal = Journal::start(&bootstrap, rate, logs)?;
        Ok(Load { bootstrap, logs: logs.to_path_buf(), journal, producer, watcher, copiers, members })
    }

    /// Waits for the first acknowledgement.
    pub fn wait_for_begin(&self) -> Result<(), Trouble> {
        let deadline = Instant::now() + BEGIN_PATIENCE;
        while self.acknowledged()? == 0 {
            if Instant::now() > deadline {
                return Err(Trouble::new("nothing is acknowledged although nothing went wrong yet"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// How much was acknowledged to the journal.
    pub fn acknowledged(&self) -> Result<u64, Trouble> {
        self.journal.acknowledged()
    }

    /// Replaces copiers that are stuck.
    pub fn tend(&mut self) -> Result<(), Trouble> {
        for copier in &mut self.copiers {
            if copier.is_stuck()? {
                println!("{} is stuck and is replaced", copier.target);
                copier.replace(&self.bootstrap, &self.logs)?;
            }
        }
        Ok(())
    }

    /// Who gave up, if somebody did.
    pub fn has_ended(&mut self) -> Result<Option<String>, Trouble> {
        if self.journal.process.try_wait()?.is_some() {
            return Ok(Some("the journal".into()));
        }
        let copiers = self.copiers.iter_mut().map(|copier| &mut copier.player);
        for player in
            [&mut self.producer, &mut self.watcher].into_iter().chain(copiers).chain(&mut self.members)
        {
            if player.has_ended()? {
                return Ok(Some(player.name().to_owned()));
            }
        }
        Ok(None)
    }

    /// Lets everything come to its end, reads all there is, and looks for anomalies. The cluster has to be whole.
    pub fn finish(mut self) -> Result<Outcome, Trouble> {
        let mut complaints = Vec::new();
        let mut note = |outcome: Result<(), String>| complaints.extend(outcome.err());
        note(self.producer.finish(PATIENCE)?);
        self.copiers.iter_mut().for_each(|copier| copier.player.ask_to_finish());
        self.members.iter_mut().for_each(Player::ask_to_finish);
        for copier in &mut self.copiers {
            note(copier.finish(&self.bootstrap, &self.logs)?);
        }
        for player in &mut self.members {
            note(player.finish(PATIENCE)?);
        }
        let targets: Vec<&str> = self.copiers.iter().map(|copier| copier.target.as_str()).collect();
        let arguments = [&["final", SOURCE], targets.as_slice()].concat();
        let mut reader =
            Player::start(go_program("reader"), &self.bootstrap, "reader", "reader", &arguments, &self.logs)?;
        note(reader.finish(PATIENCE)?);
        note(self.watcher.finish(PATIENCE)?);
        note(self.journal.finish()?);
        let targets: Vec<String> = targets.into_iter().map(String::from).collect();
        let mut all = vec![self.producer, self.watcher, reader];
        let mut replaced = Vec::new();
        for copier in self.copiers {
            replaced.extend(copier.dead.iter().map(|_| copier.target.clone()));
            all.extend(copier.dead);
            all.push(copier.player);
        }
        all.extend(self.members);
        let history = players::history(&mut all)?;
        let mut report = check(&history);
        for target in &targets {
            report.anomalies.extend(check_copy(&history, SOURCE, target));
        }
        let (journal, acknowledged) = (self.journal.last_line(), self.journal.acknowledged()?);
        Ok(Outcome { report, complaints, replaced, journal, acknowledged, waits: self.journal.waits()? })
    }
}

/// The producer with a memory (`tests/clients/go/journal`): it remembers where each record was acknowledged, and compares at the end.
struct Journal {
    process: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
}

impl Journal {
    fn start(bootstrap: &str, rate: u32, logs: &Path) -> Result<Journal, Trouble> {
        let log = logs.join("journal.log");
        let out = File::create(&log)?;
        let mut process = Command::new(workspace::installed().join("go/journal"))
            .args([bootstrap, &rate.to_string(), VALUE_BYTES])
            .stdin(Stdio::piped())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .doing("starting the journal")?;
        let input = process.stdin.take();
        Ok(Journal { process, input, log })
    }

    fn text(&self) -> Result<String, Trouble> {
        fs::read_to_string(&self.log).doing("reading the journal")
    }

    fn acknowledged(&self) -> Result<u64, Trouble> {
        Ok(self.text()?.lines().rev().find_map(|line| line.strip_prefix("acked ")?.parse().ok()).unwrap_or(0))
    }

    fn last_line(&self) -> String {
        self.text().unwrap_or_default().lines().last().unwrap_or_default().to_owned()
    }

    /// Lines `waited NANOSECONDS MILLISECONDS`.
    fn waits(&self) -> Result<Vec<(Duration, Duration)>, Trouble> {
        let text = self.text()?;
        let wait = |line: &str| {
            let (at, took) = line.strip_prefix("waited ")?.split_once(' ')?;
            Some((Duration::from_nanos(at.parse().ok()?), Duration::from_millis(took.parse().ok()?)))
        };
        Ok(text.lines().filter_map(wait).collect())
    }

    fn finish(&mut self) -> Result<Result<(), String>, Trouble> {
        if let Some(mut input) = self.input.take() {
            input.write_all(b"stop\n").doing("telling the journal to stop")?;
        }
        let ended = steps::wait_until(&mut self.process, Instant::now() + 2 * PATIENCE)?;
        Ok(match ended {
            Ended::Exit(status) if status.success() => Ok(()),
            ended => {
                Err(format!("the journal does not agree with the log ({ended}); see {}", self.log.display()))
            }
        })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
