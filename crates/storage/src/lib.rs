//! One partition's log over a Disk: batches, segments, indexes, leader epochs, producer state, recovery.

pub mod disk;
