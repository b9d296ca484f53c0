//! Restarts: what a node finds again, and in which order it serves those who come first.

use ottla_protocol::Records;
use std::path::Path;
use std::sync::Arc;

use ottla_broker::{Broker, FirstCheckpoint, InitialController, NodeConfig, bootstrap_records};
use ottla_metadata::MetadataVersion;
use ottla_metadata::config::BrokerConfig;
use ottla_protocol::Uuid;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::delete_topics_response::DeleteTopicsResponse;
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;

use ottla_storage::{Disk, MetaProperties, SimDisk};

use super::{Rig, batch, fetch, partition_of, records_len};
use crate::client::read;
use crate::world::Death;

/// After a clean stop logs are opened by whoever needs them first. The loop that reads those requests must not wait for that (the
/// simulated shell would notice), and what comes on one connection must not overtake.
#[test]
fn the_first_requests_open_a_log_and_keep_their_order() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    assert_eq!(rig.produced(0, -1, &records), (0, 0));
    rig.world.restart(Death::Shutdown).expect("a clean stop");
    let waiting = rig.send(&fetch(0, 0, 1), 11);
    let tokens: Vec<_> = (0..5).map(|turn| rig.produce(turn % 2, 1, &records)).collect();
    let mut offsets = Vec::new();
    for token in tokens {
        let answer = rig.answer::<ProduceRequest<'_>>(token, 9, 1_000).expect("a produce is answered");
        let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
        let told = &response.responses[0].partition_responses[0];
        offsets.push((told.index, told.error_code, told.base_offset));
    }
    assert_eq!(offsets, [(0, 0, 1), (1, 0, 0), (0, 0, 2), (1, 0, 1), (0, 0, 3)]);
    let answer = rig.answer::<FetchRequest<'_>>(waiting, 11, 1_000).expect("a fetch is answered");
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert!(records_len(partition_of(&response)) >= records.len());
}

/// The reader thread may be faster than the turn of the loop.
#[test]
fn a_request_that_needs_the_disk_does_not_overtake_what_was_gathered_before_it() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    assert_eq!([0, 1].map(|index| rig.produced(index, -1, &records)), [(0, 0); 2]);
    rig.world.restart(Death::Shutdown).expect("a clean stop");
    assert_eq!(rig.produced(0, -1, &records), (0, 1), "this log is open now, the other one is not");
    rig.world.begin_turn();
    let first = rig.produce(0, 1, &records);
    let data = |index| PartitionProduceData { index, records: Some(Records::Slice(&records)) };
    let topic =
        TopicProduceData { name: "t".into(), partition_data: vec![data(0), data(1)], ..Default::default() };
    let request =
        ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let second = rig.send(&request, 9);
    let until = rig.world.now + 100;
    while rig.world.step(until) {}
    rig.world.end_turn();
    let offsets = [first, second].map(|token| {
        let answer = rig.answer::<ProduceRequest<'_>>(token, 9, 1_000).expect("a produce is answered");
        let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
        response.responses[0].partition_responses[0].base_offset
    });
    assert_eq!(offsets, [2, 3]);
}

/// Checkpoints go by name. What they say of a deleted topic is not true of the next one of its name, whenever the power fails.
#[test]
fn a_topic_does_not_inherit_the_checkpoints_of_its_predecessor() {
    for death in [None, Some(Death::Kill), Some(Death::PowerLoss), Some(Death::Shutdown)] {
        let mut rig = Rig::new();
        let old = batch(&["a", "b", "c", "d", "e"], rig.world.now);
        assert_eq!(rig.produced(0, -1, &old), (0, 0));
        let partition = DeleteRecordsPartition { partition_index: 0, offset: 4 };
        let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
        rig.ask(&DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 }, 1);
        let request = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
        let token = rig.send(&request, 5);
        let answer = rig.answer::<DeleteTopicsRequest<'_>>(token, 5, 1_000).expect("deleted");
        let response: DeleteTopicsResponse<'_> = read(&answer, 5).expect("a delete topics response");
        assert_eq!(response.responses[0].error_code, 0);
        if let Some(death) = death {
            rig.world.restart(death).expect("the node starts");
        }
        let topic = CreatableTopic {
            name: "t".into(),
            num_partitions: 2,
            replication_factor: 1,
            ..Default::default()
        };
        rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
        let new = batch(&["x", "y"], rig.world.now);
        assert_eq!(rig.produced(0, -1, &new), (0, 0), "after {death:?}");
        rig.world.restart(Death::PowerLoss).expect("the node starts");
        let answer = rig.ask(&fetch(0, 0, 1), 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
        assert_eq!(partition_of(&response).error_code, 0, "after {death:?}");
        assert_eq!(records_len(partition_of(&response)), new.len(), "after {death:?}");
    }
}

/// What was once told as the end of a partition stays below it, whatever happens to the node.
#[test]
fn the_high_watermark_does_not_go_back() {
    let mut rig = Rig::new();
    for (turn, death) in
        [Death::PowerLoss, Death::Kill, Death::Shutdown, Death::PowerLoss].into_iter().enumerate()
    {
        let records = batch(&["a", "b"], rig.world.now);
        assert_eq!(rig.produced(0, -1, &records), (0, 2 * turn as i64));
        rig.world.restart(death).expect("the node starts");
        let end = 2 * (turn as i64 + 1);
        let answer = rig.ask(&fetch(end, 0, 0), 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
        let told = partition_of(&response);
        assert_eq!((told.error_code, told.high_watermark, told.last_stable_offset), (0, end, end));
    }
}

/// A node that is stopped while it waits for its quorum has not looked at its logs: it must not say that they are clean.
#[test]
fn a_node_that_never_met_its_quorum_leaves_no_clean_mark() {
    let settings = [
        ("log.dirs", "/data"),
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", "1@127.0.0.1:9093,2@127.0.0.2:9093,3@127.0.0.3:9093"),
    ];
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let (config, _) = BrokerConfig::resolve(&settings).expect("a configuration");
    let disk = SimDisk::new(1);
    let node = NodeConfig {
        broker: config,
        cluster_id: Some("4L6g3nShT-eMCtK--X86sw".into()),
        loggers: std::sync::Arc::default(),
    };
    let broker =
        Broker::open(Arc::new(disk.clone()), node, 1_800_000_000_000, 1).expect("it waits for others");
    assert!(!broker.is_serving());
    broker.shutdown().expect("nothing fails");
    let root = disk.list(Path::new("/data")).expect("a directory");
    assert!(root.contains(&"meta.properties".to_owned()), "{root:?}");
    assert!(!root.contains(&".kafka_cleanshutdown".to_owned()), "{root:?}");
}

/// A controller that was formatted to join others knows of no voter, also where the only server that it can ask is itself: it must not stand
/// alone. One that was formatted as the first voter does.
#[test]
fn a_controller_that_joins_others_does_not_elect_itself() {
    let settings = [
        ("node.id", "2"),
        ("process.roles", "broker,controller"),
        ("log.dirs", "/data"),
        ("listeners", "PLAINTEXT://ctrl2:9092,CONTROLLER://ctrl2:9093"),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.bootstrap.servers", "ctrl2:9093"),
    ];
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let (config, _) = BrokerConfig::resolve(&settings).expect("a configuration");
    let directory_id = Uuid([7; 16]);
    let own = InitialController { id: 2, host: "ctrl2".to_owned(), port: 9093, directory_id };
    for (initial_controllers, serves) in [(Vec::new(), false), (vec![own], true)] {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let meta = MetaProperties {
            cluster_id: "4L6g3nShT-eMCtK--X86sw".to_owned(),
            node_id: 2,
            directory_id: Some(directory_id),
        };
        let first = FirstCheckpoint {
            records: bootstrap_records(MetadataVersion::LATEST, &[]),
            metadata_version: MetadataVersion::LATEST,
            kraft_version: 1,
            initial_controllers,
            controller_listener: "CONTROLLER".to_owned(),
        };
        let now = 1_800_000_000_000;
        ottla_broker::format(&disk, Path::new("/data"), &meta, Some(&first), now).expect("formatted");
        let node = NodeConfig { broker: config.clone(), cluster_id: None, loggers: Arc::default() };
        let broker = Broker::open(disk, node, now, 1).expect("it starts");
        assert_eq!(broker.is_serving(), serves);
        broker.shutdown().expect("nothing fails");
    }
}
