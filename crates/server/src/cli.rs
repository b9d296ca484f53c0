//! The command line.
//!
//! The tricky idea: `ottla` alone is `ottla serve` without a file, so the flags of `serve` exist on both levels.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Flags, Request};
use crate::dev::{self, DevArgs};
use crate::start::{self, Company};
use crate::storage;

/// An event-streaming server that speaks Apache Kafka's protocol.
///
/// Without a command, `ottla` serves on 127.0.0.1:9092 and keeps its data in ./ottla-data.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: FlagArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node
    Serve(ServeArgs),
    /// Start a cluster of several nodes on this machine, to develop against
    Dev(DevArgs),
    /// Print the configuration that `serve` would use, and where each value comes from
    Config(ServeArgs),
    /// Look at log directories and format them, as kafka-storage.sh does
    #[command(subcommand)]
    Storage(storage::Verb),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Configuration file in the notation of Kafka's server.properties
    #[arg(value_name = "SERVER.PROPERTIES")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: FlagArgs,
    /// One of the nodes of `ottla dev`: the end of the process that started it, or an interrupt, ends the whole cluster
    #[arg(long = "one-of-many", hide = true)]
    is_one_of_many: bool,
}

/// A flag wins over the environment (KAFKA_*), which wins over the file.
#[derive(Debug, Default, Args)]
struct FlagArgs {
    /// Where the data is kept (log.dirs); an empty or missing directory is formatted
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address to listen on; port 0 takes any that is free
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address under which clients reach this node
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Sets any configuration key; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

impl From<FlagArgs> for Flags {
    fn from(args: FlagArgs) -> Flags {
        Flags { data_dir: args.data_dir, listen: args.listen, advertise: args.advertise, set: args.set }
    }
}

/// Runs the process.
pub fn main() -> ExitCode {
    let CommandLine { command, flags } = CommandLine::parse();
    let request = |file, flags: FlagArgs| Request { file, variables: variables(), flags: flags.into() };
    match command {
        None => start::serve(request(None, flags), Company::Others),
        Some(Command::Serve(args)) => {
            let company = if args.is_one_of_many { Company::Nobody } else { Company::Others };
            if args.is_one_of_many {
                start::end_with_parent();
            }
            start::serve(request(args.file, args.flags), company)
        }
        Some(Command::Dev(args)) => dev::run(args),
        Some(Command::Config(args)) => start::print_config(request(args.file, args.flags)),
        Some(Command::Storage(verb)) => storage::run(verb),
    }
}

/// The environment, as far as it is text.
fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// `key=value`.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it as key=value, for example --set num.partitions=3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    fn parse(words: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(words.split(' '))
    }

    #[test]
    fn forms() {
        let bare = parse("ottla --listen 0.0.0.0:1 --set a=b=c --set d=").expect("fine");
        assert!(bare.command.is_none());
        assert_eq!(bare.flags.set, [("a".into(), "b=c".into()), ("d".into(), String::new())]);
        let Some(Command::Serve(args)) =
            parse("ottla serve x.properties --data-dir y").expect("fine").command
        else {
            panic!("serve")
        };
        assert_eq!(args.file, Some("x.properties".into()));
        assert_eq!(args.flags.data_dir.as_deref(), Some("y"));
        for wrong in ["ottla --set a", "ottla --set =b", "ottla sever", "ottla --listen", "ottla serve a b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
