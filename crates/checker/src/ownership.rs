//! Who owned which partition when: `double-ownership`.
//!
//! A stint lasts from the callback that gives a partition to the start of the one that takes it away, or to the death of the process. A
//! member that *lost* its partitions was already thrown out at a moment that nobody noted; it may have gone on reading, but no longer
//! committing: its stint ends with the last commit that the broker accepted from it.

use crate::event::{Deed, Partition};
use crate::{Anomaly, History};
use std::collections::BTreeMap;

/// One member's time with one partition.
#[derive(Debug)]
pub(crate) struct Stint {
    pub group: String,
    pub partition: Partition,
    pub client: String,
    pub generation: Option<i64>,
    pub from: u64,
    /// `u64::MAX`: to the end of the history.
    pub until: u64,
}

/// All stints in the order in which they begin.
pub(crate) fn stints(history: &History) -> Vec<Stint> {
    let mut all: Vec<Stint> = Vec::new();
    let mut open: BTreeMap<(String, String, Partition), usize> = BTreeMap::new();
    let mut last_commit: BTreeMap<(String, String, Partition), u64> = BTreeMap::new();
    for event in &history.events {
        let key =
            |group: &String, partition: &Partition| (event.client.clone(), group.clone(), partition.clone());
        match &event.deed {
            Deed::Assigned { group, partitions, generation } => {
                for partition in partitions {
                    // Some clients tell the whole assignment again; what is owned already goes on.
                    open.entry(key(group, partition)).or_insert_with(|| {
                        all.push(Stint {
                            group: group.clone(),
                            partition: partition.clone(),
                            client: event.client.clone(),
                            generation: *generation,
                            from: event.time,
                            until: u64::MAX,
                        });
                        all.len() - 1
                    });
                }
            }
            Deed::Revoked { group, partitions } => {
                for partition in partitions {
                    if let Some(at) = open.remove(&key(group, partition)) {
                        all[at].until = event.time;
                    }
                }
            }
            Deed::Lost { group, partitions } => {
                for partition in partitions {
                    if let Some(at) = open.remove(&key(group, partition)) {
                        let commit = last_commit.get(&key(group, partition)).copied().unwrap_or(0);
                        all[at].until = commit.max(all[at].from);
                    }
                }
            }
            Deed::Killed => {
                open.retain(|(client, _, _), at| {
                    if *client == event.client {
                        all[*at].until = event.time;
                    }
                    *client != event.client
                });
            }
            Deed::Committed { group, offsets } => {
                for (partition, _) in offsets {
                    last_commit.insert(key(group, partition), event.begun);
                }
            }
            _ => {}
        }
    }
    all
}

/// No two members at once, and no two members in one generation.
pub(crate) fn check(stints: &[Stint], anomalies: &mut Vec<Anomaly>) {
    let mut by_partition: BTreeMap<(&str, &Partition), Vec<&Stint>> = BTreeMap::new();
    for stint in stints {
        by_partition.entry((&stint.group, &stint.partition)).or_default().push(stint);
    }
    for ((group, partition), stints) in by_partition {
        for (i, later) in stints.iter().enumerate() {
            for earlier in &stints[..i] {
                if earlier.client == later.client {
                    continue;
                }
                if earlier.until > later.from {
                    let overlap = earlier.until.min(later.until) - later.from;
                    anomalies.push(Anomaly::new(
                        "double-ownership",
                        format!(
                            "{group}: {partition} belongs to {} and {} for {} us from {}",
                            earlier.client,
                            later.client,
                            overlap / 1000,
                            later.from
                        ),
                    ));
                } else if earlier.generation.is_some() && earlier.generation == later.generation {
                    anomalies.push(Anomaly::new(
                        "double-ownership",
                        format!(
                            "{group}: {partition} belongs to {} and to {} in generation {:?}",
                            earlier.client, later.client, later.generation
                        ),
                    ));
                }
            }
        }
    }
}
