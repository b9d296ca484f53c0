//! What every message can do, and what a request is besides.

use crate::api_key::ApiKey;
use crate::wire::{DecodeError, EncodeError, Reader, Writer};

/// A message as a whole: a request, a response, a header, a record. Unknown tagged fields are skipped when read.
pub trait Message<'a>: Sized + Default {
    /// Kafka's name, for instance `ProduceRequest`.
    const NAME: &'static str;
    /// The oldest version.
    const MIN_VERSION: i16;
    /// The newest version, also where Kafka does not yet offer it to clients.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields.
    const FIRST_FLEXIBLE: Option<i16>;

    /// Reads the message and leaves the reader behind it; whether that must be the end is for the caller to say
    /// ([`Reader::expect_end`]).
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message. After an error the writer holds a part of it and is to be dropped.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A message that asks for an answer.
pub trait Request<'a>: Message<'a> {
    /// What is asked for.
    const KEY: ApiKey;
    /// The answer.
    type Response<'b>: Message<'b>;
}
