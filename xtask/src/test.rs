//! `cargo xtask test`: the whole proof, in the order in which it fails soonest, with one summary line at the end.

use crate::beside_kafka;
use crate::broker::Kind;
use crate::clients::{self, setup};
use crate::compat;
use crate::crash;
use crate::eos;
use crate::exchange;
use crate::fixtures;
use crate::full_disk;
use crate::growth;
use crate::hostile;
use crate::kafka_log;
use crate::members;
use crate::nemesis;
use crate::players::Protocol;
use crate::quotas;
use crate::steps::{self, Trouble, fresh_dir};
use crate::telemetry;
use crate::voters;
use crate::workspace;
use clap::Args;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Options {
    /// Only what needs nothing but Rust: no clients, no crashes
    #[arg(long)]
    fast: bool,
    /// How many times the crash smoke kills the broker
    #[arg(long, default_value_t = 6)]
    crashes: u32,
}

/// The protocols that groups of real clients are tested with.
const MEMBERS_PROTOCOLS: &[Protocol] = &[Protocol::Classic, Protocol::Consumer];

/// The subcommand. Later parts run even if earlier ones failed, unless they can not.
pub fn run(options: Options) -> Result<bool, Trouble> {
    let begun = Instant::now();
    let logs = fresh_dir(&workspace::logs("test"))?;
    let (mut passed, mut failed) = (0, 0);
    let mut add = |(more_passed, more_failed): (u32, u32)| {
        passed += more_passed;
        failed += more_failed;
    };
    if options.fast {
        add(cargo_test(&logs)?);
    } else {
        // The network waits while cargo builds.
        let release = std::thread::spawn({
            let logs = logs.clone();
            move || build_release(&logs)
        });
        setup::all()?;
        let fixture = fixtures::kafka_log(false)?;
        let built = release.join().unwrap_or_else(|_| Err(Trouble::new("building panicked")))?;
        add(cargo_test(&logs)?);
        add(part("files written by Apache Kafka", || kafka_log::check(&fixture)));
        if built {
            add(part("real clients", with_clients));
            add(part("groups of real clients", with_members));
            add(part("Kafka's tools print what they print against Apache Kafka", with_tools));
            add(part("from Apache Kafka to Ottla and back", exchange::check));
            add(part("beside Apache Kafka in one cluster", || {
                beside_kafka::check(&beside_kafka::Options::smoke())
            }));
            add(part("controllers come and go, by Kafka's tools", with_voters));
            add(part("kill -9 under load", || with_crashes(options.crashes)));
            add(part("exactly once while killed", with_transactions));
            add(part("a cluster under faults", with_nemesis));
            add(part("a cluster grows", with_growth));
            add(part("a full disk", with_full_disk));
            add(part("quotas", with_quotas));
            add(part("metrics of clients", with_telemetry));
            add(part("hostile frames", with_hostility));
            add(part("guard of the hot path", || with_guard(&logs)));
        } else {
            add((0, 1));
        }
    }
    steps::say("everything", begun.elapsed());
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn part(name: &str, check: impl FnOnce() -> Result<(u32, u32), Trouble>) -> (u32, u32) {
    println!("\n{name}");
    check().unwrap_or_else(|trouble| {
        println!("FAIL {name}: {trouble}");
        (0, 1)
    })
}

fn with_clients() -> Result<(u32, u32), Trouble> {
    let tally = clients::run_suites(&clients::Options {
        against: Kind::Ottla,
        only: Vec::new(),
        case: String::new(),
        binary: None,
        one_round: false,
        setup: false,
    })?;
    Ok((tally.passed, tally.failed))
}

fn with_members() -> Result<(u32, u32), Trouble> {
    members::run_scenarios(&members::Options {
        against: Kind::Ottla,
        binary: None,
        client: Vec::new(),
        protocol: MEMBERS_PROTOCOLS.to_vec(),
        scenario: None,
    })
}

/// What the tools print against Apache Kafka was recorded, so that only Ottla has to be run here.
fn with_tools() -> Result<(u32, u32), Trouble> {
    compat::run_script(&compat::Options {
        against: Kind::Ottla,
        binary: None,
        record: false,
        write: false,
        note: false,
    })
}

fn with_crashes(rounds: u32) -> Result<(u32, u32), Trouble> {
    let options = crash::Options { rounds, against: Kind::Ottla, binary: None, rate: 20_000, seed: None };
    Ok(match crash::kill_and_check(&options)? {
        Ok(()) => (1, 0),
        Err(reason) => {
            println!("FAIL crash: {reason}");
            (0, 1)
        }
    })
}

fn with_full_disk() -> Result<(u32, u32), Trouble> {
    Ok(counted("full disk", full_disk::fill_and_check(&full_disk::Options::smoke())?))
}

fn with_transactions() -> Result<(u32, u32), Trouble> {
    Ok(counted("eos", eos::kill_and_check(&eos::Options::smoke())?))
}

fn with_nemesis() -> Result<(u32, u32), Trouble> {
    Ok(counted("nemesis", nemesis::plague_and_check(&nemesis::Options::smoke())?))
}

fn with_growth() -> Result<(u32, u32), Trouble> {
    Ok(counted("growth", growth::grow_and_check(&growth::Options::smoke())?))
}

fn with_quotas() -> Result<(u32, u32), Trouble> {
    Ok(counted("quotas", quotas::check(&quotas::Options::smoke())?))
}

fn with_voters() -> Result<(u32, u32), Trouble> {
    Ok(counted("voters", voters::check(&voters::Options::default())?))
}

fn with_telemetry() -> Result<(u32, u32), Trouble> {
    Ok(counted("telemetry", telemetry::check(&telemetry::Options { binary: None })?))
}

/// Prints how a check ended.
fn counted(name: &str, outcome: Result<String, String>) -> (u32, u32) {
    match outcome {
        Ok(summary) => {
            println!("  ok   {summary}");
            (1, 0)
        }
        Err(reason) => {
            println!("FAIL {name}: {reason}");
            (0, 1)
        }
    }
}

fn with_hostility() -> Result<(u32, u32), Trouble> {
    hostile::run(hostile::Options::smoke()).map(|fine| if fine { (1, 0) } else { (0, 1) })
}

/// The hot path against its stored cost; in release, like the broker.
fn with_guard(logs: &Path) -> Result<(u32, u32), Trouble> {
    let log = logs.join("guard.log");
    let begun = Instant::now();
    let mut command = Command::new(cargo());
    command.args(["bench", "--package", "ottla-broker", "--bench", "guard"]).current_dir(workspace::root());
    let ended = steps::run_logged(&mut command, &log, Duration::from_secs(1500))?;
    steps::say("cargo bench --bench guard", begun.elapsed());
    if ended.success() {
        return Ok((1, 0));
    }
    steps::show_end(&log, 20);
    println!("FAIL guard: {ended}");
    Ok((0, 1))
}

fn build_release(logs: &Path) -> Result<bool, Trouble> {
    let log = logs.join("build.log");
    let begun = Instant::now();
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--package", "ottla-server"]).current_dir(workspace::root());
    let ended = steps::run_logged(&mut command, &log, Duration::from_secs(1500))?;
    steps::say("release build", begun.elapsed());
    if !ended.success() {
        steps::show_end(&log, 60);
        println!("FAIL release build: {ended}");
    }
    Ok(ended.success())
}

/// `cargo test --workspace`: its own summary lines are added up, and failing tests are shown.
fn cargo_test(logs: &Path) -> Result<(u32, u32), Trouble> {
    println!("\nfast tests");
    let log = logs.join("cargo-test.log");
    let begun = Instant::now();
    let mut command = Command::new(cargo());
    command.args(["test", "--workspace", "--no-fail-fast"]).current_dir(workspace::root());
    let ended = steps::run_logged(&mut command, &log, Duration::from_secs(1500))?;
    let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let (passed, mut failed) = summed(&text);
    steps::say(&format!("cargo test --workspace: {passed} passed, {failed} failed"), begun.elapsed());
    if !ended.success() {
        failed = failed.max(1);
        for line in text.lines().filter(|line| line.starts_with("test ") && line.ends_with("FAILED")) {
            println!("  {line}");
        }
        steps::show_end(&log, 60);
    }
    Ok((passed, failed))
}

/// Adds up lines such as `test result: ok. 12 passed; 0 failed; …`.
fn summed(text: &str) -> (u32, u32) {
    let mut sums = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let number = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed;" => sums.0 += number,
                "failed;" => sums.1 += number,
                _ => {}
            }
        }
    }
    sums
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

#[cfg(test)]
mod tests {
    use super::summed;

    #[test]
    fn summary_lines_of_several_crates_are_added() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
                    finished in 0.00s\n\ntest result: FAILED. 10 passed; 3 failed; 1 ignored\n";
        assert_eq!(summed(text), (12, 3));
    }
}
