//! What the broker asks of the shell: answer a request, flush a log, read cold data, call back at a time.
//! Each effect may be performed the moment it is pushed; the broker never relies on their order.

use std::sync::Arc;

use bytes::Bytes;
use ottla_metadata::Image;
use ottla_metadata::config::BrokerConfig;
use ottla_protocol::{Chain, Uuid};
use ottla_storage::{FlushDone, FlushJob, WriteBack};

use crate::api::fetch::PendingFetch;
use crate::call::Deferred;
use crate::coordination::MarkerWrite;
use crate::partition::Partition;
use crate::peers::Outgoing;
use crate::quorum::{Cleaning, ParkedFetch, PersistJob, SnapshotJob, SnapshotRead};
use crate::store::Birth;
use crate::upkeep::Chore;

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Names one request among all that are in flight: the loop that owns the connection, the connection (a slab key and the
/// generation that tells a reused key from its predecessor), and the request's position in the connection's pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Index of the loop that owns the connection.
    pub shard: u16,
    /// Slab key of the connection within its loop.
    pub connection: u32,
    /// Generation of the slab key.
    pub generation: u32,
    /// Position of the request on its connection, from 0.
    pub slot: u64,
}

/// What goes back for one request.
#[derive(Debug)]
pub enum Response {
    /// The response frame, header included, without its four bytes of size.
    Frame(Chain),
    /// Nothing: the client asked for no acknowledgement (`acks=0`).
    Nothing,
    /// Close the connection: the request can not be answered (an unsupported version, a body that does not parse).
    Close,
}

/// A deed for the shell.
#[derive(Debug)]
pub enum Effect {
    /// Answer the request that `token` names. Every request is answered exactly once.
    Respond {
        /// The request.
        token: Token,
        /// Its answer.
        response: Response,
    },
    /// Call [`crate::Broker::on_deadline`] at `at`, unless the request was answered before.
    Deadline {
        /// The request.
        token: Token,
        /// When.
        at: Millis,
    },
    /// Hand over no further request of this connection before [`Effect::Resume`]: this one has to wait for the disk, and those behind it
    /// must not overtake it. Pushed only while the connection's own request is handled.
    Hold {
        /// The request.
        token: Token,
    },
    /// Hand over requests of this connection again.
    Resume {
        /// The request that held it.
        token: Token,
    },
    /// Hand over no further request of this connection before `until`: its client used more than its quota. What is under way is answered.
    Mute {
        /// A request of the connection.
        token: Token,
        /// When it may go on.
        until: Millis,
    },
    /// Run the task on a disk thread, then hand the outcome to [`crate::Broker::on_flushed`].
    Flush(FlushTask),
    /// Run this on a background thread; it has no outcome.
    WriteBack(WriteBack),
    /// Run [`crate::Broker::on_read`] with this task on a reader thread.
    Read(ReadTask),
    /// Run [`crate::Broker::on_chore`] with this chore on a background thread, which may take minutes.
    Chore(Chore),
    /// Call [`crate::Broker::on_tick`] no later than `at`. Only the earliest need be remembered: every call asks for the next one.
    Tick {
        /// When.
        at: Millis,
    },
    /// What was set for this node while it runs changed: the shell acts on what concerns it, such as limits of connections.
    Reconfigure(Arc<BrokerConfig>),
    /// Send a request to another node, and tell [`crate::Broker::on_answer`] exactly once how it ended.
    Send(Outgoing),
    /// A request could not be made: [`crate::Broker::on_answer`] has to hear that there is no answer.
    Unsent {
        /// Its ticket.
        ticket: u64,
    },
    /// Clients are served from now on: connections may be accepted at all listeners.
    Serve,
    /// Nobody needs this node any more: it may stop.
    MayStop,
    /// Print a line for the operator.
    Report(String),
    /// The node can not go on: the reason has to be printed and the process has to end.
    Halt(String),
}

/// Deeds in the order in which they arose.
pub type Effects = Vec<Effect>;

/// Whose log a flush concerns.
#[derive(Debug, Clone)]
pub(crate) enum FlushTarget {
    Partition(Arc<Partition>),
    Metadata,
}

/// Files that have to reach the disk.
#[derive(Debug)]
pub struct FlushTask {
    pub(crate) target: FlushTarget,
    /// The directory is new: it has to be durable before anything in it is.
    pub(crate) birth: Option<Arc<Birth>>,
    pub(crate) job: FlushJob,
    /// Nobody asked for it but the time.
    pub(crate) was_due: bool,
}

impl FlushTask {
    /// Waits for the disk. Holds no lock.
    pub fn run(self) -> FlushOutcome {
        let born = self.birth.map_or(Ok(()), |birth| birth.complete());
        let done = match born {
            Ok(()) => self.job.run(),
            Err(error) => self.job.give_up(error),
        };
        FlushOutcome { target: self.target, done, was_due: self.was_due }
    }
}

/// How a flush ended.
#[derive(Debug)]
pub struct FlushOutcome {
    pub(crate) target: FlushTarget,
    pub(crate) done: FlushDone,
    pub(crate) was_due: bool,
}

/// Work that waits for the disk to be read.
#[derive(Debug)]
pub enum ReadTask {
    /// A fetch of records that are not in memory.
    Fetch(Arc<PendingFetch>),
    /// A request whose handler looks into files.
    Request(Deferred),
    /// A request that changes logs which have to be opened first; its connection is on hold meanwhile.
    InOrder(Deferred),
    /// A transaction marker for a log that has to be opened first.
    Marker(Box<MarkerWrite>),
    /// The checkpoints are due.
    Checkpoint,
    /// The cluster is known: directories are held against it, and logs recovered.
    TakeUp(Box<Image>),
    /// What changed between two images is acted upon, which means to load coordinators.
    Apply(Box<(Image, Image)>),
    /// What the node must not forget of elections.
    Persist(Box<PersistJob>),
    /// A fetch of the metadata log by another node, of records that are not in memory.
    MetadataFetch(Box<ParkedFetch>),
    /// A part of a snapshot of the metadata, for another node.
    SnapshotRead(Box<SnapshotRead>),
    /// A part of a snapshot of the metadata came.
    SnapshotArrived {
        /// Raft's number of the request.
        request: u64,
        /// The answer's body.
        body: Option<Bytes>,
        /// Its version.
        version: i16,
    },
    /// The metadata log has to be cut off.
    DivergenceArrived {
        /// Raft's number of the request.
        request: u64,
        /// The answer's body.
        body: Option<Bytes>,
        /// Its version.
        version: i16,
    },
    /// Logs have to be opened before they can follow that leader.
    ReplicaFetch {
        /// The leader's node id.
        leader: i32,
    },
    /// A leader answered the fetch of its followers on this node.
    ReplicaFetched {
        /// The leader's node id.
        leader: i32,
        /// The answer's body.
        body: Option<Bytes>,
        /// Its version.
        version: i16,
    },
    /// A leader said where its log begins.
    LeaderStart {
        /// The leader's node id.
        leader: i32,
        /// The epoch in which it was asked.
        leader_epoch: i32,
        /// The partition: its topic's id, and its index.
        key: (Uuid, i32),
        /// The answer's body.
        body: Option<Bytes>,
        /// Its version.
        version: i16,
    },
    /// A snapshot of the metadata.
    Snapshot(Box<SnapshotJob>),
    /// Snapshots, and the metadata log before them, that newer snapshots stand for.
    Clean(Box<Cleaning>),
    /// Partitions were deleted: that their names are free has to be durable.
    Forget,
    /// A log failed for want of something, and has to be opened anew.
    Reopen(Arc<Partition>),
}
