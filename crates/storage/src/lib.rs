//! One partition's log over a [`disk::Disk`]: batches, segments, indexes, leader epochs, producer state, recovery; and the log
//! directory that holds it. Names and bytes are Kafka's.
//!
//! Reading order: [`disk`] (what a disk promises), `segment`, `log` (append, read, flush), `log/recover`, [`dir`].

mod compact;
mod config;
pub mod dir;
pub mod disk;
mod epochs;
mod error;
mod flush;
mod index;
mod log;
mod meaning;
pub mod names;
mod place;
mod producer;
mod read;
mod scan;
mod segment;
mod tail;
mod validate;
mod write_back;

pub use compact::{
    CleanedSegment, Compaction, CompactionError, CompactionMemory, CompactionStats, HashSecret, Pace,
};
pub use config::{CompactionRules, LogConfig, RetentionRules, TargetCompression};
pub use dir::{
    Checkpoint, CleanShutdown, LOCK, LogDir, LogDirError, MetaProperties, MetaPropertiesError, PartitionDir,
    PartitionDirKind, PartitionName, QuorumState, SnapshotWriter, list_snapshots, open_snapshot,
    read_partition_metadata, remove_partial_snapshots, remove_snapshot, write_partition_metadata,
};
pub use disk::{Disk, DiskCounters, File, Lock, OpenFiles, OpenMode, SimDisk, Usage};
pub use epochs::EpochEntry;
#[cfg(feature = "mutations")]
pub use epochs::LeaderEpochs;
pub use error::{AppendError, ReadError, StorageError};
pub use flush::{CloseSync, FlushDone, FlushJob};
pub use index::{AbortedTxn, TimestampOffset};
pub use log::{
    AppendInfo, DeleteJob, Dirt, FoundOffset, LoadJob, Loaded, Log, Looked, Lookup, LookupJob, OpenHints,
    RecoveryReport, SurveyDone, SurveyJob, Surveyed, SwapDone, SwapJob, Swapped,
};
pub use meaning::{Meaning, unsynced};
pub use names::{SnapshotId, SnapshotState};
pub use producer::{Admission, AppendOrigin, ProducerSummary};
#[cfg(feature = "mutations")]
pub use producer::{ModelAppend, ModelBatch, ModelLog, NamedGuard as LogGuard, NamedGuards as LogGuards};
pub use read::{ReadJob, Slice};
pub use tail::TailBudget;
pub use write_back::WriteBack;
