//! `cargo xtask compat`: Kafka's own command-line tools, one long script of them, against Ottla, compared with what they print against
//! Apache Kafka.
//!
//! The script is data (`tests/clients/tools/compat.script`). What Apache Kafka answers is kept beside it (`compat.expected`, written by
//! `--record`), because facts do not change from run to run. Every difference has a reason in `compat.differences`, or the run fails.
//! The matrix for readers is `docs/compatibility-tools.md`.

mod deeds;
mod described;
pub mod driver;
mod hang;
mod matrix;
mod normal;
pub mod script;

use crate::broker::{Broker, Kind};
use crate::clients::setup;
use crate::steps::{self, Doing, Trouble, fresh_dir};
use crate::workspace;
use clap::Args;
use deeds::Deeds;
use described::Excuse;
use driver::Driver;
use matrix::{Row, Verdict};
use normal::Places;
use script::{Call, Line};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// The broker under test
    #[arg(long, value_enum, default_value = "ottla")]
    pub against: Kind,
    /// Another build of the broker than target/release/ottla
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Keep what this broker (which must be Apache Kafka) prints as what is expected
    #[arg(long)]
    pub record: bool,
    /// Write the matrix into docs/compatibility-tools.md
    #[arg(long)]
    pub write: bool,
    /// Differences without a reason get a line, to be completed by hand, in compat.differences
    #[arg(long)]
    pub note: bool,
}

/// How long a change may take to be seen by a tool that is asked again and again.
const PATIENCE: Duration = Duration::from_secs(15);
/// A broker of the script has its internal topics in one partition each, so that files are where the script looks. And it takes batches
/// of transactions that their coordinators do not know of, so that a transaction can hang.
const SETTINGS: &[(&str, &str)] = &[
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
    ("group.coordinator.rebalance.protocols", "classic,consumer"),
    ("transaction.partition.verification.enable", "false"),
];

/// The subcommand.
pub fn run(options: Options) -> Result<bool, Trouble> {
    setup::all()?;
    if options.record && options.against != Kind::Kafka {
        return Err(Trouble::new("only what Apache Kafka prints can be expected: --record --against kafka"));
    }
    let (passed, failed) = run_script(&options)?;
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Runs the script; how many commands were as they should be, and how many not.
pub fn run_script(options: &Options) -> Result<(u32, u32), Trouble> {
    let begun = Instant::now();
    let text = fs::read_to_string(path("script")).doing("reading the script")?;
    let lines = script::parse(&text).map_err(Trouble::new)?;
    let mut expected = if options.record { Expected::default() } else { Expected::read()? };
    let reasons = read_reasons()?;
    let logs = fresh_dir(&workspace::logs("compat"))?;
    let home = fresh_dir(&workspace::scratch("compat"))?;
    let mut broker = Broker::new(options.against, options.binary.clone(), &home, &logs)?;
    broker.set(SETTINGS);
    broker.start_by_file();
    broker.start()?;
    let mut driver = Driver::start(&fresh_dir(&home.join("files"))?, &logs.join("driver.log"))?;
    let mut deeds = Deeds::new(&broker.bootstrap(), &logs);
    let (mut rows, mut section, mut record) = (Vec::new(), String::new(), String::new());
    let mut excuses = Vec::new();
    for line in &lines {
        match line {
            Line::Section(name) => section.clone_from(name),
            Line::Deed(words) => {
                if let Err(reason) = deeds.perform(words, &mut broker)? {
                    println!("  {}: {reason}", words.join(" "));
                }
            }
            Line::Tool(call) => {
                let mut wanted = expected.take(call);
                let mut found = ask(&mut driver, call, &broker, wanted.as_deref())?;
                record.push_str(&format!("$ {call}\n{found}"));
                if let Some(text) = wanted.as_deref().filter(|_| call.tool == described::TOOL) {
                    let compared = described::compared(call, text, &found, &reasons);
                    wanted = Some(compared.0);
                    found = compared.1;
                    excuses.extend(compared.2);
                }
                let reason = reasons.get(&call.text).cloned();
                rows.push(Row::new(&section, call, wanted, found, reason));
                if !broker.is_alive() {
                    steps::show_end(&broker.log(), 20);
                    return Err(Trouble::new(format!("{} died at `{call}`", broker.name())));
                }
            }
        }
    }
    drop(deeds);
    broker.stop()?;
    steps::say(&format!("{} commands against {}", rows.len(), broker.name()), begun.elapsed());
    fs::write(logs.join("outputs"), &record)?;
    if options.record {
        fs::write(path("expected"), &record).doing("writing what is expected")?;
        return Ok((rows.len() as u32, 0));
    }
    if options.write {
        fs::write(workspace::root().join("docs/compatibility-tools.md"), matrix::page(&rows, &excuses))
            .doing("writing the matrix")?;
    }
    if options.note {
        note(&rows, &excuses)?;
    }
    let (passed, failed) = judge(&rows, &logs, options.against);
    let idle = excuses.iter().filter(|excuse| !excuse.is_needed && options.against == Kind::Ottla);
    let idle =
        idle.inspect(|excuse| println!("  FAIL `{}` is as in Kafka: its reason goes", excuse.key)).count();
    Ok((passed, failed + idle as u32))
}

/// Runs a command; again while its pattern is missing, or while it is not yet as expected where that may take a moment.
fn ask(driver: &mut Driver, call: &Call, broker: &Broker, wanted: Option<&str>) -> Result<String, Trouble> {
    let deadline = Instant::now() + PATIENCE;
    let places =
        Places { bootstrap: broker.bootstrap(), controller: broker.controller(), data: broker.data() };
    loop {
        let output = driver.run(call, &places.bootstrap, &places.data)?;
        let found = normal::normal(&output, call, &places);
        let is_done = match (&call.until, wanted) {
            (None, _) => true,
            (Some(_), Some(wanted)) => found == wanted,
            (Some(pattern), None) => found.contains(pattern.as_str()),
        };
        if is_done || Instant::now() > deadline {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn judge(rows: &[Row], logs: &Path, against: Kind) -> (u32, u32) {
    let (mut passed, mut failed) = (0, 0);
    let mut identical = 0;
    for row in rows {
        let complaint = match (&row.verdict, &row.reason) {
            (Verdict::Identical, None) => None,
            (Verdict::Identical, Some(_)) if against == Kind::Kafka => None,
            // A command that occurs twice has one reason.
            (Verdict::Identical, Some(_)) if rows.iter().any(|other| other.differs_like(row)) => None,
            (Verdict::Identical, Some(_)) => {
                Some("is identical now: its reason goes from compat.differences")
            }
            (Verdict::Unknown, _) => Some("nothing is recorded for it"),
            (_, None) => Some("differs without a reason in compat.differences"),
            (_, Some(_)) => None,
        };
        identical += u32::from(row.verdict == Verdict::Identical);
        match complaint {
            None => passed += 1,
            Some(complaint) => {
                println!("  FAIL `{}` {complaint}", row.text);
                println!("{}", row.difference());
                failed += 1;
            }
        }
    }
    println!(
        "{identical} of {} commands print the same; outputs: {}",
        rows.len(),
        logs.join("outputs").display()
    );
    (passed, failed)
}

/// What Apache Kafka prints, by command; a command that occurs twice has two outputs in order.
#[derive(Default)]
struct Expected(BTreeMap<String, Vec<String>>);

impl Expected {
    fn read() -> Result<Expected, Trouble> {
        let text = fs::read_to_string(path("expected")).doing("reading what is expected")?;
        let mut outputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for part in format!("\n{text}").split("\n$ ").skip(1) {
            let (command, output) = part.split_once('\n').unwrap_or((part, ""));
            outputs.entry(command.into()).or_default().insert(0, format!("{}\n", output.trim_end()));
        }
        Ok(Expected(outputs))
    }

    /// The next output of a command.
    fn take(&mut self, call: &Call) -> Option<String> {
        self.0.get_mut(&call.text)?.pop()
    }
}

/// `command TAB reason` by line.
fn read_reasons() -> Result<BTreeMap<String, String>, Trouble> {
    let text = fs::read_to_string(path("differences")).doing("reading the reasons")?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(command, reason)| (command.into(), reason.into()))
        .collect())
}

/// Writes down which differences there are: known reasons stay, new ones are to be written, gone ones go.
fn note(rows: &[Row], excuses: &[Excuse]) -> Result<(), Trouble> {
    let old = fs::read_to_string(path("differences"))?;
    let mut text: String =
        old.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let mut seen = std::collections::BTreeSet::new();
    for row in rows.iter().filter(|row| row.needs_reason() && seen.insert(&row.text)) {
        let reason = row.reason.clone().unwrap_or_else(|| format!("unexplained: {}", row.verdict.word()));
        text.push_str(&format!("{}\t{reason}\n", row.text));
    }
    for excuse in excuses.iter().filter(|excuse| excuse.is_needed) {
        text.push_str(&format!("{}\t{}\n", excuse.key, excuse.reason));
    }
    fs::write(path("differences"), text).doing("writing the reasons")
}

fn path(extension: &str) -> PathBuf {
    workspace::suites().join(format!("tools/compat.{extension}"))
}
