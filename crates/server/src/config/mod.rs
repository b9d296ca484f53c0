//! From a file, the environment and the command line to the configuration in force.
//!
//! The tricky idea: layers are merged as text, with the place that each value comes from, and only then resolved; so every complaint
//! about a value can name the line, the variable or the flag that has to be changed. What keys mean is not known here but in
//! `ottla_metadata::config`.

mod environment;
mod properties;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ottla_metadata::config::{BrokerConfig, NoteKind, broker_table, is_listener_key};

use environment::Environment;
pub use settings::Flags;
use settings::{Origin, Settings};

/// Where values may come from.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// All environment variables.
    pub variables: Vec<(String, String)>,
    /// Flags of the command line.
    pub flags: Flags,
}

/// What was configured.
#[derive(Debug)]
pub struct Configured {
    /// The configuration in force.
    pub broker: BrokerConfig,
    /// The id with which an empty data directory is formatted.
    pub cluster_id: Option<String>,
    /// How much is logged, in log4j's words.
    pub log_level: Option<String>,
    /// What might not be as it was meant; one sentence each.
    pub warnings: Vec<String>,
    /// What is merely worth knowing; one sentence each.
    pub remarks: Vec<String>,
    settings: Settings,
}

/// Reads and resolves everything. On failure: one sentence per error.
pub fn load(request: &Request) -> Result<Configured, Vec<String>> {
    let file = match &request.file {
        None => None,
        Some(path) => match std::fs::read(path) {
            Ok(bytes) => Some((path.as_path(), bytes)),
            Err(error) => {
                return Err(vec![format!(
                    "the configuration file {} can not be read: {error}",
                    path.display()
                )]);
            }
        },
    };
    load_from(file.as_ref().map(|(path, bytes)| (*path, bytes.as_slice())), request)
}

fn load_from(file: Option<(&Path, &[u8])>, request: &Request) -> Result<Configured, Vec<String>> {
    let environment = Environment::from_variables(request.variables.iter().cloned());
    let mut settings = Settings::gather(file, &environment, &request.flags)?;
    if file.is_none() && environment.mapped.is_empty() {
        settings.set_for_first_contact();
    }
    let given: BTreeMap<String, String> =
        settings.iter().map(|(key, setting)| (key.to_owned(), setting.value.clone())).collect();
    let (broker, notes) = BrokerConfig::resolve(&given)
        .map_err(|error| vec![with_origin(&settings, &error.to_string(), [&error.key])])?;
    let (mut warnings, mut remarks) = (Vec::new(), Vec::new());
    for note in notes {
        let text = with_origin(&settings, &note.text, &note.keys);
        match note.kind {
            NoteKind::Unknown => warnings.push(text),
            // Spoken to somebody who did configure something.
            NoteKind::Advice if file.is_some() || !environment.mapped.is_empty() => warnings.push(text),
            NoteKind::Advice => {}
            NoteKind::WithoutEffect => remarks.push(note.text),
        }
    }
    let cluster_id = environment.cluster_id.filter(|id| !id.is_empty());
    Ok(Configured { broker, cluster_id, log_level: environment.log_level, warnings, remarks, settings })
}

/// Adds where the value of the first of `keys` that was given comes from.
fn with_origin<'k>(settings: &Settings, text: &str, keys: impl IntoIterator<Item = &'k String>) -> String {
    match keys.into_iter().find_map(|key| settings.get(key)) {
        Some(setting) => format!("{text} ({})", setting.origin),
        None => text.to_owned(),
    }
}

impl Configured {
    /// Whether `key` was given rather than left at its default.
    pub fn is_given(&self, key: &str) -> bool {
        self.settings.get(key).is_some()
    }

    /// The value in force of `key` as a whole number.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.broker.layers.effective(key)?.trim().parse().ok()
    }

    /// All values in force, one line each, with the places that they come from. Passwords are not shown, nor is what nobody knows: it may be
    /// one.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for definition in broker_table().public() {
            let key = definition.key;
            let value = match self.broker.layers.effective(key) {
                Some(_) if definition.is_sensitive() => "[hidden]",
                Some(value) => value,
                None => continue,
            };
            let origin =
                self.settings.get(key).map_or("default".to_owned(), |setting| setting.origin.to_string());
            text.push_str(&format!("{:<60} # {origin}\n", format!("{key}={value}")));
        }
        for (key, setting) in self.settings.iter().filter(|(key, _)| broker_table().get(key).is_none()) {
            let (value, known) = match is_listener_key(key) {
                true => (&*setting.value, ""),
                false => ("[hidden]", "; not known"),
            };
            text.push_str(&format!("{:<60} # {}{known}\n", format!("{key}={value}"), setting.origin));
        }
        text
    }
}

impl Settings {
    /// What a node that was started without any configuration does differently: nobody waits three seconds for a first group.
    /// The configuration that Kafka's container image brings along says the same.
    fn set_for_first_contact(&mut self) {
        self.set_if_absent("group.initial.rebalance.delay.ms", "0", Origin::FirstContact);
    }
}

#[cfg(test)]
mod tests;
