//! Tables over all messages: the APIs, the records of the metadata log, and a table for tests.

use super::code::Code;
use super::types::generic_name;
use crate::model::{Kind, Listener, Message};
use crate::tree::Tree;

/// `enum ApiKey`, the table of its facts by key, and `impl Request` for every request.
pub fn api_keys(messages: &[Message]) -> Result<String, String> {
    let mut requests: Vec<&Message> =
        messages.iter().filter(|message| message.kind == Kind::Request).collect();
    requests.sort_by_key(|message| message.key);
    let mut apis = Vec::new();
    for request in requests {
        let response = messages
            .iter()
            .find(|message| message.kind == Kind::Response && message.key == request.key)
            .ok_or_else(|| format!("{} has no response", request.name))?;
        let key =
            request.key.filter(|key| *key >= 0).ok_or_else(|| format!("{} has no key", request.name))?;
        if request.versions != response.versions {
            return Err(format!("{} and its response differ in versions", request.name));
        }
        apis.push((key, request, response));
    }
    let mut code = Code::default();
    code.lines([
        "/// An API of Kafka: what a request asks for. The discriminant is the key on the wire.",
        "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]",
        "#[repr(i16)]",
        "pub enum ApiKey {",
    ]);
    for (key, request, _) in &apis {
        code.line(format!("/// {} ({key}), versions {}.", request.short_name(), request.versions));
        code.line(format!("{} = {key},", request.short_name()));
    }
    code.lines(["}", "", "impl ApiKey {", "/// Every API, by key."]);
    code.line(format!("pub const ALL: [ApiKey; {}] = [", apis.len()));
    for (_, request, _) in &apis {
        code.line(format!("ApiKey::{},", request.short_name()));
    }
    code.lines(["];", "}", "", "/// The facts of each API, at the place of its key."]);
    let last = apis.last().map_or(-1, |(key, _, _)| *key);
    code.line(format!("static APIS: [Option<Api>; {}] = [", last + 1));
    for place in 0..=last {
        let Some((_, request, response)) = apis.iter().find(|(key, _, _)| *key == place) else {
            code.line("None,");
            continue;
        };
        let listeners: Vec<&str> = request
            .listeners
            .iter()
            .map(|listener| match listener {
                Listener::Broker => "Listener::Broker",
                Listener::Controller => "Listener::Controller",
            })
            .collect();
        code.line(format!(
            "Some(Api {{ key: ApiKey::{name}, name: \"{name}\", min: {}, max: {}, stable_max: {}, flexible: {:?}, \
             response_flexible: {:?}, listeners: &[{}] }}),",
            request.versions.min,
            request.versions.max,
            request.versions.max - i16::from(request.latest_unstable),
            request.flexible,
            response.flexible,
            listeners.join(", "),
            name = request.short_name(),
        ));
    }
    code.lines(["];", ""]);
    for (_, request, response) in &apis {
        let (request_tree, response_tree) = (Tree::new(request)?, Tree::new(response)?);
        let lifetime = |tree: &Tree<'_>, lifetime: &str| {
            let module = tree.message.module();
            let lifetime = if tree.nodes[0].borrows { format!("<{lifetime}>") } else { String::new() };
            format!("crate::messages::{module}::{}{lifetime}", tree.message.name)
        };
        code.line(format!("impl<'a> crate::Request<'a> for {} {{", lifetime(&request_tree, "'a")));
        code.line(format!("const KEY: ApiKey = ApiKey::{};", request.short_name()));
        code.line(format!("type Response<'b> = {};", lifetime(&response_tree, "'b")));
        code.lines(["}", ""]);
    }
    Ok(code.finish())
}

/// `enum MetadataRecord` over the records of `__cluster_metadata`, which are given.
pub fn metadata_records(records: &[Message]) -> Result<String, String> {
    let mut records: Vec<&Message> = records.iter().collect();
    records.sort_by_key(|record| record.key);
    let mut trees = Vec::new();
    for record in records {
        let key = record.key.ok_or_else(|| format!("{} has no type", record.name))?;
        trees.push((key, Tree::new(record)?));
    }
    let mut code = Code::default();
    code.lines([
        "/// A record of `__cluster_metadata`, whichever it is.",
        "#[derive(Debug, Clone, PartialEq)]",
        "#[allow(clippy::enum_variant_names)]",
        "pub enum MetadataRecord<'a> {",
    ]);
    let path =
        |tree: &Tree<'_>| format!("super::{}::{}", tree.message.module(), generic_name(&tree.nodes[0]).1);
    for (key, tree) in &trees {
        let name = &tree.message.name;
        code.line(format!("/// `{name}`, type {key}, versions {}.", tree.message.versions));
        code.line(format!("{name}({}),", path(tree)));
    }
    code.lines([
        "}",
        "",
        "impl<'a> MetadataRecord<'a> {",
        "/// The type of the record, as it is written.",
        "pub fn record_type(&self) -> i16 {",
        "match self {",
    ]);
    for (key, tree) in &trees {
        code.line(format!("Self::{}(_) => {key},", tree.message.name));
    }
    code.lines([
        "}",
        "}",
        "",
        "/// Kafka's name of the record.",
        "pub fn name(&self) -> &'static str {",
        "match self {",
    ]);
    for (_, tree) in &trees {
        code.line(format!("Self::{name}(_) => \"{name}\",", name = tree.message.name));
    }
    code.lines([
        "}",
        "}",
        "",
        "/// The newest version of the record.",
        "pub fn max_version(&self) -> i16 {",
        "match self {",
    ]);
    for (_, tree) in &trees {
        code.line(format!("Self::{}(_) => {},", tree.message.name, tree.message.versions.max));
    }
    code.lines([
        "}",
        "}",
        "",
        "/// Reads a record of the given type, without its frame.",
        "pub fn decode(r: &mut Reader<'a>, record_type: i16, version: i16) -> Result<Self, DecodeError> {",
        "Ok(match record_type {",
    ]);
    for (key, tree) in &trees {
        code.line(format!("{key} => Self::{}(crate::Message::decode(r, version)?),", tree.message.name));
    }
    code.lines([
        "_ => return Err(r.fail(DecodeErrorKind::UnknownType)),",
        "})",
        "}",
        "",
        "/// Writes the record without its frame.",
        "pub fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {",
        "match self {",
    ]);
    for (_, tree) in &trees {
        code.line(format!(
            "Self::{}(record) => crate::Message::encode(record, w, version),",
            tree.message.name
        ));
    }
    code.lines(["}", "}", "}"]);
    for (_, tree) in &trees {
        code.line("");
        code.line(format!("impl<'a> From<{}> for MetadataRecord<'a> {{", path(tree)));
        code.line(format!("fn from(record: {}) -> Self {{", path(tree)));
        code.line(format!("Self::{}(record)", tree.message.name));
        code.lines(["}", "}"]);
    }
    Ok(code.finish())
}

/// A table of all messages for tests, which include it below a module that has `Entry`, `decode`, `roundtrip` and
/// `defaults`. It is no part of the library.
pub fn testing(messages: &[Message]) -> String {
    let mut code = Code::default();
    code.line("pub static MESSAGES: &[Entry] = &[");
    for message in messages {
        code.line(format!(
            "Entry {{ name: \"{}\", decode: {module}::decode, roundtrip: {module}::roundtrip, defaults: {module}::defaults }},",
            message.name,
            module = message.module()
        ));
    }
    code.line("];");
    for message in messages {
        let module = message.module();
        code.line(format!("mod {module} {{"));
        code.line(format!("use ottla_protocol::messages::{module}::{};", message.name));
        code.lines([
            "pub fn decode(bytes: &[u8], version: i16) -> super::Outcome<()> {",
            &format!("super::decode::<{}>(bytes, version)", message.name),
            "}",
            "pub fn roundtrip(bytes: &[u8], version: i16) -> super::Outcome<Vec<u8>> {",
            &format!("super::roundtrip::<{}>(bytes, version)", message.name),
            "}",
            "pub fn defaults(version: i16) -> super::Outcome<Vec<u8>> {",
            &format!("super::defaults::<{}>(version)", message.name),
            "}",
            "}",
        ]);
    }
    code.finish()
}
