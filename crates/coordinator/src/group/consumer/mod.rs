//! Consumer groups (KIP-848): the coordinator assigns, members follow at their own pace.
//!
//! Three counters carry everything. The *group epoch* grows when something happened that asks for another assignment: a
//! member came, went or changed its subscription, a topic changed. The *assignment epoch* says for which group epoch the
//! target assignment was computed. Each *member epoch* says how far that member has followed: it may only step up once it
//! gave up what it has to give up, and is given a partition only when nobody else holds it.
//!
//! A heartbeat is one pass over one member, in this order, each step a file of its own:
//!
//! ```text
//! heartbeat.rs   who is it, may it join, what did it change
//! epochs.rs      does the group need another epoch
//! target.rs      may the target assignment be computed, and what is it   (assignor/)
//! reconcile.rs   how far may this member follow it
//! ```
//!
//! Every step looks at the group as it is in the log, and at the one member that the heartbeat is about as it will be
//! ([`draft::Draft`]); what is to change becomes records, and only their replay changes the group. Members that speak the
//! classic protocol may live in the same group (`classic.rs`), and a group changes its kind while it lives (`migrate.rs`).

mod assignor;
mod classic;
mod describe;
mod draft;
mod epochs;
mod fence;
pub(crate) mod group;
mod hash;
mod heartbeat;
pub(crate) mod member;
mod migrate;
mod offsets;
mod reconcile;
pub(crate) mod records;
pub(crate) mod regex;
mod replay;
mod target;

pub use assignor::NAMES as ASSIGNORS;
pub(crate) use hash::TopicHashes;
pub(crate) use migrate::{Downgrade, tombstones};
