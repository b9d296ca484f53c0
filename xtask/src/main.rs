//! Chores of the house, run as `cargo xtask VERB`: each verb is a module of its own, this file only lists them.

mod schema;

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
    /// Message schemas: bring in those of another release of Kafka.
    #[command(subcommand)]
    Schema(schema::Verb),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Schema(verb) => schema::run(verb),
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
