//! Structs, their defaults, and the trait that a whole message has.

use super::code::Code;
use crate::model::{DefaultValue, Field, Kind, Type};
use crate::names;
use crate::print;
use crate::tree::{Node, Tree};

/// The generics of an `impl` for a struct, and its name with its lifetime.
pub fn generic_name(node: &Node<'_>) -> (&'static str, String) {
    if node.borrows { ("<'a>", format!("{}<'a>", node.name)) } else { ("", node.name.to_owned()) }
}

/// The struct itself. Each field is documented by its line of the notation.
pub fn declaration(code: &mut Code, tree: &Tree<'_>, node: &Node<'_>) {
    code.line(format!("/// `{}`, versions {}.", node.name, node.versions));
    code.line("#[derive(Debug, Clone, PartialEq)]");
    let (_, name) = generic_name(node);
    if node.fields.is_empty() {
        code.line(format!("pub struct {name} {{}}"));
        return;
    }
    code.line(format!("pub struct {name} {{"));
    for field in node.fields {
        let mut notation = print::type_word(field);
        for word in print::attributes(field, node.versions) {
            notation.push(' ');
            notation.push_str(&word);
        }
        code.line(format!("/// `{notation}`"));
        code.line(format!("pub {}: {},", names::field(&field.name), field_type(tree, field)));
    }
    code.line("}");
}

/// The Rust type of a field.
fn field_type(tree: &Tree<'_>, field: &Field) -> String {
    let value = value_type(tree, &field.kind);
    // Records are always optional, so that code that moves them has one type to deal with.
    if field.nullable.is_some() || field.kind == Type::Records { format!("Option<{value}>") } else { value }
}

fn value_type(tree: &Tree<'_>, kind: &Type) -> String {
    match kind {
        Type::Uuid => "wire::Uuid".to_owned(),
        Type::String => "Cow<'a, str>".to_owned(),
        Type::Bytes => "Cow<'a, [u8]>".to_owned(),
        Type::Records => "wire::Records<'a>".to_owned(),
        Type::Struct(name) => generic_name(tree.node(name)).1,
        Type::Array(element) => format!("Vec<{}>", value_type(tree, element)),
        plain => plain.word(),
    }
}

/// The default of a field as an expression.
pub fn default(field: &Field) -> String {
    if field.default == DefaultValue::Null {
        return "None".to_owned();
    }
    let value = match (&field.kind, field.default) {
        (_, DefaultValue::True) => "true".to_owned(),
        (_, DefaultValue::Integer(value)) => value.to_string(),
        (Type::Bool, _) => "false".to_owned(),
        (Type::F64, _) => "0.0".to_owned(),
        (Type::Uuid, _) => "wire::Uuid::ZERO".to_owned(),
        (Type::String, _) => "Cow::Borrowed(\"\")".to_owned(),
        (Type::Bytes, _) => "Cow::Borrowed(b\"\".as_slice())".to_owned(),
        // Kafka's default for records is null wherever null can be written.
        (Type::Records, _) if field.nullable == Some(field.versions) => return "None".to_owned(),
        (Type::Records, _) => return "Some(wire::Records::Slice(&[]))".to_owned(),
        (Type::Struct(name), _) => format!("{name}::default()"),
        (Type::Array(_), _) => "Vec::new()".to_owned(),
        _ => "0".to_owned(),
    };
    if field.nullable.is_some() { format!("Some({value})") } else { value }
}

/// The condition that a field does not have its default.
pub fn is_set(field: &Field) -> String {
    let place = format!("self.{}", names::field(&field.name));
    let optional = field.nullable.is_some();
    match &field.kind {
        _ if default(field) == "None" => format!("{place}.is_some()"),
        Type::String if optional => format!("{place}.as_deref() != Some(\"\")"),
        Type::Bytes | Type::Array(_) if optional => {
            format!("{place}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        Type::Records => format!("{place}.as_ref().is_none_or(|value| !value.is_empty())"),
        Type::String | Type::Bytes | Type::Array(_) => format!("!{place}.is_empty()"),
        Type::Bool if field.default == DefaultValue::True => format!("!{place}"),
        Type::Bool => place,
        _ => format!("{place} != {}", default(field)),
    }
}

/// `impl Default`, from the schema's defaults.
pub fn defaults(code: &mut Code, node: &Node<'_>) {
    let (generics, name) = generic_name(node);
    code.line("");
    code.line(format!("impl{generics} Default for {name} {{"));
    code.line("fn default() -> Self {");
    if node.fields.is_empty() {
        code.line("Self {}");
    } else {
        code.line("Self {");
        for field in node.fields {
            code.line(format!("{}: {},", names::field(&field.name), default(field)));
        }
        code.line("}");
    }
    code.lines(["}", "}"]);
}

/// `impl Message` and the record type, for the message as a whole.
pub fn message_impl(code: &mut Code, tree: &Tree<'_>) {
    let (message, node) = (tree.message, &tree.nodes[0]);
    let (generics, name) = generic_name(node);
    let first_flexible = match message.flexible {
        Some(first) => format!("Some({first})"),
        None => "None".to_owned(),
    };
    code.line(format!("impl<'a> crate::Message<'a> for {name} {{"));
    code.line(format!("const NAME: &'static str = \"{}\";", message.name));
    code.line(format!("const MIN_VERSION: i16 = {};", message.versions.min));
    code.line(format!("const MAX_VERSION: i16 = {};", message.versions.max));
    code.line(format!("const FIRST_FLEXIBLE: Option<i16> = {first_flexible};"));
    code.lines([
        "",
        "fn decode(r: &mut wire::Reader<'a>, version: i16) -> Result<Self, wire::DecodeError> {",
        "r.begin(Self::NAME, version, Self::MIN_VERSION, Self::MAX_VERSION)?;",
        "Self::read(r, version)",
        "}",
        "",
        "fn encode(&self, w: &mut wire::Writer, version: i16) -> Result<(), wire::EncodeError> {",
        "w.begin(Self::NAME, version, Self::MIN_VERSION, Self::MAX_VERSION)?;",
        "self.write(w, version);",
        "w.end()",
        "}",
        "}",
    ]);
    if let (false, Some(key)) = (matches!(message.kind, Kind::Request | Kind::Response), message.key) {
        code.line("");
        code.line(format!("impl{generics} {name} {{"));
        code.line("/// The type under which Kafka writes this record.");
        code.line(format!("pub const RECORD_TYPE: i16 = {key};"));
        code.line("}");
    }
}
