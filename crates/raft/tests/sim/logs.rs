//! What nodes append, and what leaders read for others.

use ottla_raft::*;

use crate::sim::wire::Message;
use crate::sim::world::{Arrived, World};

impl World {
    pub(super) fn append_control(&mut self, id: i32, epoch: i32, control: Vec<Control>, begins: bool) {
        for (index, record) in control.into_iter().enumerate() {
            if let Control::Voters(voters) = &record {
                let node = self.node(id);
                let raft = node.raft.as_ref().expect("the node is up");
                self.promises.on_voters(raft, &node.store, voters, !begins);
                self.check_added(id, voters);
                self.hear_all(id);
            }
            let offset = self.append(id, epoch, begins && index == 0);
            self.node_mut(id).store.control.push((offset, record));
        }
        self.wake_fetches(id);
    }

    /// When an epoch begins or the voters change, everybody gets a whole round to be heard.
    pub(super) fn hear_all(&mut self, id: i32) {
        let (now, ids) = (self.now, self.ids());
        self.node_mut(id).heard = ids.map(|peer| (peer, now)).collect();
    }

    /// A new voter was seen to fetch in this epoch.
    pub(super) fn check_added(&self, id: i32, voters: &Voters) {
        let node = self.node(id);
        let raft = node.raft.as_ref().expect("the node is up");
        let before = node.store.control.iter().rev().find_map(|(_, control)| match control {
            Control::Voters(voters) => Some(voters),
            Control::KRaftVersion(_) => None,
        });
        let Some(before) = before else { return };
        let description = raft.describe(self.local_time(id)).expect("a leader");
        for added in voters.iter().filter(|voter| before.get(voter.key.id).is_none()) {
            let replicas = description.observers.iter().chain(&description.voters);
            let mut known = replicas.filter(|replica| replica.key == added.key);
            assert!(known.any(|replica| replica.caught_up_at.is_some()), "a new voter has caught up");
        }
    }

    pub(super) fn append_fetched(&mut self, id: i32, arrived: Arrived) {
        let store = &mut self.nodes[id as usize - 1].store;
        for record in arrived.records {
            let offset = store.end();
            let digest = store.append(record);
            self.promises.on_append(offset, &record, digest);
        }
        store.control.extend(arrived.control);
    }

    pub fn wake_fetches(&mut self, id: i32) {
        while let Some((token, ..)) = self.node(id).parked.first().copied() {
            self.answer_fetch(id, token);
        }
    }

    pub(super) fn answer_fetch(&mut self, id: i32, token: u64) {
        let batches = if self.untimed.is_some() { 9 } else { 1 + self.dice.below(4) };
        let node = self.node_mut(id);
        let Some(at) = node.parked.iter().position(|(parked, ..)| *parked == token) else { return };
        let (_, offset, _) = node.parked.remove(at);
        let mut response = node.raft.as_ref().expect("the node is up").fetch_response();
        let store = &node.store;
        let mut records = Vec::new();
        if response.refusal.is_none() && offset >= store.start && offset < store.end() {
            // Batches are read whole.
            let base = store.batch_start(offset);
            let mut end = base;
            for _ in 0..batches {
                if end < store.end() {
                    end += 1;
                    while !store.is_batch_boundary(end) {
                        end += 1;
                    }
                }
            }
            records = store.records
                [(base.max(store.start) - store.start) as usize..(end - store.start) as usize]
                .to_vec();
            let inside = |(at, _): &&(i64, Control)| (base..end).contains(at);
            response.records = Some(FetchedRecords {
                base_offset: base,
                first_epoch: records[0].epoch,
                end: OffsetAndEpoch { offset: end, epoch: store.epoch_before(end) },
                control: store.control.iter().filter(inside).cloned().collect(),
            });
        }
        let asked = self.asked(id, token);
        self.answer(id, asked, Message::FetchAnswer(asked.request, response, records));
    }
}
