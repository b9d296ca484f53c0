//! `KAFKA_*` environment variables as Kafka's container image maps them to configuration keys (KIP-975).
//!
//! The tricky idea: underscores say three things. After the prefix, `___` is a dash, `__` an underscore and `_` a dot; the image
//! turns every underscore into a dot first and then looks for runs of dots, so longer runs fall apart from the left.

use super::properties::unescape_value;

/// Variables that speak to the JVM or to the image's scripts, not to the broker.
const EXCLUDED: [&str; 11] = [
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_JMX_HOSTNAME",
];

const PREFIX: &str = "KAFKA_";

/// One variable that is a configuration value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The configuration key, such as `log.retention.ms`.
    pub key: String,
    /// Its value; escapes are resolved because the image passes it through a properties file.
    pub value: String,
    /// The variable it came from, such as `KAFKA_LOG_RETENTION_MS`.
    pub variable: String,
}

/// What the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Configuration values, sorted by variable.
    pub mapped: Vec<Mapped>,
    /// `CLUSTER_ID`, the id with which an empty data directory is formatted.
    pub cluster_id: Option<String>,
    /// `KAFKA_LOG4J_ROOT_LOGLEVEL`, how much is logged.
    pub log_level: Option<String>,
    /// One sentence per variable that can not be read.
    pub errors: Vec<String>,
}

impl Environment {
    /// Sorts the given variables into what they mean; others are ignored.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Environment {
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort();
        let mut environment = Environment::default();
        for (name, value) in variables {
            match name.as_str() {
                "CLUSTER_ID" => environment.cluster_id = Some(value.trim().to_owned()),
                "KAFKA_LOG4J_ROOT_LOGLEVEL" => environment.log_level = Some(value),
                _ => environment.map(name, &value),
            }
        }
        environment.derive_listeners();
        environment
    }

    fn map(&mut self, variable: String, value: &str) {
        let Some(key) = key_of(&variable) else { return };
        match unescape_value(value) {
            Ok(value) => self.mapped.push(Mapped { key, value, variable }),
            Err(_) => self.errors.push(format!(
                "environment variable {variable}: \\u must be followed by four hexadecimal digits"
            )),
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.mapped.iter().find(|mapped| mapped.key == key).map(|mapped| mapped.value.as_str())
    }

    /// The image listens where it advertises, on every interface, when only `KAFKA_ADVERTISED_LISTENERS` is given.
    fn derive_listeners(&mut self) {
        if self.value("listeners").is_some() {
            return;
        }
        let Some(advertised) = self.value("advertised.listeners") else { return };
        let value = advertised.split(',').map(on_every_interface).collect::<Vec<_>>().join(",");
        self.mapped.push(Mapped {
            key: "listeners".into(),
            value,
            variable: "KAFKA_ADVERTISED_LISTENERS".into(),
        });
    }
}

/// The configuration key a variable stands for; `None` when it is none of ours.
pub fn key_of(variable: &str) -> Option<String> {
    if EXCLUDED.contains(&variable) {
        return None;
    }
    let name = variable.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
    Some(name.to_lowercase().replace('_', ".").replace("...", "-").replace("..", "_"))
}

/// `NAME://host:port` → `NAME://0.0.0.0:port`; anything else stays, to be refused where listeners are read.
fn on_every_interface(endpoint: &str) -> String {
    let endpoint = endpoint.trim();
    match (endpoint.find("://"), endpoint.rfind(':')) {
        (Some(name_end), Some(port_start)) if port_start >= name_end + 3 => {
            format!("{}://0.0.0.0{}", &endpoint[..name_end], &endpoint[port_start..])
        }
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (variable, key) in [
            ("KAFKA_NODE_ID", Some("node.id")),
            ("KAFKA_PROCESS_ROLES", Some("process.roles")),
            ("KAFKA_LOG_RETENTION_MS", Some("log.retention.ms")),
            ("KAFKA_SSL_KEYSTORE__TYPE", Some("ssl.keystore_type")),
            ("KAFKA_SOME___KEY", Some("some-key")),
            ("KAFKA_A____B", Some("a-.b")),
            ("KAFKA_A_____B", Some("a-_b")),
            ("KAFKA_LISTENER_NAME_TC___0_SSL_TYPE", Some("listener.name.tc-0.ssl.type")),
            ("KAFKA_HEAP_OPTS", None),
            ("KAFKA_OPTS", None),
            ("KAFKA_JMX_HOSTNAME", None),
            ("KAFKA_", None),
            ("HOME", None),
            ("MY_KAFKA_X", None),
        ] {
            assert_eq!(key_of(variable).as_deref(), key, "{variable}");
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_variables(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    #[test]
    fn values_pass_through_the_notation_of_properties() {
        let environment =
            environment(&[("KAFKA_A", r"  x\ty "), ("KAFKA_B", r"\u00"), ("CLUSTER_ID", " id ")]);
        assert_eq!(environment.value("a"), Some("x\ty "));
        assert_eq!(environment.errors.len(), 1);
        assert_eq!(environment.cluster_id.as_deref(), Some("id"));
    }

    #[test]
    fn listeners_follow_the_advertised_ones() {
        let derived =
            environment(&[("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://broker-1:9092,EXT://[::1]:19092")]);
        assert_eq!(derived.value("listeners"), Some("PLAINTEXT://0.0.0.0:9092,EXT://0.0.0.0:19092"));
        let given = environment(&[
            ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://b:9092"),
            ("KAFKA_LISTENERS", "PLAINTEXT://10.0.0.1:9092"),
        ]);
        assert_eq!(given.value("listeners"), Some("PLAINTEXT://10.0.0.1:9092"));
        assert_eq!(environment(&[]).value("listeners"), None);
    }
}
