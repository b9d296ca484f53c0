//! What was configured, before anyone asks what it means: each value with the place that it comes from.
//!
//! The tricky idea: layers are laid over each other from the weakest to the strongest (file, environment, flags), and a value that
//! is covered is forgotten; whoever complains about a value can then say where the operator has to look.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::properties;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
    /// Chosen because neither a file nor the environment configures anything.
    FirstContact,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => write!(f, "environment variable {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
            Origin::FirstContact => write!(f, "default of a node without configuration"),
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The text of the value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Flags of the command line that set values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<String>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--advertise`
    pub advertise: Option<String>,
    /// `--set`, in order
    pub set: Vec<(String, String)>,
}

/// Values by key, the strongest of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    by_key: BTreeMap<String, Setting>,
}

impl Settings {
    /// Lays the layers over each other. On failure: one sentence per error.
    pub fn gather(
        file: Option<(&Path, &[u8])>,
        environment: &Environment,
        flags: &Flags,
    ) -> Result<Settings, Vec<String>> {
        let mut settings = Settings::default();
        let mut errors = environment.errors.clone();
        if let Some((path, bytes)) = file {
            match properties::parse(bytes) {
                Ok(properties) => {
                    for property in properties {
                        let origin = Origin::File(path.to_owned(), property.line);
                        settings.set(&property.key, &property.value, origin);
                    }
                }
                Err(error) => errors.push(format!("{}: {error}", path.display())),
            }
        }
        for mapped in &environment.mapped {
            settings.set(&mapped.key, &mapped.value, Origin::Variable(mapped.variable.clone()));
        }
        settings.set_flags(flags);
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// The value of `key`, if one was given.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key)
    }

    /// Everything that was given, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.by_key.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// Sets a value unless there is one.
    pub fn set_if_absent(&mut self, key: &str, value: &str, origin: Origin) {
        if self.get(key).is_none() {
            self.set(key, value, origin);
        }
    }

    fn set(&mut self, key: &str, value: &str, origin: Origin) {
        self.by_key.insert(key.to_owned(), Setting { value: value.trim().to_owned(), origin });
    }

    fn set_flags(&mut self, flags: &Flags) {
        if let Some(dir) = &flags.data_dir {
            self.set("log.dirs", dir, Origin::Flag("--data-dir"));
        }
        if let Some(address) = &flags.listen {
            let moved = self.with_first_address(self.client_listeners(), address);
            let controllers =
                self.listeners().into_iter().filter(|listener| self.is_of_controllers(listener));
            let value = moved.into_iter().chain(controllers).collect::<Vec<_>>().join(",");
            self.set("listeners", &value, Origin::Flag("--listen"));
        }
        if let Some(address) = &flags.advertise {
            let advertised = match self.get("advertised.listeners") {
                Some(given) => split(&given.value),
                None => self.client_listeners(),
            };
            let value = self.with_first_address(advertised, address).join(",");
            self.set("advertised.listeners", &value, Origin::Flag("--advertise"));
        }
        for (key, value) in &flags.set {
            self.set(key, value, Origin::Flag("--set"));
        }
    }

    fn listeners(&self) -> Vec<String> {
        self.get("listeners").map(|given| split(&given.value)).unwrap_or_default()
    }

    fn client_listeners(&self) -> Vec<String> {
        self.listeners().into_iter().filter(|listener| !self.is_of_controllers(listener)).collect()
    }

    fn is_of_controllers(&self, listener: &str) -> bool {
        let names = self.get("controller.listener.names").map_or("CONTROLLER", |given| &given.value);
        let name = name_of(listener);
        names.split(',').any(|controller| controller.trim().eq_ignore_ascii_case(name))
    }

    /// `listeners` with the first one moved to another address; there is one afterwards.
    fn with_first_address(&self, mut listeners: Vec<String>, address: &str) -> Vec<String> {
        match listeners.first_mut() {
            Some(first) => *first = format!("{}://{address}", name_of(first)),
            None => listeners.push(format!("PLAINTEXT://{address}")),
        }
        listeners
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn name_of(listener: &str) -> &str {
    listener.split_once("://").map_or(listener, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_variables(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
    }

    fn gather(file: &str, variables: &[(&str, &str)], flags: &Flags) -> Settings {
        let file = (!file.is_empty()).then_some((Path::new("s.properties"), file.as_bytes()));
        Settings::gather(file, &environment(variables), flags).expect("well formed")
    }

    fn value<'s>(settings: &'s Settings, key: &str) -> Option<&'s str> {
        settings.get(key).map(|setting| setting.value.as_str())
    }

    #[test]
    fn flags_cover_the_environment_and_that_covers_the_file() {
        let flags =
            Flags { set: vec![("c".into(), "flag".into()), ("c".into(), "last".into())], ..Flags::default() };
        let file = "# first\na=file  \nb=file\nc=file\na=again";
        let settings = gather(file, &[("KAFKA_B", "variable"), ("KAFKA_C", "variable")], &flags);
        assert_eq!(value(&settings, "a"), Some("again"));
        assert_eq!(value(&settings, "b"), Some("variable"));
        assert_eq!(value(&settings, "c"), Some("last"));
        assert_eq!(value(&settings, "d"), None);
        let origins: Vec<_> = settings.iter().map(|(_, setting)| setting.origin.to_string()).collect();
        assert_eq!(origins, ["s.properties:5", "environment variable KAFKA_B", "flag --set"]);
    }

    #[test]
    fn every_error_is_told() {
        let broken = Settings::gather(
            Some((Path::new("s.properties"), b"a=1\nb=\\uzzzz")),
            &environment(&[("KAFKA_A", "\\u1")]),
            &Flags::default(),
        );
        let errors = broken.expect_err("two errors");
        assert_eq!(errors.len(), 2);
        assert!(errors[1].starts_with("s.properties: line 2"), "{errors:?}");
    }

    #[test]
    fn listen_and_advertise_move_the_first_client_listener() {
        let listen = |file: &str, listen: Option<&str>, advertise: Option<&str>| {
            let flags = Flags {
                listen: listen.map(str::to_owned),
                advertise: advertise.map(str::to_owned),
                ..Flags::default()
            };
            let settings = gather(file, &[], &flags);
            let text = |key| value(&settings, key).unwrap_or("-").to_owned();
            [text("listeners"), text("advertised.listeners")]
        };
        assert_eq!(listen("", Some("0.0.0.0:1"), None), ["PLAINTEXT://0.0.0.0:1", "-"]);
        assert_eq!(listen("", None, Some("me:1")), ["-", "PLAINTEXT://me:1"]);
        assert_eq!(
            listen("listeners=CONTROLLER://:9093,INTERNAL://:9092,EXT://:9094", Some(":1"), Some("me:2")),
            ["INTERNAL://:1,EXT://:9094,CONTROLLER://:9093", "INTERNAL://me:2,EXT://:9094"]
        );
        assert_eq!(
            listen(
                "listeners=A://:1,C://:2\ncontroller.listener.names=C\nadvertised.listeners=A://x:1",
                None,
                Some("y:9")
            ),
            ["A://:1,C://:2", "A://y:9"]
        );
    }
}
