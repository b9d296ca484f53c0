//! One loop: a thread with its own single-threaded runtime, the connections that live on it, and their timers.
//!
//! The tricky idea: everything here is `Rc` and `RefCell`, since nothing leaves the thread; what other threads have to say comes
//! through the inbox. No borrow that the shell's own answers need is held while the broker runs.
//!
//! Appends are gathered over a turn of the loop. When the sockets are polled, all connections that have something to read are put in line;
//! the first of them that gathers something puts the appending behind them (see [`EventLoop::append_at_ends`]).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_broker::{Connection, Effects, Gather, Millis, Response, Token};
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
use super::peers::Peers;
use super::pipeline::{Meter, Pipeline};
use super::slab::{Key, Slab};
use super::timers::{Timer, Timers};
use super::turnstile::Turnstile;

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
    gather: RefCell<Gather>,
    /// Something is gathered.
    gathered: Notify,
    turnstile: Turnstile,
    timers: RefCell<Timers>,
    /// An earlier deadline came up than the one that is waited for.
    rearm: Notify,
    is_stopping: Cell<bool>,
    /// Connections that wait to be closed (see the acceptor).
    pub turned_away: Cell<usize>,
    acceptors: RefCell<Vec<JoinHandle<()>>>,
    /// Listeners of clients, from which nobody accepts before the node serves.
    held: RefCell<Vec<Listening>>,
    peers: Peers,
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
            gather: RefCell::default(),
            gathered: Notify::new(),
            turnstile: Turnstile::default(),
            timers: RefCell::default(),
            rearm: Notify::new(),
            is_stopping: Cell::new(false),
            turned_away: Cell::new(0),
            acceptors: RefCell::default(),
            held: RefCell::default(),
            peers: Peers::default(),
        });
        let controllers = &event_loop.node.broker.config().network.controller_listener_names;
        let (at_once, held) = listening
            .into_iter()
            .partition(|listening| controllers.iter().any(|name| **name == *listening.name));
        event_loop.held.replace(held);
        event_loop.accept(at_once);
        if event_loop.node.broker.is_serving() {
            event_loop.accept_all();
        }
        spawn_local(Rc::clone(&event_loop).keep_time());
        spawn_local(Rc::clone(&event_loop).append_at_ends());
        spawn_local(Rc::clone(&event_loop).let_in());
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
                    Message::Resume { token } => {
                        if let Some(pipeline) = self.pipeline(key_of(token)) {
                            pipeline.resume();
                        }
                    }
                    Message::Mute { token, until } => self.mute(token, until),
                    Message::Piece { key, piece } => {
                        if let Some(pipeline) = self.pipeline(key) {
                            pipeline.bring(piece);
                        }
                    }
                    Message::Send(outgoing) => self.peers.send(&self, outgoing),
                    Message::Serve => self.accept_all(),
                    Message::Tick => self.rearm.notify_one(),
                    Message::Shed(count) => self.shed(count),
                    Message::Stop => self.stop(),
                    // Nobody listens any more when the wait for quiet has been given up.
                    Message::CountUnsent(reply) => drop(reply.send(self.count_unsent())),
                    Message::End => return,
                }
            }
        }
    }

    /// Has the broker handle a request of one of the connections.
    pub fn on_frame(&self, connection: &mut Connection, frame: Bytes, token: Token) {
        let (now, mut effects) = (self.node.clock.now(), Effects::new());
        let broker = &self.node.broker;
        let payer = broker.limits_time().then(|| broker.payer_of_time(connection, &frame)).flatten();
        let payer = payer.map(|client_id| (client_id, Instant::now()));
        let mut gather = self.gather.borrow_mut();
        let was_empty = gather.is_empty();
        broker.on_frame_of_many(connection, frame, token, now, &mut gather, &mut effects);
        if let (Some((client_id, begun)), Some(pipeline)) = (payer, self.pipeline(key_of(token))) {
            pipeline.meter(token.slot, client_id, nanos_since(begun));
        }
        if was_empty && !gather.is_empty() {
            self.gathered.notify_one();
        }
        drop(gather);
        self.node.perform(effects, Some(self));
    }

    /// At the end of each turn in which appends were gathered, has them made.
    async fn append_at_ends(self: Rc<Self>) {
        loop {
            self.gathered.notified().await;
            self.append();
        }
    }

    /// Has the gathered appends made now, if they should not wait for the end of the turn.
    pub fn append_if_urgent(&self) {
        if self.gather.borrow().is_urgent() {
            self.append();
        }
    }

    fn append(&self) {
        let mut effects = Effects::new();
        let mut gather = self.gather.borrow_mut();
        let tokens: Vec<Token> =
            if self.node.broker.limits_time() { gather.tokens().collect() } else { Vec::new() };
        let begun = (!tokens.is_empty()).then(Instant::now);
        self.node.broker.on_gathered(&mut gather, self.node.clock.now(), &mut effects);
        drop(gather);
        let share = begun.map_or(0, |begun| nanos_since(begun) / tokens.len() as u64);
        for token in tokens {
            if let Some(pipeline) = self.pipeline(key_of(token)) {
                pipeline.add_time(token.slot, share);
            }
        }
        self.node.perform(effects, Some(self));
    }

    /// Has a connection stand in line that lets others go first.
    pub fn queue(&self, key: Key) {
        self.turnstile.queue(key, self.node.clock.now());
    }

    /// Lets in those who stand in line, and between them looks at the sockets and serves everybody else.
    async fn let_in(self: Rc<Self>) {
        loop {
            self.turnstile.wait().await;
            for key in self.turnstile.take(self.node.clock.now()) {
                if let Some(pipeline) = self.pipeline(key) {
                    pipeline.let_in();
                }
            }
            // Goes on when the sockets were polled and whoever was ready has had a turn.
            tokio::task::yield_now().await;
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
                Some(Timer::Muted(key)) => self.fire_muted(key, now),
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
        // A request that trickles in is tolerated until others need its memory.
        let since = pipeline.large_since().filter(|_| self.node.requests.is_exhausted()).unwrap_or(now);
        let since = since.min(pipeline.last_progress());
        if pipeline.waits_for_peer() && now - since >= STUCK_MS_MAX {
            pipeline.close();
        } else if pipeline.waits_for_peer() {
            self.watch(key, &pipeline);
        }
    }

    /// Closes so many connections of clients, those that were idle the longest. Those that close already count.
    fn shed(&self, count: usize) {
        let connections = self.connections.borrow();
        let closing = connections.iter().filter(|pipeline| pipeline.is_closing()).count();
        let stay = |pipeline: &&Rc<Pipeline>| !pipeline.is_closing() && !pipeline.is_of_nodes();
        let mut clients: Vec<_> = connections.iter().filter(stay).collect();
        clients.sort_by_key(|pipeline| pipeline.last_progress());
        clients.into_iter().take(count.saturating_sub(closing)).for_each(|pipeline| pipeline.close());
    }

    /// Has the connection closed if its peer does not move for too long.
    pub fn watch(&self, key: Key, pipeline: &Pipeline) {
        if !pipeline.set_watched(true) {
            self.arm(self.node.clock.now() + STUCK_MS_MAX, Timer::Stuck(key));
        }
    }

    /// Reads no further request of a connection.
    pub fn hold(&self, token: Token) {
        if let Some(pipeline) = self.pipeline(key_of(token)) {
            pipeline.hold();
        }
    }

    /// Reads no further request of a connection for a while.
    pub fn mute(&self, token: Token, until: Millis) {
        let key = key_of(token);
        if let Some(pipeline) = self.pipeline(key)
            && pipeline.mute(until)
        {
            self.arm(until, Timer::Muted(key));
        }
    }

    fn fire_muted(&self, key: Key, now: Millis) {
        let Some(pipeline) = self.pipeline(key) else { return };
        match pipeline.muted_until() {
            Some(until) if until > now => self.arm(until, Timer::Muted(key)),
            _ => pipeline.unmute(),
        }
    }

    /// Adds a deadline.
    pub fn arm(&self, at: Millis, timer: Timer) {
        if let Timer::Request(token) = timer
            && self.pipeline(key_of(token)).is_none()
        {
            // A request that began to wait on another thread after its connection had gone.
            return self.node.broker.on_disconnect(token);
        }
        if self.timers.borrow_mut().push(at, timer, |timer| self.is_awaited(timer)) {
            self.rearm.notify_one();
        }
    }

    fn is_awaited(&self, timer: &Timer) -> bool {
        match *timer {
            Timer::Request(token) => {
                self.pipeline(key_of(token)).is_some_and(|pipeline| pipeline.is_open(token.slot))
            }
            Timer::Idle(key) | Timer::Stuck(key) | Timer::Muted(key) => self.pipeline(key).is_some(),
        }
    }

    /// Hands an answer to its connection, if that still exists.
    pub fn respond(&self, token: Token, mut response: Response) {
        assert_eq!(token.shard, self.index, "an answer goes to the loop that owns its connection");
        if let Some(pipeline) = self.pipeline(key_of(token)) {
            if let Some(meter) = pipeline.take_meter(token.slot) {
                self.charge(token, &meter, &mut response);
            }
            pipeline.respond(token.slot, response);
        }
    }

    /// A request is answered that took some time: if that was more than its client may use, the answer says so and the connection pauses.
    fn charge(&self, token: Token, meter: &Meter, response: &mut Response) {
        let now = self.node.clock.now();
        let pause = self.node.broker.charge_time(&meter.client_id, meter.nanos, now);
        if pause > 0 {
            if let Response::Frame(chain) = response {
                chain.raise_throttle_time(pause);
            }
            self.mute(token, now + i64::from(pause));
        }
    }

    fn pipeline(&self, key: Key) -> Option<Rc<Pipeline>> {
        self.connections.borrow().get(key).cloned()
    }

    fn accept(self: &Rc<Self>, listening: Vec<Listening>) {
        for listening in listening {
            let acceptor = spawn_local(acceptor::accept(Rc::clone(self), listening));
            self.acceptors.borrow_mut().push(acceptor);
        }
    }

    fn accept_all(self: &Rc<Self>) {
        if !self.is_stopping() {
            self.accept(self.held.take());
        }
    }

    /// Gives an accepted connection its task.
    pub fn adopt(self: &Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr, listener: Arc<str>) {
        match TcpStream::from_std(stream) {
            Ok(stream) if !self.is_stopping() => {
                spawn_local(connection::serve(Rc::clone(self), stream, peer, listener));
            }
            Ok(_) => self.node.census.leave(self.index.into(), &listener, peer.ip()),
            Err(error) => {
                crate::warn!("a connection of {peer} could not be registered: {error}");
                self.node.census.leave(self.index.into(), &listener, peer.ip());
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
    pub fn leave(&self, key: Key, listener: &str, peer: SocketAddr) {
        self.connections.borrow_mut().remove(key);
        self.node.census.leave(self.index.into(), listener, peer.ip());
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
        self.append();
        self.connections.borrow().iter().filter(|pipeline| pipeline.has_unsent()).count()
    }
}

fn nanos_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The connection of a request.
fn key_of(token: Token) -> Key {
    Key { index: token.connection, generation: token.generation }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ottla_broker::{Broker, Effect, NodeConfig};
    use ottla_metadata::config::BrokerConfig;
    use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
    use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
    use ottla_protocol::messages::request_header::RequestHeader;
    use ottla_protocol::{Message, Request, Writer};
    use ottla_storage::SimDisk;

    use super::*;
    use crate::clock::Clock;
    use crate::shell::Limits;

    const NOW: Millis = 1_800_000_000_000;
    const TOKEN: Token = Token { shard: 0, connection: 3, generation: 1, slot: 0 };

    fn frame<'a, R: Request<'a>>(request: &R, version: i16) -> Bytes {
        let mut writer = Writer::new();
        let header = RequestHeader {
            request_api_key: R::KEY as i16,
            request_api_version: version,
            ..Default::default()
        };
        header.encode(&mut writer, R::KEY.request_header_version(version)).expect("a header fits");
        request.encode(&mut writer, version).expect("a request fits");
        writer.into_bytes()
    }

    /// A loop that nobody is connected to, around a node with one topic.
    fn lonely_loop() -> EventLoop {
        let settings = BTreeMap::from([("log.dirs".to_owned(), "/data".to_owned())]);
        let (config, _) = BrokerConfig::resolve(&settings).expect("a configuration");
        let node = NodeConfig { broker: config, cluster_id: None, loggers: Arc::default() };
        let broker = Broker::open(Arc::new(SimDisk::new(1)), node, NOW, 1).expect("a node");
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        send(&broker, frame(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5));
        EventLoop {
            index: 0,
            node: Node::new(broker, Arc::new(Clock::default()), Limits::default(), Box::new(|| {})),
            read_buffers: RefCell::default(),
            connections: RefCell::default(),
            gather: RefCell::default(),
            gathered: Notify::new(),
            turnstile: Turnstile::default(),
            timers: RefCell::default(),
            rearm: Notify::new(),
            is_stopping: Cell::new(false),
            turned_away: Cell::new(0),
            acceptors: RefCell::default(),
            held: RefCell::default(),
            peers: Peers::default(),
        }
    }

    fn send(broker: &Broker, frame: Bytes) -> Effects {
        let mut connection = Connection::new("PLAINTEXT".into(), SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut effects = Effects::new();
        broker.on_frame(&mut connection, frame, TOKEN, NOW, &mut effects);
        let (flushes, mut effects): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Flush(_)));
        for effect in flushes {
            let Effect::Flush(task) = effect else { continue };
            broker.on_flushed(task.run(), NOW, &mut effects);
        }
        effects
    }

    #[test]
    fn a_request_that_began_to_wait_when_its_connection_had_gone_is_forgotten() {
        let event_loop = lonely_loop();
        let partition = FetchPartition { partition: 0, partition_max_bytes: 1000, ..Default::default() };
        let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
        let fetch =
            FetchRequest { max_wait_ms: 60_000, min_bytes: 1, topics: vec![topic], ..Default::default() };
        let park = || {
            let effects = send(&event_loop.node.broker, frame(&fetch, 11));
            assert!(matches!(effects[..], [Effect::Deadline { token: TOKEN, .. }]), "{effects:?}");
        };
        let answers = || {
            let mut effects = Effects::new();
            event_loop.node.broker.on_deadline(TOKEN, NOW + 60_000, &mut effects);
            effects.len()
        };
        park();
        assert_eq!(answers(), 1, "it waits, and its deadline ends that");
        park();
        event_loop.arm(NOW + 60_000, Timer::Request(TOKEN));
        assert_eq!(answers(), 0, "nobody waits any more");
    }
}
