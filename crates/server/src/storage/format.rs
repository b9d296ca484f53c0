//! Formatting the log directories of a configuration.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use ottla_broker::{FirstCheckpoint, InitialController, bootstrap_records, format as format_dir};
use ottla_metadata::MetadataVersion;
use ottla_metadata::config::BrokerConfig;
use ottla_metadata::features::{KRAFT_VERSION, METADATA_VERSION};
use ottla_storage::{Disk, MetaProperties};

use super::features::{find, known_version, parse_level, parse_release};
use super::{FormatArgs, info, random_uuid, scram};
use crate::clock::Clock;
use crate::config::Configured;
use crate::data_dir;
use crate::real_disk::RealDisk;

const VOTERS: &str = "controller.quorum.voters";
const SERVERS: &str = "controller.quorum.bootstrap.servers";

/// Formats, and tells what was done.
pub fn run(args: &FormatArgs) -> Result<String, String> {
    let configured = args.config.load()?;
    let config = &configured.broker;
    if args.cluster_id.is_empty() {
        return Err("--cluster-id is empty; `ottla storage random-uuid` makes one".to_owned());
    }
    let checkpoint = first_checkpoint(args, &configured)?;
    let directories = info::directories(config);
    if !args.ignore_formatted {
        let formatted =
            |dir: &&std::path::PathBuf| matches!(MetaProperties::read(&RealDisk, dir), Ok(Some(_)));
        if let Some(dir) = directories.iter().find(formatted) {
            return Err(format!(
                "Log directory {} is already formatted. Use --ignore-formatted to ignore this directory and format the others.",
                dir.display()
            ));
        }
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let now = Clock::default().now();
    let mut text = String::new();
    for dir in &directories {
        data_dir::prepare(dir).map_err(|unfit| unfit.to_string())?;
        let is_metadata = dir == Path::new(&config.metadata_log_dir);
        let own = checkpoint.initial_controllers.iter().find(|it| is_metadata && it.id == config.node_id);
        let meta = MetaProperties {
            cluster_id: args.cluster_id.clone(),
            node_id: config.node_id,
            directory_id: Some(own.map_or_else(random_uuid, |own| own.directory_id)),
        };
        let first = (is_metadata && config.roles.controller).then_some(&checkpoint);
        let done = format_dir(&disk, dir, &meta, first, now).map_err(|error| error.to_string())?;
        if done {
            let kind = match (is_metadata, own, checkpoint.initial_controllers.is_empty()) {
                (false, ..) => "data directory",
                (true, Some(_), _) => "dynamic metadata voter directory",
                (true, None, false) => "dynamic metadata directory",
                (true, None, true) => "metadata directory",
            };
            let version = checkpoint.metadata_version.name();
            writeln!(text, "Formatting {kind} {} with {METADATA_VERSION} {version}.", dir.display())
                .expect("a string takes it");
        }
    }
    if text.is_empty() {
        text.push_str("All of the log directories are already formatted.\n");
    }
    Ok(text)
}

/// The levels, credentials and voters that the cluster begins with.
fn first_checkpoint(args: &FormatArgs, configured: &Configured) -> Result<FirstCheckpoint, String> {
    let config = &configured.broker;
    let is_dynamic = !configured.is_given(VOTERS);
    let initial_controllers = initial_controllers(args, config, is_dynamic)?;
    let chosen = args.feature.iter().map(|text| parse_level(text)).collect::<Result<Vec<_>, _>>()?;
    let metadata_version = metadata_version(args.release_version.as_deref(), &chosen)?;
    let kraft_version = kraft_version(&chosen, is_dynamic)?;
    for (name, level) in &chosen {
        check_level(name, *level, metadata_version)?;
    }
    let levels: Vec<(&str, i16)> = chosen.iter().map(|(name, level)| (name.as_str(), *level)).collect();
    let mut records = bootstrap_records(metadata_version, &levels);
    if !args.add_scram.is_empty() && !metadata_version.supports_scram() {
        return Err(format!("SCRAM credentials need a newer release than {}", metadata_version.name()));
    }
    for text in &args.add_scram {
        records.push(scram::parse(text)?);
    }
    let listener = config.network.controller_listener_names.first();
    let controller_listener = listener.cloned().unwrap_or_else(|| "CONTROLLER".to_owned());
    Ok(FirstCheckpoint { records, metadata_version, kraft_version, initial_controllers, controller_listener })
}

fn metadata_version(release: Option<&str>, chosen: &[(String, i16)]) -> Result<MetadataVersion, String> {
    match (chosen.iter().find(|(name, _)| name == METADATA_VERSION), release) {
        (Some(_), Some(_)) => Err(format!(
            "Use --release-version instead of --feature {METADATA_VERSION}=X to avoid ambiguity."
        )),
        (Some((_, level)), None) => known_version(*level),
        (None, Some(release)) => parse_release(release),
        (None, None) => Ok(MetadataVersion::LATEST),
    }
}

/// 1 where the voters are not configured, and so can change (`Formatter.effectiveKRaftFeatureLevel`).
fn kraft_version(chosen: &[(String, i16)], is_dynamic: bool) -> Result<i16, String> {
    match (chosen.iter().find(|(name, _)| name == KRAFT_VERSION).map(|(_, level)| *level), is_dynamic) {
        (Some(0), true) => {
            Err(format!("Cannot set {KRAFT_VERSION} to 0 if {VOTERS} is empty: leave the feature out"))
        }
        (Some(level @ 1..), false) => Err(format!(
            "Cannot set {KRAFT_VERSION} to {level} unless {VOTERS} is empty and one of the flags --standalone, \
             --initial-controllers, or --no-initial-controllers is used."
        )),
        (Some(level), _) => Ok(level),
        (None, is_dynamic) => Ok(i16::from(is_dynamic)),
    }
}

fn check_level(name: &str, level: i16, metadata_version: MetadataVersion) -> Result<(), String> {
    if name == METADATA_VERSION {
        return Ok(());
    }
    let feature = find(name)?;
    if !feature.supports(level) {
        let (min, max) = (feature.supported_min, feature.supported_max);
        return Err(format!("{name} could not be set to {level}: levels from {min} to {max} are served"));
    }
    match feature.needs(level) {
        Some(needs) if needs > metadata_version => Err(format!(
            "{name} could not be set to {level} because it depends on {METADATA_VERSION} level {}",
            needs.0
        )),
        _ => Ok(()),
    }
}

/// The first voters of a quorum that can change; none if they are configured, or to be learned from others.
fn initial_controllers(
    args: &FormatArgs,
    config: &BrokerConfig,
    is_dynamic: bool,
) -> Result<Vec<InitialController>, String> {
    let given = args.initial_controllers.as_deref();
    if !is_dynamic && (given.is_some() || args.standalone) {
        return Err(format!(
            "You cannot specify {VOTERS} and format the node with --initial-controllers or --standalone. If you want to use dynamic \
             quorum, please remove {VOTERS} and specify {SERVERS} instead."
        ));
    }
    if args.standalone && !config.roles.controller {
        return Err("You can only use --standalone on a controller.".to_owned());
    }
    if is_dynamic
        && config.roles.controller
        && !args.standalone
        && !args.no_initial_controllers
        && given.is_none()
    {
        return Err(format!(
            "Because {VOTERS} is not set on this controller, you must specify one of the following: --standalone, \
             --initial-controllers, or --no-initial-controllers."
        ));
    }
    if args.standalone {
        let listener = config.network.controller_listener_names.first();
        let endpoint = config
            .network
            .listeners
            .iter()
            .find(|endpoint| Some(&endpoint.name) == listener)
            .ok_or("No controller listeners found.")?;
        let host = if endpoint.host.is_empty() { "localhost".to_owned() } else { endpoint.host.clone() };
        let directory_id = random_uuid();
        return Ok(vec![InitialController { id: config.node_id, host, port: endpoint.port, directory_id }]);
    }
    given.map_or(Ok(Vec::new()), |given| given.split(',').map(|text| parse_controller(text.trim())).collect())
}

/// `id@host:port:directory-id`; a host of IPv6 stands in brackets.
fn parse_controller(text: &str) -> Result<InitialController, String> {
    let wrong = || format!("{text}: write a voter as id@host:port:directory-id");
    let (id, rest) = text.split_once('@').ok_or_else(wrong)?;
    let (rest, directory_id) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(InitialController {
        id: id.parse().ok().filter(|id| *id >= 0).ok_or_else(wrong)?,
        host: Some(host).filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_owned(),
        port: port.parse().map_err(|_| wrong())?,
        directory_id: directory_id.parse().map_err(|_| wrong())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_are_read() {
        let voter = parse_controller("3@example.com:8082:JEXY6aqzQY-32P5TStzaFg").expect("fine");
        assert_eq!((voter.id, &*voter.host, voter.port), (3, "example.com", 8082));
        assert_eq!(voter.directory_id.to_string(), "JEXY6aqzQY-32P5TStzaFg");
        assert_eq!(parse_controller("3@[::1]:8082:JEXY6aqzQY-32P5TStzaFg").expect("fine").host, "::1");
        for wrong in [
            "",
            "3",
            "3@h",
            "3@h:1",
            "x@h:1:JEXY6aqzQY-32P5TStzaFg",
            "3@h:x:JEXY6aqzQY-32P5TStzaFg",
            "3@h:1:no",
        ] {
            assert!(parse_controller(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn levels_fit_each_other() {
        let level = |text: &str| parse_level(text).expect("fine");
        assert_eq!(kraft_version(&[], false), Ok(0));
        assert_eq!(kraft_version(&[], true), Ok(1));
        assert!(kraft_version(&[level("kraft.version=1")], false).is_err());
        assert!(kraft_version(&[level("kraft.version=0")], true).is_err());
        assert!(metadata_version(Some("4.0"), &[level("metadata.version=20")]).is_err());
        assert_eq!(metadata_version(Some("4.0"), &[]), Ok(MetadataVersion(25)));
        assert!(check_level("eligible.leader.replicas.version", 1, MetadataVersion(20)).is_err());
        assert!(check_level("group.version", 7, MetadataVersion::LATEST).is_err());
        assert_eq!(check_level("group.version", 1, MetadataVersion(22)), Ok(()));
    }
}
