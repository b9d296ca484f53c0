//! Small tables for each assignor, and random groups against the promises: every partition of a subscribed topic has one
//! owner that subscribes to it, the loads are level, and nothing moves that could stay.

use super::*;

fn uuid(id: u8) -> Uuid {
    Uuid::from_halves(0, u64::from(id))
}

type Table = Vec<(&'static str, Vec<u8>, Vec<(u8, Vec<i32>)>)>;

/// Assigns with the counts of topics, and members as (id, topics, current). Returns the targets in the same notation.
fn run(name: &str, counts: &[(u8, i32)], members: &Table) -> Vec<Vec<(u8, Vec<i32>)>> {
    let ids: Vec<Arc<str>> = members.iter().map(|(id, _, _)| Arc::from(*id)).collect();
    let target = |current: &Vec<(u8, Vec<i32>)>| -> Arc<Target> {
        Arc::new(current.iter().map(|(id, p)| (uuid(*id), p.iter().copied().collect())).collect())
    };
    let spec = Spec {
        members: members
            .iter()
            .zip(&ids)
            .map(|((_, topics, current), id)| MemberSpec {
                id,
                instance_id: id.strip_prefix("static-"),
                topics: Rc::new(topics.iter().map(|id| uuid(*id)).collect()),
                current: target(current),
            })
            .collect(),
        is_homogeneous: members.windows(2).all(|pair| pair[0].1 == pair[1].1),
        partition_counts: counts.iter().map(|(id, count)| (uuid(*id), *count)).collect(),
    };
    let short = |target: Target| {
        target.into_iter().map(|(id, p)| (id.0[15], p.into_iter().collect())).collect::<Vec<_>>()
    };
    assign(name, &spec).into_iter().map(short).collect()
}

#[test]
fn range_gives_the_same_partitions_of_topics_of_one_size() {
    let members = vec![("a", vec![1, 2], vec![]), ("b", vec![1, 2], vec![])];
    assert_eq!(
        run("range", &[(1, 3), (2, 3)], &members),
        [vec![(1, vec![0, 1]), (2, vec![0, 1])], vec![(1, vec![2]), (2, vec![2])]]
    );
}

#[test]
fn range_serves_static_members_first_and_lets_late_ones_go_empty() {
    let members = vec![("a", vec![1], vec![]), ("b", vec![1], vec![]), ("static-z", vec![1], vec![])];
    assert_eq!(run("range", &[(1, 2)], &members), [vec![(1, vec![1])], vec![], vec![(1, vec![0])]]);
}

#[test]
fn uniform_keeps_what_fits_into_the_quota() {
    let members =
        vec![("a", vec![1], vec![(1, vec![0, 1, 2, 3])]), ("b", vec![1], vec![]), ("c", vec![1], vec![])];
    assert_eq!(
        run("uniform", &[(1, 4)], &members),
        [vec![(1, vec![0, 1])], vec![(1, vec![2])], vec![(1, vec![3])]]
    );
    let members = vec![("a", vec![1], vec![(1, vec![3])]), ("b", vec![1], vec![(1, vec![1, 2])])];
    let kept = run("uniform", &[(1, 3)], &members);
    assert_eq!(kept, [vec![(1, vec![0])], vec![(1, vec![1, 2])]], "partition 3 does not exist");
}

#[test]
fn uniform_drops_topics_that_nobody_wants_any_more() {
    let members = vec![("a", vec![2], vec![(1, vec![0]), (2, vec![0])]), ("b", vec![2], vec![])];
    assert_eq!(run("uniform", &[(2, 2)], &members), [vec![(2, vec![0])], vec![(2, vec![1])]]);
}

#[test]
fn different_subscriptions_are_levelled() {
    let members = vec![("a", vec![1], vec![]), ("b", vec![1, 2], vec![]), ("c", vec![2], vec![])];
    let targets = run("uniform", &[(1, 4), (2, 2)], &members);
    let loads: Vec<usize> = targets.iter().map(|t| t.iter().map(|(_, p)| p.len()).sum()).collect();
    assert_eq!(loads, [2, 2, 2]);
}

#[test]
fn members_without_topics_get_nothing() {
    for name in NAMES {
        assert_eq!(run(name, &[], &vec![("a", vec![], vec![])]), [vec![]]);
        let targets = run(name, &[(1, 2)], &vec![("a", vec![], vec![]), ("b", vec![1], vec![])]);
        assert_eq!(targets, [vec![], vec![(1, vec![0, 1])]]);
    }
}

/// A splitmix64 step.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) % below
}

#[test]
fn random_groups_keep_the_promises() {
    for seed in 0..500 {
        let mut state = seed;
        let names: [&'static str; 6] = ["a", "b", "c", "d", "e", "static-f"];
        let counts: Vec<(u8, i32)> = (1..=4).map(|id| (id, 1 + draw(&mut state, 9) as i32)).collect();
        let same = draw(&mut state, 2) == 0;
        let mut members: Table = Vec::new();
        for name in &names[..1 + draw(&mut state, 6) as usize] {
            let bits = if same { 0b0110 } else { draw(&mut state, 16) };
            let topics = (1..=4_u8).filter(|id| bits & (1 << (id - 1)) != 0).collect();
            members.push((name, topics, vec![]));
        }
        for name in NAMES {
            let first = run(name, &counts, &members);
            check(seed, name, same, &counts, &members, &first);
            let mut later = members.clone();
            later.iter_mut().zip(first.clone()).for_each(|(member, target)| member.2 = target);
            assert_eq!(run(name, &counts, &later), first, "seed {seed}: {name} leaves a settled group alone");
            let gone = draw(&mut state, later.len() as u64) as usize;
            let left = later.remove(gone);
            if !later.is_empty() {
                let second = run(name, &counts, &later);
                check(seed, name, same, &counts, &later, &second);
                if same && name == "uniform" {
                    let freed: usize = left.2.iter().map(|(_, p)| p.len()).sum();
                    assert_eq!(moves(&later, &second), freed, "seed {seed}: only what became free moves");
                }
            }
        }
    }
}

/// How many partitions are with somebody who did not have them.
fn moves(before: &Table, after: &[Vec<(u8, Vec<i32>)>]) -> usize {
    let flat = |target: &Vec<(u8, Vec<i32>)>| -> BTreeSet<(u8, i32)> {
        target.iter().flat_map(|(id, p)| p.iter().map(move |p| (*id, *p))).collect()
    };
    let pairs = before.iter().map(|member| &member.2).zip(after);
    pairs.map(|(old, new)| flat(new).difference(&flat(old)).count()).sum()
}

fn check(
    seed: u64,
    name: &str,
    same: bool,
    counts: &[(u8, i32)],
    members: &Table,
    targets: &[Vec<(u8, Vec<i32>)>],
) {
    let mut owners: BTreeMap<(u8, i32), &str> = BTreeMap::new();
    for ((id, topics, _), target) in members.iter().zip(targets) {
        for (topic, partitions) in target {
            assert!(topics.contains(topic), "seed {seed}: {name} gives {id} a topic that it wants");
            for partition in partitions {
                let earlier = owners.insert((*topic, *partition), id);
                assert!(earlier.is_none(), "seed {seed}: {name} gives a partition once");
            }
        }
    }
    for (topic, count) in counts {
        let is_wanted = members.iter().any(|(_, topics, _)| topics.contains(topic));
        let owned = owners.keys().filter(|(id, _)| id == topic).count();
        assert_eq!(owned, if is_wanted { *count as usize } else { 0 }, "seed {seed}: {name}, topic {topic}");
    }
    if same && name == "uniform" {
        let loads = targets.iter().map(|t| t.iter().map(|(_, p)| p.len()).sum::<usize>());
        let (min, max) = (loads.clone().min().unwrap(), loads.max().unwrap());
        assert!(max - min <= 1, "seed {seed}: loads from {min} to {max}");
    }
}
