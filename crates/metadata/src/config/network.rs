//! Listeners and voters: who listens where, who is told what, and whether that fits the roles of the node. The rules
//! are those of Kafka's `KafkaConfig.validateValues`, with one relaxed: a cluster of one needs no controller listener.

use super::broker::{NetworkSettings, QuorumSettings, Roles};
use super::endpoint::{
    Endpoint, SecurityProtocol, Voter, check_ports, parse_address, parse_listeners, parse_protocols,
    parse_servers, parse_voters,
};
use super::layers::Layers;
use super::listener::resolve_listener_limits;
use super::note::{ConfigError, ConfigNote, NoteKind};

pub(super) fn resolve_network(
    layers: &Layers,
    roles: Roles,
    notes: &mut Vec<ConfigNote>,
) -> Result<NetworkSettings, ConfigError> {
    let controller_names: Vec<String> =
        layers.list("controller.listener.names")?.iter().map(|name| name.to_ascii_uppercase()).collect();
    let map_key = "listener.security.protocol.map";
    let mut protocols = parse_protocols(map_key, layers.effective(map_key).unwrap_or(""))?;
    if layers.set(map_key).is_none() {
        // As in Kafka: without a map, controller listeners of any name are plain.
        for name in &controller_names {
            protocols.entry(name.clone()).or_insert(SecurityProtocol::Plaintext);
        }
    }
    let listeners = parse_listeners("listeners", &layers.list("listeners")?, &protocols)?;
    check_ports("listeners", &listeners)?;
    check_controller_listeners(layers, roles, &controller_names, &listeners)?;

    let advertised = match layers.list("advertised.listeners")? {
        items if items.is_empty() => listeners.clone(),
        items => parse_listeners("advertised.listeners", &items, &protocols)?,
    };
    let (mut advertised_controllers, advertised): (Vec<Endpoint>, Vec<Endpoint>) =
        advertised.into_iter().partition(|endpoint| controller_names.contains(&endpoint.name));
    // Where what is advertised speaks of clients alone, other controllers are told where this one listens.
    for listener in listeners.iter().filter(|listener| controller_names.contains(&listener.name)) {
        if !advertised_controllers.iter().any(|endpoint| endpoint.name == listener.name) {
            advertised_controllers.push(listener.clone());
        }
    }
    let inter_broker_listener = match layers.text_if_any("inter.broker.listener.name")? {
        Some(_) if layers.set("security.inter.broker.protocol").is_some() => {
            let reason = "inter.broker.listener.name says the same: leave one of the two out";
            let given = layers.set("security.inter.broker.protocol");
            return Err(ConfigError::new("security.inter.broker.protocol", given, reason));
        }
        Some(name) => name.to_ascii_uppercase(),
        None => layers.effective("security.inter.broker.protocol").unwrap_or("PLAINTEXT").to_owned(),
    };
    if roles.broker {
        check_advertised(&listeners, &advertised, &inter_broker_listener)?;
    }
    if roles.broker && layers.set("listeners").is_none() {
        let text = "listeners is not set: only this machine can connect; set listeners=PLAINTEXT://:9092 and \
                    advertised.listeners to serve others";
        notes.push(advice(&["listeners"], text.to_owned()));
    }
    let names = listeners.iter().map(|listener| listener.name.as_str());
    let listener_limits = resolve_listener_limits(layers, names, &controller_names)?;
    let buffer = |bytes: i32| (bytes >= 0).then_some(bytes);
    Ok(NetworkSettings {
        listeners,
        advertised_listeners: advertised,
        advertised_controllers,
        controller_listener_names: controller_names,
        inter_broker_listener,
        send_buffer_bytes: buffer(layers.int("socket.send.buffer.bytes")?),
        receive_buffer_bytes: buffer(layers.int("socket.receive.buffer.bytes")?),
        request_max_bytes: layers.int("socket.request.max.bytes")?,
        backlog: layers.int("socket.listen.backlog.size")?,
        max_connection_creation_rate: layers.int("max.connection.creation.rate")?,
        max_connections: layers.int("max.connections")?,
        listener_limits,
        max_connections_per_ip: layers.int("max.connections.per.ip")?,
        max_connections_per_ip_overrides: parse_ip_overrides(layers)?,
        connections_max_idle_ms: Some(layers.long("connections.max.idle.ms")?).filter(|ms| *ms >= 0),
        request_timeout_ms: layers.int("request.timeout.ms")?,
    })
}

fn check_controller_listeners(
    layers: &Layers,
    roles: Roles,
    names: &[String],
    listeners: &[Endpoint],
) -> Result<(), ConfigError> {
    let key = "controller.listener.names";
    let given = layers.set(key);
    let listening = |name: &String| listeners.iter().any(|endpoint| endpoint.name == *name);
    match (roles.broker, roles.controller) {
        (_, true) => {
            if let Some(name) = names.iter().find(|name| !listening(name)) {
                let reason = format!(
                    "no listener is called {name}: add {name}://:9093 to listeners, or name one that is there"
                );
                return Err(ConfigError::new(key, given, reason));
            }
            if !roles.broker && names.len() != listeners.len() {
                let reason = "a node that is only a controller has only controller listeners: name all of them \
                              in controller.listener.names, or add broker to process.roles";
                return Err(ConfigError::new("listeners", layers.set("listeners"), reason));
            }
            Ok(())
        }
        (true, false) if names.is_empty() => {
            let reason = "a node that is only a broker must know the name of the controllers' listener: set it, \
                          for example, to CONTROLLER";
            Err(ConfigError::new(key, None, reason))
        }
        (_, false) => match names.iter().find(|name| listening(name)) {
            Some(name) => {
                let reason = format!(
                    "listener {name} is opened by a node that is only a broker: take it out of listeners, or add \
                     controller to process.roles"
                );
                Err(ConfigError::new(key, given, reason))
            }
            None => Ok(()),
        },
    }
}

fn check_advertised(
    listeners: &[Endpoint],
    advertised: &[Endpoint],
    inter_broker_listener: &str,
) -> Result<(), ConfigError> {
    let names = |endpoints: &[Endpoint]| {
        let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        names.join(", ")
    };
    if advertised.is_empty() {
        let reason = "a broker needs a listener for clients, and all of them are controller listeners: add \
                      PLAINTEXT://:9092";
        return Err(ConfigError::new("listeners", None, reason));
    }
    for endpoint in advertised {
        let shown = endpoint.to_string();
        if !listeners.iter().any(|listener| listener.name == endpoint.name) {
            let reason =
                format!("no listener is called {}: the listeners are {}", endpoint.name, names(listeners));
            return Err(ConfigError::new("advertised.listeners", Some(&shown), reason));
        }
        if endpoint.host == "0.0.0.0" {
            let reason = "clients can not connect to 0.0.0.0: set advertised.listeners (--advertise HOST:PORT) \
                          to a name or address of this machine";
            return Err(ConfigError::new("advertised.listeners", Some(&shown), reason));
        }
    }
    if !advertised.iter().any(|endpoint| endpoint.name == inter_broker_listener) {
        let reason = format!(
            "brokers would use listener {inter_broker_listener}, which is not advertised: set it to one of {}",
            names(advertised)
        );
        return Err(ConfigError::new("inter.broker.listener.name", Some(inter_broker_listener), reason));
    }
    Ok(())
}

fn parse_ip_overrides(layers: &Layers) -> Result<Vec<(String, i32)>, ConfigError> {
    let key = "max.connections.per.ip.overrides";
    let Some(text) = layers.text_if_any(key)? else {
        return match layers.int("max.connections.per.ip")? {
            0 => {
                let reason = "nobody could connect: allow some addresses in max.connections.per.ip.overrides";
                let told = format!(
                    "requirement failed: max.connections.per.ip can be set to zero only if {key} property is set."
                );
                Err(ConfigError::new("max.connections.per.ip", Some("0"), reason).telling(told))
            }
            _ => Ok(Vec::new()),
        };
    };
    let parse = |item: &str| -> Option<(String, i32)> {
        let (host, count) = item.rsplit_once(':')?;
        parse_address(&format!("{}:0", host.trim())).ok()?;
        Some((host.trim().to_owned(), count.trim().parse().ok().filter(|count| *count >= 0)?))
    };
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| parse(item).ok_or_else(|| ConfigError::new(key, Some(item), "must look like host:count")))
        .collect()
}

pub(super) fn resolve_quorum(
    layers: &Layers,
    node_id: i32,
    roles: Roles,
    network: &NetworkSettings,
    notes: &mut Vec<ConfigNote>,
) -> Result<QuorumSettings, ConfigError> {
    let key = "controller.quorum.voters";
    let given = layers.set(key);
    let mut voters = parse_voters(key, &layers.list(key)?)?;
    let bootstrap_key = "controller.quorum.bootstrap.servers";
    let bootstrap_servers = parse_servers(bootstrap_key, &layers.list(bootstrap_key)?)?;
    let me = voters.iter().find(|voter| voter.id == node_id);
    let my_controller =
        network.listeners.iter().find(|endpoint| network.controller_listener_names.contains(&endpoint.name));
    match (roles.controller, voters.is_empty(), me) {
        (true, false, None) => {
            let reason = format!(
                "node {node_id} is a controller and must be among the voters: add {node_id}@host:port, or change \
                 node.id"
            );
            return Err(ConfigError::new(key, given, reason));
        }
        (false, false, Some(_)) => {
            let reason = format!(
                "node {node_id} is only a broker and can not be a voter: add controller to process.roles, or \
                 take it out of the voters"
            );
            return Err(ConfigError::new(key, given, reason));
        }
        (false, true, _) if bootstrap_servers.is_empty() => {
            let reason = "a node that is only a broker must know the voters, as id@host:port, or in \
                          controller.quorum.bootstrap.servers servers that know them";
            return Err(ConfigError::new(key, None, reason));
        }
        (false, true, _) => {}
        // Servers besides this node are named: the metadata log says who votes.
        (true, true, _) if !only_me(&bootstrap_servers, my_controller) => {
            if my_controller.is_none() {
                let reason = "controllers need a listener for each other: name it here";
                return Err(ConfigError::new("controller.listener.names", None, reason));
            }
        }
        (true, true, _) => {
            let endpoint = my_controller.or(network.listeners.first());
            let host = endpoint.map(|endpoint| endpoint.host.clone()).filter(|host| host != "0.0.0.0");
            let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| "localhost".to_owned());
            let port = endpoint.map_or(0, |endpoint| endpoint.port);
            voters.push(Voter { id: node_id, host, port });
        }
        (true, false, Some(me)) => {
            if voters.len() > 1 && my_controller.is_none() {
                let reason = "with more than one voter, voters need a listener for each other: name it here";
                return Err(ConfigError::new("controller.listener.names", None, reason));
            }
            if let Some(endpoint) = my_controller.filter(|endpoint| endpoint.port != me.port) {
                let text = format!(
                    "controller.quorum.voters says that node {node_id} is at port {}, but {endpoint} listens",
                    me.port
                );
                notes.push(advice(&[key, "listeners"], text));
            }
        }
        (false, false, None) => {}
    }
    let auto_join_key = "controller.quorum.auto.join.enable";
    let auto_join = layers.boolean(auto_join_key)?;
    if auto_join && !roles.controller {
        let reason =
            "a node that is only a broker does not vote: add controller to process.roles, or leave it out";
        return Err(ConfigError::new(auto_join_key, Some("true"), reason));
    }
    Ok(QuorumSettings {
        voters,
        bootstrap_servers,
        auto_join,
        election_timeout_ms: layers.int("controller.quorum.election.timeout.ms")?,
        fetch_timeout_ms: layers.int("controller.quorum.fetch.timeout.ms")?,
        election_backoff_max_ms: layers.int("controller.quorum.election.backoff.max.ms")?,
        request_timeout_ms: layers.int("controller.quorum.request.timeout.ms")?,
        retry_backoff_ms: layers.int("controller.quorum.retry.backoff.ms")?,
    })
}

/// Whether no server but the node itself can be asked who leads. A node that listens everywhere may have any name.
fn only_me(servers: &[(String, u16)], me: Option<&Endpoint>) -> bool {
    let everywhere = |host: &str| matches!(host, "" | "0.0.0.0" | "::");
    let of_machine = |host: &str| host == "localhost" || host == "::1" || host.starts_with("127.");
    match (servers, me) {
        ([], _) | ([_], None) => true,
        ([(host, port)], Some(me)) => {
            let same = *host == me.host || everywhere(&me.host) || (of_machine(host) && of_machine(&me.host));
            me.port == *port && same
        }
        _ => false,
    }
}

fn advice(keys: &[&str], text: String) -> ConfigNote {
    ConfigNote { kind: NoteKind::Advice, keys: keys.iter().map(|key| (*key).to_owned()).collect(), text }
}
