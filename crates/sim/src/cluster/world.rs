//! The shell of all nodes at once: their effects on disks, clock and network, and what goes wrong with those.
//!
//! The one tricky idea: every request of one node to another ends exactly once, as the real shell promises, whatever the network does:
//! what is lost is told as soon as a broken connection would show it, or when its time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
#[cfg(test)]
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_broker::{
    Broker, Chore, Connection, Effect, Effects, FlushTask, Millis, NodeConfig, Outgoing, ReadTask, Response,
    Token,
};
use ottla_metadata::config::BrokerConfig;
use ottla_protocol::ids::PartitionId;
#[cfg(test)]
use ottla_storage::{Disk, OpenMode};
use ottla_storage::{Pace, SimDisk};

use crate::dice::Dice;

/// When the simulation begins: any time will do, as long as it is always the same.
const EPOCH: Millis = 1_800_000_000_000;
/// The first port of clients, and of controllers; each node adds its index.
const CLIENT_PORT: u16 = 9_000;
const CONTROLLER_PORT: u16 = 9_100;
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// Several nodes, the network between them, their disks, and one clock.
pub(super) struct Cluster {
    pub now: Millis,
    pub dice: Dice,
    nodes: Vec<Node>,
    agenda: BTreeMap<(Millis, u64), Todo>,
    arisen: u64,
    connections: u32,
    /// Settings beside the usual ones; `{node}` stands for the node's number.
    settings: Vec<(&'static str, &'static str)>,
    /// Whom a request that is being handled came from.
    origins: BTreeMap<(usize, Token), Origin>,
    /// Requests between nodes that have not ended: (node, life, ticket).
    open: BTreeSet<(usize, u32, u64)>,
    /// Nodes that nobody reaches, and that reach nobody.
    cut_off: BTreeSet<usize>,
    /// One message in so many is lost, with its connection.
    lost_one_in: u64,
    answers: BTreeMap<u64, Option<Bytes>>,
    requests: u64,
    /// A fingerprint of everything that happened.
    pub trace: u64,
    /// What followers asked leaders for.
    #[cfg(test)]
    pub follower_fetches: Vec<Bytes>,
    pub reports: Vec<String>,
}

struct Node {
    disk: SimDisk,
    broker: Option<Arc<Broker>>,
    life: u32,
    tick: Option<(Millis, u64)>,
    serves: bool,
}

#[derive(Debug, Clone, Copy)]
enum Origin {
    Node { node: usize, life: u32, ticket: u64 },
    Client(u64),
}

enum Todo {
    Start(usize),
    Flush(usize, u32, FlushTask),
    Read(usize, u32, ReadTask),
    Chore(usize, u32, Chore),
    Deadline(usize, u32, Token),
    Tick(usize, u32),
    Arrive { to: usize, listener: &'static str, frame: Bytes, origin: Origin },
    Answer { node: usize, life: u32, ticket: u64, frame: Option<Bytes> },
}

struct Unhurried;

impl Pace for Unhurried {
    fn pass(&self, _bytes: usize) -> bool {
        true
    }
}

impl Cluster {
    pub fn new(
        seed: u64,
        nodes: usize,
        lost_one_in: u64,
        settings: &[(&'static str, &'static str)],
    ) -> Cluster {
        let new = |index: usize| Node {
            disk: SimDisk::new(seed ^ (index as u64 + 1).wrapping_mul(0x9e37)),
            broker: None,
            life: 0,
            tick: None,
            serves: false,
        };
        let mut cluster = Cluster {
            now: EPOCH,
            dice: Dice::new(seed),
            nodes: (0..nodes).map(new).collect(),
            agenda: BTreeMap::new(),
            arisen: 0,
            connections: 0,
            settings: settings.to_vec(),
            origins: BTreeMap::new(),
            open: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            lost_one_in,
            answers: BTreeMap::new(),
            requests: 0,
            trace: seed,
            #[cfg(test)]
            follower_fetches: Vec::new(),
            reports: Vec::new(),
        };
        for node in 0..nodes {
            let at = cluster.now + cluster.dice.below(500) as i64;
            cluster.plan(at, Todo::Start(node));
        }
        cluster
    }

    fn config(&self, node: usize) -> NodeConfig {
        let voters: Vec<String> = (0..self.nodes.len())
            .map(|id| format!("{}@sim:{}", id + 1, CONTROLLER_PORT + id as u16))
            .collect();
        let (client, controller) = (CLIENT_PORT + node as u16, CONTROLLER_PORT + node as u16);
        let settings = [
            ("node.id", (node + 1).to_string()),
            ("process.roles", "broker,controller".to_owned()),
            ("listeners", format!("PLAINTEXT://sim:{client},CONTROLLER://sim:{controller}")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("controller.quorum.voters", voters.join(",")),
            ("log.dirs", "/data".to_owned()),
            ("broker.session.timeout.ms", "3000".to_owned()),
            ("broker.heartbeat.interval.ms", "500".to_owned()),
            ("replica.lag.time.max.ms", "4000".to_owned()),
            // What is lost without a sound must not take up the rest of a run.
            ("replica.socket.timeout.ms", "3000".to_owned()),
            ("offsets.topic.num.partitions", "2".to_owned()),
            ("transaction.state.log.num.partitions", "2".to_owned()),
            ("leader.imbalance.check.interval.seconds", "30".to_owned()),
        ];
        let number = (node + 1).to_string();
        let further = self.settings.iter().map(|(key, value)| (*key, value.replace("{node}", &number)));
        let settings = settings.into_iter().chain(further);
        let settings = settings.map(|(key, value)| (key.to_owned(), value)).collect();
        let (broker, _) = BrokerConfig::resolve(&settings).expect("a sound configuration");
        NodeConfig { broker, cluster_id: Some(CLUSTER_ID.to_owned()), loggers: Arc::default() }
    }

    fn start(&mut self, node: usize) -> Result<(), String> {
        let (config, seed) = (self.config(node), self.dice.next());
        let disk = Arc::new(self.nodes[node].disk.clone());
        let broker = Broker::open(disk, config, self.now, seed);
        let broker = broker.map_err(|error| format!("node {node} does not start: {error}"))?;
        self.nodes[node].broker = Some(broker.clone());
        let mut out = Effects::new();
        broker.on_tick(self.now, &mut out);
        self.perform(node, out)
    }

    /// The node dies, and starts again after a while on what its disk kept.
    pub fn kill(&mut self, node: usize, power_loss: bool, pause: Millis) {
        let it = &mut self.nodes[node];
        it.broker = None;
        it.life += 1;
        it.serves = false;
        it.tick = None;
        it.disk = if power_loss { it.disk.crash() } else { it.disk.kill() };
        self.note(node as u64 + 17);
        self.plan(self.now + pause, Todo::Start(node));
        // Connections end with the process: whoever waits for it hears of that.
        let waiting: Vec<Origin> =
            self.origins.extract_if(.., |(at, _), _| *at == node).map(|(_, origin)| origin).collect();
        waiting.into_iter().for_each(|origin| self.send_back(origin, None));
    }

    /// Nobody reaches the node, and it reaches nobody.
    pub fn cut_off(&mut self, node: usize) {
        self.cut_off.insert(node);
    }

    pub fn heal(&mut self) {
        self.cut_off.clear();
        self.lost_one_in = u64::MAX;
    }

    pub fn rejoin(&mut self) {
        self.cut_off.clear();
    }

    pub fn broker(&self, node: usize) -> Option<&Arc<Broker>> {
        self.nodes[node].broker.as_ref()
    }

    pub fn serves(&self, node: usize) -> bool {
        self.nodes[node].serves
    }

    /// A file in a node's directory, as far as it is text; empty if there is none.
    #[cfg(test)]
    pub fn file(&self, node: usize, name: &str) -> String {
        let path = Path::new("/data").join(name);
        let Ok(file) = self.nodes[node].disk.open(&path, OpenMode::Read) else { return String::new() };
        let mut bytes = vec![0; file.len().expect("it is open") as usize];
        file.read_exact_at(&mut bytes, 0).expect("it is that long");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is in a node's directory.
    #[cfg(test)]
    pub fn directories(&self, node: usize) -> Vec<String> {
        self.nodes[node].disk.list(Path::new("/data")).unwrap_or_default()
    }

    /// One of the nodes that serve.
    pub fn any_server(&mut self) -> Option<usize> {
        let node = self.dice.below(self.nodes.len() as u64) as usize;
        self.nodes[node].serves.then_some(node)
    }

    /// The leader, as one of those that serve sees it.
    pub fn leader(&mut self, topic: &str, partition: PartitionId) -> Option<usize> {
        let node = self.any_server()?;
        let image = self.broker(node)?.image();
        let leader = image.topic_by_name(topic)?.partitions.get(&partition)?.leader?;
        Some(leader.0 as usize - 1)
    }

    /// A client's request; its answer comes with [`Cluster::take_answer`].
    pub fn ask(&mut self, node: usize, frame: Bytes) -> u64 {
        self.requests += 1;
        let (id, at) = (self.requests, self.now + 1 + self.dice.below(5) as i64);
        let origin = Origin::Client(id);
        self.plan(at, Todo::Arrive { to: node, listener: "PLAINTEXT", frame, origin });
        id
    }

    /// `Some(None)`: there will be no answer.
    pub fn take_answer(&mut self, request: u64) -> Option<Option<Bytes>> {
        self.answers.remove(&request)
    }

    /// Lets the next thing happen, if it is due until then.
    pub fn step(&mut self, until: Millis) -> Result<bool, String> {
        let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= until) else {
            self.now = self.now.max(until);
            return Ok(false);
        };
        let ((at, _), todo) = entry.remove_entry();
        self.now = self.now.max(at);
        let mut out = Effects::new();
        let now = self.now;
        let node = match todo {
            Todo::Start(node) => {
                self.start(node)?;
                return Ok(true);
            }
            Todo::Flush(node, life, task) => {
                let Some(broker) = self.living(node, life) else { return Ok(true) };
                broker.on_flushed(task.run(), now, &mut out);
                node
            }
            Todo::Read(node, life, task) => {
                let Some(broker) = self.living(node, life) else { return Ok(true) };
                broker.on_read(task, now, &mut out);
                node
            }
            Todo::Chore(node, life, chore) => {
                let Some(broker) = self.living(node, life) else { return Ok(true) };
                broker.on_chore(chore, &Unhurried, now, &mut out);
                node
            }
            Todo::Deadline(node, life, token) => {
                let Some(broker) = self.living(node, life) else { return Ok(true) };
                broker.on_deadline(token, now, &mut out);
                node
            }
            Todo::Tick(node, life) => {
                let Some(broker) = self.living(node, life) else { return Ok(true) };
                self.nodes[node].tick = None;
                broker.on_tick(now, &mut out);
                node
            }
            Todo::Arrive { to, listener, frame, origin } => {
                let reached = self.nodes[to].broker.clone();
                let reached = reached.filter(|_| listener == "CONTROLLER" || self.nodes[to].serves);
                let Some(broker) = reached else {
                    self.send_back(origin, None);
                    return Ok(true);
                };
                self.connections += 1;
                let (connection, generation) = (self.connections, self.nodes[to].life);
                let token = Token { shard: 0, connection, generation, slot: 0 };
                self.origins.insert((to, token), origin);
                let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
                let mut connection = Connection::new(listener.into(), peer);
                broker.on_frame(&mut connection, frame, token, now, &mut out);
                to
            }
            Todo::Answer { node, life, ticket, frame } => {
                if !self.open.remove(&(node, life, ticket)) {
                    return Ok(true);
                }
                let Some(broker) = self.living(node, life) else { return Ok(true) };
                broker.on_answer(ticket, frame, now, &mut out);
                node
            }
        };
        self.perform(node, out)?;
        Ok(true)
    }

    fn living(&self, node: usize, life: u32) -> Option<Arc<Broker>> {
        let it = &self.nodes[node];
        it.broker.clone().filter(|_| it.life == life)
    }

    fn perform(&mut self, node: usize, effects: Effects) -> Result<(), String> {
        let life = self.nodes[node].life;
        for effect in effects {
            match effect {
                Effect::Respond { token, response } => {
                    self.note(node as u64);
                    let Some(origin) = self.origins.remove(&(node, token)) else {
                        return Err(format!("node {node} answers {token:?} twice, or nobody"));
                    };
                    let frame = match response {
                        Response::Frame(chain) => Some(chain.read().map_err(|error| error.to_string())?),
                        Response::Nothing | Response::Close => None,
                    };
                    let is_lost = self.is_lost(node, origin);
                    self.send_back(origin, frame.filter(|_| !is_lost));
                }
                Effect::Deadline { token, at } => self.plan(at, Todo::Deadline(node, life, token)),
                Effect::Tick { at } => self.arm(node, at),
                Effect::Flush(task) => {
                    let took = 1 + self.dice.below(8) as i64;
                    self.plan(self.now + took, Todo::Flush(node, life, task));
                }
                Effect::WriteBack(job) => job.run(),
                Effect::Read(task) => {
                    let took = self.dice.below(4) as i64;
                    self.plan(self.now + took, Todo::Read(node, life, task));
                }
                Effect::Chore(chore) => {
                    let took = self.dice.below(50) as i64;
                    self.plan(self.now + took, Todo::Chore(node, life, chore));
                }
                Effect::Send(outgoing) => self.send(node, life, outgoing)?,
                Effect::Unsent { ticket } => return Err(format!("node {node} can not say request {ticket}")),
                Effect::Serve => self.nodes[node].serves = true,
                Effect::Report(line) => self.reports.push(format!("node {node}: {line}")),
                Effect::Halt(reason) => return Err(format!("node {node} halts: {reason}")),
                // Every request has a connection of its own.
                Effect::Hold { .. } | Effect::Resume { .. } | Effect::Mute { .. } => {}
                Effect::Reconfigure(_) | Effect::MayStop => {}
            }
        }
        Ok(())
    }

    fn arm(&mut self, node: usize, at: Millis) {
        let planned = self.nodes[node].tick.take();
        let at = planned.map_or(at, |planned| planned.0.min(at)).max(self.now);
        if let Some(planned) = planned {
            self.agenda.remove(&planned);
        }
        let life = self.nodes[node].life;
        self.plan(at, Todo::Tick(node, life));
        self.nodes[node].tick = Some((at, self.arisen));
    }

    fn send(&mut self, node: usize, life: u32, outgoing: Outgoing) -> Result<(), String> {
        let Outgoing { to, ticket, frame, timeout_ms, .. } = outgoing;
        let (target, listener) = match to.port.checked_sub(CONTROLLER_PORT) {
            Some(index) => (usize::from(index), "CONTROLLER"),
            None => (usize::from(to.port - CLIENT_PORT), "PLAINTEXT"),
        };
        self.open.insert((node, life, ticket));
        let (at, limit) = (self.now + 1 + self.dice.below(10) as i64, self.now + timeout_ms);
        let origin = Origin::Node { node, life, ticket };
        // Whatever becomes of it, it is over then.
        self.plan(limit, Todo::Answer { node, life, ticket, frame: None });
        if self.cut_off.contains(&node) != self.cut_off.contains(&target) {
            return Ok(());
        }
        let frame = frame.read().map_err(|error| error.to_string())?;
        #[cfg(test)]
        if to.lane == ottla_broker::Lane::Replication {
            self.follower_fetches.push(frame.clone());
        }
        if self.is_lost(target, origin) {
            self.plan(at, Todo::Answer { node, life, ticket, frame: None });
        } else {
            self.plan(at, Todo::Arrive { to: target, listener, frame, origin });
        }
        Ok(())
    }

    fn is_lost(&mut self, one: usize, origin: Origin) -> bool {
        let Origin::Node { node, .. } = origin else { return false };
        let divided = self.cut_off.contains(&one) != self.cut_off.contains(&node);
        divided || self.dice.once_in(self.lost_one_in)
    }

    fn send_back(&mut self, origin: Origin, frame: Option<Bytes>) {
        match origin {
            Origin::Client(id) => {
                self.answers.insert(id, frame);
            }
            Origin::Node { node, life, ticket } => {
                let at = self.now + 1 + self.dice.below(10) as i64;
                self.plan(at, Todo::Answer { node, life, ticket, frame });
            }
        }
    }

    fn plan(&mut self, at: Millis, todo: Todo) {
        self.arisen += 1;
        self.note(at as u64);
        self.agenda.insert((at.max(self.now), self.arisen), todo);
    }

    fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}
