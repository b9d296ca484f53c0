//! The rules for configurations, less what this version can do at its start alone. What nobody acts upon is taken and kept, as it is at
//! the start, and the node says so.

use ottla_controller::{ApiError, ConfigRules, EffectiveConfig, TableRules};
use ottla_metadata::config::check_live_broker_config;
use ottla_metadata::{ConfigMap, Image, ResourceType};
use ottla_protocol::ErrorCode;

use crate::telemetry::parse_match;

/// The tables' rules, for topics, brokers, groups and client metrics.
#[derive(Debug)]
pub(crate) struct ServedRules(pub TableRules);

impl ConfigRules for ServedRules {
    fn validate(
        &self,
        image: &Image,
        kind: ResourceType,
        resource: &str,
        values: &ConfigMap,
    ) -> Result<(), ApiError> {
        match kind {
            ResourceType::TOPIC => self.0.validate(image, kind, resource, values),
            _ if values.is_empty() => Ok(()),
            ResourceType::BROKER => {
                self.0.validate(image, kind, resource, values)?;
                let live = values.keys().try_for_each(|key| check_live_broker_config(key));
                live.map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.to_string()))?;
                self.0.validate_together(image, resource, values)
            }
            ResourceType::GROUP => self.0.validate(image, kind, resource, values),
            ResourceType::CLIENT_METRICS => {
                self.0.validate(image, kind, resource, values)?;
                let parsed = parse_match(values.get("match").map_or("", String::as_str));
                parsed.map(drop).map_err(|message| ApiError::new(ErrorCode::InvalidConfig, message))
            }
            other => {
                let message = format!("Configurations of {} resources are not served.", other.name());
                Err(ApiError::new(ErrorCode::InvalidConfig, message))
            }
        }
    }

    fn is_list(&self, kind: ResourceType, key: &str) -> bool {
        self.0.is_list(kind, key)
    }

    fn inherited(&self, image: &Image, kind: ResourceType, key: &str) -> Option<String> {
        self.0.inherited(image, kind, key)
    }

    fn effective_topic_config(&self, image: &Image, values: &ConfigMap) -> Vec<EffectiveConfig> {
        self.0.effective_topic_config(image, values)
    }
}
