//! A thousand members of one group, each a thread and a connection.
//!
//! Both protocols end in the same question: does every partition have an owner, and every member a part? Members write what they own into
//! one table; whoever changes it looks whether the group is settled. With the classic protocol a part is an acknowledged sync of the
//! newest generation, because who owns what is the members' own affair there.

use super::{PATIENCE, invalid};
use crate::steps::Trouble;
use crate::wire::Connection;
use ottla_protocol::messages::consumer_group_heartbeat_request as heartbeat848;
use ottla_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::heartbeat_response::HeartbeatResponse;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use ottla_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use ottla_protocol::{Message, Reader};
use std::fmt::{self, Display};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often members send heartbeats: a group of this size learns of a change within this time.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long the group is left alone before one leaves: new assignments of a KIP-848 group are a second apart, whoever asks for them.
const REST: Duration = Duration::from_millis(1500);
/// How little the members count for the scheduler (`nice`).
const MEEKNESS: i32 = 19;
/// How long the group may take to settle.
const SETTLE: Duration = Duration::from_secs(120);

const NONE: i16 = 0;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

/// A subscription to nothing and an assignment of nothing, in the format of the consumer protocol (version 0, no topics, no data).
const EMPTY: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

/// Which protocol the members speak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Classic,
    Consumer,
}

impl Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "KIP-848",
        })
    }
}

/// What was measured: from when to when all joined, and one left and was replaced.
pub struct Load {
    pub joining: (Instant, Instant),
    pub leaving: (Instant, Instant),
}

impl Load {
    /// Whether something happened in the group at that time.
    pub fn is_busy(&self, at: Instant) -> bool {
        [self.joining, self.leaving].iter().any(|(from, to)| (*from..*to).contains(&at))
    }

    /// All members join; when all is settled the last one leaves; when that is settled, all go.
    pub fn run(bootstrap: &str, protocol: Protocol, count: usize) -> Result<Load, Trouble> {
        let table = Table::new(protocol, count);
        std::thread::scope(|scope| {
            let begun = Instant::now();
            for index in 0..count {
                let table = &table;
                let member = move || {
                    let meek = rustix::process::nice(MEEKNESS).map_err(io::Error::from);
                    let outcome = meek.and_then(|_| match protocol {
                        Protocol::Classic => classic(bootstrap, index, table),
                        Protocol::Consumer => consumer(bootstrap, index, table),
                    });
                    if let Err(error) = outcome {
                        table.give_up(format!("member {index}: {error}"));
                    }
                };
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, member)?;
            }
            let outcome = table.wait_settled(Phase::All).and_then(|joined| {
                std::thread::sleep(REST);
                table.enter(Phase::OneLess);
                let settled = table.wait_settled(Phase::OneLess)?;
                Ok(Load { joining: (begun, joined), leaving: (table.left_at(joined), settled) })
            });
            table.enter(Phase::Over);
            outcome
        })
    }
}

/// How many members there are to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    All,
    OneLess,
    Over,
}

struct Table {
    protocol: Protocol,
    count: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// When the current phase was settled.
    settled: Option<Instant>,
    /// When the last member asked to leave.
    left: Option<Instant>,
    /// Classic: the generation that each member has synced. KIP-848: how many partitions it owns.
    parts: Vec<i64>,
    trouble: Option<String>,
}

impl Table {
    fn new(protocol: Protocol, count: usize) -> Table {
        let state =
            State { phase: Phase::All, settled: None, left: None, parts: vec![0; count], trouble: None };
        Table { protocol, count, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The phase, for a member that asks what it is to do.
    fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// The last member is the one that leaves.
    fn is_leaver(&self, index: usize) -> bool {
        index + 1 == self.count
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = phase;
        state.settled = None;
    }

    /// The last member is about to ask to leave.
    fn note_leave(&self) {
        self.lock().left = Some(Instant::now());
    }

    /// When it did so.
    fn left_at(&self, otherwise: Instant) -> Instant {
        self.lock().left.unwrap_or(otherwise)
    }

    fn give_up(&self, reason: String) {
        let mut state = self.lock();
        if state.phase < Phase::Over {
            state.trouble.get_or_insert(reason);
            self.changed.notify_all();
        }
    }

    /// A member's part has changed.
    fn set(&self, index: usize, part: i64) {
        let mut state = self.lock();
        state.parts[index] = part;
        let is_settled = match (self.protocol, state.phase) {
            (_, Phase::Over) => false,
            (Protocol::Classic, Phase::All) => state.parts.iter().all(|other| *other == part),
            (Protocol::Classic, Phase::OneLess) => {
                state.parts[..self.count - 1].iter().all(|other| *other == part)
                    && part > state.parts[self.count - 1]
            }
            (Protocol::Consumer, Phase::All) => state.parts.iter().all(|owned| *owned == 1),
            (Protocol::Consumer, Phase::OneLess) => {
                state.parts[..self.count - 1].iter().sum::<i64>() == self.count as i64
            }
        };
        if is_settled && state.settled.is_none() {
            state.settled = Some(Instant::now());
            self.changed.notify_all();
        }
    }

    fn wait_settled(&self, phase: Phase) -> Result<Instant, Trouble> {
        let deadline = Instant::now() + SETTLE;
        let mut state = self.lock();
        loop {
            if let Some(reason) = &state.trouble {
                return Err(Trouble::new(reason));
            }
            if let Some(at) = state.settled.filter(|_| state.phase == phase) {
                return Ok(at);
            }
            if Instant::now() > deadline {
                let missing = state.parts.iter().filter(|part| **part == 0).count();
                return Err(Trouble::new(format!(
                    "the group did not settle: {missing} members without a part"
                )));
            }
            state = self
                .changed
                .wait_timeout(state, Duration::from_millis(100))
                .map(|(state, _)| state)
                .unwrap_or_else(|poisoned| poisoned.into_inner().0);
        }
    }
}

/// A member of the classic protocol.
fn classic(bootstrap: &str, index: usize, table: &Table) -> io::Result<()> {
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    let mut member_id = String::new();
    'join: while table.phase() < Phase::Over {
        let request = JoinGroupRequest {
            group_id: "classic".into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 60_000,
            member_id: member_id.as_str().into(),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: EMPTY.into() }],
            ..Default::default()
        };
        let body = connection.ask(&request, 9)?;
        let joined = JoinGroupResponse::decode(&mut Reader::new(&body), 9).map_err(invalid)?;
        match joined.error_code {
            NONE => {}
            MEMBER_ID_REQUIRED => {
                member_id = joined.member_id.into_owned();
                continue;
            }
            COORDINATOR_LOAD_IN_PROGRESS
            | COORDINATOR_NOT_AVAILABLE
            | NOT_COORDINATOR
            | REBALANCE_IN_PROGRESS => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            code => return Err(invalid(format!("joining: error {code}"))),
        }
        let assignments = joined.members.iter().map(|member| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: EMPTY.into(),
        });
        let request = SyncGroupRequest {
            group_id: "classic".into(),
            generation_id: joined.generation_id,
            member_id: member_id.as_str().into(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            assignments: assignments.collect(),
            ..Default::default()
        };
        let body = connection.ask(&request, 5)?;
        let synced = SyncGroupResponse::decode(&mut Reader::new(&body), 5).map_err(invalid)?;
        match synced.error_code {
            NONE => table.set(index, joined.generation_id.into()),
            REBALANCE_IN_PROGRESS => continue,
            code => return Err(invalid(format!("syncing: error {code}"))),
        }
        loop {
            std::thread::sleep(HEARTBEAT);
            match table.phase() {
                Phase::Over => return Ok(()),
                Phase::OneLess if table.is_leaver(index) => {
                    let member =
                        MemberIdentity { member_id: member_id.as_str().into(), ..Default::default() };
                    let request = LeaveGroupRequest {
                        group_id: "classic".into(),
                        members: vec![member],
                        ..Default::default()
                    };
                    table.note_leave();
                    return connection.ask(&request, 5).map(drop);
                }
                _ => {}
            }
            let request = HeartbeatRequest {
                group_id: "classic".into(),
                generation_id: joined.generation_id,
                member_id: member_id.as_str().into(),
                ..Default::default()
            };
            let body = connection.ask(&request, 4)?;
            let beaten = HeartbeatResponse::decode(&mut Reader::new(&body), 4).map_err(invalid)?;
            match beaten.error_code {
                NONE => {}
                REBALANCE_IN_PROGRESS => continue 'join,
                code => return Err(invalid(format!("heartbeat: error {code}"))),
            }
        }
    }
    Ok(())
}

/// A member of the protocol of KIP-848: what it is told to own it owns at once, and says so with the next heartbeat.
fn consumer(bootstrap: &str, index: usize, table: &Table) -> io::Result<()> {
    let mut connection = Connection::open(bootstrap, PATIENCE)?;
    let member_id = format!("member-{index:08}");
    let mut member_epoch = 0;
    let mut owned: Vec<heartbeat848::TopicPartitions> = Vec::new();
    loop {
        match table.phase() {
            Phase::Over => return Ok(()),
            Phase::OneLess if table.is_leaver(index) => {
                table.note_leave();
                member_epoch = -1;
            }
            _ => {}
        }
        let is_first = member_epoch == 0;
        let request = heartbeat848::ConsumerGroupHeartbeatRequest {
            group_id: "modern".into(),
            member_id: member_id.as_str().into(),
            member_epoch,
            rebalance_timeout_ms: if is_first { 60_000 } else { -1 },
            subscribed_topic_names: is_first.then(|| vec!["members".into()]),
            topic_partitions: (member_epoch >= 0).then(|| owned.clone()),
            ..Default::default()
        };
        let body = connection.ask(&request, 1)?;
        let beaten = ConsumerGroupHeartbeatResponse::decode(&mut Reader::new(&body), 1).map_err(invalid)?;
        match beaten.error_code {
            NONE if member_epoch < 0 => return Ok(()),
            NONE => {}
            COORDINATOR_LOAD_IN_PROGRESS | COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            code => {
                return Err(invalid(format!(
                    "heartbeat: error {code} {}",
                    beaten.error_message.unwrap_or_default()
                )));
            }
        }
        member_epoch = beaten.member_epoch;
        if let Some(assignment) = beaten.assignment {
            owned = assignment
                .topic_partitions
                .into_iter()
                .map(|topic| heartbeat848::TopicPartitions {
                    topic_id: topic.topic_id,
                    partitions: topic.partitions,
                })
                .collect();
            table.set(index, owned.iter().map(|topic| topic.partitions.len() as i64).sum());
            continue;
        }
        std::thread::sleep(HEARTBEAT);
    }
}
