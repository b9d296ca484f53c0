//! `docs`: the pages that are generated, `docs/configuration.md` for now. A test says when they are no longer what they would be.
//!
//! The page is written from the tables that drive parsing, validation and DescribeConfigs, so it can not tell anything else.

use crate::steps::{Doing, Trouble};
use crate::workspace;
use ottla_metadata::config::{
    Allowed, Definition, Effect, Importance, RESTART_KEYS, Table, Update, broker_synonyms, broker_table,
    client_metrics_table, group_synonym, group_table, topic_synonyms, topic_table,
};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

const HEAD: &str = "\
# Configuration

Every key that Apache Kafka 4.4 has for brokers, topics, groups and client metrics, and our own (`ottla.*`). Written by
`cargo xtask docs` from the tables in `crates/metadata/src/config`; do not edit it here.

What a key does here:

- **honoured**: it does what it says.
- **accepted**: the value is checked, kept and shown, and changes nothing; the node says so when it starts with one, and when one is set.
- **refused**: only the default is accepted, because anything else would be a promise that is not kept.

How a broker key may change: *read-only* needs a restart; *per-broker* can be altered while running for one broker;
*cluster-wide* for one broker or for all of them. Those that are honoured *after a restart* can be altered while Kafka runs, but not
here: they have to be set in the node's properties.

`max.connections` and `max.connection.creation.rate` may be set for one listener, as `listener.name.<name in lower case>.<key>`. Other
keys with that beginning are for TLS and SASL, which are not served yet: they are accepted, and the node says so when it starts.

";

/// Writes the generated pages.
pub fn run() -> Result<bool, Trouble> {
    let path = page();
    fs::write(&path, configuration()).doing(format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(true)
}

fn page() -> PathBuf {
    workspace::root().join("docs/configuration.md")
}

fn configuration() -> String {
    let mut out = HEAD.to_owned();
    section(&mut out, "Brokers", broker_table(), true, |definition| {
        let names = broker_synonyms(definition.key).iter();
        names.filter(|name| **name != definition.key).map(ToString::to_string).collect()
    });
    section(&mut out, "Topics", topic_table(), false, |definition| {
        topic_synonyms(definition.key).iter().map(|synonym| synonym.key.to_owned()).collect()
    });
    section(&mut out, "Groups", group_table(), false, |definition| {
        group_synonym(definition.key).into_iter().collect()
    });
    section(&mut out, "Client metrics", client_metrics_table(), false, |_| Vec::new());
    out
}

/// One table: the keys that are always shown, then those that are shown only where they are set.
fn section(
    out: &mut String,
    title: &str,
    table: &Table,
    changes: bool,
    synonyms: impl Fn(&Definition) -> Vec<String>,
) {
    writeln!(out, "## {title}\n").expect("a string");
    rows(out, table.public(), changes, &synonyms);
    let mut hidden = table.all().iter().filter(|definition| definition.internal).peekable();
    if hidden.peek().is_some() {
        writeln!(out, "### Shown only where they are set\n").expect("a string");
        rows(out, hidden, changes, &synonyms);
    }
}

fn rows<'d>(
    out: &mut String,
    definitions: impl Iterator<Item = &'d Definition>,
    changes: bool,
    synonyms: &impl Fn(&Definition) -> Vec<String>,
) {
    let (change, line) = if changes { (" may change |", "---|") } else { ("", "") };
    writeln!(out, "| key | type | default | values | importance |{change} here | what it does |")
        .expect("a string");
    writeln!(out, "|---|---|---|---|---|{line}---|---|").expect("a string");
    for definition in definitions {
        let change = match definition.update {
            _ if !changes => "",
            Update::ReadOnly => " read-only |",
            Update::PerBroker => " per-broker |",
            Update::ClusterWide => " cluster-wide |",
        };
        let default = match definition.default {
            None => "–".to_owned(),
            Some("") => "empty".to_owned(),
            Some(text) => format!("`{text}`"),
        };
        let synonyms = synonyms(definition);
        let also = match synonyms.is_empty() {
            true => String::new(),
            false => format!(" Else: {}.", codes(synonyms.iter().map(String::as_str))),
        };
        writeln!(
            out,
            "| `{}` | {} | {default} | {} | {} |{change} {} | {}{also} |",
            definition.key,
            format!("{:?}", definition.config_type).to_lowercase(),
            values(&definition.allowed),
            importance(definition.importance),
            effect(definition),
            definition.documentation.replace('|', "\\|"),
        )
        .expect("a string");
    }
    out.push('\n');
}

fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        Importance::Low => "low",
    }
}

fn effect(definition: &Definition) -> &'static str {
    match definition.effect {
        Effect::Honoured if RESTART_KEYS.contains(&definition.key) => "honoured, after a restart",
        Effect::Honoured => "honoured",
        Effect::Accepted => "accepted",
        Effect::Refused => "**refused**",
    }
}

fn values(allowed: &Allowed) -> String {
    match allowed {
        Allowed::Any => "any".to_owned(),
        Allowed::AtLeast(min) => format!("at least {min}"),
        Allowed::Between(min, max, None) => format!("{min} to {max}"),
        Allowed::Between(min, max, Some(other)) => format!("{min} to {max}, or {other}"),
        Allowed::OneOf(texts) | Allowed::AnyCase(texts) => codes(texts.iter().copied()),
        Allowed::Items(texts, false) if texts.is_empty() => "a list that is not empty".to_owned(),
        Allowed::Items(texts, true) if texts.is_empty() => "a list".to_owned(),
        Allowed::Items(texts, _) => format!("a list of {}", codes(texts.iter().copied())),
        Allowed::NonEmpty => "not empty".to_owned(),
        Allowed::Replicas => "`*`, or pairs `partition:broker`".to_owned(),
        Allowed::ShareReset => "`latest`, `earliest`, `by_duration:PnDTnHnMn.nS`".to_owned(),
    }
}

fn codes<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    texts.map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_configuration_is_current() {
        let written = fs::read_to_string(page()).expect("docs/configuration.md");
        assert!(written == configuration(), "docs/configuration.md is stale: run `cargo xtask docs`");
    }
}
