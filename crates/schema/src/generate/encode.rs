//! The encoder of one struct: `write`.
//!
//! It returns nothing: what can not be written is noted in the writer, and the message as a whole fails at its end.

use super::code::{Code, within};
use super::decode::{declare_flexible, flexible, uses_version};
use super::types;
use crate::model::{Field, Type};
use crate::names;
use crate::tree::{Node, Tree};

/// The field of responses whose place is remembered: what a client has to pause may only be known when the answer leaves.
const THROTTLE_TIME: &str = "throttle_time_ms";

/// `fn write`: the fields in order, then the tagged ones that are not default.
pub fn write(code: &mut Code, tree: &Tree<'_>, node: &Node<'_>) {
    let refuses = |field: &Field| within(field.versions, node.versions).is_some();
    let version =
        if uses_version(tree, node) || node.fields.iter().any(refuses) { "version" } else { "_version" };
    let writer = if node.fields.is_empty() && flexible(tree, node) == "false" { "_w" } else { "w" };
    code.line(format!("pub(crate) fn write(&self, {writer}: &mut wire::Writer, {version}: i16) {{"));
    declare_flexible(code, tree, node);
    let flexible = flexible(tree, node);
    for field in node.fields.iter().filter(|field| field.tag.is_none()) {
        let condition = within(field.versions, node.versions);
        let flexible = if field.plain { "false" } else { flexible };
        if let Some(condition) = &condition {
            code.line(format!("if {condition} {{"));
        }
        for line in value(field, flexible) {
            code.line(line);
        }
        if condition.is_some() {
            refuse_otherwise(code, field);
        }
    }
    tags(code, node, flexible);
    code.line("}");
}

fn refuse_otherwise(code: &mut Code, field: &Field) {
    if !field.ignorable {
        code.line(format!("}} else if {} {{", types::is_set(field)));
        code.line(format!("w.refuse_field(\"{}\");", field.name));
    }
    code.line("}");
}

fn tags(code: &mut Code, node: &Node<'_>, flexible: &str) {
    if flexible == "false" {
        return;
    }
    let mut tagged: Vec<&Field> = node.fields.iter().filter(|field| field.tag.is_some()).collect();
    tagged.sort_by_key(|field| field.tag);
    for field in &tagged {
        if let (Some(condition), false) = (within(field.versions, node.versions), field.ignorable) {
            code.line(format!("if !({condition}) && ({}) {{", types::is_set(field)));
            code.line(format!("w.refuse_field(\"{}\");", field.name));
            code.line("}");
        }
    }
    if flexible == "flexible" {
        code.line("if flexible {");
    }
    let mut count = Vec::new();
    for field in &tagged {
        let tag = field.tag.unwrap_or(0);
        let set = types::is_set(field);
        let set = match within(field.versions, node.versions) {
            Some(condition) => format!("{condition} && ({set})"),
            None => set,
        };
        code.line(format!("let tag_{tag} = {set};"));
        count.push(format!("u32::from(tag_{tag})"));
    }
    if count.is_empty() {
        code.line("w.tags(0);");
    } else {
        code.line(format!("w.tags({});", count.join(" + ")));
    }
    for field in &tagged {
        let tag = field.tag.unwrap_or(0);
        code.line(format!("if tag_{tag} {{"));
        code.line(format!("let start = w.begin_tag({tag});"));
        for line in value(field, "true") {
            code.line(line);
        }
        code.lines(["w.end_tag(start);", "}"]);
    }
    if flexible == "flexible" {
        code.line("}");
    }
}

/// The lines that write a field.
fn value(field: &Field, flexible: &str) -> Vec<String> {
    let place = format!("self.{}", names::field(&field.name));
    let nullable = field.nullable.map(|nullable| within(nullable, field.versions));
    let mut lines = Vec::new();
    match (&nullable, &field.kind) {
        (Some(Some(condition)), _) => {
            lines.push(format!("if {place}.is_none() && !({condition}) {{"));
            lines.push(format!("w.refuse_null(\"{}\");", field.name));
            lines.push("}".to_owned());
        }
        (None, Type::Records) => {
            lines.push(format!("if {place}.is_none() {{"));
            lines.push(format!("w.refuse_null(\"{}\");", field.name));
            lines.push("}".to_owned());
        }
        _ => {}
    }
    let array = |element: &Type, place: &str, items: &str| {
        let single = single(element, "item", "*item", flexible);
        format!("w.count({place}.len(), {flexible}); for item in {items} {{ {single} }}")
    };
    let line = match (&field.kind, &nullable) {
        (Type::Records, _) => format!("w.records({place}.as_ref(), {flexible});"),
        (Type::String, Some(_)) => format!("w.nullable_string({place}.as_deref(), {flexible});"),
        (Type::Bytes, Some(_)) => format!("w.nullable_bytes({place}.as_deref(), {flexible});"),
        (Type::Array(element), None) => array(element, &place, &format!("&{place}")),
        (Type::Array(element), Some(_)) => {
            let some = array(element, "items", "items");
            format!("match &{place} {{ Some(items) => {{ {some} }} None => w.null_count({flexible}), }}")
        }
        (Type::Struct(_), Some(partly)) => {
            let mark = if field.tag.is_some() { "tagged_marker" } else { "marker" };
            let mark = match partly {
                Some(condition) => format!("if {condition} {{ w.{mark}({place}.is_some()); }}"),
                None => format!("w.{mark}({place}.is_some());"),
            };
            lines.push(mark);
            format!("if let Some(value) = &{place} {{ value.write(w, version); }}")
        }
        (Type::I32, _) if field.name == THROTTLE_TIME => format!("w.throttle_time({place});"),
        (kind, _) => single(kind, &format!("&{place}"), &place, flexible),
    };
    lines.push(line);
    lines
}

fn single(kind: &Type, reference: &str, value: &str, flexible: &str) -> String {
    match kind {
        Type::String => format!("w.string({reference}, {flexible});"),
        Type::Bytes => format!("w.bytes({reference}, {flexible});"),
        Type::Struct(_) => format!("{}.write(w, version);", reference.trim_start_matches('&')),
        plain => format!("w.{}({value});", plain.word()),
    }
}
