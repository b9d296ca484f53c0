//! `meta.properties`: whose directory this is (`MetaProperties`, `MetaPropertiesEnsemble`).
//!
//! The one tricky idea: the file is a Java properties file, so a reader has to know its comments, separators and escapes; Ottla writes the
//! plainest of them.

use std::fmt;
use std::io;
use std::path::Path;

use ottla_protocol::Uuid;

use crate::disk::{Disk, read_file, write_atomic};

/// The file's name.
pub const META_PROPERTIES: &str = "meta.properties";

/// The content of a version 1 `meta.properties`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id`; directories formatted before KIP-858 have none.
    pub directory_id: Option<Uuid>,
}

/// Why a directory's `meta.properties` keeps a node from using it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaPropertiesError {
    /// The file does not say what it must.
    Malformed(String),
    /// It belongs to another cluster.
    ForeignCluster {
        /// The cluster that the configuration names.
        expected: String,
        /// The cluster that the directory names.
        found: String,
    },
    /// It belongs to another node.
    ForeignNode {
        /// The node that the configuration names.
        expected: i32,
        /// The node that the directory names.
        found: i32,
    },
}

impl fmt::Display for MetaPropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetaPropertiesError::Malformed(what) => write!(f, "meta.properties is malformed: {what}"),
            MetaPropertiesError::ForeignCluster { expected, found } => {
                write!(
                    f,
                    "the directory belongs to cluster {found}, this node to cluster {expected}; leave CLUSTER_ID out or choose another directory"
                )
            }
            MetaPropertiesError::ForeignNode { expected, found } => {
                write!(
                    f,
                    "the directory belongs to node {found}, this is node {expected}; set node.id={found} or choose another directory"
                )
            }
        }
    }
}

impl std::error::Error for MetaPropertiesError {}

impl MetaProperties {
    /// Refuses the directory of another cluster or node. What is not known yet (`None`) is not compared.
    pub fn check(&self, cluster_id: Option<&str>, node_id: Option<i32>) -> Result<(), MetaPropertiesError> {
        if let Some(expected) = cluster_id.filter(|expected| *expected != self.cluster_id) {
            let found = self.cluster_id.clone();
            return Err(MetaPropertiesError::ForeignCluster { expected: expected.to_owned(), found });
        }
        if let Some(expected) = node_id.filter(|expected| *expected != self.node_id) {
            return Err(MetaPropertiesError::ForeignNode { expected, found: self.node_id });
        }
        Ok(())
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<MetaProperties, MetaPropertiesError> {
        let properties = parse_properties(text);
        let get =
            |name: &str| properties.iter().rev().find(|(key, _)| key == name).map(|(_, value)| &**value);
        let bad = |what: String| MetaPropertiesError::Malformed(what);
        match get("version") {
            Some("1") => {}
            Some(version) => {
                return Err(bad(format!(
                    "version {version:?} is not supported (a KRaft directory has version 1)"
                )));
            }
            None => return Err(bad("version is missing (a directory of a ZooKeeper broker?)".into())),
        }
        let cluster_id = get("cluster.id").ok_or_else(|| bad("cluster.id is missing".into()))?.to_owned();
        let node_id = get("node.id").ok_or_else(|| bad("node.id is missing".into()))?;
        let node_id = node_id.parse().map_err(|_| bad(format!("node.id {node_id:?} is not a number")))?;
        let directory_id = match get("directory.id") {
            None => None,
            Some(id) => {
                Some(id.parse().map_err(|_| bad(format!("directory.id {id:?} is not a base64 UUID")))?)
            }
        };
        Ok(MetaProperties { cluster_id, node_id, directory_id })
    }

    fn encode(&self) -> String {
        let mut text = String::from("#\n");
        let mut put = |name: &str, value: &str| {
            text.push_str(name);
            text.push('=');
            text.push_str(&value.replace('\\', "\\\\").replace('=', "\\=").replace(':', "\\:"));
            text.push('\n');
        };
        put("version", "1");
        put("cluster.id", &self.cluster_id);
        put("node.id", &self.node_id.to_string());
        if let Some(id) = self.directory_id {
            put("directory.id", &id.to_string());
        }
        text
    }

    /// Reads the identity of a directory. `None`: it has none, so it is not formatted.
    pub fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Result<Self, MetaPropertiesError>>> {
        match read_file(disk, &dir.join(META_PROPERTIES)) {
            Ok(bytes) => Ok(Some(MetaProperties::parse(&String::from_utf8_lossy(&bytes)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        write_atomic(disk, &dir.join(META_PROPERTIES), self.encode().as_bytes())
    }
}

/// The keys and values of a Java properties file, in order. Line continuations do not occur in files that machines write.
fn parse_properties(text: &str) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut escaped = false;
        let end = line.find(|c: char| {
            let separates = !escaped && matches!(c, '=' | ':' | ' ' | '\t');
            escaped = !escaped && c == '\\';
            separates
        });
        let (key, rest) = line.split_at(end.unwrap_or(line.len()));
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
        properties.push((unescape(key), unescape(value)));
    }
    properties
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                plain.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kafka_storage_format_writes() {
        let text = "#\n#Mon Nov 03 12:00:00 UTC 2025\nnode.id=7\ndirectory.id=J8aAPcfLQt2bqs1JT_rMgQ\nversion=1\n\
                    cluster.id=Some\\=Id\\:x\n";
        let properties = MetaProperties::parse(text).unwrap();
        assert_eq!((properties.node_id, &*properties.cluster_id), (7, "Some=Id:x"));
        assert_eq!(properties.directory_id.unwrap().to_string(), "J8aAPcfLQt2bqs1JT_rMgQ");
        assert_eq!(MetaProperties::parse(&properties.encode()).unwrap(), properties);
    }

    #[test]
    fn refuses_foreign_and_malformed_directories() {
        let properties = MetaProperties { cluster_id: "mine".into(), node_id: 1, directory_id: None };
        assert_eq!(properties.check(Some("mine"), Some(1)), Ok(()));
        assert_eq!(properties.check(None, None), Ok(()));
        assert!(matches!(properties.check(Some("b"), None), Err(MetaPropertiesError::ForeignCluster { .. })));
        assert!(matches!(properties.check(None, Some(2)), Err(MetaPropertiesError::ForeignNode { .. })));
        for text in [
            "",
            "version=0\nbroker.id=1\ncluster.id=x",
            "version=1\nnode.id=1",
            "version=1\ncluster.id=x",
            "version=1\ncluster.id=x\nnode.id=one",
            "version=1\ncluster.id=x\nnode.id=1\ndirectory.id=!",
        ] {
            assert!(matches!(MetaProperties::parse(text), Err(MetaPropertiesError::Malformed(_))), "{text}");
        }
    }
}
