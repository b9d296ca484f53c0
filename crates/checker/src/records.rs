//! Records: what was sent, what was acknowledged where, and what readers saw.
//!
//! Values are unique per topic, so a value *is* a record. Final readers read each log as a whole with `read_committed` when all is over;
//! what they saw is the log, against which acknowledgements and all other polls are held.

use crate::event::{Deed, Event, Partition};
use crate::{Anomaly, History, at};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one value.
#[derive(Default)]
struct Fate<'a> {
    txn: Option<&'a str>,
    is_refused: bool,
    acked: Option<(&'a Partition, i64)>,
    /// Where readers saw it.
    seen: BTreeSet<(&'a Partition, i64)>,
}

/// How a transaction ended, and when its end began.
struct End {
    committed: Option<bool>,
    begun: u64,
}

struct Records<'a> {
    fates: BTreeMap<(&'a str, &'a str), Fate<'a>>,
    ends: BTreeMap<&'a str, End>,
    /// The logs as the final readers saw them.
    logs: BTreeMap<&'a Partition, BTreeMap<i64, &'a str>>,
}

pub(crate) fn check(history: &History, anomalies: &mut Vec<Anomaly>) {
    let records = gather(history, anomalies);
    check_fates(&records, anomalies);
    check_sends(history, &records, anomalies);
    check_polls(history, &records, anomalies);
}

fn gather<'a>(history: &'a History, anomalies: &mut Vec<Anomaly>) -> Records<'a> {
    let mut records = Records { fates: BTreeMap::new(), ends: BTreeMap::new(), logs: BTreeMap::new() };
    let mut places: BTreeMap<(&Partition, i64), &str> = BTreeMap::new();
    let mut place = |partition: &'a Partition, offset: i64, value: &'a str| {
        let first = *places.entry((partition, offset)).or_insert(value);
        if first != value {
            let story = format!("{} holds {first} and {value}", at(partition, offset));
            anomalies.push(Anomaly::new("inconsistent-offsets", story));
        }
    };
    for event in &history.events {
        match &event.deed {
            Deed::Sending { topic, value, txn } => {
                records.fates.entry((topic, value)).or_default().txn = txn.as_deref();
            }
            Deed::Acked { partition, value, offset } => {
                let fate = records.fates.entry((&partition.topic, value)).or_default();
                fate.acked = Some((partition, *offset));
                // -1: the producer was told that it is there already.
                if *offset >= 0 {
                    place(partition, *offset, value);
                }
            }
            Deed::Refused { topic, value } => {
                records.fates.entry((topic, value)).or_default().is_refused = true;
            }
            Deed::Ended { txn, committed } => {
                records.ends.insert(txn, End { committed: *committed, begun: event.begun });
            }
            Deed::Polled { partition, records: polled, is_final, .. } => {
                let mut log = is_final.then(|| records.logs.entry(partition).or_default());
                for (offset, value) in polled {
                    place(partition, *offset, value);
                    records
                        .fates
                        .entry((&partition.topic, value))
                        .or_default()
                        .seen
                        .insert((partition, *offset));
                    if let Some(log) = &mut log {
                        log.insert(*offset, value);
                    }
                }
            }
            _ => {}
        }
    }
    records
}

/// `duplicate`, `lost-write`, `unseen`.
fn check_fates(records: &Records, anomalies: &mut Vec<Anomaly>) {
    for ((topic, value), fate) in &records.fates {
        let mut places = fate.seen.clone();
        places.extend(fate.acked.filter(|(_, offset)| *offset >= 0));
        if places.len() > 1 {
            let places: Vec<String> =
                places.iter().map(|(partition, offset)| at(partition, *offset)).collect();
            anomalies.push(Anomaly::new("duplicate", format!("{value} is at {}", places.join(" and "))));
        }
        let is_promised = match fate.txn {
            None => fate.acked.is_some(),
            Some(txn) => {
                fate.acked.is_some() && records.ends.get(txn).is_some_and(|end| end.committed == Some(true))
            }
        };
        let is_visible = is_promised || (fate.txn.is_none() && !fate.seen.is_empty());
        if !is_visible {
            continue;
        }
        let place = fate.acked.or_else(|| fate.seen.first().copied());
        let Some((partition, offset)) = place else { continue };
        // A log that nobody read at the end tells nothing.
        let Some(log) = records.logs.get(partition) else { continue };
        let is_there = match offset {
            0.. => log.contains_key(&offset),
            _ => log.values().any(|found| found == value),
        };
        if !is_there {
            let kind = if log.last_key_value().is_some_and(|(last, _)| *last > offset) {
                "lost-write"
            } else {
                "unseen"
            };
            let who = if fate.acked.is_some() { "acknowledged" } else { "read" };
            anomalies.push(Anomaly::new(
                kind,
                format!("{value} of {topic} was {who} at {} and is not in the log", at(partition, offset)),
            ));
        }
    }
}

/// `nonmonotonic-send`: what one producer sends to one partition is acknowledged in the order in which it was sent.
fn check_sends(history: &History, records: &Records, anomalies: &mut Vec<Anomaly>) {
    let mut last: BTreeMap<(&str, &Partition), (i64, &str)> = BTreeMap::new();
    for event in &history.events {
        let Deed::Sending { topic, value, .. } = &event.deed else { continue };
        let acked = records.fates.get(&(topic.as_str(), value.as_str())).and_then(|fate| fate.acked);
        let Some((partition, offset)) = acked.filter(|(_, offset)| *offset >= 0) else { continue };
        let before = last.insert((&event.client, partition), (offset, value));
        if let Some((earlier, before)) = before.filter(|(earlier, _)| *earlier >= offset) {
            anomalies.push(Anomaly::new(
                "nonmonotonic-send",
                format!("{value}, sent after {before}, is at {} before {earlier}", at(partition, offset)),
            ));
        }
    }
}

/// `G1a`, `precommitted-read`, and the order of polls.
fn check_polls(history: &History, records: &Records, anomalies: &mut Vec<Anomaly>) {
    let mut positions: BTreeMap<(&str, &Partition), i64> = BTreeMap::new();
    for event in &history.events {
        match &event.deed {
            Deed::Polled { partition, records: polled, is_committed, .. } => {
                for (offset, value) in polled {
                    check_isolation(event, partition, *offset, value, *is_committed, records, anomalies);
                }
                let mut before = positions.get(&(event.client.as_str(), partition)).copied();
                let mut is_inside = false;
                for (offset, _) in polled {
                    if let Some(before) = before {
                        check_step(event, partition, before, *offset, is_inside, records, anomalies);
                    }
                    before = Some(*offset);
                    is_inside = true;
                }
                if let Some(last) = before {
                    positions.insert((&event.client, partition), last);
                }
            }
            Deed::Sought { partition } => {
                positions.remove(&(event.client.as_str(), partition));
            }
            Deed::Assigned { partitions, .. }
            | Deed::Revoked { partitions, .. }
            | Deed::Lost { partitions, .. } => {
                for partition in partitions {
                    positions.remove(&(event.client.as_str(), partition));
                }
            }
            Deed::Killed => positions.retain(|(client, _), _| *client != event.client),
            _ => {}
        }
    }
}

fn check_isolation(
    event: &Event,
    partition: &Partition,
    offset: i64,
    value: &str,
    is_committed: bool,
    records: &Records,
    anomalies: &mut Vec<Anomaly>,
) {
    let Some(fate) = records.fates.get(&(partition.topic.as_str(), value)) else { return };
    let place = at(partition, offset);
    if fate.is_refused && fate.txn.is_none() {
        anomalies.push(Anomaly::new(
            "G1a",
            format!("{} reads {value} at {place}, which was refused", event.client),
        ));
    }
    let Some(txn) = fate.txn.filter(|_| is_committed) else { return };
    match records.ends.get(txn) {
        Some(End { committed: Some(false), .. }) => anomalies
            .push(Anomaly::new("G1a", format!("{} reads {value} of aborted {txn} at {place}", event.client))),
        Some(end) if end.begun > event.time => anomalies.push(Anomaly::new(
            "precommitted-read",
            format!("{} reads {value} at {place} before {txn} is committed", event.client),
        )),
        _ => {}
    }
}

fn check_step(
    event: &Event,
    partition: &Partition,
    before: i64,
    offset: i64,
    is_inside: bool,
    records: &Records,
    anomalies: &mut Vec<Anomaly>,
) {
    let story = || format!("{} reads {} after offset {before}", event.client, at(partition, offset));
    if offset <= before {
        let kind = if is_inside { "int-nonmonotonic-poll" } else { "nonmonotonic-poll" };
        anomalies.push(Anomaly::new(kind, story()));
        return;
    }
    let Some(log) = records.logs.get(partition) else { return };
    if let Some((skipped, value)) = log.range(before + 1..offset).next() {
        let kind = if is_inside { "int-poll-skip" } else { "poll-skip" };
        anomalies.push(Anomaly::new(kind, format!("{}, past {value} at {skipped}", story())));
    }
}

pub(crate) fn check_copy(history: &History, source: &str, copy: &str) -> Vec<Anomaly> {
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut copies: Vec<(&Partition, i64, &str)> = Vec::new();
    for event in &history.events {
        let Deed::Polled { partition, records, is_final: true, .. } = &event.deed else { continue };
        for (offset, value) in records {
            if partition.topic == source {
                wanted.insert(value);
            } else if partition.topic == copy {
                copies.push((partition, *offset, value.split('#').next().unwrap_or(value)));
            }
        }
    }
    let mut anomalies = Vec::new();
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for (partition, offset, value) in copies {
        let place = at(partition, offset);
        if !wanted.contains(value) {
            anomalies.push(Anomaly::new(
                "phantom",
                format!("{place} is a copy of {value}, which is not in {source}"),
            ));
        }
        if let Some(first) = found.insert(value, place.clone()) {
            anomalies
                .push(Anomaly::new("duplicate", format!("{value} was copied to {first} and to {place}")));
        }
    }
    for value in wanted.iter().filter(|value| !found.contains_key(**value)) {
        anomalies.push(Anomaly::new("lost-write", format!("{value} of {source} was not copied to {copy}")));
    }
    anomalies
}
