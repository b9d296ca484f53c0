//! The files of metadata snapshots (`Snapshots`, `FileRawSnapshotWriter`): which there are, and how one is written. What is in them is
//! not storage's matter: bytes come in and go out.
//!
//! The one tricky idea: a snapshot is written under `.part` and gets its name when it is durable, so a name without a suffix is a promise.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, File, OpenMode, remove_if_exists};
use crate::names::{SnapshotId, SnapshotState};

/// The complete snapshots of a partition's directory, oldest first.
pub fn list_snapshots(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<SnapshotId>> {
    let names = disk.list(dir)?;
    let found = names.iter().filter_map(|name| SnapshotId::parse(name));
    Ok(found.filter(|(_, state)| *state == SnapshotState::Complete).map(|(id, _)| id).collect())
}

/// Removes what an interrupted writer or deletion left behind.
pub fn remove_partial_snapshots(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for name in disk.list(dir)? {
        if matches!(SnapshotId::parse(&name), Some((_, SnapshotState::Partial | SnapshotState::Deleted))) {
            remove_if_exists(disk, &dir.join(name))?;
        }
    }
    disk.sync_dir(dir)
}

/// Opens a complete snapshot for reading at positions (FetchSnapshot).
pub fn open_snapshot(disk: &dyn Disk, dir: &Path, id: SnapshotId) -> io::Result<Arc<dyn File>> {
    disk.open(&dir.join(id.file_name(SnapshotState::Complete)), OpenMode::Read)
}

/// Removes a snapshot.
pub fn remove_snapshot(disk: &dyn Disk, dir: &Path, id: SnapshotId) -> io::Result<()> {
    remove_if_exists(disk, &dir.join(id.file_name(SnapshotState::Complete)))
}

/// Writes one snapshot, piece by piece.
#[derive(Debug)]
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: SnapshotId,
    file: Arc<dyn File>,
    size: u64,
}

impl SnapshotWriter {
    /// Begins a snapshot, over whatever an earlier attempt left.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, id: SnapshotId) -> io::Result<SnapshotWriter> {
        let file = disk.open(&dir.join(id.file_name(SnapshotState::Partial)), OpenMode::Truncate)?;
        Ok(SnapshotWriter { disk, dir: dir.to_path_buf(), id, file, size: 0 })
    }

    /// Which snapshot this is.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Bytes so far: the position from which a follower fetches on.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(&[IoSlice::new(bytes)], self.size)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Makes the snapshot durable and gives it its name.
    pub fn freeze(self) -> io::Result<SnapshotId> {
        self.file.sync_data()?;
        let path = |state| self.dir.join(self.id.file_name(state));
        self.disk.rename(&path(SnapshotState::Partial), &path(SnapshotState::Complete))?;
        self.disk.sync_dir(&self.dir)?;
        Ok(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{SimDisk, read_file};

    #[test]
    fn a_named_snapshot_is_whole_whenever_the_power_goes() {
        let id = SnapshotId { end_offset: 10, leader_epoch: 2 };
        let dir = Path::new("/");
        for seed in 0..10 {
            for fuse in 0..7 {
                let disk = SimDisk::new(seed);
                disk.fail_after(fuse);
                let write = || {
                    let mut writer = SnapshotWriter::create(Arc::new(disk.clone()), dir, id)?;
                    writer.append(b"some ")?;
                    writer.append(b"records")?;
                    writer.freeze()
                };
                let written = write().is_ok();
                let disk = disk.crash();
                let found = list_snapshots(&disk, dir).unwrap();
                assert!(!written || found == [id]);
                if found == [id] {
                    let path = dir.join(id.file_name(SnapshotState::Complete));
                    assert_eq!(read_file(&disk, &path).unwrap(), b"some records");
                    assert_eq!(open_snapshot(&disk, dir, id).unwrap().len().unwrap(), 12);
                }
                remove_partial_snapshots(&disk, dir).unwrap();
                remove_snapshot(&disk, dir, id).unwrap();
                assert!(disk.list(dir).unwrap().is_empty());
            }
        }
    }
}
