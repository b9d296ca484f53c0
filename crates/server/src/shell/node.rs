//! What all threads share, the threads themselves, and the way to their end.
//!
//! The tricky idea: `perform` is the one place where the broker's effects become deeds. It never waits, so it can be called on any
//! thread: answers go to the loop that owns the connection, disk work to the queues, the next tick to loop 0.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ottla_broker::{Broker, Chore, Effect, Effects, FlushTask, Millis, Peer, ReadTask};
use ottla_protocol::FileRange;
use ottla_storage::WriteBack;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::Notify;

use super::admission::{Admission, Permit};
use super::census::{Census, ConnectionLimits};
use super::event_loop::{self, EventLoop};
use super::inbox::{Inbox, Message};
use super::pace::Throttle;
use super::pieces::Pieces;
use super::pool::Pool;
use super::slab::Key;
use super::timers::Timer;
use super::{Limits, Listening};
use crate::clock::Clock;
use crate::logging::{self, LogLevel};

/// Jobs that may wait for a disk thread before requests are held back.
const JOBS_MAX: usize = 16 * 1024;
/// How long the answers to requests that were read already may take when the node stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// How often the loops are asked whether that is over.
const DRAIN_POLL: Duration = Duration::from_millis(2);
/// What the threads for chores concede to all others (`nice`): where both want the processor, they get a tenth of what a loop gets.
const CHORE_NICENESS: i32 = 10;
/// "No tick was asked for."
const NEVER: Millis = Millis::MAX;

/// What all threads share.
pub struct Node {
    /// The deciding half.
    pub broker: Arc<Broker>,
    /// The time.
    pub clock: Arc<Clock>,
    /// The bounds.
    pub limits: Limits,
    /// Who is connected.
    pub census: Census,
    /// Memory for requests that are being received.
    pub requests: Admission,
    /// Memory for pieces of files that are being sent.
    pub responses: Admission,
    /// Buffers for them.
    pub pieces: Pieces,
    inboxes: Vec<Inbox>,
    flushes: Pool<FlushTask>,
    /// Nobody waits for these, and one at a time is enough to keep a disk busy.
    write_backs: Pool<WriteBack>,
    reads: Pool<ReadJob>,
    /// What the quorum must not forget: nobody votes before it is written, so it waits behind no read.
    votes: Pool<ReadTask>,
    chores: Pool<Chore>,
    /// The threads that do them.
    hired: Mutex<Vec<JoinHandle<()>>>,
    /// How many chores move bytes of logs.
    compacting: AtomicUsize,
    /// Chores end where they are.
    is_stopping: AtomicBool,
    tick_at: AtomicI64,
    /// Held by whoever brings limits into force, that the newest ones are the last.
    reconfiguring: Mutex<()>,
    halted: Mutex<Option<String>>,
    on_halt: Notify,
    /// What is to be done when clients are served.
    on_serve: Mutex<Option<OnServe>>,
    may_stop: Notify,
}

/// Something to be done once.
pub type OnServe = Box<dyn FnOnce() + Send>;

/// What reader threads do.
enum ReadJob {
    /// A fetch whose records are not in memory.
    Fetch(ReadTask),
    /// A piece of a file that a connection is about to send.
    Piece { shard: u16, key: Key, range: FileRange, permit: Permit },
    /// The limits of connections have changed. They may name hosts, whose addresses have to be waited for.
    Reconfigure,
}

/// The threads of a running node.
pub struct NodeThreads {
    node: Arc<Node>,
    loops: Vec<JoinHandle<()>>,
    /// Threads that read.
    workers: Vec<JoinHandle<()>>,
    flushers: Vec<JoinHandle<()>>,
}

impl Node {
    /// Puts the shared part together.
    pub fn new(broker: Arc<Broker>, clock: Arc<Clock>, limits: Limits, on_serve: OnServe) -> Arc<Node> {
        Arc::new(Node {
            broker,
            clock,
            census: Census::new(limits.loops, limits.connections.clone()),
            requests: Admission::new(limits.request_memory_bytes),
            responses: Admission::new(limits.response_memory_bytes),
            pieces: Pieces::default(),
            inboxes: (0..limits.loops).map(|_| Inbox::default()).collect(),
            flushes: Pool::new(JOBS_MAX),
            write_backs: Pool::new(JOBS_MAX),
            reads: Pool::new(JOBS_MAX),
            votes: Pool::new(JOBS_MAX),
            chores: Pool::new(JOBS_MAX),
            hired: Mutex::default(),
            compacting: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            tick_at: AtomicI64::new(NEVER),
            reconfiguring: Mutex::default(),
            halted: Mutex::default(),
            on_halt: Notify::new(),
            on_serve: Mutex::new(Some(on_serve)),
            may_stop: Notify::new(),
            limits,
        })
    }

    /// Starts all threads; from here on connections are accepted.
    pub fn start(self: &Arc<Self>, listening: Vec<Listening>) -> std::io::Result<NodeThreads> {
        let node = Arc::clone(self);
        let mut threads = NodeThreads { node, loops: Vec::new(), workers: Vec::new(), flushers: Vec::new() };
        for index in 0..self.limits.flush_threads {
            let node = Arc::clone(self);
            threads
                .flushers
                .push(spawn(format!("flush-{index}"), move || node.flushes.work(|task| node.flush(task)))?);
        }
        for index in 0..self.limits.read_threads {
            let node = Arc::clone(self);
            threads
                .workers
                .push(spawn(format!("read-{index}"), move || node.reads.work(|job| node.read(job)))?);
        }
        let node = Arc::clone(self);
        let vote = move || node.votes.work(|task| node.read(ReadJob::Fetch(task)));
        threads.workers.push(spawn("vote".to_owned(), vote)?);
        let node = Arc::clone(self);
        let write_back = move || {
            concede();
            node.write_backs.work(WriteBack::run);
        };
        threads.workers.push(spawn("write-back".to_owned(), write_back)?);
        self.hire()?;
        // Arms the broker's own timers.
        let mut effects = Effects::new();
        self.broker.on_tick(self.clock.now(), &mut effects);
        self.perform(effects, None);
        let mut listening = Some(listening);
        for index in 0..self.limits.loops {
            let node = Arc::clone(self);
            let index = u16::try_from(index).expect("there are fewer than 65536 cores");
            let listening = listening.take().unwrap_or_default();
            threads
                .loops
                .push(spawn(format!("loop-{index}"), move || event_loop::run(node, index, listening))?);
        }
        Ok(threads)
    }

    /// Performs what the broker asks for. `here` is the loop on whose thread this runs, if any.
    pub fn perform(&self, effects: Effects, here: Option<&EventLoop>) {
        let mut posts: Vec<(u16, Message)> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Respond { token, response } => match here {
                    Some(here) if here.index == token.shard => here.respond(token, response),
                    _ => posts.push((token.shard, Message::Respond { token, response })),
                },
                Effect::Deadline { token, at } => match here {
                    Some(here) if here.index == token.shard => here.arm(at, Timer::Request(token)),
                    _ => posts.push((token.shard, Message::Deadline { token, at })),
                },
                Effect::Hold { token } => {
                    here.expect("a connection is put on hold by the loop that reads from it").hold(token);
                }
                Effect::Mute { token, until } => match here {
                    Some(here) if here.index == token.shard => here.mute(token, until),
                    _ => posts.push((token.shard, Message::Mute { token, until })),
                },
                Effect::Resume { token } => posts.push((token.shard, Message::Resume { token })),
                Effect::Flush(task) => self.flushes.push(task),
                // Of hints that nobody gets around to no more are kept: a flush does what they would have done.
                Effect::WriteBack(job) if !self.write_backs.room().is_exhausted() => {
                    self.write_backs.push(job);
                }
                Effect::WriteBack(_) => {}
                Effect::Read(task @ ReadTask::Persist(_)) => self.votes.push(task),
                Effect::Read(task) => self.reads.push(ReadJob::Fetch(task)),
                Effect::Chore(chore) => self.chores.push(chore),
                Effect::Tick { at } => self.schedule_tick(at),
                Effect::Send(outgoing) => posts.push((self.loop_of(&outgoing.to), Message::Send(outgoing))),
                Effect::Unsent { ticket } => {
                    let mut effects = Effects::new();
                    self.broker.on_answer(ticket, None, self.clock.now(), &mut effects);
                    self.perform(effects, here);
                }
                Effect::Serve => {
                    posts.push((0, Message::Serve));
                    let told = self.on_serve.lock().unwrap_or_else(PoisonError::into_inner).take();
                    told.into_iter().for_each(|tell| tell());
                }
                Effect::MayStop => self.may_stop.notify_one(),
                Effect::Reconfigure(_) => self.reads.push(ReadJob::Reconfigure),
                Effect::Report(text) => {
                    logging::log(logging::BROKER, LogLevel::Info, format_args!("{text}"));
                }
                Effect::Halt(reason) => self.halt(reason),
            }
        }
        self.post(posts);
    }

    /// Posts messages with one look into each inbox.
    fn post(&self, mut posts: Vec<(u16, Message)>) {
        // Stable: messages for one loop keep their order.
        posts.sort_by_key(|(shard, _)| *shard);
        let mut posts = posts.into_iter().peekable();
        while let Some(&(shard, _)) = posts.peek() {
            let of_shard = std::iter::from_fn(|| posts.next_if(|(other, _)| *other == shard))
                .map(|(_, message)| message);
            self.inbox(shard).post_all(of_shard);
        }
    }

    fn flush(&self, task: FlushTask) {
        let outcome = task.run();
        let mut effects = Effects::new();
        self.broker.on_flushed(outcome, self.clock.now(), &mut effects);
        self.perform(effects, None);
    }

    fn chore(&self, chore: Chore) {
        let limit = || self.broker.live_config().cleaner.io_max_bytes_per_second;
        let pace = Throttle::new(&limit, &self.compacting, &self.is_stopping);
        let mut effects = Effects::new();
        self.broker.on_chore(chore, &pace, self.clock.now(), &mut effects);
        self.perform(effects, None);
    }

    fn read(self: &Arc<Self>, job: ReadJob) {
        match job {
            ReadJob::Fetch(task) => {
                let mut effects = Effects::new();
                self.broker.on_read(task, self.clock.now(), &mut effects);
                self.perform(effects, None);
            }
            ReadJob::Piece { shard, key, range, permit } => {
                let mut bytes = self.pieces.take(range.len);
                let piece = match range.file.read_exact_at(bytes.space(), range.position) {
                    Ok(()) => Some((bytes.into_bytes(), permit)),
                    Err(error) => {
                        crate::error!("reading {} bytes at {}: {error}", range.len, range.position);
                        None
                    }
                };
                self.inbox(shard).post(Message::Piece { key, piece });
            }
            ReadJob::Reconfigure => {
                let _alone = self.reconfiguring.lock().unwrap_or_else(PoisonError::into_inner);
                self.census.set_limits(ConnectionLimits::of(&self.broker.live_config().network));
                self.shed();
                if let Err(error) = self.hire() {
                    crate::warn!("log.cleaner.threads: no thread could be started: {error}");
                }
                // What is due may have waited for a thread.
                self.schedule_tick(self.clock.now());
            }
        }
    }

    /// Has connections of clients closed if there are more on the node than there may be.
    pub fn shed(&self) {
        for (index, excess) in self.census.excess().into_iter().enumerate().filter(|(_, excess)| *excess > 0)
        {
            self.inbox_of(index).post(Message::Shed(excess));
        }
    }

    /// Starts the threads for chores that are missing: one more than compact or move logs between directories, so that retention has its
    /// turn. Those that are too many have nothing to do.
    fn hire(self: &Arc<Self>) -> std::io::Result<()> {
        let live = self.broker.live_config();
        let movers = if live.log_dirs.len() > 1 { live.moves.threads } else { 0 };
        let wanted = usize::try_from(live.cleaner.threads).unwrap_or(0) + movers + 1;
        let mut hired = self.hired.lock().unwrap_or_else(PoisonError::into_inner);
        for index in hired.len()..wanted {
            let node = Arc::clone(self);
            let body = move || {
                concede();
                node.chores.work(|chore| node.chore(chore));
            };
            hired.push(spawn(format!("chore-{index}"), body)?);
        }
        Ok(())
    }

    /// Has a reader thread read a piece of a file for a connection.
    pub fn read_piece(&self, shard: u16, key: Key, range: FileRange, permit: Permit) {
        self.reads.push(ReadJob::Piece { shard, key, range, permit });
    }

    /// The inbox of a loop.
    pub fn inbox(&self, shard: u16) -> &Inbox {
        self.inbox_of(shard.into())
    }

    /// The inbox of a loop.
    pub fn inbox_of(&self, index: usize) -> &Inbox {
        &self.inboxes[index]
    }

    /// Whether no request may be read for now, because the disk does not keep up; then `waker` is woken when it does again.
    pub fn hold_back(&self, waker: &Waker) -> bool {
        [self.flushes.room(), self.reads.room()].into_iter().any(|room| room.wait_while_exhausted(waker))
    }

    /// The loop that keeps the connection to a peer: always the same.
    fn loop_of(&self, peer: &Peer) -> u16 {
        let sum =
            peer.host.bytes().fold(u64::from(peer.port), |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let index = (sum.wrapping_add(peer.lane as u64)) % self.limits.loops as u64;
        u16::try_from(index).expect("there are fewer than 65536 loops")
    }

    /// Waits until the broker says that nobody needs this node.
    pub async fn may_stop(&self) {
        self.may_stop.notified().await;
    }

    fn schedule_tick(&self, at: Millis) {
        if at < self.tick_at.fetch_min(at, Ordering::SeqCst) {
            self.inbox(0).post(Message::Tick);
        }
    }

    /// When the broker wants its tick.
    pub fn next_tick(&self) -> Option<Millis> {
        Some(self.tick_at.load(Ordering::SeqCst)).filter(|at| *at != NEVER)
    }

    /// Takes the tick if it is due.
    pub fn take_tick(&self, now: Millis) -> bool {
        let at = self.tick_at.load(Ordering::SeqCst);
        at <= now && self.tick_at.compare_exchange(at, NEVER, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The node can not go on.
    pub fn halt(&self, reason: String) {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.on_halt.notify_one();
    }

    /// Waits until the node can not go on.
    pub async fn halted(&self) -> String {
        loop {
            if let Some(reason) = self.halted.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return reason;
            }
            self.on_halt.notified().await;
        }
    }
}

impl NodeThreads {
    /// Ends all threads: accepts and reads nothing more, lets what was read be answered, closes connections. Requests that only
    /// wait for time to pass, such as long polls, are not waited for.
    pub fn stop(self) {
        let NodeThreads { node, loops, workers, flushers } = self;
        node.is_stopping.store(true, Ordering::Relaxed);
        node.tell_all(|| Message::Stop);
        let deadline = Instant::now() + DRAIN_MAX;
        while !node.is_quiet() && Instant::now() < deadline {
            thread::sleep(DRAIN_POLL);
        }
        // Flushes last: everybody else may ask for one up to the end, and a log that waits for its flush can not be closed in order.
        node.tell_all(|| Message::End);
        join(loops);
        node.reads.close();
        node.votes.close();
        node.write_backs.close();
        node.chores.close();
        join(workers);
        // Only readers hire.
        join(std::mem::take(&mut *node.hired.lock().unwrap_or_else(PoisonError::into_inner)));
        node.flushes.close();
        join(flushers);
    }
}

impl Node {
    fn tell_all(&self, message: impl Fn() -> Message) {
        self.inboxes.iter().for_each(|inbox| inbox.post(message()));
    }

    fn is_quiet(&self) -> bool {
        let is_disk_idle =
            [self.flushes.is_idle(), self.reads.is_idle(), self.votes.is_idle()].iter().all(|idle| *idle);
        let (sender, receiver) = mpsc::channel();
        self.tell_all(|| Message::CountUnsent(sender.clone()));
        drop(sender);
        let unsent: usize = receiver.iter().sum();
        is_disk_idle && unsent == 0
    }
}

/// The processor is for requests first.
fn concede() {
    if let Err(error) = setpriority_process(Some(gettid()), CHORE_NICENESS) {
        crate::warn!("chores run with the priority of requests: {error}");
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A thread that panics takes the process with it.
        let _ = thread.join();
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("ottla-{name}")).spawn(body)
}
