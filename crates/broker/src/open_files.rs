//! Letting go of files: there may be more logs than files that a process can have open.
//!
//! The one tricky idea: loops take no part. While too many files are open, a log that has none counts as not at hand, so that the request
//! goes to a thread that may wait, and that thread has others let go before it opens anything. Who lets go is found by a clock: a hand
//! goes around the partitions, passes those that were used since it came by last, and counts them as unused until it comes by again. When
//! all of them were used the request goes on without: the limit has room above it for that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::effect::{Effects, Millis};
use crate::node::Broker;
use crate::partition::Partition;

/// How many files are closed beyond those that are needed: one tour of the hand serves many requests.
const SPARE_FILES: usize = 64;
/// Files that a log opens when it is written to or read: the segment, its indexes, and whose it is when it is new.
const FILES_PER_LOG: usize = 4;

impl Broker {
    /// Has logs let go of their files until that many others can open theirs, or all were asked once. Waits for the disk.
    pub(crate) fn make_room_for_logs(&self, logs: usize, now: Millis, out: &mut Effects) {
        let wanted = FILES_PER_LOG * logs;
        if self.store().open_files_beyond(wanted) == 0 {
            return;
        }
        let topics = self.topics();
        let partitions: Vec<&Arc<Partition>> = topics.iter().flat_map(|topic| &topic.partitions).collect();
        for _ in 0..partitions.len() {
            let at = self.store().clock_hand.fetch_add(1, Ordering::Relaxed) % partitions.len();
            if let Some(flushed) = partitions[at].let_go() {
                self.on_flushed(flushed, now, out);
                partitions[at].let_go_if_flushed();
            }
            if self.store().open_files_beyond(wanted + SPARE_FILES) == 0 {
                return;
            }
        }
    }
}
