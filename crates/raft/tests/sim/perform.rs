//! One event on one node, and its effects, performed at once and in order.

use ottla_raft::*;

use std::hash::{Hash, Hasher};

use crate::sim::digest::Digest;
use crate::sim::store::{SNAPSHOT_BYTES, SNAPSHOT_PART_BYTES};
use crate::sim::wire::{Due, Happening, Kind, Message};
use crate::sim::world::World;

/// How long a fetch waits at the leader.
const FETCH_WAIT_MS: i64 = 40;

impl World {
    pub(super) fn local_time(&self, id: i32) -> i64 {
        let (shown, fast) = self.node(id).clock;
        shown + self.now + self.now * fast / 1000
    }

    /// One event on one node.
    pub fn happen(&mut self, id: i32, event: Event) {
        self.events += 1;
        if let Some(trace) = self.trace {
            let mut digest = Digest(trace);
            (self.now, id, &event).hash(&mut digest);
            self.trace = Some(digest.finish());
        }
        if self.told {
            println!("{} node {id}: {event:?}", self.now);
        }
        let now = self.local_time(id);
        let mut effects = std::mem::take(&mut self.effects);
        let node = &mut self.nodes[id as usize - 1];
        let raft = node.raft.as_mut().expect("the node is up");
        raft.on(event, now, &node.store, &mut effects);
        let mut loaded = None;
        for effect in effects.drain(..) {
            if let Some(trace) = self.trace {
                let mut digest = Digest(trace);
                effect.hash(&mut digest);
                self.trace = Some(digest.finish());
            }
            if self.told {
                println!("    {effect:?}");
            }
            if let Effect::LoadSnapshot { id: snapshot } = effect {
                loaded = Some(snapshot);
                self.load_snapshot(id, snapshot);
            } else {
                self.perform(id, effect);
            }
        }
        self.effects = effects;
        if let Some(snapshot) = loaded {
            let control = self.node(id).store.snapshots.last().expect("it was loaded").control.clone();
            self.happen(id, Event::SnapshotLoaded { id: snapshot, control });
            return;
        }
        let node = &self.nodes[id as usize - 1];
        if let Some(raft) = &node.raft {
            self.promises.check(id, raft, &node.store);
        }
        self.arm(id);
    }

    pub(super) fn load_snapshot(&mut self, id: i32, snapshot: OffsetAndEpoch) {
        let (downloaded, bytes) = self.node_mut(id).downloaded.take().expect("it was written");
        assert_eq!((downloaded.id, bytes), (snapshot, SNAPSHOT_BYTES), "it is complete");
        let committed = self.promises.digest_of_committed(snapshot.offset);
        assert_eq!(Some(downloaded.digest), committed, "a snapshot has committed records");
        self.node_mut(id).store.load_snapshot(downloaded);
    }

    pub(super) fn arm(&mut self, id: i32) {
        if self.untimed.is_some() {
            return;
        }
        let (shown, fast) = self.node(id).clock;
        let Some(raft) = &self.node(id).raft else { return };
        let Some(local) = raft.next_deadline() else { return };
        // The first moment at which the node's clock shows that much.
        let mut at = ((local - shown) * 1000).div_euclid(1000 + fast);
        while shown + at + at * fast / 1000 < local {
            at += 1;
        }
        let node = self.node_mut(id);
        if node.timer.is_none_or(|timer| at < timer) {
            // An earlier timer that is no longer needed does no harm: Timeout looks at the time.
            node.timer = Some(at);
            let life = node.life;
            self.push(at.max(self.now), Happening::Timeout { node: id, life, at });
        }
    }

    pub(super) fn perform(&mut self, id: i32, effect: Effect) {
        let index = id as usize - 1;
        let life = self.nodes[index].life;
        match effect {
            Effect::PersistQuorumState { sequence, state } => {
                self.check_patience(id, &state);
                let disk = 1 + self.dice.below(self.weather.disk_max_ms) as i64;
                // Writes of the one small file happen in order.
                let writing = |due: &Due| match &due.happening {
                    Happening::Persisted { node, life: of, .. } if *node == id && *of == life => Some(due.at),
                    _ => None,
                };
                let after = self.queue.iter().filter_map(writing).max().unwrap_or(0);
                let at = (self.now + disk).max(after);
                self.push(at, Happening::Persisted { node: id, life, sequence, state });
            }
            Effect::AppendLeaderChange { epoch, control, .. } => {
                self.promises.on_elected(id, epoch, &self.nodes[index].store);
                self.hear_all(id);
                self.append(id, epoch, true);
                self.append_control(id, epoch, control, false);
            }
            Effect::AppendControl { epoch, control } => self.append_control(id, epoch, control, true),
            Effect::AppendFetched { request } => {
                let arrived = self.nodes[index].arrived.take().expect("records came with the answer");
                assert_eq!(arrived.request, request, "they came with this answer");
                self.append_fetched(id, arrived);
            }
            Effect::TruncateLog { end_offset } => self.nodes[index].store.truncate(end_offset),
            Effect::FlushLog => {
                let disk = 1 + self.dice.below(self.weather.disk_max_ms) as i64;
                let store = &self.nodes[index].store;
                let (end, truncations) = (store.end(), store.truncations);
                self.push(self.now + disk, Happening::Flushed { node: id, life, end, truncations });
            }
            Effect::BecameLeader { epoch_start_offset, .. } => {
                self.promises.on_announced(self.raft(id), epoch_start_offset);
            }
            Effect::StoppedLeading { .. } => self.wake_fetches(id),
            Effect::LeaderChanged { .. } | Effect::VotersChanged { .. } => {}
            Effect::HighWatermark { offset } => {
                let node = &self.nodes[index];
                let raft = node.raft.as_ref().expect("the node is up");
                let gone = self.graves.iter().map(|(key, store)| (*key, store));
                let stores = self.nodes.iter().map(|node| (node.settings.me, &node.store)).chain(gone);
                self.promises.on_committed(raft, &node.store, offset, stores);
                self.wake_fetches(id);
            }
            Effect::Halt { .. } => panic!("node {id}: a leader contradicts what is committed"),
            Effect::WriteSnapshot { position, .. } => {
                let node = &mut self.nodes[index];
                let snapshot = node.arrived_snapshot.take().expect("bytes came with the answer");
                let before =
                    if position == 0 { 0 } else { node.downloaded.as_ref().map_or(-1, |(_, at)| *at) };
                assert_eq!(before, position, "parts follow each other");
                node.downloaded = Some((snapshot, (position + SNAPSHOT_PART_BYTES).min(SNAPSHOT_BYTES)));
            }
            Effect::LoadSnapshot { .. } => panic!("performed by happen"),
            Effect::ServeFetch { token, offset, high_watermark } => {
                let node = &mut self.nodes[index];
                let raft = node.raft.as_ref().expect("the node is up");
                let asked = node.asked.iter().find(|asked| asked.token == token).expect("it was asked");
                assert!(asked.current, "a fetch is a receipt in its own epoch");
                let committed = raft.fetch_response().high_watermark;
                let news = offset < node.store.end() || committed > high_watermark;
                node.parked.push((token, offset, high_watermark));
                if news {
                    self.answer_fetch(id, token);
                } else if self.untimed.is_none() {
                    self.push(self.now + FETCH_WAIT_MS, Happening::WakeFetch { node: id, life, token });
                }
            }
            Effect::ServeSnapshot { token, snapshot, position } => {
                let asked = self.asked(id, token);
                let node = &self.nodes[index];
                let raft = node.raft.as_ref().expect("the node is up");
                let mut response = raft.fetch_snapshot_response(snapshot);
                let found = node.store.snapshots.iter().find(|kept| kept.id == snapshot).cloned();
                response.size = SNAPSHOT_BYTES;
                response.position = position;
                response.bytes = SNAPSHOT_PART_BYTES.min(SNAPSHOT_BYTES - position).max(0);
                if found.is_none() && response.refusal.is_none() {
                    response.refusal = Some(Refusal::SnapshotNotFound);
                }
                self.answer(id, asked, Message::FetchSnapshotAnswer(asked.request, response, found));
            }
            Effect::RespondFetch { token, response } => {
                let asked = self.asked(id, token);
                self.answer(id, asked, Message::FetchAnswer(asked.request, response, Vec::new()));
            }
            Effect::RespondFetchSnapshot { token, response } => {
                let asked = self.asked(id, token);
                self.answer(id, asked, Message::FetchSnapshotAnswer(asked.request, response, None));
            }
            Effect::RespondVote { token, response } => {
                let asked = self.asked(id, token);
                if let Some((epoch, candidate)) = asked.vote.filter(|_| response.granted) {
                    let state = self.nodes[index].store.state;
                    let on_disk = state.epoch > epoch || state.voted == Some(candidate);
                    assert!(on_disk, "a vote that leaves is on disk");
                }
                self.answer(id, asked, Message::VoteAnswer(response));
            }
            Effect::RespondBeginQuorumEpoch { token, response } => {
                let asked = self.asked(id, token);
                self.answer(id, asked, Message::BeginAnswer(response));
            }
            Effect::RespondEndQuorumEpoch { token, response } => {
                let asked = self.asked(id, token);
                self.answer(id, asked, Message::EndAnswer(response));
            }
            Effect::RespondVoters { token, response } => {
                let asked = self.asked(id, token);
                let update = asked.kind == Kind::UpdateVoter;
                let message = if update { Message::UpdateVoterAnswer(response) } else { Message::Nothing };
                self.answer(id, asked, message);
            }
            send => self.send(id, send),
        }
    }

    /// Who stood for election and saw no leader waits for its whole timeout before it stands again.
    fn check_patience(&mut self, id: i32, state: &QuorumState) {
        let now = self.local_time(id);
        let node = self.node_mut(id);
        if state.leader.is_some() {
            node.stood_at = None;
        } else if state.voted == Some(node.settings.me) {
            let waited = node.stood_at.map_or(i64::MAX, |before| now - before);
            assert!(waited >= node.settings.election_timeout_ms, "a loser waits: {waited} ms");
            node.stood_at = Some(now);
        }
    }

    pub(super) fn send(&mut self, id: i32, effect: Effect) {
        let (to, message) = match effect {
            Effect::SendVote { to, request } => (to.id, Message::Vote(request)),
            Effect::SendBeginQuorumEpoch { to, request } => (to.id, Message::Begin(request)),
            Effect::SendEndQuorumEpoch { to, request } => (to.id, Message::End(request)),
            Effect::SendFetch { to, request } => {
                let store = &self.node(id).store;
                assert!(store.durable >= request.log_end.offset, "a fetch says what is on disk");
                assert!(store.state.epoch >= request.epoch, "a fetch says which epoch is on disk");
                let to = match to {
                    Destination::Leader(leader) => i32::from(leader.endpoints[0].port),
                    Destination::Bootstrap(index) => index as i32 + 1,
                };
                (to, Message::Fetch(request))
            }
            Effect::SendFetchSnapshot { to, request } => (to.id, Message::FetchSnapshot(request)),
            Effect::SendApiVersions { request, to, .. } => (to.id, Message::ApiVersions(request, to)),
            Effect::SendAddVoter { to, request } => (to.id, Message::AddVoter(request)),
            Effect::SendRemoveVoter { to, request } => (to.id, Message::RemoveVoter(request)),
            Effect::SendUpdateVoter { to, request } => (to.id, Message::UpdateVoter(request)),
            other => panic!("{other:?} is no message"),
        };
        self.post(id, to, None, message);
    }
}
