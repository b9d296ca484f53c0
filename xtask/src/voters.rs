//! `cargo xtask voters`: a quorum is changed with Apache Kafka's own tools (KIP-853), and what they print is what they print against Apache
//! Kafka, which `--against kafka` shows.
//!
//! One controller grows to three: the second is added with `kafka-metadata-quorum`, the third adds itself; one of them comes back with another
//! address; one is removed. Then a quorum whose voters are configured is made one that can change, with `kafka-features`.

mod site;

use crate::broker::Kind;
use crate::clients::setup;
use crate::compat::driver::{Driver, Output};
use crate::steps::{Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use site::Site;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is told as long as a change is under way, a leader is new, a replica lags, or a voter has not introduced itself to the leader.
const PASSING: [&str; 4] = [
    "TimeoutException",
    "NotLeaderOrFollowerException",
    "NotControllerException",
    "not all of the voters support it",
];
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
/// How long a change or an election may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose quorum.
#[derive(Args)]
pub struct Options {
    /// Whose nodes
    #[arg(long, value_enum, default_value = "ottla")]
    against: Kind,
    /// Another binary than the release build
    #[arg(long)]
    binary: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options { against: Kind::Ottla, binary: None }
    }
}

/// The chore.
pub fn run(options: &Options) -> Result<bool, Trouble> {
    setup::all()?;
    let outcome = check(options)?;
    match &outcome {
        Ok(summary) => println!("{summary}"),
        Err(reason) => println!("FAIL voters: {reason}"),
    }
    Ok(outcome.is_ok())
}

/// Both stories; the inner error says what went otherwise.
pub fn check(options: &Options) -> Result<Result<String, String>, Trouble> {
    let begun = Instant::now();
    let logs = fresh_dir(&workspace::logs("voters"))?;
    let home = fresh_dir(&workspace::scratch("voters"))?;
    let mut tools = Tools { driver: Driver::start(&home, &logs.join("driver.log"))?, calls: 0 };
    let grown = grow(&mut Site::new(options, &home.join("grown"), &logs.join("grown"))?, &mut tools)?;
    let raised = match &grown {
        Ok(()) => raise(&mut Site::new(options, &home.join("raised"), &logs.join("raised"))?, &mut tools)?,
        Err(_) => Ok(()),
    };
    let calls = tools.calls;
    Ok(grown.and(raised).map(|()| {
        let took = begun.elapsed().as_secs_f64();
        format!("a quorum grows, moves, shrinks and is raised to kraft.version 1: {calls} calls of tools, {took:.1} s")
    }))
}

/// From one controller to three, and on.
fn grow(site: &mut Site, tools: &mut Tools) -> Result<Result<(), String>, Trouble> {
    let servers = format!("controller.quorum.bootstrap.servers={}", site.addresses(&[1, 2, 3]));
    let auto_join = format!("{servers}\ncontroller.quorum.auto.join.enable=true");
    for (id, role, more) in
        [(1, "controller", &servers), (2, "controller", &servers), (3, "controller", &auto_join)]
    {
        site.configure(id, role, more)?;
    }
    site.configure(11, "broker", &servers)?;
    for (id, how) in
        [(1, "--standalone"), (2, "--no-initial-controllers"), (3, "--no-initial-controllers"), (11, "")]
    {
        site.format(id, how)?;
    }
    site.start(&[1, 11])?;
    let broker = ["--bootstrap-server".to_owned(), site.address(11)];
    let voter = |site: &Site, id: i32| site.voter(id);
    let first = format!("[{}]", voter(site, 1)?);
    let told = tools.until(QUORUM, &broker, &["describe", "--status"], &[&first, "ClusterId:"])?;
    let told = told.and_then(|status| field(&status, "CurrentVoters:").map(str::to_owned));
    if told.as_deref() != Ok(&first) {
        return Ok(Err(format!("the first controller alone: {told:?}, not {first}")));
    }
    let features = tools.until(FEATURES, &broker, &["describe"], &["kraft.version"])?;
    let level = features.map(|text| level_of(&text));
    if level != Ok(Some(1)) {
        return Ok(Err(format!("kraft.version of a quorum that was formatted with its voters: {level:?}")));
    }

    // The second is added by hand, first on trial.
    site.start(&[2])?;
    let file = site.file(2).display().to_string();
    let with_file = |more: &[&str]| -> Vec<String> {
        let of_file = ["--command-config", &file, "add-controller"];
        broker
            .iter()
            .map(String::as_str)
            .chain(of_file)
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect()
    };
    let added = format!(
        "controller 2 with directory id {} and endpoints: CONTROLLER://{}",
        site.disk(2)?,
        site.address(2)
    );
    let tried = tools.call(QUORUM, &with_file(&["--dry-run"]))?;
    if tried.out.trim_end() != format!("DRY RUN of adding {added}") {
        return Ok(Err(format!("a trial: {tried:?}")));
    }
    if let Err(reason) = tools.until_fine(QUORUM, &with_file(&[]), &format!("Added {added}"))? {
        return Ok(Err(reason));
    }
    let again = tools.until_answered(QUORUM, &with_file(&[]))?;
    let duplicate = format!(
        "org.apache.kafka.common.errors.DuplicateVoterException: The voter id for {} is already part of the set of voters [",
        site.key(2)?
    );
    if again.status != 1 || !again.err.starts_with(&duplicate) {
        return Ok(Err(format!("added twice: {again:?}, not {duplicate}")));
    }

    // The third adds itself.
    site.start(&[3])?;
    let all = (1..=3).map(|id| voter(site, id)).collect::<Result<Vec<_>, _>>()?;
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    if let Err(reason) = tools.until(QUORUM, &broker, &["describe", "--status"], &all)? {
        return Ok(Err(reason));
    }
    let replication = tools.until(QUORUM, &broker, &["describe", "--replication"], &["Leader"])?;
    let ranks = replication.map(|text| ranks(&text));
    let wanted = [(1, "Leader"), (2, "Follower"), (3, "Follower"), (11, "Observer")];
    let wanted: BTreeMap<i32, String> = wanted.map(|(id, rank)| (id, rank.to_owned())).into();
    if ranks.as_ref() != Ok(&wanted) {
        return Ok(Err(format!("describe --replication: {ranks:?}, not {wanted:?}")));
    }

    // The second comes back elsewhere, and tells.
    site.stop(2)?;
    site.move_elsewhere(2)?;
    site.configure(2, "controller", &servers)?;
    site.start(&[2])?;
    let moved = voter(site, 2)?;
    if let Err(reason) = tools.until(QUORUM, &broker, &["describe", "--status"], &[&moved])? {
        return Ok(Err(reason));
    }

    // The first is removed while it leads; controllers are asked themselves this time.
    let controllers = ["--bootstrap-controller".to_owned(), site.addresses(&[2, 3])];
    let first_disk = site.disk(1)?;
    let words = ["remove-controller", "--controller-id", "1", "--controller-directory-id", &first_disk];
    let remove: Vec<String> =
        controllers.iter().map(String::as_str).chain(words).map(str::to_owned).collect();
    let removed = format!("Removed  KRaft controller 1 with directory id {first_disk}");
    if let Err(reason) = tools.until_fine(QUORUM, &remove, &removed)? {
        return Ok(Err(reason));
    }
    let again = tools.until_answered(QUORUM, &remove)?;
    let gone = format!(
        "org.apache.kafka.common.errors.VoterNotFoundException: Cannot remove voter {} from the set of voters [",
        site.key(1)?
    );
    if again.status != 1 || !again.err.starts_with(&gone) {
        return Ok(Err(format!("removed twice: {again:?}, not {gone}")));
    }
    let status = tools.until(QUORUM, &controllers, &["describe", "--status"], &["CurrentVoters:"])?;
    let voters = status.and_then(|text| field(&text, "CurrentVoters:").map(str::to_owned));
    let rest = [voter(site, 2)?, voter(site, 3)?];
    let as_told =
        |text: &String| rest.iter().all(|voter| text.contains(voter)) && !text.contains("\"id\": 1,");
    if !voters.as_ref().is_ok_and(as_told) {
        return Ok(Err(format!("without the first: {voters:?}, not {rest:?}")));
    }
    site.stop_all()?;
    Ok(Ok(()))
}

/// From voters that are configured to voters that change.
fn raise(site: &mut Site, tools: &mut Tools) -> Result<Result<(), String>, Trouble> {
    let voters: Vec<String> = (1..=3).map(|id| format!("{id}@{}", site.address(id))).collect();
    let fixed = format!("controller.quorum.voters={}", voters.join(","));
    for (id, role) in [(1, "controller"), (2, "controller"), (3, "controller"), (11, "broker")] {
        site.configure(id, role, &fixed)?;
        site.format(id, "")?;
    }
    site.start(&[1, 2, 3, 11])?;
    let broker = ["--bootstrap-server".to_owned(), site.address(11)];
    let features = tools.until(FEATURES, &broker, &["describe"], &["kraft.version"])?;
    let level = features.map(|text| level_of(&text));
    if level != Ok(Some(0)) {
        return Ok(Err(format!("kraft.version of a quorum that was configured: {level:?}")));
    }
    let disk = site.disk(3)?;
    let remove = ["remove-controller", "--controller-id", "3", "--controller-directory-id", &disk];
    let remove: Vec<String> = broker.iter().map(String::as_str).chain(remove).map(str::to_owned).collect();
    let early = tools.until_answered(QUORUM, &remove)?;
    let unsupported = "org.apache.kafka.common.errors.UnsupportedVersionException: Cluster doesn't support removing voter because the \
                       kraft.version feature is 0";
    if early.status != 1 || !early.err.starts_with(unsupported) {
        return Ok(Err(format!("removed before the upgrade: {early:?}, not {unsupported}")));
    }
    let upgrade: Vec<String> = broker
        .iter()
        .map(String::as_str)
        .chain(["upgrade", "--feature", "kraft.version=1"])
        .map(str::to_owned)
        .collect();
    if let Err(reason) = tools.until_fine(FEATURES, &upgrade, "kraft.version was upgraded to 1.")? {
        return Ok(Err(reason));
    }
    let all = (1..=3).map(|id| site.voter(id)).collect::<Result<Vec<_>, _>>()?;
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    if let Err(reason) = tools.until(QUORUM, &broker, &["describe", "--status"], &all)? {
        return Ok(Err(reason));
    }
    // A broker tells it when it has read of it.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let features = tools.until(FEATURES, &broker, &["describe"], &["kraft.version"])?;
        match features.map(|text| level_of(&text)) {
            Ok(Some(1)) => break,
            Ok(Some(0)) if Instant::now() < deadline => {}
            other => return Ok(Err(format!("kraft.version after the upgrade: {other:?}"))),
        }
    }
    let removed = format!("Removed  KRaft controller 3 with directory id {disk}");
    if let Err(reason) = tools.until_fine(QUORUM, &remove, &removed)? {
        return Ok(Err(reason));
    }
    site.stop_all()?;
    Ok(Ok(()))
}

/// What stands behind a name in `describe --status`.
fn field<'t>(status: &'t str, name: &str) -> Result<&'t str, String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map(str::trim).ok_or_else(|| format!("no {name} in {status}"))
}

/// Who is what in `describe --replication`.
fn ranks(text: &str) -> BTreeMap<i32, String> {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter_map(|row| Some((row.first()?.parse().ok()?, (*row.last()?).to_owned()))).collect()
}

/// The finalised level of kraft.version in `kafka-features describe`.
fn level_of(text: &str) -> Option<i16> {
    let line = text.lines().find(|line| line.starts_with("Feature: kraft.version"))?;
    line.split("FinalizedVersionLevel: ").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// Kafka's tools.
struct Tools {
    driver: Driver,
    calls: u32,
}

impl Tools {
    fn call(&mut self, class: &str, arguments: &[String]) -> Result<Output, Trouble> {
        self.calls += 1;
        self.driver.call(class, "", arguments)
    }

    /// Asks until the answer contains all of that; the inner error is the last answer.
    fn until(
        &mut self,
        class: &str,
        at: &[String],
        words: &[&str],
        parts: &[&str],
    ) -> Result<Result<String, String>, Trouble> {
        let arguments: Vec<String> =
            at.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.call(class, &arguments)?;
            if output.status == 0 && parts.iter().all(|part| output.out.contains(part)) {
                return Ok(Ok(output.out));
            }
            if Instant::now() > deadline {
                return Ok(Err(format!("{arguments:?} never told {parts:?}: {output:?}")));
            }
        }
    }

    /// Asks until the answer is one that stays.
    fn until_answered(&mut self, class: &str, arguments: &[String]) -> Result<Output, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.call(class, arguments)?;
            let passes = PASSING.iter().any(|words| output.err.contains(words) || output.out.contains(words));
            if !passes || Instant::now() > deadline {
                return Ok(output);
            }
        }
    }

    /// The same; it has to succeed, and to say this.
    fn until_fine(
        &mut self,
        class: &str,
        arguments: &[String],
        says: &str,
    ) -> Result<Result<(), String>, Trouble> {
        let output = self.until_answered(class, arguments)?;
        let fine = output.status == 0 && output.out.trim_end() == says;
        Ok(if fine { Ok(()) } else { Err(format!("{arguments:?}: {output:?}, not {says:?}")) })
    }
}
