//! `cargo xtask eos --rounds N`: consume-transform-produce loops of real clients, exactly once, while the broker is killed and restarted.
//!
//! A steady producer fills a topic; one copier per client copies it, a transaction for each poll, every fifth of them aborted. The broker
//! is killed -9 in every round, mostly in the middle of a transaction. At the end each copy must hold each record of the source once for
//! `read_committed` readers, nothing of an aborted transaction may ever have been seen, and no transaction may be left undecided.

use crate::broker::{Broker, Kind};
use crate::crash::Dice;
use crate::players::{self, Client, Player, Protocol, go_program};
use crate::steps::{self, Trouble, fresh_dir};
use crate::workspace;
use clap::{Args, ValueEnum};
use ottla_checker::event::Deed;
use ottla_checker::{check, check_copy};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// Only these clients
    #[arg(long, value_enum, value_delimiter = ',')]
    pub client: Vec<Client>,
    /// `group.protocol` of the copiers
    #[arg(long, value_enum, default_value = "classic")]
    pub protocol: Protocol,
    /// Seed of the moments at which the broker is killed (default: the clock)
    #[arg(long)]
    pub seed: Option<u64>,
}

const SOURCE: &str = "source";
const PARTITIONS: &str = "3";
/// Records per second of the source.
const RATE: &str = "500";
/// How long a copier may go without a committed transaction, and how long the end may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    players::set_up()?;
    let outcome = kill_and_check(&options)?;
    match &outcome {
        Ok(summary) => println!("ok   eos: {summary}"),
        Err(reason) => println!("FAIL eos: {reason}"),
    }
    Ok(outcome.is_ok())
}

/// All rounds and the verdict; the inner error is a broken promise, the outer one a rig that did not work.
pub fn kill_and_check(options: &Options) -> Result<Result<String, String>, Trouble> {
    let logs = fresh_dir(&workspace::logs("eos"))?;
    let home = fresh_dir(&workspace::scratch("eos"))?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Trouble::new)?.as_nanos() as u64;
    let seed = options.seed.unwrap_or(clock % 1_000_000);
    let mut dice = Dice::new(seed);
    let mut broker = Broker::new(options.against, options.binary.clone(), &home, &logs)?;
    let begun = Instant::now();
    broker.start()?;
    println!("{} serves; seed {seed}", broker.name());
    let mut loops = Loops::start(options, &broker.bootstrap(), &logs)?;
    for round in 1..=options.rounds {
        if let Err(reason) = loops.wait_for_more(&mut broker)? {
            return Ok(Err(format!("round {round}: {reason}")));
        }
        std::thread::sleep(Duration::from_millis(dice.below(700)));
        broker.kill()?;
        let restart = broker.start()?;
        println!(
            "round {round:>3}/{}: ready in {:.0} ms; committed transactions {:?}",
            options.rounds,
            restart.as_secs_f64() * 1e3,
            loops.committed,
        );
    }
    if let Err(reason) = loops.wait_for_more(&mut broker)? {
        return Ok(Err(format!("after the last round: {reason}")));
    }
    let verdict = loops.finish()?;
    broker.stop()?;
    steps::say(&format!("{} rounds", options.rounds), begun.elapsed());
    Ok(verdict)
}

/// The producer, the copiers, and how far the copiers were when last looked at.
struct Loops<'a> {
    bootstrap: String,
    logs: &'a Path,
    producer: Player,
    copiers: Vec<Player>,
    targets: Vec<String>,
    committed: Vec<usize>,
}

impl<'a> Loops<'a> {
    fn start(options: &Options, bootstrap: &str, logs: &'a Path) -> Result<Loops<'a>, Trouble> {
        let mut topics = vec![RATE.to_owned(), SOURCE.to_owned(), PARTITIONS.to_owned()];
        let (mut commands, mut targets) = (Vec::new(), Vec::new());
        for client in Client::value_variants() {
            let is_chosen = options.client.is_empty() || options.client.contains(client);
            if let Some(command) = client.copier().filter(|_| is_chosen) {
                commands.push(command);
                targets.push(format!("copy-{client}"));
                topics.extend([format!("copy-{client}"), PARTITIONS.to_owned()]);
            }
        }
        create_targets(bootstrap, logs, &topics)?;
        let arguments: Vec<&str> = topics[..3].iter().map(String::as_str).collect();
        let producer =
            Player::start(go_program("steady"), bootstrap, "producer", "producer", &arguments, logs)?;
        let protocol = options.protocol.to_string();
        let copiers = commands
            .into_iter()
            .zip(&targets)
            .map(|(command, target)| {
                let arguments = [&format!("{target}-group"), &protocol, SOURCE, target];
                Player::start(command, bootstrap, target, target, &arguments, logs)
            })
            .collect::<Result<Vec<Player>, Trouble>>()?;
        let committed = vec![0; copiers.len()];
        Ok(Loops { bootstrap: bootstrap.into(), logs, producer, copiers, targets, committed })
    }

    /// Waits until every copier has committed more than when last asked.
    fn wait_for_more(&mut self, broker: &mut Broker) -> Result<Result<(), String>, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        for (copier, before) in self.copiers.iter_mut().zip(&mut self.committed) {
            loop {
                let is_committed = |deed: &Deed| matches!(deed, Deed::Ended { committed: Some(true), .. });
                let now = copier.events()?.iter().filter(|event| is_committed(&event.deed)).count();
                if now > *before {
                    *before = now;
                    break;
                }
                if copier.has_ended()? || self.producer.has_ended()? {
                    return Ok(Err(format!("{} or the producer gave up", copier.name())));
                }
                if !broker.is_alive() {
                    steps::show_end(&broker.log(), 20);
                    return Ok(Err("the broker died by itself".into()));
                }
                if Instant::now() > deadline {
                    return Ok(Err(format!(
                        "{} commits nothing for {} s",
                        copier.name(),
                        PATIENCE.as_secs()
                    )));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(Ok(()))
    }

    /// The producer stops, the copiers come to its end, a reader reads all of it, the checker judges.
    fn finish(mut self) -> Result<Result<String, String>, Trouble> {
        if let Err(reason) = self.producer.finish(PATIENCE)? {
            return Ok(Err(reason));
        }
        self.copiers.iter_mut().for_each(Player::ask_to_finish);
        for copier in &mut self.copiers {
            if let Err(reason) = copier.finish(PATIENCE)? {
                return Ok(Err(reason));
            }
        }
        let mut topics = vec![SOURCE];
        topics.extend(self.targets.iter().map(String::as_str));
        let reader = go_program("reader");
        let mut reader = Player::start(reader, &self.bootstrap, "reader", "reader", &topics, self.logs)?;
        if let Err(reason) = reader.finish(PATIENCE)? {
            steps::show_end(&self.logs.join("reader.log"), 3);
            return Ok(Err(reason));
        }
        let mut players = self.copiers;
        players.extend([self.producer, reader]);
        let history = players::history(&mut players)?;
        let mut report = check(&history);
        for target in &self.targets {
            report.anomalies.extend(check_copy(&history, SOURCE, target));
        }
        Ok(if report.is_good() { Ok(report.to_string()) } else { Err(report.to_string()) })
    }
}

/// All topics, made by a producer that sends nothing to speak of.
fn create_targets(bootstrap: &str, logs: &Path, topics: &[String]) -> Result<(), Trouble> {
    let mut arguments: Vec<&str> = topics.iter().map(String::as_str).collect();
    arguments[0] = "0";
    let mut creator = Player::start(go_program("steady"), bootstrap, "creator", "creator", &arguments, logs)?;
    creator.finish(PATIENCE)?.map_err(Trouble::new)
}
