//! One run from one seed: a quorum of some kind, faults of some kinds ("swarm": each seed has its own choice), work, and in
//! the end a healed world in which the quorum must agree, commit, and keep its leader.

use ottla_raft::*;

use crate::sim::dice::Dice;
use crate::sim::world::{Node, Weather, World, endpoints, key, voter};

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub committed: usize,
    pub events: u64,
    /// Whether so many disks were lost that nothing more could be expected than that nothing wrong happens.
    pub beyond_repair: bool,
    pub trace: Option<u64>,
}

/// Which faults a run has.
#[derive(Debug, Clone, Copy)]
struct Faults {
    crashes: bool,
    cuts: bool,
    one_way_cuts: bool,
    clogs: bool,
    pauses: bool,
    wipes: bool,
    resigns: bool,
    snapshots: bool,
    changes: bool,
    upgrades: bool,
}

pub fn settings(id: i32) -> Settings {
    Settings {
        me: key(id, 0),
        endpoints: endpoints(id),
        kraft_versions: VersionRange { min: 0, max: 1 },
        static_voters: Voters::none(),
        bootstrap_servers: 0,
        may_vote: true,
        auto_join: false,
        election_timeout_ms: 100,
        fetch_timeout_ms: 200,
        election_backoff_max_ms: 50,
        request_timeout_ms: 60,
        retry_backoff_ms: 10,
        append_linger_ms: 0,
        seed: 0,
    }
}

/// Voters as a configuration file names them: without their disks.
pub fn static_voters(count: i32) -> Voters {
    let named = |id| {
        let key = ReplicaKey { id, directory_id: [0; 16] };
        Voter { kraft_versions: VersionRange { min: 0, max: 0 }, ..voter(key) }
    };
    Voters::new((1..=count).map(named).collect()).expect("different ids")
}

/// Voters as `storage format --initial-controllers` writes them.
pub fn initial_voters(count: i32) -> Voters {
    Voters::new((1..=count).map(|id| voter(key(id, 0))).collect()).expect("different ids")
}

/// A quorum of `voters` among `nodes`, formatted and not started.
fn build(voters: i32, nodes: i32, in_log: bool, chance: &mut Dice, weather: Weather) -> World {
    let auto_join = in_log && chance.percent(50);
    let linger = chance.pick(&[0, 0, 5]);
    let all = (1..=nodes).map(|id| Settings {
        static_voters: if in_log { Voters::none() } else { static_voters(voters) },
        bootstrap_servers: nodes as usize,
        may_vote: id <= voters || chance.percent(80),
        auto_join,
        append_linger_ms: linger,
        ..settings(id)
    });
    let all: Vec<Settings> = all.collect();
    let mut world = World::new(all, Dice::new(chance.below(u64::MAX)), weather);
    if in_log {
        for id in 1..=voters {
            world.format(id, initial_voters(voters));
        }
    }
    world
}

/// Runs a seed.
///
/// # Panics
/// If a promise is broken.
pub fn run(seed: u64, trace: Option<u64>) -> Outcome {
    tell(seed, trace, false)
}

/// Runs a seed, and prints what happens if it shall be `told`.
pub fn tell(seed: u64, trace: Option<u64>, told: bool) -> Outcome {
    let mut chance = Dice::new(seed);
    let weather = Weather {
        loss_percent: chance.pick(&[0, 0, 5, 15, 30]),
        duplicate_percent: chance.pick(&[0, 0, 10, 40]),
        delay_max_ms: chance.pick(&[2, 10, 30, 80]),
        disk_max_ms: chance.pick(&[1, 5, 30]),
        disk_failure_permille: chance.pick(&[0, 0, 2, 10]),
    };
    let in_log = chance.percent(65);
    let voters = chance.pick(&[1, 2, 3, 3, 3, 4, 5]);
    let nodes = voters + chance.pick(&[0, 0, 1, 2]);
    let faults = Faults {
        crashes: chance.percent(60),
        cuts: chance.percent(60),
        one_way_cuts: chance.percent(40),
        clogs: chance.percent(30),
        pauses: chance.percent(30),
        wipes: chance.percent(30),
        resigns: chance.percent(30),
        snapshots: chance.percent(50),
        changes: chance.percent(60),
        upgrades: !in_log && chance.percent(50),
    };
    let mut world = build(voters, nodes, in_log, &mut chance, weather);
    world.trace = trace;
    world.told = told;
    if told {
        println!("{voters} voters, {nodes} nodes, in the log: {in_log}, {weather:?}, {faults:?}");
    }
    if chance.percent(40) {
        for id in world.ids() {
            world.node_mut(id).clock = (chance.below(10_000) as i64 - 5_000, chance.below(100) as i64 - 50);
        }
    }
    for id in world.ids() {
        world.start(id);
    }
    for _ in 0..100 {
        let until = world.now + 1 + chance.below(60) as i64;
        world.run_until(until);
        world.check_leaders_are_heard(750);
        disturb(&mut world, &faults, &mut chance);
    }
    let beyond_repair = heal(&mut world);
    Outcome {
        committed: world.promises.committed.len(),
        events: world.events,
        beyond_repair,
        trace: world.trace,
    }
}

/// One thing that happens to the quorum from outside: work, or a fault.
fn disturb(world: &mut World, faults: &Faults, chance: &mut Dice) {
    let nodes = world.nodes.len() as u64;
    let id = 1 + chance.below(nodes) as i32;
    let other = 1 + chance.below(nodes) as i32;
    match chance.below(24) {
        0 if faults.crashes && world.is_up(id) => world.crash(id),
        1..=3 if !world.is_up(id) => world.start(id),
        4 if faults.one_way_cuts => cut(world, id, other, chance),
        5 if faults.cuts => {
            // One node from all others, or two halves from each other.
            let alone = chance.percent(50);
            for a in world.ids() {
                for b in world.ids().filter(|b| *b != a) {
                    let parted = if alone { a == id || b == id } else { (a <= id) != (b <= id) };
                    if parted {
                        cut(world, a, b, chance);
                    }
                }
            }
        }
        6 | 7 => world.cut_until.fill(0),
        8 if faults.clogs => {
            let link = world.link(id, other);
            world.clogged_until[link] = world.now + chance.below(1_000) as i64;
        }
        9 if faults.pauses => world.node_mut(id).paused_until = world.now + chance.below(600) as i64,
        10 if faults.resigns && world.is_up(id) => world.happen(id, Event::Resign),
        11 if faults.wipes && world.node(id).settings.static_voters.is_empty() => {
            // Mostly as many disks survive as are needed.
            if may_wipe(world, id) || chance.percent(3) {
                world.wipe(id);
            }
        }
        12 | 13 if faults.snapshots && world.is_up(id) => {
            let (start, end) = (world.node(id).store.start, world.node(id).store.end());
            let offset = start + chance.below((end - start) as u64 + 1) as i64;
            world.take_snapshot(id, offset, chance.percent(60));
        }
        14 | 15 if faults.changes => change(world, id, chance),
        16 if faults.upgrades => {
            if let Some(leader) = world.leader() {
                world.happen(leader, Event::UpgradeKRaftVersion { level: 1 });
            }
        }
        _ => work(world, chance),
    }
}

fn cut(world: &mut World, from: i32, to: i32, chance: &mut Dice) {
    let link = world.link(from, to);
    world.cut_until[link] = world.now + 1 + chance.below(1_500) as i64;
}

/// Appends something on every node that takes itself for the leader: old ones behind a partition too, until they notice.
fn work(world: &mut World, chance: &mut Dice) {
    for leader in world.ids() {
        let leads = world.raft_or_none(leader).is_some_and(|raft| raft.leading_epoch().is_some());
        if leads && world.node(leader).paused_until <= world.now {
            for _ in 0..=chance.below(2) {
                let records = 1 + chance.below(3);
                world.propose(leader, records);
            }
        }
    }
}

/// Asks a leader to add or remove a voter.
fn change(world: &mut World, id: i32, chance: &mut Dice) {
    let leaders: Vec<i32> = world
        .ids()
        .filter(|id| world.raft_or_none(*id).is_some_and(|raft| raft.leading_epoch().is_some()))
        .collect();
    if leaders.is_empty() {
        return;
    }
    let leader = chance.pick(&leaders);
    let known = world.raft(leader).voters().get(id).map(|voter| voter.key);
    let ack_when_committed = chance.percent(50);
    match known {
        Some(voter) if chance.percent(70) => {
            world.ask(leader, |token| Event::RemoveVoterRequest {
                token,
                request: RemoveVoterRequest { voter },
            });
        }
        _ => {
            let voter = world.node(id).settings.me;
            let request = AddVoterRequest { voter, endpoints: endpoints(id), ack_when_committed };
            world.ask(leader, |token| Event::AddVoterRequest { token, request });
        }
    }
}

/// With everybody up and talking there is a leader soon, one more record is committed, and everybody knows it. Returns
/// whether too many disks were lost for that.
fn heal(world: &mut World) -> bool {
    world.cut_until.fill(0);
    world.clogged_until.fill(0);
    world.weather = Weather::FAIR;
    for id in world.ids() {
        world.node_mut(id).paused_until = 0;
        if !world.is_up(id) {
            world.start(id);
        }
    }
    if beyond_repair(world) {
        world.run_until(world.now + 1_000);
        return true;
    }
    let newest = |world: &World| world.ids().map(|id| world.raft(id).epoch()).max().expect("there are nodes");
    let before = newest(world);
    world.run_until(world.now + 3_000);
    let elections = newest(world) - before;
    assert!(elections <= 8, "candidates do not disturb each other for ever: {elections} elections");
    if beyond_repair(world) || (world.leader().is_none() && removed_in_vain(world)) {
        return true;
    }
    let mut agreed = Err(String::new());
    for _ in 0..4 {
        let leader = world.leader();
        let leader = leader.unwrap_or_else(|| panic!("a healed quorum has a leader: {}", roles(world)));
        world.propose(leader, 1);
        world.run_until(world.now + 700);
        agreed = agreement(world);
        if agreed.is_ok() {
            break;
        }
    }
    agreed.expect("a healed quorum agrees");
    keep_leader(world);
    false
}

/// Who is what, for whoever looks into a seed.
fn roles(world: &World) -> String {
    let role = |node: &Node| match &node.raft {
        Some(raft) => format!(
            "{:?} {:?} epoch {} of {:?}, log {:?} to {}, voters {:?}",
            node.settings.me.id,
            raft.role(),
            raft.epoch(),
            raft.leader(),
            node.store.start,
            node.store.end(),
            raft.voters().iter().map(|v| (v.key.id, v.key.directory_id[0])).collect::<Vec<_>>(),
        ),
        None => "down".to_owned(),
    };
    world.nodes.iter().map(role).collect::<Vec<_>>().join("; ")
}

fn agreement(world: &World) -> Result<(), String> {
    let leader = world.leader().ok_or("there is no leader")?;
    let end = world.node(leader).store.end();
    if world.promises.committed.len() as i64 != end {
        return Err(format!("{} of {end} records are committed", world.promises.committed.len()));
    }
    for id in world.ids() {
        let (raft, store) = (world.raft(id), &world.node(id).store);
        let same = store.end() == end && store.digest_at(end) == world.node(leader).store.digest_at(end);
        if raft.high_watermark() != Some(end) || raft.leader() != Some(leader) || !same {
            let (role, known) = (raft.role(), raft.high_watermark());
            return Err(format!("node {id}, {role:?}, has {} records and knows of {known:?}", store.end()));
        }
    }
    Ok(())
}

/// A voter that does not hear the leader, while the others do, disturbs nobody.
fn keep_leader(world: &mut World) {
    let leader = world.leader().expect("there is one");
    let voters = world.raft(leader).voters().clone();
    let alive = |id: &i32| voters.contains(&world.node(*id).settings.me);
    let alive: Vec<i32> = world.ids().filter(alive).collect();
    let Some(deaf) = alive.iter().find(|id| **id != leader).filter(|_| alive.len() >= 3) else { return };
    if alive.len() - 1 < voters.majority() {
        return;
    }
    let epoch = world.raft(leader).epoch();
    let link = world.link(leader, *deaf);
    world.cut_until[link] = world.now + 1_200;
    world.run_until(world.now + 1_000);
    assert_eq!((world.leader(), world.raft(leader).epoch()), (Some(leader), epoch), "the leader stays");
}

/// Whether every set of voters that may count keeps a majority without this node's disk.
fn may_wipe(world: &World, id: i32) -> bool {
    let alive = |voters: &Voters| {
        let keeps = |node: &&Node| node.id != id && voters.contains(&node.settings.me);
        world.nodes.iter().filter(keeps).count()
    };
    let mut sets =
        world.nodes.iter().flat_map(|node| &node.store.control).filter_map(|(_, control)| match control {
            Control::Voters(voters) => Some(voters),
            Control::KRaftVersion(_) => None,
        });
    sets.all(|voters| alive(voters) >= voters.majority())
}

/// A known limit of KIP-853, which the published specification has too: a leader that appended its own removal and was cut
/// off before that was committed sees itself as an observer, and stands for election no more. If the others need its vote
/// (two voters, or one of three is dead) and their logs are behind its own, nobody can be elected.
fn removed_in_vain(world: &World) -> bool {
    let committed = world.promises.committed.len() as i64;
    let removed = world.nodes.iter().any(|node| {
        let newest = node.store.control.iter().rev().find_map(|(offset, control)| match control {
            Control::Voters(voters) => Some((*offset, voters)),
            Control::KRaftVersion(_) => None,
        });
        newest.is_some_and(|(offset, voters)| offset >= committed && !voters.contains(&node.settings.me))
    });
    let electable = world.nodes.iter().any(|candidate| {
        let Some(raft) = candidate.raft.as_ref().filter(|raft| raft.is_voter()) else { return false };
        let end = |node: &Node| OffsetAndEpoch { offset: node.store.end(), epoch: node.store.last_epoch() };
        let votes = |node: &&Node| {
            raft.voters().contains(&node.settings.me) && end(candidate).is_up_to_date_with(&end(node))
        };
        world.nodes.iter().filter(votes).count() >= raft.voters().majority()
    });
    removed && !electable
}

/// Whether some set of voters that may count has lost so many disks that the rest is no majority.
fn beyond_repair(world: &World) -> bool {
    let mut sets = world.nodes.iter().filter_map(|node| node.raft.as_ref()).map(Raft::voters);
    let alive =
        |voters: &Voters| world.nodes.iter().filter(|node| voters.contains(&node.settings.me)).count();
    let too_few = |voters: &Voters| !voters.is_empty() && alive(voters) < voters.majority();
    sets.clone().all(Voters::is_empty) || sets.any(too_few)
}
