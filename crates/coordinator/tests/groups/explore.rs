//! Consumer groups at small scope, in every order: two members, two partitions, and everything that can happen to them.
//!
//! The tricky idea: time is no part of a state. Members are heard of or time out as an action of its own, misfortunes come out of a
//! budget, and so the states are finite.

use crate::consumer_rig::{Consumer, Owned, flat};
use crate::rig::{Rig, error, topic_id};
use ottla_coordinator::GroupOverrides;
use ottla_protocol::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Debug, Clone, Copy)]
enum Action {
    /// It is heard of, hears the answer, and does as it is told at once.
    Beat(usize),
    /// It does not give up yet what it is to give up.
    BeatSlowly(usize),
    /// It does not hear the answer.
    BeatUnheard(usize),
    Leave(usize),
    /// Everybody has been silent for too long.
    Silence,
    FailOver,
    /// The next append fails.
    FailAppend,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    unheard: u32,
    leaves: u32,
    silences: u32,
    fail_overs: u32,
    failed_appends: u32,
}

#[derive(Clone)]
struct Scene {
    rig: Rig,
    members: Vec<Consumer>,
    budget: Budget,
}

impl Scene {
    fn new(members: usize, budget: Budget) -> Scene {
        let mut rig = Rig::new();
        rig.cluster.topics.insert("w".into(), (topic_id(9), 2));
        let overrides = GroupOverrides { assignment_interval_ms: Some(0), ..Default::default() };
        rig.cluster.overrides.insert("g".into(), overrides);
        let members = (0..members).map(|n| Consumer::new(&format!("m{n}"), &["w"])).collect();
        Scene { rig, members, budget }
    }

    fn actions(&self) -> Vec<Action> {
        let budget = &self.budget;
        let mut actions = Vec::new();
        for n in 0..self.members.len() {
            actions.push(Action::Beat(n));
            if !self.members[n].owned.is_empty() {
                actions.push(Action::BeatSlowly(n));
            }
            if budget.unheard > 0 {
                actions.push(Action::BeatUnheard(n));
            }
            if budget.leaves > 0 && self.members[n].member_epoch > 0 {
                actions.push(Action::Leave(n));
            }
        }
        if budget.silences > 0 {
            actions.push(Action::Silence);
        }
        if budget.fail_overs > 0 {
            actions.push(Action::FailOver);
        }
        if budget.failed_appends > 0 && self.rig.fail_next.is_none() {
            actions.push(Action::FailAppend);
        }
        actions
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Beat(n) => {
                self.beat(n);
                let member = &mut self.members[n];
                member.owned = member.assigned.clone();
            }
            Action::BeatSlowly(n) => {
                let before = self.members[n].owned.clone();
                self.beat(n);
                let member = &mut self.members[n];
                if member.member_epoch > 0 {
                    for (topic, partitions) in before {
                        member.owned.entry(topic).or_default().extend(partitions);
                    }
                }
            }
            Action::BeatUnheard(n) => {
                self.budget.unheard -= 1;
                drop(self.rig.consumer_request(&self.members[n].next_request(), 1));
                self.members[n].is_unsure = true;
            }
            Action::Leave(n) => {
                self.budget.leaves -= 1;
                self.rig.leave_consumer(&self.members[n], -1);
                self.members[n].forget();
            }
            Action::Silence => {
                self.budget.silences -= 1;
                self.rig.advance(60_000);
            }
            Action::FailOver => {
                self.budget.fail_overs -= 1;
                self.rig.fail_over();
            }
            Action::FailAppend => {
                self.budget.failed_appends -= 1;
                self.rig.fail_next = Some(ErrorCode::NotEnoughReplicas);
            }
        }
    }

    fn beat(&mut self, n: usize) {
        let member = &mut self.members[n];
        let response = self.rig.consumer_request(&member.next_request(), 1);
        match error(response.error_code) {
            ErrorCode::None => member.learn(&response),
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => {
                member.forget()
            }
            ErrorCode::CoordinatorNotAvailable => member.is_unsure = true,
            other => panic!("{}: {other:?}", member.id),
        }
    }

    /// No partition twice: in the books, and among those who are members and work.
    fn check(&self) -> Result<(), String> {
        let described = self.rig.coordinator.describe_consumer_group("g", &self.rig.cluster);
        let mut held: BTreeMap<i32, &str> = BTreeMap::new();
        let mut worked_on: BTreeMap<(u8, i32), &str> = BTreeMap::new();
        for known in &described.members {
            for partition in known.assignment.topic_partitions.iter().flat_map(|topic| &topic.partitions) {
                if let Some(other) = held.insert(*partition, &known.member_id) {
                    return Err(format!("{partition} is held by {other} and {}", known.member_id));
                }
            }
            let member = self.members.iter().find(|member| member.id == *known.member_id);
            for partition in member.map_or(Vec::new(), |member| flat(&member.owned)) {
                if let Some(other) = worked_on.insert(partition, &known.member_id) {
                    return Err(format!("{other} and {} work on {partition:?}", known.member_id));
                }
            }
        }
        Ok(())
    }

    /// Everybody does as told from here on: every partition finds an owner.
    fn check_calm(mut self) -> Result<(), String> {
        self.rig.fail_next = None;
        for _ in 0..12 {
            for n in 0..self.members.len() {
                self.beat(n);
                self.members[n].owned = self.members[n].assigned.clone();
            }
        }
        let owned: usize = self.members.iter().map(|member| flat(&member.owned).len()).sum();
        let state = self.rig.consumer_state("g");
        if owned == 2 && state == "Stable" {
            return Ok(());
        }
        Err(format!("{state}, and {owned} partitions have an owner: {:?}", self.owned()))
    }

    fn owned(&self) -> Vec<&Owned> {
        self.members.iter().map(|member| &member.owned).collect()
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let fails = self.rig.fail_next.is_some();
        let told = (&self.members, &self.budget, fails, self.rig.coordinator.hard_state());
        format!("{told:?}").hash(&mut hasher);
        hasher.finish()
    }
}

/// Every order; returns how many states there are, and whether these are all.
fn explore(start: Scene, states_max: usize) -> (usize, bool) {
    let mut seen = BTreeSet::from([start.fingerprint()]);
    let actions = start.actions();
    let mut path: Vec<(Scene, Vec<Action>, Vec<Action>)> = vec![(start, actions, Vec::new())];
    while let Some((scene, actions, taken)) = path.last_mut() {
        let Some(action) = actions.pop() else {
            path.pop();
            continue;
        };
        let mut next = scene.clone();
        let mut taken = taken.clone();
        taken.push(action);
        next.act(action);
        let fingerprint = next.fingerprint();
        if !seen.insert(fingerprint) {
            continue;
        }
        next.check().unwrap_or_else(|broken| panic!("{broken}, after {taken:?}"));
        if fingerprint.is_multiple_of(8) {
            next.clone().check_calm().unwrap_or_else(|broken| panic!("{broken}, after {taken:?} and calm"));
        }
        if seen.len() == states_max {
            return (states_max, false);
        }
        let actions = next.actions();
        path.push((next, actions, taken));
    }
    (seen.len(), true)
}

const NOTHING: Budget = Budget { unheard: 0, leaves: 0, silences: 0, fail_overs: 0, failed_appends: 0 };

#[test]
fn two_members_come_and_one_leaves() {
    let (states, is_complete) = explore(Scene::new(2, Budget { leaves: 1, ..NOTHING }), 20_000);
    assert!(is_complete && states > 20, "{states} states");
}

#[test]
fn a_member_misses_an_answer() {
    let (states, is_complete) = explore(Scene::new(2, Budget { unheard: 1, ..NOTHING }), 20_000);
    assert!(is_complete && states > 20, "{states} states");
}

#[test]
fn the_coordinator_moves_and_appends_fail() {
    let budget = Budget { fail_overs: 1, failed_appends: 1, ..NOTHING };
    let (states, is_complete) = explore(Scene::new(2, budget), 20_000);
    assert!(is_complete && states > 40, "{states} states");
}

#[test]
fn silence_ends_sessions() {
    let (states, is_complete) = explore(Scene::new(2, Budget { silences: 1, ..NOTHING }), 20_000);
    assert!(is_complete && states > 20, "{states} states");
}
