//! Every message as a row of a table, its schema beside it: what tests over all APIs and versions walk along.

#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::disallowed_methods)] // schemas are read from the tree

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ottla_protocol::{CodecError, Message, Reader, Writer};
use ottla_schema::{Message as Schema, parse};

include!(concat!(env!("OUT_DIR"), "/testing.rs"));

pub type Outcome<T> = Result<T, CodecError>;

/// What can be done with a message without knowing its type.
pub struct Entry {
    /// Kafka's name.
    pub name: &'static str,
    /// Reads it and drops it.
    pub decode: fn(&[u8], i16) -> Outcome<()>,
    /// Reads it, writes it, reads what was written and compares: returns what was written.
    pub roundtrip: fn(&[u8], i16) -> Outcome<Vec<u8>>,
    /// Writes the default, reads it and compares: returns what was written.
    pub defaults: fn(i16) -> Outcome<Vec<u8>>,
}

fn decode<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Outcome<()> {
    let mut reader = Reader::new(bytes);
    M::decode(&mut reader, version)?;
    Ok(reader.expect_end()?)
}

fn roundtrip<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(
    bytes: &'a [u8],
    version: i16,
) -> Outcome<Vec<u8>> {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version)?;
    reader.expect_end()?;
    write_and_compare(&message, version)
}

fn defaults<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(version: i16) -> Outcome<Vec<u8>> {
    write_and_compare(&M::default(), version)
}

fn write_and_compare<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(
    message: &M,
    version: i16,
) -> Outcome<Vec<u8>> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version)?;
    // Leaked, so that a message of any lifetime can borrow from it: a test does not live long.
    let written: &'static [u8] = writer.into_bytes().to_vec().leak();
    let mut reader = Reader::new(written);
    assert_eq!(&M::decode(&mut reader, version)?, message, "{} v{version}", M::NAME);
    reader.expect_end()?;
    Ok(written.to_vec())
}

/// Every schema of the tree by the name of its message.
pub fn schemas() -> BTreeMap<String, Schema> {
    let mut schemas = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for group in fs::read_dir(root).expect("the schemas are in the tree") {
        for file in fs::read_dir(group.expect("a folder").path()).expect("a folder of schemas") {
            let text = fs::read_to_string(file.expect("a schema").path()).expect("text");
            let schema = parse::parse(&text).expect("the build parsed it, too");
            schemas.insert(schema.name.clone(), schema);
        }
    }
    schemas
}

/// Every message with its schema.
pub fn messages() -> Vec<(&'static Entry, Schema)> {
    let mut schemas = schemas();
    let found =
        MESSAGES.iter().map(|entry| (entry, schemas.remove(entry.name).expect("a schema for each message")));
    let messages: Vec<(&Entry, Schema)> = found.collect();
    assert!(messages.len() > 270 && schemas.is_empty());
    messages
}
