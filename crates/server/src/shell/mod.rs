//! The waiting half of the node: loops, connections, disk threads, timers. It moves frames and effects and knows nothing of Kafka.
//!
//! ```text
//!   acceptor ──► loop 0 .. n   one thread each; a connection stays on its loop for life
//!                  │  frame                         ▲ answers for other loops: their inbox
//!                  ▼                                │
//!                Broker::on_frame ──► effects ──────┼──► flush threads ──► Broker::on_flushed ──► effects
//!                                                   └──► reader threads ─► Broker::on_read, pieces of files
//! ```
//!
//! The tricky idea: the broker runs on the thread that read the request (no hand-over), and an idle node does nothing at all: every
//! loop sleeps in `epoll_wait`, every disk thread on its queue, and there is no periodic tick.

mod acceptor;
mod admission;
mod census;
mod connection;
mod event_loop;
mod frames;
mod inbox;
mod line;
mod node;
mod outbox;
mod pace;
mod peers;
mod pieces;
mod pipeline;
mod pool;
mod slab;
mod slots;
mod timers;
mod turnstile;

use std::net::TcpListener;
use std::sync::Arc;

pub use census::ConnectionLimits;
pub use node::{Node, NodeThreads};

/// A socket that listens already, though nobody accepts from it before the node is ready.
#[derive(Debug)]
pub struct Listening {
    /// The listener's name, as configured.
    pub name: Arc<str>,
    /// The socket.
    pub socket: TcpListener,
}

/// Every bound of the shell, resolved from the configuration.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Loops (`ottla.threads`; by default one per core).
    pub loops: usize,
    /// Largest request (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Memory for requests that are being received (`queued.max.request.bytes`; by default 256 MiB).
    pub request_memory_bytes: usize,
    /// Memory for pieces of files on their way into sockets.
    pub response_memory_bytes: usize,
    /// Who may connect.
    pub connections: ConnectionLimits,
    /// After how long an idle connection is closed (`connections.max.idle.ms`); `None`: never.
    pub idle_ms_max: Option<i64>,
    /// `SO_SNDBUF` of accepted connections, if it was asked for (`socket.send.buffer.bytes`).
    pub send_buffer_bytes: Option<usize>,
    /// `SO_RCVBUF` of accepted connections, if it was asked for (`socket.receive.buffer.bytes`).
    pub receive_buffer_bytes: Option<usize>,
    /// Threads that flush.
    pub flush_threads: usize,
    /// Threads that read files.
    pub read_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            loops: 1,
            request_bytes_max: 100 << 20,
            request_memory_bytes: 256 << 20,
            response_memory_bytes: 128 << 20,
            connections: ConnectionLimits::default(),
            idle_ms_max: Some(600_000),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            // File systems with a journal (ext4, XFS) make one commit of the flushes that are under way together.
            flush_threads: 32,
            read_threads: 4,
        }
    }
}
