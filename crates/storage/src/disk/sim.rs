//! `SimDisk`: the in-memory twin of a disk. It keeps what a real disk promises, loses the rest on demand, and fails by rule.
//!
//! The one tricky idea: `kill` and `crash` do not change the disk; they return a *new* one as the next process would find it. So a
//! test can branch off a crash after every single operation while the first process runs on.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::fault::{Fault, Operation};
use super::tree::{Dice, FileChange, Ino, Tree};
use super::{Disk, File, Lock, OpenFiles, OpenMode, ReadAt, Usage};
use crate::meaning::unsynced;

/// What a simulated disk was asked to do so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Files opened or created.
    pub opens: u64,
    /// Reads of file bytes.
    pub reads: u64,
    /// Writes of file bytes.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes for which blocks were reserved ahead.
    pub bytes_allocated: u64,
    /// Files synced.
    pub syncs: u64,
    /// Directories synced.
    pub dir_syncs: u64,
    /// All operations that change the disk or make it durable, syncs included.
    pub mutations: u64,
    /// Operations that failed by a rule.
    pub failures: u64,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    dice: Dice,
    faults: Vec<Fault>,
    locked: Vec<Ino>,
    counters: DiskCounters,
    /// Whether everything is in the page cache, so that reads need not wait.
    is_resident: bool,
    /// Mutations that may still happen before the power goes (then everything fails).
    fuse: Option<u64>,
    total_bytes: u64,
    /// What the disk takes for the present time.
    now: i64,
}

/// A simulated disk. Clones are handles to the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    files: Arc<FileCount>,
}

/// Beside the state, since files are dropped by whoever holds its lock.
#[derive(Debug)]
struct FileCount {
    open: AtomicUsize,
    limit: AtomicUsize,
}

impl SimDisk {
    /// An empty disk. The same seed and the same calls give the same disk, crashes included.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::with_tree(Tree::new(), Dice(seed))
    }

    fn with_tree(tree: Tree, dice: Dice) -> SimDisk {
        let state = State {
            tree,
            dice,
            faults: Vec::new(),
            locked: Vec::new(),
            counters: DiskCounters::default(),
            is_resident: false,
            fuse: None,
            total_bytes: 1 << 40,
            now: 0,
        };
        let files = FileCount { open: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX / 2) };
        SimDisk { state: Arc::new(Mutex::new(state)), files: Arc::new(files) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding the lock has failed anyway; the disk's state is whole between statements.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The disk as a new process finds it after power loss: what was synced, and of the rest a random part, torn at sectors.
    pub fn crash(&self) -> SimDisk {
        let mut state = self.lock();
        let mut dice = Dice(state.dice.next());
        let mut tree = state.tree.clone();
        tree.crash(&mut dice);
        SimDisk::with_tree(tree, dice)
    }

    /// The disk as a new process finds it after the old one died: everything written is there, but unsynced parts can still be lost.
    pub fn kill(&self) -> SimDisk {
        let mut state = self.lock();
        let dice = Dice(state.dice.next());
        SimDisk::with_tree(state.tree.clone(), dice)
    }

    /// Adds a rule that makes operations fail.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Forgets all rules and the fuse.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.fuse = None;
    }

    /// Lets `mutations` more changing operations succeed; after them every operation fails, as if the power were gone.
    pub fn fail_after(&self, mutations: u64) {
        self.lock().fuse = Some(mutations);
    }

    /// Sets the time that files written from here on are given.
    pub fn set_time(&self, now: i64) {
        self.lock().now = now;
    }

    /// Whether all files count as being in memory; at first they do not, so that the paths that wait are the ones that run.
    pub fn set_resident(&self, is_resident: bool) {
        self.lock().is_resident = is_resident;
    }

    /// Sets from how many on files should be let go of; twice as many can not be opened.
    pub fn set_open_files_limit(&self, limit: usize) {
        self.files.limit.store(limit, Ordering::Relaxed);
    }

    /// What the disk was asked to do so far.
    pub fn counters(&self) -> DiskCounters {
        self.lock().counters
    }

    /// The live bytes of a file, if it exists: for tests that look behind the log's back.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let ino = state.tree.find(path)?;
        state.tree.file(ino).ok().map(|file| file.live.clone())
    }
}

impl State {
    /// Counts the operation and says whether it may happen.
    fn admit(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => return Err(io::Error::other("the simulated disk has lost power")),
            Some(left) if operation.mutates() => *left -= 1,
            _ => {}
        }
        if operation.mutates() {
            self.counters.mutations += 1;
        }
        match operation {
            Operation::Open => self.counters.opens += 1,
            Operation::Read => self.counters.reads += 1,
            Operation::Write => self.counters.writes += 1,
            Operation::Sync => self.counters.syncs += 1,
            Operation::SyncDir => self.counters.dir_syncs += 1,
            _ => {}
        }
        let mut failure = None;
        for fault in &mut self.faults {
            if fault.strikes(operation, path) && failure.is_none() {
                failure = Some(fault.kind);
            }
        }
        self.counters.failures += u64::from(failure.is_some());
        match failure {
            Some(kind) => Err(io::Error::new(kind, format!("injected: {operation:?} of {}", path.display()))),
            None => Ok(()),
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let OpenFiles { count, limit } = self.open_files();
        if count >= 2 * limit {
            return Err(io::Error::from_raw_os_error(24)); // EMFILE
        }
        let mut state = self.lock();
        state.admit(Operation::Open, path)?;
        let ino = match (state.tree.find(path), mode) {
            (Some(ino), OpenMode::Truncate) => {
                state.admit(Operation::SetLen, path)?;
                state.tree.file(ino)?.change(FileChange::SetLen(0));
                ino
            }
            (Some(ino), _) => {
                state.tree.file(ino)?;
                ino
            }
            (None, OpenMode::Create | OpenMode::Truncate) => {
                state.admit(Operation::Write, path)?;
                state.tree.create_file(path)?
            }
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let writable = mode != OpenMode::Read;
        self.files.open.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(SimFile { disk: self.clone(), ino, path: path.to_path_buf(), writable }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.admit(Operation::Read, dir)?;
        Ok(state.tree.dir(dir)?.live.keys().cloned().collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let mut ancestors: Vec<&Path> = dir.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            if state.tree.find(ancestor).is_none() {
                state.admit(Operation::CreateDir, ancestor)?;
                state.tree.create_dir(ancestor)?;
            }
        }
        state.tree.dir(dir).map(|_| ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.admit(Operation::Rename, from)?;
        state.tree.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.admit(Operation::Remove, path)?;
        state.tree.remove(path, false)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.admit(Operation::Remove, dir)?;
        state.tree.remove(dir, true)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.admit(Operation::SyncDir, dir).map_err(unsynced)?;
        state.tree.dir(dir)?.sync();
        Ok(())
    }

    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.admit(Operation::SyncDir, dir).map_err(unsynced)?;
        state.tree.sync(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.lock();
        state.admit(Operation::Read, path)?;
        Ok(state.tree.find(path).is_some())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.lock();
        let ino = match state.tree.find(path) {
            Some(ino) => ino,
            None => state.tree.create_file(path)?,
        };
        if state.locked.contains(&ino) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, format!("{} is locked", path.display())));
        }
        state.locked.push(ino);
        Ok(Box::new(SimLock { disk: self.clone(), ino }))
    }

    fn usage(&self, _dir: &Path) -> io::Result<Usage> {
        let state = self.lock();
        let total = state.total_bytes;
        Ok(Usage { total, usable: total.saturating_sub(state.counters.bytes_written) })
    }

    fn open_files(&self) -> OpenFiles {
        let FileCount { open, limit } = &*self.files;
        OpenFiles { count: open.load(Ordering::Relaxed), limit: limit.load(Ordering::Relaxed) }
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    ino: Ino,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let ino = self.ino;
        self.disk.lock().locked.retain(|held| *held != ino);
    }
}

struct SimFile {
    disk: SimDisk,
    ino: Ino,
    path: PathBuf,
    writable: bool,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.files.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimFile({})", self.path.display())
    }
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) }
    }
}

impl ReadAt for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        if self.read_at(buf, position)? == buf.len() {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))
        }
    }

    fn read_exact_now(&self, buf: &mut [u8], position: u64) -> io::Result<bool> {
        Ok(self.disk.lock().is_resident && self.read_at(buf, position)? == buf.len())
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.admit(Operation::Read, &self.path)?;
        let live = &state.tree.file(self.ino)?.live;
        let start = usize::try_from(position).map_or(live.len(), |position| position.min(live.len()));
        let count = buf.len().min(live.len() - start);
        buf[..count].copy_from_slice(&live[start..start + count]);
        Ok(count)
    }

    fn write_all_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut bytes = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
        for buf in bufs {
            bytes.extend_from_slice(buf);
        }
        let mut state = self.disk.lock();
        if let Err(error) = state.admit(Operation::Write, &self.path) {
            // A failing write may have written something before it failed.
            if state.fuse != Some(0) && !bytes.is_empty() {
                let kept = state.dice.below(bytes.len() as u64) as usize;
                bytes.truncate(kept);
                state.tree.file(self.ino)?.change(FileChange::Write { position, bytes });
            }
            return Err(error);
        }
        state.counters.bytes_written += bytes.len() as u64;
        let now = state.now;
        let file = state.tree.file(self.ino)?;
        file.modified = now;
        file.change(FileChange::Write { position, bytes });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().tree.file(self.ino)?.live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.lock();
        state.admit(Operation::SetLen, &self.path)?;
        let file = state.tree.file(self.ino)?;
        if file.live.len() as u64 != len {
            file.change(FileChange::SetLen(len));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.admit(Operation::Sync, &self.path).map_err(unsynced)?;
        state.tree.file(self.ino)?.sync();
        Ok(())
    }

    fn modified(&self) -> io::Result<i64> {
        Ok(self.disk.lock().tree.file(self.ino)?.modified)
    }

    fn set_modified(&self, at: i64) -> io::Result<()> {
        self.disk.lock().tree.file(self.ino)?.modified = at;
        Ok(())
    }

    fn allocate(&self, _offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.admit(Operation::Allocate, &self.path)?;
        state.counters.bytes_allocated += len;
        Ok(())
    }

    // Power loss takes any part of what was not synced anyway.
    fn write_back(&self, _position: u64, _len: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &dyn File, bytes: &[u8], position: u64) {
        file.write_all_at(&[IoSlice::new(bytes)], position).unwrap();
    }

    #[test]
    fn synced_bytes_survive_a_crash_and_names_need_their_directory() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let dir = Path::new("/d");
            disk.create_dir_all(dir).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            let file = disk.open(Path::new("/d/a"), OpenMode::Create).unwrap();
            write(&*file, b"durable", 0);
            file.sync_data().unwrap();
            disk.sync_dir(dir).unwrap();
            write(&*file, b"lost?", 7);
            let after = disk.crash();
            let content = after.contents(Path::new("/d/a")).unwrap();
            assert!(content == b"durable" || content == b"durablelost?", "{content:?}");
            assert_eq!(disk.kill().contents(Path::new("/d/a")).unwrap(), b"durablelost?");
        }
    }

    #[test]
    fn some_seed_loses_an_unsynced_name_and_some_seed_tears_a_write() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..60 {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/a"), OpenMode::Create).unwrap();
            write(&*file, &[7; 4096], 0);
            match disk.crash().contents(Path::new("/a")) {
                None => lost += 1,
                Some(content) if content.len() == 4096 => kept += 1,
                Some(content) => {
                    assert_eq!(content.len() % 512, 0);
                    torn += usize::from(!content.is_empty());
                }
            }
        }
        assert!(lost > 0 && kept > 0 && torn > 0, "{lost} {kept} {torn}");
    }

    #[test]
    fn an_atomic_replacement_is_old_or_new_and_never_between() {
        let path = Path::new("/c");
        for fuse in 0..8 {
            for seed in 0..20 {
                let disk = SimDisk::new(seed);
                super::super::write_atomic(&disk, path, b"old").unwrap();
                disk.fail_after(fuse);
                let done = super::super::write_atomic(&disk, path, b"newer").is_ok();
                let content = disk.crash().contents(path).unwrap();
                assert!(content == b"newer" || (content == b"old" && !done), "{content:?}");
            }
        }
    }

    #[test]
    fn faults_strike_where_and_when_they_are_told() {
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/log"), OpenMode::Create).unwrap();
        disk.inject(Fault {
            operation: Some(Operation::Sync),
            path_contains: "log".into(),
            skip: 1,
            times: 1,
            kind: io::ErrorKind::StorageFull,
        });
        assert!(file.sync_data().is_ok());
        assert_eq!(file.sync_data().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(file.sync_data().is_ok());
        assert_eq!(disk.counters().syncs, 3);
    }

    #[test]
    fn a_lock_has_one_holder_and_dies_with_the_process() {
        let disk = SimDisk::new(1);
        let held = disk.try_lock(Path::new("/.lock")).unwrap();
        assert_eq!(disk.try_lock(Path::new("/.lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(disk.kill().try_lock(Path::new("/.lock")).is_ok());
        drop(held);
        assert!(disk.try_lock(Path::new("/.lock")).is_ok());
    }

    #[test]
    fn the_same_seed_crashes_the_same_way() {
        let image = |seed| {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/a"), OpenMode::Create).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            for i in 0..10u8 {
                write(&*file, &[i; 700], u64::from(i) * 700);
            }
            disk.crash().contents(Path::new("/a"))
        };
        assert_eq!(image(5), image(5));
        assert!((0..20).any(|seed| image(seed) != image(5)));
    }
}
