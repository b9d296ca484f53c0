//! Opening the log directories: each is locked, identified, formatted if it is empty, and asked how it was left.
//!
//! The one tricky idea: a directory that does not work is left out, and the node goes on with the others (KIP-112). Not so if it is the one
//! of the metadata log, or if none is left; nor if it works and says that it belongs to somebody else, which is a mistake of the operator's.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ottla_controller::Dice;
use ottla_metadata::config::BrokerConfig;
use ottla_protocol::Uuid;
use ottla_storage::{Disk, LogDir, LogDirError, MetaProperties};

use super::OpenError;
use crate::store::Root;

/// The directories of a node that is about to start.
pub(super) struct Opened {
    pub roots: Vec<Arc<Root>>,
    pub metadata_root: Arc<Root>,
    /// Those that do not work, and why.
    pub unopened: Vec<(String, String)>,
    pub cluster_id: String,
    /// The epoch of the broker that left all of them in order; -1 if they do not agree, or there is none.
    pub previous_broker_epoch: i64,
}

/// Opens all directories that work. `cluster_id`: what they have to belong to, or will, if that is given.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    config: &BrokerConfig,
    cluster_id: Option<String>,
    dice: &mut Dice,
) -> Result<Opened, OpenError> {
    let paths = paths(config)?;
    let mut unopened = Vec::new();
    // A directory that does not work is left out; `None` stands for it.
    let mut survive = |path: &str, error: LogDirError| match error {
        LogDirError::Io(..) if path != config.metadata_log_dir => {
            unopened.push((path.to_owned(), error.to_string()));
            Ok(None)
        }
        error => Err(OpenError::Directory(error)),
    };
    let mut dirs = Vec::new();
    for path in paths {
        match LogDir::open(disk.clone(), Path::new(path)) {
            Ok(dir) => dirs.push((path, dir)),
            Err(error) => drop(survive(path, error)?),
        }
    }
    let cluster_id = agree(&dirs, config, cluster_id, dice)?;
    let (mut roots, mut epochs) = (Vec::new(), BTreeSet::new());
    for (path, dir) in dirs {
        let holds_partitions = config.roles.broker && config.log_dirs.iter().any(|it| it == path);
        let prepared = prepare(dir, &cluster_id, config.node_id, dice.uuid()).and_then(|(dir, id)| {
            let clean = dir.take_clean_shutdown()?;
            Ok((clean, Root::new(dir, id, clean.is_some(), holds_partitions)?))
        });
        let prepared = prepared.map(Some).or_else(|error| survive(path, error))?;
        if let Some((clean, root)) = prepared {
            epochs.insert(clean.map_or(-1, |clean| clean.broker_epoch));
            if roots.iter().any(|other: &Arc<Root>| other.id() == root.id()) {
                return Err(OpenError::Unserved(format!(
                    "{path}: another log directory has the same directory.id: one is a copy; take it away, or out of log.dirs"
                )));
            }
            roots.push(Arc::new(root));
        }
    }
    let is_metadata = |root: &&Arc<Root>| root.path() == Path::new(&config.metadata_log_dir);
    let metadata_root = roots.iter().find(is_metadata).cloned().expect("it was opened, or that was the end");
    if config.roles.broker && !roots.iter().any(|root| root.holds_partitions) {
        let why: Vec<_> = unopened.into_iter().map(|(_, why)| why).collect();
        return Err(OpenError::Damaged(format!("no log directory can be used: {}", why.join("; "))));
    }
    let previous_broker_epoch = if epochs.len() == 1 { epochs.pop_first().unwrap_or(-1) } else { -1 };
    Ok(Opened { roots, metadata_root, unopened, cluster_id, previous_broker_epoch })
}

/// All directories, that of the metadata log last if it is one of its own.
fn paths(config: &BrokerConfig) -> Result<Vec<&str>, OpenError> {
    let mut paths: Vec<&str> = Vec::new();
    for path in &config.log_dirs {
        if paths.contains(&path.as_str()) {
            return Err(OpenError::Unserved(format!("log.dirs names {path} twice; name it once")));
        }
        paths.push(path);
    }
    if !paths.contains(&config.metadata_log_dir.as_str()) {
        paths.push(&config.metadata_log_dir);
    }
    Ok(paths)
}

/// The cluster to which all directories belong.
fn agree(
    dirs: &[(&str, LogDir)],
    config: &BrokerConfig,
    cluster_id: Option<String>,
    dice: &mut Dice,
) -> Result<String, OpenError> {
    let said = dirs.iter().find_map(|(_, dir)| dir.meta_properties()).map(|meta| meta.cluster_id.clone());
    let agreed = cluster_id.or(said);
    for (_, dir) in dirs {
        dir.check_identity(agreed.as_deref(), Some(config.node_id))?;
    }
    match agreed {
        Some(agreed) => Ok(agreed),
        None if config.is_cluster_of_one() => Ok(dice.uuid().to_string()),
        None => Err(OpenError::Unserved(format!(
            "{}: the directory is empty, and this node has others: all of them need the same cluster id; set CLUSTER_ID",
            config.metadata_log_dir
        ))),
    }
}

/// Gives a directory its identity, if it has none.
fn prepare(
    mut dir: LogDir,
    cluster_id: &str,
    node_id: i32,
    fresh: Uuid,
) -> Result<(LogDir, Uuid), LogDirError> {
    if let Some(id) = dir.meta_properties().and_then(|meta| meta.directory_id) {
        return Ok((dir, id));
    }
    dir.format(MetaProperties { cluster_id: cluster_id.to_owned(), node_id, directory_id: Some(fresh) })?;
    Ok((dir, fresh))
}
