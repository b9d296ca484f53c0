//! The metadata quorum as this node takes part in it: raft decides what is committed, the metadata log remembers, the controller makes
//! the records.
//!
//! handle → append → replay → respond: a decision's records go to the log and are replayed into the controller at once, so that the
//! next decision builds on them; when raft says that they are committed they are replayed into the image that everybody reads, this
//! node acts on what changed, and only then does the response leave.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use ottla_controller::Controller;
use ottla_metadata::{Delta, Image, Replayer, record_version};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::records::{BatchBuilder, control};
use ottla_protocol::Writer;
use ottla_raft::{Event, Raft};
use ottla_storage::{AppendOrigin, Disk, FlushDone, Log, QuorumState};

use crate::Broker;
use crate::api::Circumstance;
use crate::call::Deferred;
use crate::effect::{Effect, Effects, FlushTarget, FlushTask, Millis};
use crate::sessions::lock;

/// Records in one decision; a larger one is refused (Kafka: `MAX_RECORDS_PER_USER_OP`).
pub(crate) const RECORDS_PER_DECISION_MAX: usize = 10_000;

/// What happens once everything appended so far is committed.
#[derive(Debug)]
pub(crate) enum Then {
    /// These effects are pushed: a response that was encoded when the decision was made.
    Perform(Effects),
    /// A request that needed the change is handled again.
    Again(Deferred),
    /// A block of producer ids may be used, and the request that needed one is handled again.
    ProducerIds(Range<i64>, Deferred),
}

#[derive(Debug)]
pub(crate) struct Quorum {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    raft: Raft,
    log: Log,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    controller: Controller,
    /// The committed image under construction.
    committed: Replayer,
    high_watermark: i64,
    /// Appended and not committed: end offset of each batch, and its records with their offsets.
    uncommitted: VecDeque<(i64, Vec<(i64, MetadataRecord<'static>)>)>,
    /// Who waits for the high watermark to reach an offset, sorted by it.
    waiting: VecDeque<(i64, Then)>,
    flushing: bool,
    /// The log failed: nothing can be decided any more.
    failed: Option<String>,
}
