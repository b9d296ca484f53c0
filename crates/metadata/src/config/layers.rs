//! The raw values of a broker in the order of their strength, and typed reading of the strongest one.

use std::collections::BTreeMap;

use super::definition::Value;
use super::describe::{ConfigSource, Synonym};
use super::note::ConfigError;
use super::table::broker_table;

/// Raw broker values, strongest first: dynamic for this broker, dynamic for the cluster, given at start, and the
/// defaults that were chosen for this node; below them all are the defaults of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    /// Dynamic values of this broker (resource BROKER with its id).
    pub dynamic_broker: BTreeMap<String, String>,
    /// Dynamic values of the cluster (resource BROKER with an empty name).
    pub dynamic_default: BTreeMap<String, String>,
    /// What the node was started with: file, environment and flags.
    pub given: BTreeMap<String, String>,
    /// Defaults that differ from the table because of what kind of node this is.
    pub derived: BTreeMap<&'static str, String>,
}

impl Layers {
    /// The strongest value that somebody set.
    pub fn set(&self, key: &str) -> Option<&str> {
        let layers = [&self.dynamic_broker, &self.dynamic_default, &self.given];
        layers.iter().find_map(|layer| layer.get(key)).map(String::as_str)
    }

    /// The strongest value that was set while the node runs.
    pub fn dynamic(&self, key: &str) -> Option<&str> {
        [&self.dynamic_broker, &self.dynamic_default]
            .iter()
            .find_map(|layer| layer.get(key))
            .map(String::as_str)
    }

    /// The value in force as text; `None` when the key has none.
    pub fn effective(&self, key: &str) -> Option<&str> {
        self.set(key).or_else(|| self.default_of(key))
    }

    /// Everything that is known under `names`, in Kafka's order: layer by layer, and in each the names in their
    /// order; what comes before the first entry of `name` itself is left out.
    pub(super) fn chain(&self, name: &str, names: &[&str], sensitive: bool) -> Vec<Synonym> {
        let mut chain = Vec::new();
        let mut add = |key: &str, value: Option<&str>, source: ConfigSource| {
            if let Some(value) = value {
                let value = (!sensitive).then(|| value.to_owned());
                chain.push(Synonym { name: key.to_owned(), value, source });
            }
        };
        for key in names {
            add(key, self.dynamic_broker.get(*key).map(String::as_str), ConfigSource::DynamicBroker);
        }
        for key in names {
            add(key, self.dynamic_default.get(*key).map(String::as_str), ConfigSource::DynamicDefaultBroker);
        }
        for key in names {
            add(key, self.given.get(*key).map(String::as_str), ConfigSource::StaticBroker);
        }
        for key in names {
            add(key, self.default_of(key), ConfigSource::Default);
        }
        let first = chain.iter().position(|synonym| synonym.name == name).unwrap_or(chain.len());
        chain.split_off(first)
    }

    fn default_of(&self, key: &str) -> Option<&str> {
        match self.derived.get(key) {
            // It is for a node that was told nothing; who sets a key is shown what it would be everywhere else.
            Some(value) if self.set(key).is_none() => Some(value),
            _ => broker_table().get(key).and_then(|definition| definition.default),
        }
    }

    /// The value in force, parsed; `None` when the key has none. The key must be one of the table.
    pub(super) fn value(&self, key: &str) -> Result<Option<Value>, ConfigError> {
        let definition = broker_table().get(key).unwrap_or_else(|| panic!("{key} is not in broker.table"));
        match self.effective(key) {
            Some(raw) => definition.parse(raw).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn long_if_any(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        match self.value(key)? {
            Some(Value::Integer(number)) => Ok(Some(number)),
            None => Ok(None),
            Some(other) => panic!("{key} is not an integer key: {other:?}"),
        }
    }

    pub(super) fn long(&self, key: &str) -> Result<i64, ConfigError> {
        Ok(self.long_if_any(key)?.unwrap_or_else(|| panic!("{key} has no default")))
    }

    pub(super) fn int(&self, key: &str) -> Result<i32, ConfigError> {
        let number = self.long(key)?;
        Ok(i32::try_from(number).unwrap_or_else(|_| panic!("{key} is not an int key")))
    }

    pub(super) fn double(&self, key: &str) -> Result<f64, ConfigError> {
        match self.value(key)? {
            Some(Value::Double(number)) => Ok(number),
            other => panic!("{key} is not a double key: {other:?}"),
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Result<bool, ConfigError> {
        match self.value(key)? {
            Some(Value::Boolean(value)) => Ok(value),
            other => panic!("{key} is not a boolean key: {other:?}"),
        }
    }

    pub(super) fn text_if_any(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.value(key)? {
            Some(Value::Text(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            None => Ok(None),
            Some(other) => panic!("{key} is not a text key: {other:?}"),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(key)? {
            Some(Value::List(items)) => Ok(items),
            None => Ok(Vec::new()),
            Some(other) => panic!("{key} is not a list key: {other:?}"),
        }
    }
}
