//! One node as a deterministic object: requests and completions go in, [`Effect`]s come out.
//!
//! [`Broker`] is shared by all loops of the shell. Everything it does is synchronous: no handler waits, none starts a thread, none
//! looks at a clock. What has to wait (a flush, a cold read, a deadline) leaves as an effect and comes back as a call. The same object
//! runs in the simulator, where the effects are performed on a simulated disk and clock.
//!
//! Locks, from the outermost: the quorum, a group coordinator, a deletion that waits, a partition, the purgatory. None is held while another thread is
//! waited for, and waiters are woken outside all of them.

mod api;
mod apply;
mod call;
mod checkpoints;
mod config_rules;
mod connection;
mod coordination;
mod crew;
mod effect;
mod format;
mod forward;
mod lifecycle;
mod log_dirs;
mod loggers;
mod moves;
mod node;
mod open;
mod open_files;
mod partition;
mod peers;
mod permissions;
mod producer_ids;
mod purgatory;
mod quorum;
mod quotas;
mod replication;
mod sessions;
mod store;
/// What a partition decides about its replicas, without its log: for models of replication.
#[cfg(feature = "mutations")]
pub mod replicas {
    pub use crate::partition::agreement::{
        check_epoch, common_end, fits, followed_high_watermark, follows_in, is_diverging, is_receipt,
        is_receipted, own_end,
    };
    pub use crate::partition::guard::ReplicaGuard;
    pub use crate::partition::leading::{FollowerFetch, Leading, Proposal};
    pub use crate::replication::was_refused;
}
mod telemetry;
mod topics;
mod upkeep;

pub use api::SERVED;
pub use api::produce::Gather;
pub use connection::Connection;
pub use crew::{Alone, Crew, Job};
pub use effect::{Effect, Effects, FlushOutcome, FlushTask, Millis, ReadTask, Response, Token};
pub use format::{FirstCheckpoint, InitialController, format};
pub use loggers::{LogLevel, Loggers};
pub use node::Broker;
pub use open::{NodeConfig, OpenError};
pub use ottla_controller::{bootstrap_records, scram_credential};
pub use peers::{Lane, Outgoing, Peer};
pub use upkeep::Chore;
