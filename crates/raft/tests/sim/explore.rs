//! Every interleaving of a small quorum, breadth first: whatever is under way may happen next, whoever waits may lose
//! patience, a leader may be given work or a change, a node may lose its power. States that were seen are recognized by the
//! hash of what the nodes know, what is on their disks and what is under way; clock readings are left out.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use ottla_raft::*;

use crate::sim::dice::Dice;
use crate::sim::digest::Digest;
use crate::sim::scenario::{initial_voters, settings};
use crate::sim::wire::{Happening, Message};
use crate::sim::world::{Weather, World};

/// How far it goes.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    pub nodes: i32,
    /// Nobody loses patience in this epoch any more.
    pub epoch_last: i32,
    pub records: u8,
    pub changes: u8,
    pub crashes: u8,
    /// States after which it stops.
    pub states: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub states: u64,
    /// Events in the longest of the shortest ways to a state.
    pub depth: u32,
    pub committed: usize,
    /// Whether there was nothing else.
    pub exhausted: bool,
}

#[derive(Debug, Clone)]
struct State {
    world: World,
    records: u8,
    changes: u8,
    crashes: u8,
    depth: u32,
}

/// What may be done to a state, besides letting something happen that is under way.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Happen(usize),
    Impatience(i32),
    Propose(i32),
    Remove(i32, i32),
    Crash(i32),
    Start(i32),
}

/// Explores.
///
/// # Panics
/// If a promise is broken.
pub fn explore(scope: Scope) -> Found {
    let all = (1..=scope.nodes).map(settings).collect();
    let mut world = World::new(all, Dice::new(1), Weather::FAIR);
    world.untimed = Some(Vec::new());
    for id in 1..=scope.nodes {
        world.format(id, initial_voters(scope.nodes));
    }
    for id in 1..=scope.nodes {
        world.start(id);
    }
    let first =
        State { world, records: scope.records, changes: scope.changes, crashes: scope.crashes, depth: 0 };
    let mut seen = BTreeSet::from([fingerprint(&first)]);
    let mut frontier = VecDeque::from([first]);
    let mut found = Found { states: 1, depth: 0, committed: 0, exhausted: true };
    while let Some(state) = frontier.pop_front() {
        for deed in deeds(&state, &scope) {
            let mut next = state.clone();
            next.depth += 1;
            perform(&mut next, deed);
            if !seen.insert(fingerprint(&next)) {
                continue;
            }
            found.states += 1;
            found.depth = found.depth.max(next.depth);
            found.committed = found.committed.max(next.world.promises.committed.len());
            if found.states >= scope.states {
                found.exhausted = false;
                return found;
            }
            frontier.push_back(next);
        }
    }
    found
}

fn deeds(state: &State, scope: &Scope) -> Vec<Deed> {
    let world = &state.world;
    let pending = world.untimed.as_ref().expect("there is no time");
    let mut deeds: Vec<Deed> = Vec::new();
    for (index, happening) in pending.iter().enumerate() {
        // The one small file is written in order.
        let earlier = |other: &Happening| match (other, happening) {
            (Happening::Persisted { node: a, .. }, Happening::Persisted { node: b, .. }) => a == b,
            _ => false,
        };
        if !pending[..index].iter().any(earlier) {
            deeds.push(Deed::Happen(index));
        }
    }
    for id in world.ids() {
        let Some(raft) = world.raft_or_none(id) else {
            deeds.push(Deed::Start(id));
            continue;
        };
        let waits = raft.next_deadline().is_some() && raft.epoch() <= scope.epoch_last;
        let stands = raft.role() != RoleName::Prospective || raft.epoch() < scope.epoch_last;
        if waits && stands {
            deeds.push(Deed::Impatience(id));
        }
        if state.crashes > 0 {
            deeds.push(Deed::Crash(id));
        }
        if raft.leading_epoch().is_some() {
            if state.records > 0 {
                deeds.push(Deed::Propose(id));
            }
            if state.changes > 0 {
                deeds.extend(world.ids().map(|voter| Deed::Remove(id, voter)));
            }
        }
    }
    deeds
}

fn perform(state: &mut State, deed: Deed) {
    let world = &mut state.world;
    match deed {
        Deed::Happen(index) => {
            let pending = world.untimed.as_mut().expect("there is no time");
            let happening = pending.remove(index);
            world.take(happening);
        }
        Deed::Impatience(id) => {
            // Far enough that whatever it waits for is over.
            world.node_mut(id).clock.0 += 1_000_000;
            world.happen(id, Event::Timeout);
        }
        Deed::Propose(id) => {
            state.records -= 1;
            world.propose(id, 1);
        }
        Deed::Remove(id, voter) => {
            state.changes -= 1;
            let voter = world.node(voter).settings.me;
            world.ask(id, |token| Event::RemoveVoterRequest { token, request: RemoveVoterRequest { voter } });
        }
        Deed::Crash(id) => {
            state.crashes -= 1;
            world.crash(id);
            let pending = world.untimed.as_mut().expect("there is no time");
            pending.retain(|happening| match happening {
                Happening::Persisted { node, .. } | Happening::Flushed { node, .. } => *node != id,
                _ => true,
            });
        }
        Deed::Start(id) => world.start(id),
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut digest = Digest(0x9e37_79b9);
    (state.records, state.changes, state.crashes).hash(&mut digest);
    for node in &state.world.nodes {
        node.raft.is_some().hash(&mut digest);
        if let Some(raft) = &node.raft {
            raft.fingerprint(&mut digest);
        }
        node.store.state.hash(&mut digest);
        (node.store.durable, node.store.end()).hash(&mut digest);
        for record in &node.store.records {
            record.hash(&mut digest);
        }
        node.parked_offsets().for_each(|parked| parked.hash(&mut digest));
    }
    let under_way = state.world.untimed.as_ref().expect("there is no time");
    // In no order.
    let sum = under_way.iter().fold(0_u64, |sum, happening| sum.wrapping_add(one(&state.world, happening)));
    sum.hash(&mut digest);
    digest.finish()
}

/// Something under way, with numbers of requests replaced by whether their answers are waited for.
fn one(world: &World, happening: &Happening) -> u64 {
    let mut digest = Digest(0x51_7c_c1_b7);
    let number =
        |id: i32, request: u64| world.raft_or_none(id).is_some_and(|raft| raft.awaits_fetch(request));
    match happening {
        Happening::Deliver { from, to, life, message } => {
            let alive = life.is_none_or(|life| life == world.node(*to).life);
            (from.node, *to, alive, std::mem::discriminant(message)).hash(&mut digest);
            match message {
                Message::Fetch(request) => {
                    let awaited = number(from.node, request.request);
                    (FetchRequest { request: 0, ..*request }, awaited).hash(&mut digest);
                }
                Message::FetchAnswer(request, response, records) => {
                    (number(*to, *request), response, records).hash(&mut digest);
                }
                other => other.hash(&mut digest),
            }
        }
        Happening::Persisted { node, sequence, state, .. } => (1, node, sequence, state).hash(&mut digest),
        Happening::Flushed { node, end, truncations, .. } => {
            let counts = *truncations == world.node(*node).store.truncations;
            (2, node, end, counts).hash(&mut digest);
        }
        other => other.hash(&mut digest),
    }
    digest.finish()
}
