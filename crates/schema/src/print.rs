//! A message, written in the notation.
//!
//! Names and types of siblings stand in columns; a struct's fields are indented below the field that declares it.

use std::fmt::Write;

use crate::model::{DefaultValue, Field, Message};
use crate::versions::Versions;

/// The text of one file of the notation.
pub fn print(message: &Message) -> String {
    let mut out = format!("{} {}", message.kind.word(), message.short_name());
    if let Some(key) = message.key {
        write!(out, " {key}").expect("a String takes everything");
    }
    write!(out, "   versions {}", message.versions).expect("a String takes everything");
    if message.latest_unstable {
        out.push_str(" latest-unstable");
    }
    if let Some(first) = message.flexible {
        write!(out, "   flexible {first}+").expect("a String takes everything");
    }
    if !message.listeners.is_empty() {
        out.push_str("   on");
        for listener in &message.listeners {
            out.push(' ');
            out.push_str(listener.word());
        }
    }
    out.push('\n');
    print_fields(&mut out, &message.fields, message.versions, 1);
    for shared in &message.structs {
        write!(out, "\nstruct {}", shared.name).expect("a String takes everything");
        if let Some(versions) = shared.versions.within(message.versions) {
            write!(out, "   versions {versions}").expect("a String takes everything");
        }
        out.push('\n');
        print_fields(&mut out, &shared.fields, shared.versions, 1);
    }
    out
}

fn print_fields(out: &mut String, fields: &[Field], parent: Versions, depth: usize) {
    let types: Vec<String> = fields.iter().map(type_word).collect();
    let name_width = fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
    let type_width = types.iter().map(String::len).max().unwrap_or(0);
    for (field, kind) in fields.iter().zip(&types) {
        let mut line =
            format!("{:indent$}{:name_width$}  {kind:type_width$}", "", field.name, indent = depth * 2);
        for word in attributes(field, parent) {
            line.push_str("  ");
            line.push_str(&word);
        }
        out.push_str(line.trim_end());
        out.push('\n');
        print_fields(out, &field.fields, field.versions, depth + 1);
    }
}

/// The type with its nullable versions: `string`, `string?`, `string?7+`.
pub fn type_word(field: &Field) -> String {
    let mut word = field.kind.word();
    if let Some(nullable) = field.nullable {
        word.push('?');
        word.push_str(&nullable.within(field.versions).unwrap_or_default());
    }
    word
}

/// What stands behind the type: versions, tag, default, flags.
pub fn attributes(field: &Field, parent: Versions) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(field.versions.within(parent));
    words.extend(field.tag.map(|tag| format!("tag {tag}")));
    match field.default {
        DefaultValue::Zero => {}
        DefaultValue::Null => words.push("= null".to_owned()),
        DefaultValue::True => words.push("= true".to_owned()),
        DefaultValue::Integer(value) => words.push(format!("= {value}")),
    }
    if field.ignorable {
        words.push("ignorable".to_owned());
    }
    if field.plain {
        words.push("plain".to_owned());
    }
    words
}
