//! What must be true of the partitions at every moment, and of everything when all is quiet: the invariants of exactly-once, as a
//! reader of committed records and the producer's owner see them.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::ErrorCode;

use super::message::{OFFSETS, PARTITIONS, Producer, Value};
use super::model::Model;
use super::partition::Partition;

/// The values that a reader of committed records has seen of each partition, and how far it could read.
#[derive(Debug, Clone, Default)]
pub(super) struct Reader {
    seen: Vec<Vec<Value>>,
    stable: Vec<i64>,
    /// The committed offsets of the group, one after the other.
    offsets: Vec<i64>,
}

/// The last stable offset, everything appended being committed.
pub(super) fn last_stable(partition: &Partition) -> i64 {
    let end = partition.log.end_offset();
    partition.log.first_unstable_offset().map_or(end, |first| first.min(end))
}

/// What a client filters out of what it fetches: records of aborted transactions, and markers.
fn visible(partition: &Partition) -> Vec<Value> {
    let stable = last_stable(partition);
    let mut aborting: BTreeSet<i64> = BTreeSet::new();
    let mut seen = Vec::new();
    for entry in partition.entries.iter().filter(|entry| entry.offset < stable) {
        let begins = partition.aborted.iter().filter(|(_, first, _)| *first == entry.offset);
        aborting.extend(begins.map(|(id, ..)| *id));
        match entry.value {
            None if !entry.commit => {
                aborting.remove(&entry.producer.0);
            }
            None => {}
            Some(_) if aborting.contains(&entry.producer.0) => {}
            Some(value) => seen.push(value),
        }
    }
    seen
}

impl Reader {
    pub fn new() -> Reader {
        Reader { seen: vec![Vec::new(); PARTITIONS], stable: vec![0; PARTITIONS], offsets: Vec::new() }
    }

    /// Looks at the partitions; an error is a broken promise.
    pub fn look(&mut self, model: &Model) -> Result<(), String> {
        for (index, partition) in model.partitions.iter().enumerate() {
            let now = visible(partition);
            // I8: what was read stays, and the last stable offset does not go back.
            if !now.starts_with(&self.seen[index]) {
                return Err(format!("I8: partition {index} showed {:?} and now {now:?}", self.seen[index]));
            }
            let stable = last_stable(partition);
            if stable < self.stable[index] {
                let before = self.stable[index];
                return Err(format!("I8: the last stable offset of {index} went from {before} to {stable}"));
            }
            for value in &now[self.seen[index].len()..] {
                let txn = model.clients[value.client].txns[value.txn];
                // I9, I10: nothing is shown of a transaction that nobody asked to commit.
                if !txn.asked_commit {
                    return Err(format!("I10: {value:?} is shown, and its commit was never asked for"));
                }
                if txn.aborted {
                    return Err(format!("I9: {value:?} is shown, and its abort was acknowledged"));
                }
            }
            (self.seen[index], self.stable[index]) = (now, stable);
            check_order(index, partition)?;
        }
        self.look_at_offsets(model)?;
        match &model.broken {
            Some(broken) => Err(broken.clone()),
            None => Ok(()),
        }
    }

    /// The committed offset is that of the last transaction with offsets that was committed; no offset comes back that was replaced.
    fn look_at_offsets(&mut self, model: &Model) -> Result<(), String> {
        let Ok(offset) = model.offsets.stable() else { return Ok(()) };
        let expected = self.seen[OFFSETS].last().map_or(-1, |value| value.offset());
        if offset != expected {
            return Err(format!("I11: the group is told offset {offset}, committed is {expected}"));
        }
        if self.offsets.last() != Some(&offset) {
            if self.offsets.contains(&offset) {
                return Err(format!("I8: offset {offset} is back, of {:?}", self.offsets));
            }
            self.offsets.push(offset);
        }
        Ok(())
    }

    /// Everything has been delivered and nobody wants anything.
    pub fn look_at_the_end(&mut self, model: &Model) -> Result<(), String> {
        self.look(model)?;
        for (index, partition) in model.partitions.iter().enumerate() {
            let (stable, end) = (last_stable(partition), partition.log.end_offset());
            if stable != end {
                return Err(format!("I12: partition {index} stays undecided from {stable} on, of {end}"));
            }
        }
        if model.offsets.stable() == Err(ErrorCode::UnstableOffsetCommit) {
            return Err("I12: the offset of the group stays undecided".to_owned());
        }
        for (c, client) in model.clients.iter().enumerate() {
            for (t, txn) in client.txns.iter().enumerate() {
                let shown = |p: usize| self.seen[p].iter().filter(|v| (v.client, v.txn) == (c, t)).count();
                let acked = (0..PARTITIONS).filter(|p| txn.acked[*p] > 0);
                let (whole, none) = acked.fold((true, true), |(whole, none), p| {
                    (whole && shown(p) >= txn.acked[p], none && shown(p) == 0)
                });
                // I11: all of it or nothing, and all of it if the commit was acknowledged.
                if !whole && !none {
                    return Err(format!("I11: transaction {t} of client {c} is torn"));
                }
                if txn.committed && !whole {
                    return Err(format!("I11: transaction {t} of client {c} was committed and is not shown"));
                }
                if txn.aborted && (0..PARTITIONS).any(|p| shown(p) > 0) {
                    return Err(format!("I9: transaction {t} of client {c} was aborted and is shown"));
                }
            }
            if !client.is_done() {
                return Err(format!("I19: client {c} never comes to an end"));
            }
        }
        Ok(())
    }
}

/// I6, I7: each value once, and those of one producer in the order in which they were sent. A commit of offsets may come twice, as
/// nothing depends on how often it does.
fn check_order(index: usize, partition: &Partition) -> Result<(), String> {
    let mut last: BTreeMap<Producer, Value> = BTreeMap::new();
    let mut all: BTreeSet<Value> = BTreeSet::new();
    for entry in partition.entries.iter().filter(|_| index != OFFSETS) {
        let Some(value) = entry.value else { continue };
        if !all.insert(value) {
            return Err(format!("I7: {value:?} is in partition {index} twice"));
        }
        if last.insert(entry.producer, value).is_some_and(|before| before > value) {
            return Err(format!("I7: {value:?} is behind a later record of its producer"));
        }
    }
    Ok(())
}
