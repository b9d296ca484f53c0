//! `cargo xtask crash --rounds N`: kill -9 under load, again and again, then the question what became of the promises.
//!
//! One producer (acks=all, idempotent; `tests/clients/go/journal`) lives through all rounds and remembers at which offset
//! each record was acknowledged. The broker is killed at a random moment of each round and started again on its files. At the
//! end everything is consumed: nothing acknowledged may be missing, twice, elsewhere, or out of order.

use crate::broker::{Broker, Kind};
use crate::clients::setup;
use crate::steps::{self, Doing, Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a broker may leave the producer without one acknowledgement.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub struct Options {
    /// How many times the broker is killed
    #[arg(long, default_value_t = 10)]
    pub rounds: u32,
    /// The broker under test
    #[arg(long, value_enum, default_value = "ottla")]
    pub against: Kind,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Records per second that the producer offers
    #[arg(long, default_value_t = 20_000)]
    pub rate: u32,
    /// Seed of the moments at which the broker is killed (default: the clock)
    #[arg(long)]
    pub seed: Option<u64>,
}

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    setup::all()?;
    let outcome = kill_and_check(&options)?;
    if let Err(reason) = &outcome {
        println!("FAIL crash: {reason}");
    }
    Ok(outcome.is_ok())
}

/// All rounds and the check at the end; the inner error is a broken promise, the outer one a rig that did not work.
pub fn kill_and_check(options: &Options) -> Result<Result<(), String>, Trouble> {
    let logs = fresh_dir(&workspace::logs("crash"))?;
    let home = fresh_dir(&workspace::scratch("crash"))?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Trouble::new)?.as_nanos() as u64;
    let seed = options.seed.unwrap_or(clock % 1_000_000);
    let mut dice = Dice::new(seed);
    let mut broker = Broker::new(options.against, options.binary.clone(), &home, &logs)?;
    let took = broker.start()?;
    println!("{} ready in {:.0} ms; seed {seed}", broker.name(), took.as_secs_f64() * 1e3);

    let mut journal = Journal::start(&broker.bootstrap(), options.rate, &logs)?;
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    for round in 1..=options.rounds {
        if let Err(reason) = journal.wait_for_more(&mut broker)? {
            return Ok(Err(format!("round {round}: {reason}")));
        }
        std::thread::sleep(Duration::from_millis(dice.below(500)));
        broker.kill()?;
        let killed = Instant::now();
        let acked = journal.acked()?;
        let restart = broker.start()?;
        slowest = slowest.max(restart);
        if let Err(reason) = journal.wait_for_more(&mut broker)? {
            return Ok(Err(format!("round {round}: {reason}")));
        }
        println!(
            "round {round:>3}/{}: {acked} acknowledged, {} MB of log; ready in {:.0} ms, next acknowledgement after {:.0} ms",
            options.rounds,
            size_of(&broker.data())? / 1_000_000,
            restart.as_secs_f64() * 1e3,
            killed.elapsed().as_secs_f64() * 1e3,
        );
    }
    steps::say(
        &format!("{} rounds, slowest restart {:.0} ms", options.rounds, slowest.as_secs_f64() * 1e3),
        begun.elapsed(),
    );
    let checked = Instant::now();
    let outcome = journal.finish()?;
    if outcome.is_ok() {
        steps::say(&journal.summary(), checked.elapsed());
        broker.stop()?;
    }
    Ok(outcome)
}

/// The producer with a memory, as a process: it prints `acked N` as it goes, and checks when told to stop.
struct Journal {
    process: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
    seen: u64,
}

impl Journal {
    fn start(bootstrap: &str, rate: u32, logs: &Path) -> Result<Journal, Trouble> {
        let log = logs.join("journal.log");
        let out = File::create(&log)?;
        let mut process = Command::new(workspace::installed().join("go/journal"))
            .args([bootstrap, &rate.to_string()])
            .stdin(Stdio::piped())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .doing("starting the journal")?;
        let input = process.stdin.take();
        Ok(Journal { process, input, log, seen: 0 })
    }

    fn acked(&self) -> Result<u64, Trouble> {
        let text = fs::read_to_string(&self.log)?;
        let counts = text.lines().rev().filter_map(|line| line.strip_prefix("acked ")?.parse().ok());
        Ok(counts.into_iter().next().unwrap_or(0))
    }

    /// Waits until more was acknowledged than when last asked.
    fn wait_for_more(&mut self, broker: &mut Broker) -> Result<Result<(), String>, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let acked = self.acked()?;
            if acked > self.seen {
                self.seen = acked;
                return Ok(Ok(()));
            }
            if let Some(status) = self.process.try_wait()? {
                steps::show_end(&self.log, 10);
                return Ok(Err(format!("the producer gave up: {status}")));
            }
            if !broker.is_alive() {
                steps::show_end(&broker.log(), 20);
                return Ok(Err("the broker died by itself".into()));
            }
            if Instant::now() > deadline {
                steps::show_end(&self.log, 10);
                return Ok(Err(format!("nothing acknowledged for {} s", PATIENCE.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets it flush, consume and compare.
    fn finish(&mut self) -> Result<Result<(), String>, Trouble> {
        if let Some(mut input) = self.input.take() {
            input.write_all(b"stop\n").doing("telling the journal to stop")?;
        }
        let ended = steps::wait_until(&mut self.process, Instant::now() + Duration::from_secs(300))?;
        if ended.success() {
            return Ok(Ok(()));
        }
        steps::show_end(&self.log, 20);
        Ok(Err(format!("the journal does not agree with the log ({ended}); see {}", self.log.display())))
    }

    fn summary(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().last().unwrap_or_default().to_string()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Xorshift: enough to choose moments.
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as the seed says.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Bytes of the segments, by their length (files are allocated ahead, so that blocks would say too much).
fn size_of(folder: &Path) -> Result<u64, Trouble> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            total += size_of(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "log") {
            total += fs::metadata(&path).map(|found| found.len()).unwrap_or(0);
        }
    }
    Ok(total)
}
