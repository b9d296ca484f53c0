//! Several log directories: where new partitions go, and what is left when one of them fails (KIP-112, KIP-858, KIP-1066).

use std::collections::BTreeMap;
use std::io::ErrorKind;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use ottla_protocol::messages::describe_log_dirs_response::DescribeLogDirsResponse;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_storage::SimDisk;
use ottla_storage::disk::{Fault, Operation};

use super::configs::{BROKER, alter};
use super::{Rig, batch, partition_of, records_len};
use crate::client::read;
use crate::world::{Death, World};

const SETTINGS: &[(&str, &str)] = &[
    ("log.dirs", "/disk-a,/disk-b,/disk-c"),
    ("metadata.log.dir", "/meta"),
    ("offsets.topic.num.partitions", "1"),
    ("log.dir.failure.timeout.ms", "5000"),
];

/// What a node says of one of its directories: error, cordoned, and the partitions of the topic `t` in it.
type Dirs = BTreeMap<String, (i16, bool, Vec<i32>)>;

impl Rig {
    /// A node with three log directories, and a topic `t` of so many partitions.
    pub(super) fn with_dirs(settings: &[(&str, &str)], partitions: i32) -> Rig {
        let mut rig = Rig { world: World::new(1, settings).expect("an empty disk starts") };
        rig.create("t", partitions);
        rig
    }

    pub(super) fn create(&mut self, name: &'static str, num_partitions: i32) {
        let topic =
            CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, ..Default::default() };
        self.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
    }

    fn dirs_of(&mut self, topic: &str) -> Dirs {
        let answer = self.ask(&DescribeLogDirsRequest { topics: None }, 5);
        let response: DescribeLogDirsResponse<'_> = read(&answer, 5).expect("a describe log dirs response");
        let mut dirs = Dirs::new();
        for dir in &response.results {
            let of_topic = dir.topics.iter().filter(|it| it.name == topic).flat_map(|it| &it.partitions);
            let mut indexes: Vec<i32> = of_topic.map(|it| it.partition_index).collect();
            indexes.sort_unstable();
            dirs.insert(dir.log_dir.to_string(), (dir.error_code, dir.is_cordoned, indexes));
        }
        dirs
    }

    /// The bytes that a fetch of a partition from an offset on gives, or its error.
    fn fetched_from(&mut self, partition: i32, offset: i64) -> Result<usize, ErrorCode> {
        let wanted = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: "t".into(), partitions: vec![wanted], ..Default::default() };
        let answer = self.ask(&FetchRequest { topics: vec![topic], ..Default::default() }, 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
        match partition_of(&response) {
            data if data.error_code == 0 => Ok(records_len(data)),
            data => Err(ErrorCode::from_code(data.error_code)),
        }
    }
}

/// Everything that touches the directory fails, as with a disk that is gone.
fn take_away(disk: &SimDisk, dir: &str) {
    disk.inject(Fault {
        operation: None,
        path_contains: dir.to_owned(),
        skip: 0,
        times: u64::MAX,
        kind: ErrorKind::Other,
    });
}

#[test]
fn new_partitions_go_where_the_fewest_are() {
    let mut rig = Rig::with_dirs(SETTINGS, 6);
    let dirs = rig.dirs_of("t");
    assert_eq!(
        dirs.keys().collect::<Vec<_>>(),
        ["/disk-a", "/disk-b", "/disk-c"],
        "the metadata log's is not for partitions"
    );
    assert!(
        dirs.values().all(|(error, cordoned, found)| *error == 0 && !cordoned && found.len() == 2),
        "{dirs:?}"
    );
    // Where nothing was written there is no file: the controller's record is what says where a replica belongs.
    for death in [Death::Kill, Death::PowerLoss, Death::Shutdown] {
        rig.world.restart(death).expect("the node starts");
        assert_eq!(rig.dirs_of("t"), dirs, "{death:?}");
    }
}

#[test]
fn cordoned_directories_get_no_new_partitions_and_keep_the_old_ones() {
    let mut rig = Rig::with_dirs(SETTINGS, 3);
    assert_eq!(alter(&mut rig, BROKER, "1", "cordoned.log.dirs", Some("/disk-a,/disk-c")), ErrorCode::None);
    rig.pass(100);
    rig.create("u", 4);
    let of = |dirs: &Dirs, dir: &str| dirs[dir].clone();
    let dirs = rig.dirs_of("u");
    assert_eq!((of(&dirs, "/disk-a").1, of(&dirs, "/disk-b").1, of(&dirs, "/disk-c").1), (true, false, true));
    assert_eq!(of(&dirs, "/disk-b").2, [0, 1, 2, 3]);
    let record = batch(&["a"], rig.world.now);
    assert_eq!([0, 1, 2].map(|index| rig.produced(index, -1, &record)), [(0, 0); 3]);
    // With all of them cordoned the controller places nothing on this node.
    assert_eq!(alter(&mut rig, BROKER, "1", "cordoned.log.dirs", Some("*")), ErrorCode::None);
    rig.pass(100);
    rig.create("v", 1);
    assert!(rig.dirs_of("v").values().all(|(_, cordoned, found)| *cordoned && found.is_empty()));
    assert_eq!(alter(&mut rig, BROKER, "1", "cordoned.log.dirs", None), ErrorCode::None);
    rig.pass(100);
    rig.create("v", 1);
    assert!(rig.dirs_of("v").values().any(|(_, cordoned, found)| !cordoned && found.len() == 1));
}

#[test]
fn what_was_set_for_a_directory_that_is_gone_costs_nothing_else() {
    let mut rig = Rig::with_dirs(SETTINGS, 3);
    let large = batch(&[&"x".repeat(2_000)], rig.world.now);
    let refused = ErrorCode::InvalidRequest;
    assert_eq!(alter(&mut rig, BROKER, "1", "cordoned.log.dirs", Some("/disk-d")), refused);
    assert_eq!(alter(&mut rig, BROKER, "1", "cordoned.log.dirs", Some("/disk-b")), ErrorCode::None);
    assert_eq!(alter(&mut rig, BROKER, "1", "message.max.bytes", Some("1000")), ErrorCode::None);
    rig.world.configure("log.dirs", "/disk-a,/disk-c");
    rig.world.restart(Death::Shutdown).expect("the node starts");
    let why = "what was set for brokers does not fit: cordoned.log.dirs=/disk-b";
    assert!(rig.world.reports.iter().any(|report| report.starts_with(why)), "{:?}", rig.world.reports);
    assert_eq!(rig.produced(0, -1, &large).0, ErrorCode::MessageTooLarge.code());
    assert_eq!(alter(&mut rig, BROKER, "1", "cordoned.log.dirs", Some("/disk-c")), ErrorCode::None);
}

/// A write or a sync that fails costs the directory in which it happened, and nothing else. With the disk back, all that was acknowledged
/// is there.
#[test]
fn a_directory_that_fails_takes_only_its_own_partitions() {
    for operation in [Operation::Write, Operation::Sync] {
        let mut rig = Rig::with_dirs(SETTINGS, 3);
        let record = batch(&["a"], rig.world.now);
        assert_eq!([0, 1, 2].map(|index| rig.produced(index, -1, &record)), [(0, 0); 3]);
        let lost = rig.dirs_of("t")["/disk-b"].2[0];
        let broken =
            Fault { path_contains: "/disk-b/t-".into(), ..Fault::always(operation, ErrorKind::Other) };
        rig.world.disk().inject(broken);
        let (error, _) = rig.produced(lost, -1, &record);
        assert_eq!(ErrorCode::from_code(error), ErrorCode::KafkaStorageError);
        rig.pass(10_000);
        for _ in 0..3 {
            let (error, _) = rig.produced(lost, -1, &record);
            assert_eq!(ErrorCode::from_code(error), ErrorCode::KafkaStorageError, "{:?}", rig.world.reports);
            assert_eq!(rig.fetched_from(lost, 0), Err(ErrorCode::KafkaStorageError));
            for other in [0, 1, 2].into_iter().filter(|other| *other != lost) {
                assert_eq!(rig.produced(other, -1, &record).0, 0);
                assert!(rig.fetched_from(other, 0).expect("it goes on") > record.len());
            }
        }
        let dirs = rig.dirs_of("t");
        assert_eq!(dirs["/disk-b"], (ErrorCode::KafkaStorageError.code(), false, vec![]));
        assert_eq!((dirs["/disk-a"].0, dirs["/disk-c"].0), (0, 0));
        // New partitions avoid it, and the node stops in order without it.
        rig.create("u", 4);
        let dirs = rig.dirs_of("u");
        assert_eq!((dirs["/disk-a"].2.len(), dirs["/disk-b"].2.len(), dirs["/disk-c"].2.len()), (2, 0, 2));
        rig.world.restart(Death::Shutdown).expect("the disk is back");
        for index in 0..3 {
            let bytes = rig.fetched_from(index, 0).expect("all are there again");
            assert!(bytes >= record.len() && rig.produced(index, -1, &record).0 == 0, "{index}: {bytes}");
        }
    }
}

#[test]
fn a_node_starts_without_a_directory_and_finds_it_again() {
    let mut rig = Rig::with_dirs(SETTINGS, 6);
    let record = batch(&["a"], rig.world.now);
    assert_eq!([0, 1, 2, 3, 4, 5].map(|index| rig.produced(index, -1, &record)), [(0, 0); 6]);
    let before = rig.dirs_of("t");
    for death in [Death::Kill, Death::PowerLoss, Death::Shutdown] {
        rig.world.restart_on(death, |disk| take_away(disk, "/disk-b")).expect("it starts without");
        rig.pass(10_000);
        let mut dirs = before.clone();
        dirs.insert("/disk-b".into(), (ErrorCode::KafkaStorageError.code(), false, vec![]));
        assert_eq!(rig.dirs_of("t"), dirs, "{death:?}");
        for index in 0..6 {
            let (error, _) = rig.produced(index, -1, &record);
            let is_lost = before["/disk-b"].2.contains(&index);
            assert_eq!(error != 0, is_lost, "{index}, {death:?}: {error}");
            assert_eq!(rig.fetched_from(index, 0).is_err(), is_lost);
        }
        rig.world.restart(death).expect("the directory is back");
        assert_eq!(rig.dirs_of("t"), before, "{death:?}");
        assert!((0..6).all(|index| rig.fetched_from(index, 0).is_ok_and(|bytes| bytes >= record.len())));
        assert!((0..6).all(|index| rig.produced(index, -1, &record).0 == 0));
    }
}

#[test]
fn a_node_stops_without_its_metadata_or_without_any_directory() {
    for (lost, why) in
        [(&["/meta"][..], "metadata"), (&["/disk-a", "/disk-b", "/disk-c"], "no other log directory")]
    {
        let mut rig = Rig::with_dirs(SETTINGS, 3);
        let record = batch(&["a"], rig.world.now);
        rig.world.may_halt = true;
        for dir in lost {
            take_away(rig.world.disk(), dir);
        }
        for index in 0..3 {
            rig.produce(index, -1, &record);
        }
        let topic = CreatableTopic {
            name: "u".into(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        };
        rig.send(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
        rig.pass(1_000);
        let halted = rig.world.halted.as_ref().expect("it can not go on");
        assert!(halted.contains(why) || halted.contains("/meta"), "{lost:?}: {halted}");
        let Err(refused) =
            rig.world.restart_on(Death::Kill, |disk| lost.iter().for_each(|dir| take_away(disk, dir)))
        else {
            panic!("it starts without {lost:?}");
        };
        assert!(refused.contains("injected"), "{refused}");
    }
}
