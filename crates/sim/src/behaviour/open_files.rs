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

#[test]
fn more_logs_than_files_take_records_and_give_them_back() {
    let mut rig = Rig::new();
    let topic = CreatableTopic {
        name: "many".into(),
        num_partitions: LOGS,
        replication_factor: 1,
        ..Default::default()
    };
    rig.ask(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 5);
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
        let mut request: FetchRequest<'_> = fetch(0, 100, 1);
        request.topics[0].topic = "many".into();
        request.topics[0].partitions[0].partition = index;
        let answer = rig.ask(&request, 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
        let told = partition_of(&response);
        assert_eq!((told.error_code, records_len(told)), (0, 3 * records.len()), "partition {index}");
    }
}
