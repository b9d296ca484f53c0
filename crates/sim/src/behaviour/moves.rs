//! Logs that move between log directories while they are written to and read (KIP-113, KIP-858): what clients see of it, what is left when
//! somebody thinks better of it, and what every kind of death in the middle of it leaves.

use std::collections::BTreeMap;

use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use ottla_protocol::messages::alter_replica_log_dirs_response::AlterReplicaLogDirsResponse;
use ottla_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_records_response::DeleteRecordsResponse;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsResponse;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::produce_request::ProduceRequest;
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::records::batches;
use ottla_protocol::{ErrorCode, Records};

use super::configs::{BROKER, alter};
use super::{Rig, batch, fetch, partition_of};
use crate::client::read;
use crate::world::Death;

const SETTINGS: &[(&str, &str)] = &[
    ("log.dirs", "/a,/b,/c"),
    ("metadata.log.dir", "/meta"),
    ("offsets.topic.num.partitions", "1"),
    ("log.roll.ms", "3000"),
    ("log.segment.delete.delay.ms", "1000"),
];
const LIMIT: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// Where a partition is: directory, whether it is a copy that is not the log yet, and how much it lacks.
type Places = Vec<(String, bool, i64)>;

impl Rig {
    fn move_to(&mut self, topic: &str, partition: i32, path: &str) -> ErrorCode {
        let name = topic.to_owned().into();
        let topics = vec![AlterReplicaLogDirTopic { name, partitions: vec![partition] }];
        let dirs = vec![AlterReplicaLogDir { path: path.to_owned().into(), topics }];
        let answer = self.ask(&AlterReplicaLogDirsRequest { dirs }, 2);
        let response: AlterReplicaLogDirsResponse<'_> = read(&answer, 2).expect("a response");
        ErrorCode::from_code(response.results[0].partitions[0].error_code)
    }

    fn places(&mut self) -> Places {
        let answer = self.ask(&DescribeLogDirsRequest { topics: None }, 5);
        let response: DescribeLogDirsResponse<'_> = read(&answer, 5).expect("a describe log dirs response");
        let mut places = Places::new();
        for dir in &response.results {
            let of_topic = dir.topics.iter().filter(|it| it.name == "t").flat_map(|it| &it.partitions);
            for found in of_topic.filter(|it| it.partition_index == 0) {
                places.push((dir.log_dir.to_string(), found.is_future_key, found.offset_lag));
            }
        }
        places.sort();
        places
    }

    /// The directory of the log, if there is no copy anywhere.
    fn place(&mut self) -> String {
        match &self.places()[..] {
            [(dir, false, 0)] => dir.clone(),
            other => panic!("one log and no copy: {other:?}"),
        }
    }

    /// Lets time pass until nothing moves.
    fn settle_moves(&mut self) -> String {
        for _ in 0..2_000 {
            if self.places().len() == 1 {
                return self.place();
            }
            self.pass(100);
        }
        panic!("the move ends: {:?}; {:?}", self.places(), self.world.reports);
    }

    /// Records with these values, a second apart.
    fn write_values(&mut self, values: impl IntoIterator<Item = String>) {
        for value in values {
            let record = batch(&[&value], self.world.now);
            assert_eq!(self.produced(0, -1, &record).0, 0, "{:?}", self.world.reports);
            self.pass(500);
        }
    }

    /// Every value from an offset on.
    fn values(&mut self, start: i64) -> BTreeMap<i64, String> {
        let (mut offset, mut all) = (start, BTreeMap::new());
        loop {
            let answer = self.ask(&fetch(offset, 0, 0), 11);
            let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
            let data = partition_of(&response);
            assert_eq!(data.error_code, 0, "{offset}: {:?}", self.world.reports);
            let Some(Records::Slice(bytes)) = &data.records else { return all };
            let before = offset;
            for batch in batches(bytes) {
                let batch = batch.expect("whole batches");
                for record in &batch.records(1 << 20).expect("records") {
                    let record = record.expect("a record");
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                    all.insert(record.offset, value);
                }
                offset = batch.next_offset();
            }
            if offset == before {
                return all;
            }
        }
    }

    /// Deletes the records below an offset. Returns where the log begins.
    fn delete_below(&mut self, offset: i64) -> i64 {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 5_000 };
        let answer = self.ask(&request, 2);
        let response: DeleteRecordsResponse<'_> = read(&answer, 2).expect("a response");
        let told = &response.topics[0].partitions[0];
        assert_eq!(told.error_code, 0);
        told.low_watermark
    }

    fn add_partitions(&mut self, count: i32) {
        let topic = CreatePartitionsTopic { name: "t".into(), count, assignments: None };
        self.ask(&CreatePartitionsRequest { topics: vec![topic], ..Default::default() }, 3);
    }

    /// The partition's directories on the disk.
    fn dirs_on_disk(&self) -> Vec<String> {
        let mut all = Vec::new();
        for dir in ["/a", "/b", "/c"] {
            let names = self.world.files(dir).into_iter().filter(|name| name.starts_with("t-"));
            all.extend(names.map(|name| format!("{dir}/{name}")));
        }
        all
    }
}

fn other_than(dir: &str) -> &'static str {
    if dir == "/a" { "/b" } else { "/a" }
}

fn numbers(range: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    range.map(|n| format!("{n}"))
}

/// Large enough for several pieces of a copy that is throttled.
fn large(range: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    range.map(|n| format!("{n}:{}", "x".repeat(20_000)))
}

/// The first word of each value is its offset.
fn assert_whole(values: &BTreeMap<i64, String>, range: std::ops::Range<i64>) {
    let found: Vec<i64> = values.keys().copied().collect();
    assert_eq!(found, range.collect::<Vec<_>>());
    for (offset, value) in values {
        assert_eq!(value.split(':').next(), Some(&*offset.to_string()));
    }
}

#[test]
fn a_log_moves_with_all_that_is_in_it_and_goes_on() {
    for death in [Death::Kill, Death::PowerLoss, Death::Shutdown] {
        let mut rig = Rig::with_dirs(SETTINGS, 1);
        rig.write_values(large(0..12));
        let (home, to) = (rig.place(), other_than(&rig.place()));
        assert_eq!(rig.move_to("t", 0, to), ErrorCode::None);
        assert_eq!(rig.settle_moves(), to, "from {home}");
        assert_whole(&rig.values(0), 0..12);
        rig.write_values(large(12..20));
        assert_whole(&rig.values(0), 0..20);
        // The old directory goes after `file.delete.delay.ms`.
        rig.pass(2_000);
        assert_eq!(rig.dirs_on_disk(), [format!("{to}/t-0")]);
        rig.world.restart(death).expect("the node starts");
        assert_eq!(rig.place(), to, "{death:?}");
        assert_whole(&rig.values(0), 0..20);
        // And back.
        assert_eq!(rig.move_to("t", 0, &home), ErrorCode::None);
        assert_eq!(rig.settle_moves(), home);
        rig.world.restart(death).expect("the node starts");
        assert_eq!(rig.place(), home, "{death:?}");
        assert_whole(&rig.values(0), 0..20);
        rig.write_values(large(20..21));
    }
}

#[test]
fn what_can_not_be_done_is_said() {
    let mut rig = Rig::with_dirs(SETTINGS, 1);
    assert_eq!(rig.move_to("t", 0, "/nowhere"), ErrorCode::LogDirNotFound);
    assert_eq!(rig.move_to("t", 0, "/meta"), ErrorCode::LogDirNotFound, "it is not for partitions");
    assert_eq!(rig.move_to("t", 1, "/a"), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(rig.move_to("unknown", 0, "/a"), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(rig.move_to(&"l".repeat(230), 0, "/a"), ErrorCode::InvalidTopicException);
    assert_eq!(alter(&mut rig, BROKER, "1", "cordoned.log.dirs", Some("/b")), ErrorCode::None);
    rig.pass(100);
    assert_eq!(rig.move_to("t", 0, "/b"), ErrorCode::InvalidReplicaAssignment);
    // What is in no directory yet has nothing to copy.
    let to = if rig.place() == "/c" { "/a" } else { "/c" };
    assert_eq!(rig.move_to("t", 0, to), ErrorCode::None);
    assert_eq!(rig.place(), to);
    rig.pass(1_000);
    rig.world.restart(Death::PowerLoss).expect("the node starts");
    assert_eq!(rig.place(), to, "the controller was told");
    rig.write_values(numbers(0..2));
    assert_whole(&rig.values(0), 0..2);
}

#[test]
fn a_replica_that_is_not_here_yet_goes_where_it_was_wanted() {
    let mut rig = Rig::with_dirs(SETTINGS, 1);
    for name in ["/a", "/b", "/c"] {
        assert_eq!(rig.move_to("t", 1, name), ErrorCode::UnknownTopicOrPartition);
    }
    rig.add_partitions(2);
    let answer = rig.ask(&DescribeLogDirsRequest { topics: None }, 5);
    let response: DescribeLogDirsResponse<'_> = read(&answer, 5).expect("a describe log dirs response");
    let dir = response.results.iter().find(|dir| dir.log_dir == "/c").expect("it is there");
    let found = dir.topics.iter().flat_map(|topic| &topic.partitions);
    assert!(found.filter(|it| it.partition_index == 1).count() == 1, "{response:?}");
}

/// A throttled move, which takes long.
fn moving(rig: &mut Rig, records: i64) -> (String, &'static str) {
    rig.write_values(large(0..records));
    assert_eq!(alter(rig, BROKER, "", LIMIT, Some("10000")), ErrorCode::None);
    rig.pass(100);
    let home = rig.place();
    let to = other_than(&home);
    assert_eq!(rig.move_to("t", 0, to), ErrorCode::None);
    rig.pass(5_000);
    let places = rig.places();
    let lag =
        |future| places.iter().find(|(_, is_future, _)| *is_future == future).expect("both are there").2;
    assert!(lag(true) > 0 && lag(true) < records, "{places:?}");
    assert_eq!(lag(false), 0);
    (home, to)
}

#[test]
fn a_throttled_move_is_slow_and_goes_on_after_every_death() {
    for death in [Death::Kill, Death::PowerLoss, Death::Shutdown] {
        let mut rig = Rig::with_dirs(SETTINGS, 1);
        let (home, to) = moving(&mut rig, 40);
        let began = rig.world.now;
        rig.world.restart(death).expect("the node starts");
        rig.pass(100);
        let places = rig.places();
        assert_eq!(places.len(), 2, "{death:?}: {places:?}; {:?}", rig.world.reports);
        assert!(places.iter().any(|(dir, future, _)| *dir == home && !future), "{places:?}");
        // It did not begin anew.
        assert!(places.iter().any(|(dir, future, lag)| dir == to && *future && *lag < 40), "{places:?}");
        rig.write_values(large(40..42));
        assert_eq!(rig.settle_moves(), to);
        let seconds = (rig.world.now - began) / 1000;
        assert!(seconds > 30, "800 kB at 10 kB a second took {seconds} s");
        assert_whole(&rig.values(0), 0..42);
    }
}

#[test]
fn a_move_ends_when_it_is_sent_back_or_elsewhere() {
    for death in [None, Some(Death::Kill), Some(Death::PowerLoss), Some(Death::Shutdown)] {
        let mut rig = Rig::with_dirs(SETTINGS, 1);
        let (home, to) = moving(&mut rig, 30);
        assert_eq!(rig.move_to("t", 0, to), ErrorCode::None, "it is on the way");
        assert_eq!(rig.places().len(), 2);
        if let Some(death) = death {
            rig.world.restart(death).expect("the node starts");
        }
        assert_eq!(rig.move_to("t", 0, &home), ErrorCode::None);
        assert_eq!(rig.place(), home);
        rig.pass(2_000);
        assert_eq!(rig.dirs_on_disk(), [format!("{home}/t-0")], "the copy is gone");
        // Anew, and then elsewhere.
        assert_eq!(rig.move_to("t", 0, to), ErrorCode::None);
        rig.pass(2_000);
        assert_eq!(rig.move_to("t", 0, "/c"), ErrorCode::None);
        let places = rig.places();
        assert!(places.iter().any(|(dir, future, _)| dir == "/c" && (*future || home == "/c")), "{places:?}");
        assert!(!places.iter().any(|(dir, ..)| dir == to), "{places:?}");
        assert_eq!(alter(&mut rig, BROKER, "", LIMIT, None), ErrorCode::None);
        assert_eq!(rig.settle_moves(), "/c");
        assert_whole(&rig.values(0), 0..30);
        rig.pass(2_000);
        assert_eq!(rig.dirs_on_disk(), ["/c/t-0"]);
    }
}

#[test]
fn a_topic_that_is_deleted_while_it_moves_leaves_nothing() {
    for death in [None, Some(Death::Kill), Some(Death::PowerLoss), Some(Death::Shutdown)] {
        let mut rig = Rig::with_dirs(SETTINGS, 1);
        moving(&mut rig, 30);
        rig.ask(&DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() }, 5);
        if let Some(death) = death {
            rig.world.restart(death).expect("the node starts");
        }
        rig.pass(5_000);
        // After power loss the log's directory may be found again: it belongs to nobody.
        let left: Vec<_> = rig.dirs_on_disk().into_iter().filter(|dir| !dir.ends_with("-stray")).collect();
        assert_eq!(left, Vec::<String>::new(), "{death:?}");
        // Another of its name knows nothing of it.
        rig.create("t", 1);
        rig.write_values(numbers(0..3));
        assert_whole(&rig.values(0), 0..3);
        assert_eq!(rig.places().len(), 1);
    }
}

#[test]
fn what_was_deleted_stays_deleted() {
    for death in [Death::Kill, Death::PowerLoss, Death::Shutdown] {
        let mut rig = Rig::with_dirs(SETTINGS, 1);
        rig.write_values(numbers(0..20));
        assert_eq!(rig.delete_below(7), 7);
        let (home, to) = (rig.place(), other_than(&rig.place()));
        assert_eq!(rig.move_to("t", 0, to), ErrorCode::None);
        assert_eq!(rig.settle_moves(), to);
        rig.world.restart(death).expect("the node starts");
        assert_eq!(rig.delete_below(1), 7, "{death:?}");
        assert_whole(&rig.values(7), 7..20);
        // While it moves, and beyond the end of the copy.
        assert_eq!(alter(&mut rig, BROKER, "", LIMIT, Some("1")), ErrorCode::None);
        rig.pass(100);
        assert_eq!(rig.move_to("t", 0, &home), ErrorCode::None);
        rig.pass(100);
        assert_eq!(rig.delete_below(18), 18);
        rig.pass(100);
        assert_eq!(alter(&mut rig, BROKER, "", LIMIT, None), ErrorCode::None);
        assert_eq!(rig.settle_moves(), home);
        rig.world.restart(death).expect("the node starts");
        assert_eq!(rig.delete_below(1), 18, "{death:?}");
        assert_whole(&rig.values(18), 18..20);
        rig.write_values(numbers(20..21));
        assert_whole(&rig.values(18), 18..21);
    }
}

/// What was acknowledged, by its offset. What was sent and not answered may be there.
fn produce_while_it_moves(rig: &mut Rig, acked: &mut BTreeMap<i64, String>, to: &str, steps: usize) -> usize {
    let mut sent = acked.len();
    let mut taken = 0;
    assert_eq!(rig.world.halted, None);
    let topics = vec![AlterReplicaLogDirTopic { name: "t".into(), partitions: vec![0] }];
    let dirs = vec![AlterReplicaLogDir { path: to.to_owned().into(), topics }];
    rig.send(&AlterReplicaLogDirsRequest { dirs }, 2);
    let mut waiting = BTreeMap::new();
    let until = rig.world.now + 3_000;
    let mut next_at = rig.world.now;
    while taken < steps && rig.world.halted.is_none() && rig.world.now < until {
        if rig.world.now >= next_at && waiting.len() < 3 {
            let value = format!("v{sent}");
            let token = rig.produce(0, -1, &batch(&[&value], rig.world.now));
            waiting.insert(token, value);
            sent += 1;
            next_at = rig.world.now + 7;
        }
        if !rig.world.step(rig.world.now + 5) {
            continue;
        }
        taken += 1;
        let tokens: Vec<_> = waiting.keys().copied().collect();
        for token in tokens {
            let Some(answer) = rig.answer::<ProduceRequest<'_>>(token, 9, 0) else { continue };
            let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
            let told = &response.responses[0].partition_responses[0];
            let value = waiting.remove(&token).expect("it waits");
            if told.error_code == 0 {
                assert_eq!(acked.insert(told.base_offset, value), None, "an offset is given once");
            }
        }
    }
    taken
}

/// Everything that was acknowledged is there, in one log, which goes on; and the move ends.
fn check_after(rig: &mut Rig, acked: &BTreeMap<i64, String>, home: &str, to: &str, context: &str) {
    let values = rig.values(0);
    for (offset, value) in acked {
        assert_eq!(values.get(offset), Some(value), "{context}: offset {offset}; {:?}", rig.world.reports);
    }
    let end = values.len() as i64;
    assert!(values.keys().copied().eq(0..end), "{context}: a gap in {:?}", values.keys());
    let place = rig.settle_moves();
    assert!(place == home || place == to, "{context}: {place}");
    let (error, offset) = rig.produced(0, -1, &batch(&["after"], rig.world.now));
    assert_eq!((error, offset), (0, end), "{context}");
    let again = rig.values(0);
    assert!(values.iter().all(|(offset, value)| again.get(offset) == Some(value)), "{context}");
    rig.pass(2_000);
    let dirs: Vec<_> = rig.dirs_on_disk().into_iter().filter(|dir| !dir.ends_with("-stray")).collect();
    assert_eq!(dirs, [format!("{place}/t-0")], "{context}");
}

fn world_to_sweep() -> (Rig, BTreeMap<i64, String>, String, &'static str) {
    let mut rig = Rig::with_dirs(SETTINGS, 1);
    rig.write_values((0..12).map(|n| format!("v{n}")));
    let acked = (0..12).map(|n| (n, format!("v{n}"))).collect();
    let home = rig.place();
    let to = other_than(&home);
    (rig, acked, home, to)
}

/// The power is gone, or the process, after every single change of the disk while the log moves and is written to.
#[test]
fn after_every_operation_of_a_move_there_is_exactly_one_whole_log() {
    let (mut rig, mut acked, home, to) = world_to_sweep();
    let before = rig.world.disk().counters().mutations;
    produce_while_it_moves(&mut rig, &mut acked, to, usize::MAX);
    assert_eq!(rig.settle_moves(), to, "from {home}: {:?}", rig.world.reports);
    let operations = rig.world.disk().counters().mutations - before;
    assert!(operations > 50 && acked.len() > 40, "{operations}, {}", acked.len());
    for death in [Death::PowerLoss, Death::Kill] {
        for fuse in 0..operations.min(400) {
            let (mut rig, mut acked, home, to) = world_to_sweep();
            rig.world.may_halt = true;
            rig.world.disk().fail_after(fuse);
            produce_while_it_moves(&mut rig, &mut acked, to, usize::MAX);
            rig.world.halted = None;
            rig.world.restart(death).expect("the node starts");
            check_after(&mut rig, &acked, &home, to, &format!("{death:?} after {fuse} operations"));
        }
    }
}

/// The same after every event, with a disk that works to the end.
#[test]
fn after_every_event_of_a_move_there_is_exactly_one_whole_log() {
    let (mut rig, mut acked, _, to) = world_to_sweep();
    let events = produce_while_it_moves(&mut rig, &mut acked, to, usize::MAX);
    for death in [Death::PowerLoss, Death::Kill, Death::Shutdown] {
        for steps in 0..events.min(150) {
            let (mut rig, mut acked, home, to) = world_to_sweep();
            produce_while_it_moves(&mut rig, &mut acked, to, steps);
            rig.world.restart(death).expect("the node starts");
            check_after(&mut rig, &acked, &home, to, &format!("{death:?} after {steps} events"));
        }
    }
}
