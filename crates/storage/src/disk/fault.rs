//! Injected misfortune for the simulated disk: which operation on which file fails, when, and how often.

use std::io;
use std::path::Path;

/// The operations of a disk that change it or can fail on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Opening or creating a file.
    Open,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Changing a length.
    SetLen,
    /// `sync_data` of a file.
    Sync,
    /// Creating a directory.
    CreateDir,
    /// Renaming.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// `sync_dir`.
    SyncDir,
    /// Reserving blocks.
    Allocate,
}

impl Operation {
    /// Whether the operation changes what is on disk or what is durable.
    pub fn mutates(self) -> bool {
        !matches!(self, Operation::Open | Operation::Read | Operation::Allocate)
    }
}

/// A rule that makes operations fail: the first `skip` that match pass, then `times` fail with `kind`, then all pass.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The operation that fails, or any operation.
    pub operation: Option<Operation>,
    /// A part of the path that the operation must touch; empty matches every path.
    pub path_contains: String,
    /// How many matching operations pass first.
    pub skip: u64,
    /// How many matching operations fail then.
    pub times: u64,
    /// What they fail with (`StorageFull` for ENOSPC; `Other` stands for EIO).
    pub kind: io::ErrorKind,
}

impl Fault {
    /// A rule that fails every `operation` on every path with `kind` from now on.
    pub fn always(operation: Operation, kind: io::ErrorKind) -> Fault {
        Fault { operation: Some(operation), path_contains: String::new(), skip: 0, times: u64::MAX, kind }
    }

    /// Counts one operation against the rule; says whether it fails.
    pub(super) fn strikes(&mut self, operation: Operation, path: &Path) -> bool {
        let applies = self.operation.is_none_or(|mine| mine == operation)
            && (self.path_contains.is_empty() || path.to_string_lossy().contains(&self.path_contains));
        if !applies {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times == 0 {
            return false;
        }
        self.times = self.times.saturating_sub(1);
        true
    }
}
