//! What other nodes ask the quorum: Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch of the metadata log, FetchSnapshot, and changes of the
//! voters.
//!
//! A fetch waits for records, for a newer high watermark (KIP-1166), or for the end of this node's leadership. The one tricky idea: what
//! a fetch is answered is looked up when it is answered, not when it came.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_protocol::messages::add_raft_voter_request::AddRaftVoterRequest;
use ottla_protocol::messages::add_raft_voter_response::AddRaftVoterResponse;
use ottla_protocol::messages::begin_quorum_epoch_request::BeginQuorumEpochRequest;
use ottla_protocol::messages::begin_quorum_epoch_response::BeginQuorumEpochResponse;
use ottla_protocol::messages::end_quorum_epoch_request::EndQuorumEpochRequest;
use ottla_protocol::messages::end_quorum_epoch_response::EndQuorumEpochResponse;
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::fetch_snapshot_request::FetchSnapshotRequest;
use ottla_protocol::messages::fetch_snapshot_response::FetchSnapshotResponse;
use ottla_protocol::messages::remove_raft_voter_request::RemoveRaftVoterRequest;
use ottla_protocol::messages::remove_raft_voter_response::RemoveRaftVoterResponse;
use ottla_protocol::messages::update_raft_voter_request::UpdateRaftVoterRequest;
use ottla_protocol::messages::update_raft_voter_response::UpdateRaftVoterResponse;
use ottla_protocol::messages::vote_request::VoteRequest;
use ottla_protocol::messages::vote_response::VoteResponse;
use ottla_protocol::{ApiKey, Chain};
use ottla_raft::{Effect as Deed, Event, OffsetAndEpoch, Refusal, ReplicaKey, RoleName};
use ottla_storage::{Disk, SnapshotId, open_snapshot};

use super::State;
use super::wire::{Seen, Wire};
use crate::Broker;
use crate::call::{Call, ReplyTo};
use crate::effect::{Effect, Effects, Millis, ReadTask};

/// Bytes of records in one answer.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// A request of another node that raft is to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub reply: ReplyTo,
    /// How long a fetch may wait.
    pub wait_ms: i64,
    /// How many bytes of a snapshot may be answered.
    bytes_max: usize,
    /// Who is to vote, or to vote no more.
    voter: Option<ReplicaKey>,
}

/// A fetch that waits for news.
#[derive(Debug, Clone, Copy)]
pub struct ParkedFetch {
    pub(super) reply: ReplyTo,
    pub(super) offset: i64,
    /// What the asker knows to be committed.
    pub(super) high_watermark: Option<i64>,
    pub(super) deadline: Millis,
}

/// A part of a snapshot that has to be read.
#[derive(Debug)]
pub struct SnapshotRead {
    wire: Wire,
    reply: ReplyTo,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    header: ottla_raft::FetchSnapshotResponse,
    position: i64,
    bytes_max: usize,
}

impl State {
    /// Gives a request to raft under a name of its own.
    fn ask(
        &mut self,
        asked: Asked,
        event: impl FnOnce(u64) -> Event,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(), String> {
        self.asked_last += 1;
        let token = self.asked_last;
        self.asked.insert(token, asked);
        self.drive(event(token), now, out)
    }

    /// Sends what raft answers.
    pub(super) fn respond(&mut self, deed: Deed, out: &mut Effects) {
        let token = match &deed {
            Deed::RespondVote { token, .. }
            | Deed::RespondBeginQuorumEpoch { token, .. }
            | Deed::RespondEndQuorumEpoch { token, .. }
            | Deed::RespondFetch { token, .. }
            | Deed::RespondFetchSnapshot { token, .. }
            | Deed::RespondVoters { token, .. } => *token,
            other => unreachable!("{other:?} answers no request of another node"),
        };
        let Some(Asked { reply, voter, .. }) = self.asked.remove(&token) else { return };
        let wire = &self.wire;
        let seen = || Seen { voter, voters: self.raft.voters(), kraft_version: self.raft.kraft_version() };
        match &deed {
            Deed::RespondVote { response, .. } => reply.send(&wire.vote_response(response), out),
            Deed::RespondBeginQuorumEpoch { response, .. } => {
                reply.send(&wire.begin_response(response), out);
            }
            Deed::RespondEndQuorumEpoch { response, .. } => reply.send(&wire.end_response(response), out),
            Deed::RespondFetch { response, .. } => {
                let start = self.log.log.log_start_offset();
                reply.send(&wire.fetch_response(response, start, Chain::default()), out);
            }
            Deed::RespondFetchSnapshot { response, .. } => {
                reply.send(&wire.fetch_snapshot_response(response, Chain::default()), out);
            }
            Deed::RespondVoters { response, .. } => match reply.key {
                ApiKey::AddRaftVoter => reply.send(&wire.add_voter_response(response, &seen()), out),
                ApiKey::RemoveRaftVoter => reply.send(&wire.remove_voter_response(response, &seen()), out),
                _ => reply.send(&wire.update_voter_response(response), out),
            },
            _ => unreachable!("looked at above"),
        }
    }

    pub(super) fn fetches_deadline(&self) -> Option<Millis> {
        self.fetches.iter().map(|fetch| fetch.deadline).min()
    }

    /// Answers the fetches for which there is news, and those whose time is up.
    pub(super) fn advance_fetches(&mut self, now: Millis, out: &mut Effects) {
        if self.fetches.is_empty() {
            return;
        }
        let response = self.raft.fetch_response();
        let end = self.log.log.log_end_offset();
        let leads = self.raft.role() == RoleName::Leader;
        let is_over = |fetch: &mut ParkedFetch| {
            !leads
                || fetch.offset < end
                || response.high_watermark > fetch.high_watermark
                || fetch.deadline <= now
        };
        let over: Vec<ParkedFetch> = self.fetches.extract_if(.., is_over).collect();
        for fetch in over {
            if let Some(records) = self.records(&fetch, leads, false) {
                let start = self.log.log.log_start_offset();
                fetch.reply.send(&self.wire.fetch_response(&response, start, records), out);
            } else {
                out.push(Effect::Read(ReadTask::MetadataFetch(Box::new(fetch))));
            }
        }
    }

    /// The records for a fetch; `None` if the disk is needed, which this thread may not wait for.
    fn records(&mut self, fetch: &ParkedFetch, leads: bool, may_wait: bool) -> Option<Chain> {
        let log = &mut self.log.log;
        let readable = leads && (log.log_start_offset()..log.log_end_offset()).contains(&fetch.offset);
        if !readable {
            return Some(Chain::default());
        }
        let end = log.log_end_offset();
        if !may_wait {
            return log.read_now(fetch.offset, RECORD_BYTES_MAX, end, true).map(|slice| slice.records);
        }
        // What can not be read is not answered: the follower asks again, or another leader.
        Some(
            log.read(fetch.offset, RECORD_BYTES_MAX, end, true)
                .map_or_else(|_| Chain::default(), |it| it.records),
        )
    }

    pub(super) fn serve_snapshot(
        &mut self,
        token: u64,
        snapshot: OffsetAndEpoch,
        position: i64,
        out: &mut Effects,
    ) {
        let Some(Asked { reply, bytes_max, .. }) = self.asked.remove(&token) else { return };
        out.push(Effect::Read(ReadTask::SnapshotRead(Box::new(SnapshotRead {
            wire: self.wire.clone(),
            reply,
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            header: self.raft.fetch_snapshot_response(snapshot),
            position,
            bytes_max,
        }))));
    }
}

impl SnapshotRead {
    /// Reads and answers. Waits for the disk.
    pub(crate) fn run(self, out: &mut Effects) {
        let SnapshotRead { wire, reply, disk, dir, header, position, bytes_max } = self;
        let id = SnapshotId { end_offset: header.snapshot.offset, leader_epoch: header.snapshot.epoch };
        let mut response = header;
        let mut bytes = Vec::new();
        let file = open_snapshot(&*disk, &dir, id).and_then(|file| Ok((file.len()?, file)));
        match (response.refusal, file) {
            (Some(_), _) => {}
            (None, Err(_)) => response.refusal = Some(Refusal::SnapshotNotFound),
            (None, Ok((size, _))) if position as u64 >= size => {
                response.refusal = Some(Refusal::PositionOutOfRange);
            }
            (None, Ok((size, file))) => {
                let left = usize::try_from(size - position as u64).unwrap_or(usize::MAX);
                bytes = vec![0; left.min(bytes_max)];
                match file.read_exact_at(&mut bytes, position as u64) {
                    Ok(()) => (response.size, response.position) = (size as i64, position),
                    Err(_) => {
                        bytes.clear();
                        response.refusal = Some(Refusal::SnapshotNotFound);
                    }
                }
            }
        }
        reply.send(&wire.fetch_snapshot_response(&response, Chain::from(bytes::Bytes::from(bytes))), out);
    }
}

impl Broker {
    fn ask_raft(&self, call: &mut Call<'_>, limits: (i64, usize), event: impl FnOnce(u64) -> Event) {
        let asked = Asked { reply: call.reply, wait_ms: limits.0, bytes_max: limits.1, voter: None };
        self.ask_raft_as(call, asked, event);
    }

    fn ask_raft_about(&self, call: &mut Call<'_>, voter: ReplicaKey, event: impl FnOnce(u64) -> Event) {
        let asked = Asked { reply: call.reply, wait_ms: 0, bytes_max: 0, voter: Some(voter) };
        self.ask_raft_as(call, asked, event);
    }

    fn ask_raft_as(&self, call: &mut Call<'_>, asked: Asked, event: impl FnOnce(u64) -> Event) {
        let now = call.now;
        let done = self.with_quorum(now, call.out, |state, out| state.ask(asked, event, now, out));
        if done.is_none() {
            call.reply.close(call.out);
        }
    }

    /// A fetch of the metadata log whose records are not in memory.
    pub(crate) fn on_metadata_read(&self, fetch: &ParkedFetch, now: Millis, out: &mut Effects) {
        self.with_quorum(now, out, |state, out| {
            let leads = state.raft.role() == RoleName::Leader;
            let records = state.records(fetch, leads, true).unwrap_or_default();
            let (response, start) = (state.raft.fetch_response(), state.log.log.log_start_offset());
            fetch.reply.send(&state.wire.fetch_response(&response, start, records), out);
            Ok(())
        });
    }
}

/// Vote.
pub(crate) fn vote(broker: &Broker, call: &mut Call<'_>, request: VoteRequest<'_>) {
    match broker.quorum.wire().read_vote_request(&request) {
        Ok(request) => broker.ask_raft(call, (0, 0), |token| Event::VoteRequest { token, request }),
        Err(error) => {
            call.respond(&VoteResponse { error_code: error.code(), ..Default::default() });
        }
    }
}

/// BeginQuorumEpoch.
pub(crate) fn begin_epoch(broker: &Broker, call: &mut Call<'_>, request: BeginQuorumEpochRequest<'_>) {
    match broker.quorum.wire().read_begin_request(&request) {
        Ok(request) => {
            broker.ask_raft(call, (0, 0), |token| Event::BeginQuorumEpochRequest { token, request });
        }
        Err(error) => {
            call.respond(&BeginQuorumEpochResponse { error_code: error.code(), ..Default::default() });
        }
    }
}

/// EndQuorumEpoch.
pub(crate) fn end_epoch(broker: &Broker, call: &mut Call<'_>, request: EndQuorumEpochRequest<'_>) {
    match broker.quorum.wire().read_end_request(&request) {
        Ok(request) => {
            broker.ask_raft(call, (0, 0), |token| Event::EndQuorumEpochRequest { token, request });
        }
        Err(error) => {
            call.respond(&EndQuorumEpochResponse { error_code: error.code(), ..Default::default() });
        }
    }
}

/// Fetch, on a listener of controllers: there is nothing but the metadata log.
pub(crate) fn fetch(broker: &Broker, call: &mut Call<'_>, request: FetchRequest<'_>) {
    match broker.quorum.wire().read_fetch_request(&request) {
        Ok(asked) => {
            // Nobody who follows waits longer: after that it takes the leader for dead.
            let wait_max = broker.config().quorum.fetch_timeout_ms;
            let wait_ms = i64::from(request.max_wait_ms.clamp(0, wait_max.max(0)));
            broker.ask_raft(call, (wait_ms, 0), |token| Event::FetchRequest { token, request: asked });
        }
        Err(error) => {
            call.respond(&FetchResponse { error_code: error.code(), ..Default::default() });
        }
    }
}

/// FetchSnapshot.
pub(crate) fn fetch_snapshot(broker: &Broker, call: &mut Call<'_>, request: FetchSnapshotRequest<'_>) {
    match broker.quorum.wire().read_fetch_snapshot_request(&request) {
        Ok((request, bytes_max)) => {
            broker.ask_raft(call, (0, bytes_max), |token| Event::FetchSnapshotRequest { token, request });
        }
        Err(error) => {
            call.respond(&FetchSnapshotResponse { error_code: error.code(), ..Default::default() });
        }
    }
}

/// AddRaftVoter: answered by the leader of the quorum.
pub(crate) fn add_voter(broker: &Broker, call: &mut Call<'_>, request: AddRaftVoterRequest<'_>) {
    if broker.forward_to_leader(call) {
        return;
    }
    match broker.quorum.wire().read_add_voter_request(&request) {
        Ok(request) => {
            broker.ask_raft_about(call, request.voter, |token| Event::AddVoterRequest { token, request })
        }
        Err(error) => call.respond(&AddRaftVoterResponse {
            error_code: error.code(),
            error_message: Some(error.message().into()),
            ..Default::default()
        }),
    }
}

/// RemoveRaftVoter: answered by the leader of the quorum.
pub(crate) fn remove_voter(broker: &Broker, call: &mut Call<'_>, request: RemoveRaftVoterRequest<'_>) {
    if broker.forward_to_leader(call) {
        return;
    }
    match broker.quorum.wire().read_remove_voter_request(&request) {
        Ok(request) => {
            broker.ask_raft_about(call, request.voter, |token| Event::RemoveVoterRequest { token, request })
        }
        Err(error) => call.respond(&RemoveRaftVoterResponse {
            error_code: error.code(),
            error_message: Some(error.message().into()),
            ..Default::default()
        }),
    }
}

/// UpdateRaftVoter.
pub(crate) fn update_voter(broker: &Broker, call: &mut Call<'_>, request: UpdateRaftVoterRequest<'_>) {
    match broker.quorum.wire().read_update_voter_request(&request) {
        Ok(request) => broker.ask_raft(call, (0, 0), |token| Event::UpdateVoterRequest { token, request }),
        Err(error) => {
            call.respond(&UpdateRaftVoterResponse { error_code: error.code(), ..Default::default() });
        }
    }
}
