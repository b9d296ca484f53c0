//! Requests of this node to other nodes: where they go, and what waits for their answers.
//!
//! The one tricky idea: a connection answers in order, so whatever may wait at the other end (a fetch) has a connection of its own, a
//! [`Lane`]. The shell keeps one connection for each [`Peer`], connects when there is something to send, and tells exactly once how each
//! request ended, with an answer or without.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::{ApiKey, Chain, Message, Reader, Request, Writer};

use crate::call::Deferred;
use crate::coordination::{self, MarkerLetter};
use crate::effect::{Effect, Effects, Millis};
use crate::lifecycle::HeartbeatSaid;
use crate::replication::PartitionKey;
use crate::sessions::lock;

/// What a connection to another node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Elections and the like: answered at once.
    Quorum,
    /// Fetches of the metadata log and of snapshots, which wait for news.
    Metadata,
    /// What brokers tell the active controller, and what they forward to it: answered when it is committed.
    Controller,
    /// Heartbeats, which must not wait behind anything.
    Heartbeat,
    /// Fetches of data from a leader, which wait for news.
    Replication,
    /// Ends of transactions, answered when they are committed.
    Markers,
    /// Questions to transaction coordinators, answered when what they changed is committed.
    Transactions,
}

/// One connection: an address, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Host name or address.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
    /// Purpose.
    pub lane: Lane,
}

/// A request to another node.
#[derive(Debug)]
pub struct Outgoing {
    /// Where it goes.
    pub to: Peer,
    /// Names the request; [`crate::Broker::on_answer`] brings it back, exactly once.
    pub ticket: u64,
    /// The frame, without its four bytes of size. Its correlation id is that of the answer.
    pub frame: Chain,
    /// The correlation id of the frame.
    pub correlation_id: i32,
    /// How long an answer is waited for.
    pub timeout_ms: Millis,
}

/// What an answer is for.
#[derive(Debug)]
pub(crate) enum Awaited {
    Vote {
        from: i32,
    },
    BeginQuorumEpoch {
        from: i32,
    },
    EndQuorumEpoch {
        from: i32,
    },
    /// A fetch of the metadata log.
    Fetch {
        request: u64,
    },
    FetchSnapshot {
        request: u64,
    },
    ApiVersions {
        request: u64,
    },
    /// Nobody looks at it.
    Nothing,
    UpdateVoter,
    Registration,
    Heartbeat {
        said: HeartbeatSaid,
    },
    ControllerRegistration,
    ProducerIds(Option<Deferred>),
    /// Topics that a request needs.
    Creation(Deferred),
    /// Records for the followers on this node.
    ReplicaFetch {
        leader: i32,
    },
    /// Where a leader's log begins.
    LeaderStart {
        leader: i32,
        leader_epoch: i32,
        key: PartitionKey,
    },
    /// Changes of ISRs.
    Isr,
    /// Ends of transactions in partitions that another broker leads.
    Markers {
        broker: i32,
        letters: Vec<MarkerLetter>,
    },
    /// Questions to the transaction coordinators of another broker.
    Admissions {
        broker: i32,
        asks: Vec<Arc<coordination::Ask>>,
    },
    /// In which directories replicas are.
    Directories,
    /// A request of a client.
    Forwarded(Box<Forwarded>),
}

/// A client's request that the active controller has to handle.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub request: Deferred,
    /// When it is given up.
    pub deadline: Millis,
}

/// The requests that are under way.
#[derive(Debug)]
pub(crate) struct Peers {
    /// The name under which this node asks.
    client_id: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ticket_last: u64,
    awaited: BTreeMap<u64, (ApiKey, i16, Awaited)>,
}

impl Peers {
    pub fn new(node_id: i32) -> Self {
        Peers { client_id: format!("node-{node_id}"), state: Mutex::default() }
    }

    /// Sends a request. One that can not be expressed is our own mistake: it is reported, and counts as not answered.
    pub fn send<'m, R: Request<'m>>(
        &self,
        to: Peer,
        (request, version): (&R, i16),
        awaited: Awaited,
        timeout_ms: Millis,
        out: &mut Effects,
    ) {
        let mut state = lock(&self.state);
        state.ticket_last += 1;
        let ticket = state.ticket_last;
        let correlation_id = (ticket & 0x7fff_ffff) as i32;
        let header = RequestHeader {
            request_api_key: R::KEY as i16,
            request_api_version: version,
            correlation_id,
            client_id: Some(self.client_id.as_str().into()),
        };
        let mut writer = Writer::new();
        let encoded = header
            .encode(&mut writer, R::KEY.request_header_version(version))
            .and_then(|()| request.encode(&mut writer, version));
        state.awaited.insert(ticket, (R::KEY, version, awaited));
        match encoded {
            Ok(()) => {
                let frame = writer.finish();
                out.push(Effect::Send(Outgoing { to, ticket, frame, correlation_id, timeout_ms }));
            }
            Err(error) => {
                out.push(Effect::Report(format!("{} v{version}: {error}", R::NAME)));
                out.push(Effect::Unsent { ticket });
            }
        }
    }

    /// What waits for the answer with that ticket: it, the version of the answer, and the body of the answer if there is one that begins
    /// as it should.
    pub fn take(&self, ticket: u64, answer: Option<Bytes>) -> Option<(Awaited, i16, Option<Bytes>)> {
        let (key, version, awaited) = lock(&self.state).awaited.remove(&ticket)?;
        let body = answer.and_then(|frame| {
            let mut reader = Reader::new(&frame);
            let correlation_id = reader.i32().ok()?;
            if key.response_header_version(version) >= 1 {
                reader.skip_tags().ok()?;
            }
            let at = frame.len() - reader.rest().len();
            (correlation_id == (ticket & 0x7fff_ffff) as i32).then(|| frame.slice(at..))
        });
        Some((awaited, version, body))
    }
}

/// The host and port of a listener of a node, as a connection for that purpose.
pub(crate) fn peer(host: &str, port: u16, lane: Lane) -> Peer {
    Peer { host: host.into(), port, lane }
}
