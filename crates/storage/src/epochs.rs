//! Which leader epoch began where, and the `leader-epoch-checkpoint` that remembers it (`LeaderEpochFileCache`, KIP-101, KIP-279).
//!
//! The one tricky idea: epochs and their first offsets both grow, so "where did epoch N end" is "where did the next one begin". The file
//! is replaced as part of a flush, before records of a new epoch count as synced; what a crash takes from it, recovery reads from the batches.

use std::io;
use std::path::Path;

use crate::dir::{encode_lines, read_lines};
use crate::disk::Disk;
use crate::names::LEADER_EPOCH_CHECKPOINT;

/// The first offset that was (or would have been) appended under an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochEntry {
    /// The leader epoch.
    pub leader_epoch: i32,
    /// Its first offset.
    pub start_offset: i64,
}

/// All epochs that have records in the log, oldest first.
#[derive(Debug, Clone, Default)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
    /// Whether the file does not say so yet.
    dirty: bool,
}

impl LeaderEpochs {
    /// Reads the file; `None` if it is damaged. A missing file is an empty one.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<LeaderEpochs>> {
        let lines = read_lines(disk, &dir.join(LEADER_EPOCH_CHECKPOINT), |line| {
            let (epoch, offset) = line.split_once(' ')?;
            Some(EpochEntry { leader_epoch: epoch.parse().ok()?, start_offset: offset.trim().parse().ok()? })
        });
        match lines {
            Ok(lines) => {
                let mut epochs = LeaderEpochs::default();
                for entry in lines {
                    if entry.leader_epoch < 0 || entry.start_offset < 0 {
                        return Ok(None);
                    }
                    epochs.assign(entry.leader_epoch, entry.start_offset);
                }
                epochs.dirty = false;
                Ok(Some(epochs))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of the file, if it has to be replaced; it is believed to be replaced then.
    pub(crate) fn take_dirty(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.dirty).then(|| {
            let lines = self.entries.iter();
            encode_lines(lines.map(|entry| format!("{} {}", entry.leader_epoch, entry.start_offset)))
                .into_bytes()
        })
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(crate) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// All of them, oldest first.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The last of them.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Notes that records of an epoch begin at an offset. Entries that contradict it (epochs or offsets that are not smaller) go.
    pub fn assign(&mut self, leader_epoch: i32, start_offset: i64) {
        assert!(leader_epoch >= 0 && start_offset >= 0, "epoch {leader_epoch} at {start_offset}");
        if let Some(latest) = self.entries.last()
            && latest.leader_epoch == leader_epoch
            && latest.start_offset <= start_offset
        {
            return;
        }
        while let Some(latest) = self.entries.last()
            && (latest.leader_epoch >= leader_epoch || latest.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { leader_epoch, start_offset });
        self.dirty = true;
    }

    /// The largest known epoch that is not above the one asked for, and where it ends. `None`: nothing is known of it.
    pub fn end_offset_for(&self, leader_epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let latest = self.entries.last()?;
        if leader_epoch < 0 || leader_epoch > latest.leader_epoch {
            return None;
        }
        if leader_epoch == latest.leader_epoch {
            return Some((leader_epoch, log_end_offset));
        }
        let next = self.entries.partition_point(|entry| entry.leader_epoch <= leader_epoch);
        let end_offset = self.entries[next].start_offset;
        // An epoch before all that are left: its records are gone, so it "ends" where the log begins.
        let found = next.checked_sub(1).map_or(leader_epoch, |floor| self.entries[floor].leader_epoch);
        Some((found, end_offset))
    }

    /// The epoch under which the record at an offset was appended.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        let count = self.entries.partition_point(|entry| entry.start_offset <= offset);
        count.checked_sub(1).map(|last| self.entries[last].leader_epoch)
    }

    /// The log now ends at `end_offset`.
    pub fn truncate_from_end(&mut self, end_offset: i64) {
        let count = self.entries.partition_point(|entry| entry.start_offset < end_offset);
        self.dirty |= count < self.entries.len();
        self.entries.truncate(count);
    }

    /// The log now begins at `start_offset`: the epoch that is in force there begins there.
    pub(crate) fn truncate_from_start(&mut self, start_offset: i64) {
        let count = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(last) = count.checked_sub(1) else { return };
        if last == 0 && self.entries[0].start_offset == start_offset {
            return;
        }
        self.entries.drain(..last);
        self.entries[0].start_offset = start_offset;
        self.dirty = true;
    }

    pub(crate) fn clear(&mut self) {
        self.dirty |= !self.entries.is_empty();
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{SimDisk, write_atomic};

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, offset) in entries {
            epochs.assign(*epoch, *offset);
        }
        epochs
    }

    fn check(epochs: &LeaderEpochs, expected: &[(i32, i64)]) {
        let found: Vec<_> =
            epochs.entries().iter().map(|entry| (entry.leader_epoch, entry.start_offset)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn entries_grow_in_both_columns() {
        check(&epochs(&[(0, 0), (0, 5), (2, 10), (2, 12)]), &[(0, 0), (2, 10)]);
        check(&epochs(&[(1, 10), (2, 20), (3, 10)]), &[(3, 10)]);
        check(&epochs(&[(1, 0), (5, 20), (3, 30)]), &[(1, 0), (3, 30)]);
    }

    #[test]
    fn ends_of_epochs() {
        let epochs = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let end = |epoch| epochs.end_offset_for(epoch, 99);
        assert_eq!(end(7), Some((7, 99)));
        assert_eq!(end(4), Some((4, 30)));
        assert_eq!(end(5), Some((4, 30)));
        assert_eq!(end(3), Some((2, 20)));
        assert_eq!(end(1), Some((1, 10)));
        assert_eq!(end(8), None);
        assert_eq!(end(-1), None);
        assert_eq!(LeaderEpochs::default().end_offset_for(0, 5), None);
        assert_eq!((epochs.epoch_at(9), epochs.epoch_at(10), epochs.epoch_at(29)), (None, Some(2), Some(4)));
    }

    #[test]
    fn truncation_at_both_ends() {
        let all = [(2, 10), (4, 20), (7, 30)];
        let truncated = |at, end| {
            let mut epochs = epochs(&all);
            if end {
                epochs.truncate_from_end(at)
            } else {
                epochs.truncate_from_start(at)
            }
            epochs
        };
        check(&truncated(30, true), &[(2, 10), (4, 20)]);
        check(&truncated(31, true), &all);
        check(&truncated(0, true), &[]);
        check(&truncated(5, false), &all);
        check(&truncated(25, false), &[(4, 25), (7, 30)]);
        check(&truncated(30, false), &[(7, 30)]);
        check(&truncated(99, false), &[(7, 99)]);
    }

    #[test]
    fn the_file_is_kafkas_and_damage_is_seen() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/");
        let path = Path::new("/leader-epoch-checkpoint");
        let mut written = epochs(&[(0, 0), (3, 17)]);
        let bytes = written.take_dirty().unwrap();
        assert_eq!(bytes, b"0\n2\n0 0\n3 17\n");
        assert!(written.take_dirty().is_none());
        write_atomic(&disk, path, &bytes).unwrap();
        check(&LeaderEpochs::read(&disk, dir).unwrap().unwrap(), &[(0, 0), (3, 17)]);
        write_atomic(&disk, path, b"0\n1\n0\n").unwrap();
        assert!(LeaderEpochs::read(&disk, dir).unwrap().is_none());
    }
}
