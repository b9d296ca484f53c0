//! `cargo xtask`: the chores of the house, one subcommand each. The one that matters first is `cargo xtask test`.

mod broker;
mod clients;
mod crash;
mod fixtures;
mod steps;
mod test;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the house")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything: the fast tests, then real clients and crashes against the release build
    Test(test::Options),
    /// Suites of real clients, against Ottla or against Apache Kafka
    Clients(clients::Options),
    /// kill -9 under load, again and again; then check what was acknowledged
    Crash(crash::Options),
    /// Files written by Apache Kafka, for tests of ours that read them
    Fixtures(fixtures::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Test(options) => test::run(options),
        Chore::Clients(options) => clients::run(options),
        Chore::Crash(options) => crash::run(options),
        Chore::Fixtures(options) => fixtures::run(options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
