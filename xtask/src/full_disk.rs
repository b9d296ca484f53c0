//! `cargo xtask full-disk`: a broker on a file system of a few megabytes, filled by a producer (acks=all) until it is refused. Then all that
//! has to work on a full disk: reads, what frees space, restarts; and the producer, when there is space again.
//!
//! The producer keeps every batch until it is acknowledged, and where. It tries again only what a client would, so an error that clients do
//! not retry ends the run. At the end everything is read back: what was acknowledged is where it was acknowledged.

mod client;
mod journal;

use crate::broker::{Broker, Kind};
use crate::small_disk::SmallDisk;
use crate::steps::{self, Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use client::Client;
use journal::Journal;
use ottla_protocol::ErrorCode;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything may take that is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to fill the disk.
const FILL_PATIENCE: Duration = Duration::from_secs(120);
/// The disk counts as full when nothing was acknowledged for so long.
const QUIET: Duration = Duration::from_millis(1_500);
/// Bytes of each of the topics that are given up.
const BALLAST_BYTES: usize = 4 << 20;

const SETTINGS: &[(&str, &str)] = &[
    ("log.segment.bytes", "1048576"),
    ("log.segment.delete.delay.ms", "100"),
    ("log.retention.check.interval.ms", "300"),
    ("log.initial.task.delay.ms", "100"),
    ("offsets.topic.num.partitions", "1"),
    ("auto.create.topics.enable", "false"),
];

#[derive(Args)]
pub struct Options {
    /// Size of the file system, in MiB
    #[arg(long, default_value_t = 64)]
    pub mib: u64,
    /// How often the disk is filled by the producer, and space made again
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// A tmpfs, even where a loop device can be mounted
    #[arg(long)]
    pub tmpfs: bool,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
}

impl Options {
    /// As little as shows it.
    pub fn smoke() -> Options {
        Options { mib: 40, rounds: 1, tmpfs: false, binary: None }
    }
}

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let outcome = fill_and_check(&options)?;
    match &outcome {
        Ok(summary) => println!("ok   full disk: {summary}"),
        Err(reason) => println!("FAIL full disk: {reason}"),
    }
    Ok(outcome.is_ok())
}

/// The whole run; the inner error is a broken promise, the outer one a rig that did not work.
pub fn fill_and_check(options: &Options) -> Result<Result<String, String>, Trouble> {
    let logs = fresh_dir(&workspace::logs("full-disk"))?;
    let home = SmallDisk::fresh_home(&workspace::scratch("full-disk"))?;
    let mount = if options.tmpfs { SmallDisk::mount_tmpfs } else { SmallDisk::mount };
    let Some(disk) = mount(&home.join("disk"), options.mib << 20) else {
        return Ok(Ok("nothing can be mounted here, so no disk was filled".into()));
    };
    println!("{} of {} MiB", disk.what(), options.mib);
    let mut broker = Broker::new(Kind::Ottla, options.binary.clone(), disk.place(), &logs)?;
    broker.set(SETTINGS);
    broker.start()?;
    let mut rig = Rig { journal: Journal::new(&broker.bootstrap()), broker, disk, begun: Instant::now() };
    let outcome = rig.play(options.rounds);
    if outcome.is_err() {
        steps::show_end(&rig.broker.log(), 20);
    }
    rig.journal.stop();
    Ok(outcome)
}

struct Rig {
    journal: Journal,
    broker: Broker,
    disk: SmallDisk,
    begun: Instant,
}

impl Rig {
    fn client(&self) -> Result<Client, String> {
        Client::open(&self.broker.bootstrap())
    }

    fn play(&mut self, rounds: u32) -> Result<String, String> {
        self.client()?.create("journal", journal::PARTITIONS)?;
        for round in 0..rounds {
            for name in ["given-up", "cut", "aged"] {
                let name = format!("{name}-{round}");
                let mut client = self.client()?;
                client.create(&name, 1)?;
                client.fill(&name, BALLAST_BYTES)?;
            }
        }
        self.journal.start();
        for round in 0..rounds {
            let name = |what: &str| format!("{what}-{round}");
            self.until_full()?;
            self.look_around(&name("given-up"))?;
            self.kill_and_start()?;
            self.look_around(&name("given-up"))?;
            self.frees("a topic is deleted", |client| client.delete(&name("given-up")))?;
            self.until_full()?;
            self.frees("records are deleted", |client| client.delete_records(&name("cut")))?;
            self.until_full()?;
            self.frees("retention finds too much", |client| client.retain_bytes(&name("aged"), 1))?;
        }
        // What somebody else has filled: as a whole, and under load.
        self.disk.fill().map_err(|error| error.to_string())?;
        self.until_full()?;
        self.stop_and_start()?;
        self.until_full()?;
        self.disk.relieve().map_err(|error| error.to_string())?;
        self.goes_on("somebody made room")?;
        self.journal.stop();
        let found = self.journal.compare(&mut self.client()?)?;
        self.kill_and_start()?;
        self.journal.compare(&mut self.client()?)?;
        Ok(found)
    }

    fn is_alive(&mut self) -> Result<(), String> {
        match self.broker.is_alive() {
            true => self.journal.check(),
            false => Err("the broker ended by itself".into()),
        }
    }

    /// Waits until the producer does not get on any more, because it is refused.
    fn until_full(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + FILL_PATIENCE;
        let (mut seen, mut since) = (self.journal.acked(), Instant::now());
        while since.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(10));
            self.is_alive()?;
            if self.journal.acked() > seen {
                (seen, since) = (self.journal.acked(), Instant::now());
            }
            if Instant::now() > deadline {
                return Err("the disk does not fill up".into());
            }
        }
        let refused = self.journal.refusal().ok_or("the producer neither gets on nor is refused")?;
        self.say(&format!("full: {seen} batches acknowledged, then {}", refused.name()));
        if refused != ErrorCode::KafkaStorageError {
            return Err(format!("a full disk is told as {}", refused.name()));
        }
        Ok(())
    }

    /// On a full disk: reads go on, and the producer is refused and not lost.
    fn look_around(&mut self, topic: &str) -> Result<(), String> {
        self.is_alive()?;
        let mut client = self.client()?;
        let bytes = client.read_all(topic, 0, |_, _| Ok(()))?;
        if bytes < BALLAST_BYTES {
            return Err(format!("{bytes} bytes of {topic} can be read"));
        }
        let acked = self.journal.compare(&mut client)?;
        self.say(&format!("reads: {acked}"));
        Ok(())
    }

    fn frees(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Client) -> Result<(), String>,
    ) -> Result<(), String> {
        act(&mut self.client()?).map_err(|error| format!("{what}: {error}"))?;
        self.goes_on(what)
    }

    /// The producer gets on again by itself.
    fn goes_on(&mut self, what: &str) -> Result<(), String> {
        let (seen, begun) = (self.journal.acked(), Instant::now());
        while self.journal.acked() == seen {
            self.is_alive()?;
            if begun.elapsed() > PATIENCE {
                return Err(format!("{what}, and the producer does not get on"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.say(&format!("{what}: the next acknowledgement after {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    fn kill_and_start(&mut self) -> Result<(), String> {
        self.broker.kill().map_err(|error| error.to_string())?;
        let took = self.broker.start().map_err(|error| format!("after kill -9: {error}"))?;
        self.say(&format!("killed, and ready again after {:.0} ms", took.as_secs_f64() * 1e3));
        Ok(())
    }

    fn stop_and_start(&mut self) -> Result<(), String> {
        self.broker.stop().map_err(|error| error.to_string())?;
        let took = self.broker.start().map_err(|error| format!("after a stop: {error}"))?;
        self.say(&format!("stopped in order, and ready again after {:.0} ms", took.as_secs_f64() * 1e3));
        Ok(())
    }

    fn say(&self, what: &str) {
        let free = self.disk.free_bytes().unwrap_or(0) >> 10;
        println!("{:>6.1} s  {what} ({free} KiB free)", self.begun.elapsed().as_secs_f64());
    }
}
