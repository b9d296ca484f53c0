//! Upkeep: what retention deletes and compaction leaves, as a consumer sees it; before and after every kind of death. And a full disk.

use ottla_protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::records::{BatchBuilder, BatchOptions, batches};
use ottla_protocol::{ErrorCode, Records};

use ottla_storage::disk::{Fault, Operation};

use super::configs::{TOPIC, alter};
use super::{Rig, fetch, partition_of};
use crate::client::read;
use crate::world::{Death, World};

const SETTINGS: &[(&str, &str)] = &[
    ("log.dirs", "/data"),
    ("log.initial.task.delay.ms", "1000"),
    ("log.retention.check.interval.ms", "1000"),
    ("log.cleaner.backoff.ms", "1000"),
];

/// A node with one topic `t` that has this configuration.
fn rig(configs: &[(&'static str, &'static str)]) -> Rig {
    let mut rig = Rig { world: World::new(1, SETTINGS).expect("an empty disk starts") };
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
    rig
}

impl Rig {
    /// Writes one record a second, with the keys in turn and the offset as value. Time goes on.
    fn write(&mut self, keys: &[&str], count: usize) {
        for n in 0..count {
            let mut builder = BatchBuilder::new(0, BatchOptions::default());
            let value = n.to_string();
            builder.push(self.world.now, Some(keys[n % keys.len()].as_bytes()), Some(value.as_bytes()), &[]);
            assert_eq!(self.produced(0, -1, &builder.finish()).0, 0);
            self.pass(1000);
        }
    }

    pub(super) fn pass(&mut self, ms: i64) {
        let until = self.world.now + ms;
        while self.world.step(until) {}
    }

    fn fetched(&mut self, offset: i64) -> Result<(i64, Vec<(i64, String)>), ErrorCode> {
        let answer = self.ask(&fetch(offset, 0, 0), 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
        let data = partition_of(&response);
        if data.error_code != 0 {
            return Err(ErrorCode::from_code(data.error_code));
        }
        let Some(Records::Slice(bytes)) = &data.records else {
            return Ok((data.log_start_offset, Vec::new()));
        };
        let mut found = Vec::new();
        for batch in batches(bytes) {
            let batch = batch.expect("whole batches");
            for record in &batch.records(1 << 20).expect("records") {
                let record = record.expect("a record");
                let key = String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned();
                found.push((record.offset, key));
            }
        }
        Ok((data.log_start_offset, found))
    }

    /// Every record from an offset on.
    pub(super) fn all(&mut self, mut offset: i64, end: i64) -> Vec<(i64, String)> {
        let mut all = Vec::new();
        while offset < end {
            let (_, found) = self.fetched(offset).expect("the offset is in the log");
            let Some((last, _)) = found.last() else { break };
            offset = last + 1;
            all.extend(found);
        }
        all
    }
}

#[test]
fn a_consumer_of_a_compacted_topic_sees_the_last_value_of_every_key() {
    for death in [Death::Kill, Death::PowerLoss, Death::Shutdown] {
        let mut rig = rig(&[
            ("cleanup.policy", "compact"),
            ("segment.ms", "5000"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ]);
        rig.write(&["a", "b", "c"], 40);
        rig.pass(10_000);
        let seen = rig.all(0, 40);
        assert!(seen.len() < 15, "{seen:?}");
        for (key, last) in [("a", 39), ("b", 37), ("c", 38)] {
            assert!(seen.contains(&(last, key.to_owned())), "{key}: {seen:?}");
        }
        assert!(rig.world.reports.iter().any(|line| line.contains("is compacted up to offset")));
        rig.world.restart(death).expect("the node starts");
        assert_eq!(rig.all(0, 40), seen, "after {death:?}");
        // It goes on where it ended, and a death right behind it brings nothing back.
        rig.write(&["a"], 12);
        rig.pass(10_000);
        let seen = rig.all(0, 52);
        assert!(!seen.contains(&(39, "a".to_owned())), "{seen:?}");
        rig.world.restart(death).expect("the node starts");
        assert_eq!(rig.all(0, 52), seen, "after {death:?}");
    }
}

#[test]
fn what_is_too_old_is_deleted_and_stays_deleted() {
    for death in [Death::Kill, Death::PowerLoss, Death::Shutdown] {
        for policy in ["delete", "compact,delete"] {
            let mut rig = rig(&[
                ("cleanup.policy", policy),
                // Never dirty enough: one segment made of many is as young as the youngest.
                ("min.cleanable.dirty.ratio", "1"),
                ("segment.ms", "5000"),
                ("retention.ms", "20000"),
            ]);
            rig.write(&["a"], 60);
            rig.pass(2000);
            let refused = rig.fetched(0).expect_err("deleted");
            assert_eq!(refused, ErrorCode::OffsetOutOfRange);
            let (start, _) = rig.fetched(59).expect("the end is there");
            assert!((30..=45).contains(&start), "{start}");
            rig.world.restart(death).expect("the node starts");
            let (again, seen) = rig.fetched(59).expect("the end is there");
            assert!(again >= start && seen == [(59, "a".to_owned())], "{death:?}: {again} {seen:?}");
            // The whole of it expires, and the log goes on where it ended.
            rig.pass(60_000);
            let (start, seen) = rig.fetched(60).expect("the end");
            assert!(start == 60 && seen.is_empty(), "{start} {seen:?}");
            rig.world.restart(death).expect("the node starts");
            let mut builder = BatchBuilder::new(0, BatchOptions::default());
            builder.push(rig.world.now, Some(b"a"), Some(b"b"), &[]);
            assert_eq!(rig.produced(0, -1, &builder.finish()), (0, 60), "{policy}, {death:?}");
        }
    }
}

#[test]
fn without_a_policy_nothing_goes() {
    let mut rig = rig(&[("cleanup.policy", ""), ("segment.ms", "5000"), ("retention.ms", "20000")]);
    rig.write(&["a"], 40);
    rig.pass(100_000);
    assert_eq!(rig.fetched(0).expect("nothing was deleted").0, 0);
}

/// Nothing can be written, and everything else goes on: reads, and the retention that makes space. Then the producer's retry succeeds.
#[test]
fn a_full_disk_refuses_producers_until_there_is_space() {
    let mut rig = rig(&[("segment.ms", "5000"), ("retention.ms", "20000"), ("file.delete.delay.ms", "1000")]);
    rig.write(&["a"], 15);
    rig.world.disk().inject(Fault::always(Operation::Write, std::io::ErrorKind::StorageFull));
    let mut builder = BatchBuilder::new(0, BatchOptions::default());
    builder.push(rig.world.now, Some(b"a"), Some(b"b"), &[]);
    let record = builder.finish();
    for _ in 0..3 {
        assert_eq!(rig.produced(0, -1, &record), (ErrorCode::KafkaStorageError.code(), -1));
        assert_eq!(rig.fetched(0).expect("reads go on").1.first(), Some(&(0, "a".to_owned())));
        rig.pass(1000);
    }
    let reported =
        rig.world.reports.iter().filter(|line| line.contains("StorageFull") || line.contains("injected"));
    assert_eq!(reported.filter(|line| line.starts_with("t-0:")).count(), 1, "{:?}", rig.world.reports);
    rig.pass(15_000);
    let refused = rig.fetched(0).expect_err("deleted, though there was no space for a checkpoint");
    assert_eq!(refused, ErrorCode::OffsetOutOfRange);
    rig.world.disk().heal();
    // The node keeps some space for itself first.
    rig.pass(2_000);
    assert_eq!(rig.produced(0, -1, &record), (0, 15));
    for death in [Death::PowerLoss, Death::Kill, Death::Shutdown] {
        rig.world.restart(death).expect("the node starts");
        let (start, seen) = rig.fetched(15).expect("nothing acknowledged is lost");
        assert!(start > 0 && seen == [(15, "a".to_owned())], "{death:?}: {start} {seen:?}");
    }
}

/// What expires together goes in turns, and in the end all of it.
#[test]
fn many_segments_that_expire_together_go_turn_by_turn() {
    let mut rig = rig(&[("internal.segment.bytes", "80"), ("file.delete.delay.ms", "1000")]);
    let count = 700;
    for n in 0..count {
        let mut builder = BatchBuilder::new(0, BatchOptions::default());
        builder.push(rig.world.now, None, Some(format!("{n}").as_bytes()), &[]);
        assert_eq!(rig.produced(0, -1, &builder.finish()).0, 0);
    }
    let logs = |rig: &Rig| rig.world.files("/data/t-0").iter().filter(|name| name.contains(".log")).count();
    assert_eq!(logs(&rig), count);
    assert_eq!(alter(&mut rig, TOPIC, "t", "retention.ms", Some("1000")), ErrorCode::None);
    let mut starts = vec![0];
    let end = rig.world.now + 10_000;
    while rig.world.step(end) {
        if let Ok((start, _)) = rig.fetched(count as i64)
            && starts.last() != Some(&start)
        {
            starts.push(start);
        }
    }
    let turns = starts.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(turns.max() <= Some(128) && starts.len() > 5, "{starts:?}");
    assert_eq!((starts.last(), logs(&rig)), (Some(&(count as i64)), 1));
}
