//! One partition's log over a Disk: batches, segments, indexes, leader epochs, producer state, recovery.

mod config;
pub mod dir;
pub mod disk;
mod index;
pub mod names;
mod scan;
pub mod shim;

pub use config::{LogConfig, TargetCompression};
