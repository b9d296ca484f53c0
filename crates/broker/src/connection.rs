//! What the broker knows about one client connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One accepted connection, created by the shell and lent to every [`crate::Broker::on_frame`].
#[derive(Debug, Clone)]
pub struct Connection {
    /// Name of the listener that accepted it, as configured (`PLAINTEXT`, `CONTROLLER`, ...).
    pub listener: Arc<str>,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// Who is on the other side, as `User:name`; `None` where nobody was authenticated, as on every PLAINTEXT listener.
    pub principal: Option<Arc<str>>,
    /// Client library and version as told by ApiVersions v3+ (KIP-511), for operators' eyes only.
    pub software: Option<(String, String)>,
    /// The round of gathering in which it last asked for an append.
    pub(crate) gathered_in: Option<u64>,
}

impl Connection {
    /// A fresh connection.
    pub fn new(listener: Arc<str>, peer: SocketAddr) -> Self {
        Connection { listener, peer, principal: None, software: None, gathered_in: None }
    }

    /// The peer as group descriptions show it: `/` and the address (Kafka: `InetAddress.toString`).
    pub fn client_host(&self) -> String {
        match self.peer.ip() {
            IpAddr::V4(v4) => format!("/{v4}"),
            IpAddr::V6(v6) => format!("/{v6}"),
        }
    }
}
