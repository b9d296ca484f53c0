//! How other threads reach a loop: messages in a vector behind a mutex, and one wake-up.
//!
//! The tricky idea: only the message that makes an empty inbox non-empty wakes the loop, which then takes everything at once; a
//! burst of answers costs one wake-up.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use ottla_broker::{Millis, Outgoing, Response, Token};
use tokio::sync::Notify;

use super::admission::Permit;
use super::slab::Key;

/// What a loop can be told.
#[derive(Debug)]
pub enum Message {
    /// A connection is yours.
    Accepted {
        /// The socket, non-blocking.
        stream: TcpStream,
        /// Its peer.
        peer: SocketAddr,
        /// The listener that accepted it.
        listener: Arc<str>,
    },
    /// A request of one of your connections is answered.
    Respond {
        /// The request.
        token: Token,
        /// The answer.
        response: Response,
    },
    /// A request of one of your connections has a deadline.
    Deadline {
        /// The request.
        token: Token,
        /// When.
        at: Millis,
    },
    /// Requests of a connection may be handled again.
    Resume {
        /// The request that had put it on hold.
        token: Token,
    },
    /// Requests of a connection may not be handled for a while.
    Mute {
        /// A request of the connection.
        token: Token,
        /// When it may go on.
        until: Millis,
    },
    /// A piece of a file, for one of your connections to send; `None`: it could not be read.
    Piece {
        /// The connection.
        key: Key,
        /// The bytes and the memory they occupy.
        piece: Option<(Bytes, Permit)>,
    },
    /// The node's next tick has moved forward; only loop 0 is told.
    Tick,
    /// Send a request to another node.
    Send(Outgoing),
    /// Accept connections at all listeners; only loop 0 is told.
    Serve,
    /// So many connections of clients are too many: close those that were idle the longest.
    Shed(usize),
    /// Accept no connection and read no request any more.
    Stop,
    /// Tell how many connections have something to send.
    CountUnsent(mpsc::Sender<usize>),
    /// Drop everything and end.
    End,
}

/// The messages of one loop.
#[derive(Debug, Default)]
pub struct Inbox {
    messages: Mutex<Vec<Message>>,
    arrived: Notify,
}

impl Inbox {
    /// Leaves a message.
    pub fn post(&self, message: Message) {
        self.post_all([message]);
    }

    /// Leaves messages.
    pub fn post_all(&self, new: impl IntoIterator<Item = Message>) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = messages.is_empty();
        messages.extend(new);
        let wakes = was_empty && !messages.is_empty();
        drop(messages);
        if wakes {
            self.arrived.notify_one();
        }
    }

    /// Waits for messages and moves all of them into `batch`, which has to be empty.
    pub async fn take(&self, batch: &mut Vec<Message>) {
        assert!(batch.is_empty(), "the batch before was worked through");
        loop {
            std::mem::swap(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner), batch);
            if !batch.is_empty() {
                return;
            }
            self.arrived.notified().await;
        }
    }
}
