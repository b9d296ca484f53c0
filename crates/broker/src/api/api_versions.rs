//! ApiVersions 0-5 (KIP-35, KIP-511, KIP-584): what this node serves, and the features that are finalised.
//!
//! Two oddities keep old and new clients alive: the answer to an unknown version comes in version 0, and Produce is listed from
//! version 0 although only 3 and later are served (KAFKA-18659).

use ottla_metadata::features::{self, KRAFT_VERSION};
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_protocol::{ApiKey, ErrorCode, Listener};

use crate::Broker;
use crate::api::{SERVED, is_served_at, is_served_by};
use crate::call::{Call, ReplyTo};
use crate::effect::Effects;

/// Up to this version a supported minimum of 0 breaks clients (KAFKA-17492): such features are left out.
const LAST_WITHOUT_ZERO_MINIMUM: i16 = 3;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ApiVersionsRequest<'_>) {
    let version = call.reply.version;
    if version >= 3
        && !(is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version))
    {
        return call.respond(&refused(ErrorCode::InvalidRequest));
    }
    let foreign_cluster = request.cluster_id.as_deref().is_some_and(|id| id != broker.cluster_id());
    let foreign_node = request.node_id >= 0 && request.node_id != broker.config().node_id;
    if version >= 5 && (foreign_cluster || foreign_node) {
        return call.respond(&refused(ErrorCode::RebootstrapRequired));
    }
    let image = broker.image();
    let of_controllers = broker.is_controller_listener(&call.connection.listener);
    let listener = if of_controllers { Listener::Controller } else { Listener::Broker };
    let supported =
        features::supported().filter(|(_, min, _)| version > LAST_WITHOUT_ZERO_MINIMUM || *min > 0);
    let response = ApiVersionsResponse {
        api_keys: served(broker, listener),
        supported_features: supported
            .map(|(name, min_version, max_version)| SupportedFeatureKey {
                name: name.into(),
                min_version,
                max_version,
            })
            .collect(),
        finalized_features_epoch: image.last_offset(),
        finalized_features: image
            .features()
            .iter()
            .map(|(name, level)| (&**name, *level))
            // That of the quorum is in no record of the image.
            .chain([(KRAFT_VERSION, broker.quorum.kraft_version())])
            .filter(|(_, level)| *level > 0)
            .map(|(name, level)| FinalizedFeatureKey {
                name: name.to_owned().into(),
                max_version_level: level,
                min_version_level: level,
            })
            .collect(),
        ..Default::default()
    };
    call.respond(&response);
}

/// Answers a version that this node does not know: version 0, the error, and the versions that it does know (KIP-511).
pub(crate) fn unsupported(broker: &Broker, reply: ReplyTo, out: &mut Effects) {
    let mut response = refused(ErrorCode::UnsupportedVersion);
    response.api_keys = served(broker, Listener::Broker)
        .into_iter()
        .filter(|it| it.api_key == ApiKey::ApiVersions as i16)
        .collect();
    ReplyTo { version: 0, ..reply }.send(&response, out);
}

fn refused(error: ErrorCode) -> ApiVersionsResponse<'static> {
    ApiVersionsResponse { error_code: error.code(), ..Default::default() }
}

fn served(broker: &Broker, listener: Listener) -> Vec<ApiVersion> {
    let listed_min = |key: ApiKey, min: i16| if key == ApiKey::Produce { 0 } else { min };
    SERVED
        .iter()
        .filter(|(key, _, _)| is_served_at(*key, listener, false) && is_served_by(broker, *key))
        .map(|&(key, min, max)| ApiVersion {
            api_key: key as i16,
            min_version: listed_min(key, min),
            max_version: max,
        })
        .collect()
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`, as in KIP-511.
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
