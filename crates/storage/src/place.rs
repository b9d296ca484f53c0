//! A partition's directory on a disk, and the segment files in it.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, File, OpenMode, read_file, remove_if_exists};
use crate::names::segment_path;

/// Where a log's files are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: Arc<Path>,
}

impl Place {
    pub(crate) fn path(&self, base_offset: i64, extension: &str) -> PathBuf {
        segment_path(&self.dir, base_offset, extension)
    }

    pub(crate) fn open(
        &self,
        base_offset: i64,
        extension: &str,
        mode: OpenMode,
    ) -> io::Result<Arc<dyn File>> {
        self.disk.open(&self.path(base_offset, extension), mode)
    }

    /// Writes a whole file, not yet durable.
    pub(crate) fn write(&self, base_offset: i64, extension: &str, bytes: &[u8]) -> io::Result<Arc<dyn File>> {
        let file = self.open(base_offset, extension, OpenMode::Truncate)?;
        if !bytes.is_empty() {
            file.write_all_at(&[IoSlice::new(bytes)], 0)?;
        }
        Ok(file)
    }

    /// Reads a whole file; `None` if there is none.
    pub(crate) fn read(&self, base_offset: i64, extension: &str) -> io::Result<Option<Vec<u8>>> {
        match read_file(&*self.disk, &self.path(base_offset, extension)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn remove(&self, base_offset: i64, extensions: &[&str]) -> io::Result<()> {
        for extension in extensions {
            remove_if_exists(&*self.disk, &self.path(base_offset, extension))?;
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.dir)
    }
}
