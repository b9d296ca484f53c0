//! How fast connections may come: to the node and to a listener (`max.connection.creation.rate`), and from one address
//! (`connection_creation_rate` of an `ip`; KIP-612; Kafka's `ConnectionQuotas`).
//!
//! The tricky idea: they act differently. When too many come to the node or to a listener, whoever accepts them pauses; when too many come from one
//! address, only those are turned away, after a pause, so that a client that connects again at once gains nothing. Who was turned away
//! does not count.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use ottla_metadata::{Image, QuotaEntity};

use super::payers::Payers;
use super::{Rate, Windows};
use crate::Broker;
use crate::effect::Millis;
use crate::sessions::lock;

const IP: &str = "ip";
const KEY: &str = "connection_creation_rate";

/// Connections that came lately.
#[derive(Debug)]
pub(crate) struct ConnectionQuotas {
    windows: Windows,
    to_node: Mutex<Rate>,
    /// To each listener.
    to: Mutex<BTreeMap<Box<str>, Rate>>,
    /// From each address.
    from: Mutex<Payers<IpAddr, Rate>>,
}

impl ConnectionQuotas {
    pub(crate) fn new(windows: Windows) -> ConnectionQuotas {
        ConnectionQuotas { windows, to_node: Mutex::default(), to: Mutex::default(), from: Mutex::default() }
    }

    /// Connections came to the node, or (-1) one does not count. The time in milliseconds until the next one may.
    fn count(&self, by: f64, limit: i32, now: Millis) -> Millis {
        if limit == i32::MAX {
            return 0;
        }
        self.charge(&mut lock(&self.to_node), by, limit, now)
    }

    /// The same at a listener.
    fn count_at(&self, listener: &str, by: f64, limit: i32, now: Millis) -> Millis {
        if limit == i32::MAX {
            return 0;
        }
        let mut to = lock(&self.to);
        match to.get_mut(listener) {
            Some(rate) => self.charge(rate, by, limit, now),
            None => self.charge(to.entry(listener.into()).or_default(), by, limit, now),
        }
    }

    fn charge(&self, rate: &mut Rate, by: f64, limit: i32, now: Millis) -> Millis {
        rate.charge(by, f64::from(limit), self.windows, now).min(self.windows.length_ms)
    }

    /// A connection of that address came. `Some`: it is one too many, and is to be closed after so many milliseconds.
    fn refuse(&self, image: &Image, address: IpAddr, now: Millis) -> Option<Millis> {
        let limit = limit_of(image, address)?;
        let mut from = lock(&self.from);
        let rate = from.of(address, now, |rate| rate.is_idle(self.windows, now), Rate::default);
        let pause = rate.charge(1.0, limit, self.windows, now).min(self.windows.length_ms);
        if pause > 0 {
            rate.charge(-1.0, limit, self.windows, now);
        }
        (pause > 0).then_some(pause)
    }
}

/// That of the address, or that of all addresses.
fn limit_of(image: &Image, address: IpAddr) -> Option<f64> {
    if image.quotas().is_empty() {
        return None;
    }
    let of = |name: Option<String>| {
        let entity = QuotaEntity::new(vec![(IP.into(), name.map(Into::into))]);
        image.quotas().get(&entity)?.get(KEY).copied()
    };
    of(Some(address.to_string())).or_else(|| of(None))
}

impl Broker {
    /// A connection was accepted at that listener. Returns the time in milliseconds after which it may be taken in; until then no further
    /// one is to be accepted there. What is said of the whole node does not make other brokers and controllers wait.
    pub fn on_accepted(&self, listener: &str, now: Millis) -> Millis {
        self.count_accepted(listener, 1.0, now)
    }

    fn count_accepted(&self, listener: &str, by: f64, now: Millis) -> Millis {
        let network = &self.live_config().network;
        let own = network.limits_of(listener).max_connection_creation_rate;
        let at_listener = self.connection_quotas.count_at(listener, by, own, now);
        if self.is_of_nodes(listener) {
            return at_listener;
        }
        at_listener.max(self.connection_quotas.count(by, network.max_connection_creation_rate, now))
    }

    /// A connection of that address was accepted. `Some`: its address opens too many, it has to be closed after so many milliseconds.
    pub fn refuse_connection(&self, listener: &str, address: IpAddr, now: Millis) -> Option<Millis> {
        if self.is_controller_listener(listener) {
            return None;
        }
        let refused = self.connection_quotas.refuse(&self.image(), address, now);
        if refused.is_some() {
            self.count_accepted(listener, -1.0, now);
        }
        refused
    }

    /// Whether a listener is for the nodes of the cluster alone, so that limits of the whole node do not hold there.
    pub fn is_of_nodes(&self, listener: &str) -> bool {
        let network = &self.config.network;
        let of_controllers = |name: &str| self.is_controller_listener(name);
        let for_clients = network.listeners.iter().filter(|listener| !of_controllers(&listener.name)).count();
        of_controllers(listener) || (for_clients > 1 && *listener == *network.inter_broker_listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_metadata::Replayer;
    use ottla_protocol::messages::client_quota_record::{ClientQuotaRecord, EntityData};
    use ottla_protocol::messages::metadata_record::MetadataRecord;

    const WINDOWS: Windows = Windows { count: 11, length_ms: 1_000 };
    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn image(quotas: &[(Option<&str>, f64)]) -> Image {
        let mut replayer = Replayer::new(Image::empty("cluster"));
        for (offset, (address, value)) in (0..).zip(quotas) {
            let name = address.map(|address| address.to_owned().into());
            let record = ClientQuotaRecord {
                entity: vec![EntityData { entity_type: IP.into(), entity_name: name }],
                key: KEY.into(),
                value: *value,
                remove: false,
            };
            replayer.replay(&MetadataRecord::ClientQuotaRecord(record), offset).expect("fits");
        }
        replayer.image().clone()
    }

    #[test]
    fn the_node_pauses_for_a_window_at_most() {
        let quotas = ConnectionQuotas::new(WINDOWS);
        for _ in 0..20 {
            assert_eq!(quotas.count(1.0, 2, 0), 0, "ten seconds are granted");
        }
        assert_eq!(quotas.count(1.0, 2, 0), 500);
        assert_eq!(quotas.count(1.0, 2, 500), 500, "one came, half a second went by");
        for _ in 0..10 {
            quotas.count(1.0, 2, 500);
        }
        assert_eq!(quotas.count(1.0, 2, 500), 1_000, "at most");
        assert_eq!(quotas.count(1.0, 0, 20_000), 1_000, "nobody is wanted: one in each window");
        assert_eq!(quotas.count(1.0, i32::MAX, 500), 0);
    }

    #[test]
    fn each_listener_has_its_own_rate() {
        let quotas = ConnectionQuotas::new(WINDOWS);
        for _ in 0..20 {
            assert_eq!(quotas.count_at("OUTSIDE", 1.0, 2, 0), 0);
        }
        assert_eq!(quotas.count_at("OUTSIDE", 1.0, 2, 0), 500);
        assert_eq!(quotas.count_at("INSIDE", 1.0, 2, 0), 0);
        assert_eq!(quotas.count(1.0, 2, 0), 0);
        quotas.count_at("OUTSIDE", -1.0, 2, 0);
        assert_eq!(quotas.count_at("OUTSIDE", 1.0, 2, 0), 500, "who was turned away does not count");
        assert_eq!(quotas.count_at("OUTSIDE", 1.0, i32::MAX, 0), 0);
    }

    #[test]
    fn an_address_has_its_own_limit_or_that_of_all() {
        let image = image(&[(Some("10.0.0.1"), 1.0), (None, 2.0)]);
        let quotas = ConnectionQuotas::new(WINDOWS);
        let refused = |address: IpAddr, now: Millis| quotas.refuse(&image, address, now);
        for _ in 0..10 {
            assert_eq!((refused(A, 0), refused(B, 0)), (None, None));
        }
        assert_eq!((refused(A, 0), refused(B, 0)), (Some(1_000), None));
        assert_eq!(refused(A, 0), Some(1_000), "who is turned away does not count");
        assert_eq!(refused(A, 11_000), None, "long forgotten");
        assert_eq!(limit_of(&Image::empty("cluster"), A), None);
    }
}
