//! What can be wrong, or merely worth saying, about a configuration: errors stop the start, notes are printed.

use std::fmt;

/// A value that can not be used. The text names the key, the given value and the reason, and where there is one,
/// the way out. On the wire it is `INVALID_CONFIG` (40).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key that is wrong, or the first of those that contradict each other.
    pub key: String,
    /// What was given; `None` when something is missing, and for sensitive keys.
    pub value: Option<String>,
    /// Why it can not be used, as a sentence without the key and the value.
    pub reason: String,
    /// The whole sentence with which Kafka answers clients in such a case, where it is a common one. People search for it, and scripts
    /// look for it.
    pub to_clients: Option<String>,
}

impl ConfigError {
    pub(crate) fn new(key: &str, value: Option<&str>, reason: impl Into<String>) -> Self {
        ConfigError {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            reason: reason.into(),
            to_clients: None,
        }
    }

    /// The same error, of which clients are told this.
    pub(crate) fn telling(self, sentence: impl Into<String>) -> Self {
        ConfigError { to_clients: Some(sentence.into()), ..self }
    }

    /// The sentence for whoever asked over the wire.
    pub fn to_clients(&self) -> String {
        match (&self.to_clients, &self.value) {
            (Some(sentence), _) => sentence.clone(),
            (None, Some(value)) => {
                format!("Invalid value {value} for configuration {}: {}", self.key, self.reason)
            }
            (None, None) => self.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={}: {}", self.key, value, self.reason),
            None => write!(f, "{}: {}", self.key, self.reason),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Something an operator should know that does not stop the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigNote {
    /// What kind of remark this is; the shell picks the log level from it.
    pub kind: NoteKind,
    /// The keys that it is about.
    pub keys: Vec<String>,
    /// One sentence.
    pub text: String,
}

impl fmt::Display for ConfigNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Kinds of [`ConfigNote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// No such key; as in Kafka it is ignored. The text offers the nearest known key.
    Unknown,
    /// Known keys that have no effect here, all collected in one note.
    WithoutEffect,
    /// A default that was chosen for this node, or a value that works but is probably not what was meant.
    Advice,
}
