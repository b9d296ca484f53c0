//! The notation in which Ottla writes down Kafka's messages, and what is made of it.
//!
//! One file of the notation says everything that the wire knows about one message and nothing else: names, types,
//! versions, tags, defaults. From it come the Rust types of `ottla-protocol` (see [`generate`]) and, for tests, bytes
//! that owe nothing to those types (see [`random`]). Kafka's own JSON is only ever read by [`import`].
//!
//! The one idea to hold on to: version ranges are kept in a *normal form*. Every range is clipped to the range of what
//! contains it, so that "all versions" is the common case, is not written down, and compares equal however Kafka's
//! JSON happened to spell it.

pub mod generate;
#[cfg(feature = "import")]
pub mod import;
pub mod model;
pub mod names;
pub mod parse;
pub mod print;
pub mod random;
pub mod tree;
pub mod versions;

pub use model::{DefaultValue, Field, Kind, Listener, Message, Struct, Type};
pub use versions::Versions;

#[cfg(test)]
mod tests;
