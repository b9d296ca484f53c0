//! DescribeConfigs 1-4: every key of a resource with its value, where the value comes from, and what else could give it.
//!
//! Resources: topics (2), this broker (4), its loggers (8), client metrics (16) and groups (32). An empty broker name asks for the defaults of all brokers; a group has a
//! configuration whether or not it exists.

use ottla_metadata::ResourceType;
use ottla_metadata::config::{
    ConfigEntry, ConfigSource, describe_broker, describe_broker_defaults, describe_client_metrics,
    describe_group, describe_topic,
};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

use crate::Broker;
use crate::call::Call;
use crate::loggers::LogLevel;

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeConfigsRequest<'_>) {
    let results = request.resources.iter().map(|asked| {
        let (entries, error, message) = match entries(broker, asked) {
            Ok(entries) => (entries, ErrorCode::None, None),
            Err((error, message)) => (Vec::new(), error, Some(message)),
        };
        let wanted = |entry: &ConfigEntry| {
            let keys = asked.configuration_keys.as_ref();
            keys.is_none_or(|keys| keys.iter().any(|key| **key == entry.name))
        };
        let told = entries.into_iter().filter(wanted);
        DescribeConfigsResult {
            error_code: error.code(),
            error_message: message.map(Into::into),
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            configs: told
                .map(|entry| tell(entry, request.include_synonyms, request.include_documentation))
                .collect(),
        }
    });
    let response = DescribeConfigsResponse { results: results.collect(), ..Default::default() };
    call.respond(&response);
}

fn entries(
    broker: &Broker,
    asked: &DescribeConfigsResource<'_>,
) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
    let image = broker.image();
    let name = &*asked.resource_name;
    let kind = ResourceType(asked.resource_type);
    match kind {
        ResourceType::TOPIC => {
            if let Err(error) = ottla_metadata::topic_name::validate(name) {
                return Err((ErrorCode::InvalidTopicException, error.to_string()));
            }
            if image.topic_by_name(name).is_none() {
                return Err((ErrorCode::UnknownTopicOrPartition, format!("There is no topic '{name}'.")));
            }
            let overrides =
                image.config(ResourceType::TOPIC, name).map(|map| (**map).clone()).unwrap_or_default();
            Ok(describe_topic(&overrides, &broker.live_config().layers))
        }
        ResourceType::BROKER if name.is_empty() => {
            let defaults =
                image.config(ResourceType::BROKER, "").map(|map| (**map).clone()).unwrap_or_default();
            Ok(describe_broker_defaults(&defaults))
        }
        ResourceType::BROKER if name.parse() == Ok(broker.config().node_id) => {
            Ok(describe_broker(&broker.live_config()))
        }
        ResourceType::BROKER => {
            let id = broker.config().node_id;
            Err((
                ErrorCode::InvalidRequest,
                format!("This is broker {id}; ask broker '{name}' for its configuration."),
            ))
        }
        ResourceType::GROUP if name.is_empty() => Err((
            ErrorCode::InvalidRequest,
            "A group needs a name: there is no default for all groups.".to_owned(),
        )),
        ResourceType::GROUP => {
            let overrides =
                image.config(ResourceType::GROUP, name).map(|map| (**map).clone()).unwrap_or_default();
            Ok(describe_group(&overrides, &broker.live_config()))
        }
        ResourceType::BROKER_LOGGER if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "Broker id must not be empty".to_owned()))
        }
        ResourceType::BROKER_LOGGER if name.parse() == Ok(broker.config().node_id) => {
            Ok(broker.loggers.list().into_iter().map(|(name, level)| logger(name, level)).collect())
        }
        ResourceType::BROKER_LOGGER => {
            let id = broker.config().node_id;
            let message = format!("Unexpected broker id, expected {id} but received {name}");
            Err((ErrorCode::InvalidRequest, message))
        }
        ResourceType::CLIENT_METRICS if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "Client metrics subscription name must not be empty".to_owned()))
        }
        ResourceType::CLIENT_METRICS => {
            let overrides = image.config(kind, name).map(|map| (**map).clone()).unwrap_or_default();
            Ok(describe_client_metrics(&overrides))
        }
        other => {
            Err((ErrorCode::InvalidRequest, format!("Resources of type {} are not served.", other.name())))
        }
    }
}

/// The level of a logger; nobody knows where it comes from.
fn logger(name: String, level: LogLevel) -> ConfigEntry {
    ConfigEntry {
        name,
        value: Some(level.name().to_owned()),
        source: ConfigSource::BrokerLogger,
        read_only: false,
        sensitive: false,
        config_type: None,
        documentation: None,
        synonyms: Vec::new(),
    }
}

fn tell(entry: ConfigEntry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult<'static> {
    let config_type = entry.type_code();
    let synonyms = entry.synonyms.into_iter().filter(|_| synonyms).map(|synonym| DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.map(Into::into),
        source: synonym.source as i8,
    });
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: entry.sensitive,
        synonyms: synonyms.collect(),
        config_type,
        documentation: entry.documentation.filter(|_| documentation).map(Into::into),
    }
}
