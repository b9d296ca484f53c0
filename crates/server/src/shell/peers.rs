//! Connections of this node to other nodes: one for each peer and purpose, made when there is something to send, and made again after a
//! pause when it breaks.
//!
//! The tricky idea: requests are pipelined, and answers come in order, so the request that an answer belongs to is the oldest one under
//! way; its correlation id only proves that nobody is confused. Whatever happens to a connection, every request that was handed over ends
//! exactly once, and in its time: with its answer, or without one (`line`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_broker::{Effects, Lane, Millis, Outgoing, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::event_loop::EventLoop;
use super::line::Line;

/// The first pause after a connection that could not be made or broke (`reconnect.backoff.ms`), and the longest.
const BACKOFF_MS: u64 = 20;
const BACKOFF_MS_MAX: u64 = 500;
/// How long a connection may take to be made (`socket.connection.setup.timeout.ms`). Requests that wait for it have their own time.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The step in which memory for an answer grows with the bytes that arrive.
const ANSWER_STEP_BYTES: usize = 64 * 1024;
/// The longest answer. What clients may ask of this node (`socket.request.max.bytes`) says nothing of it: a fetch brings at least one batch,
/// however long it is.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// The peers of one loop.
#[derive(Debug, Default)]
pub struct Peers {
    connections: RefCell<BTreeMap<Peer, Rc<Connection>>>,
}

/// The connection to a peer, while there is one and while there is none.
#[derive(Debug, Default)]
struct Connection {
    line: RefCell<Line>,
    arrived: Notify,
    /// The line changed: there is another deadline, or room again.
    moved: Notify,
    /// Whether the last connection was of any use.
    was_useful: Cell<bool>,
}

impl Peers {
    /// Hands over a request.
    pub fn send(&self, event_loop: &Rc<EventLoop>, outgoing: Outgoing) {
        let known = self.connections.borrow().get(&outgoing.to).cloned();
        let connection = known.unwrap_or_else(|| {
            let connection = Rc::new(Connection::default());
            self.connections.borrow_mut().insert(outgoing.to.clone(), Rc::clone(&connection));
            let (event_loop, peer) = (Rc::clone(event_loop), outgoing.to.clone());
            spawn_local(expire(Rc::clone(&event_loop), Rc::clone(&connection)));
            spawn_local(keep(event_loop, peer, Rc::clone(&connection)));
            connection
        });
        let pushed = connection.line.borrow_mut().push(outgoing, event_loop.node.clock.now());
        if let Err(ticket) = pushed {
            return answer(event_loop, ticket, None);
        }
        connection.arrived.notify_one();
        connection.moved.notify_waiters();
    }
}

fn answer(event_loop: &EventLoop, ticket: u64, frame: Option<Bytes>) {
    let mut effects = Effects::new();
    event_loop.node.broker.on_answer(ticket, frame, event_loop.node.clock.now(), &mut effects);
    event_loop.node.perform(effects, Some(event_loop));
}

/// The life of the connections to one peer.
async fn keep(event_loop: Rc<EventLoop>, peer: Peer, connection: Rc<Connection>) {
    let mut backoff = BACKOFF_MS;
    loop {
        while connection.line.borrow().is_idle() {
            connection.arrived.notified().await;
        }
        connection.was_useful.set(false);
        let (ended, lost) = match connect(&peer).await {
            Ok(stream) => {
                let ended = exchange(&event_loop, stream, peer.lane, &connection).await;
                (ended, connection.line.borrow_mut().lose())
            }
            Err(error) => (Err(error), connection.line.borrow_mut().abandon()),
        };
        if let Err(error) = ended {
            crate::debug!("{}:{} ({:?}): {error}", peer.host, peer.port, peer.lane);
        }
        lost.into_iter().for_each(|ticket| answer(&event_loop, ticket, None));
        backoff = if connection.was_useful.get() { BACKOFF_MS } else { (backoff * 2).min(BACKOFF_MS_MAX) };
        tokio::time::sleep(Duration::from_millis(backoff)).await;
    }
}

/// Gives requests up when their time is over, whether they could be sent or not: whoever sent them may have something newer to say.
async fn expire(event_loop: Rc<EventLoop>, connection: Rc<Connection>) {
    loop {
        let moved = connection.moved.notified();
        let now = event_loop.node.clock.now();
        let late = connection.line.borrow_mut().expire(now);
        late.into_iter().for_each(|ticket| answer(&event_loop, ticket, None));
        let next = connection.line.borrow().next_request_deadline();
        wait_until(next, now, moved).await;
    }
}

/// Waits for a time, or for `moved`, whichever comes first; the caller looks again.
async fn wait_until(at: Option<Millis>, now: Millis, moved: impl Future<Output = ()>) {
    let Some(at) = at else { return moved.await };
    let wait = Duration::from_millis(u64::try_from(at - now).unwrap_or(0).max(1));
    let _ = tokio::time::timeout(wait, moved).await;
}

async fn connect(peer: &Peer) -> io::Result<TcpStream> {
    let address = (&*peer.host, peer.port);
    let stream = match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends what waits and takes answers, until the connection breaks or the peer is silent for too long.
async fn exchange(
    event_loop: &Rc<EventLoop>,
    mut stream: TcpStream,
    lane: Lane,
    connection: &Connection,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    // What is forwarded has the time that is left of its client's; the controller has its own.
    let patience_ms = match lane {
        Lane::Controller => i64::from(event_loop.node.broker.config().network.request_timeout_ms),
        _ => 0,
    };
    tokio::select! {
        ended = write(event_loop, &mut writer, patience_ms, connection) => ended,
        ended = read(event_loop, &mut reader, connection) => ended,
        () = patience(event_loop, connection) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

async fn write(
    event_loop: &EventLoop,
    writer: &mut WriteHalf<'_>,
    patience_ms: Millis,
    connection: &Connection,
) -> io::Result<()> {
    loop {
        while connection.line.borrow().is_full() {
            connection.moved.notified().await;
        }
        let next = connection.line.borrow_mut().next(patience_ms, event_loop.node.clock.now());
        let Some(outgoing) = next else {
            connection.arrived.notified().await;
            continue;
        };
        connection.moved.notify_waiters();
        // Requests are made in memory.
        let frame = outgoing.frame.read()?;
        let size = i32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        writer.write_all(&size.to_be_bytes()).await?;
        writer.write_all(&frame).await?;
    }
}

async fn read(
    event_loop: &Rc<EventLoop>,
    reader: &mut ReadHalf<'_>,
    connection: &Connection,
) -> io::Result<()> {
    loop {
        let mut size = [0; 4];
        reader.read_exact(&mut size).await?;
        let size = usize::try_from(i32::from_be_bytes(size)).ok().filter(|size| *size <= ANSWER_BYTES_MAX);
        let size = size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an impossible size"))?;
        let mut frame = BytesMut::new();
        while frame.len() < size {
            let left = size - frame.len();
            frame.reserve(left.min(ANSWER_STEP_BYTES.max(frame.len())));
            let taken = (&mut *reader).take(left as u64).read_buf(&mut frame).await?;
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let correlation_id = frame.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        let answered = connection.line.borrow_mut().answered(correlation_id);
        connection.moved.notify_waiters();
        match answered {
            Ok(ticket) => {
                connection.was_useful.set(true);
                if let Some(ticket) = ticket {
                    answer(event_loop, ticket, Some(frame.freeze()));
                }
            }
            Err(ticket) => {
                ticket.into_iter().for_each(|ticket| answer(event_loop, ticket, None));
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that nobody asked for"));
            }
        }
    }
}

/// Ends when the peer is silent for too long.
async fn patience(event_loop: &EventLoop, connection: &Connection) {
    loop {
        let moved = connection.moved.notified();
        let now = event_loop.node.clock.now();
        if connection.line.borrow().is_stalled(now) {
            return;
        }
        let next = connection.line.borrow().stalled_at();
        wait_until(next, now, moved).await;
    }
}
