//! The error codes of Kafka 4.4, and a sentence for each.
//!
//! Codes are part of the protocol and never change their number. Responses carry them as plain `i16`, because a peer may
//! be newer than we are; [`ErrorCode`] is what our own code decides with.

/// What went wrong, as the wire says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum ErrorCode {
    /// Something went wrong in the server that no other code describes.
    UnknownServerError = -1,
    /// No error.
    #[default]
    None = 0,
    /// The offset lies outside of what the partition holds.
    OffsetOutOfRange = 1,
    /// A record batch is damaged: its checksum, size or layout is wrong, or a compacted topic got a record without key.
    CorruptMessage = 2,
    /// This server has no such topic or partition.
    UnknownTopicOrPartition = 3,
    /// The fetch size is not valid.
    InvalidFetchSize = 4,
    /// The partition has no leader at the moment.
    LeaderNotAvailable = 5,
    /// This broker does not lead the partition, or holds no replica of it.
    NotLeaderOrFollower = 6,
    /// The request took longer than it was given.
    RequestTimedOut = 7,
    /// The broker is not available.
    BrokerNotAvailable = 8,
    /// This broker holds no replica of the partition that could answer.
    ReplicaNotAvailable = 9,
    /// A record batch is larger than the topic admits.
    MessageTooLarge = 10,
    /// The controller has been replaced by another.
    StaleControllerEpoch = 11,
    /// The text stored with a committed offset is too long.
    OffsetMetadataTooLarge = 12,
    /// The server hung up before it answered.
    NetworkException = 13,
    /// The coordinator is still loading its state.
    CoordinatorLoadInProgress = 14,
    /// There is no coordinator at the moment.
    CoordinatorNotAvailable = 15,
    /// This broker does not coordinate that group or transaction.
    NotCoordinator = 16,
    /// The topic name is not valid, or the operation is not allowed on this topic.
    InvalidTopicException = 17,
    /// A record batch is larger than a segment of the log.
    RecordListTooLarge = 18,
    /// Fewer replicas are in sync than the topic requires; nothing was written.
    NotEnoughReplicas = 19,
    /// The records were written, but to fewer in-sync replicas than the topic requires.
    NotEnoughReplicasAfterAppend = 20,
    /// The acks of a produce request must be -1, 0 or 1.
    InvalidRequiredAcks = 21,
    /// The generation of the group has passed.
    IllegalGeneration = 22,
    /// The member has no protocol in common with the rest of the group.
    InconsistentGroupProtocol = 23,
    /// The group id is not valid.
    InvalidGroupId = 24,
    /// The group has no such member.
    UnknownMemberId = 25,
    /// The session timeout lies outside of what the broker allows.
    InvalidSessionTimeout = 26,
    /// The group is rebalancing; join again.
    RebalanceInProgress = 27,
    /// The committed offset takes more room than a record may.
    InvalidCommitOffsetSize = 28,
    /// Not allowed for this topic.
    TopicAuthorizationFailed = 29,
    /// Not allowed for this group.
    GroupAuthorizationFailed = 30,
    /// Not allowed for the cluster.
    ClusterAuthorizationFailed = 31,
    /// A record's timestamp is too far from the present.
    InvalidTimestamp = 32,
    /// The server does not offer this SASL mechanism.
    UnsupportedSaslMechanism = 33,
    /// The request does not fit the state of the authentication.
    IllegalSaslState = 34,
    /// The server does not have this version of the API.
    UnsupportedVersion = 35,
    /// A topic of this name exists already.
    TopicAlreadyExists = 36,
    /// The number of partitions is not valid.
    InvalidPartitions = 37,
    /// The replication factor is not positive, or larger than the number of brokers.
    InvalidReplicationFactor = 38,
    /// The assignment of replicas is not valid.
    InvalidReplicaAssignment = 39,
    /// A configuration value is not valid.
    InvalidConfig = 40,
    /// This node is not the active controller.
    NotController = 41,
    /// The request makes no sense.
    InvalidRequest = 42,
    /// The format of the records does not allow this.
    UnsupportedForMessageFormat = 43,
    /// A policy of the cluster forbids this.
    PolicyViolation = 44,
    /// The producer's sequence numbers have a gap.
    OutOfOrderSequenceNumber = 45,
    /// The producer's sequence number has been used before.
    DuplicateSequenceNumber = 46,
    /// The producer's epoch is too old.
    InvalidProducerEpoch = 47,
    /// The state of the transaction does not allow this.
    InvalidTxnState = 48,
    /// The producer id does not belong to this transactional id.
    InvalidProducerIdMapping = 49,
    /// The transaction timeout is not positive, or longer than the broker allows.
    InvalidTransactionTimeout = 50,
    /// The transactional id is busy with another operation.
    ConcurrentTransactions = 51,
    /// The transaction coordinator has been replaced by another.
    TransactionCoordinatorFenced = 52,
    /// Not allowed for this transactional id.
    TransactionalIdAuthorizationFailed = 53,
    /// The cluster has no security features enabled.
    SecurityDisabled = 54,
    /// This part of the request was not attempted, because another part failed.
    OperationNotAttempted = 55,
    /// The disk of the log failed.
    KafkaStorageError = 56,
    /// The broker has no such log directory.
    LogDirNotFound = 57,
    /// The authentication failed.
    SaslAuthenticationFailed = 58,
    /// The partition knows nothing of this producer id.
    UnknownProducerId = 59,
    /// The partition is being reassigned.
    ReassignmentInProgress = 60,
    /// Delegation tokens are not enabled.
    DelegationTokenAuthDisabled = 61,
    /// There is no such delegation token.
    DelegationTokenNotFound = 62,
    /// The delegation token belongs to somebody else.
    DelegationTokenOwnerMismatch = 63,
    /// Delegation tokens can not be handled over a connection authenticated in this way.
    DelegationTokenRequestNotAllowed = 64,
    /// Not allowed for this delegation token.
    DelegationTokenAuthorizationFailed = 65,
    /// The delegation token has expired.
    DelegationTokenExpired = 66,
    /// Principals of this type are not supported here.
    InvalidPrincipalType = 67,
    /// The group has members.
    NonEmptyGroup = 68,
    /// There is no such group.
    GroupIdNotFound = 69,
    /// There is no such fetch session.
    FetchSessionIdNotFound = 70,
    /// The epoch of the fetch session is not the expected one.
    InvalidFetchSessionEpoch = 71,
    /// The leader has no listener of the name that the request came through.
    ListenerNotFound = 72,
    /// Deleting topics is disabled.
    TopicDeletionDisabled = 73,
    /// The leader epoch is older than that of the broker.
    FencedLeaderEpoch = 74,
    /// The leader epoch is newer than that of the broker.
    UnknownLeaderEpoch = 75,
    /// The client's version does not know the compression of the records.
    UnsupportedCompressionType = 76,
    /// The epoch of the broker is not that of its registration.
    StaleBrokerEpoch = 77,
    /// The leader does not know the high watermark yet.
    OffsetNotAvailable = 78,
    /// Join again with the member id of this response.
    MemberIdRequired = 79,
    /// The preferred leader can not lead now.
    PreferredLeaderNotAvailable = 80,
    /// The group has as many members as it may.
    GroupMaxSizeReached = 81,
    /// Another member has taken over this instance id.
    FencedInstanceId = 82,
    /// No replica is eligible to lead.
    EligibleLeadersNotAvailable = 83,
    /// The partition has the right leader already.
    ElectionNotNeeded = 84,
    /// The partition is not being reassigned.
    NoReassignmentInProgress = 85,
    /// A member of the group still reads this topic.
    GroupSubscribedToTopic = 86,
    /// A record was refused by the broker.
    InvalidRecord = 87,
    /// A transaction with offsets of this group is still open.
    UnstableOffsetCommit = 88,
    /// The quota is used up for now.
    ThrottlingQuotaExceeded = 89,
    /// A newer producer has the same transactional id.
    ProducerFenced = 90,
    /// There is no such resource.
    ResourceNotFound = 91,
    /// The request names a resource twice.
    DuplicateResource = 92,
    /// The credential does not meet the requirements.
    UnacceptableCredential = 93,
    /// The set of voters is not that of the receiver.
    InconsistentVoterSet = 94,
    /// The version of the state to be updated is not the present one.
    InvalidUpdateVersion = 95,
    /// The features could not be updated.
    FeatureUpdateFailed = 96,
    /// The principal of a forwarded request can not be read.
    PrincipalDeserializationFailure = 97,
    /// There is no such snapshot.
    SnapshotNotFound = 98,
    /// The position lies outside of the snapshot.
    PositionOutOfRange = 99,
    /// This server has no topic of this id.
    UnknownTopicId = 100,
    /// Another live broker is registered with this id.
    DuplicateBrokerRegistration = 101,
    /// No broker of this id is registered.
    BrokerIdNotRegistered = 102,
    /// The topic id is not that of the partition's log.
    InconsistentTopicId = 103,
    /// The cluster id is not that of this cluster.
    InconsistentClusterId = 104,
    /// There is no such transactional id.
    TransactionalIdNotFound = 105,
    /// The fetch session mixes topic ids and topic names.
    FetchSessionTopicIdError = 106,
    /// A replica of the new in-sync set may not be in it.
    IneligibleReplica = 107,
    /// The change of partition state elected a new leader.
    NewLeaderElected = 108,
    /// The offset is no longer on local disks but in remote storage.
    OffsetMovedToTieredStorage = 109,
    /// The member epoch is fenced; join again.
    FencedMemberEpoch = 110,
    /// The instance id is still held by another member.
    UnreleasedInstanceId = 111,
    /// The group has no such assignor, or its members do not share one.
    UnsupportedAssignor = 112,
    /// The member epoch is out of date; retry with the new one.
    StaleMemberEpoch = 113,
    /// The request went to the wrong kind of endpoint.
    MismatchedEndpointType = 114,
    /// This kind of endpoint is not supported.
    UnsupportedEndpointType = 115,
    /// There is no such controller.
    UnknownControllerId = 116,
    /// The telemetry subscription is not the present one.
    UnknownSubscriptionId = 117,
    /// The telemetry payload is larger than the broker admits.
    TelemetryTooLarge = 118,
    /// The registration of the broker does not fit the cluster.
    InvalidRegistration = 119,
    /// The transaction has failed and must be aborted.
    TransactionAbortable = 120,
    /// The records are in a state that does not allow this acknowledgement.
    InvalidRecordState = 121,
    /// There is no such share session.
    ShareSessionNotFound = 122,
    /// The epoch of the share session is not the expected one.
    InvalidShareSessionEpoch = 123,
    /// The share coordinator's state has a newer epoch.
    FencedStateEpoch = 124,
    /// The id and directory of the voter are not those of the receiver.
    InvalidVoterKey = 125,
    /// The voter is in the set already.
    DuplicateVoter = 126,
    /// The set has no such voter.
    VoterNotFound = 127,
    /// The regular expression is not valid.
    InvalidRegularExpression = 128,
    /// The client must fetch its metadata anew from the bootstrap servers.
    RebootstrapRequired = 129,
    /// The topology of the streams application is not valid.
    StreamsInvalidTopology = 130,
    /// The topology epoch of the streams group is not valid.
    StreamsInvalidTopologyEpoch = 131,
    /// The topology epoch of the streams group has passed.
    StreamsTopologyFenced = 132,
    /// There are as many share sessions as there may be.
    ShareSessionLimitReached = 133,
    /// The group could not be deleted in full.
    GroupDeletionFailed = 134,
    /// The topology description of the streams group could not be stored.
    StreamsTopologyDescriptionUpdateFailed = 135,
    /// No controller of this id is registered.
    ControllerIdNotRegistered = 136,
}

use ErrorCode::*;

/// Every code with Kafka's name and a sentence, by number, from -1 on.
static CODES: [(ErrorCode, &str, &str); 138] = [
    (
        UnknownServerError,
        "UNKNOWN_SERVER_ERROR",
        "Something went wrong in the server that no other code describes.",
    ),
    (None, "NONE", "No error."),
    (OffsetOutOfRange, "OFFSET_OUT_OF_RANGE", "The offset lies outside of what the partition holds."),
    (
        CorruptMessage,
        "CORRUPT_MESSAGE",
        "A record batch is damaged: its checksum, size or layout is wrong, or a compacted topic got a record without key.",
    ),
    (UnknownTopicOrPartition, "UNKNOWN_TOPIC_OR_PARTITION", "This server has no such topic or partition."),
    (InvalidFetchSize, "INVALID_FETCH_SIZE", "The fetch size is not valid."),
    (LeaderNotAvailable, "LEADER_NOT_AVAILABLE", "The partition has no leader at the moment."),
    (
        NotLeaderOrFollower,
        "NOT_LEADER_OR_FOLLOWER",
        "This broker does not lead the partition, or holds no replica of it.",
    ),
    (RequestTimedOut, "REQUEST_TIMED_OUT", "The request took longer than it was given."),
    (BrokerNotAvailable, "BROKER_NOT_AVAILABLE", "The broker is not available."),
    (
        ReplicaNotAvailable,
        "REPLICA_NOT_AVAILABLE",
        "This broker holds no replica of the partition that could answer.",
    ),
    (MessageTooLarge, "MESSAGE_TOO_LARGE", "A record batch is larger than the topic admits."),
    (StaleControllerEpoch, "STALE_CONTROLLER_EPOCH", "The controller has been replaced by another."),
    (
        OffsetMetadataTooLarge,
        "OFFSET_METADATA_TOO_LARGE",
        "The text stored with a committed offset is too long.",
    ),
    (NetworkException, "NETWORK_EXCEPTION", "The server hung up before it answered."),
    (
        CoordinatorLoadInProgress,
        "COORDINATOR_LOAD_IN_PROGRESS",
        "The coordinator is still loading its state.",
    ),
    (CoordinatorNotAvailable, "COORDINATOR_NOT_AVAILABLE", "There is no coordinator at the moment."),
    (NotCoordinator, "NOT_COORDINATOR", "This broker does not coordinate that group or transaction."),
    (
        InvalidTopicException,
        "INVALID_TOPIC_EXCEPTION",
        "The topic name is not valid, or the operation is not allowed on this topic.",
    ),
    (RecordListTooLarge, "RECORD_LIST_TOO_LARGE", "A record batch is larger than a segment of the log."),
    (
        NotEnoughReplicas,
        "NOT_ENOUGH_REPLICAS",
        "Fewer replicas are in sync than the topic requires; nothing was written.",
    ),
    (
        NotEnoughReplicasAfterAppend,
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "The records were written, but to fewer in-sync replicas than the topic requires.",
    ),
    (InvalidRequiredAcks, "INVALID_REQUIRED_ACKS", "The acks of a produce request must be -1, 0 or 1."),
    (IllegalGeneration, "ILLEGAL_GENERATION", "The generation of the group has passed."),
    (
        InconsistentGroupProtocol,
        "INCONSISTENT_GROUP_PROTOCOL",
        "The member has no protocol in common with the rest of the group.",
    ),
    (InvalidGroupId, "INVALID_GROUP_ID", "The group id is not valid."),
    (UnknownMemberId, "UNKNOWN_MEMBER_ID", "The group has no such member."),
    (
        InvalidSessionTimeout,
        "INVALID_SESSION_TIMEOUT",
        "The session timeout lies outside of what the broker allows.",
    ),
    (RebalanceInProgress, "REBALANCE_IN_PROGRESS", "The group is rebalancing; join again."),
    (
        InvalidCommitOffsetSize,
        "INVALID_COMMIT_OFFSET_SIZE",
        "The committed offset takes more room than a record may.",
    ),
    (TopicAuthorizationFailed, "TOPIC_AUTHORIZATION_FAILED", "Not allowed for this topic."),
    (GroupAuthorizationFailed, "GROUP_AUTHORIZATION_FAILED", "Not allowed for this group."),
    (ClusterAuthorizationFailed, "CLUSTER_AUTHORIZATION_FAILED", "Not allowed for the cluster."),
    (InvalidTimestamp, "INVALID_TIMESTAMP", "A record's timestamp is too far from the present."),
    (
        UnsupportedSaslMechanism,
        "UNSUPPORTED_SASL_MECHANISM",
        "The server does not offer this SASL mechanism.",
    ),
    (IllegalSaslState, "ILLEGAL_SASL_STATE", "The request does not fit the state of the authentication."),
    (UnsupportedVersion, "UNSUPPORTED_VERSION", "The server does not have this version of the API."),
    (TopicAlreadyExists, "TOPIC_ALREADY_EXISTS", "A topic of this name exists already."),
    (InvalidPartitions, "INVALID_PARTITIONS", "The number of partitions is not valid."),
    (
        InvalidReplicationFactor,
        "INVALID_REPLICATION_FACTOR",
        "The replication factor is not positive, or larger than the number of brokers.",
    ),
    (InvalidReplicaAssignment, "INVALID_REPLICA_ASSIGNMENT", "The assignment of replicas is not valid."),
    (InvalidConfig, "INVALID_CONFIG", "A configuration value is not valid."),
    (NotController, "NOT_CONTROLLER", "This node is not the active controller."),
    (InvalidRequest, "INVALID_REQUEST", "The request makes no sense."),
    (
        UnsupportedForMessageFormat,
        "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        "The format of the records does not allow this.",
    ),
    (PolicyViolation, "POLICY_VIOLATION", "A policy of the cluster forbids this."),
    (OutOfOrderSequenceNumber, "OUT_OF_ORDER_SEQUENCE_NUMBER", "The producer's sequence numbers have a gap."),
    (
        DuplicateSequenceNumber,
        "DUPLICATE_SEQUENCE_NUMBER",
        "The producer's sequence number has been used before.",
    ),
    (InvalidProducerEpoch, "INVALID_PRODUCER_EPOCH", "The producer's epoch is too old."),
    (InvalidTxnState, "INVALID_TXN_STATE", "The state of the transaction does not allow this."),
    (
        InvalidProducerIdMapping,
        "INVALID_PRODUCER_ID_MAPPING",
        "The producer id does not belong to this transactional id.",
    ),
    (
        InvalidTransactionTimeout,
        "INVALID_TRANSACTION_TIMEOUT",
        "The transaction timeout is not positive, or longer than the broker allows.",
    ),
    (
        ConcurrentTransactions,
        "CONCURRENT_TRANSACTIONS",
        "The transactional id is busy with another operation.",
    ),
    (
        TransactionCoordinatorFenced,
        "TRANSACTION_COORDINATOR_FENCED",
        "The transaction coordinator has been replaced by another.",
    ),
    (
        TransactionalIdAuthorizationFailed,
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "Not allowed for this transactional id.",
    ),
    (SecurityDisabled, "SECURITY_DISABLED", "The cluster has no security features enabled."),
    (
        OperationNotAttempted,
        "OPERATION_NOT_ATTEMPTED",
        "This part of the request was not attempted, because another part failed.",
    ),
    (KafkaStorageError, "KAFKA_STORAGE_ERROR", "The disk of the log failed."),
    (LogDirNotFound, "LOG_DIR_NOT_FOUND", "The broker has no such log directory."),
    (SaslAuthenticationFailed, "SASL_AUTHENTICATION_FAILED", "The authentication failed."),
    (UnknownProducerId, "UNKNOWN_PRODUCER_ID", "The partition knows nothing of this producer id."),
    (ReassignmentInProgress, "REASSIGNMENT_IN_PROGRESS", "The partition is being reassigned."),
    (DelegationTokenAuthDisabled, "DELEGATION_TOKEN_AUTH_DISABLED", "Delegation tokens are not enabled."),
    (DelegationTokenNotFound, "DELEGATION_TOKEN_NOT_FOUND", "There is no such delegation token."),
    (
        DelegationTokenOwnerMismatch,
        "DELEGATION_TOKEN_OWNER_MISMATCH",
        "The delegation token belongs to somebody else.",
    ),
    (
        DelegationTokenRequestNotAllowed,
        "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
        "Delegation tokens can not be handled over a connection authenticated in this way.",
    ),
    (
        DelegationTokenAuthorizationFailed,
        "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
        "Not allowed for this delegation token.",
    ),
    (DelegationTokenExpired, "DELEGATION_TOKEN_EXPIRED", "The delegation token has expired."),
    (InvalidPrincipalType, "INVALID_PRINCIPAL_TYPE", "Principals of this type are not supported here."),
    (NonEmptyGroup, "NON_EMPTY_GROUP", "The group has members."),
    (GroupIdNotFound, "GROUP_ID_NOT_FOUND", "There is no such group."),
    (FetchSessionIdNotFound, "FETCH_SESSION_ID_NOT_FOUND", "There is no such fetch session."),
    (
        InvalidFetchSessionEpoch,
        "INVALID_FETCH_SESSION_EPOCH",
        "The epoch of the fetch session is not the expected one.",
    ),
    (
        ListenerNotFound,
        "LISTENER_NOT_FOUND",
        "The leader has no listener of the name that the request came through.",
    ),
    (TopicDeletionDisabled, "TOPIC_DELETION_DISABLED", "Deleting topics is disabled."),
    (FencedLeaderEpoch, "FENCED_LEADER_EPOCH", "The leader epoch is older than that of the broker."),
    (UnknownLeaderEpoch, "UNKNOWN_LEADER_EPOCH", "The leader epoch is newer than that of the broker."),
    (
        UnsupportedCompressionType,
        "UNSUPPORTED_COMPRESSION_TYPE",
        "The client's version does not know the compression of the records.",
    ),
    (StaleBrokerEpoch, "STALE_BROKER_EPOCH", "The epoch of the broker is not that of its registration."),
    (OffsetNotAvailable, "OFFSET_NOT_AVAILABLE", "The leader does not know the high watermark yet."),
    (MemberIdRequired, "MEMBER_ID_REQUIRED", "Join again with the member id of this response."),
    (PreferredLeaderNotAvailable, "PREFERRED_LEADER_NOT_AVAILABLE", "The preferred leader can not lead now."),
    (GroupMaxSizeReached, "GROUP_MAX_SIZE_REACHED", "The group has as many members as it may."),
    (FencedInstanceId, "FENCED_INSTANCE_ID", "Another member has taken over this instance id."),
    (EligibleLeadersNotAvailable, "ELIGIBLE_LEADERS_NOT_AVAILABLE", "No replica is eligible to lead."),
    (ElectionNotNeeded, "ELECTION_NOT_NEEDED", "The partition has the right leader already."),
    (NoReassignmentInProgress, "NO_REASSIGNMENT_IN_PROGRESS", "The partition is not being reassigned."),
    (GroupSubscribedToTopic, "GROUP_SUBSCRIBED_TO_TOPIC", "A member of the group still reads this topic."),
    (InvalidRecord, "INVALID_RECORD", "A record was refused by the broker."),
    (
        UnstableOffsetCommit,
        "UNSTABLE_OFFSET_COMMIT",
        "A transaction with offsets of this group is still open.",
    ),
    (ThrottlingQuotaExceeded, "THROTTLING_QUOTA_EXCEEDED", "The quota is used up for now."),
    (ProducerFenced, "PRODUCER_FENCED", "A newer producer has the same transactional id."),
    (ResourceNotFound, "RESOURCE_NOT_FOUND", "There is no such resource."),
    (DuplicateResource, "DUPLICATE_RESOURCE", "The request names a resource twice."),
    (UnacceptableCredential, "UNACCEPTABLE_CREDENTIAL", "The credential does not meet the requirements."),
    (InconsistentVoterSet, "INCONSISTENT_VOTER_SET", "The set of voters is not that of the receiver."),
    (
        InvalidUpdateVersion,
        "INVALID_UPDATE_VERSION",
        "The version of the state to be updated is not the present one.",
    ),
    (FeatureUpdateFailed, "FEATURE_UPDATE_FAILED", "The features could not be updated."),
    (
        PrincipalDeserializationFailure,
        "PRINCIPAL_DESERIALIZATION_FAILURE",
        "The principal of a forwarded request can not be read.",
    ),
    (SnapshotNotFound, "SNAPSHOT_NOT_FOUND", "There is no such snapshot."),
    (PositionOutOfRange, "POSITION_OUT_OF_RANGE", "The position lies outside of the snapshot."),
    (UnknownTopicId, "UNKNOWN_TOPIC_ID", "This server has no topic of this id."),
    (
        DuplicateBrokerRegistration,
        "DUPLICATE_BROKER_REGISTRATION",
        "Another live broker is registered with this id.",
    ),
    (BrokerIdNotRegistered, "BROKER_ID_NOT_REGISTERED", "No broker of this id is registered."),
    (InconsistentTopicId, "INCONSISTENT_TOPIC_ID", "The topic id is not that of the partition's log."),
    (InconsistentClusterId, "INCONSISTENT_CLUSTER_ID", "The cluster id is not that of this cluster."),
    (TransactionalIdNotFound, "TRANSACTIONAL_ID_NOT_FOUND", "There is no such transactional id."),
    (
        FetchSessionTopicIdError,
        "FETCH_SESSION_TOPIC_ID_ERROR",
        "The fetch session mixes topic ids and topic names.",
    ),
    (IneligibleReplica, "INELIGIBLE_REPLICA", "A replica of the new in-sync set may not be in it."),
    (NewLeaderElected, "NEW_LEADER_ELECTED", "The change of partition state elected a new leader."),
    (
        OffsetMovedToTieredStorage,
        "OFFSET_MOVED_TO_TIERED_STORAGE",
        "The offset is no longer on local disks but in remote storage.",
    ),
    (FencedMemberEpoch, "FENCED_MEMBER_EPOCH", "The member epoch is fenced; join again."),
    (UnreleasedInstanceId, "UNRELEASED_INSTANCE_ID", "The instance id is still held by another member."),
    (
        UnsupportedAssignor,
        "UNSUPPORTED_ASSIGNOR",
        "The group has no such assignor, or its members do not share one.",
    ),
    (StaleMemberEpoch, "STALE_MEMBER_EPOCH", "The member epoch is out of date; retry with the new one."),
    (MismatchedEndpointType, "MISMATCHED_ENDPOINT_TYPE", "The request went to the wrong kind of endpoint."),
    (UnsupportedEndpointType, "UNSUPPORTED_ENDPOINT_TYPE", "This kind of endpoint is not supported."),
    (UnknownControllerId, "UNKNOWN_CONTROLLER_ID", "There is no such controller."),
    (UnknownSubscriptionId, "UNKNOWN_SUBSCRIPTION_ID", "The telemetry subscription is not the present one."),
    (TelemetryTooLarge, "TELEMETRY_TOO_LARGE", "The telemetry payload is larger than the broker admits."),
    (InvalidRegistration, "INVALID_REGISTRATION", "The registration of the broker does not fit the cluster."),
    (TransactionAbortable, "TRANSACTION_ABORTABLE", "The transaction has failed and must be aborted."),
    (
        InvalidRecordState,
        "INVALID_RECORD_STATE",
        "The records are in a state that does not allow this acknowledgement.",
    ),
    (ShareSessionNotFound, "SHARE_SESSION_NOT_FOUND", "There is no such share session."),
    (
        InvalidShareSessionEpoch,
        "INVALID_SHARE_SESSION_EPOCH",
        "The epoch of the share session is not the expected one.",
    ),
    (FencedStateEpoch, "FENCED_STATE_EPOCH", "The share coordinator's state has a newer epoch."),
    (
        InvalidVoterKey,
        "INVALID_VOTER_KEY",
        "The id and directory of the voter are not those of the receiver.",
    ),
    (DuplicateVoter, "DUPLICATE_VOTER", "The voter is in the set already."),
    (VoterNotFound, "VOTER_NOT_FOUND", "The set has no such voter."),
    (InvalidRegularExpression, "INVALID_REGULAR_EXPRESSION", "The regular expression is not valid."),
    (
        RebootstrapRequired,
        "REBOOTSTRAP_REQUIRED",
        "The client must fetch its metadata anew from the bootstrap servers.",
    ),
    (
        StreamsInvalidTopology,
        "STREAMS_INVALID_TOPOLOGY",
        "The topology of the streams application is not valid.",
    ),
    (
        StreamsInvalidTopologyEpoch,
        "STREAMS_INVALID_TOPOLOGY_EPOCH",
        "The topology epoch of the streams group is not valid.",
    ),
    (StreamsTopologyFenced, "STREAMS_TOPOLOGY_FENCED", "The topology epoch of the streams group has passed."),
    (
        ShareSessionLimitReached,
        "SHARE_SESSION_LIMIT_REACHED",
        "There are as many share sessions as there may be.",
    ),
    (GroupDeletionFailed, "GROUP_DELETION_FAILED", "The group could not be deleted in full."),
    (
        StreamsTopologyDescriptionUpdateFailed,
        "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED",
        "The topology description of the streams group could not be stored.",
    ),
    (ControllerIdNotRegistered, "CONTROLLER_ID_NOT_REGISTERED", "No controller of this id is registered."),
];

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The error of that number; one that is not known is [`ErrorCode::UnknownServerError`], as in Kafka's clients.
    pub fn from_code(code: i16) -> ErrorCode {
        let place = usize::try_from(i32::from(code) + 1).ok();
        place.and_then(|place| CODES.get(place)).map_or(UnknownServerError, |(error, _, _)| *error)
    }

    /// Kafka's name, for instance `UNKNOWN_TOPIC_OR_PARTITION`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// A sentence for people. Clients have their own and show it instead wherever a response has no text.
    pub fn message(self) -> &'static str {
        self.row().2
    }

    /// Is it none?
    pub fn is_none(self) -> bool {
        self == ErrorCode::None
    }

    fn row(self) -> &'static (ErrorCode, &'static str, &'static str) {
        &CODES[(self as i16 + 1) as usize]
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> i16 {
        error.code()
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_numbers() {
        for (place, (error, name, _)) in CODES.iter().enumerate() {
            assert_eq!(error.code(), place as i16 - 1, "{name}");
            assert_eq!(ErrorCode::from_code(error.code()), *error);
        }
        assert_eq!(ErrorCode::from_code(137), UnknownServerError);
        assert_eq!(ErrorCode::from_code(i16::MIN), UnknownServerError);
        assert_eq!(UnknownTopicOrPartition.to_string(), "UNKNOWN_TOPIC_OR_PARTITION");
    }
}
