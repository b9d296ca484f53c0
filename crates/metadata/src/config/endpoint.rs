//! Addresses: `NAME://host:port` of listeners, `NAME:PROTOCOL` of their protocols, `id@host:port` of voters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::note::ConfigError;

/// How bytes travel on a listener. Only [`SecurityProtocol::Plaintext`] is served yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum SecurityProtocol {
    /// no encryption, no login
    Plaintext = 0,
    /// TLS
    Ssl = 1,
    /// login without encryption
    SaslPlaintext = 2,
    /// login over TLS
    SaslSsl = 3,
}

impl SecurityProtocol {
    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];
        all.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

/// One address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Listener name in upper case.
    pub name: String,
    /// Host name or address; empty for every interface, or, when advertised, for the name of this machine.
    pub host: String,
    /// TCP port; 0 lets the operating system choose.
    pub port: u16,
    /// How bytes travel.
    pub security_protocol: SecurityProtocol,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.name, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.name, self.host, self.port)
        }
    }
}

/// A voter of the metadata quorum as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its node id.
    pub id: i32,
    /// Its host.
    pub host: String,
    /// Its controller port.
    pub port: u16,
}

/// Parses the listeners of `key` and gives each its protocol.
pub(super) fn parse_listeners(
    key: &str,
    items: &[String],
    protocols: &BTreeMap<String, SecurityProtocol>,
) -> Result<Vec<Endpoint>, ConfigError> {
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(items.len());
    for item in items {
        let error = |reason: String| ConfigError::new(key, Some(item), reason);
        let (name, address) = item.split_once("://").ok_or_else(|| {
            error("must look like NAME://host:port, for example PLAINTEXT://:9092".to_owned())
        })?;
        let name = name.trim().to_ascii_uppercase();
        let (host, port) = parse_address(address).map_err(error)?;
        let Some(protocol) = protocols.get(&name) else {
            return Err(error(format!(
                "listener {name} has no security protocol: add {name}:PLAINTEXT to listener.security.protocol.map"
            )));
        };
        if *protocol != SecurityProtocol::Plaintext {
            return Err(error(format!(
                "{} is not served yet: only PLAINTEXT listeners can be opened, so give this one that protocol, or \
                 leave it out",
                protocol.name()
            )));
        }
        if endpoints.iter().any(|known| known.name == name) {
            return Err(error(format!("the listener name {name} is used twice: each needs its own")));
        }
        endpoints.push(Endpoint { name, host, port, security_protocol: *protocol });
    }
    Ok(endpoints)
}

/// Two listeners may share a port only if one is on IPv4 and the other on IPv6.
pub(super) fn check_ports(key: &str, endpoints: &[Endpoint]) -> Result<(), ConfigError> {
    let family = |endpoint: &Endpoint| endpoint.host.parse::<IpAddr>().ok().map(|address| address.is_ipv4());
    for (index, one) in endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.port != 0) {
        for other in endpoints[index + 1..].iter().filter(|other| other.port == one.port) {
            let apart = family(one).is_some() && family(other).is_some() && family(one) != family(other);
            if !apart {
                let reason = format!("port {} is already that of {one}: choose another", other.port);
                return Err(ConfigError::new(key, Some(&other.to_string()), reason));
            }
        }
    }
    Ok(())
}

/// Parses `NAME:PROTOCOL` pairs.
pub(super) fn parse_protocols(
    key: &str,
    text: &str,
) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
    let mut protocols = BTreeMap::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let error = |reason: &str| ConfigError::new(key, Some(item), reason);
        let (name, protocol) = item.rsplit_once(':').ok_or_else(|| error("must look like NAME:PROTOCOL"))?;
        let protocol = SecurityProtocol::from_name(protocol.trim())
            .ok_or_else(|| error("the protocol must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"))?;
        protocols.insert(name.trim().to_ascii_uppercase(), protocol);
    }
    Ok(protocols)
}

/// Parses `id@host:port` items.
pub(super) fn parse_voters(key: &str, items: &[String]) -> Result<Vec<Voter>, ConfigError> {
    let mut voters: Vec<Voter> = Vec::with_capacity(items.len());
    for item in items {
        let error = |reason: String| ConfigError::new(key, Some(item), reason);
        let (id, address) = item
            .split_once('@')
            .ok_or_else(|| error("must look like id@host:port, for example 1@localhost:9093".to_owned()))?;
        let id: i32 = id.trim().parse().ok().filter(|id| *id >= 0).ok_or_else(|| {
            error("the part before @ must be the node id of a voter, a number from 0 on".to_owned())
        })?;
        let (host, port) = parse_address(address).map_err(error)?;
        if host.is_empty() || port == 0 {
            return Err(error("needs a host and a port".to_owned()));
        }
        if voters.iter().any(|known| known.id == id) {
            return Err(error(format!("voter {id} is named twice")));
        }
        voters.push(Voter { id, host, port });
    }
    Ok(voters)
}

/// Parses the servers of `key`, each as `host:port`.
pub(super) fn parse_servers(key: &str, items: &[String]) -> Result<Vec<(String, u16)>, ConfigError> {
    let parse = |item: &String| match parse_address(item) {
        Ok((host, port)) if !host.is_empty() && port != 0 => Ok((host, port)),
        Ok(_) => Err(ConfigError::new(key, Some(item), "needs a host and a port")),
        Err(reason) => Err(ConfigError::new(key, Some(item), reason)),
    };
    items.iter().map(parse).collect()
}

/// Parses `host:port`, with IPv6 addresses in brackets.
pub(super) fn parse_address(address: &str) -> Result<(String, u16), String> {
    let (host, port) = address.trim().rsplit_once(':').ok_or("has no port")?;
    let port: u16 = port.parse().map_err(|_| "the port must be a number from 0 to 65535".to_owned())?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or("the bracket around the address is not closed")?,
        None => host,
    };
    let spoken = |byte: u8| byte.is_ascii_alphanumeric() || b"-%._:".contains(&byte);
    if !bare.bytes().all(spoken) {
        return Err(format!("{bare} is not a host name or address"));
    }
    Ok((bare.to_owned(), port))
}
