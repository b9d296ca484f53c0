//! Records from the internal logs of a real cluster: metadata, groups and offsets, transactions, share groups, control records.

use ottla_protocol::Writer;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::records::{ControlKey, ControlType, EndTxnMarker};

use super::corpus::{self, Complaints, Line};
use super::roundtrip;

#[test]
fn records_of_internal_logs_are_read_and_written_to_the_same_bytes() {
    let mut complaints = Complaints::default();
    let lines = corpus::lines(&corpus::path("logs.hex"), 1);
    for line in &lines {
        match line.words[0].as_str() {
            "metadata" => metadata(line, &mut complaints),
            "control" => control(line, &mut complaints),
            "consumer_offsets" => keyed(line, group_record, &mut complaints),
            "transaction_state" => keyed(line, |_| "TransactionLog", &mut complaints),
            "share_group_state" => keyed(line, share_record, &mut complaints),
            other => complaints.add(&line.place, format!("unknown log {other}")),
        }
    }
    complaints.finish(lines.len());
}

fn key_and_value(line: &Line) -> (Option<&[u8]>, Option<&[u8]>) {
    let [key, value] = &line.bytes[..] else { panic!("{}: not a key and a value", line.place) };
    (key.as_deref(), value.as_deref())
}

fn metadata(line: &Line, complaints: &mut Complaints) {
    let (_, value) = key_and_value(line);
    let value = value.expect("metadata records have values");
    let ours = MetadataRecord::decode_framed_versioned(value).map_err(|error| error.to_string());
    let ours = ours.and_then(|(record, version)| {
        let mut w = Writer::new();
        record.encode_framed(version, &mut w).map_err(|error| error.to_string())?;
        Ok(w.into_bytes().to_vec())
    });
    complaints.compare(&line.place, "metadata record", value, ours);
}

/// Key and value begin with their version; that of the key is the type of the record.
fn keyed(line: &Line, name_of: fn(i16) -> &'static str, complaints: &mut Complaints) {
    let (key, value) = key_and_value(line);
    let (record_type, key) = prefixed(key.expect("these records have keys"));
    let name = name_of(record_type);
    complaints.compare(&line.place, name, key, roundtrip(&format!("{name}Key"), key, 0));
    if let Some(value) = value {
        let (version, value) = prefixed(value);
        complaints.compare(&line.place, name, value, roundtrip(&format!("{name}Value"), value, version));
    }
}

fn prefixed(bytes: &[u8]) -> (i16, &[u8]) {
    let (version, rest) = bytes.split_first_chunk().expect("a version");
    (i16::from_be_bytes(*version), rest)
}

fn group_record(record_type: i16) -> &'static str {
    match record_type {
        1 => "OffsetCommit",
        2 => "GroupMetadata",
        3 => "ConsumerGroupMetadata",
        5 => "ConsumerGroupMemberMetadata",
        6 => "ConsumerGroupTargetAssignmentMetadata",
        7 => "ConsumerGroupTargetAssignmentMember",
        8 => "ConsumerGroupCurrentMemberAssignment",
        10 => "ShareGroupMemberMetadata",
        11 => "ShareGroupMetadata",
        12 => "ShareGroupTargetAssignmentMetadata",
        13 => "ShareGroupTargetAssignmentMember",
        14 => "ShareGroupCurrentMemberAssignment",
        15 => "ShareGroupStatePartitionMetadata",
        16 => "ConsumerGroupRegularExpression",
        17 => "StreamsGroupMetadata",
        19 => "StreamsGroupMemberMetadata",
        20 => "StreamsGroupTargetAssignmentMetadata",
        21 => "StreamsGroupTargetAssignmentMember",
        22 => "StreamsGroupCurrentMemberAssignment",
        23 => "StreamsGroupTopology",
        _ => "of an unknown type",
    }
}

fn share_record(record_type: i16) -> &'static str {
    match record_type {
        0 => "ShareSnapshot",
        1 => "ShareUpdate",
        _ => "of an unknown type",
    }
}

fn control(line: &Line, complaints: &mut Complaints) {
    let (key, value) = key_and_value(line);
    let read = ControlKey::read(key).expect("the key of a control record");
    assert_eq!(Some(&read.to_bytes()[..]), key, "{}", line.place);
    let recorded = value.expect("control records have values");
    let name = match read.control_type().expect("a known type") {
        ControlType::Abort | ControlType::Commit => {
            let marker = EndTxnMarker::read(value).expect("a marker");
            return complaints.compare(&line.place, "marker", recorded, Ok(marker.to_bytes().to_vec()));
        }
        ControlType::LeaderChange => "LeaderChangeMessage",
        ControlType::SnapshotHeader => "SnapshotHeaderRecord",
        ControlType::SnapshotFooter => "SnapshotFooterRecord",
        ControlType::KraftVersion => "KRaftVersionRecord",
        ControlType::KraftVoters => "VotersRecord",
    };
    // These carry their version as their first field.
    let (version, _) = prefixed(recorded);
    complaints.compare(&line.place, name, recorded, roundtrip(name, recorded, version));
}
