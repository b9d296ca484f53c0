//! The decoder of one struct: `read`.

use super::code::{Code, within};
use super::types;
use crate::model::{Field, Type};
use crate::names;
use crate::tree::{Node, Tree};
use crate::versions::Versions;

/// `fn read`: the fields in order, then the tagged ones.
pub fn read(code: &mut Code, tree: &Tree<'_>, node: &Node<'_>) {
    let lifetime = if node.borrows { "'a" } else { "'_" };
    let version = if uses_version(tree, node) { "version" } else { "_version" };
    code.line(format!(
        "pub(crate) fn read(r: &mut wire::Reader<{lifetime}>, {version}: i16) -> Result<Self, wire::DecodeError> {{"
    ));
    let flexible = flexible(tree, node);
    declare_flexible(code, tree, node);
    for field in node.fields {
        let name = local(field);
        let default = types::default(field);
        if field.tag.is_some() {
            code.line(format!("let mut {name} = {default};"));
            continue;
        }
        let value = value(tree, field, if field.plain { "false" } else { flexible });
        code.line(match within(field.versions, node.versions) {
            None => format!("let {name} = {value};"),
            Some(condition) => format!("let {name} = if {condition} {{ {value} }} else {{ {default} }};"),
        });
    }
    tags(code, tree, node, flexible);
    let init = |field: &Field| match (names::field(&field.name), local(field)) {
        (name, local) if name == local => name,
        (name, local) => format!("{name}: {local}"),
    };
    let names: Vec<String> = node.fields.iter().map(init).collect();
    code.line(format!("Ok(Self {{ {} }})", names.join(", ")));
    code.line("}");
}

/// Whether this struct is flexible: always, never, or as the variable of that name says.
pub fn flexible(tree: &Tree<'_>, node: &Node<'_>) -> &'static str {
    match tree.message.flexible {
        Some(first) if first <= node.versions.min => "true",
        Some(first) if first <= node.versions.max => "flexible",
        _ => "false",
    }
}

/// Declares the variable `flexible` where it is one.
pub fn declare_flexible(code: &mut Code, tree: &Tree<'_>, node: &Node<'_>) {
    if let (Some(first), "flexible") = (tree.message.flexible, flexible(tree, node)) {
        code.line(format!("let flexible = version >= {first};"));
    }
}

/// Does anything in the struct depend on the version?
pub fn uses_version(tree: &Tree<'_>, node: &Node<'_>) -> bool {
    let field_does = |field: &Field| {
        field.kind.struct_name().is_some()
            || within(field.versions, node.versions).is_some()
            || field.nullable.is_some_and(|nullable| within(nullable, field.versions).is_some())
    };
    flexible(tree, node) == "flexible" || node.fields.iter().any(field_does)
}

/// The variable that holds a field while the struct is read: its name, unless `read` itself uses that.
fn local(field: &Field) -> String {
    const TAKEN: [&str; 8] = ["r", "version", "flexible", "count", "items", "tag", "tags", "scope"];
    let name = names::field(&field.name);
    if TAKEN.contains(&name.as_str()) { format!("{name}_") } else { name }
}

fn tags(code: &mut Code, tree: &Tree<'_>, node: &Node<'_>, flexible: &str) {
    let tagged: Vec<&Field> = node.fields.iter().filter(|field| field.tag.is_some()).collect();
    match flexible {
        "false" => return,
        "true" => {}
        _ => code.line("if flexible {"),
    }
    if tagged.is_empty() {
        code.line("r.skip_tags()?;");
    } else {
        let first = tree.message.flexible.unwrap_or(0).max(node.versions.min);
        let parent = Versions { min: first, max: node.versions.max };
        code.line("let mut tags = r.tags()?;");
        code.line("while let Some((tag, scope)) = r.next_tag(&mut tags)? {");
        code.line("match tag {");
        for field in tagged {
            let tag = field.tag.unwrap_or(0);
            let guard = within(field.versions, parent).map(|condition| format!(" if {condition}"));
            let value = value(tree, field, "true");
            code.line(format!(
                "{tag}{} => {} = {value},",
                guard.unwrap_or_default(),
                names::field(&field.name)
            ));
        }
        code.lines(["_ => r.skip_rest(),", "}", "r.end_tag(scope)?;", "}"]);
    }
    if flexible == "flexible" {
        code.line("}");
    }
}

/// The expression that reads a field.
fn value(tree: &Tree<'_>, field: &Field, flexible: &str) -> String {
    let nullable =
        field.nullable.map(|nullable| within(nullable, field.versions).unwrap_or("true".to_owned()));
    match (&field.kind, nullable) {
        (Type::Records, nullable) => {
            format!("r.records({flexible}, {})?", nullable.unwrap_or("false".to_owned()))
        }
        (Type::String, Some(nullable)) => format!("r.nullable_string({flexible}, {nullable})?"),
        (Type::Bytes, Some(nullable)) => format!("r.nullable_bytes({flexible}, {nullable})?"),
        (Type::Array(element), None) => {
            let size = tree.size_min(element, field.versions);
            format!("{{ let count = r.count({flexible}, {size})?; {} items }}", items(element, flexible))
        }
        (Type::Array(element), Some(nullable)) => {
            let size = tree.size_min(element, field.versions);
            let items = items(element, flexible);
            format!(
                "match r.nullable_count({flexible}, {nullable}, {size})? \
                 {{ None => None, Some(count) => {{ {items} Some(items) }} }}"
            )
        }
        (Type::Struct(name), Some(nullable)) => {
            let present = match (field.tag, nullable.as_str()) {
                (Some(_), "true") => "r.tagged_present()?".to_owned(),
                (Some(_), nullable) => format!("!({nullable}) || r.tagged_present()?"),
                (None, "true") => "r.present()?".to_owned(),
                (None, nullable) => format!("!({nullable}) || r.present()?"),
            };
            format!("if {present} {{ Some({name}::read(r, version)?) }} else {{ None }}")
        }
        (kind, None) => single(kind, flexible),
        (kind, Some(_)) => panic!("{}: a {} can not be null", field.name, kind.word()),
    }
}

fn items(element: &Type, flexible: &str) -> String {
    let single = single(element, flexible);
    format!(
        "let mut items = Vec::with_capacity(wire::reserve(count)); for _ in 0..count {{ items.push({single}); }}"
    )
}

fn single(kind: &Type, flexible: &str) -> String {
    match kind {
        Type::String => format!("r.string({flexible})?"),
        Type::Bytes => format!("r.bytes({flexible})?"),
        Type::Struct(name) => format!("{name}::read(r, version)?"),
        plain => format!("r.{}()?", plain.word()),
    }
}
