//! The shell of the simulation: performs the broker's effects on a simulated disk, in virtual time, and takes the power away.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use ottla_broker::{
    Broker, Chore, Connection, Effect, Effects, FlushTask, Gather, Millis, NodeConfig, ReadTask, Response,
    Token,
};
use ottla_metadata::config::BrokerConfig;
#[cfg(test)]
use ottla_storage::Disk;
use ottla_storage::{DiskCounters, Pace, SimDisk};

use crate::dice::Dice;

/// When the simulation begins: any time will do, as long as it is always the same.
const EPOCH: Millis = 1_800_000_000_000;

/// A node, its disk, its clock.
pub(crate) struct World {
    pub now: Millis,
    pub dice: Dice,
    disk: SimDisk,
    broker: Option<Arc<Broker>>,
    connection: Connection,
    /// What happens next, in order of time; the number keeps things of one time in the order in which they arose.
    agenda: BTreeMap<(Millis, u64), Todo>,
    arisen: u64,
    /// Where the tick stands on the agenda.
    tick: Option<(Millis, u64)>,
    /// Requests that wait while their connection is on hold; `None`: it is not.
    held: Option<VecDeque<(Token, Bytes)>>,
    /// Requests that wait while their connection is muted, and until when it is.
    muted: VecDeque<(Token, Bytes)>,
    pub muted_until: Millis,
    /// What a turn of the loop has gathered, if one is under way that handles several requests; otherwise each has its own.
    turn: Option<Gather>,
    /// Answers that clients have not looked at.
    answers: BTreeMap<Token, Response>,
    next_slot: u64,
    life: u32,
    settings: BTreeMap<String, String>,
    /// A fingerprint of everything that happened.
    pub trace: u64,
    /// Lines that the broker reported.
    pub reports: Vec<String>,
    /// Why the node stopped by itself, in a test that makes it.
    pub halted: Option<String>,
    pub may_halt: bool,
}

enum Todo {
    Flush(FlushTask),
    Read(ReadTask),
    Chore(Chore),
    Deadline(Token),
    Tick,
    Unmute,
}

/// Background work goes on without a pause.
struct Unhurried;

impl Pace for Unhurried {
    fn pass(&self, _bytes: usize) -> bool {
        true
    }
}

/// How a node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process is killed: what was written stays, in the page cache.
    Kill,
    /// The power fails: of what was not synced, any part may be lost or torn.
    PowerLoss,
    /// It is asked to stop.
    Shutdown,
}

impl World {
    pub fn new(seed: u64, settings: &[(&str, &str)]) -> Result<Self, String> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let mut world = World {
            now: EPOCH,
            dice: Dice::new(seed),
            disk: SimDisk::new(seed),
            broker: None,
            connection: Connection::new("PLAINTEXT".into(), peer),
            agenda: BTreeMap::new(),
            arisen: 0,
            tick: None,
            held: None,
            muted: VecDeque::new(),
            muted_until: 0,
            turn: None,
            answers: BTreeMap::new(),
            next_slot: 0,
            life: 0,
            settings,
            trace: seed,
            reports: Vec::new(),
            halted: None,
            may_halt: false,
        };
        world.start()?;
        Ok(world)
    }

    fn start(&mut self) -> Result<(), String> {
        let (broker, _notes) = BrokerConfig::resolve(&self.settings).map_err(|error| error.to_string())?;
        let node = NodeConfig { broker, cluster_id: None, loggers: Arc::default() };
        let seed = self.dice.next();
        let broker = Broker::open(Arc::new(self.disk.clone()), node, self.now, seed);
        let broker = broker.map_err(|error| format!("the node does not start: {error}"))?;
        let mut out = Effects::new();
        broker.on_tick(self.now, &mut out);
        self.broker = Some(broker);
        self.perform(out);
        Ok(())
    }

    /// The client comes anew, by another listener.
    #[cfg(test)]
    pub fn come_by(&mut self, listener: &str) {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_001));
        self.connection = Connection::new(listener.into(), peer);
    }

    /// Changes what the node is started with the next time.
    #[cfg(test)]
    pub fn configure(&mut self, key: &str, value: &str) {
        self.settings.insert(key.to_owned(), value.to_owned());
    }

    /// The client is known by this name from here on, as if its listener had authenticated it.
    #[cfg(test)]
    pub fn authenticate(&mut self, principal: &str) {
        self.connection.principal = Some(principal.into());
    }

    /// The page of metrics.
    #[cfg(test)]
    pub fn metrics_page(&self) -> String {
        self.broker.as_ref().expect("a node runs between restarts").metrics_page(self.now)
    }

    /// The client's connection breaks off.
    #[cfg(test)]
    pub fn disconnect(&self) {
        let any = Token { shard: 0, connection: 0, generation: self.life, slot: 0 };
        self.broker.as_ref().expect("a node runs between restarts").on_disconnect(any);
    }

    /// The disk, to make it fail.
    #[cfg(test)]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The node dies and starts again on what its disk kept. Requests without an answer will never get one.
    pub fn restart(&mut self, death: Death) -> Result<(), String> {
        self.restart_on(death, |_| {})
    }

    /// As [`World::restart`], on a disk to which something happened meanwhile.
    pub fn restart_on(&mut self, death: Death, happens: impl FnOnce(&SimDisk)) -> Result<(), String> {
        if death == Death::Shutdown {
            self.drain_flushes();
        }
        let broker = self.broker.take().expect("a node runs between restarts");
        if death == Death::Shutdown {
            broker.shutdown()?;
        }
        drop(broker);
        self.agenda.clear();
        self.tick = None;
        self.held = None;
        self.muted.clear();
        self.muted_until = 0;
        self.answers.clear();
        self.life += 1;
        self.disk = match death {
            Death::PowerLoss => self.disk.crash(),
            Death::Kill | Death::Shutdown => self.disk.kill(),
        };
        happens(&self.disk);
        self.note(death as u64);
        self.now += 1 + self.dice.below(5_000) as i64;
        self.start()
    }

    /// It is asked to stop, and after so many changes of the disk the power fails. Then it starts again.
    #[cfg(test)]
    pub fn break_shutdown(&mut self, mutations: u64) -> Result<(), String> {
        self.drain_flushes();
        self.disk.fail_after(mutations);
        // Whatever it says: there is nobody left to hear it.
        let _ = self.broker.as_ref().expect("a node runs between restarts").shutdown();
        self.restart(Death::PowerLoss)
    }

    /// The shell runs every flush to its end before it shuts the node down.
    fn drain_flushes(&mut self) {
        loop {
            let flush =
                self.agenda.iter().find(|(_, todo)| matches!(todo, Todo::Flush(_))).map(|(at, _)| *at);
            let Some(Todo::Flush(task)) = flush.and_then(|at| self.agenda.remove(&at)) else { return };
            let broker = self.broker.clone().expect("a node runs between restarts");
            let mut out = Effects::new();
            broker.on_flushed(task.run(), self.now, &mut out);
            self.perform(out);
        }
    }

    /// Sends a request frame; its answer comes with [`World::take_answer`].
    pub fn send(&mut self, frame: Bytes) -> Token {
        let token = Token { shard: 0, connection: 0, generation: self.life, slot: self.next_slot };
        self.next_slot += 1;
        self.offer(token, frame);
        token
    }

    fn offer(&mut self, token: Token, frame: Bytes) {
        match &mut self.held {
            _ if self.muted_until > self.now => self.muted.push_back((token, frame)),
            Some(held) => held.push_back((token, frame)),
            None => self.hand_over(token, frame),
        }
    }

    fn hand_over(&mut self, token: Token, frame: Bytes) {
        let mut connection = self.connection.clone();
        let mut turn = self.turn.take();
        let out = self.at_once(|broker, now, out| match &mut turn {
            Some(gather) => broker.on_frame_of_many(&mut connection, frame, token, now, gather, out),
            None => broker.on_frame(&mut connection, frame, token, now, out),
        });
        self.turn = turn;
        self.connection = connection;
        self.perform(out);
    }

    /// What a loop of the shell does: it must never wait for the disk, neither to read nor for anything to become durable.
    fn at_once(&self, act: impl FnOnce(&Broker, Millis, &mut Effects)) -> Effects {
        let waits = |counters: DiskCounters| (counters.reads, counters.syncs, counters.dir_syncs);
        let before = waits(self.disk.counters());
        let mut out = Effects::new();
        act(self.broker.as_ref().expect("a node runs between restarts"), self.now, &mut out);
        assert_eq!(waits(self.disk.counters()), before, "(reads, syncs of files, of directories) on a loop");
        out
    }

    /// Requests are handled in one turn of a loop from here on, until [`World::end_turn`].
    #[cfg(test)]
    pub fn begin_turn(&mut self) {
        self.turn = Some(Gather::default());
    }

    /// What was gathered is appended.
    #[cfg(test)]
    pub fn end_turn(&mut self) {
        let mut gather = self.turn.take().expect("a turn that began");
        let out = self.at_once(|broker, now, out| broker.on_gathered(&mut gather, now, out));
        self.perform(out);
    }

    fn resume(&mut self) {
        let mut waiting = self.held.take().expect("only a connection on hold is resumed");
        while let Some((token, frame)) = waiting.pop_front() {
            self.offer(token, frame);
        }
    }

    /// The names in a directory.
    #[cfg(test)]
    pub fn files(&self, dir: &str) -> Vec<String> {
        self.disk.list(std::path::Path::new(dir)).expect("a directory")
    }

    /// The answer to a request, if it is there.
    pub fn take_answer(&mut self, token: Token) -> Option<Response> {
        self.answers.remove(&token)
    }

    /// Lets the next thing on the agenda happen; time moves there, at most to `until`. Returns whether anything happened.
    pub fn step(&mut self, until: Millis) -> bool {
        let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        let ((at, _), todo) = entry.remove_entry();
        self.now = self.now.max(at);
        let out = match todo {
            Todo::Flush(task) => {
                let outcome = task.run();
                // On a disk thread, but under locks that loops take.
                self.at_once(|broker, now, out| broker.on_flushed(outcome, now, out))
            }
            Todo::Chore(chore) => {
                let mut out = Effects::new();
                self.broker.as_ref().expect("a node runs").on_chore(chore, &Unhurried, self.now, &mut out);
                out
            }
            Todo::Read(task) => {
                let mut out = Effects::new();
                self.broker.as_ref().expect("a node runs").on_read(task, self.now, &mut out);
                out
            }
            Todo::Deadline(token) => self.at_once(|broker, now, out| broker.on_deadline(token, now, out)),
            Todo::Unmute => {
                if self.muted_until <= self.now {
                    for (token, frame) in std::mem::take(&mut self.muted) {
                        self.offer(token, frame);
                    }
                }
                return true;
            }
            Todo::Tick => {
                self.tick = None;
                self.at_once(|broker, now, out| broker.on_tick(now, out))
            }
        };
        self.perform(out);
        true
    }

    fn perform(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Respond { token, response } => {
                    self.note(token.slot);
                    if token.generation == self.life {
                        match self.answers.entry(token) {
                            Entry::Vacant(entry) => {
                                entry.insert(response);
                            }
                            Entry::Occupied(entry) => panic!("{:?} is answered twice", entry.key()),
                        }
                    }
                }
                Effect::Deadline { token, at } => {
                    self.plan(at, Todo::Deadline(token));
                }
                // As the shell does, only the earliest is kept.
                Effect::Tick { at } => {
                    let planned = self.tick.take();
                    let at = planned.map_or(at, |planned| planned.0.min(at)).max(self.now);
                    if let Some(planned) = planned {
                        self.agenda.remove(&planned);
                    }
                    self.tick = Some(self.plan(at, Todo::Tick));
                }
                Effect::Hold { .. } => {
                    assert!(self.held.is_none(), "nothing is handed over on hold");
                    self.held = Some(VecDeque::new());
                }
                Effect::Mute { token, until } if token.generation == self.life => {
                    self.muted_until = self.muted_until.max(until);
                    self.plan(until, Todo::Unmute);
                }
                Effect::Mute { .. } => {}
                Effect::Resume { token } if token.generation == self.life => self.resume(),
                Effect::Resume { .. } => {}
                Effect::Flush(task) => {
                    let took = 1 + self.dice.below(20) as i64;
                    self.plan(self.now + took, Todo::Flush(task));
                }
                Effect::WriteBack(job) => job.run(),
                Effect::Read(task) => {
                    let took = self.dice.below(10) as i64;
                    self.plan(self.now + took, Todo::Read(task));
                }
                Effect::Chore(chore) => {
                    let took = self.dice.below(50) as i64;
                    self.plan(self.now + took, Todo::Chore(chore));
                }
                Effect::Send(_) | Effect::Unsent { .. } => panic!("a cluster of one has nobody to ask"),
                Effect::Reconfigure(_) | Effect::Serve | Effect::MayStop => {}
                Effect::Report(line) => self.reports.push(line),
                Effect::Halt(reason) if self.may_halt => {
                    self.halted.get_or_insert(reason);
                }
                Effect::Halt(reason) => panic!("the node halts: {reason}"),
            }
        }
    }

    fn plan(&mut self, at: Millis, todo: Todo) -> (Millis, u64) {
        self.arisen += 1;
        self.note(at as u64);
        let key = (at.max(self.now), self.arisen);
        self.agenda.insert(key, todo);
        key
    }

    /// Adds to the fingerprint.
    pub fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}
