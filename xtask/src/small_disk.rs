//! A file system of a few megabytes, to be filled: a loop mount of ext4 where that is permitted, else a tmpfs.

use crate::steps::{Doing, Trouble, fresh_dir};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What takes all the space.
const FILLER: &str = "filler";

/// A mounted file system, unmounted when it is dropped.
pub struct SmallDisk {
    place: PathBuf,
    what: &'static str,
}

impl SmallDisk {
    /// Mounts one at `place`; its image, if it has one, is `place` with `.img`. `None` where nothing can be mounted.
    pub fn mount(place: &Path, bytes: u64) -> Option<SmallDisk> {
        SmallDisk::mount_ext4(place, bytes).or_else(|| SmallDisk::mount_tmpfs(place, bytes))
    }

    fn mount_ext4(place: &Path, bytes: u64) -> Option<SmallDisk> {
        let image = place.with_extension("img");
        let made = fs::create_dir_all(place).and_then(|()| File::create(&image)?.set_len(bytes));
        let is_mounted = made.is_ok()
            && run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(place));
        is_mounted.then(|| SmallDisk { place: place.to_path_buf(), what: "ext4 on a loop device" })
    }

    /// Mounts a tmpfs, where a sync costs nothing.
    pub fn mount_tmpfs(place: &Path, bytes: u64) -> Option<SmallDisk> {
        let size = format!("size={bytes}");
        let is_mounted = fs::create_dir_all(place).is_ok()
            && run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place));
        is_mounted.then(|| SmallDisk { place: place.to_path_buf(), what: "tmpfs" })
    }

    /// An empty directory for a chore. A run that was killed may have left file systems mounted there.
    pub fn fresh_home(home: &Path) -> Result<PathBuf, Trouble> {
        for entry in fs::read_dir(home).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir())
        {
            // It fails for a directory that is none.
            Command::new("umount").arg(entry.path()).stderr(Stdio::null()).status()?;
        }
        fresh_dir(home)
    }

    /// Where it is mounted.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What it is.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Leaves no room on it.
    pub fn fill(&self) -> Result<(), Trouble> {
        let file = File::create(self.place.join(FILLER)).doing("filling a disk")?;
        for step in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            let flags = rustix::fs::FallocateFlags::empty();
            let mut at = file.metadata()?.len();
            while rustix::fs::fallocate(&file, flags, at, step).is_ok() {
                at += step;
            }
        }
        Ok(())
    }

    /// Makes the room again that [`SmallDisk::fill`] took.
    pub fn relieve(&self) -> Result<(), Trouble> {
        fs::remove_file(self.place.join(FILLER)).doing("making room on a disk")
    }

    /// Bytes that are left.
    pub fn free_bytes(&self) -> Result<u64, Trouble> {
        let found = rustix::fs::statvfs(&self.place).map_err(Trouble::new)?;
        Ok(found.f_bavail * found.f_frsize)
    }
}

fn run(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever is left behind on it keeps it until it ends.
        let _ = Command::new("umount").args(["-l"]).arg(&self.place).status();
    }
}
