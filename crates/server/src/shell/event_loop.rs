//! One loop: a thread with its own single-threaded runtime, the connections that live on it, and their timers.
//!
//! The tricky idea: everything here is `Rc` and `RefCell`, since nothing leaves the thread; what other threads have to say comes
//! through the inbox. No borrow is held while the broker runs.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::{Effects, Millis, Response, Token};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use super::Listening;
use super::acceptor;
use super::connection;
use super::frames::ReadBuffers;
use super::inbox::Message;
use super::node::Node;
use super::pipeline::Pipeline;
use super::slab::{Key, Slab};
use super::timers::{Timer, Timers};

/// How long a peer may leave a request half sent, or an answer not taken, before its connection is closed.
const STUCK_MS_MAX: Millis = 30_000;

/// The state of one loop.
pub struct EventLoop {
    /// Which loop it is.
    pub index: u16,
    /// What all loops share.
    pub node: Arc<Node>,
    /// Buffers for whichever connection reads.
    pub read_buffers: RefCell<ReadBuffers>,
    connections: RefCell<Slab<Pipeline>>,
    timers: RefCell<Timers>,
    /// An earlier deadline came up than the one that is waited for.
    rearm: Notify,
    is_stopping: Cell<bool>,
    acceptors: RefCell<Vec<JoinHandle<()>>>,
}

/// The life of a loop's thread. Loop 0 also accepts connections, and keeps the node's tick.
pub fn run(node: Arc<Node>, index: u16, listening: Vec<Listening>) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.unwrap_or_else(|error| panic!("a runtime needs epoll and an eventfd: {error}"));
    runtime.block_on(async {
        let event_loop = Rc::new(EventLoop {
            index,
            node,
            read_buffers: RefCell::default(),
            connections: RefCell::default(),
            timers: RefCell::default(),
            rearm: Notify::new(),
            is_stopping: Cell::new(false),
            acceptors: RefCell::default(),
        });
        for listening in listening {
            let acceptor = spawn_local(acceptor::accept(Rc::clone(&event_loop), listening));
            event_loop.acceptors.borrow_mut().push(acceptor);
        }
        spawn_local(Rc::clone(&event_loop).keep_time());
        event_loop.receive().await;
    });
}

impl EventLoop {
    /// Works through the inbox until the end.
    async fn receive(self: Rc<Self>) {
        let node = Arc::clone(&self.node);
        let mut batch = Vec::new();
        loop {
            node.inbox(self.index).take(&mut batch).await;
            for message in batch.drain(..) {
                match message {
                    Message::Accepted { stream, peer, listener } => self.adopt(stream, peer, listener),
                    Message::Respond { token, response } => self.respond(token, response),
                    Message::Deadline { token, at } => self.arm(at, Timer::Request(token)),
                    Message::Piece { key, piece } => {
                        if let Some(pipeline) = self.pipeline(key) {
                            pipeline.bring(piece);
                        }
                    }
                    Message::Tick => self.rearm.notify_one(),
                    Message::Stop => self.stop(),
                    // Nobody listens any more when the wait for quiet has been given up.
                    Message::CountUnsent(reply) => drop(reply.send(self.count_unsent())),
                    Message::End => return,
                }
            }
        }
    }

    /// Calls what is due, and sleeps until the next deadline.
    async fn keep_time(self: Rc<Self>) {
        loop {
            let now = self.node.clock.now();
            self.fire(now);
            match self.next_deadline() {
                None => self.rearm.notified().await,
                Some(at) => {
                    let wait = Duration::from_millis(u64::try_from(at - now).unwrap_or(0).max(1));
                    // Whichever comes first; the loop looks at everything anyway.
                    let _ = tokio::time::timeout(wait, self.rearm.notified()).await;
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        let timer = self.timers.borrow().next();
        let tick = if self.index == 0 { self.node.next_tick() } else { None };
        [timer, tick].into_iter().flatten().min()
    }

    fn fire(&self, now: Millis) {
        if self.index == 0 && self.node.take_tick(now) {
            let mut effects = Effects::new();
            self.node.broker.on_tick(now, &mut effects);
            self.node.perform(effects, Some(self));
        }
        loop {
            let due = self.timers.borrow_mut().pop_due(now);
            match due {
                None => return,
                Some(Timer::Request(token)) => self.fire_request(token, now),
                Some(Timer::Idle(key)) => self.fire_idle(key, now),
                Some(Timer::Stuck(key)) => self.fire_stuck(key, now),
            }
        }
    }

    fn fire_request(&self, token: Token, now: Millis) {
        if self.is_awaited(&Timer::Request(token)) {
            let mut effects = Effects::new();
            self.node.broker.on_deadline(token, now, &mut effects);
            self.node.perform(effects, Some(self));
        }
    }

    fn fire_idle(&self, key: Key, now: Millis) {
        let (Some(pipeline), Some(idle_ms_max)) = (self.pipeline(key), self.node.limits.idle_ms_max) else {
            return;
        };
        let idle_since = if pipeline.is_idle() { pipeline.last_progress() } else { now };
        if now - idle_since >= idle_ms_max {
            pipeline.close();
        } else {
            self.arm(idle_since + idle_ms_max, Timer::Idle(key));
        }
    }

    fn fire_stuck(&self, key: Key, now: Millis) {
        let Some(pipeline) = self.pipeline(key) else { return };
        pipeline.set_watched(false);
        if pipeline.waits_for_peer() && now - pipeline.last_progress() >= STUCK_MS_MAX {
            pipeline.close();
        } else if pipeline.waits_for_peer() {
            self.watch(key, &pipeline);
        }
    }

    /// Has the connection closed if its peer does not move for too long.
    pub fn watch(&self, key: Key, pipeline: &Pipeline) {
        if !pipeline.set_watched(true) {
            self.arm(pipeline.last_progress() + STUCK_MS_MAX, Timer::Stuck(key));
        }
    }

    /// Adds a deadline.
    pub fn arm(&self, at: Millis, timer: Timer) {
        if self.timers.borrow_mut().push(at, timer, |timer| self.is_awaited(timer)) {
            self.rearm.notify_one();
        }
    }

    fn is_awaited(&self, timer: &Timer) -> bool {
        match *timer {
            Timer::Request(Token { connection: index, generation, slot, .. }) => {
                self.pipeline(Key { index, generation }).is_some_and(|pipeline| pipeline.is_open(slot))
            }
            Timer::Idle(key) | Timer::Stuck(key) => self.pipeline(key).is_some(),
        }
    }

    /// Hands an answer to its connection, if that still exists.
    pub fn respond(&self, token: Token, response: Response) {
        assert_eq!(token.shard, self.index, "an answer goes to the loop that owns its connection");
        if let Some(pipeline) = self.pipeline(Key { index: token.connection, generation: token.generation }) {
            pipeline.respond(token.slot, response);
        }
    }

    fn pipeline(&self, key: Key) -> Option<Rc<Pipeline>> {
        self.connections.borrow().get(key).cloned()
    }

    /// Gives an accepted connection its task.
    pub fn adopt(self: &Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr, listener: Arc<str>) {
        match TcpStream::from_std(stream) {
            Ok(stream) if !self.is_stopping() => {
                spawn_local(connection::serve(Rc::clone(self), stream, peer, listener));
            }
            Ok(_) => self.node.census.leave(self.index.into(), peer.ip()),
            Err(error) => {
                crate::warn!("a connection of {peer} could not be registered: {error}");
                self.node.census.leave(self.index.into(), peer.ip());
            }
        }
    }

    /// Gives a connection its key and its idle timer.
    pub fn enter(&self, pipeline: Rc<Pipeline>) -> Key {
        let now = self.node.clock.now();
        pipeline.set_progress(now);
        let key = self.connections.borrow_mut().insert(pipeline);
        if let Some(idle_ms_max) = self.node.limits.idle_ms_max {
            self.arm(now + idle_ms_max, Timer::Idle(key));
        }
        key
    }

    /// Forgets a connection.
    pub fn leave(&self, key: Key, peer: SocketAddr) {
        self.connections.borrow_mut().remove(key);
        self.node.census.leave(self.index.into(), peer.ip());
        let Key { index: connection, generation } = key;
        self.node.broker.on_disconnect(Token { shard: self.index, connection, generation, slot: 0 });
    }

    /// Whether requests are no longer read.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    fn stop(&self) {
        self.is_stopping.set(true);
        for acceptor in self.acceptors.take() {
            acceptor.abort();
        }
        self.connections.borrow().iter().for_each(|pipeline| pipeline.wake());
    }

    fn count_unsent(&self) -> usize {
        self.connections.borrow().iter().filter(|pipeline| pipeline.has_unsent()).count()
    }
}
