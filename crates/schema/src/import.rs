//! Kafka's JSON schemas, read into the model.
//!
//! Comments are stripped (they stand at the start of a line, behind a value, or between `/*` and `*/`), prose and
//! entity types are dropped, and version ranges are brought into the normal form. A message without live versions,
//! such as ControlledShutdown, is no message.

use serde_json::Value;

use crate::model::{DefaultValue, Field, Kind, Listener, Message, Struct, Type};
use crate::names;
use crate::versions::Versions;

/// Reads one JSON file. `Ok(None)` where the message has no live version.
pub fn import(text: &str) -> Result<Option<Message>, String> {
    let json: Value = serde_json::from_str(&strip_comments(text)).map_err(|error| error.to_string())?;
    let name = string(&json, "name")?;
    let kind = match string(&json, "type")? {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "metadata" => Kind::Metadata,
        "coordinator-key" => Kind::CoordinatorKey,
        "coordinator-value" => Kind::CoordinatorValue,
        "data" => Kind::Data,
        other => return Err(format!("{name}: `{other}` is no kind of message")),
    };
    if !name.ends_with(kind.suffix()) {
        return Err(format!("{name}: a {} should be named so", kind.word()));
    }
    let Some(versions) = Versions::parse(string(&json, "validVersions")?, Versions::ALL)? else {
        return Ok(None);
    };
    let flexible = Versions::parse(string(&json, "flexibleVersions")?, versions)?;
    if flexible.is_some_and(|flexible| flexible.max != versions.max) {
        return Err(format!("{name}: flexible versions must reach to the newest"));
    }
    let listeners = array(&json, "listeners").iter().map(|listener| match listener.as_str() {
        Some("broker") => Ok(Listener::Broker),
        Some("controller") => Ok(Listener::Controller),
        _ => Err(format!("{name}: {listener} is no listener")),
    });
    let key = json.get("apiKey").map(|key| key.as_i64().and_then(|key| i16::try_from(key).ok()));
    let mut structs = Vec::new();
    for shared in array(&json, "commonStructs") {
        let shared_name = string(shared, "name")?;
        if let Some(versions) = Versions::parse(string(shared, "versions")?, versions)? {
            let fields = fields(array(shared, "fields"), versions)?;
            structs.push(Struct { name: shared_name.to_owned(), versions, fields });
        }
    }
    Ok(Some(Message {
        name: name.to_owned(),
        kind,
        key: key.map(|key| key.ok_or_else(|| format!("{name}: strange apiKey"))).transpose()?,
        versions,
        flexible: flexible.map(|flexible| flexible.min),
        latest_unstable: json.get("latestVersionUnstable").and_then(Value::as_bool).unwrap_or(false),
        listeners: listeners.collect::<Result<_, _>>()?,
        fields: fields(array(&json, "fields"), versions).map_err(|error| format!("{name}: {error}"))?,
        structs,
    }))
}

/// Blanks out `//` and `/* */` outside of strings.
fn strip_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut in_string = false;
    while let Some(letter) = letters.next() {
        match (in_string, letter, letters.peek()) {
            (true, '\\', Some(_)) => {
                out.push(letter);
                out.extend(letters.next());
            }
            (_, '"', _) => {
                in_string = !in_string;
                out.push(letter);
            }
            (false, '/', Some('/')) => while letters.next_if(|letter| *letter != '\n').is_some() {},
            (false, '/', Some('*')) => {
                letters.next();
                let mut star = false;
                for letter in letters.by_ref() {
                    if star && letter == '/' {
                        break;
                    }
                    star = letter == '*';
                }
            }
            _ => out.push(letter),
        }
    }
    out
}

fn fields(list: &[Value], parent: Versions) -> Result<Vec<Field>, String> {
    let mut out = Vec::new();
    for json in list {
        let name = string(json, "name")?;
        if let Some(field) = field(json, parent).map_err(|error| format!("{name}: {error}"))? {
            out.push(field);
        }
    }
    Ok(out)
}

/// One field; `None` where no live version has it.
fn field(json: &Value, parent: Versions) -> Result<Option<Field>, String> {
    let tagged = json.get("taggedVersions").and_then(Value::as_str);
    // Kafka lets a tagged field leave its versions out when they are the tagged ones.
    let text = json.get("versions").and_then(Value::as_str).or(tagged).ok_or("no versions")?;
    let Some(versions) = Versions::parse(text, parent)? else { return Ok(None) };
    let kind = kind(string(json, "type")?)?;
    let nullable = match json.get("nullableVersions").and_then(Value::as_str) {
        Some(text) => Versions::parse(text, versions)?,
        None => None,
    };
    let tag =
        json.get("tag").map(|tag| tag.as_u64().and_then(|tag| u32::try_from(tag).ok()).ok_or("strange tag"));
    let tag = tag.transpose()?;
    if let Some(tagged) = tagged
        && (tag.is_none() || Versions::parse(tagged, parent)? != Some(versions))
    {
        return Err("a field must be tagged in all of its versions or in none".to_owned());
    }
    Ok(Some(Field {
        name: names::snake(string(json, "name")?),
        default: default(json.get("default"), &kind, nullable)?,
        kind,
        versions,
        nullable,
        tag,
        ignorable: is_true(json.get("ignorable")),
        plain: json.get("flexibleVersions").and_then(Value::as_str) == Some("none"),
        fields: fields(array(json, "fields"), versions)?,
    }))
}

fn kind(text: &str) -> Result<Type, String> {
    let word = match text {
        "int8" => "i8",
        "int16" => "i16",
        "uint16" => "u16",
        "int32" => "i32",
        "uint32" => "u32",
        "int64" => "i64",
        "float64" => "f64",
        other => other,
    };
    if let Some(element) = word.strip_prefix("[]") {
        return Ok(Type::Array(Box::new(kind(element)?)));
    }
    Type::from_word(word).ok_or_else(|| format!("`{text}` is no type"))
}

/// Kafka writes defaults as JSON values or as strings that hold them, numbers also in base 16.
fn default(json: Option<&Value>, kind: &Type, nullable: Option<Versions>) -> Result<DefaultValue, String> {
    let Some(json) = json else { return Ok(DefaultValue::Zero) };
    let text = match json {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let integer = || match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => text.parse::<i64>(),
    };
    match kind {
        _ if text == "null" && nullable.is_some() => Ok(DefaultValue::Null),
        Type::Bool if text == "true" => Ok(DefaultValue::True),
        Type::Bool if text == "false" => Ok(DefaultValue::Zero),
        Type::String | Type::Bytes if text.is_empty() => Ok(DefaultValue::Zero),
        kind if kind.is_integer() => match integer() {
            Ok(0) => Ok(DefaultValue::Zero),
            Ok(value) => Ok(DefaultValue::Integer(value)),
            Err(_) => Err(format!("`{text}` is not a number")),
        },
        _ => Err(format!("`{text}` can not be the default of this type")),
    }
}

fn is_true(json: Option<&Value>) -> bool {
    json.is_some_and(|json| json == &Value::Bool(true) || json.as_str() == Some("true"))
}

fn string<'j>(json: &'j Value, key: &str) -> Result<&'j str, String> {
    json.get(key).and_then(Value::as_str).ok_or_else(|| format!("no {key}"))
}

fn array<'j>(json: &'j Value, key: &str) -> &'j [Value] {
    json.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
