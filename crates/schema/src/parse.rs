//! The notation, read back into a message.
//!
//! Lines are read one by one; the indentation of a line (two blanks for each level) says whose field it is.

use crate::model::{DefaultValue, Field, Kind, Listener, Message, Struct, Type};
use crate::versions::Versions;

/// Why a file is not of the notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from one.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ParseError {}

struct Line<'t> {
    number: usize,
    depth: usize,
    words: Vec<&'t str>,
}

impl Line<'_> {
    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.number, reason: reason.into() })
    }

    fn versions(&self, text: &str, parent: Versions) -> Result<Versions, ParseError> {
        match Versions::parse(text, parent) {
            Ok(Some(versions)) => Ok(versions),
            Ok(None) => self.fail(format!("`{text}` holds no version of {parent}")),
            Err(reason) => self.fail(reason),
        }
    }
}

/// Reads one file of the notation.
pub fn parse(text: &str) -> Result<Message, ParseError> {
    let lines: Vec<Line<'_>> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let indent = line.len() - line.trim_start().len();
            Line { number: index + 1, depth: indent, words: line.split_whitespace().collect() }
        })
        .collect();
    if let Some(odd) = lines.iter().find(|line| !line.depth.is_multiple_of(2)) {
        return odd.fail("indent by two blanks for each level");
    }
    let Some((head, mut rest)) = lines.split_first() else {
        return Err(ParseError { line: 1, reason: "the file is empty".to_owned() });
    };
    let mut message = parse_head(head)?;
    message.fields = parse_fields(&mut rest, 2, message.versions)?;
    while let Some((line, after)) = rest.split_first() {
        rest = after;
        let (name, versions) = match line.words[..] {
            ["struct", name] => (name, message.versions),
            ["struct", name, "versions", versions] => (name, line.versions(versions, message.versions)?),
            _ => return line.fail("expected `struct Name`"),
        };
        let fields = parse_fields(&mut rest, 2, versions)?;
        message.structs.push(Struct { name: name.to_owned(), versions, fields });
    }
    Ok(message)
}

fn parse_head(line: &Line<'_>) -> Result<Message, ParseError> {
    let mut words = line.words.iter().copied().peekable();
    let Some(kind) = words.next().and_then(Kind::from_word) else {
        return line.fail("a file begins with request, response, header, record, key, value or data");
    };
    let Some(name) = words.next() else { return line.fail("the name is missing") };
    let key = words.next_if(|word| *word != "versions").map(str::parse::<i16>).transpose();
    let Ok(key) = key else { return line.fail("the key is not a number") };
    let (Some("versions"), Some(versions)) = (words.next(), words.next()) else {
        return line.fail("expected `versions N-M` behind the name and key");
    };
    let mut message = Message {
        name: format!("{name}{}", kind.suffix()),
        kind,
        key,
        versions: line.versions(versions, Versions::ALL)?,
        flexible: None,
        latest_unstable: false,
        listeners: Vec::new(),
        fields: Vec::new(),
        structs: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word {
            "latest-unstable" => message.latest_unstable = true,
            "flexible" => {
                message.flexible = Some(line.versions(words.next().unwrap_or(""), message.versions)?.min);
            }
            "on" => {}
            "broker" => message.listeners.push(Listener::Broker),
            "controller" => message.listeners.push(Listener::Controller),
            other => return line.fail(format!("`{other}` has no meaning here")),
        }
    }
    Ok(message)
}

fn parse_fields(rest: &mut &[Line<'_>], depth: usize, parent: Versions) -> Result<Vec<Field>, ParseError> {
    let mut fields = Vec::new();
    while let Some((line, after)) = rest.split_first() {
        if line.depth < depth {
            break;
        }
        if line.depth > depth {
            return line.fail("indented deeper than its parent allows");
        }
        *rest = after;
        let mut field = parse_field(line, parent)?;
        field.fields = parse_fields(rest, depth + 2, field.versions)?;
        if !field.fields.is_empty() && field.kind.struct_name().is_none() {
            return line.fail("only a struct has fields");
        }
        fields.push(field);
    }
    Ok(fields)
}

fn parse_field(line: &Line<'_>, parent: Versions) -> Result<Field, ParseError> {
    let [name, kind, attributes @ ..] = &line.words[..] else {
        return line.fail("a field has a name and a type");
    };
    let (kind, nullable) = match kind.split_once('?') {
        Some((kind, range)) => (kind, Some(range)),
        None => (*kind, None),
    };
    let Some(kind) = Type::from_word(kind) else { return line.fail(format!("`{kind}` is no type")) };
    let mut field = Field {
        name: (*name).to_owned(),
        kind,
        versions: parent,
        nullable: None,
        tag: None,
        default: DefaultValue::Zero,
        ignorable: false,
        plain: false,
        fields: Vec::new(),
    };
    let mut words = attributes.iter().copied();
    while let Some(word) = words.next() {
        match word {
            "tag" => match words.next().unwrap_or("").parse() {
                Ok(tag) => field.tag = Some(tag),
                Err(_) => return line.fail("a tag has a number"),
            },
            "=" => match (words.next().unwrap_or(""), &field.kind) {
                ("null", _) => field.default = DefaultValue::Null,
                ("true", Type::Bool) => field.default = DefaultValue::True,
                (value, kind) if kind.is_integer() => match value.parse() {
                    Ok(value) => field.default = DefaultValue::Integer(value),
                    Err(_) => return line.fail(format!("`{value}` is not a number")),
                },
                (value, _) => return line.fail(format!("`{value}` can not be the default of this type")),
            },
            "ignorable" => field.ignorable = true,
            "plain" => field.plain = true,
            versions => field.versions = line.versions(versions, parent)?,
        }
    }
    field.nullable = match nullable {
        None => None,
        Some("") => Some(field.versions),
        Some(range) => Some(line.versions(range, field.versions)?),
    };
    if field.default == DefaultValue::Null && field.nullable.is_none() {
        return line.fail("null is the default of a field that can not be null");
    }
    Ok(field)
}
