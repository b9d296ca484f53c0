//! An error at every operation of a node's life, as its clients see it: with a shortage the node goes on and forgets nothing; with a broken
//! disk it ends, and the next one has everything that was acknowledged.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::produce_request::ProduceRequest;
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions};
use ottla_storage::disk::{Fault, Operation};

use super::Rig;
use crate::client::read;
use crate::world::{Death, World};

const SETTINGS: &[(&str, &str)] = &[
    ("log.dirs", "/data"),
    ("log.initial.task.delay.ms", "1000"),
    ("log.retention.check.interval.ms", "1000"),
    ("log.cleaner.backoff.ms", "1000"),
    ("log.flush.offset.checkpoint.interval.ms", "2000"),
];
/// How often a producer tries again.
const TRIES: usize = 12;

/// A node, its producer, and what the producer was told.
struct Story {
    rig: Rig,
    /// The key of each record that was acknowledged, by its offset.
    acked: BTreeMap<i64, String>,
    start: i64,
    compacted: bool,
    written: usize,
}

/// The node has ended.
struct Ended;

impl Story {
    fn new(compacted: bool) -> Story {
        let mut rig = Rig { world: World::new(1, SETTINGS).expect("an empty disk starts") };
        rig.world.may_halt = true;
        let policy = if compacted { "compact" } else { "delete" };
        rig.create_with(
            "t",
            &[
                ("cleanup.policy", policy),
                ("segment.ms", "4000"),
                ("min.cleanable.dirty.ratio", "0.01"),
                ("file.delete.delay.ms", "500"),
            ],
        );
        Story { rig, acked: BTreeMap::new(), start: 0, compacted, written: 0 }
    }

    fn pass(&mut self, ms: i64) -> Result<(), Ended> {
        self.rig.pass(ms);
        if self.rig.world.halted.is_some() { Err(Ended) } else { Ok(()) }
    }

    /// Writes a record as a client does: again, if it is refused with what clients retry.
    fn write(&mut self) -> Result<(), Ended> {
        let key =
            if self.compacted { format!("k{}", self.written % 3) } else { format!("n{}", self.written) };
        self.written += 1;
        for _ in 0..TRIES {
            let mut builder = BatchBuilder::new(0, BatchOptions::default());
            builder.push(self.rig.world.now, Some(key.as_bytes()), Some(b"v"), &[]);
            let token = self.rig.produce(0, -1, &builder.finish());
            let answer = self.rig.answer::<ProduceRequest<'_>>(token, 9, 60_000);
            if self.rig.world.halted.is_some() {
                return Err(Ended);
            }
            let answer = answer.expect("a produce is answered");
            let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
            let told = &response.responses[0].partition_responses[0];
            match ErrorCode::from_code(told.error_code) {
                ErrorCode::None => {
                    self.acked.insert(told.base_offset, key);
                    return self.pass(1_000);
                }
                ErrorCode::KafkaStorageError
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::RequestTimedOut => self.pass(700)?,
                other => panic!("no client retries {other:?}"),
            }
        }
        panic!("the producer never gets on: {:?}", self.rig.world.reports);
    }

    fn delete_records(&mut self, offset: i64) -> Result<(), Ended> {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 };
        let token = self.rig.send(&request, 1);
        // Whether it is told as done or not, it may be.
        self.rig.answer::<DeleteRecordsRequest<'_>>(token, 1, 30_000);
        self.start = offset;
        self.pass(1_000)
    }

    /// A topic that comes, is written to, and goes.
    fn pass_topic(&mut self) -> Result<(), Ended> {
        self.rig.create_with("u", &[]);
        self.pass(100)?;
        let token = self.rig.send(
            &DeleteTopicsRequest { topic_names: vec!["u".into()], timeout_ms: 1_000, ..Default::default() },
            5,
        );
        self.rig.answer::<DeleteTopicsRequest<'_>>(token, 5, 30_000);
        self.pass(1_000)
    }

    fn live(&mut self) -> Result<(), Ended> {
        for _ in 0..8 {
            self.write()?;
        }
        self.pass_topic()?;
        if !self.compacted {
            self.delete_records(5)?;
        }
        for _ in 0..6 {
            self.write()?;
        }
        self.pass(8_000)?;
        self.write()
    }

    /// What a consumer sees is what was acknowledged, and perhaps what was refused with an error that says nothing.
    fn check(&mut self, when: &str) {
        let end = self.acked.keys().next_back().map_or(0, |last| last + 1);
        let found: BTreeMap<i64, String> = self.rig.all(self.start, end).into_iter().collect();
        for (offset, key) in self.acked.range(self.start..) {
            // By a record that was acknowledged, or whose fate nobody was told.
            let mut later = self.acked.range(offset + 1..).chain(found.range(offset + 1..));
            let is_superseded = self.compacted && later.any(|(_, other)| other == key);
            let told = found.get(offset);
            assert!(
                told == Some(key) || (is_superseded && told.is_none()),
                "{when}: offset {offset} was acknowledged to {key}: {found:?}, {:?}",
                self.rig.world.reports
            );
        }
    }
}

fn is_short(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// What became of a life with one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The rule was not reached.
    Untouched,
    /// The node went on.
    WentOn,
    /// The node ended, and the next one has everything that was acknowledged.
    Ended,
}

/// Lives with one rule.
fn live_with(fault: &Fault, compacted: bool) -> Fate {
    let mut story = Story::new(compacted);
    story.rig.world.disk().inject(fault.clone());
    let lived = story.live().is_ok();
    let has_struck = story.rig.world.disk().counters().failures > 0;
    story.rig.world.disk().heal();
    let is_sync = matches!(fault.operation, Some(Operation::Sync | Operation::SyncDir));
    if let Some(reason) = story.rig.world.halted.as_ref().filter(|_| is_short(fault.kind)) {
        // Only what was to be durable and may not be is the end, and the operator is told so.
        let mut told = story.rig.world.reports.iter().chain([reason]);
        let told = told.any(|line| line.contains("may be lost"));
        assert!(is_sync && told, "{fault:?}: {reason}: {:?}", story.rig.world.reports);
    }
    if lived {
        story.check(&format!("{fault:?}"));
    }
    for death in [Death::Kill, Death::PowerLoss] {
        story.rig.world.halted = None;
        story.rig.world.restart(death).expect("the node starts");
        story.check(&format!("{fault:?}, {death:?}"));
        assert!(story.write().is_ok(), "{fault:?}, {death:?}");
    }
    match (has_struck, lived) {
        (false, _) => Fate::Untouched,
        (true, true) => Fate::WentOn,
        (true, false) => Fate::Ended,
    }
}

/// Every operation of a kind, or every so many-th of those that there are many of. Returns how many that were.
fn sweep(kind: ErrorKind, operation: Operation, path: &str, times: u64) -> u64 {
    let step = match operation {
        Operation::Open | Operation::Read => 13,
        Operation::Write | Operation::Sync | Operation::SyncDir => 5,
        _ => 3,
    };
    let mut lives = 0;
    for compacted in [false, true] {
        let rule = |skip| Fault { operation: Some(operation), path_contains: path.into(), skip, times, kind };
        // Those of one story lie between those of the other.
        let mut skip = if compacted { step / 2 } else { 0 };
        while live_with(&rule(skip), compacted) != Fate::Untouched {
            (skip, lives) = (skip + step, lives + 1);
        }
    }
    lives
}

/// All but syncs, of which [`a_shortage_that_a_sync_tells_of_is_a_failure_unless_all_is_written_anew`] tells.
const MAY_BE_SHORT: [Operation; 8] = [
    Operation::Open,
    Operation::Read,
    Operation::Write,
    Operation::SetLen,
    Operation::CreateDir,
    Operation::Rename,
    Operation::Remove,
    Operation::Allocate,
];

#[test]
fn a_shortage_at_any_operation_leaves_a_node_that_goes_on() {
    let struck: u64 =
        MAY_BE_SHORT.into_iter().map(|operation| sweep(ErrorKind::StorageFull, operation, "", 1)).sum();
    assert!(struck > 40, "{struck}");
}

/// A file system may find out at a sync that it has no space: what was written before may then be lost. The log and the names of its files
/// are not written again, so their directory goes out of use, and with it a node that has no other; so it does for every sync of a directory,
/// since nobody knows which names will be found. The content of a checkpoint, of an index, and of what a compaction writes is written anew as a
/// whole, so the node goes on.
#[test]
fn a_shortage_that_a_sync_tells_of_is_a_failure_unless_all_is_written_anew() {
    // EDQUOT is sorted like it (`storage::meaning`).
    let kind = ErrorKind::StorageFull;
    for (operation, path, fates) in [
        (Operation::Sync, "/t-0/", [Fate::Ended, Fate::WentOn].as_slice()),
        (Operation::Sync, "-checkpoint", &[Fate::WentOn]),
        (Operation::Sync, "__cluster_metadata-0/", &[Fate::Ended]),
        (Operation::Sync, ".cleaned", &[Fate::WentOn]),
        (Operation::SyncDir, "", &[Fate::Ended]),
    ] {
        let found = fates_of(kind, operation, path);
        assert!(
            !found.is_empty() && found.iter().all(|(_, fate)| fates.contains(fate)),
            "{kind} {operation:?} {path}: {found:?}"
        );
        for fate in fates {
            assert!(
                found.iter().any(|(_, found)| found == fate),
                "{kind} {operation:?} {path}: no {fate:?} in {found:?}"
            );
        }
    }
}

/// What becomes of the node by which of those operations, of topics of both policies, it was that failed.
fn fates_of(kind: ErrorKind, operation: Operation, path: &str) -> Vec<((bool, u64), Fate)> {
    let mut fates = Vec::new();
    for compacted in [false, true] {
        for skip in 0.. {
            let fault =
                Fault { operation: Some(operation), path_contains: path.into(), skip, times: 1, kind };
            match live_with(&fault, compacted) {
                Fate::Untouched => break,
                fate => fates.push(((compacted, skip), fate)),
            }
        }
    }
    fates
}

#[test]
fn a_shortage_that_lasts_is_over_when_it_is_over() {
    let mutations = [Operation::Open, Operation::Write, Operation::Rename];
    let struck: u64 =
        mutations.into_iter().map(|operation| sweep(ErrorKind::StorageFull, operation, "/t-0", 4)).sum();
    assert!(struck > 10, "{struck}");
}

#[test]
fn a_broken_disk_costs_nothing_that_was_acknowledged() {
    let mutations = [Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDir];
    let struck: u64 =
        mutations.into_iter().map(|operation| sweep(ErrorKind::Other, operation, "", u64::MAX)).sum();
    assert!(struck > 10, "{struck}");
}
