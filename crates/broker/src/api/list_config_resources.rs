//! ListConfigResources 0-1: what configurations can belong to (KIP-1000, KIP-1142). Version 0 knows client metrics alone.

use ottla_metadata::{Image, ResourceType};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use ottla_protocol::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};

use crate::Broker;
use crate::call::Call;

/// In the order in which they are listed, as in Kafka.
const KINDS: [ResourceType; 5] = [
    ResourceType::GROUP,
    ResourceType::CLIENT_METRICS,
    ResourceType::BROKER_LOGGER,
    ResourceType::BROKER,
    ResourceType::TOPIC,
];

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ListConfigResourcesRequest) {
    let known: &[ResourceType] = match call.reply.version {
        0 => &[ResourceType::CLIENT_METRICS],
        _ => &KINDS,
    };
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !known.contains(&ResourceType(*kind))) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return call.respond(&ListConfigResourcesResponse { error_code, ..Default::default() });
    }
    let image = broker.image();
    let wanted = known.iter().filter(|kind| asked.is_empty() || asked.contains(&kind.0));
    let resources = wanted.flat_map(|kind| names(&image, *kind).map(|name| (*kind, name)));
    let config_resources =
        resources.map(|(kind, name)| ConfigResource { resource_name: name.into(), resource_type: kind.0 });
    let config_resources = config_resources.collect();
    call.respond(&ListConfigResourcesResponse { config_resources, ..Default::default() });
}

fn names(image: &Image, kind: ResourceType) -> Box<dyn Iterator<Item = String> + '_> {
    match kind {
        ResourceType::TOPIC => Box::new(image.topics_by_name().map(|topic| topic.name.to_string())),
        ResourceType::BROKER | ResourceType::BROKER_LOGGER => {
            let alive = image.brokers().values().filter(|broker| !broker.fenced);
            Box::new(alive.map(|broker| broker.id.to_string()))
        }
        _ => Box::new(image.configs(kind).map(|(name, _)| name.to_string())),
    }
}
