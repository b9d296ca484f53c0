//! Chores of the house, run as `cargo xtask VERB`: each verb is a module of its own, this file only lists them.

mod broker;
mod clients;
mod crash;
mod fixtures;
mod schema;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Chores of the house")]
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
    /// Message schemas: bring in those of another release of Kafka.
    #[command(subcommand)]
    Schema(schema::Verb),
}

fn main() -> ExitCode {
    // Ok(false): the chore was done, and what it looked at is not good; it has said why.
    let done = match Arguments::parse().chore {
        Chore::Test(options) => test::run(options).map_err(|trouble| trouble.to_string()),
        Chore::Clients(options) => clients::run(options).map_err(|trouble| trouble.to_string()),
        Chore::Crash(options) => crash::run(options).map_err(|trouble| trouble.to_string()),
        Chore::Fixtures(options) => fixtures::run(options).map_err(|trouble| trouble.to_string()),
        Chore::Schema(verb) => schema::run(&verb).map(|report| {
            println!("{report}");
            true
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}
