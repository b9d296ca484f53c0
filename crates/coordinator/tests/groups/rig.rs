//! The rig: one coordinator, a log that appends at once, and what clients heard.

use ottla_coordinator::{
    Config, Context, GroupCoordinator, GroupOverrides, Outcome, Reply, Response, Topics, Waiter,
};
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use ottla_protocol::messages::leave_group_response::LeaveGroupResponse;
use ottla_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const START: i64 = 1_700_000_000_000;
pub const INITIAL_DELAY: i64 = 3_000;
pub const SESSION: i64 = 10_000;
pub const REBALANCE: i64 = 60_000;
/// What the member ids of the first coordinator are made of.
const SEED: u64 = 42;

/// Topics of the test cluster: name → (id, partitions).
#[derive(Clone, Default)]
pub struct Cluster {
    pub topics: BTreeMap<String, (Uuid, i32)>,
    pub forbidden: Vec<String>,
    pub version: i64,
    pub racks: Vec<String>,
    pub overrides: BTreeMap<String, GroupOverrides>,
}

impl Topics for Cluster {
    fn id_of(&self, name: &str) -> Option<Uuid> {
        self.topics.get(name).map(|(id, _)| *id)
    }
    fn name_of(&self, id: Uuid) -> Option<String> {
        self.topics.iter().find(|(_, (theirs, _))| *theirs == id).map(|(name, _)| name.clone())
    }
    fn has_partition(&self, name: &str, partition: i32) -> bool {
        self.topics.get(name).is_some_and(|(_, count)| (0..*count).contains(&partition))
    }
    fn partition_count(&self, id: Uuid) -> Option<i32> {
        self.topics.values().find(|(theirs, _)| *theirs == id).map(|(_, count)| *count)
    }
    fn racks(&self, _id: Uuid, _partition: i32) -> Vec<String> {
        self.racks.clone()
    }
    fn names_after(&self, after: Option<&str>, max: usize) -> Vec<Arc<str>> {
        let names = self.topics.keys().filter(|name| after.is_none_or(|after| name.as_str() > after));
        names.take(max).map(|name| Arc::from(name.as_str())).collect()
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn group_overrides(&self, group_id: &str) -> GroupOverrides {
        self.overrides.get(group_id).copied().unwrap_or_default()
    }
    fn is_allowed(&self, name: &str) -> bool {
        !self.forbidden.iter().any(|forbidden| forbidden == name)
    }
}

pub fn topic_id(number: u8) -> Uuid {
    let mut bytes = [0; 16];
    bytes[15] = number;
    Uuid(bytes)
}

/// A consumer: what it knows of its group.
#[derive(Debug, Clone)]
pub struct Client {
    pub name: String,
    pub group: String,
    pub instance: Option<String>,
    pub protocols: Vec<(String, Vec<u8>)>,
    pub protocol_type: String,
    pub member_id: String,
    pub generation: i32,
    pub session: i32,
    pub rebalance: i32,
    pub join_version: i16,
}

impl Client {
    pub fn new(name: &str) -> Client {
        Client {
            name: name.into(),
            group: "g".into(),
            instance: None,
            protocols: vec![("range".into(), subscription(&["t"]))],
            protocol_type: "consumer".into(),
            member_id: String::new(),
            generation: -1,
            session: SESSION as i32,
            rebalance: REBALANCE as i32,
            join_version: 9,
        }
    }
    pub fn in_group(mut self, group: &str) -> Client {
        self.group = group.into();
        self
    }
    pub fn with_instance(mut self, instance: &str) -> Client {
        self.instance = Some(instance.into());
        self
    }
    pub fn with_protocols(mut self, protocols: &[&str]) -> Client {
        self.protocols = protocols.iter().map(|name| (name.to_string(), subscription(&["t"]))).collect();
        self
    }
    pub fn with_topics(mut self, topics: &[&str]) -> Client {
        self.protocols = vec![("range".into(), subscription(topics))];
        self
    }
    pub fn with_join_version(mut self, version: i16) -> Client {
        self.join_version = version;
        self
    }
    /// Starts anew: all that was learned is forgotten.
    pub fn restarted(&self) -> Client {
        Client { member_id: String::new(), generation: -1, ..self.clone() }
    }
    fn learn(&mut self, joined: &JoinGroupResponse<'_>) {
        assert_eq!(joined.error_code, 0, "{} could not join: {joined:?}", self.name);
        self.member_id = joined.member_id.to_string();
        self.generation = joined.generation_id;
    }
}

/// A consumer's subscription, version 0.
pub fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}

#[derive(Clone)]
pub enum Logged {
    Record { key: Vec<u8>, value: Option<Vec<u8>>, producer_id: i64 },
    Marker { producer_id: i64, commit: bool },
}

#[derive(Clone)]
pub struct Rig {
    pub coordinator: GroupCoordinator,
    pub config: Config,
    pub now: i64,
    pub cluster: Cluster,
    pub log: Vec<Logged>,
    pub fail_next: Option<ErrorCode>,
    next_waiter: u128,
    /// How many coordinators there were before this one: no two of them make up the same member ids.
    fail_overs: u64,
    answers: BTreeMap<Waiter, Reply>,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with_config(Config::default())
    }

    pub fn with_config(config: Config) -> Rig {
        let mut coordinator = GroupCoordinator::new(config.clone(), SEED);
        let topics = [("t", 1, 8), ("u", 2, 4), ("v", 3, 1)];
        let topics =
            topics.into_iter().map(|(name, id, count)| (name.to_string(), (topic_id(id), count))).collect();
        let cluster = Cluster { topics, ..Default::default() };
        assert!(coordinator.on_loaded(START, &cluster).replies.is_empty());
        Rig {
            coordinator,
            config,
            now: START,
            cluster,
            log: Vec::new(),
            fail_next: None,
            next_waiter: 0,
            fail_overs: 0,
            answers: BTreeMap::new(),
        }
    }

    /// Does what the broker does with an outcome.
    pub fn settle(&mut self, outcome: Outcome) {
        let replies = if outcome.records.is_empty() {
            outcome.replies
        } else if let Some(error) = self.fail_next.take() {
            self.coordinator.on_append_failed(outcome, error, self.now)
        } else {
            let base_offset = self.log.len() as i64;
            let producer_id = outcome.transaction.map_or(-1, |t| t.producer_id);
            for record in outcome.records.clone() {
                self.log.push(Logged::Record { key: record.key, value: record.value, producer_id });
            }
            self.coordinator.on_appended(outcome, base_offset, self.now)
        };
        for reply in replies {
            let earlier = self.answers.insert(reply.waiter, reply);
            assert!(earlier.is_none(), "a request is answered once");
        }
    }

    /// Runs one request; returns who waits for its answer.
    pub fn request(
        &mut self,
        client_id: &str,
        api_version: i16,
        handle: impl FnOnce(&mut GroupCoordinator, &Context<'_>) -> Outcome,
    ) -> Waiter {
        let waiter = Waiter(self.next_waiter);
        self.next_waiter += 1;
        let client_host = format!("/{client_id}.test");
        let context = Context {
            now: self.now,
            waiter,
            api_version,
            client_id,
            client_host: &client_host,
            topics: &self.cluster,
        };
        let outcome = handle(&mut self.coordinator, &context);
        self.settle(outcome);
        waiter
    }

    pub fn is_waiting(&self, waiter: Waiter) -> bool {
        !self.answers.contains_key(&waiter)
    }

    /// Takes the answer to a request.
    pub fn answer(&mut self, waiter: Waiter) -> Response {
        self.answers.remove(&waiter).unwrap_or_else(|| panic!("{waiter:?} is still waiting")).response
    }

    /// Lets time pass, timer by timer.
    pub fn advance(&mut self, ms: i64) {
        let until = self.now + ms;
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let outcome = self.coordinator.on_timeout(self.now, &self.cluster);
            self.settle(outcome);
        }
        self.now = until;
    }

    // ---- members

    pub fn join(&mut self, client: &Client) -> Waiter {
        let (version, protocols) = (client.join_version, client.protocols.clone());
        let protocol = |(name, metadata): (String, Vec<u8>)| JoinGroupRequestProtocol {
            name: name.into(),
            metadata: metadata.into(),
        };
        let request = JoinGroupRequest {
            group_id: client.group.clone().into(),
            session_timeout_ms: client.session,
            rebalance_timeout_ms: client.rebalance,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
            protocol_type: client.protocol_type.clone().into(),
            protocols: protocols.into_iter().map(protocol).collect(),
            ..Default::default()
        };
        self.request(&client.name, version, |c, context| c.handle_join_group(&request, context))
    }

    pub fn joined(&mut self, waiter: Waiter) -> JoinGroupResponse<'static> {
        match self.answer(waiter) {
            Response::JoinGroup(response) => response,
            other => panic!("not a JoinGroup response: {other:?}"),
        }
    }

    pub fn join_error(&mut self, client: &Client) -> ErrorCode {
        let waiter = self.join(client);
        error(self.joined(waiter).error_code)
    }

    /// Joins up to the parked request: with the extra round for the member id if the version needs one.
    pub fn join_parked(&mut self, client: &mut Client) -> Waiter {
        if client.member_id.is_empty() && client.instance.is_none() && client.join_version >= 4 {
            let waiter = self.join(client);
            let told = self.joined(waiter);
            assert_eq!(error(told.error_code), ErrorCode::MemberIdRequired);
            client.member_id = told.member_id.to_string();
        }
        self.join(client)
    }

    pub fn sync(&mut self, client: &Client, assignments: &[(&str, &[u8])]) -> Waiter {
        let assignment = |(member_id, assignment): &(&str, &[u8])| SyncGroupRequestAssignment {
            member_id: member_id.to_string().into(),
            assignment: assignment.to_vec().into(),
        };
        let request = SyncGroupRequest {
            group_id: client.group.clone().into(),
            generation_id: client.generation,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
            protocol_type: Some(client.protocol_type.clone().into()),
            assignments: assignments.iter().map(assignment).collect(),
            ..Default::default()
        };
        self.request(&client.name, 5, |c, context| c.handle_sync_group(&request, context))
    }

    pub fn synced(&mut self, waiter: Waiter) -> SyncGroupResponse<'static> {
        match self.answer(waiter) {
            Response::SyncGroup(response) => response,
            other => panic!("not a SyncGroup response: {other:?}"),
        }
    }

    pub fn sync_error(&mut self, client: &Client) -> ErrorCode {
        let waiter = self.sync(client, &[]);
        error(self.synced(waiter).error_code)
    }

    pub fn heartbeat(&mut self, client: &Client) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: client.group.clone().into(),
            generation_id: client.generation,
            member_id: client.member_id.clone().into(),
            group_instance_id: client.instance.clone().map(Into::into),
        };
        let waiter = self.request(&client.name, 4, |c, context| c.handle_heartbeat(&request, context));
        match self.answer(waiter) {
            Response::Heartbeat(response) => error(response.error_code),
            other => panic!("not a Heartbeat response: {other:?}"),
        }
    }

    pub fn leave_members(
        &mut self,
        group: &str,
        members: &[(&str, Option<&str>)],
    ) -> LeaveGroupResponse<'static> {
        let member = |(member_id, instance): &(&str, Option<&str>)| MemberIdentity {
            member_id: member_id.to_string().into(),
            group_instance_id: instance.map(|i| i.to_string().into()),
            ..Default::default()
        };
        let members = members.iter().map(member).collect();
        let request = LeaveGroupRequest { group_id: group.to_string().into(), members, ..Default::default() };
        let waiter = self.request("admin", 5, |c, context| c.handle_leave_group(&request, context));
        match self.answer(waiter) {
            Response::LeaveGroup(response) => response,
            other => panic!("not a LeaveGroup response: {other:?}"),
        }
    }

    pub fn leave(&mut self, client: &Client) -> ErrorCode {
        let response = self.leave_members(&client.group, &[(&client.member_id, client.instance.as_deref())]);
        assert_eq!(response.error_code, 0);
        error(response.members[0].error_code)
    }

    /// Brings all clients, and nobody else, to a stable group: join, wait, sync. Member n is assigned the bytes `[n]`.
    pub fn stabilize(&mut self, clients: &mut [Client]) {
        let waiters: Vec<_> = clients.iter_mut().map(|client| self.join_parked(client)).collect();
        let mut waited = 0;
        while waiters.iter().any(|waiter| self.is_waiting(*waiter)) {
            assert!(waited <= REBALANCE, "the join phase ends");
            waited += 500;
            self.advance(500);
        }
        let joined: Vec<_> = waiters.into_iter().map(|waiter| self.joined(waiter)).collect();
        for (client, joined) in clients.iter_mut().zip(&joined) {
            client.learn(joined);
        }
        self.sync_all(clients, &joined[0].leader);
    }

    /// The sync phase; followers first, so that they have to wait.
    pub fn sync_all(&mut self, clients: &[Client], leader: &str) {
        let all: Vec<_> =
            clients.iter().enumerate().map(|(n, c)| (c.member_id.clone(), vec![n as u8])).collect();
        let all: Vec<_> = all.iter().map(|(id, bytes)| (id.as_str(), bytes.as_slice())).collect();
        let (leaders, followers): (Vec<_>, Vec<_>) = clients.iter().partition(|c| c.member_id == leader);
        assert_eq!(leaders.len(), 1, "one of us leads");
        let waiters: Vec<_> = followers.iter().map(|c| (c.member_id.clone(), self.sync(c, &[]))).collect();
        assert!(waiters.iter().all(|(_, waiter)| self.is_waiting(*waiter)));
        let leading = (leader.to_string(), self.sync(leaders[0], &all));
        for (member_id, waiter) in waiters.into_iter().chain([leading]) {
            let synced = self.synced(waiter);
            assert_eq!(synced.error_code, 0);
            let expected = all.iter().find(|(id, _)| *id == member_id).expect("assigned").1;
            assert_eq!(&*synced.assignment, expected);
        }
    }

    pub fn state(&self, group: &str) -> String {
        self.coordinator.describe_group(group, 6).group_state.to_string()
    }

    /// The generation of a classic group that is not in the middle of a rebalance.
    pub fn generation(&self, group: &str) -> Option<i32> {
        let state = self.coordinator.hard_state();
        let words = state.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut found = words.filter(|words| words.len() > 3 && words[..2] == ["group", group]);
        found.next()?[3].parse().ok()
    }

    // ---- the log

    /// A fresh coordinator that has read the log and does not lead yet.
    pub fn replayed(&self) -> GroupCoordinator {
        self.replay_watched(|_, _| {})
    }

    /// The same, shown after each record (how many there were, the coordinator).
    pub fn replay_watched(&self, mut watch: impl FnMut(usize, &GroupCoordinator)) -> GroupCoordinator {
        let mut fresh = GroupCoordinator::new(self.config.clone(), SEED + 1 + self.fail_overs);
        for (offset, logged) in self.log.iter().enumerate() {
            match logged {
                Logged::Record { key, value, producer_id } => {
                    fresh.replay(key, value.as_deref(), offset as i64, *producer_id).expect("it can be read");
                }
                Logged::Marker { producer_id, commit } => fresh.replay_end_transaction(*producer_id, *commit),
            }
            watch(offset + 1, &fresh);
        }
        fresh
    }

    /// The promise that everything rests on: what was written is what there is.
    pub fn check_replay(&self) {
        let (live, replayed) = (self.coordinator.hard_state(), self.replayed().hard_state());
        let settled = |text: &str| !text.contains("rebalancing");
        assert!(settled(&live), "check when no rebalance is under way:\n{live}");
        assert_eq!(live, replayed, "live state (left) and replayed state (right)");
    }

    /// The broker fails over: who leads next has only the log.
    pub fn fail_over(&mut self) {
        for reply in self.coordinator.on_unloaded() {
            self.answers.insert(reply.waiter, reply);
        }
        self.coordinator = self.replayed();
        self.fail_overs += 1;
        let outcome = self.coordinator.on_loaded(self.now, &self.cluster);
        self.settle(outcome);
    }
}

pub fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code)
}
