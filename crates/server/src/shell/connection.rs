//! The task of one connection: reads requests, runs the broker on them, and sends the answers in order.
//!
//! The tricky idea: one turn does as much as it can without waiting (what was read, what is answered, what fits into the socket) and
//! then sleeps until the socket or an answer wakes it. Reading stops, and with it the peer, when too much is in flight, when its
//! answers are not taken, or when a large request finds no memory.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ottla_broker::{Connection, Millis, Response, Token};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::event_loop::EventLoop;
use super::frames::{FrameError, FrameReader, Next};
use super::outbox::{NextRead, Outbox};
use super::pipeline::Pipeline;
use super::slab::Key;
use super::turnstile;

/// Bytes of answers that may wait, for their turn or for the socket, before requests are no longer handled.
const UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Slices that one write sends.
const SLICES_MAX: usize = 64;
/// How often one turn goes around before other connections have theirs.
const ROUNDS_MAX: usize = 16;
/// Bytes that one turn sends before other connections have theirs: what the socket takes at once may be no end when its peer keeps up.
const SENT_BYTES_MAX: usize = 512 * 1024;

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The peer has gone, or the node stops.
    Closed,
    /// The broker will not talk to this peer any more.
    Refused,
    /// What the peer sends are no frames.
    NoFrames(FrameError),
    /// A file could not be read, after the beginning of the answer was sent.
    Unreadable,
    /// The socket failed.
    Socket(io::Error),
}

/// How far [`Task::handle`] came.
enum Handled {
    /// Every frame that has arrived.
    All,
    /// Frames are left for which there is no room now.
    Some,
    /// The next frame does not fit into memory; its waker is set.
    Refused,
}

struct Task {
    event_loop: Rc<EventLoop>,
    key: Key,
    pipeline: Rc<Pipeline>,
    stream: TcpStream,
    connection: Connection,
    reader: FrameReader,
    outbox: Outbox,
    /// Whether others go first, as its last request has it.
    gives_way: bool,
    /// Whether the connection ends as soon as the answers before the refused request are sent.
    is_refused: bool,
    /// Since when the large request that is on its way is.
    large_since: Option<Millis>,
    /// Bytes that this turn may still send.
    may_send: usize,
    /// Whether this turn ended at something that only the peer can change.
    waits_for_peer: bool,
}

/// Serves a connection to its end. Written by hand: an `async fn` would keep its arguments beside the task, for as long as the connection
/// rests.
pub fn serve(
    event_loop: Rc<EventLoop>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<str>,
) -> impl Future<Output = ()> {
    let pipeline = Rc::new(Pipeline::default());
    if event_loop.node.broker.is_of_nodes(&listener) {
        pipeline.set_of_nodes();
    }
    let key = event_loop.enter(Rc::clone(&pipeline));
    let reader = FrameReader::new(event_loop.node.limits.request_bytes_max);
    let connection = Connection::new(listener, peer);
    Task {
        event_loop,
        key,
        pipeline,
        stream,
        connection,
        reader,
        outbox: Outbox::default(),
        gives_way: false,
        is_refused: false,
        large_since: None,
        may_send: 0,
        waits_for_peer: false,
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(end) = self.turn(context) else { return Poll::Pending };
        self.report(&end);
        self.event_loop.leave(self.key, &self.connection.listener, self.connection.peer);
        Poll::Ready(())
    }
}

impl Task {
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<End> {
        self.pipeline.set_waker(context.waker());
        if self.gives_way && !self.pipeline.passes(|| self.event_loop.queue(self.key)) {
            return Poll::Pending;
        }
        self.waits_for_peer = false;
        self.may_send = SENT_BYTES_MAX;
        let pipeline = Rc::clone(&self.pipeline);
        // What arises in a turn is seen by this turn.
        pipeline.without_waking(|| self.rounds(context))
    }

    fn rounds(&mut self, context: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS_MAX {
            match self.round(context) {
                Err(end) => return Poll::Ready(end),
                // There may be more to send.
                Ok(_) if self.may_send == 0 => break,
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) => {
                    self.rest();
                    return Poll::Pending;
                }
            }
        }
        self.rest();
        // Goes on when the sockets were polled, so that whoever has something to say meanwhile is heard.
        pin!(tokio::task::yield_now()).poll(context).map(|()| unreachable!("who yields is not ready at once"))
    }

    /// Handles what was read, sends what is answered, reads more. Ready: there may be more to do.
    fn round(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, End> {
        let is_reading = !self.event_loop.is_stopping() && !self.is_refused;
        let handled = if is_reading { self.handle(context) } else { Ok(Handled::All) };
        self.event_loop.append_if_urgent();
        let handled = handled?;
        self.collect()?;
        self.send(context)?;
        if self.pipeline.is_closing() {
            return Err(End::Closed);
        }
        if self.is_refused {
            return if self.outbox.unsent() == 0 { Err(End::Refused) } else { Ok(Poll::Pending) };
        }
        if !is_reading {
            return if self.pipeline.is_empty() && self.outbox.unsent() == 0 {
                Err(End::Closed)
            } else {
                Ok(Poll::Pending)
            };
        }
        match handled {
            // Room has come up since: more frames first, that nothing is read on top of them.
            Handled::Some if self.may_handle() => return Ok(Poll::Ready(())),
            Handled::Some | Handled::Refused => return Ok(Poll::Pending),
            Handled::All if !self.may_read() => return Ok(Poll::Pending),
            Handled::All => {}
        }
        if self.event_loop.node.hold_back(context.waker()) {
            return Ok(Poll::Pending);
        }
        self.read(context)
    }

    /// Whether the next request may be handed to the broker.
    fn may_handle(&self) -> bool {
        let waits = self.pipeline.is_held() || self.pipeline.muted_until().is_some();
        self.may_read() && !self.pipeline.is_refusing() && !waits
    }

    fn may_read(&self) -> bool {
        let unsent = self.pipeline.waiting_bytes() + self.outbox.unsent();
        self.pipeline.has_room() && unsent < UNSENT_BYTES_MAX
    }

    /// Runs the broker on every whole frame, as long as there is room for their answers.
    fn handle(&mut self, context: &mut Context<'_>) -> Result<Handled, End> {
        while self.may_handle() && !self.pipeline.is_closing() {
            match self.reader.next(&self.event_loop.node.requests).map_err(End::NoFrames)? {
                Next::Frame(frame) => self.handle_frame(frame),
                Next::Incomplete => return Ok(Handled::All),
                Next::Refused if self.event_loop.node.requests.wait(context.waker()) => {
                    return Ok(Handled::Refused);
                }
                Next::Refused => {}
            }
        }
        Ok(Handled::Some)
    }

    fn handle_frame(&mut self, frame: Bytes) {
        let Key { index: connection, generation } = self.key;
        let token =
            Token { shard: self.event_loop.index, connection, generation, slot: self.pipeline.open() };
        self.large_since = None;
        self.gives_way = turnstile::gives_way(&frame);
        self.event_loop.on_frame(&mut self.connection, frame, token);
    }

    /// Moves answers whose turn it is, and pieces of files that were read, into the outbox.
    fn collect(&mut self) -> Result<(), End> {
        if let Some(piece) = self.pipeline.take_piece() {
            let (bytes, permit) = piece.ok_or(End::Unreadable)?;
            self.outbox.on_read(bytes, permit);
        }
        while !self.is_refused {
            match self.pipeline.next_response() {
                None => break,
                Some(Response::Frame(chain)) => self.is_refused = !self.outbox.push(chain),
                Some(Response::Nothing) => {}
                Some(Response::Close) => self.is_refused = true,
            }
        }
        Ok(())
    }

    /// Sends until everything is sent or the socket is full. Asks for pieces of files as they are needed.
    fn send(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        while self.outbox.unsent() > 0 && self.may_send > 0 {
            match self.outbox.next_read(&self.event_loop.node.responses) {
                NextRead::Read(range, permit) => {
                    let mut piece = self.event_loop.node.pieces.take(range.len);
                    match range.file.read_exact_now(piece.space(), range.position) {
                        Ok(true) => self.outbox.on_read(piece.into_bytes(), permit),
                        // Whatever is wrong will be met, and told, by the thread that may wait.
                        Ok(false) | Err(_) => {
                            self.event_loop.node.read_piece(self.event_loop.index, self.key, range, permit);
                        }
                    }
                }
                NextRead::Nothing => {}
                NextRead::Refused if self.event_loop.node.responses.wait(context.waker()) => {}
                NextRead::Refused => continue,
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.outbox.slices(&mut slices);
            if count == 0 {
                return Ok(());
            }
            let stream = Pin::new(&mut self.stream);
            let sent = match &slices[..count] {
                [only] => stream.poll_write(context, only),
                several => stream.poll_write_vectored(context, several),
            };
            let sent = match sent {
                Poll::Pending => {
                    self.waits_for_peer = true;
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => return Err(End::Closed),
                Poll::Ready(sent) => sent.map_err(End::Socket)?,
            };
            self.outbox.advance(sent);
            self.may_send = self.may_send.saturating_sub(sent);
            self.pipeline.set_progress(self.event_loop.node.clock.now());
        }
        Ok(())
    }

    fn read(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, End> {
        let mut space = self.reader.space(&mut self.event_loop.read_buffers.borrow_mut());
        match pin!(self.stream.read_buf(&mut space)).poll(context) {
            Poll::Pending => {
                self.waits_for_peer |= self.reader.is_inside_frame();
                Ok(Poll::Pending)
            }
            Poll::Ready(Ok(0)) => Err(End::Closed),
            Poll::Ready(Ok(_)) => {
                self.pipeline.set_progress(self.event_loop.node.clock.now());
                Ok(Poll::Ready(()))
            }
            Poll::Ready(Err(error)) => Err(End::Socket(error)),
        }
    }

    /// Ends a turn: gives buffers back, and sees to it that a peer that makes no progress is noticed.
    fn rest(&mut self) {
        self.reader.rest(&mut self.event_loop.read_buffers.borrow_mut());
        if !self.reader.is_inside_large_frame() {
            self.large_since = None;
        } else if self.large_since.is_none() {
            self.large_since = Some(self.event_loop.node.clock.now());
        }
        self.pipeline.set_state(self.outbox.unsent() > 0, self.waits_for_peer, self.large_since);
        if self.waits_for_peer {
            self.event_loop.watch(self.key, &self.pipeline);
        }
    }

    fn report(&self, end: &End) {
        let peer = self.connection.peer;
        match end {
            End::NoFrames(FrameError::Negative(size)) => {
                crate::warn!("{peer} sent a request of negative size ({size}); connection closed");
            }
            End::NoFrames(FrameError::TooLarge(size)) => {
                let max = self.event_loop.node.limits.request_bytes_max;
                crate::warn!(
                    "{peer} sent a request of {size} bytes (socket.request.max.bytes is {max}); connection closed"
                );
            }
            End::Unreadable => {
                crate::warn!("an answer to {peer} could not be read from disk; connection closed")
            }
            End::Refused => {
                crate::debug!("{peer} sent a request that can not be answered; connection closed")
            }
            End::Socket(error) => crate::debug!("connection of {peer}: {error}"),
            End::Closed => crate::debug!("connection of {peer} closed"),
        }
    }
}
