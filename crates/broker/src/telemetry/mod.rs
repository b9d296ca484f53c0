//! What clients tell of themselves (KIP-714): who asks which of them for which metrics, who may tell again when, and what was told last.
//!
//! It exists only where somebody can look at it (`ottla.metrics.listen`): otherwise clients are not asked, and the APIs are not served,
//! like in Kafka without a receiver.
//!
//! The tricky idea: a client names itself by an id that it was given, on any connection. The id of its subscription says what it was
//! asked for, so a client that was asked for something else meanwhile is found out by it, and asks anew.

mod instances;
mod otlp;
mod store;
mod subscriptions;

use std::net::SocketAddr;
use std::sync::Mutex;

use ottla_controller::Dice;
use ottla_metadata::{Delta, Image, ResourceType};
use ottla_protocol::compression::{Codec, decompress};
use ottla_protocol::{ErrorCode, Uuid};

use self::instances::Instances;
use self::store::Store;
pub(crate) use self::subscriptions::parse_match;
use self::subscriptions::{Attributes, Subscriptions};
use crate::Broker;
use crate::effect::{Millis, Token};
use crate::sessions::lock;

/// How clients may compress what they push, the preferred way first.
pub(crate) const CODECS: [Codec; 4] = [Codec::Zstd, Codec::Lz4, Codec::Gzip, Codec::Snappy];

/// Everything that is known of clients' metrics.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// Largest push in bytes, as it comes and unpacked (`telemetry.max.bytes`).
    pub bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    subscriptions: Subscriptions,
    instances: Instances,
    store: Store,
    dice: Dice,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub client_id: &'a str,
    pub software: Option<&'a (String, String)>,
    pub peer: SocketAddr,
    /// Any request of its connection.
    pub token: Token,
}

/// What a client is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub instance: Uuid,
    pub subscription: i32,
    pub metrics: Vec<String>,
    pub interval_ms: i32,
}

/// One report of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Push<'a> {
    pub instance: Uuid,
    pub subscription: i32,
    /// It is the last one.
    pub is_last: bool,
    pub compression: i8,
    pub metrics: &'a [u8],
}

impl Telemetry {
    pub(crate) fn new(bytes_max: usize, seed: u64) -> Telemetry {
        let state = State {
            subscriptions: Subscriptions::default(),
            instances: Instances::default(),
            store: Store::default(),
            dice: Dice::new(seed),
        };
        Telemetry { bytes_max, state: Mutex::new(state) }
    }

    /// Takes over what is asked for.
    pub(crate) fn subscribe(&self, image: &Image) {
        lock(&self.state).subscriptions.replace(image);
    }

    /// A client wants to know what it is asked for.
    pub(crate) fn ask(&self, instance: Uuid, asker: &Asker<'_>, now: Millis) -> Result<Wanted, ErrorCode> {
        let State { subscriptions, instances, store, dice } = &mut *lock(&self.state);
        instances.forget_idle(now);
        store.forget_idle(now);
        let mut id = instance;
        while id == Uuid::ZERO || (instance == Uuid::ZERO && instances.contains(id)) {
            id = dice.uuid();
        }
        let known = instances.enter(id, asker, subscriptions, now);
        known.ask(now)?;
        Ok(Wanted {
            instance: id,
            subscription: known.subscription,
            metrics: known.metrics.clone(),
            interval_ms: known.interval_ms,
        })
    }

    /// A client tells. What it tells is unpacked and read without a lock.
    pub(crate) fn push(&self, push: &Push<'_>, asker: &Asker<'_>, now: Millis) -> Result<(), ErrorCode> {
        if ottla_metadata::directory::is_reserved(push.instance) {
            return Err(ErrorCode::InvalidRequest);
        }
        let codec = {
            let State { subscriptions, instances, store, .. } = &mut *lock(&self.state);
            instances.forget_idle(now);
            store.forget_idle(now);
            let known = instances.enter(push.instance, asker, subscriptions, now);
            known.admit(push, self.bytes_max, now)?
        };
        if push.metrics.is_empty() {
            return Ok(());
        }
        let told = match codec {
            Codec::None => otlp::read(push.metrics).map_err(drop),
            packed => decompress(packed, push.metrics, self.bytes_max)
                .map_err(drop)
                .and_then(|bytes| otlp::read(&bytes).map_err(drop)),
        };
        let State { instances, store, .. } = &mut *lock(&self.state);
        let keep_ms = instances.on_told(push.instance, told.is_ok());
        let points = told.map_err(|()| ErrorCode::InvalidRecord)?;
        store.take(push.instance, asker.client_id, points, now + keep_ms);
        Ok(())
    }

    /// The connection of a request is gone, and with it the clients that used it.
    pub(crate) fn on_disconnect(&self, any: Token) {
        lock(&self.state).instances.leave(any);
    }

    /// What was told last, in the text format of Prometheus (version 0.0.4).
    fn text(&self, now: Millis) -> String {
        let State { instances, store, .. } = &mut *lock(&self.state);
        instances.forget_idle(now);
        store.forget_idle(now);
        store.text(instances.len())
    }
}

impl Attributes {
    fn of(instance: Uuid, asker: &Asker<'_>) -> Attributes {
        let software = asker.software.cloned();
        let (name, version) = software.map_or((None, None), |(name, version)| (Some(name), Some(version)));
        Attributes {
            client_instance_id: instance.to_string(),
            client_id: asker.client_id.to_owned(),
            client_software_name: name,
            client_software_version: version,
            client_source_address: asker.peer.ip().to_string(),
            client_source_port: asker.peer.port().to_string(),
        }
    }
}

impl Broker {
    /// The page of metrics, in the text format of Prometheus; empty where nobody may look at it.
    pub fn metrics_page(&self, now: Millis) -> String {
        self.telemetry.as_ref().map_or_else(String::new, |telemetry| telemetry.text(now))
    }

    /// Takes over what clients are asked for, if that changed.
    pub(crate) fn note_subscriptions(&self, image: &Image, delta: &Delta) {
        let concerned = |kind| delta.configs.iter().any(|resource| resource.kind == kind);
        if let Some(telemetry) = self.telemetry.as_ref().filter(|_| concerned(ResourceType::CLIENT_METRICS)) {
            telemetry.subscribe(image);
        }
    }
}
