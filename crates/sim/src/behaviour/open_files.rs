//! More logs than files that can be open.

use ottla_protocol::Records;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_storage::Disk;

use super::{Rig, batch, fetch, partition_of, records_len};
use crate::client::{frame, read};
use crate::world::Death;

const LOGS: i32 = 300;
const FILES: usize = 80;

/// Produces one batch to a partition of the topic `many`.
fn produced(rig: &mut Rig, index: i32, acks: i16, records: &[u8]) -> (i16, i64) {
    let data = PartitionProduceData { index, records: Some(Records::Slice(records)) };
    let topic = TopicProduceData { name: "many".into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let token = rig.world.send(frame(&request, 9));
    let answer = rig.answer::<ProduceRequest<'_>>(token, 9, 60_000).expect("a produce is answered");
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a produce response");
    let told = &response.responses[0].partition_responses[0];
    (told.error_code, told.base_offset)
}

/// Creates the topic `many`.
fn many_logs() -> Rig {
    let mut rig = Rig::new();
    let topic = CreatableTopic {
        name: "many".into(),
        num_partitions: LOGS,
        replication_factor: 1,
        ..Default::default()
    };
    rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
    rig
}

/// The bytes of records that a partition of it holds.
fn held(rig: &mut Rig, index: i32) -> (i16, usize) {
    let mut request: FetchRequest<'_> = fetch(0, 100, 1);
    request.topics[0].topic = "many".into();
    request.topics[0].partitions[0].partition = index;
    let answer = rig.ask(&request, 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let told = partition_of(&response);
    (told.error_code, records_len(told))
}

#[test]
fn more_logs_than_files_take_records_and_give_them_back() {
    let mut rig = many_logs();
    rig.world.disk().set_open_files_limit(FILES);
    let records = batch(&["a"], rig.world.now);
    for round in 0..3 {
        for index in 0..LOGS {
            let acks = if index % 3 == 0 { -1 } else { 1 };
            assert_eq!(produced(&mut rig, index, acks, &records), (0, round), "partition {index}");
            let open = rig.world.disk().open_files().count;
            assert!(open < FILES + FILES / 2, "{open} files are open, {FILES} should be");
        }
    }
    for index in 0..LOGS {
        assert_eq!(held(&mut rig, index), (0, 3 * records.len()), "partition {index}");
    }
}

#[test]
fn many_logs_are_closed_with_one_sync_and_are_all_there_when_the_power_fails_then() {
    let mut rig = many_logs();
    let records = batch(&["a"], rig.world.now);
    (0..LOGS).for_each(|index| assert_eq!(produced(&mut rig, index, 1, &records), (0, 0)));
    let disk = rig.world.disk().clone();
    let before = disk.counters().syncs;
    rig.world.restart(Death::Shutdown).expect("a clean stop");
    let syncs = disk.counters().syncs - before;
    assert!(syncs < LOGS as u64 / 4, "{syncs} files were synced");
    rig.world.restart(Death::PowerLoss).expect("a start");
    (0..LOGS).for_each(|index| assert_eq!(held(&mut rig, index), (0, records.len()), "partition {index}"));
}

/// Wherever the power fails while many logs are closed: what was acknowledged as flushed is there, and takes more records.
#[test]
fn many_logs_survive_a_stop_that_is_broken_off() {
    for mutations in (0..4_000).step_by(333) {
        let mut rig = many_logs();
        let records = batch(&["a"], rig.world.now);
        let flushed = |index: i32| if index % 3 == 0 { -1 } else { 1 };
        for index in 0..LOGS {
            assert_eq!(produced(&mut rig, index, flushed(index), &records), (0, 0));
        }
        for index in 0..LOGS / 2 {
            assert_eq!(produced(&mut rig, index, 1, &records), (0, 1));
        }
        rig.world.break_shutdown(mutations).expect("a start");
        for index in 0..LOGS {
            let (error, bytes) = held(&mut rig, index);
            let kept = bytes / records.len();
            assert!(error == 0 && bytes % records.len() == 0 && kept <= 2, "partition {index}: {bytes}");
            assert!(kept > 0 || flushed(index) == 1, "partition {index} lost what was acknowledged");
            assert_eq!(produced(&mut rig, index, 1, &records), (0, kept as i64), "partition {index}");
        }
    }
}
