//! One log directory (an entry of `log.dirs`): its lock, its identity, its checkpoints, and the partitions that it holds.
//!
//! The one tricky idea: the lock comes first and lives as long as the `LogDir`, so nothing here is ever read while another process
//! writes it.

mod checkpoint;
mod json;
mod properties;
mod snapshots;
mod state_files;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use checkpoint::{Checkpoint, PartitionName};
pub(crate) use checkpoint::{encode_lines, read_lines};
pub use properties::{META_PROPERTIES, MetaProperties, MetaPropertiesError};
pub use snapshots::{
    SnapshotWriter, list_snapshots, open_snapshot, remove_partial_snapshots, remove_snapshot,
};
pub use state_files::{
    CLEAN_SHUTDOWN, CleanShutdown, QUORUM_STATE, QuorumState, read_partition_metadata,
    write_partition_metadata,
};

use crate::disk::{Disk, Lock, create_dir_durable};
use crate::meaning::Meaning;

/// The lock file's name.
pub const LOCK: &str = ".lock";
/// The longest file name that file systems take.
const FILE_NAME_BYTES_MAX: usize = 255;

/// What a partition's directory is for (the suffix of its name).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionDirKind {
    /// `topic-0`: in use.
    Current,
    /// `topic-0.UNIQUE-delete`: waits for its removal.
    Delete,
    /// `topic-0.UNIQUE-future`: a copy that is catching up, to replace the current one in another log directory.
    Future,
    /// `topic-0.UNIQUE-stray`: found at start although this node should not hold it.
    Stray,
}

impl PartitionDirKind {
    fn suffix(self) -> &'static str {
        match self {
            PartitionDirKind::Current => "",
            PartitionDirKind::Delete => "-delete",
            PartitionDirKind::Future => "-future",
            PartitionDirKind::Stray => "-stray",
        }
    }
}

/// A partition's directory, found or to be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDir {
    /// Whose records it holds.
    pub partition: PartitionName,
    /// What it is for.
    pub kind: PartitionDirKind,
    /// The directory's name within the log directory.
    pub name: String,
}

impl PartitionDir {
    /// Names a directory. `unique` sets copies of the same partition apart (Kafka: 32 hex digits) and is ignored for the current one.
    pub fn new(partition: PartitionName, kind: PartitionDirKind, unique: &str) -> PartitionDir {
        let name = match kind {
            PartitionDirKind::Current => partition.to_string(),
            _ => {
                let tail = format!("-{}.{unique}{}", partition.partition, kind.suffix());
                // Topic names are ASCII; what does not fit is cut, as Kafka does.
                let room = FILE_NAME_BYTES_MAX.saturating_sub(tail.len()).min(partition.topic.len());
                format!("{}{tail}", &partition.topic[..room])
            }
        };
        PartitionDir { partition, kind, name }
    }

    /// Reads a name; `None` if it is not a partition's directory.
    pub fn parse(name: &str) -> Option<PartitionDir> {
        for kind in [PartitionDirKind::Delete, PartitionDirKind::Future, PartitionDirKind::Stray] {
            if let Some(rest) = name.strip_suffix(kind.suffix()) {
                // A topic may itself be called `x-delete`: only with the unique part is this a suffix of ours.
                if let Some((partition, _unique)) = rest.rsplit_once('.')
                    && let Some(partition) = parse_partition(partition)
                {
                    return Some(PartitionDir { partition, kind, name: name.to_owned() });
                }
            }
        }
        let partition = parse_partition(name)?;
        Some(PartitionDir { partition, kind: PartitionDirKind::Current, name: name.to_owned() })
    }
}

fn parse_partition(name: &str) -> Option<PartitionName> {
    let (topic, number) = name.rsplit_once('-')?;
    if topic.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(PartitionName::new(topic, number.parse().ok()?))
}

/// Why a log directory cannot be used.
#[derive(Debug)]
pub enum LogDirError {
    /// Another process holds its lock.
    Locked(PathBuf),
    /// Its `meta.properties` is foreign or malformed.
    Identity(PathBuf, MetaPropertiesError),
    /// The disk failed; the directory is offline (KAFKA_STORAGE_ERROR to clients).
    Io(PathBuf, io::Error),
}

impl LogDirError {
    /// What it says about the disk; what is no error of the disk is damage.
    pub fn meaning(&self) -> Meaning {
        match self {
            LogDirError::Io(_, error) => Meaning::of(error),
            LogDirError::Locked(_) | LogDirError::Identity(..) => Meaning::Damage,
        }
    }
}

impl fmt::Display for LogDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogDirError::Locked(path) => {
                write!(
                    f,
                    "{}: another process uses this log directory; stop it or choose another directory with --data-dir",
                    path.display()
                )
            }
            LogDirError::Identity(path, error) => write!(f, "{}: {error}", path.display()),
            LogDirError::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LogDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogDirError::Io(_, error) => Some(error),
            LogDirError::Identity(_, error) => Some(error),
            LogDirError::Locked(_) => None,
        }
    }
}

/// A locked log directory.
#[derive(Debug)]
pub struct LogDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    meta: Option<MetaProperties>,
    _lock: Box<dyn Lock>,
}

impl LogDir {
    /// Creates the directory if need be, locks it, and reads its identity. A directory without `meta.properties` is not formatted
    /// yet; whether that is acceptable is the caller's decision.
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<LogDir, LogDirError> {
        let io_error = |error| LogDirError::Io(path.to_path_buf(), error);
        create_dir_durable(&*disk, path).map_err(io_error)?;
        let lock = match disk.try_lock(&path.join(LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(LogDirError::Locked(path.to_path_buf()));
            }
            Err(error) => return Err(io_error(error)),
        };
        let meta = match MetaProperties::read(&*disk, path).map_err(io_error)? {
            None => None,
            Some(Ok(meta)) => Some(meta),
            Some(Err(error)) => return Err(LogDirError::Identity(path.to_path_buf(), error)),
        };
        Ok(LogDir { disk, path: path.to_path_buf(), meta, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk that holds it.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Its identity; `None` before it is formatted.
    pub fn meta_properties(&self) -> Option<&MetaProperties> {
        self.meta.as_ref()
    }

    /// Refuses the directory of another cluster or node.
    pub fn check_identity(&self, cluster_id: Option<&str>, node_id: Option<i32>) -> Result<(), LogDirError> {
        match &self.meta {
            Some(meta) => meta
                .check(cluster_id, node_id)
                .map_err(|error| LogDirError::Identity(self.path.clone(), error)),
            None => Ok(()),
        }
    }

    /// Formats the directory: gives it its identity, durably.
    pub fn format(&mut self, meta: MetaProperties) -> Result<(), LogDirError> {
        meta.write(&*self.disk, &self.path).map_err(|error| self.offline(error))?;
        self.meta = Some(meta);
        Ok(())
    }

    /// Says whether the last shutdown was clean, and durably forgets it: from here on a crash is a crash. After an unclean one, what a
    /// process that was killed left in the page cache is put on the disk, for all logs at once.
    pub fn take_clean_shutdown(&self) -> Result<Option<CleanShutdown>, LogDirError> {
        let clean = state_files::take_clean_shutdown(&*self.disk, &self.path);
        let clean = clean.map_err(|error| self.offline(error))?;
        if clean.is_none() && !self.partitions()?.is_empty() {
            self.disk.sync_tree(&self.path).map_err(|error| self.offline(error))?;
        }
        Ok(clean)
    }

    /// Declares the shutdown clean. The caller has closed every log and written the checkpoints.
    pub fn write_clean_shutdown(&self, broker_epoch: i64) -> Result<(), LogDirError> {
        state_files::write_clean_shutdown(&*self.disk, &self.path, broker_epoch)
            .map_err(|error| self.offline(error))
    }

    /// Reads a checkpoint. A damaged one (`InvalidData`) is reported; Kafka goes on with an empty map, which is safe for
    /// [`Checkpoint::RecoveryPoint`] (everything is recovered).
    pub fn read_checkpoint(&self, checkpoint: Checkpoint) -> io::Result<BTreeMap<PartitionName, i64>> {
        checkpoint.read(&*self.disk, &self.path)
    }

    /// Replaces a checkpoint, durably.
    pub fn write_checkpoint(
        &self,
        checkpoint: Checkpoint,
        offsets: &BTreeMap<PartitionName, i64>,
    ) -> Result<(), LogDirError> {
        checkpoint.write(&*self.disk, &self.path, offsets).map_err(|error| self.offline(error))
    }

    /// The partitions' directories, sorted by name. Other entries are not ours to judge and left out.
    pub fn partitions(&self) -> Result<Vec<PartitionDir>, LogDirError> {
        let names = self.disk.list(&self.path).map_err(|error| self.offline(error))?;
        Ok(names.iter().filter_map(|name| PartitionDir::parse(name)).collect())
    }

    fn offline(&self, error: io::Error) -> LogDirError {
        LogDirError::Io(self.path.clone(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn dir(disk: &SimDisk) -> Result<LogDir, LogDirError> {
        LogDir::open(Arc::new(disk.clone()), Path::new("/var/data"))
    }

    #[test]
    fn one_process_at_a_time() {
        let disk = SimDisk::new(1);
        let held = dir(&disk).unwrap();
        assert!(matches!(dir(&disk), Err(LogDirError::Locked(_))));
        drop(held);
        assert!(dir(&disk).is_ok());
    }

    #[test]
    fn a_formatted_directory_keeps_its_identity_and_refuses_others() {
        let disk = SimDisk::new(1);
        let mut fresh = dir(&disk).unwrap();
        assert_eq!(fresh.meta_properties(), None);
        let meta = MetaProperties { cluster_id: "c".into(), node_id: 3, directory_id: None };
        fresh.format(meta.clone()).unwrap();
        let again = dir(&disk.kill()).unwrap();
        assert_eq!(again.meta_properties(), Some(&meta));
        assert!(again.check_identity(Some("c"), Some(3)).is_ok());
        let error = again.check_identity(Some("other"), Some(3)).unwrap_err();
        assert!(error.to_string().contains("cluster"), "{error}");
    }

    #[test]
    fn partition_directories_are_recognised_by_name() {
        let check = |name: &str, topic: &str, partition: i32, kind| {
            let found = PartitionDir::parse(name).unwrap();
            assert_eq!((found.partition, found.kind), (PartitionName::new(topic, partition), kind), "{name}");
        };
        check("orders-0", "orders", 0, PartitionDirKind::Current);
        check("my-topic.v2-17", "my-topic.v2", 17, PartitionDirKind::Current);
        check("orders-0.0123456789abcdef-delete", "orders", 0, PartitionDirKind::Delete);
        check("orders-3.ab-future", "orders", 3, PartitionDirKind::Future);
        check("orders-3.ab-stray", "orders", 3, PartitionDirKind::Stray);
        for other in ["meta.properties", "-0", "orders", "orders-x", "lost+found", ".lock"] {
            assert_eq!(PartitionDir::parse(other), None, "{other}");
        }
        let long = PartitionDir::new(
            PartitionName::new("t".repeat(249), 7),
            PartitionDirKind::Delete,
            &"u".repeat(32),
        );
        assert_eq!(long.name.len(), 255);
        assert!(long.name.ends_with("-7.uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu-delete"));
    }

    #[test]
    fn lists_partitions_only() {
        let disk = SimDisk::new(1);
        let dir = dir(&disk).unwrap();
        for name in ["b-1", "a-0", "notes"] {
            disk.create_dir_all(&dir.path().join(name)).unwrap();
        }
        let names: Vec<_> = dir.partitions().unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["a-0", "b-1"]);
    }
}
