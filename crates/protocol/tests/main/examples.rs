//! Single messages whose bytes are known, and the rules that a table over all messages can not show.

use std::borrow::Cow;

use bytes::Bytes;
use ottla_protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;
use ottla_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use ottla_protocol::messages::fetch_request::{FetchRequest, FetchTopic, ReplicaState};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::messages::offset_commit_key::OffsetCommitKey;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::messages::topic_record::TopicRecord;
use ottla_protocol::{
    Chain, Chunk, DecodeErrorKind, EncodeError, EncodeErrorKind, Message, Reader, Records, Uuid, Writer,
};

fn write<'a>(message: &impl Message<'a>, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

#[test]
fn a_flexible_header_keeps_the_old_length_of_the_client_id() {
    // Api 18, version 3, correlation 5, "cli" with two bytes of length, no tagged fields.
    let bytes = [0, 18, 0, 3, 0, 0, 0, 5, 0, 3, b'c', b'l', b'i', 0];
    let header = RequestHeader::decode(&mut Reader::new(&bytes), 2).expect("a header");
    assert_eq!(
        (header.request_api_key, header.correlation_id, header.client_id.as_deref()),
        (18, 5, Some("cli"))
    );
    assert_eq!(write(&header, 2).expect("it was read"), bytes[..]);
    assert_eq!(RequestHeader::peek(&bytes), Ok((18, 3, 5)));
}

#[test]
fn a_peek_reads_keys_that_nobody_knows_and_fails_on_stubs() {
    assert_eq!(RequestHeader::peek(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 9]), Ok((32767, -1, 0x0102_0304)));
    for length in 0..8 {
        let error = RequestHeader::peek(&[0; 8][..length]).expect_err("too short");
        assert_eq!(error.kind, DecodeErrorKind::Truncated);
    }
}

#[test]
fn records_are_not_copied_on_the_way_in_or_out() {
    let batch = Bytes::from(vec![7u8; 1000]);
    let request = |records| ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: vec![PartitionProduceData { index: 3, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut writer = Writer::new();
    request(Records::Chain(Chain::from(batch.clone())))
        .encode(&mut writer, 9)
        .expect("version 9 has all of it");
    let chain = writer.finish();
    assert!(
        chain.chunks().iter().any(|chunk| matches!(chunk, Chunk::Bytes(b) if b.as_ptr() == batch.as_ptr()))
    );
    let frame = chain.in_memory().expect("no files here");
    let read = ProduceRequest::decode(&mut Reader::new(&frame), 9).expect("it was just written");
    let Some(Records::Slice(slice)) = &read.topic_data[0].partition_data[0].records else {
        panic!("a slice")
    };
    assert!(frame.as_ptr_range().contains(&slice.as_ptr()));
    assert_eq!(read, request(Records::Slice(&batch)));
}

#[test]
fn what_a_version_lacks_is_dropped_or_refused() {
    // Ignorable: the rack is dropped before version 11.
    let fetch = FetchRequest { rack_id: "r1".into(), ..Default::default() };
    assert_eq!(write(&fetch, 10), write(&FetchRequest::default(), 10));
    assert_ne!(write(&fetch, 11), write(&FetchRequest::default(), 11));
    // Not ignorable: the state of a replica, a tagged struct, came with version 15.
    let replica_state = ReplicaState { replica_id: 1, ..Default::default() };
    let follower = FetchRequest { replica_state, ..Default::default() };
    assert!(write(&follower, 15).is_ok());
    assert_eq!(
        write(&follower, 14).expect_err("a follower must not pass for a client").field,
        "replica_state"
    );
    // Nor is a plain field dropped that would change what is asked for.
    let metadata = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
    let error = write(&metadata, 3).expect_err("auto creation can be forbidden from version 4 on");
    assert_eq!((error.field, error.kind), ("allow_auto_topic_creation", EncodeErrorKind::FieldNotInVersion));
    assert_eq!((error.message, error.version), ("MetadataRequest", 3));
    let change = BrokerRegistrationChangeRecord { log_dirs: vec![Uuid::ONE], ..Default::default() };
    let error = write(&change, 1).expect_err("directories came with version 2");
    assert_eq!((error.field, error.kind), ("log_dirs", EncodeErrorKind::FieldNotInVersion));
}

#[test]
fn null_is_refused_where_a_version_can_not_say_it() {
    let all = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(write(&all, 0).expect_err("version 0 has no null").kind, EncodeErrorKind::Null);
    assert_eq!(write(&all, 1).expect("version 1 has")[..], [0xff, 0xff, 0xff, 0xff]);
    let error = MetadataRequest::decode(&mut Reader::new(&[0xff; 4]), 0).expect_err("null topics");
    assert_eq!((error.kind, error.position, error.message), (DecodeErrorKind::Null, 4, "MetadataRequest"));
}

#[test]
fn defaults_are_those_of_the_schema() {
    let fetch = FetchRequest::default();
    assert_eq!((fetch.replica_id, fetch.max_bytes, fetch.session_epoch), (-1, i32::MAX, -1));
    assert_eq!((fetch.replica_state.replica_id, fetch.replica_state.replica_epoch), (-1, -1));
    assert_eq!(CreateTopicsRequest::default().timeout_ms, 60000);
    assert!(MetadataRequest::default().allow_auto_topic_creation);
    assert_eq!(FetchTopic::default().topic, Cow::Borrowed(""));
}

#[test]
fn a_metadata_record_in_its_frame() {
    let record = MetadataRecord::from(TopicRecord { name: "foo".into(), topic_id: Uuid::from_halves(1, 2) });
    let mut writer = Writer::new();
    record.encode_framed(0, &mut writer).expect("version 0");
    let bytes = writer.into_bytes();
    let expected = [1, 2, 0, 4, b'f', b'o', b'o', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(bytes[..], expected);
    assert_eq!(MetadataRecord::decode_framed(&bytes), Ok(record));
    let spoil = |place: usize, value: u8| {
        let mut spoilt = expected.to_vec();
        spoilt[place] = value;
        MetadataRecord::decode_framed(&spoilt).map(|_| ()).map_err(|error| error.kind)
    };
    assert_eq!(spoil(0, 0), Err(DecodeErrorKind::UnknownFrame));
    assert_eq!(spoil(1, 6), Err(DecodeErrorKind::UnknownType));
    assert_eq!(spoil(2, 1), Err(DecodeErrorKind::UnsupportedVersion));
    let longer: Vec<u8> = expected.into_iter().chain([0]).collect();
    assert_eq!(
        MetadataRecord::decode_framed(&longer).map_err(|error| error.kind),
        Err(DecodeErrorKind::TrailingBytes)
    );
}

#[test]
fn coordinator_records_know_their_type() {
    assert_eq!(OffsetCommitKey::RECORD_TYPE, 1);
    let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 2 };
    assert_eq!(write(&key, 0).expect("version 0")[..], [0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
}

#[test]
fn nullable_structs() {
    let bytes = write(&DescribeTopicPartitionsRequest::default(), 0).expect("version 0");
    assert_eq!(bytes[..], [1, 0, 0, 0x07, 0xd0, 0xff, 0]);
    let read = DescribeTopicPartitionsRequest::decode(&mut Reader::new(&bytes), 0).expect("just written");
    assert_eq!(read.cursor, None);
}
