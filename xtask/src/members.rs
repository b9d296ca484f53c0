//! `cargo xtask members`: groups of real clients that grow, shrink, lose a member, restart static members and follow a pattern, with all
//! that they see written down and checked (`crates/checker`): no partition has two owners, no offset goes back, no record is lost.
//!
//! One scenario per client and protocol, all at once: their time is spent waiting for session timeouts.

use crate::broker::{Broker, Kind};
use crate::players::{self, Client, Player, Protocol, go_program};
use crate::steps::{self, Trouble, fresh_dir};
use crate::workspace;
use clap::{Args, ValueEnum};
use ottla_checker::event::{Deed, Partition};
use ottla_checker::{History, check};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// The broker under test
    #[arg(long, value_enum, default_value = "ottla")]
    pub against: Kind,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Only these clients
    #[arg(long, value_enum, value_delimiter = ',')]
    pub client: Vec<Client>,
    /// Only these protocols
    #[arg(long, value_enum, value_delimiter = ',')]
    pub protocol: Vec<Protocol>,
    /// Only this scenario
    #[arg(long, value_enum)]
    pub scenario: Option<Scenario>,
}

/// What happens to a group.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One member, three, one killed, one left
    Scale,
    /// Two static members, one of which goes and comes back
    Static,
    /// A pattern, and a topic that comes to match it
    Pattern,
}

/// Partitions of a scenario's topic.
const PARTITIONS: usize = 6;
/// Records per second of a scenario.
const RATE: &str = "200";
/// How long any single step may take: a session timeout and a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The session timeout of a member that is killed.
const SESSION_MS: &str = "8000";
/// That of a static member, which must be back in time, even on a busy machine; and of every KIP-848 member, for whom the broker
/// decides.
const SESSION_STATIC_MS: &str = "30000";
/// How many scenarios run at once.
const LANES: usize = 6;
/// KIP-848 timeouts are the broker's to set. Kafka's defaults are made for large groups on many machines.
const SETTINGS: &[(&str, &str)] = &[
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("group.consumer.session.timeout.ms", SESSION_STATIC_MS),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    players::set_up()?;
    let (passed, failed) = run_scenarios(&options)?;
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Runs the chosen scenarios; how many passed and failed.
pub fn run_scenarios(options: &Options) -> Result<(u32, u32), Trouble> {
    let begun = Instant::now();
    let logs = fresh_dir(&workspace::logs("members"))?;
    let home = fresh_dir(&workspace::scratch("members"))?;
    let mut broker = Broker::new(options.against, options.binary.clone(), &home, &logs)?;
    broker.set(SETTINGS);
    broker.start()?;
    let bootstrap = broker.bootstrap();
    let outcomes = run_lanes(chosen(options), &bootstrap, &logs)?;
    let (mut passed, mut failed) = (0, 0);
    for outcome in outcomes {
        match outcome.result {
            Ok(summary) => {
                println!("  ok   {}: {summary}", outcome.name);
                passed += 1;
            }
            Err(reason) => {
                println!("  FAIL {}: {reason}", outcome.name);
                failed += 1;
            }
        }
    }
    if !broker.is_alive() {
        steps::show_end(&broker.log(), 30);
        println!("  FAIL the broker died; its log: {}", broker.log().display());
        failed += 1;
    }
    broker.stop()?;
    steps::say(&format!("groups of {}", broker.name()), begun.elapsed());
    Ok((passed, failed))
}

fn run_lanes(
    chosen: Vec<(Client, Protocol, Scenario)>,
    bootstrap: &str,
    logs: &Path,
) -> Result<Vec<Outcome>, Trouble> {
    let queue = Mutex::new(VecDeque::from(chosen));
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    let lane = || {
        let mut outcomes = Vec::new();
        while let Some((client, protocol, scenario)) = next() {
            outcomes.push(Group::new(client, protocol, scenario, bootstrap, logs).run(scenario)?);
        }
        Ok(outcomes)
    };
    let lanes: Result<Vec<Vec<Outcome>>, Trouble> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let join = |thread: ScopedJoinHandle<'_, Result<Vec<Outcome>, Trouble>>| {
            thread.join().unwrap_or_else(|_| Err(Trouble::new("a scenario panicked")))
        };
        running.into_iter().map(join).collect()
    });
    Ok(lanes?.into_iter().flatten().collect())
}

/// franz-go 1.22 leaves a KIP-848 group as a static member without its instance id, which Kafka refuses: its restart has to wait for the
/// end of the session.
fn is_possible(client: Client, protocol: Protocol, scenario: Scenario) -> bool {
    (client, protocol, scenario) != (Client::FranzGo, Protocol::Consumer, Scenario::Static)
}

fn chosen(options: &Options) -> Vec<(Client, Protocol, Scenario)> {
    let mut all = Vec::new();
    for client in Client::value_variants() {
        for protocol in Protocol::value_variants() {
            for scenario in Scenario::value_variants() {
                let is_chosen = (options.client.is_empty() || options.client.contains(client))
                    && (options.protocol.is_empty() || options.protocol.contains(protocol))
                    && options.scenario.is_none_or(|only| only == *scenario)
                    && is_possible(*client, *protocol, *scenario);
                if is_chosen {
                    all.push((*client, *protocol, *scenario));
                }
            }
        }
    }
    all
}

struct Outcome {
    name: String,
    result: Result<String, String>,
}

/// A group in a scenario.
struct Group<'a> {
    name: String,
    client: Client,
    protocol: Protocol,
    bootstrap: &'a str,
    logs: &'a Path,
    players: Vec<Player>,
}

/// Why a scenario stopped: it failed, or it could not be run.
enum Stop {
    Failed(String),
    Trouble(Trouble),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

impl<'a> Group<'a> {
    fn new(
        client: Client,
        protocol: Protocol,
        scenario: Scenario,
        bootstrap: &'a str,
        logs: &'a Path,
    ) -> Group<'a> {
        let scenario =
            scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let name = format!("{client}-{protocol}-{scenario}");
        Group { name, client, protocol, bootstrap, logs, players: Vec::new() }
    }

    fn run(mut self, scenario: Scenario) -> Result<Outcome, Trouble> {
        let stopped = match scenario {
            Scenario::Scale => self.scale(),
            Scenario::Static => self.static_restart(),
            Scenario::Pattern => self.pattern(),
        };
        let result = match stopped {
            Ok(()) => self.judge()?,
            // What was seen until then may say why.
            Err(Stop::Failed(reason)) => {
                Err(format!("{reason}; {}", check(&players::history(&mut self.players)?)))
            }
            Err(Stop::Trouble(trouble)) => return Err(trouble),
        };
        Ok(Outcome { name: self.name, result })
    }

    fn scale(&mut self) -> Result<(), Stop> {
        let topic = self.name.clone();
        self.producer(&[&topic])?;
        let first = self.join(&topic, "a", None)?;
        self.wait_owned("one member", &[&topic], &[first])?;
        let second = self.join(&topic, "b", None)?;
        let third = self.join(&topic, "c", None)?;
        self.wait_owned("three members", &[&topic], &[first, second, third])?;
        self.players[third].kill()?;
        self.wait_owned("one of three killed", &[&topic], &[first, second])?;
        self.leave(first)?;
        self.wait_owned("one of two left", &[&topic], &[second])?;
        self.close(&[&topic])
    }

    /// A static member that comes back within its session gets what it had, and nobody else notices.
    fn static_restart(&mut self) -> Result<(), Stop> {
        let topic = self.name.clone();
        self.producer(&[&topic])?;
        let first = self.join(&topic, "a", Some("a"))?;
        let second = self.join(&topic, "b", Some("b"))?;
        self.wait_owned("two static members", &[&topic], &[first, second])?;
        let (kept, had) = (self.owned(first)?, self.owned(second)?);
        let changes = self.changes(first)?;
        match self.protocol {
            Protocol::Classic => self.players[second].kill()?,
            // With KIP-848 an instance id belongs to its member until that one leaves (for a while) or its session ends.
            Protocol::Consumer => self.leave(second)?,
        }
        let again = self.join(&topic, "b", Some("b"))?;
        self.wait_owned("the member is back", &[&topic], &[first, again])?;
        if self.owned(first)? != kept || self.owned(again)? != had || self.changes(first)? != changes {
            return Err(Stop::Failed("the restart of a static member moved partitions".into()));
        }
        self.close(&[&topic])
    }

    fn pattern(&mut self) -> Result<(), Stop> {
        let (one, two) = (format!("{}-one", self.name), format!("{}-two", self.name));
        let pattern = format!("^{}-.*", self.name);
        self.producer(&[&one])?;
        let first = self.join(&pattern, "a", None)?;
        self.wait_owned("a topic matches", &[&one], &[first])?;
        self.producer(&[&two])?;
        self.wait_owned("another topic matches", &[&one, &two], &[first])?;
        let second = self.join(&pattern, "b", None)?;
        self.wait_owned("two members", &[&one, &two], &[first, second])?;
        self.close(&[&one, &two])
    }

    /// A producer for topics that it creates.
    fn producer(&mut self, topics: &[&str]) -> Result<(), Stop> {
        let name = format!("{}-p{}", self.name, self.players.len());
        let partitions = PARTITIONS.to_string();
        let mut arguments = vec![RATE];
        for topic in topics {
            arguments.extend([*topic, &partitions]);
        }
        let player =
            Player::start(go_program("steady"), self.bootstrap, &name, &name, &arguments, self.logs)?;
        self.players.push(player);
        let at = self.players.len() - 1;
        self.wait("the producer begins", |group| {
            Ok(group.players[at].events()?.iter().any(|event| matches!(event.deed, Deed::Acked { .. })))
        })
    }

    /// A new member; where it is in the list of players.
    fn join(&mut self, topic: &str, name: &str, instance: Option<&str>) -> Result<usize, Stop> {
        let label = format!("{}-{name}{}", self.name, self.players.len());
        let identity = if instance.is_some() { format!("{}-{name}", self.name) } else { label.clone() };
        let protocol = self.protocol.to_string();
        let mut arguments = vec![self.name.as_str(), &protocol, topic];
        arguments.extend(instance);
        let mut command = self.client.member();
        command.env("SESSION_MS", if instance.is_some() { SESSION_STATIC_MS } else { SESSION_MS });
        let player = Player::start(command, self.bootstrap, &identity, &label, &arguments, self.logs)?;
        self.players.push(player);
        Ok(self.players.len() - 1)
    }

    fn leave(&mut self, member: usize) -> Result<(), Stop> {
        self.players[member].finish(PATIENCE)?.map_err(Stop::Failed)
    }

    /// What a member owns according to its callbacks.
    fn owned(&mut self, member: usize) -> Result<BTreeSet<Partition>, Trouble> {
        let mut owned = BTreeSet::new();
        for event in self.players[member].events()? {
            match &event.deed {
                Deed::Assigned { partitions, .. } => owned.extend(partitions.iter().cloned()),
                Deed::Revoked { partitions, .. } | Deed::Lost { partitions, .. } => {
                    partitions.iter().for_each(|partition| {
                        owned.remove(partition);
                    });
                }
                _ => {}
            }
        }
        Ok(owned)
    }

    /// How often something was taken from a member.
    fn changes(&mut self, member: usize) -> Result<usize, Trouble> {
        let is_change = |deed: &Deed| match deed {
            Deed::Revoked { partitions, .. } | Deed::Lost { partitions, .. } => !partitions.is_empty(),
            _ => false,
        };
        Ok(self.players[member].events()?.iter().filter(|event| is_change(&event.deed)).count())
    }

    /// Waits until these members, each with a part, own all partitions of the topics.
    fn wait_owned(&mut self, what: &str, topics: &[&str], members: &[usize]) -> Result<(), Stop> {
        let mut all = BTreeSet::new();
        for topic in topics {
            all.extend((0..PARTITIONS as i64).map(|number| Partition { topic: (*topic).into(), number }));
        }
        self.wait(what, |group| {
            let mut owned = BTreeSet::new();
            let mut count = 0;
            for member in members {
                let part = group.owned(*member)?;
                if part.is_empty() {
                    return Ok(false);
                }
                count += part.len();
                owned.extend(part);
            }
            Ok(count == all.len() && owned == all)
        })
    }

    fn wait(
        &mut self,
        what: &str,
        is_so: impl Fn(&mut Group<'a>) -> Result<bool, Trouble>,
    ) -> Result<(), Stop> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self)? {
            for player in &mut self.players {
                if player.has_ended()? {
                    return Err(Stop::Failed(format!("{what}: {} gave up", player.name())));
                }
            }
            if Instant::now() > deadline {
                return Err(Stop::Failed(format!("{what}: not within {} s", PATIENCE.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Producers stop; when members have seen everything, they leave; then the topics are read as a whole.
    fn close(&mut self, topics: &[&str]) -> Result<(), Stop> {
        for player in &mut self.players {
            if player.events()?.iter().any(|event| matches!(event.deed, Deed::Sending { .. })) {
                player.finish(PATIENCE)?.map_err(Stop::Failed)?;
            }
        }
        self.wait("everything is consumed", |group| Ok(lag(&players::history(&mut group.players)?) == 0))?;
        for at in 0..self.players.len() {
            self.leave(at)?;
        }
        let name = format!("{}-reader", self.name);
        let arguments = [&["final"], topics].concat();
        let mut reader =
            Player::start(go_program("reader"), self.bootstrap, &name, &name, &arguments, self.logs)?;
        reader.finish(PATIENCE)?.map_err(Stop::Failed)?;
        self.players.push(reader);
        Ok(())
    }

    /// The checker's verdict.
    fn judge(&mut self) -> Result<Result<String, String>, Trouble> {
        let history = players::history(&mut self.players)?;
        let report = check(&history);
        Ok(if !report.is_good() {
            Err(report.to_string())
        } else if lag(&history) > 0 {
            Err(format!("{} acknowledged records were not consumed", lag(&history)))
        } else {
            Ok(report.to_string())
        })
    }
}

/// Acknowledged records that no accepted commit covers.
fn lag(history: &History) -> i64 {
    let mut ends: BTreeMap<&Partition, (i64, i64)> = BTreeMap::new();
    for event in history.events() {
        match &event.deed {
            Deed::Acked { partition, offset, .. } => {
                let entry = ends.entry(partition).or_default();
                entry.0 = entry.0.max(offset + 1);
            }
            Deed::Committed { offsets, .. } => {
                for (partition, offset) in offsets {
                    let entry = ends.entry(partition).or_default();
                    entry.1 = entry.1.max(*offset);
                }
            }
            _ => {}
        }
    }
    ends.values().map(|(end, committed)| (end - committed).max(0)).sum()
}
