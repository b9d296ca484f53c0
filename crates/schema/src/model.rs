//! One message as data: what the notation says, in the normal form described at the head of the crate.

use crate::names;
use crate::versions::Versions;

/// What a message is for. It decides the suffix of its Rust name and of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request of an API.
    Request,
    /// The answer to a request.
    Response,
    /// The header before a request or a response.
    Header,
    /// A record of a metadata log (`__cluster_metadata`, `__remote_log_metadata`), written in a frame with its type.
    Metadata,
    /// The key of a record of a coordinator's topic.
    CoordinatorKey,
    /// The value of a record of a coordinator's topic.
    CoordinatorValue,
    /// Anything else that is written with a version before or beside it.
    Data,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] = [
        Kind::Request,
        Kind::Response,
        Kind::Header,
        Kind::Metadata,
        Kind::CoordinatorKey,
        Kind::CoordinatorValue,
        Kind::Data,
    ];

    /// The first word of a file of the notation, and the extension of its name.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Request => "request",
            Kind::Response => "response",
            Kind::Header => "header",
            Kind::Metadata => "record",
            Kind::CoordinatorKey => "key",
            Kind::CoordinatorValue => "value",
            Kind::Data => "data",
        }
    }

    /// What the full name of a message of this kind ends with; the notation leaves it out.
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Request => "Request",
            Kind::Response => "Response",
            Kind::CoordinatorKey => "Key",
            Kind::CoordinatorValue => "Value",
            Kind::Header | Kind::Metadata | Kind::Data => "",
        }
    }

    /// The kind that a word of the notation names.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Where an API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// The listeners of brokers.
    Broker,
    /// The listeners of controllers.
    Controller,
}

impl Listener {
    /// The word of the notation.
    pub fn word(self) -> &'static str {
        match self {
            Listener::Broker => "broker",
            Listener::Controller => "controller",
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Kafka's full name, for instance `ProduceRequest`.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// The API key, or the record type of metadata and coordinator records.
    pub key: Option<i16>,
    /// The versions that exist.
    pub versions: Versions,
    /// The first version with compact lengths and tagged fields.
    pub flexible: Option<i16>,
    /// The newest version is still being worked on and not offered to clients.
    pub latest_unstable: bool,
    /// Where a request is served.
    pub listeners: Vec<Listener>,
    /// The fields in the order of the wire.
    pub fields: Vec<Field>,
    /// Structs that more than one field uses, or that Kafka names apart.
    pub structs: Vec<Struct>,
}

impl Message {
    /// The name without the suffix of its kind.
    pub fn short_name(&self) -> &str {
        self.name.strip_suffix(self.kind.suffix()).unwrap_or(&self.name)
    }

    /// The name of the file that the notation lives in.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.short_name(), self.kind.word())
    }

    /// The Rust module of the message.
    pub fn module(&self) -> String {
        names::snake(&self.name)
    }

    /// Is `version` written with compact lengths and tagged fields?
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible.is_some_and(|first| version >= first)
    }
}

/// A struct that is named apart from the field that uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Struct {
    /// Kafka's name.
    pub name: String,
    /// The versions in which it is used, within those of the message.
    pub versions: Versions,
    /// The fields in the order of the wire.
    pub fields: Vec<Field>,
}

/// One field of a message or struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The name in snake case.
    pub name: String,
    /// Its type.
    pub kind: Type,
    /// The versions that have it, within those of its parent.
    pub versions: Versions,
    /// The versions in which it can be null, within [`Field::versions`].
    pub nullable: Option<Versions>,
    /// The number of a tagged field. It is tagged in all of its versions.
    pub tag: Option<u32>,
    /// The value that stands for absence.
    pub default: DefaultValue,
    /// Written to a version that lacks it, a value is dropped where this is set and an error where it is not.
    pub ignorable: bool,
    /// Keeps the old, non-compact length even in flexible versions (only the client id of request headers).
    pub plain: bool,
    /// The fields of the struct that is declared here; empty where the type is no struct or one that is named apart.
    pub fields: Vec<Field>,
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// One byte, zero or not.
    Bool,
    /// Signed, 1 byte.
    I8,
    /// Signed, 2 bytes.
    I16,
    /// Unsigned, 2 bytes.
    U16,
    /// Signed, 4 bytes.
    I32,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 8 bytes.
    I64,
    /// IEEE 754, 8 bytes.
    F64,
    /// 16 bytes.
    Uuid,
    /// UTF-8 with a length.
    String,
    /// Bytes with a length.
    Bytes,
    /// Record batches with a length in bytes.
    Records,
    /// A struct by name.
    Struct(String),
    /// Elements with a count. Arrays are never nested directly.
    Array(Box<Type>),
}

impl Type {
    /// The types that are one word.
    pub const PLAIN: [(&'static str, Type); 12] = [
        ("bool", Type::Bool),
        ("i8", Type::I8),
        ("i16", Type::I16),
        ("u16", Type::U16),
        ("i32", Type::I32),
        ("u32", Type::U32),
        ("i64", Type::I64),
        ("f64", Type::F64),
        ("uuid", Type::Uuid),
        ("string", Type::String),
        ("bytes", Type::Bytes),
        ("records", Type::Records),
    ];

    /// The struct that the type is, or is an array of.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }

    /// Is it a number?
    pub fn is_integer(&self) -> bool {
        matches!(self, Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::U32 | Type::I64)
    }

    /// How the notation writes it.
    pub fn word(&self) -> String {
        match self {
            Type::Struct(name) => name.clone(),
            Type::Array(element) => format!("[{}]", element.word()),
            plain => {
                let found = Type::PLAIN.iter().find(|(_, kind)| kind == plain);
                found.map(|(word, _)| (*word).to_owned()).unwrap_or_default()
            }
        }
    }

    /// The type that the notation writes so. A word that starts with a capital letter is a struct.
    pub fn from_word(word: &str) -> Option<Type> {
        if let Some(element) = word.strip_prefix('[') {
            let element = Type::from_word(element.strip_suffix(']')?)?;
            return (!matches!(element, Type::Array(_))).then(|| Type::Array(Box::new(element)));
        }
        if word.starts_with(|first: char| first.is_ascii_uppercase()) {
            return Some(Type::Struct(word.to_owned()));
        }
        Type::PLAIN.into_iter().find(|(name, _)| *name == word).map(|(_, kind)| kind)
    }
}

/// The value that stands for absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// Zero, false, empty; for a struct, the defaults of its fields.
    Zero,
    /// Null, which the field must be able to be.
    Null,
    /// True.
    True,
    /// A number other than zero.
    Integer(i64),
}
