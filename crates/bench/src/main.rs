//! The program: reads its options, runs one load, prints one JSON object.

use clap::Parser;
use ottla_bench::options::{Arguments, Verb};
use ottla_bench::{end_to_end, fetch, produce, topic};
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Produce(options) => produce::run(&options),
        Verb::Fetch(options) => fetch::run(&options),
        Verb::EndToEnd(options) => end_to_end::run(&options),
        Verb::Create(options) => return quiet(topic::create(&options).map(drop)),
        Verb::Delete(options) => return quiet(topic::delete(&options.bootstrap, &options.topic)),
    };
    quiet(outcome.map(|report| println!("{report}")))
}

fn quiet(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
