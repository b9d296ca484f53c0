//! Raft's events in, its effects out: the log is written, the quorum state persisted, messages sent, requests answered.
//!
//! The one tricky idea: nothing here waits for the disk but what raft asks for while an answer with a divergence or a snapshot is handled,
//! and those are handled on threads that may wait. Flushes and the quorum state are effects that come back as events.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::records::ControlType;
use ottla_raft::{Destination, Effect as Deed, Endpoints, Event};
use ottla_storage::{
    Disk, FlushDone, Meaning, QuorumState as QuorumFile, SnapshotId, SnapshotWriter, remove_snapshot,
};

use super::State;
use super::history::load_snapshot;
use super::log::{control_records, leader_change};
use super::serve::ParkedFetch;
use crate::Broker;
use crate::effect::{Effect, Effects, FlushTarget, FlushTask, Millis, ReadTask};
use crate::peers::{Awaited, Lane, Peer, peer};
use crate::sessions::lock;
use crate::store::Root;

/// Pause before what failed for want of something is tried again.
const RETRY_MS: Millis = 100;
/// How much longer than the leader may wait with its answer a fetch is waited for.
const FETCH_SLACK_MS: i64 = 500;

/// A quorum state on its way to the disk.
#[derive(Debug)]
pub struct PersistJob {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: QuorumFile,
    sequence: u64,
    newest: Arc<Mutex<u64>>,
}

impl PersistJob {
    /// Writes it, unless a newer one is there already. Waits for the disk.
    fn run(&self, root: &Root) -> io::Result<u64> {
        let mut newest = lock(&self.newest);
        if *newest < self.sequence {
            root.reserve.spend(|| self.file.write(&*self.disk, &self.dir))?;
            *newest = self.sequence;
        }
        Ok(self.sequence)
    }
}

impl State {
    /// Feeds raft, and performs what it asks for.
    pub(super) fn drive(&mut self, event: Event, now: Millis, out: &mut Effects) -> Result<(), String> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut deeds = Vec::new();
            let log = super::Epochs { log: &self.log.log, snapshots: &self.snapshots };
            self.raft.on(event, now, &log, &mut deeds);
            for deed in deeds {
                if let Some(event) = self.perform(deed, now, out)? {
                    match event {
                        // Nothing else is taken before it.
                        Event::SnapshotLoaded { .. } => events.push_front(event),
                        event => events.push_back(event),
                    }
                }
            }
        }
        self.arrived = None;
        Ok(())
    }

    /// Does one thing; what has happened by that is for raft to hear.
    fn perform(&mut self, deed: Deed, now: Millis, out: &mut Effects) -> Result<Option<Event>, String> {
        match deed {
            Deed::PersistQuorumState { sequence, state } => {
                out.push(Effect::Read(ReadTask::Persist(Box::new(PersistJob {
                    disk: self.disk.clone(),
                    dir: self.dir.clone(),
                    file: self.quorum_file(&state),
                    sequence,
                    newest: self.persisted.clone(),
                }))));
            }
            Deed::AppendLeaderChange { epoch, voters, granted_by, control } => {
                let me = self.config.node_id;
                let first = leader_change(me, (&voters, &granted_by))?;
                let mut records = vec![(ControlType::LeaderChange, first)];
                records.extend(control_records(&control)?);
                self.log.append_control(&records, epoch, now)?;
            }
            Deed::AppendControl { epoch, control } => {
                self.log.append_control(&control_records(&control)?, epoch, now)?;
            }
            Deed::AppendFetched { request } => {
                let (arrived, bytes) = self.arrived.take().expect("records came with the answer");
                assert_eq!(arrived, request, "they came with this answer");
                self.log.append_fetched(&bytes, now)?;
            }
            Deed::TruncateLog { end_offset } => self.log.truncate(end_offset, now)?,
            Deed::FlushLog => return Ok(self.flush(out)),
            Deed::BecameLeader { epoch, .. } => self.activate(epoch, now, out)?,
            Deed::StoppedLeading { .. } => self.deactivate(),
            Deed::VotersChanged { .. } | Deed::LeaderChanged { .. } => {}
            Deed::HighWatermark { offset } => {
                assert!(offset >= self.high_watermark, "the high watermark never goes back");
                self.high_watermark = offset;
                self.commit()?;
            }
            Deed::Halt { high_watermark, diverging } => {
                return Err(format!(
                    "the leader's log ends epoch {} at offset {}, but up to offset {high_watermark} this log was committed: one of the two lost what it had promised to keep",
                    diverging.epoch, diverging.offset
                ));
            }
            Deed::WriteSnapshot { request, id, position } => {
                let (arrived, bytes) = self.arrived.take().expect("bytes came with the answer");
                assert_eq!(arrived, request, "they came with this answer");
                if position == 0 {
                    let id = SnapshotId { end_offset: id.offset, leader_epoch: id.epoch };
                    let writer = SnapshotWriter::create(self.disk.clone(), &self.dir, id);
                    self.download = Some(writer.map_err(|error| error.to_string())?);
                }
                let writer = self.download.as_mut().expect("a download begins at position 0");
                assert_eq!(writer.size(), position as u64, "its parts follow each other");
                writer.append(&bytes).map_err(|error| error.to_string())?;
            }
            Deed::LoadSnapshot { id } => {
                let writer = self.download.take().expect("its bytes were written");
                let known = writer.freeze().map_err(|error| error.to_string())?;
                let loaded = load_snapshot(&*self.disk, &self.dir, known, &self.wire.cluster_id)?;
                self.replaced.get_or_insert(self.log.committed.image().clone());
                self.log.begin_with(id.offset, loaded.replayer, loaded.known.timestamp, now)?;
                for older in self.snapshots.receive(loaded.known) {
                    remove_snapshot(&*self.disk, &self.dir, older).map_err(|error| error.to_string())?;
                }
                return Ok(Some(Event::SnapshotLoaded { id, control: loaded.control }));
            }
            Deed::ServeFetch { token, offset, high_watermark } => {
                if let Some(asked) = self.asked.remove(&token) {
                    let deadline = now + asked.wait_ms;
                    self.fetches.push(ParkedFetch { reply: asked.reply, offset, high_watermark, deadline });
                }
            }
            Deed::ServeSnapshot { token, snapshot, position } => {
                self.serve_snapshot(token, snapshot, position, out)
            }
            Deed::RespondVote { .. }
            | Deed::RespondBeginQuorumEpoch { .. }
            | Deed::RespondEndQuorumEpoch { .. }
            | Deed::RespondFetch { .. }
            | Deed::RespondFetchSnapshot { .. }
            | Deed::RespondVoters { .. } => self.respond(deed, out),
            send => return Ok(self.send(send, out)),
        }
        Ok(None)
    }

    /// Sends a message; one that has nowhere to go is lost, as any may be.
    fn send(&mut self, deed: Deed, out: &mut Effects) -> Option<Event> {
        let request_timeout = i64::from(self.config.quorum.request_timeout_ms);
        let wait = request_timeout.max(i64::from(super::wire::FETCH_WAIT_MS) + FETCH_SLACK_MS);
        let of_voter =
            |id: i32| self.raft.voters().endpoints(id).and_then(|at| self.address(at, Lane::Quorum));
        let of_leader = |endpoints: &Endpoints, lane| self.address(endpoints, lane);
        let (peers, wire) = (&self.peers, &self.wire);
        match deed {
            Deed::SendVote { to, request } => {
                let awaited = Awaited::Vote { from: to.id };
                let request = wire.vote_request(&request);
                peers.send(of_voter(to.id)?, (&request, 2), awaited, request_timeout, out);
            }
            Deed::SendBeginQuorumEpoch { to, request } => {
                let awaited = Awaited::BeginQuorumEpoch { from: to.id };
                let request = wire.begin_request(&request);
                peers.send(of_voter(to.id)?, (&request, 1), awaited, request_timeout, out);
            }
            Deed::SendEndQuorumEpoch { to, request } => {
                let awaited = Awaited::EndQuorumEpoch { from: to.id };
                let request = wire.end_request(&request);
                peers.send(of_voter(to.id)?, (&request, 1), awaited, request_timeout, out);
            }
            Deed::SendFetch { to, request } => {
                let number = request.request;
                let to = match &to {
                    Destination::Leader(leader) => of_leader(&leader.endpoints, Lane::Metadata),
                    Destination::Bootstrap(server) => {
                        self.servers.get(*server).map(|(host, port)| peer(host, *port, Lane::Metadata))
                    }
                };
                let Some(to) = to else { return Some(Event::FetchFailed { request: number }) };
                let mut request = wire.fetch_request(&request);
                // Since v15 the asker is named elsewhere.
                request.replica_id = -1;
                peers.send(to, (&request, 18), Awaited::Fetch { request: number }, wait, out);
            }
            Deed::SendFetchSnapshot { to, request } => {
                let number = request.request;
                let Some(to) = of_leader(&to.endpoints, Lane::Metadata) else {
                    return Some(Event::FetchFailed { request: number });
                };
                let request = wire.fetch_snapshot_request(&request);
                let awaited = Awaited::FetchSnapshot { request: number };
                peers.send(to, (&request, 1), awaited, wait, out);
            }
            Deed::SendApiVersions { request, endpoints, .. } => {
                let Some(to) = of_leader(&endpoints, Lane::Quorum) else {
                    return Some(Event::ApiVersionsResponse { request, kraft_versions: None });
                };
                let question = ApiVersionsRequest {
                    client_software_name: "ottla".into(),
                    client_software_version: env!("CARGO_PKG_VERSION").into(),
                    ..Default::default()
                };
                peers.send(to, (&question, 4), Awaited::ApiVersions { request }, request_timeout, out);
            }
            Deed::SendAddVoter { to, request } => {
                let to = of_leader(&to.endpoints, Lane::Quorum)?;
                let request = wire.add_voter_request(&request, self.config.quorum.request_timeout_ms);
                peers.send(to, (&request, 1), Awaited::Nothing, request_timeout, out);
            }
            Deed::SendRemoveVoter { to, request } => {
                let to = of_leader(&to.endpoints, Lane::Quorum)?;
                let request = wire.remove_voter_request(&request);
                peers.send(to, (&request, 0), Awaited::Nothing, request_timeout, out);
            }
            Deed::SendUpdateVoter { to, request } => {
                let to = of_leader(&to.endpoints, Lane::Quorum)?;
                let request = wire.update_voter_request(&request);
                peers.send(to, (&request, 0), Awaited::UpdateVoter, request_timeout, out);
            }
            other => unreachable!("{other:?} is no message"),
        }
        None
    }

    fn address(&self, endpoints: &Endpoints, lane: Lane) -> Option<Peer> {
        self.wire.address(endpoints).map(|endpoint| peer(&endpoint.host, endpoint.port, lane))
    }

    /// What failed for want of something is tried again, if it is time.
    fn try_again(&mut self, now: Millis, out: &mut Effects) -> Result<(), String> {
        if self.retry_at.take_if(|at| *at <= now).is_none() {
            out.extend(self.retry_at.map(|at| Effect::Tick { at }));
            return Ok(());
        }
        for job in self.unpersisted.drain(..) {
            out.push(Effect::Read(ReadTask::Persist(Box::new(job))));
        }
        match self.flush(out) {
            Some(event) => self.drive(event, now, out),
            None => Ok(()),
        }
    }

    /// Has the log flushed, unless a flush is under way, which is followed by another one. What is on disk already is told at once.
    fn flush(&mut self, out: &mut Effects) -> Option<Event> {
        if self.flushing {
            return None;
        }
        match self.log.log.begin_flush() {
            Some(job) => {
                self.flushing = true;
                out.push(Effect::Flush(FlushTask {
                    target: FlushTarget::Metadata,
                    birth: None,
                    job,
                    was_due: false,
                }));
                None
            }
            None => Some(Event::LogFlushed { end_offset: self.log.log.synced_offset() }),
        }
    }
}

impl Broker {
    /// Sets raft going.
    pub(crate) fn start_quorum(&self, now: Millis, out: &mut Effects) {
        self.with_quorum(now, out, |state, out| state.drive(Event::Start, now, out));
    }

    /// The metadata log was flushed.
    pub(crate) fn on_metadata_flushed(&self, done: FlushDone, now: Millis, out: &mut Effects) {
        self.with_quorum(now, out, |state, out| {
            state.flushing = false;
            let end_offset = match state.log.log.on_flushed(done) {
                Ok(end_offset) => end_offset,
                Err(error) if state.log.log.failure().is_none() => {
                    if error.meaning() == Meaning::Full {
                        self.store.metadata_root().reserve.give_up();
                    }
                    out.push(Effect::Report(error.to_string()));
                    state.retry_at = Some(now + RETRY_MS);
                    out.push(Effect::Tick { at: now + RETRY_MS });
                    return Ok(());
                }
                Err(error) => return Err(error.to_string()),
            };
            state.drive(Event::LogFlushed { end_offset }, now, out)?;
            if state.log.log.synced_offset() < state.log.log.log_end_offset() {
                state.flush(out);
            }
            Ok(())
        });
    }

    /// Writes the quorum state. Waits for the disk.
    pub(crate) fn on_persist(&self, job: PersistJob, now: Millis, out: &mut Effects) {
        let written = job.run(self.store.metadata_root());
        self.with_quorum(now, out, |state, out| match written {
            Ok(sequence) => state.drive(Event::QuorumStatePersisted { sequence }, now, out),
            // Raft waits for it as long as it takes.
            Err(error) if Meaning::of(&error).passes() => {
                out.push(Effect::Report(error.to_string()));
                state.unpersisted.push(job);
                state.retry_at = Some(now + RETRY_MS);
                out.push(Effect::Tick { at: now + RETRY_MS });
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        });
    }

    /// Time passed: raft, sessions of brokers, snapshots.
    pub(crate) fn on_quorum_tick(&self, now: Millis, out: &mut Effects) {
        self.with_quorum(now, out, |state, out| {
            if state.raft.next_deadline().is_some_and(|at| at <= now) {
                state.drive(Event::Timeout, now, out)?;
            }
            state.try_again(now, out)?;
            state.fence_silent_brokers(now, out)?;
            state.look_at_leaders(now, out)?;
            state.sweep_tokens(now, out)?;
            state.clean_snapshots(now, out)
        });
    }
}
