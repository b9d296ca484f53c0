//! The control records that raft obeys: KRaftVersionRecord and VotersRecord (KIP-853).

use ottla_protocol::messages::kraft_version_record::KRaftVersionRecord;
use ottla_protocol::messages::voters_record::{self, KRaftVersionFeature, VotersRecord};
use ottla_protocol::records::{Batch, ControlKey, ControlType};
use ottla_protocol::{Message, Reader, Uuid};
use ottla_raft::{Control, VersionRange, Voter, Voters};

use super::epochs::endpoint;
use super::key;

/// Bytes of one decompressed control batch.
const CONTROL_BYTES_MAX: usize = 8 << 20;

/// The record that raft obeys, if a control record of that type is one.
pub(super) fn decode_control(control_type: ControlType, value: &[u8]) -> Result<Option<Control>, String> {
    match control_type {
        ControlType::KraftVersion => {
            let record: KRaftVersionRecord = read(value, "kraft.version")?;
            Ok(Some(Control::KRaftVersion(record.kraft_version)))
        }
        ControlType::KraftVoters => {
            let record: VotersRecord<'_> = read(value, "the voters")?;
            let voters = record.voters.iter().map(|voter| Voter {
                key: key(voter.voter_id, voter.voter_directory_id),
                endpoints: voter.endpoints.iter().map(|at| endpoint(&at.name, &at.host, at.port)).collect(),
                kraft_versions: VersionRange {
                    min: voter.kraft_version_feature.min_supported_version,
                    max: voter.kraft_version_feature.max_supported_version,
                },
            });
            let voters = Voters::new(voters.collect()).map_err(|id| format!("voter {id} is named twice"))?;
            if voters.is_empty() {
                return Err("a record of the voters names nobody".to_owned());
            }
            Ok(Some(Control::Voters(voters)))
        }
        _ => Ok(None),
    }
}

/// A set of voters as its record.
pub(in crate::quorum) fn encode_voters(voters: &Voters) -> VotersRecord<'_> {
    let voters = voters.iter().map(|voter| voters_record::Voter {
        voter_id: voter.key.id,
        voter_directory_id: Uuid(voter.key.directory_id),
        endpoints: voter
            .endpoints
            .iter()
            .map(|endpoint| voters_record::Endpoint {
                name: endpoint.listener.as_str().into(),
                host: endpoint.host.as_str().into(),
                port: endpoint.port,
            })
            .collect(),
        kraft_version_feature: KRaftVersionFeature {
            min_supported_version: voter.kraft_versions.min,
            max_supported_version: voter.kraft_versions.max,
        },
    });
    VotersRecord { version: 0, voters: voters.collect() }
}

/// The records of a batch that raft obeys, with their offsets.
pub(in crate::quorum) fn controls(batch: &Batch<'_>) -> Result<Vec<(i64, Control)>, String> {
    let mut found = Vec::new();
    if !batch.is_control() {
        return Ok(found);
    }
    let set = batch.records(CONTROL_BYTES_MAX).map_err(|error| error.to_string())?;
    for record in set.iter() {
        let record = record.map_err(|error| format!("{error:?}"))?;
        let key = ControlKey::read(record.key).map_err(|error| error.to_string())?;
        let Some(control_type) = key.control_type() else { continue };
        if let Some(control) = decode_control(control_type, record.value.unwrap_or_default())? {
            found.push((record.offset, control));
        }
    }
    Ok(found)
}

fn read<'a, M: Message<'a>>(value: &'a [u8], what: &str) -> Result<M, String> {
    M::decode(&mut Reader::new(value), 0).map_err(|error| format!("{what}: {error}"))
}
