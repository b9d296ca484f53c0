//! Space in each log directory that only the node itself may use: a file of a few megabytes, there to be removed.
//!
//! What frees space on a full disk takes some first: to delete a topic is a record of the metadata log, and to delete records is a
//! checkpoint. So whoever must not fail for want of space gives the reserve up and tries again ([`Reserve::spend`]). Until it is whole again
//! the directory takes no records of clients, which would fill what was freed for others.
//!
//! The one tricky idea: the reserve is also given up when a node starts, since a start writes before anything can be deleted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_storage::{AppendError, Disk, LogDirError, Meaning, OpenMode, StorageError};

/// The file's name.
const RESERVE: &str = "ottla.reserve";
/// Its size: records of some ten thousand changes of the metadata.
const RESERVE_BYTES: u64 = 4 << 20;

/// An error that may be one of the disk.
pub(crate) trait DiskError {
    fn meaning(&self) -> Meaning;
}

impl DiskError for io::Error {
    fn meaning(&self) -> Meaning {
        Meaning::of(self)
    }
}

impl DiskError for StorageError {
    fn meaning(&self) -> Meaning {
        StorageError::meaning(self)
    }
}

impl DiskError for LogDirError {
    fn meaning(&self) -> Meaning {
        LogDirError::meaning(self)
    }
}

impl DiskError for AppendError {
    fn meaning(&self) -> Meaning {
        match self {
            AppendError::Storage(error) => error.meaning(),
            _ => Meaning::Damage,
        }
    }
}

/// The reserve of one log directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    is_whole: AtomicBool,
}

impl Reserve {
    /// There is none yet; what an earlier process left is given up.
    pub fn new(disk: Arc<dyn Disk>, dir: &std::path::Path) -> io::Result<Reserve> {
        let path = dir.join(RESERVE);
        ottla_storage::disk::remove_if_exists(&*disk, &path)?;
        // Nothing is refused before it was tried to make one.
        Ok(Reserve { disk, path, is_whole: AtomicBool::new(true) })
    }

    /// Whether it is there, so that clients may have the rest.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// Gives it up, if it is there. Returns whether that may have made space.
    pub fn give_up(&self) -> bool {
        self.is_whole.swap(false, Ordering::Relaxed) && self.disk.remove_file(&self.path).is_ok()
    }

    /// Does something that must not fail for want of space; if it does, the reserve is given up and it is done again.
    pub fn spend<T, E: DiskError>(&self, mut act: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        match act() {
            Err(error) if error.meaning() == Meaning::Full && self.give_up() => act(),
            done => done,
        }
    }

    /// Takes the space, if there is as much. Where a file system can not set space aside there is no reserve, and nothing to be refused
    /// for it. Waits for the disk.
    pub fn refill(&self) -> io::Result<()> {
        let taken =
            self.disk.open(&self.path, OpenMode::Create).and_then(|file| file.allocate(0, RESERVE_BYTES));
        match taken {
            Err(error) if error.meaning() == Meaning::Full => {
                self.is_whole.store(false, Ordering::Relaxed);
                ottla_storage::disk::remove_if_exists(&*self.disk, &self.path)
            }
            // Another time.
            Err(error) if error.meaning() == Meaning::Exhausted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.is_whole.store(true, Ordering::Relaxed);
                ottla_storage::disk::remove_if_exists(&*self.disk, &self.path)
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.is_whole.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}
