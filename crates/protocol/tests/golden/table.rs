//! Every message by its name: the table that the build script generates for tests.

use ottla_protocol::messages::Message;
use ottla_protocol::{Reader, Writer};

/// What an operation returns; errors are text, since they are only shown.
type Outcome<T> = Result<T, String>;

/// One message.
pub struct Entry {
    name: &'static str,
    /// Reads all of the bytes, or says why not.
    pub decode: fn(&[u8], i16) -> Outcome<()>,
    /// Reads all of the bytes, and writes the message again.
    pub roundtrip: fn(&[u8], i16) -> Outcome<Vec<u8>>,
    /// Writes the message as it is made.
    pub defaults: fn(i16) -> Outcome<Vec<u8>>,
}

fn decode<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Outcome<()> {
    let mut r = Reader::new(bytes);
    M::decode(&mut r, version).and_then(|_| r.expect_end()).map_err(|error| error.to_string())
}

fn roundtrip<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Outcome<Vec<u8>> {
    let mut r = Reader::new(bytes);
    let message = M::decode(&mut r, version).map_err(|error| error.to_string())?;
    r.expect_end().map_err(|error| error.to_string())?;
    encode(&message, version)
}

fn defaults<'a, M: Message<'a>>(version: i16) -> Outcome<Vec<u8>> {
    encode(&M::default(), version)
}

fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Outcome<Vec<u8>> {
    let mut w = Writer::new();
    message.encode(&mut w, version).map_err(|error| error.to_string())?;
    Ok(w.into_bytes().to_vec())
}

/// The message of that name.
pub fn entry(name: &str) -> Outcome<&'static Entry> {
    MESSAGES.iter().find(|entry| entry.name == name).ok_or_else(|| format!("there is no message {name}"))
}

/// Reads all of `bytes` as the message of that name, and writes it again.
pub fn roundtrip_named(name: &str, bytes: &[u8], version: i16) -> Outcome<Vec<u8>> {
    (entry(name)?.roundtrip)(bytes, version)
}

/// The names of all messages.
pub fn names() -> impl Iterator<Item = &'static str> {
    MESSAGES.iter().map(|entry| entry.name)
}

include!(concat!(env!("OUT_DIR"), "/testing.rs"));
