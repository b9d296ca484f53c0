//! The names of files in a partition's directory, Kafka's exactly (`LogFileUtils`, `Snapshots`).
//!
//! The one tricky idea: an offset in a name is twenty decimal digits, so that names sort as offsets do.

use std::path::{Path, PathBuf};

/// Records.
pub const LOG: &str = "log";
/// Offset to position.
pub const OFFSET_INDEX: &str = "index";
/// Timestamp to offset.
pub const TIME_INDEX: &str = "timeindex";
/// Aborted transactions.
pub const TXN_INDEX: &str = "txnindex";
/// Producer state as of the offset in the name.
pub const PRODUCER_SNAPSHOT: &str = "snapshot";
/// Marks a file that waits for its removal.
pub const DELETED: &str = ".deleted";
/// Marks a file that compaction is still writing.
pub const CLEANED: &str = ".cleaned";
/// Marks a file that compaction is moving into place.
pub const SWAP: &str = ".swap";
/// Leader epochs and their first offsets.
pub const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
/// The topic's id.
pub const PARTITION_METADATA: &str = "partition.metadata";

/// The extensions of a segment's files, the log first.
pub const SEGMENT_EXTENSIONS: [&str; 4] = [LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX];

/// The path of a segment's file: twenty digits of base offset and an extension.
pub fn segment_path(dir: &Path, base_offset: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base_offset:020}.{extension}"))
}

/// Splits `00000000000000000042.log` into 42 and `log`. Anything else (other shapes, other suffixes) is `None`.
pub fn parse_segment_name(name: &str) -> Option<(i64, &str)> {
    let (digits, extension) = name.split_once('.')?;
    Some((parse_digits(digits, 20)?, extension))
}

fn parse_digits(digits: &str, count: usize) -> Option<i64> {
    if digits.len() != count || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// What a `.checkpoint` file of the metadata log covers: every record below `end_offset`, the last of which has `leader_epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// Exclusive end.
    pub end_offset: i64,
    /// Epoch of the last record below it.
    pub leader_epoch: i32,
}

/// How far a metadata snapshot file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotState {
    /// `.checkpoint`: complete.
    Complete,
    /// `.checkpoint.part`: being written.
    Partial,
    /// `.checkpoint.deleted`: waiting for removal.
    Deleted,
}

impl SnapshotId {
    /// The file's name in that state: `%020d-%010d.checkpoint` and a suffix.
    pub fn file_name(self, state: SnapshotState) -> String {
        let suffix = match state {
            SnapshotState::Complete => "",
            SnapshotState::Partial => ".part",
            SnapshotState::Deleted => ".deleted",
        };
        format!("{:020}-{:010}.checkpoint{suffix}", self.end_offset, self.leader_epoch)
    }

    /// Reads a name back. Kafka puts a random number between `.checkpoint` and `.part`; it is skipped.
    pub fn parse(name: &str) -> Option<(SnapshotId, SnapshotState)> {
        let (id, suffix) = name.split_once(".checkpoint")?;
        let (end_offset, leader_epoch) = id.split_once('-')?;
        let id = SnapshotId {
            end_offset: parse_digits(end_offset, 20)?,
            leader_epoch: i32::try_from(parse_digits(leader_epoch, 10)?).ok()?,
        };
        let state = match suffix {
            "" => SnapshotState::Complete,
            ".deleted" => SnapshotState::Deleted,
            part if part.ends_with(".part") => SnapshotState::Partial,
            _ => return None,
        };
        Some((id, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        let path = segment_path(Path::new("/data/t-0"), 42, LOG);
        assert_eq!(path, Path::new("/data/t-0/00000000000000000042.log"));
        assert_eq!(parse_segment_name("00000000000000000042.log"), Some((42, "log")));
        assert_eq!(parse_segment_name("00000000000000000042.index.deleted"), Some((42, "index.deleted")));
        for foreign in ["42.log", "leader-epoch-checkpoint", "partition.metadata", "0000000000000000004x.log"]
        {
            assert_eq!(parse_segment_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn metadata_snapshot_names_round_trip() {
        let id = SnapshotId { end_offset: 1234, leader_epoch: 7 };
        assert_eq!(id.file_name(SnapshotState::Complete), "00000000000000001234-0000000007.checkpoint");
        for state in [SnapshotState::Complete, SnapshotState::Partial, SnapshotState::Deleted] {
            assert_eq!(SnapshotId::parse(&id.file_name(state)), Some((id, state)));
        }
        let written_by_kafka = "00000000000000001234-0000000007.checkpoint893745.part";
        assert_eq!(SnapshotId::parse(written_by_kafka), Some((id, SnapshotState::Partial)));
        assert_eq!(SnapshotId::parse("bootstrap.checkpoint"), None);
    }
}
