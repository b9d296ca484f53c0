//! One file per API. [`SERVED`] is the table of what this node serves, and [`dispatch`] the way in: header, version, body, handler.
//!
//! A request that names an unknown API or version, or does not parse, closes its connection, as in Kafka; only ApiVersions has an
//! answer for every version.

use bytes::Bytes;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::{ApiKey, DecodeError, ErrorCode, Listener, Message, Reader};
use ottla_storage::Admission;

use crate::Broker;
use crate::api::produce::Gather;
use crate::call::{Call, ReplyTo, read_body};
use crate::connection::Connection;
use crate::effect::{Effect, Effects, Millis, Token};
use crate::quorum::serve;
use crate::telemetry::Telemetry;

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod allocate_producer_ids;
pub(crate) mod alter_client_quotas;
pub(crate) mod alter_configs;
pub(crate) mod alter_partition;
pub(crate) mod alter_partition_reassignments;
pub(crate) mod alter_replica_log_dirs;
pub(crate) mod alter_user_scram_credentials;
pub(crate) mod api_versions;
pub(crate) mod assign_replicas_to_dirs;
pub(crate) mod broker_heartbeat;
pub(crate) mod broker_registration;
pub(crate) mod consumer_group_describe;
pub(crate) mod consumer_group_heartbeat;
pub(crate) mod controller_registration;
pub(crate) mod create_acls;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delegation_tokens;
pub(crate) mod delete_acls;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_acls;
pub(crate) mod describe_client_quotas;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_producers;
pub(crate) mod describe_quorum;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_transactions;
pub(crate) mod describe_user_scram_credentials;
pub(crate) mod elect_leaders;
pub(crate) mod end_txn;
pub(crate) mod envelope;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod get_telemetry_subscriptions;
pub(crate) mod groups;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod list_config_resources;
pub(crate) mod list_offsets;
pub(crate) mod list_partition_reassignments;
pub(crate) mod list_transactions;
pub(crate) mod metadata;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod push_telemetry;
pub(crate) mod txn_offset_commit;
pub(crate) mod unregister_broker;
pub(crate) mod unregister_controller;
pub(crate) mod update_features;
pub(crate) mod write_txn_markers;

/// What is served: API, first and last version. Exactly what is complete.
pub const SERVED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 18),
    (ApiKey::ListOffsets, 1, 11),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 10),
    (ApiKey::OffsetFetch, 1, 10),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 5),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 5),
    (ApiKey::AddOffsetsToTxn, 0, 4),
    (ApiKey::EndTxn, 0, 5),
    (ApiKey::WriteTxnMarkers, 1, 2),
    (ApiKey::TxnOffsetCommit, 0, 6),
    (ApiKey::DescribeAcls, 1, 3),
    (ApiKey::CreateAcls, 1, 3),
    (ApiKey::DeleteAcls, 1, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::AlterReplicaLogDirs, 1, 2),
    (ApiKey::DescribeLogDirs, 1, 5),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::CreateDelegationToken, 1, 3),
    (ApiKey::RenewDelegationToken, 1, 2),
    (ApiKey::ExpireDelegationToken, 1, 2),
    (ApiKey::DescribeDelegationToken, 1, 3),
    (ApiKey::DeleteGroups, 0, 3),
    (ApiKey::ElectLeaders, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::AlterPartitionReassignments, 0, 1),
    (ApiKey::ListPartitionReassignments, 0, 0),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::AlterClientQuotas, 0, 1),
    (ApiKey::DescribeUserScramCredentials, 0, 0),
    (ApiKey::AlterUserScramCredentials, 0, 0),
    (ApiKey::Vote, 0, 2),
    (ApiKey::BeginQuorumEpoch, 0, 1),
    (ApiKey::EndQuorumEpoch, 0, 1),
    (ApiKey::DescribeQuorum, 0, 2),
    (ApiKey::AlterPartition, 2, 3),
    (ApiKey::UpdateFeatures, 0, 2),
    (ApiKey::Envelope, 0, 0),
    (ApiKey::FetchSnapshot, 0, 1),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::BrokerRegistration, 0, 4),
    (ApiKey::BrokerHeartbeat, 0, 2),
    (ApiKey::UnregisterBroker, 0, 0),
    (ApiKey::DescribeTransactions, 0, 0),
    (ApiKey::ListTransactions, 0, 2),
    (ApiKey::AllocateProducerIds, 0, 0),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
    (ApiKey::ConsumerGroupDescribe, 0, 1),
    (ApiKey::ControllerRegistration, 0, 0),
    (ApiKey::GetTelemetrySubscriptions, 0, 0),
    (ApiKey::PushTelemetry, 0, 0),
    (ApiKey::AssignReplicasToDirs, 0, 0),
    (ApiKey::ListConfigResources, 0, 1),
    (ApiKey::DescribeTopicPartitions, 0, 0),
    (ApiKey::AddRaftVoter, 0, 1),
    (ApiKey::RemoveRaftVoter, 0, 0),
    (ApiKey::UpdateRaftVoter, 0, 0),
    (ApiKey::UnregisterController, 0, 0),
];

/// Where and how a request is handled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstance {
    pub now: Millis,
    pub retried: bool,
    pub may_wait: bool,
    /// The word of a transaction coordinator that the request waited for.
    pub admission: Option<Result<Admission, ErrorCode>>,
    /// The correlation id of the Envelope that the request came in.
    pub envelope: Option<i32>,
}

impl Circumstance {
    /// The first time a request is handled.
    pub fn at(now: Millis) -> Circumstance {
        Circumstance { now, retried: false, may_wait: false, admission: None, envelope: None }
    }
}

/// Whether a request may come by a listener; in an envelope comes only what clients ask.
pub(crate) fn is_served_at(key: ApiKey, listener: Listener, in_envelope: bool) -> bool {
    key.is_served_by(listener) && (!in_envelope || key.is_served_by(Listener::Broker))
}

/// Whether this very node serves an API: metrics of clients are taken only where somebody can look at them.
pub(crate) fn is_served_by(broker: &Broker, key: ApiKey) -> bool {
    !matches!(key, ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry) || broker.telemetry.is_some()
}

/// Handles one request frame.
pub(crate) fn dispatch(
    broker: &Broker,
    connection: &mut Connection,
    frame: &Bytes,
    token: Token,
    at: Circumstance,
    gather: &mut Gather,
    out: &mut Effects,
) {
    let header = RequestHeader::peek(frame);
    let correlation_id = header.as_ref().map_or(0, |(_, _, id)| *id);
    let reply =
        ReplyTo { token, key: ApiKey::ApiVersions, version: 0, correlation_id, envelope: at.envelope };
    let close = |out: &mut Effects| reply.close(out);
    let Ok((key, version, _)) = header else { return close(out) };
    let of_controllers = at.envelope.is_some() || broker.is_controller_listener(&connection.listener);
    let listener = if of_controllers { Listener::Controller } else { Listener::Broker };
    let served = ApiKey::from_i16(key)
        .filter(|key| is_served_at(*key, listener, at.envelope.is_some()) && is_served_by(broker, *key));
    let served = served.and_then(|key| SERVED.iter().find(|served| served.0 == key));
    let Some(&(key, min, max)) = served else { return close(out) };
    let reply = ReplyTo { key, version, ..reply };
    if !(min..=max).contains(&version) {
        // What the rest of the header looks like in an unknown version is unknown too.
        return if key == ApiKey::ApiVersions {
            api_versions::unsupported(broker, reply, out)
        } else {
            close(out)
        };
    }
    let mut body = Reader::new(frame);
    let Ok(header) = RequestHeader::decode(&mut body, key.request_header_version(version)) else {
        return close(out);
    };
    if key == ApiKey::ApiVersions
        && let Ok(request) = read_body::<ottla_protocol::messages::api_versions_request::ApiVersionsRequest<'_>>(
            &mut body.clone(),
            version,
        )
        && !request.client_software_name.is_empty()
    {
        let software =
            (request.client_software_name.into_owned(), request.client_software_version.into_owned());
        connection.software = Some(software);
    }
    if key == ApiKey::Produce {
        connection.gathered_in = Some(gather.round());
    } else if connection.gathered_in == Some(gather.round()) {
        // No request overtakes one that was sent before it.
        broker.on_gathered(gather, at.now, out);
    }
    let mut call = Call {
        frame,
        connection,
        client_id: header.client_id.as_deref().unwrap_or(""),
        reply,
        now: at.now,
        retried: at.retried,
        may_wait: at.may_wait,
        admission: at.admission,
        gather,
        out,
    };
    if let Err(error) = handle(broker, &mut call, &mut body) {
        out.push(Effect::Report(format!("{}: a request that can not be read: {error}", connection.peer)));
        close(out);
    }
}

fn handle(broker: &Broker, call: &mut Call<'_>, body: &mut Reader<'_>) -> Result<(), DecodeError> {
    let version = call.reply.version;
    match call.reply.key {
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn::handle(broker, call, read_body(body, version)?),
        ApiKey::AddOffsetsToTxn => add_offsets_to_txn::handle(broker, call, read_body(body, version)?),
        ApiKey::EndTxn => end_txn::handle(broker, call, read_body(body, version)?),
        ApiKey::TxnOffsetCommit => txn_offset_commit::handle(broker, call, read_body(body, version)?),
        ApiKey::WriteTxnMarkers => write_txn_markers::handle(broker, call, read_body(body, version)?),
        ApiKey::DescribeTransactions => {
            describe_transactions::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::ListTransactions => list_transactions::handle(broker, call, read_body(body, version)?),
        ApiKey::Produce => produce::handle(broker, call, read_body(body, version)?),
        ApiKey::Fetch if broker.is_controller_listener(&call.connection.listener) => {
            serve::fetch(broker, call, read_body(body, version)?);
        }
        ApiKey::Vote => serve::vote(broker, call, read_body(body, version)?),
        ApiKey::BeginQuorumEpoch => serve::begin_epoch(broker, call, read_body(body, version)?),
        ApiKey::EndQuorumEpoch => serve::end_epoch(broker, call, read_body(body, version)?),
        ApiKey::FetchSnapshot => serve::fetch_snapshot(broker, call, read_body(body, version)?),
        ApiKey::AddRaftVoter => serve::add_voter(broker, call, read_body(body, version)?),
        ApiKey::RemoveRaftVoter => serve::remove_voter(broker, call, read_body(body, version)?),
        ApiKey::UpdateRaftVoter => serve::update_voter(broker, call, read_body(body, version)?),
        ApiKey::Envelope => envelope::handle(broker, call, read_body(body, version)?),
        ApiKey::BrokerRegistration => broker_registration::handle(broker, call, read_body(body, version)?),
        ApiKey::BrokerHeartbeat => broker_heartbeat::handle(broker, call, read_body(body, version)?),
        ApiKey::ControllerRegistration => {
            controller_registration::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::AllocateProducerIds => allocate_producer_ids::handle(broker, call, read_body(body, version)?),
        ApiKey::AlterPartition => alter_partition::handle(broker, call, read_body(body, version)?),
        ApiKey::AssignReplicasToDirs => {
            assign_replicas_to_dirs::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::Fetch => fetch::handle(broker, call, read_body(body, version)?),
        ApiKey::ListOffsets => list_offsets::handle(broker, call, read_body(body, version)?),
        ApiKey::Metadata => metadata::handle(broker, call, read_body(body, version)?),
        ApiKey::OffsetCommit => groups::offset_commit(broker, call, read_body(body, version)?),
        ApiKey::OffsetFetch => groups::offset_fetch(broker, call, read_body(body, version)?),
        ApiKey::FindCoordinator => find_coordinator::handle(broker, call, read_body(body, version)?),
        ApiKey::JoinGroup => groups::join_group(broker, call, read_body(body, version)?),
        ApiKey::Heartbeat => groups::heartbeat(broker, call, read_body(body, version)?),
        ApiKey::LeaveGroup => groups::leave_group(broker, call, read_body(body, version)?),
        ApiKey::SyncGroup => groups::sync_group(broker, call, read_body(body, version)?),
        ApiKey::DescribeGroups => groups::describe_groups(broker, call, read_body(body, version)?),
        ApiKey::ListGroups => groups::list_groups(broker, call, read_body(body, version)?),
        ApiKey::ApiVersions => api_versions::handle(broker, call, read_body(body, version)?),
        ApiKey::CreateTopics => create_topics::handle(broker, call, read_body(body, version)?),
        ApiKey::DeleteTopics => delete_topics::handle(broker, call, read_body(body, version)?),
        ApiKey::DeleteRecords => delete_records::handle(broker, call, read_body(body, version)?),
        ApiKey::InitProducerId => init_producer_id::handle(broker, call, read_body(body, version)?),
        ApiKey::OffsetForLeaderEpoch => {
            offset_for_leader_epoch::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::DescribeConfigs => describe_configs::handle(broker, call, read_body(body, version)?),
        ApiKey::AlterConfigs => alter_configs::handle(broker, call, read_body(body, version)?),
        ApiKey::AlterReplicaLogDirs => {
            alter_replica_log_dirs::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::DescribeLogDirs => describe_log_dirs::handle(broker, call, read_body(body, version)?),
        ApiKey::CreatePartitions => create_partitions::handle(broker, call, read_body(body, version)?),
        ApiKey::DeleteGroups => groups::delete_groups(broker, call, read_body(body, version)?),
        ApiKey::IncrementalAlterConfigs => {
            incremental_alter_configs::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::OffsetDelete => groups::offset_delete(broker, call, read_body(body, version)?),
        ApiKey::DescribeQuorum => describe_quorum::handle(broker, call, read_body(body, version)?),
        ApiKey::DescribeCluster => describe_cluster::handle(broker, call, read_body(body, version)?),
        ApiKey::DescribeProducers => describe_producers::handle(broker, call, read_body(body, version)?),
        ApiKey::ConsumerGroupHeartbeat => {
            consumer_group_heartbeat::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::ConsumerGroupDescribe => {
            consumer_group_describe::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::DescribeTopicPartitions => {
            describe_topic_partitions::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::DescribeAcls => describe_acls::handle(broker, call, read_body(body, version)?),
        ApiKey::CreateAcls => create_acls::handle(broker, call, read_body(body, version)?),
        ApiKey::DeleteAcls => delete_acls::handle(broker, call, read_body(body, version)?),
        ApiKey::CreateDelegationToken => delegation_tokens::create(broker, call, read_body(body, version)?),
        ApiKey::RenewDelegationToken => delegation_tokens::renew(broker, call, read_body(body, version)?),
        ApiKey::ExpireDelegationToken => delegation_tokens::expire(broker, call, read_body(body, version)?),
        ApiKey::DescribeDelegationToken => {
            delegation_tokens::describe(broker, call, read_body(body, version)?)
        }
        ApiKey::ElectLeaders => elect_leaders::handle(broker, call, read_body(body, version)?),
        ApiKey::AlterPartitionReassignments => {
            alter_partition_reassignments::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::ListPartitionReassignments => {
            list_partition_reassignments::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::DescribeClientQuotas => {
            describe_client_quotas::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::AlterClientQuotas => alter_client_quotas::handle(broker, call, read_body(body, version)?),
        ApiKey::DescribeUserScramCredentials => {
            describe_user_scram_credentials::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::AlterUserScramCredentials => {
            alter_user_scram_credentials::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::GetTelemetrySubscriptions => {
            get_telemetry_subscriptions::handle(telemetry(broker), call, read_body(body, version)?)
        }
        ApiKey::PushTelemetry => push_telemetry::handle(telemetry(broker), call, read_body(body, version)?),
        ApiKey::UpdateFeatures => update_features::handle(broker, call, read_body(body, version)?),
        ApiKey::UnregisterBroker => unregister_broker::handle(broker, call, read_body(body, version)?),
        ApiKey::UnregisterController => {
            unregister_controller::handle(broker, call, read_body(body, version)?)
        }
        ApiKey::ListConfigResources => list_config_resources::handle(broker, call, read_body(body, version)?),
        other => unreachable!("{other:?} is not in the table of what is served"),
    }
    Ok(())
}

fn telemetry(broker: &Broker) -> &Telemetry {
    broker.telemetry.as_ref().expect("these APIs are served only with it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_served_that_the_protocol_does_not_have() {
        for &(key, min, max) in SERVED {
            assert!(key.min_version() <= min && min <= max && max <= key.max_version(), "{key:?}");
        }
        assert!(SERVED.is_sorted_by_key(|served| served.0 as i16));
    }
}
