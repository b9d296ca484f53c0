//! Committed offsets: `offset-regression`.
//!
//! Once a commit is acknowledged, nothing that begins later may be below it: no other commit, no committed offset told by the broker, and
//! no first poll of a member that was given the partition later.

use crate::event::{Deed, Event, Partition};
use crate::ownership::Stint;
use crate::{Anomaly, History, at};
use std::collections::{BTreeMap, BTreeSet};

/// Of one partition in one group: acknowledged commits by time, each with the highest offset so far.
type Heights<'a> = BTreeMap<(&'a str, &'a Partition), Vec<(u64, i64)>>;

pub(crate) fn check(history: &History, stints: &[Stint], anomalies: &mut Vec<Anomaly>) {
    let heights = heights(history);
    let highest_before = |group: &str, partition: &Partition, time: u64| {
        let commits = heights.get(&(group, partition))?;
        let count = commits.partition_point(|(acknowledged, _)| *acknowledged < time);
        Some(commits[count.checked_sub(1)?].1)
    };
    let mut expect =
        |event: &Event, group: &str, partition: &Partition, offset: i64, since: u64, what: &str| {
            if let Some(highest) = highest_before(group, partition, since).filter(|highest| offset < *highest)
            {
                anomalies.push(Anomaly::new(
                    "offset-regression",
                    format!(
                        "{group}: {} {what} {}, after {highest} was committed",
                        event.client,
                        at(partition, offset)
                    ),
                ));
            }
        };
    // Stints whose first poll is still to come, in the order in which they began.
    let mut waiting: BTreeSet<usize> = (0..stints.len()).collect();
    for event in &history.events {
        match &event.deed {
            Deed::Committed { group, offsets } => {
                offsets.iter().for_each(|(partition, offset)| {
                    expect(event, group, partition, *offset, event.begun, "commits");
                });
            }
            Deed::Position { group, offsets } => {
                offsets.iter().for_each(|(partition, offset)| {
                    expect(event, group, partition, *offset, event.begun, "is told");
                });
            }
            Deed::Polled { partition, records, .. } => {
                let Some((first, _)) = records.first() else { continue };
                let begun: Vec<usize> = waiting
                    .iter()
                    .copied()
                    .take_while(|index| stints[*index].from <= event.time)
                    .filter(|index| {
                        let stint = &stints[*index];
                        stint.client == event.client && stint.partition == *partition
                    })
                    .collect();
                for index in begun {
                    waiting.remove(&index);
                    let stint = &stints[index];
                    // A stint that ended without a poll has shown nothing.
                    if stint.until >= event.time {
                        expect(event, &stint.group, partition, *first, stint.from, "reads from");
                    }
                }
            }
            _ => {}
        }
    }
}

fn heights(history: &History) -> Heights<'_> {
    let mut heights = Heights::new();
    for event in &history.events {
        if let Deed::Committed { group, offsets } = &event.deed {
            for (partition, offset) in offsets {
                let commits = heights.entry((group, partition)).or_default();
                let highest = commits.last().map_or(*offset, |(_, highest)| (*highest).max(*offset));
                commits.push((event.time, highest));
            }
        }
    }
    heights
}
