//! Connections of this node to other nodes: one for each peer and purpose, made when there is something to send, and made again after a
//! pause when it breaks.
//!
//! The tricky idea: requests are pipelined, and answers come in order, so the request that an answer belongs to is the oldest one under
//! way; its correlation id only proves that nobody is confused. Whatever happens to a connection, every request that was handed over ends
//! exactly once: with its answer, or without one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_broker::{Effects, Millis, Outgoing, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::event_loop::EventLoop;

/// Requests that may wait for one connection; more end without an answer.
const QUEUE_MAX: usize = 10_000;
/// Requests under way on one connection.
const IN_FLIGHT_MAX: usize = 100;
/// The first pause after a connection that could not be made or broke (`reconnect.backoff.ms`), and the longest.
const BACKOFF_MS: u64 = 20;
const BACKOFF_MS_MAX: u64 = 500;
/// How long a connection may take to be made (`socket.connection.setup.timeout.ms`).
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The step in which memory for an answer grows with the bytes that arrive.
const ANSWER_STEP_BYTES: usize = 64 * 1024;

/// The peers of one loop.
#[derive(Debug, Default)]
pub struct Peers {
    lines: RefCell<BTreeMap<Peer, Rc<Line>>>,
}

/// What is to be sent to a peer, and what is under way.
#[derive(Debug, Default)]
struct Line {
    waiting: RefCell<VecDeque<(Millis, Outgoing)>>,
    arrived: Notify,
    in_flight: RefCell<VecDeque<InFlight>>,
    /// `in_flight` changed: there is another deadline, or room again.
    moved: Notify,
    /// Whether the last connection was of any use.
    was_useful: Cell<bool>,
}

#[derive(Debug)]
struct InFlight {
    ticket: u64,
    correlation_id: i32,
    deadline: Millis,
}

impl Peers {
    /// Hands over a request.
    pub fn send(&self, event_loop: &Rc<EventLoop>, outgoing: Outgoing) {
        let known = self.lines.borrow().get(&outgoing.to).cloned();
        let line = known.unwrap_or_else(|| {
            let line = Rc::new(Line::default());
            self.lines.borrow_mut().insert(outgoing.to.clone(), Rc::clone(&line));
            spawn_local(keep(Rc::clone(event_loop), outgoing.to.clone(), Rc::clone(&line)));
            line
        });
        if line.waiting.borrow().len() >= QUEUE_MAX {
            return answer(event_loop, outgoing.ticket, None);
        }
        let deadline = event_loop.node.clock.now() + outgoing.timeout_ms;
        line.waiting.borrow_mut().push_back((deadline, outgoing));
        line.arrived.notify_one();
    }
}

fn answer(event_loop: &EventLoop, ticket: u64, frame: Option<Bytes>) {
    let mut effects = Effects::new();
    event_loop.node.broker.on_answer(ticket, frame, event_loop.node.clock.now(), &mut effects);
    event_loop.node.perform(effects, Some(event_loop));
}

/// The life of the connections to one peer.
async fn keep(event_loop: Rc<EventLoop>, peer: Peer, line: Rc<Line>) {
    let mut backoff = BACKOFF_MS;
    loop {
        while line.waiting.borrow().is_empty() {
            line.arrived.notified().await;
        }
        line.was_useful.set(false);
        let ended = match connect(&peer).await {
            Ok(stream) => exchange(&event_loop, stream, &line).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            crate::debug!("{}:{} ({:?}): {error}", peer.host, peer.port, peer.lane);
        }
        let lost: Vec<u64> = line.in_flight.borrow_mut().drain(..).map(|request| request.ticket).collect();
        lost.into_iter().for_each(|ticket| answer(&event_loop, ticket, None));
        backoff = if line.was_useful.get() { BACKOFF_MS } else { (backoff * 2).min(BACKOFF_MS_MAX) };
        tokio::time::sleep(Duration::from_millis(backoff)).await;
        let now = event_loop.node.clock.now();
        let waiting = std::mem::take(&mut *line.waiting.borrow_mut());
        let (late, left): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, _)| *at <= now);
        line.waiting.replace(left.into());
        late.into_iter().for_each(|(_, outgoing)| answer(&event_loop, outgoing.ticket, None));
    }
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

/// Sends what waits and takes answers, until the connection breaks or a request is not answered in time.
async fn exchange(event_loop: &Rc<EventLoop>, mut stream: TcpStream, line: &Line) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::select! {
        ended = write(&mut writer, line) => ended,
        ended = read(event_loop, &mut reader, line) => ended,
        () = patience(event_loop, line) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

async fn write(writer: &mut WriteHalf<'_>, line: &Line) -> io::Result<()> {
    loop {
        while line.in_flight.borrow().len() >= IN_FLIGHT_MAX {
            line.moved.notified().await;
        }
        let next = line.waiting.borrow_mut().pop_front();
        let Some((deadline, outgoing)) = next else {
            line.arrived.notified().await;
            continue;
        };
        let Outgoing { ticket, correlation_id, frame, .. } = outgoing;
        line.in_flight.borrow_mut().push_back(InFlight { ticket, correlation_id, deadline });
        line.moved.notify_waiters();
        // Requests are made in memory.
        let frame = frame.read()?;
        let size = i32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        writer.write_all(&size.to_be_bytes()).await?;
        writer.write_all(&frame).await?;
    }
}

async fn read(event_loop: &Rc<EventLoop>, reader: &mut ReadHalf<'_>, line: &Line) -> io::Result<()> {
    let size_max = event_loop.node.limits.request_bytes_max;
    loop {
        let mut size = [0; 4];
        reader.read_exact(&mut size).await?;
        let size = usize::try_from(i32::from_be_bytes(size)).ok().filter(|size| *size <= size_max);
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
        let oldest = line.in_flight.borrow_mut().pop_front();
        let Some(oldest) = oldest else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that nobody asked for"));
        };
        line.moved.notify_waiters();
        let correlation_id = frame.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        if correlation_id != Some(oldest.correlation_id) {
            answer(event_loop, oldest.ticket, None);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer out of order"));
        }
        line.was_useful.set(true);
        answer(event_loop, oldest.ticket, Some(frame.freeze()));
    }
}

/// Ends when a request has waited for too long.
async fn patience(event_loop: &EventLoop, line: &Line) {
    loop {
        let deadline = line.in_flight.borrow().iter().map(|request| request.deadline).min();
        let moved = line.moved.notified();
        match deadline {
            None => moved.await,
            Some(deadline) => {
                let left = deadline - event_loop.node.clock.now();
                if left <= 0 {
                    return;
                }
                let wait = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                // Whichever comes first; the loop looks again.
                let _ = tokio::time::timeout(wait, moved).await;
            }
        }
    }
}
