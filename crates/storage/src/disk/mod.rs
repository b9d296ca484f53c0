//! The seam to the operating system: a `Disk` holds directories and `File`s. Everything this crate knows of durability is written here.
//!
//! The one tricky idea: **three levels of "written"**. A returned write is visible to this process and survives its death (page
//! cache); a file's bytes and length survive power loss only after [`File::sync_data`]; a file's *name* (creation, rename, removal)
//! survives power loss only after [`Disk::sync_dir`] of its directory. The real disk lives in the server; [`SimDisk`] is the twin
//! that takes these sentences literally and loses whatever they do not promise. A sync that was tried and failed is told as
//! [`unsynced`](crate::unsynced): what it should have made durable may be lost, and must not be synced again as if it were not.

mod fault;
mod sim;
mod tree;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use fault::{Fault, Operation};
pub use ottla_protocol::ReadAt;
pub use sim::{DiskCounters, SimDisk};

use crate::meaning::rewritable;

/// How a file is opened. All modes may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist and will not be written.
    Read,
    /// The file must exist and may be written.
    Write,
    /// The file is created empty if it does not exist, and may be written.
    Create,
    /// The file is created, or emptied if it exists, and may be written.
    Truncate,
}

/// Size of the file system that holds a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the whole file system.
    pub total: u64,
    /// Bytes that this process may still use.
    pub usable: u64,
}

/// How many files are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// Handles that were given out and not dropped.
    pub count: usize,
    /// From how many on somebody should let go of some. More can be opened: what is left is for sockets, and for those who can not wait.
    pub limit: usize,
}

/// A tree of directories and files. Object-safe; shared by everything that stores.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file. `NotFound` if it (or, when creating, its directory) does not exist.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// The names in a directory (files and directories), sorted. `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its parents; it is no error if they exist.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory, atomically replacing a file that has the target's name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Handles that are open go on reading it.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals of this directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything below a directory durable, content and names; whatever else is on its file system may be along.
    fn sync_tree(&self, dir: &Path) -> io::Result<()>;
    /// Whether a file or directory of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates the file if need be and locks it against other processes. `WouldBlock` if somebody holds the lock.
    fn try_lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Size and free space of the file system that holds `dir`.
    fn usage(&self, dir: &Path) -> io::Result<Usage>;
    /// How many files are open, and how many should be at most.
    fn open_files(&self) -> OpenFiles;
}

/// An open file. Positions are absolute: there is no cursor.
pub trait File: ReadAt + Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes; 0 at or behind the end of the file.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all the slices, one after the other, at `position`, extending the file as needed (a gap reads as zeros).
    fn write_all_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) to `len`, and gives back blocks that were allocated behind it.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the bytes and the length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// When the file was last written to, in ms since the epoch.
    fn modified(&self) -> io::Result<i64>;
    /// Sets that time.
    fn set_modified(&self, at: i64) -> io::Result<()>;
    /// Reserves blocks for a range without changing the length (`fallocate` with `KEEP_SIZE`). A hint: callers may ignore failure.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Has the disk begin to take what was written to a range (`sync_file_range`), so that a later [`File::sync_data`] has less to wait
    /// for. Promises nothing; what goes wrong is told by that one.
    fn write_back(&self, position: u64, len: u64);
}

/// A held lock file; dropping it releases the lock.
pub trait Lock: Send + Sync + Debug {}

/// Reads a whole file.
pub fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).map_err(|_| io::Error::other("file does not fit in memory"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces a file so that after power loss either the old or the new content is found, and after return the new one:
/// write `<path>.tmp`, sync it, rename it over `path`, sync the directory.
pub fn write_atomic(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    // Whoever tries again writes the whole file anew.
    replace_with(disk, path, content, |file| file.sync_data().map_err(rewritable))?;
    match path.parent() {
        Some(parent) => disk.sync_dir(parent),
        None => Ok(()),
    }
}

/// As [`write_atomic`], but what the file holds after a crash is known only once its directory tree was synced.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(disk, path, content, |_| Ok(()))
}

fn replace_with(
    disk: &dyn Disk,
    path: &Path,
    content: &[u8],
    settle: impl FnOnce(&dyn File) -> io::Result<()>,
) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let file = disk.open(temporary, OpenMode::Truncate)?;
    file.write_all_at(&[IoSlice::new(content)], 0)?;
    settle(&*file)?;
    disk.rename(temporary, path)
}

/// Creates a directory and its parents so that they survive power loss. Costs nothing but a look if it exists.
pub fn create_dir_durable(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in dir.ancestors() {
        if disk.exists(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    if missing.is_empty() {
        return Ok(());
    }
    disk.create_dir_all(dir)?;
    for created in missing.into_iter().rev() {
        // The parent of a relative path's first name is "", which is the current directory.
        match created.parent() {
            Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new("."))?,
            Some(parent) => disk.sync_dir(parent)?,
            None => {}
        }
    }
    Ok(())
}

/// Removes a file that may be gone already.
pub fn remove_if_exists(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
