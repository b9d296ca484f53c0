//! Snapshots of the metadata: what they stand for goes, and nothing of the cluster is forgotten.

use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::messages::metadata_response::MetadataResponse;

use super::Rig;
use crate::client::read;
use crate::world::Death;

const LOG: &str = "/data/__cluster_metadata-0";

fn create(rig: &mut Rig, name: &str) {
    let topic =
        CreatableTopic { name: name.into(), num_partitions: 3, replication_factor: 1, ..Default::default() };
    let answer = rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 7);
    let response: CreateTopicsResponse<'_> = read(&answer, 7).expect("a create topics response");
    assert_eq!(response.topics[0].error_code, 0);
}

fn topics(rig: &mut Rig) -> Vec<String> {
    let answer = rig.ask(&MetadataRequest { topics: None, ..Default::default() }, 9);
    let response: MetadataResponse<'_> = read(&answer, 9).expect("a metadata response");
    let mut names: Vec<_> =
        response.topics.iter().map(|topic| topic.name.as_deref().expect("a name").to_owned()).collect();
    names.sort();
    names
}

fn snapshots(rig: &Rig) -> Vec<String> {
    rig.world.files(LOG).into_iter().filter(|name| name.ends_with(".checkpoint")).collect()
}

#[test]
fn the_log_before_a_snapshot_goes_and_everything_is_still_known() {
    let mut rig = Rig::with(&[
        ("metadata.log.max.record.bytes.between.snapshots", "3000"),
        ("metadata.max.retention.bytes", "20000"),
        ("internal.metadata.log.segment.bytes", "4000"),
    ]);
    let mut expected = vec!["t".to_owned()];
    for turn in 0..40 {
        let name = format!("topic-{turn}");
        create(&mut rig, &name);
        expected.push(name);
        if turn % 7 == 6 {
            let death = [Death::Kill, Death::PowerLoss, Death::Shutdown][turn / 7 % 3];
            rig.world.restart(death).expect("the node starts again");
        }
    }
    expected.sort();
    assert_eq!(topics(&mut rig), expected);
    assert!(!snapshots(&rig).is_empty(), "no snapshot was taken");
    let segments: Vec<_> = rig.world.files(LOG).into_iter().filter(|name| name.ends_with(".log")).collect();
    assert!(!segments.contains(&"00000000000000000000.log".to_owned()), "{segments:?}");
    // A cluster that is known by its snapshot goes on.
    create(&mut rig, "one-more");
    rig.world.restart(Death::PowerLoss).expect("the node starts again");
    assert!(topics(&mut rig).contains(&"one-more".to_owned()));
}

#[test]
fn a_quiet_cluster_is_written_down_after_the_interval() {
    let mut rig = Rig::with(&[("metadata.log.max.snapshot.interval.ms", "60000")]);
    create(&mut rig, "a");
    let step = |rig: &mut Rig, ms: i64| {
        let until = rig.world.now + ms;
        while rig.world.step(until) {}
    };
    step(&mut rig, 50_000);
    assert_eq!(snapshots(&rig), Vec::<String>::new());
    step(&mut rig, 11_000);
    let taken = snapshots(&rig);
    assert_eq!(taken.len(), 1);
    step(&mut rig, 200_000);
    assert_eq!(snapshots(&rig), taken, "nothing happened since");
}
