//! Copies of logs of other directories that a directory held when the node started: moves that were not finished.
//!
//! The one tricky idea: a copy is written down in the checkpoints under the name of its partition, as the log that it is going to be. There is
//! no other of that name in the directory, so what they say of it is true when it takes that name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ottla_storage::{LogDir, OpenHints, PartitionDir, PartitionDirKind, PartitionName, StorageError};

use super::Root;
use crate::sessions::lock;

/// A copy that was found.
#[derive(Debug, Clone)]
pub(crate) struct FutureFound {
    /// Its directory.
    pub path: PathBuf,
    pub(super) hints: OpenHints,
}

impl FutureFound {
    /// What the checkpoints said of it.
    pub fn hints(&self) -> OpenHints {
        self.hints
    }
}

/// Tells copies from logs, among what the checkpoints speak of.
pub(super) fn take(
    dir: &LogDir,
    found: &[PartitionDir],
    hints: &mut BTreeMap<PartitionName, OpenHints>,
    clean_shutdown: bool,
) -> BTreeMap<PartitionName, FutureFound> {
    let futures = found.iter().filter(|found| found.kind == PartitionDirKind::Future);
    let current = |name: &PartitionName| {
        found.iter().any(|it| it.kind == PartitionDirKind::Current && it.partition == *name)
    };
    let taken = futures.map(|found| {
        let name = &found.partition;
        let known = if current(name) { None } else { hints.remove(name) };
        let hints = OpenHints { clean_shutdown, on_disk: true, ..known.unwrap_or_default() };
        (name.clone(), FutureFound { path: dir.path().join(&found.name), hints })
    });
    taken.collect()
}

impl Root {
    /// The copies that were found and not opened yet.
    pub fn futures(&self) -> Vec<(PartitionName, FutureFound)> {
        lock(&self.futures).iter().map(|(name, found)| (name.clone(), found.clone())).collect()
    }

    /// The copy of that name that was found and not opened yet.
    pub fn future(&self, name: &PartitionName) -> Option<FutureFound> {
        lock(&self.futures).get(name).cloned()
    }

    /// The copy is open, or will not be.
    pub fn forget_future(&self, name: &PartitionName) {
        lock(&self.futures).remove(name);
    }

    /// The copy is the log from now on. Durable after [`Root::sync`].
    pub fn promote_future(&self, name: &PartitionName) -> io::Result<()> {
        let Some(found) = self.future(name) else { return Ok(()) };
        self.disk().rename(&found.path, &self.partition_dir(&name.topic, name.partition))?;
        lock(&self.hints).insert(name.clone(), found.hints);
        self.forget_future(name);
        Ok(())
    }

    /// Sets a copy's directory aside, to be removed. Its place in the checkpoints is forgotten.
    pub fn set_future_aside(
        &self,
        name: &PartitionName,
        path: &Path,
        unique: u128,
    ) -> Result<Option<PathBuf>, StorageError> {
        self.forget_future(name);
        lock(&self.forgotten).insert(name.clone());
        let to = self.named_dir(&name.topic, name.partition, PartitionDirKind::Delete, unique);
        self.rename_aside(path, &to)
    }
}
