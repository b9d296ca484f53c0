//! `cargo xtask eos --rounds N`: consume-transform-produce loops of real clients, exactly once, while the broker is killed and restarted.
//!
//! A steady producer fills a topic; one copier per client copies it, a transaction for each poll, every fifth of them aborted. The broker
//! is killed -9 in every round, mostly in the middle of a transaction, and every few rounds the copiers die with it and come back under the
//! same transactional ids. A live reader looks on with `read_committed`. At the end each copy must hold each record of the source once for
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
    /// Every how many rounds the copiers are killed too (0: never)
    #[arg(long, default_value_t = 5)]
    pub deaths: u32,
    /// Seed of the moments at which the broker is killed (default: the clock)
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Options {
    /// A few rounds, in the last of which the copiers die too.
    pub fn smoke() -> Options {
        Options {
            rounds: 3,
            against: Kind::Ottla,
            binary: None,
            client: Vec::new(),
            protocol: Protocol::Classic,
            deaths: 3,
            seed: None,
        }
    }
}

const SOURCE: &str = "source";
const PARTITIONS: &str = "3";
/// Records per second of the source.
const RATE: &str = "500";
/// How long a copier may go without a committed transaction, and how long the end may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// A KIP-848 member that was killed is gone for the group when its session has ended. (Classic copiers are static members instead.)
const SETTINGS: &[(&str, &str)] =
    &[("group.consumer.min.session.timeout.ms", "6000"), ("group.consumer.session.timeout.ms", "6000")];

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
    broker.set(SETTINGS);
    let begun = Instant::now();
    broker.start()?;
    println!("{} serves; seed {seed}", broker.name());
    let mut loops = Loops::start(options, &broker.bootstrap(), &logs)?;
    for round in 1..=options.rounds {
        if let Err(reason) = loops.wait_for_more(&mut broker)? {
            return Ok(Err(format!("round {round}: {reason}")));
        }
        std::thread::sleep(Duration::from_millis(dice.below(700)));
        let all_die = options.deaths > 0 && round % options.deaths == 0;
        if all_die {
            loops.kill_copiers()?;
        }
        broker.kill()?;
        let restart = broker.start()?;
        if all_die {
            loops.restart_copiers()?;
        }
        println!(
            "round {round:>3}/{}{}: ready in {:.0} ms; committed transactions {:?}",
            options.rounds,
            if all_die { ", copiers too" } else { "" },
            restart.as_secs_f64() * 1e3,
            loops.committed(),
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

/// A copier: the process that runs now, and those that were killed.
struct Copier {
    client: Client,
    target: String,
    player: Player,
    dead: Vec<Player>,
    /// Committed transactions when last looked at: of those that were killed, and of the one that runs.
    committed_before: usize,
    committed: usize,
}

impl Copier {
    /// Waits until it has committed more than when last asked. An error: why it will not.
    fn wait_for_more(
        &mut self,
        deadline: Instant,
        broker: &mut Broker,
        producer: &mut Player,
    ) -> Result<Result<(), String>, Trouble> {
        loop {
            let is_committed = |deed: &Deed| matches!(deed, Deed::Ended { committed: Some(true), .. });
            let now = self.player.events()?.iter().filter(|event| is_committed(&event.deed)).count();
            if now > self.committed {
                self.committed = now;
                return Ok(Ok(()));
            }
            if self.player.has_ended()? || producer.has_ended()? {
                return Ok(Err(format!("{} or the producer gave up", self.target)));
            }
            if !broker.is_alive() {
                steps::show_end(&broker.log(), 20);
                return Ok(Err("the broker died by itself".into()));
            }
            if Instant::now() > deadline {
                return Ok(Err(format!("{} commits nothing for {} s", self.target, PATIENCE.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The producer, the copiers, and the reader that looks on.
struct Loops<'a> {
    bootstrap: String,
    logs: &'a Path,
    protocol: Protocol,
    producer: Player,
    watcher: Player,
    copiers: Vec<Copier>,
}

impl<'a> Loops<'a> {
    fn start(options: &Options, bootstrap: &str, logs: &'a Path) -> Result<Loops<'a>, Trouble> {
        let is_chosen = |client: &Client| options.client.is_empty() || options.client.contains(client);
        let clients: Vec<Client> = Client::value_variants()
            .iter()
            .copied()
            .filter(|client| client.copier().is_some() && is_chosen(client))
            .collect();
        let targets: Vec<String> = clients.iter().map(|client| format!("copy-{client}")).collect();
        let mut topics = vec![RATE, SOURCE, PARTITIONS];
        topics.extend(targets.iter().flat_map(|target| [target.as_str(), PARTITIONS]));
        create_targets(bootstrap, logs, &topics)?;
        let steady = go_program("steady");
        let producer = Player::start(steady, bootstrap, "producer", "producer", &topics[..3], logs)?;
        let mut watched = vec!["live"];
        watched.extend(targets.iter().map(String::as_str));
        let watcher = Player::start(go_program("reader"), bootstrap, "watcher", "watcher", &watched, logs)?;
        let copiers = clients.into_iter().zip(&targets).map(|(client, target)| {
            let player = start_copier(client, target, options.protocol, 0, bootstrap, logs)?;
            let (target, dead) = (target.clone(), Vec::new());
            Ok(Copier { client, target, player, dead, committed_before: 0, committed: 0 })
        });
        let copiers = copiers.collect::<Result<Vec<Copier>, Trouble>>()?;
        let bootstrap = bootstrap.to_owned();
        Ok(Loops { bootstrap, logs, protocol: options.protocol, producer, watcher, copiers })
    }

    /// Committed transactions of each copier.
    fn committed(&self) -> Vec<usize> {
        self.copiers.iter().map(|copier| copier.committed_before + copier.committed).collect()
    }

    fn kill_copiers(&mut self) -> Result<(), Trouble> {
        self.copiers.iter_mut().try_for_each(|copier| copier.player.kill())
    }

    /// In the place of those that were killed.
    fn restart_copiers(&mut self) -> Result<(), Trouble> {
        for copier in &mut self.copiers {
            let number = copier.dead.len() + 1;
            let fresh = start_copier(
                copier.client,
                &copier.target,
                self.protocol,
                number,
                &self.bootstrap,
                self.logs,
            )?;
            copier.dead.push(std::mem::replace(&mut copier.player, fresh));
            copier.committed_before += std::mem::take(&mut copier.committed);
        }
        Ok(())
    }

    /// Waits until every copier has committed more than when last asked.
    fn wait_for_more(&mut self, broker: &mut Broker) -> Result<Result<(), String>, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        for copier in &mut self.copiers {
            if let Err(reason) = copier.wait_for_more(deadline, broker, &mut self.producer)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }

    /// The producer stops, the copiers come to its end, a reader reads all of it, the checker judges.
    fn finish(mut self) -> Result<Result<String, String>, Trouble> {
        if let Err(reason) = self.producer.finish(PATIENCE)? {
            return Ok(Err(reason));
        }
        self.copiers.iter_mut().for_each(|copier| copier.player.ask_to_finish());
        for copier in &mut self.copiers {
            if let Err(reason) = copier.player.finish(PATIENCE)? {
                return Ok(Err(reason));
            }
        }
        let mut topics = vec!["final", SOURCE];
        topics.extend(self.copiers.iter().map(|copier| copier.target.as_str()));
        let reader = go_program("reader");
        let mut reader = Player::start(reader, &self.bootstrap, "reader", "reader", &topics, self.logs)?;
        if let Err(reason) = reader.finish(PATIENCE)? {
            steps::show_end(&self.logs.join("reader.log"), 3);
            return Ok(Err(reason));
        }
        if let Err(reason) = self.watcher.finish(PATIENCE)? {
            return Ok(Err(reason));
        }
        let targets: Vec<String> = self.copiers.iter().map(|copier| copier.target.clone()).collect();
        let mut players = vec![self.producer, reader, self.watcher];
        for copier in self.copiers {
            players.extend(copier.dead);
            players.push(copier.player);
        }
        let history = players::history(&mut players)?;
        let mut report = check(&history);
        for target in &targets {
            report.anomalies.extend(check_copy(&history, SOURCE, target));
        }
        Ok(if report.is_good() { Ok(report.to_string()) } else { Err(report.to_string()) })
    }
}

/// The copier of a client; `number` tells those apart that follow one another.
fn start_copier(
    client: Client,
    target: &str,
    protocol: Protocol,
    number: usize,
    bootstrap: &str,
    logs: &Path,
) -> Result<Player, Trouble> {
    let Some(command) = client.copier() else { return Err(Trouble::new(format!("{client} has no copier"))) };
    let (group, protocol, number) = (format!("{target}-group"), protocol.to_string(), number.to_string());
    let arguments = [&group, &protocol, SOURCE, target, &number];
    Player::start(command, bootstrap, target, &format!("{target}.{number}"), &arguments, logs)
}

/// All topics, made by a producer that sends nothing to speak of.
fn create_targets(bootstrap: &str, logs: &Path, topics: &[&str]) -> Result<(), Trouble> {
    let mut arguments = topics.to_vec();
    arguments[0] = "0";
    let mut creator = Player::start(go_program("steady"), bootstrap, "creator", "creator", &arguments, logs)?;
    creator.finish(PATIENCE)?.map_err(Trouble::new)
}
