//! Positional reads: a placeholder until the wire chain defines it.

use std::fmt::Debug;
use std::io;

/// Reads at absolute positions.
pub trait ReadAt: Send + Sync + Debug {
    /// Fills `buf` from `position`.
    fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()>;
}
