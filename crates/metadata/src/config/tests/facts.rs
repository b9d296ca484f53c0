//! Our tables beside what Apache Kafka 4.4 says about itself (`kafka.facts`, printed by `tests/facts/ConfigFacts.java`): the same keys,
//! types, defaults, importance, allowed values and ways to change. Every exception is written here.

use crate::config::{
    Allowed, ConfigType, Definition, Table, Update, broker_table, client_metrics_table, group_table,
    topic_table,
};

const FACTS: &str = include_str!("kafka.facts");

/// Kafka states no rule for these and checks elsewhere, or states one that its parser makes unreachable: (key, ours).
const OWN_RULES: &[(&str, &str)] = &[
    ("authorizer.class.name", "the empty text means none"),
    ("controller.quorum.bootstrap.servers", "the empty list means none"),
    ("controller.quorum.voters", "the empty list means none"),
    ("interval.ms", "ClientMetricsConfigs checks 100 to 3600000"),
    ("share.auto.offset.reset", "the same rule, in our words"),
    ("leader.replication.throttled.replicas", "the same rule, in our words"),
    ("follower.replication.throttled.replicas", "the same rule, in our words"),
];

struct Fact {
    kind: &'static str,
    key: &'static str,
    config_type: &'static str,
    default: &'static str,
    importance: &'static str,
    allowed: &'static str,
    internal: bool,
    change: &'static str,
}

fn facts() -> Vec<Fact> {
    let read = |line: &'static str| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_else(|| panic!("too few fields: {line}"));
        Fact {
            kind: next(),
            key: next(),
            config_type: next(),
            default: next(),
            importance: next(),
            allowed: next(),
            internal: next() == "true",
            change: next(),
        }
    };
    FACTS.lines().map(read).collect()
}

fn table_of(kind: &str) -> Option<&'static Table> {
    match kind {
        "broker" | "broker-dynamic" => Some(broker_table()),
        "topic" => Some(topic_table()),
        "group" => Some(group_table()),
        "client-metrics" => Some(client_metrics_table()),
        _ => None,
    }
}

fn type_name(config_type: ConfigType) -> String {
    format!("{config_type:?}").to_uppercase()
}

/// Our rule in the words of Kafka's validators.
fn rule(definition: &Definition) -> String {
    let number = |number: f64| {
        if number.fract() == 0.0 { format!("{}", number as i64) } else { number.to_string() }
    };
    match &definition.allowed {
        Allowed::Any => String::new(),
        Allowed::AtLeast(min) => format!("[{min},...]"),
        Allowed::Between(min, max, None) => format!("[{},...,{}]", number(*min), number(*max)),
        Allowed::Between(min, max, Some(other)) => {
            format!("[{},...,{}] or {other}", number(*min), number(*max))
        }
        Allowed::OneOf(texts) => format!("[{}]", texts.join(", ")),
        Allowed::AnyCase(texts) => format!("(case insensitive) [{}]", texts.join(", ").to_uppercase()),
        Allowed::Items(texts, _) => format!("[{}]", texts.join(", ")),
        Allowed::NonEmpty => "non-empty string".to_owned(),
        Allowed::Replicas | Allowed::ShareReset => "in our words".to_owned(),
    }
}

/// Lists of allowed texts have no order.
fn sorted(rule: &str) -> Vec<String> {
    let mut words: Vec<String> =
        rule.split([' ', ',', '[', ']']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    words.sort();
    words
}

fn is_listed(list: &[(&str, &str)], key: &str) -> bool {
    list.iter().any(|(listed, _)| *listed == key)
}

#[test]
fn every_key_of_kafka_is_known_as_kafka_knows_it() {
    let mut wrong = Vec::new();
    for fact in facts() {
        let Some(table) = table_of(fact.kind) else { continue };
        let Some(ours) = table.get(fact.key) else {
            wrong.push(format!("{} {} is missing", fact.kind, fact.key));
            continue;
        };
        let mut check = |what: &str, ours: &str, kafkas: &str| {
            if ours != kafkas {
                wrong.push(format!("{} {}: {what} is {ours}, Kafka has {kafkas}", fact.kind, fact.key));
            }
        };
        check("type", &type_name(ours.config_type), fact.config_type);
        // Kafka does not start without some keys; here there is always something to go by.
        let default = if fact.default == "<none>" { "null" } else { fact.default };
        check("default", ours.default.unwrap_or("null"), default);
        check("importance", &format!("{:?}", ours.importance).to_uppercase(), fact.importance);
        let hidden = fact.internal || fact.kind == "broker-dynamic";
        check("internal", &ours.internal.to_string(), &hidden.to_string());
        if fact.change != "-" {
            let change = match ours.update {
                Update::ReadOnly => "read-only",
                Update::PerBroker => "per-broker",
                Update::ClusterWide => "cluster-wide",
            };
            check("change", change, fact.change);
        }
        if !is_listed(OWN_RULES, fact.key) && sorted(&rule(ours)) != sorted(fact.allowed) {
            check("rule", &rule(ours), fact.allowed);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_key_is_invented_but_our_own() {
    let known: Vec<&str> = facts().iter().map(|fact| fact.key).collect();
    for table in [broker_table(), topic_table(), group_table(), client_metrics_table()] {
        for definition in table.all() {
            let key = definition.key;
            assert!(known.contains(&key) || key.starts_with("ottla."), "{key} is not a key of Kafka");
        }
    }
}

#[test]
fn exceptions_are_needed() {
    let all = facts();
    let find = |key: &str| all.iter().find(|fact| fact.key == key && table_of(fact.kind).is_some());
    for (key, _) in OWN_RULES {
        let fact = find(key).unwrap_or_else(|| panic!("{key} is no key of Kafka"));
        let ours = table_of(fact.kind).and_then(|table| table.get(key)).expect("known");
        assert_ne!(sorted(&rule(ours)), sorted(fact.allowed), "{key} needs no exception");
    }
}
