//! Names and positions: who a replica is, where a log ends, and what is remembered over restarts.

/// A replica: a node and the disk that it votes with. A node whose disk was wiped is another replica, so that it can
/// not vote twice (KIP-853).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// Node id.
    pub id: i32,
    /// `directory.id` of its metadata log directory; all zero if not known.
    pub directory_id: [u8; 16],
}

impl ReplicaKey {
    /// Whether its directory is known.
    pub fn is_complete(&self) -> bool {
        self.directory_id != [0; 16]
    }

    /// Whether `other` is the replica that is meant here: the same node, and the same disk unless none is named.
    pub fn covers(&self, other: &ReplicaKey) -> bool {
        self.id == other.id && (!self.is_complete() || self.directory_id == other.directory_id)
    }
}

/// A position in a log: an end, exclusive, and the epoch of the record before it. It names a snapshot of everything
/// before it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OffsetAndEpoch {
    /// Offset, exclusive.
    pub offset: i64,
    /// Quorum epoch.
    pub epoch: i32,
}

impl OffsetAndEpoch {
    /// Whether a log that ends here has everything that one has that ends at `other`, as far as elections know: the
    /// later epoch decides, then the longer log.
    pub fn is_up_to_date_with(&self, other: &OffsetAndEpoch) -> bool {
        (self.epoch, self.offset) >= (other.epoch, other.offset)
    }
}

/// What is remembered over restarts (the file `quorum-state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct QuorumState {
    /// The newest epoch that this node has seen.
    pub epoch: i32,
    /// The leader of that epoch, if known.
    pub leader: Option<i32>,
    /// Whom this node voted for in that epoch.
    pub voted: Option<ReplicaKey>,
}

/// What the state machine asks about the log; it never writes to it, but by effects.
pub trait EpochLog {
    /// Offset that the next record will get.
    fn log_end_offset(&self) -> i64;
    /// First offset that can still be read: 0, or the end of a snapshot.
    fn log_start_offset(&self) -> i64;
    /// Epoch of the last record, or of the snapshot that an empty log starts at; 0 if there was never a record.
    fn last_epoch(&self) -> i32;
    /// The largest epoch that has records (or is that of the snapshot at the start) and is not beyond `epoch`, with the
    /// end of its records; `(start, 0)` of the log if there is none.
    fn end_offset_for_epoch(&self, epoch: i32) -> OffsetAndEpoch;
    /// The newest snapshot that can be given away.
    fn latest_snapshot(&self) -> Option<OffsetAndEpoch> {
        None
    }
    /// The oldest snapshot: the one at the start of the log, once a beginning of the log was deleted.
    fn earliest_snapshot(&self) -> Option<OffsetAndEpoch> {
        None
    }
    /// Whether there is this snapshot.
    fn has_snapshot(&self, id: OffsetAndEpoch) -> bool {
        self.latest_snapshot() == Some(id) || self.earliest_snapshot() == Some(id)
    }
}
