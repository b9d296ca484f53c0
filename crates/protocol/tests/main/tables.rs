//! What is said of APIs and error codes, beside what is known of Kafka 4.4.

use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::produce_request::ProduceRequest;
use ottla_protocol::{ApiKey, ErrorCode, Listener, Message, Request};

#[test]
fn all_apis_of_kafka_4_4() {
    assert_eq!(ApiKey::ALL.len(), 91);
    let missing: Vec<i16> = (0..=95).filter(|key| ApiKey::from_i16(*key).is_none()).collect();
    assert_eq!(missing, [4, 5, 6, 7, 95]);
    for key in [-1, i16::MIN, i16::MAX] {
        assert_eq!(ApiKey::from_i16(key), None);
    }
    for api in ApiKey::ALL {
        assert_eq!(ApiKey::from_i16(api.code()), Some(api));
        assert!(api.min_version() <= api.max_version());
        assert!(!api.listeners().is_empty(), "{api}");
    }
}

#[test]
fn versions_that_clients_are_told() {
    let cases = [
        (ApiKey::Produce, 3, 13),
        (ApiKey::Fetch, 4, 18),
        (ApiKey::ListOffsets, 1, 11),
        (ApiKey::Metadata, 0, 13),
        (ApiKey::OffsetCommit, 2, 10),
        (ApiKey::ApiVersions, 0, 5),
        (ApiKey::InitProducerId, 0, 5),
        (ApiKey::ShareGroupHeartbeat, 1, 1),
        (ApiKey::StreamsGroupDescribe, 0, 1),
    ];
    for (api, min, max) in cases {
        assert_eq!((api.min_version(), api.max_version()), (min, max), "{api}");
    }
    let unstable: Vec<ApiKey> =
        ApiKey::ALL.into_iter().filter(|api| api.max_version_unstable() != api.max_version()).collect();
    assert_eq!(unstable, [ApiKey::InitProducerId]);
    assert!(ApiKey::InitProducerId.supports(5) && !ApiKey::InitProducerId.supports(6));
}

#[test]
fn headers() {
    assert_eq!(
        (ApiKey::Produce.request_header_version(8), ApiKey::Produce.response_header_version(8)),
        (1, 0)
    );
    assert_eq!(
        (ApiKey::Produce.request_header_version(9), ApiKey::Produce.response_header_version(9)),
        (2, 1)
    );
    for version in 0..=6 {
        assert_eq!(ApiKey::ApiVersions.response_header_version(version), 0);
    }
    assert_eq!(ApiKey::ApiVersions.request_header_version(99), 2);
    assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    assert_eq!(ApiKey::Vote.request_header_version(0), 2);
}

#[test]
fn listeners() {
    assert_eq!(ApiKey::Fetch.listeners(), [Listener::Broker, Listener::Controller]);
    assert!(!ApiKey::Vote.is_served_by(Listener::Broker) && ApiKey::Vote.is_served_by(Listener::Controller));
    assert!(!ApiKey::Metadata.is_served_by(Listener::Controller));
}

#[test]
fn a_request_knows_its_key_and_its_answer() {
    fn answer<'a, R: Request<'a>>() -> (ApiKey, &'static str) {
        (R::KEY, <R::Response<'a> as Message<'a>>::NAME)
    }
    assert_eq!(answer::<ProduceRequest<'_>>(), (ApiKey::Produce, "ProduceResponse"));
    assert_eq!(answer::<ApiVersionsRequest<'_>>(), (ApiKey::ApiVersions, "ApiVersionsResponse"));
}

#[test]
fn errors_have_kafkas_numbers() {
    let cases = [
        (ErrorCode::UnknownServerError, -1, "UNKNOWN_SERVER_ERROR"),
        (ErrorCode::None, 0, "NONE"),
        (ErrorCode::InvalidTopicException, 17, "INVALID_TOPIC_EXCEPTION"),
        (ErrorCode::UnsupportedVersion, 35, "UNSUPPORTED_VERSION"),
        (ErrorCode::InvalidProducerEpoch, 47, "INVALID_PRODUCER_EPOCH"),
        (ErrorCode::KafkaStorageError, 56, "KAFKA_STORAGE_ERROR"),
        (ErrorCode::ProducerFenced, 90, "PRODUCER_FENCED"),
        (ErrorCode::UnknownTopicId, 100, "UNKNOWN_TOPIC_ID"),
        (ErrorCode::OffsetMovedToTieredStorage, 109, "OFFSET_MOVED_TO_TIERED_STORAGE"),
        (ErrorCode::ControllerIdNotRegistered, 136, "CONTROLLER_ID_NOT_REGISTERED"),
    ];
    for (error, code, name) in cases {
        assert_eq!((error.code(), error.name()), (code, name));
        assert_eq!(ErrorCode::from_code(code), error);
        assert_eq!(i16::from(error), code);
    }
}
