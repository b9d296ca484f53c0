//! The same bytes through another implementation (the crate kafka-protocol): it must read what we write and write what
//! we wrote, for every API and version that it has.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};
use ottla_protocol::ApiKey;
use ottla_schema::random::{self, Dice};
use ottla_schema::tree::Tree;

use crate::common;

/// Versions that they name and can not read: their generator leaves out what Kafka 4.1 had not finished.
const GAPS: [(&str, i16); 3] =
    [("OffsetCommitRequest", 10), ("OffsetFetchRequest", 10), ("InitProducerIdRequest", 6)];

/// Requests and responses of one API in one version, through theirs and back.
fn theirs(key: TheirKey, version: i16, is_request: bool, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut input = Bytes::copy_from_slice(bytes);
    let mut output = BytesMut::new();
    let written = if is_request {
        RequestKind::decode(key, &mut input, version).and_then(|message| message.encode(&mut output, version))
    } else {
        ResponseKind::decode(key, &mut input, version)
            .and_then(|message| message.encode(&mut output, version))
    };
    written.map_err(|error| format!("{error:#}"))?;
    if input.is_empty() { Ok(output.to_vec()) } else { Err(format!("{} bytes left over", input.len())) }
}

#[test]
fn every_api_and_version_that_both_have() {
    let schemas = common::schemas();
    let mut compared = 0;
    let mut differ = Vec::new();
    for api in ApiKey::ALL {
        let Ok(key) = TheirKey::try_from(api.code()) else { continue };
        let range = key.valid_versions();
        for (suffix, is_request) in [("Request", true), ("Response", false)] {
            let schema = &schemas[&format!("{api}{suffix}")];
            let entry =
                common::MESSAGES.iter().find(|entry| entry.name == schema.name).expect("in the table");
            let tree = Tree::new(schema).expect("a sound schema");
            for version in
                schema.versions.iter().filter(|version| range.min <= *version && *version <= range.max)
            {
                for seed in 0..6 {
                    let bytes = random::bytes(&tree, version, &mut Dice::new(seed));
                    let ours = (entry.roundtrip)(&bytes, version).expect("tested elsewhere");
                    match theirs(key, version, is_request, &ours) {
                        Err(_) if GAPS.contains(&(&schema.name, version)) => {}
                        Ok(theirs) if theirs == ours => compared += 1,
                        Ok(theirs) => differ.push(format!(
                            "{} v{version} seed {seed}\n{ours:02x?}\n{theirs:02x?}",
                            schema.name
                        )),
                        Err(error) => differ.push(format!("{} v{version} seed {seed}: {error}", schema.name)),
                    }
                }
            }
        }
    }
    assert!(differ.is_empty(), "{} of {compared}:\n{}", differ.len(), differ.join("\n"));
    assert!(compared > 3000, "{compared}");
}
