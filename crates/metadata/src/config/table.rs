//! The tables of definitions, read once when first asked for, and looked up by key.
//!
//! The text of a table is part of the program, so a malformed line is our bug: it panics, and the tests read every
//! line. Rows are kept sorted by key, which is also the order in which `DescribeConfigs` lists them.

use std::sync::LazyLock;

use super::definition::{Allowed, ConfigType, Definition, Effect, Importance, Update};

/// Definitions of one kind of resource, sorted by key.
#[derive(Debug)]
pub struct Table {
    definitions: Vec<Definition>,
}

static BROKER: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("broker.table")));
static TOPIC: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("topic.table")));
static GROUP: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("group.table")));
static CLIENT_METRICS: LazyLock<Table> = LazyLock::new(|| Table::read(include_str!("client_metrics.table")));

/// Keys of a broker (`server.properties`, resource type BROKER).
pub fn broker_table() -> &'static Table {
    &BROKER
}

/// Keys of a topic (resource type TOPIC).
pub fn topic_table() -> &'static Table {
    &TOPIC
}

/// Keys of a group (resource type GROUP).
pub fn group_table() -> &'static Table {
    &GROUP
}

/// Keys of a client metrics subscription (resource type CLIENT_METRICS).
pub fn client_metrics_table() -> &'static Table {
    &CLIENT_METRICS
}

impl Table {
    /// The definition of `key`, internal or not.
    pub fn get(&self, key: &str) -> Option<&Definition> {
        let found = self.definitions.binary_search_by(|definition| definition.key.cmp(key));
        found.ok().map(|index| &self.definitions[index])
    }

    /// Definitions that clients may see, by key.
    pub fn public(&self) -> impl Iterator<Item = &Definition> {
        self.definitions.iter().filter(|definition| !definition.internal)
    }

    /// All definitions, by key.
    pub fn all(&self) -> &[Definition] {
        &self.definitions
    }

    /// The known key that `key` was most likely meant to be, if any is near enough to offer.
    pub fn nearest(&self, key: &str) -> Option<&'static str> {
        let spoken = key.trim().to_ascii_lowercase().replace(['_', '-'], ".");
        let limit = 1 + spoken.len() / 6;
        let distances = self.public().map(|known| (edit_distance(&spoken, known.key), known.key));
        distances.min().filter(|(distance, _)| *distance <= limit).map(|(_, known)| known)
    }

    fn read(text: &'static str) -> Table {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let mut definitions: Vec<Definition> = lines.map(read_line).collect();
        definitions.sort_by_key(|definition| definition.key);
        assert!(definitions.windows(2).all(|pair| pair[0].key != pair[1].key), "a key is defined twice");
        Table { definitions }
    }
}

fn read_line(line: &'static str) -> Definition {
    let mut fields = line.splitn(8, '|').map(str::trim);
    let mut next = || fields.next().unwrap_or_else(|| panic!("too few fields: {line}"));
    let name = next();
    let config_type = match next() {
        "boolean" => ConfigType::Boolean,
        "string" => ConfigType::String,
        "int" => ConfigType::Int,
        "short" => ConfigType::Short,
        "long" => ConfigType::Long,
        "double" => ConfigType::Double,
        "list" => ConfigType::List,
        "class" => ConfigType::Class,
        "password" => ConfigType::Password,
        other => panic!("no such type {other}: {line}"),
    };
    let default = match next() {
        "null" => None,
        "\"\"" => Some(""),
        text => Some(text),
    };
    Definition {
        key: name.trim_start_matches('~'),
        internal: name.starts_with('~'),
        config_type,
        default,
        allowed: read_allowed(next(), line),
        importance: match next() {
            "high" => Importance::High,
            "medium" => Importance::Medium,
            "low" => Importance::Low,
            other => panic!("no such importance {other}: {line}"),
        },
        update: match next() {
            "read-only" => Update::ReadOnly,
            "per-broker" => Update::PerBroker,
            "cluster-wide" => Update::ClusterWide,
            other => panic!("no such update mode {other}: {line}"),
        },
        effect: match next() {
            "honoured" => Effect::Honoured,
            "accepted" => Effect::Accepted,
            "refused" => Effect::Refused,
            other => panic!("no such effect {other}: {line}"),
        },
        documentation: next(),
    }
}

fn read_allowed(text: &'static str, line: &str) -> Allowed {
    let mut words = text.split(' ');
    let head = words.next().unwrap_or("-");
    let rest: Vec<&'static str> = words.collect();
    let integer = |word: &str| word.parse::<i64>().unwrap_or_else(|_| panic!("no integer {word}: {line}"));
    let double = |word: &str| word.parse::<f64>().unwrap_or_else(|_| panic!("no number {word}: {line}"));
    match (head, rest.as_slice()) {
        ("-", []) => Allowed::Any,
        ("at-least", [min]) => Allowed::AtLeast(integer(min)),
        ("between", [min, max]) => Allowed::Between(double(min), double(max), None),
        ("between", [min, max, "or", other]) => {
            Allowed::Between(double(min), double(max), Some(integer(other)))
        }
        ("one-of", _) => Allowed::OneOf(rest),
        ("any-case", _) => Allowed::AnyCase(rest),
        ("items", _) => Allowed::Items(rest, false),
        ("items-or-none", _) => Allowed::Items(rest, true),
        ("non-empty", []) => Allowed::NonEmpty,
        ("replicas", []) => Allowed::Replicas,
        ("share-reset", []) => Allowed::ShareReset,
        _ => panic!("no such rule {text}: {line}"),
    }
}

/// Levenshtein distance: how many characters must be put in, taken out or replaced.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
