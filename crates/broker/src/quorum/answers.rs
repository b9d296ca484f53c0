//! What other nodes answered, and what this broker asks of the active controller.
//!
//! The one tricky idea: a question to the active controller is the same whether that is this node or another one. Here it is decided at
//! once and the answer waits for its commit; there it travels. Both end in [`Broker::on_controller_answer`].

use bytes::Bytes;
use ottla_controller::Decision;
use ottla_protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use ottla_protocol::messages::allocate_producer_ids_response::AllocateProducerIdsResponse;
use ottla_protocol::messages::alter_partition_request::AlterPartitionRequest;
use ottla_protocol::messages::alter_partition_response::AlterPartitionResponse;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::assign_replicas_to_dirs_request::AssignReplicasToDirsRequest;
use ottla_protocol::messages::assign_replicas_to_dirs_response::AssignReplicasToDirsResponse;
use ottla_protocol::messages::begin_quorum_epoch_response::BeginQuorumEpochResponse;
use ottla_protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use ottla_protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use ottla_protocol::messages::broker_registration_request::BrokerRegistrationRequest;
use ottla_protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use ottla_protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use ottla_protocol::messages::controller_registration_response::ControllerRegistrationResponse;
use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;
use ottla_protocol::messages::end_quorum_epoch_response::EndQuorumEpochResponse;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::fetch_snapshot_response::FetchSnapshotResponse;
use ottla_protocol::messages::update_raft_voter_response::UpdateRaftVoterResponse;
use ottla_protocol::messages::vote_response::VoteResponse;
use ottla_protocol::{ErrorCode, Message, Reader};
use ottla_raft::{Event, VersionRange};

use super::Then;
use crate::Broker;
use crate::api::{
    alter_partition, assign_replicas_to_dirs, broker_heartbeat, broker_registration, controller_registration,
};
use crate::call::Deferred;
use crate::effect::{Effect, Effects, Millis, ReadTask};
use crate::lifecycle::HeartbeatSaid;
use crate::peers::{Awaited, Lane};

/// A question to the active controller.
#[derive(Debug)]
pub(crate) enum Ask {
    /// This broker introduces itself.
    Register(Box<BrokerRegistrationRequest<'static>>),
    /// This broker is alive.
    Heartbeat(BrokerHeartbeatRequest),
    /// This controller introduces itself.
    RegisterController(Box<ControllerRegistrationRequest<'static>>),
    /// A block of producer ids, and the request that needs one.
    ProducerIds(Option<Deferred>),
    /// Changes of ISRs.
    Isr(Box<AlterPartitionRequest>),
    /// In which directories replicas are.
    Directories(Box<AssignReplicasToDirsRequest>),
    /// Topics, and the request that needs them.
    Create(Box<CreateTopicsRequest<'static>>, Deferred),
}

/// Its answer; `None`: there was none, or nobody can be asked.
#[derive(Debug)]
pub(crate) enum Answer {
    Registered(Option<BrokerRegistrationResponse>),
    Heartbeat { said: HeartbeatSaid, answer: Option<BrokerHeartbeatResponse> },
    ControllerRegistered(Option<i16>),
    ProducerIds(Option<AllocateProducerIdsResponse>, Option<Deferred>),
    Isr(Option<AlterPartitionResponse>),
    Directories(Option<AssignReplicasToDirsResponse>),
    Created(Deferred),
}

impl Answer {
    /// The same question, without an answer.
    pub fn lost(self) -> Answer {
        match self {
            Answer::Registered(_) => Answer::Registered(None),
            Answer::Heartbeat { said, .. } => Answer::Heartbeat { said, answer: None },
            Answer::ControllerRegistered(_) => Answer::ControllerRegistered(None),
            Answer::ProducerIds(_, deferred) => Answer::ProducerIds(None, deferred),
            Answer::Isr(_) => Answer::Isr(None),
            Answer::Directories(_) => Answer::Directories(None),
            Answer::Created(deferred) => Answer::Created(deferred),
        }
    }
}

impl Ask {
    fn unanswered(self) -> Answer {
        match self {
            Ask::Register(_) => Answer::Registered(None),
            Ask::Heartbeat(request) => Answer::Heartbeat { said: HeartbeatSaid::by(&request), answer: None },
            Ask::RegisterController(_) => Answer::ControllerRegistered(None),
            Ask::ProducerIds(deferred) => Answer::ProducerIds(None, deferred),
            Ask::Isr(_) => Answer::Isr(None),
            Ask::Directories(_) => Answer::Directories(None),
            Ask::Create(_, deferred) => Answer::Created(deferred),
        }
    }
}

impl Broker {
    /// Asks the active controller, wherever it is.
    pub(crate) fn ask_controller(&self, ask: Ask, now: Millis, out: &mut Effects) {
        let Some(leader) = self.quorum.leader() else {
            return self.on_controller_answer(ask.unanswered(), now, out);
        };
        let timeout_ms = i64::from(self.config.network.request_timeout_ms);
        let Some(to) = leader.peer(Lane::Controller) else { return self.ask_here(ask, now, out) };
        let peers = &self.peers;
        match ask {
            Ask::Register(request) => {
                peers.send(to, (&*request, 4), Awaited::Registration, timeout_ms, out);
            }
            Ask::Heartbeat(request) => {
                let awaited = Awaited::Heartbeat { said: HeartbeatSaid::by(&request) };
                let to = leader.peer(Lane::Heartbeat).unwrap_or(to);
                let timeout_ms = i64::from(self.config.metadata_log.broker_heartbeat_interval_ms);
                peers.send(to, (&request, 2), awaited, timeout_ms, out);
            }
            Ask::RegisterController(request) => {
                peers.send(to, (&*request, 0), Awaited::ControllerRegistration, timeout_ms, out);
            }
            Ask::ProducerIds(deferred) => {
                let request = self.producer_ids_request();
                peers.send(to, (&request, 0), Awaited::ProducerIds(deferred), timeout_ms, out);
            }
            Ask::Isr(request) => peers.send(to, (&*request, 3), Awaited::Isr, timeout_ms, out),
            Ask::Directories(request) => {
                peers.send(to, (&*request, 0), Awaited::Directories, timeout_ms, out);
            }
            Ask::Create(request, deferred) => {
                peers.send(to, (&*request, 7), Awaited::Creation(deferred), timeout_ms, out);
            }
        }
    }

    fn producer_ids_request(&self) -> AllocateProducerIdsRequest {
        AllocateProducerIdsRequest { broker_id: self.config.node_id, broker_epoch: self.broker_epoch() }
    }

    /// This node is the active controller.
    fn ask_here(&self, ask: Ask, now: Millis, out: &mut Effects) {
        let lost = self.with_quorum(now, out, |state, out| {
            if state.active.is_none() {
                return Ok(Some(ask));
            }
            let then = match ask {
                Ask::Register(request) => {
                    let decide = |it: &mut super::Deciding<'_>| broker_registration::decide(it, &request, 4);
                    Then::Told(Answer::Registered(state.decide(decide, now, out)?))
                }
                Ask::Heartbeat(request) => {
                    let answer = state.decide(|it| broker_heartbeat::decide(it, &request), now, out)?;
                    Then::Told(Answer::Heartbeat { said: HeartbeatSaid::by(&request), answer })
                }
                Ask::RegisterController(request) => {
                    let answer =
                        state.decide(|it| controller_registration::decide(it, &request), now, out)?;
                    Then::Told(Answer::ControllerRegistered(answer.map(|answer| answer.error_code)))
                }
                Ask::ProducerIds(deferred) => {
                    let request = self.producer_ids_request();
                    let answer = state.decide(
                        |it| {
                            it.controller.allocate_producer_ids(&request).unwrap_or_else(|error| {
                                let error_code = error.code.code();
                                Decision::without_records(AllocateProducerIdsResponse {
                                    error_code,
                                    ..Default::default()
                                })
                            })
                        },
                        now,
                        out,
                    )?;
                    Then::Told(Answer::ProducerIds(answer, deferred))
                }
                Ask::Isr(request) => {
                    let decide = |it: &mut super::Deciding<'_>| alter_partition::decide(it, &request, 3);
                    Then::Told(Answer::Isr(state.decide(decide, now, out)?))
                }
                Ask::Directories(request) => {
                    let decide = |it: &mut super::Deciding<'_>| assign_replicas_to_dirs::decide(it, &request);
                    Then::Told(Answer::Directories(state.decide(decide, now, out)?))
                }
                Ask::Create(request, deferred) => {
                    // Whoever asks has counted already.
                    let decide = |it: &mut super::Deciding<'_>| {
                        it.controller.create_topics(&request, &mut ottla_controller::unlimited)
                    };
                    state.decide(decide, now, out)?;
                    Then::Again(deferred)
                }
            };
            state.wait(then);
            state.release();
            Ok(None)
        });
        if let Some(Some(ask)) = lost {
            self.on_controller_answer(ask.unanswered(), now, out);
        }
    }

    /// The active controller answered, or did not.
    pub(crate) fn on_controller_answer(&self, answer: Answer, now: Millis, out: &mut Effects) {
        match answer {
            Answer::Registered(answer) => self.on_registered(answer, now, out),
            Answer::Heartbeat { said, answer } => self.on_heartbeat_answered(said, answer, now, out),
            Answer::ControllerRegistered(error) => self.on_controller_registered(error, now, out),
            Answer::ProducerIds(answer, deferred) => {
                if let Some(answer) = answer.filter(|answer| answer.error_code == ErrorCode::None.code()) {
                    let start = answer.producer_id_start;
                    self.producer_ids.refill(start..start + i64::from(answer.producer_id_len));
                }
                if let Some(deferred) = deferred {
                    self.handle_again(deferred, now, out);
                }
            }
            Answer::Isr(answer) => self.on_isr_decided(answer, now, out),
            Answer::Directories(answer) => self.on_directories_assigned(answer, now, out),
            Answer::Created(deferred) => self.handle_again(deferred, now, out),
        }
    }

    /// A request to another node ended, with its answer or without.
    pub fn on_answer(&self, ticket: u64, answer: Option<Bytes>, now: Millis, out: &mut Effects) {
        let Some((awaited, version, body)) = self.peers.take(ticket, answer) else { return };
        let wire = self.quorum.wire();
        match awaited {
            Awaited::Vote { from } => {
                let read = read::<VoteResponse<'_>>(&body, version);
                let response = read.and_then(|response| wire.read_vote_response(&response).ok());
                self.tell_raft(response.map(|response| Event::VoteResponse { from, response }), now, out);
            }
            Awaited::BeginQuorumEpoch { from } => {
                let read = read::<BeginQuorumEpochResponse<'_>>(&body, version);
                let response = read.and_then(|response| wire.read_begin_response(&response).ok());
                let event = response.map(|response| Event::BeginQuorumEpochResponse { from, response });
                self.tell_raft(event, now, out);
            }
            Awaited::EndQuorumEpoch { from } => {
                let read = read::<EndQuorumEpochResponse<'_>>(&body, version);
                let response = read.and_then(|response| wire.read_end_response(&response).ok());
                let event = response.map(|response| Event::EndQuorumEpochResponse { from, response });
                self.tell_raft(event, now, out);
            }
            Awaited::Fetch { request } => self.on_fetched(request, body, version, false, now, out),
            Awaited::FetchSnapshot { request } => {
                // It is written to a file.
                out.push(Effect::Read(ReadTask::SnapshotArrived { request, body, version }));
            }
            Awaited::ApiVersions { request } => {
                let read = read::<ApiVersionsResponse<'_>>(&body, version);
                let kraft_versions = read.and_then(|response| {
                    let known = response.supported_features.iter();
                    known
                        .into_iter()
                        .find(|feature| feature.name == "kraft.version")
                        .map(|feature| VersionRange { min: feature.min_version, max: feature.max_version })
                });
                let event = Event::ApiVersionsResponse { request, kraft_versions };
                self.tell_raft(Some(event), now, out);
            }
            Awaited::UpdateVoter => {
                let read = read::<UpdateRaftVoterResponse<'_>>(&body, version);
                let response = read.and_then(|response| wire.read_update_voter_response(&response).ok());
                self.tell_raft(response.map(|response| Event::UpdateVoterResponse { response }), now, out);
            }
            Awaited::Nothing => {}
            Awaited::Registration => {
                let answer = read::<BrokerRegistrationResponse>(&body, version);
                self.on_controller_answer(Answer::Registered(answer), now, out);
                self.advance_lifecycle(now, out);
            }
            Awaited::Heartbeat { said } => {
                let answer = read::<BrokerHeartbeatResponse>(&body, version);
                self.on_controller_answer(Answer::Heartbeat { said, answer }, now, out);
                self.advance_lifecycle(now, out);
            }
            Awaited::ControllerRegistration => {
                let answer = read::<ControllerRegistrationResponse<'_>>(&body, version);
                let error = answer.map(|answer| answer.error_code);
                self.on_controller_answer(Answer::ControllerRegistered(error), now, out);
                self.advance_lifecycle(now, out);
            }
            Awaited::ProducerIds(deferred) => {
                let answer = read::<AllocateProducerIdsResponse>(&body, version);
                self.on_controller_answer(Answer::ProducerIds(answer, deferred), now, out);
            }
            Awaited::Isr => {
                let answer = read::<AlterPartitionResponse>(&body, version);
                self.on_controller_answer(Answer::Isr(answer), now, out);
            }
            Awaited::Directories => {
                let answer = read::<AssignReplicasToDirsResponse>(&body, version);
                self.on_controller_answer(Answer::Directories(answer), now, out);
            }
            // Both write to logs.
            Awaited::ReplicaFetch { leader } => {
                out.push(Effect::Read(ReadTask::ReplicaFetched { leader, body, version }));
            }
            Awaited::LeaderStart { leader, leader_epoch, key } => {
                out.push(Effect::Read(ReadTask::LeaderStart { leader, leader_epoch, key, body, version }));
            }
            Awaited::Creation(deferred) => {
                self.on_controller_answer(Answer::Created(deferred), now, out);
            }
            Awaited::Markers { broker, letters } => {
                self.on_markers_answered(broker, &letters, body.as_ref(), version, now, out);
            }
            Awaited::Admissions { broker, asks } => {
                self.on_asks_answered(broker, &asks, body.as_ref(), version, now, out);
            }
            Awaited::Forwarded(forwarded) => self.on_forwarded(forwarded, body.as_ref(), now, out),
        }
    }

    fn tell_raft(&self, event: Option<Event>, now: Millis, out: &mut Effects) {
        if let Some(event) = event {
            self.with_quorum(now, out, |state, out| state.drive(event, now, out));
        }
    }

    /// A fetch of the metadata log was answered. What makes the log shorter waits for the disk (`may_wait`).
    pub(crate) fn on_fetched(
        &self,
        request: u64,
        body: Option<Bytes>,
        version: i16,
        may_wait: bool,
        now: Millis,
        out: &mut Effects,
    ) {
        let answer = body.as_ref().and_then(|frame| {
            let response = FetchResponse::decode(&mut Reader::new(frame), version).ok()?;
            self.quorum.wire().read_fetch_response(&response, frame).ok()
        });
        let Some((response, records)) = answer else {
            return self.tell_raft(Some(Event::FetchFailed { request }), now, out);
        };
        if response.diverging.is_some() && !may_wait {
            out.push(Effect::Read(ReadTask::DivergenceArrived { request, body, version }));
            return;
        }
        self.with_quorum(now, out, |state, out| {
            state.arrived = Some((request, records));
            state.drive(Event::FetchResponse { request, response }, now, out)
        });
    }

    /// A part of a snapshot came. Waits for the disk.
    pub(crate) fn on_snapshot_fetched(
        &self,
        request: u64,
        body: Option<&Bytes>,
        version: i16,
        now: Millis,
        out: &mut Effects,
    ) {
        let answer = body.and_then(|frame| {
            let response = FetchSnapshotResponse::decode(&mut Reader::new(frame), version).ok()?;
            self.quorum.wire().read_fetch_snapshot_response(&response, frame).ok()
        });
        let Some((response, bytes)) = answer else {
            return self.tell_raft(Some(Event::FetchFailed { request }), now, out);
        };
        self.with_quorum(now, out, |state, out| {
            state.arrived = Some((request, bytes));
            state.drive(Event::FetchSnapshotResponse { request, response }, now, out)
        });
    }
}

/// Reads a body; one that can not be read counts as none.
fn read<'a, M: Message<'a>>(body: &'a Option<Bytes>, version: i16) -> Option<M> {
    M::decode(&mut Reader::new(body.as_ref()?), version).ok()
}
