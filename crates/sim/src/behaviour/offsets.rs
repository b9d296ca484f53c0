//! Offsets: found by time, and moved by DeleteRecords.

use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_records_response::DeleteRecordsResponse;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use ottla_protocol::messages::list_offsets_response::ListOffsetsResponse;

use super::{Rig, batch, fetch, partition_of, records_len};

#[test]
fn offsets_are_found_by_time() {
    let mut rig = Rig::new();
    let now = rig.world.now;
    for (index, value) in ["a", "b", "c"].iter().enumerate() {
        let records = batch(&[value], now + 1_000 * index as i64);
        assert_eq!(rig.produced(0, -1, &records).0, 0);
    }
    let mut check = |timestamp: i64, expected: (i64, i64)| {
        let partition = ListOffsetsPartition { partition_index: 0, timestamp, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
        let answer = rig.ask(&ListOffsetsRequest { topics: vec![topic], ..Default::default() }, 7);
        let response: ListOffsetsResponse<'_> = read(&answer, 7).expect("a list offsets response");
        let told = &response.topics[0].partitions[0];
        assert_eq!(
            (told.error_code, told.offset, told.timestamp),
            (0, expected.0, expected.1),
            "{timestamp}"
        );
    };
    check(-1, (3, -1));
    check(-2, (0, -1));
    check(-3, (2, now + 2_000));
    check(now + 1, (1, now + 1_000));
    check(now + 1_000, (1, now + 1_000));
    check(now + 9_000, (-1, -1));
}

#[test]
fn what_is_left_after_a_deletion_of_records_is_read_from_files_too() {
    let mut rig = Rig::new();
    let values: Vec<String> = (0..10).map(|value| value.to_string()).collect();
    let records = batch(&values.iter().map(String::as_str).collect::<Vec<_>>(), rig.world.now);
    assert_eq!(rig.produced(0, -1, &records), (0, 0));
    for offset in [4, 4, 4] {
        let partition = DeleteRecordsPartition { partition_index: 0, offset };
        let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
        let answer = rig.ask(&DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 }, 1);
        let response: DeleteRecordsResponse<'_> = read(&answer, 1).expect("a delete records response");
        let told = &response.topics[0].partitions[0];
        assert_eq!((told.error_code, told.low_watermark), (0, 4));
        // The last of these comes when the log has let go of its files and of its cache.
        for _ in 0..2 {
            let mut request = fetch(4, 100, 1);
            request.isolation_level = 0;
            let answer = rig.ask(&request, 11);
            let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
            assert_eq!(partition_of(&response).error_code, 0);
            assert_eq!(records_len(partition_of(&response)), records.len());
        }
        let other = ListOffsetsPartition { partition_index: 0, timestamp: -2, ..Default::default() };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![other] };
        let answer = rig.ask(&ListOffsetsRequest { topics: vec![topic], ..Default::default() }, 7);
        let response: ListOffsetsResponse<'_> = read(&answer, 7).expect("a list offsets response");
        assert_eq!(response.topics[0].partitions[0].offset, 4);
        // Deleting elsewhere writes all checkpoints, and lets idle logs go.
        for _ in 0..2 {
            let partition = DeleteRecordsPartition { partition_index: 1, offset: -1 };
            let topic = DeleteRecordsTopic { name: "t".into(), partitions: vec![partition] };
            rig.ask(&DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 }, 1);
        }
    }
}

/// Coordinators live by these records, whatever the policy of their topic.
#[test]
fn records_of_internal_topics_are_not_deleted() {
    let mut rig = Rig::new();
    let request = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
    rig.ask(&request, 4);
    let partition = DeleteRecordsPartition { partition_index: 0, offset: -1 };
    let topic = DeleteRecordsTopic { name: "__consumer_offsets".into(), partitions: vec![partition] };
    let answer = rig.ask(&DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 }, 1);
    let response: DeleteRecordsResponse<'_> = read(&answer, 1).expect("a delete records response");
    assert_eq!(response.topics[0].partitions[0].error_code, ErrorCode::InvalidTopicException.code());
}
