//! The real disk: `Disk` and `File` over the operating system. Every error names the path it concerns.
//!
//! The tricky idea is the lock. Kafka guards a log directory with Java's `FileChannel.tryLock`, which is a POSIX record lock over
//! the whole file; so do we, that the two exclude each other. Such a lock belongs to the process, not to the handle: a second
//! attempt within one process would succeed (a list of held locks refuses it), and closing *any* handle of the file would release
//! it (nothing but this module opens a lock file).

mod write_back;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use ottla_protocol::ReadAt;
use ottla_storage::{Disk, File, Lock, OpenFiles, OpenMode, Usage, unsynced};
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::ReadWriteFlags;

/// The files that this process has open through this module.
static OPEN_FILES: AtomicUsize = AtomicUsize::new(0);

/// From how many of them on some should be closed.
static OPEN_FILES_LIMIT: LazyLock<usize> = LazyLock::new(|| {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX) / 2
});

/// Slices that one `pwritev` takes (`IOV_MAX` of Linux).
const SLICES_MAX: usize = 1024;

/// The file systems of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// What went wrong, and with which file or directory.
#[derive(Debug)]
struct PathError {
    path: PathBuf,
    source: io::Error,
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Turns an error of the system into one that names `path` and keeps its kind.
fn at<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> io::Error + '_ {
    move |error| {
        let source = error.into();
        io::Error::new(source.kind(), PathError { path: path.to_owned(), source })
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::Create => options.write(true).create(true),
            OpenMode::Truncate => options.write(true).create(true).truncate(true),
        };
        let file = options.open(path).map_err(at(path))?;
        OPEN_FILES.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(RealFile { file, path: path.into() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(at(dir))? {
            let name = entry.map_err(at(dir))?.file_name();
            // A name that is not UTF-8 is none of ours and none of Kafka's.
            names.extend(name.into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir).map_err(at(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(at(from))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(at(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir).map_err(at(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // `a.txt` has the parent "", which is the current directory.
        let opened = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let opened = fs::File::open(opened).map_err(at(dir))?;
        opened.sync_all().map_err(at(dir)).map_err(unsynced)
    }

    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        for root in file_systems(dir)? {
            let opened = fs::File::open(&root).map_err(at(&root))?;
            rustix::fs::syncfs(&opened).map_err(at(&root)).map_err(unsynced)?;
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists().map_err(at(path))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut held = HELD_LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked up before the file is opened: closing a second handle would release the lock of the first.
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        if fs::metadata(path).map(identity).is_ok_and(|identity| held.contains(&identity)) {
            return Err(at(path)(io::Error::from(io::ErrorKind::WouldBlock)));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at(path))?;
        rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            // POSIX lets the system say either EAGAIN or EACCES when another process holds the lock.
            let taken = matches!(error, rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS);
            at(path)(if taken { io::Error::from(io::ErrorKind::WouldBlock) } else { error.into() })
        })?;
        let identity = identity(file.metadata().map_err(at(path))?);
        held.insert(identity);
        Ok(Box::new(RealLock { file: Some(file), identity }))
    }

    fn usage(&self, dir: &Path) -> io::Result<Usage> {
        let stat = rustix::fs::statvfs(dir).map_err(at(dir))?;
        Ok(Usage { total: stat.f_blocks * stat.f_frsize, usable: stat.f_bavail * stat.f_frsize })
    }

    /// Half of what the process may have open (`ulimit -n`) is for files, the other half for sockets.
    fn open_files(&self) -> OpenFiles {
        OpenFiles { count: OPEN_FILES.load(Ordering::Relaxed), limit: *OPEN_FILES_LIMIT }
    }
}

/// A directory, and those directly in it that lie on other file systems, since they are links or something is mounted there; one for
/// each file system.
fn file_systems(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut seen = BTreeSet::from([fs::metadata(dir).map_err(at(dir))?.dev()]);
    let mut roots = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        // A link that leads nowhere has nothing to sync.
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir() && seen.insert(metadata.dev())) {
            roots.push(path);
        }
    }
    Ok(roots)
}

/// Device and inode of the lock files that this process holds.
static HELD_LOCKS: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

#[derive(Debug)]
struct RealLock {
    file: Option<fs::File>,
    identity: (u64, u64),
}

impl Lock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        let mut held = HELD_LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.identity);
        // Closing releases; it has to happen while the list is locked.
        drop(self.file.take());
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    path: Box<Path>,
}

impl Drop for RealFile {
    fn drop(&mut self) {
        OPEN_FILES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReadAt for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, position).map_err(at(&self.path))
    }

    fn read_exact_now(&self, buf: &mut [u8], position: u64) -> io::Result<bool> {
        read_exact_now(&self.file, buf, position).map_err(at(&self.path))
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buf, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(at(&self.path)),
            }
        }
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        write_all_at(&self.file, bufs, position).map_err(at(&self.path))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(at(&self.path))?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(at(&self.path))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(at(&self.path)).map_err(unsynced)
    }

    fn modified(&self) -> io::Result<i64> {
        let modified =
            self.file.metadata().and_then(|metadata| metadata.modified()).map_err(at(&self.path))?;
        let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }

    fn set_modified(&self, at_ms: i64) -> io::Result<()> {
        let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
        self.file.set_modified(time).map_err(at(&self.path))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, len).map_err(at(&self.path))
    }

    fn write_back(&self, position: u64, len: u64) {
        write_back::begin(&self.file, position, len);
    }
}

/// Reads out of the page cache. A file system that cannot say whether it would wait counts as one that would.
fn read_exact_now(file: &fs::File, mut buf: &mut [u8], mut position: u64) -> io::Result<bool> {
    while !buf.is_empty() {
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(buf)], position, ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::OPNOTSUPP) => return Ok(false),
            Ok(count) => {
                buf = &mut buf[count..];
                position += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn write_all_at(file: &fs::File, bufs: &[IoSlice<'_>], position: u64) -> io::Result<()> {
    if let [only] = bufs {
        return file.write_all_at(only, position);
    }
    let count: usize = bufs.iter().map(|buf| buf.len()).sum();
    // The rule: one call takes it all.
    let written = match rustix::io::pwritev(file, &bufs[..bufs.len().min(SLICES_MAX)], position) {
        Ok(written) if written == count => return Ok(()),
        Ok(written) => written,
        Err(rustix::io::Errno::INTR) => 0,
        Err(error) => return Err(error.into()),
    };
    write_rest_at(file, bufs, written, position)
}

/// Goes on after the first `written` bytes.
fn write_rest_at(file: &fs::File, bufs: &[IoSlice<'_>], written: usize, mut position: u64) -> io::Result<()> {
    let mut copies = bufs.to_vec();
    let mut rest = copies.as_mut_slice();
    // Empty slices in front would look like a write that makes no progress.
    IoSlice::advance_slices(&mut rest, written);
    position += written as u64;
    while !rest.is_empty() {
        match rustix::io::pwritev(file, &rest[..rest.len().min(SLICES_MAX)], position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(dir: &tempfile::TempDir, name: &str) -> Arc<dyn File> {
        RealDisk.open(&dir.path().join(name), OpenMode::Create).expect("can be created")
    }

    #[test]
    fn writes_are_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = create(&dir, "a");
        let many: Vec<[u8; 3]> = (0..3000u32).map(|i| [i as u8, 1, 2]).collect();
        let slices: Vec<_> =
            std::iter::once(IoSlice::new(&[])).chain(many.iter().map(|m| IoSlice::new(m))).collect();
        file.write_all_at(&slices, 10).expect("written");
        file.write_all_at(&[], 0).expect("nothing to write");
        assert_eq!(file.len().expect("a length"), 9010);
        let mut back = vec![1; 9010];
        file.read_exact_at(&mut back, 0).expect("read");
        assert_eq!(back[..10], [0; 10]);
        assert_eq!(back[10..], many.concat()[..]);
        assert_eq!(file.read_at(&mut back, 9010).expect("at the end"), 0);
        assert_eq!(file.read_at(&mut back, 9000).expect("near the end"), 10);
        file.sync_data().expect("synced");
    }

    #[test]
    fn what_was_just_written_is_in_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = create(&dir, "a");
        file.write_all_at(&[IoSlice::new(&[7; 10_000])], 0).expect("written");
        let mut back = [0; 5000];
        // A file system without the notion says no; one that has it must not say more than is there.
        if file.read_exact_now(&mut back, 5000).expect("read") {
            assert_eq!(back, [7; 5000]);
        }
        assert!(!file.read_exact_now(&mut back, 5001).expect("behind the end"), "nothing is there to read");
    }

    #[test]
    fn allocation_does_not_change_the_length_and_truncation_gives_it_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = create(&dir, "a");
        file.write_all_at(&[IoSlice::new(b"abc")], 0).expect("written");
        file.allocate(0, 8 << 20).expect("the file systems of tests can allocate");
        assert_eq!(file.len().expect("a length"), 3);
        let blocks = || fs::metadata(dir.path().join("a")).expect("there").blocks() * 512;
        assert!(blocks() >= 8 << 20, "{}", blocks());
        file.set_len(3).expect("cut");
        assert_eq!(file.len().expect("a length"), 3);
        assert!(blocks() < 1 << 20, "{}", blocks());
    }

    #[test]
    fn modes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        for mode in [OpenMode::Read, OpenMode::Write] {
            assert_eq!(RealDisk.open(&path, mode).expect_err("not there").kind(), io::ErrorKind::NotFound);
        }
        create(&dir, "a").write_all_at(&[IoSlice::new(b"abc")], 0).expect("written");
        assert_eq!(RealDisk.open(&path, OpenMode::Write).expect("there").len().expect("a length"), 3);
        assert_eq!(RealDisk.open(&path, OpenMode::Create).expect("there").len().expect("a length"), 3);
        assert!(
            RealDisk
                .open(&path, OpenMode::Read)
                .expect("there")
                .write_all_at(&[IoSlice::new(b"x")], 0)
                .is_err()
        );
        assert_eq!(RealDisk.open(&path, OpenMode::Truncate).expect("there").len().expect("a length"), 0);
    }

    #[test]
    fn directories() {
        let dir = tempfile::tempdir().expect("a directory");
        let inner = dir.path().join("x/y");
        RealDisk.create_dir_all(&inner).expect("created");
        RealDisk.create_dir_all(&inner).expect("no error if there");
        create(&dir, "x/b");
        create(&dir, "x/a");
        RealDisk.rename(&dir.path().join("x/b"), &inner.join("c")).expect("renamed");
        assert_eq!(RealDisk.list(&dir.path().join("x")).expect("listed"), ["a", "y"]);
        RealDisk.sync_dir(&inner).expect("synced");
        assert!(RealDisk.exists(&inner.join("c")).expect("known"));
        RealDisk.remove_file(&inner.join("c")).expect("removed");
        RealDisk.remove_dir_all(&dir.path().join("x")).expect("removed");
        assert!(!RealDisk.exists(&inner).expect("known"));
        let usage = RealDisk.usage(dir.path()).expect("known");
        assert!(usage.usable > 0 && usage.usable <= usage.total);
    }

    #[test]
    fn a_tree_may_reach_into_other_file_systems() {
        let dir = tempfile::tempdir().expect("a directory");
        RealDisk.create_dir_all(&dir.path().join("here")).expect("created");
        let link = dir.path().join("there");
        std::os::unix::fs::symlink("/proc", &link).expect("linked");
        std::os::unix::fs::symlink("nowhere", dir.path().join("lost")).expect("linked");
        assert_eq!(file_systems(dir.path()).expect("listed"), [dir.path(), &link]);
        RealDisk.sync_tree(dir.path()).expect("synced");
    }

    #[test]
    fn errors_name_the_path() {
        let error = RealDisk.list(Path::new("/no/such/place")).expect_err("not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("/no/such/place: "), "{error}");
    }

    #[test]
    fn a_lock_excludes_a_second_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(".lock");
        let lock = RealDisk.try_lock(&path).expect("free");
        for _ in 0..2 {
            let error = RealDisk.try_lock(&path).expect_err("held by us");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        drop(lock);
        RealDisk.try_lock(&path).expect("free again");
    }
}
