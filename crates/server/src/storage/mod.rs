//! `ottla storage`: what an operator does with log directories before a node starts on them, with the words and flags of
//! `kafka-storage.sh` (`StorageTool`).

mod features;
mod format;
mod info;
mod scram;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ottla_protocol::Uuid;

use crate::config::{self, Configured, Request};

/// The commands of `ottla storage`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what the log directories of a configuration are
    Info(ConfigArgs),
    /// Give log directories the identity of a cluster and a node
    Format(FormatArgs),
    /// Print a random UUID, to name a cluster or a directory with
    RandomUuid,
    /// Print the feature levels that come with a release
    VersionMapping {
        /// The release: 4.4, or 4.4-IV2
        #[arg(long, short)]
        release_version: Option<String>,
    },
    /// Print what feature levels need
    FeatureDependencies {
        /// A feature and its level, as group.version=1; may be repeated
        #[arg(long, short, required = true, value_name = "NAME=LEVEL")]
        feature: Vec<String>,
    },
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file of the node
    #[arg(long, short, value_name = "SERVER.PROPERTIES")]
    config: PathBuf,
}

/// How to format.
#[derive(Debug, Args)]
pub struct FormatArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The id of the cluster: the same for all of its nodes
    #[arg(long, short = 't', value_name = "UUID")]
    cluster_id: String,
    /// A SCRAM credential to begin with, as SCRAM-SHA-256=[name=alice,password=alice-secret]; may be repeated
    #[arg(long, short = 'S', value_name = "CREDENTIAL")]
    add_scram: Vec<String>,
    /// Leave directories alone that are formatted already, rather than refusing
    #[arg(long, short = 'g')]
    ignore_formatted: bool,
    /// The release whose feature levels the cluster begins with: 4.4, or 4.4-IV2
    #[arg(long, short)]
    release_version: Option<String>,
    /// Another level for a feature, as kraft.version=1; may be repeated
    #[arg(long, short, value_name = "NAME=LEVEL")]
    feature: Vec<String>,
    /// This controller is the only voter, of a quorum that can change
    #[arg(long, short, group = "quorum")]
    standalone: bool,
    /// This node learns from the others who the voters are
    #[arg(long, short = 'N', group = "quorum")]
    no_initial_controllers: bool,
    /// The first voters of a quorum that can change, the same for all nodes: id@host:port:directory-id, separated by commas
    #[arg(long, short = 'I', group = "quorum", value_name = "VOTERS")]
    initial_controllers: Option<String>,
}

/// Does it. The exit status is not 0 if something is not as it should be.
pub fn run(verb: Verb) -> ExitCode {
    let done = match verb {
        Verb::RandomUuid => Ok((format!("{}\n", random_uuid()), ExitCode::SUCCESS)),
        Verb::VersionMapping { release_version } => fine(features::mapping(release_version.as_deref())),
        Verb::FeatureDependencies { feature } => fine(features::dependencies(&feature)),
        Verb::Info(args) => args.load().map(|configured| info::describe(&configured.broker)),
        Verb::Format(args) => fine(format::run(&args)),
    };
    match done {
        Ok((text, code)) => {
            crate::start::print(&text);
            code
        }
        Err(sentence) => {
            eprintln!("ottla: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn fine(text: Result<String, String>) -> Result<(String, ExitCode), String> {
    text.map(|text| (text, ExitCode::SUCCESS))
}

impl ConfigArgs {
    /// The file alone counts: a directory is formatted for the node that the file describes.
    fn load(&self) -> Result<Configured, String> {
        let request = Request { file: Some(self.config.clone()), ..Request::default() };
        config::load(&request).map_err(|errors| errors.join("\nottla: "))
    }
}

/// Like Kafka's, one that no command line takes for a flag.
pub fn random_uuid() -> Uuid {
    loop {
        if let Some(uuid) = Uuid::from_random(rand::random(), rand::random()) {
            return uuid;
        }
    }
}
