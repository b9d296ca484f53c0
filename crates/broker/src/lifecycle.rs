//! The life of this node as the cluster sees it: it registers, sends heartbeats, is unfenced when its logs are recovered, and asks before
//! it stops (Kafka: `BrokerLifecycleManager`, `ControllerRegistrationManager`).
//!
//! ```text
//!   register ──► read of it ──► recover logs ──► heartbeat: want no fence ──► unfenced: serve ──► want to stop ──► may stop
//! ```
//!
//! The one tricky idea: at any time there is one question to the active controller under way, or a time at which the next is due; whatever
//! happens only moves that time. An answer that is lost leads to the same question again.

use std::sync::Mutex;

use ottla_metadata::{Image, features};
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use ottla_protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use ottla_protocol::messages::broker_registration_request::{self as broker, BrokerRegistrationRequest};
use ottla_protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use ottla_protocol::messages::controller_registration_request::{
    self as controller, ControllerRegistrationRequest,
};
use ottla_protocol::{ErrorCode, Uuid};

use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::quorum::{Ask, Identity};
use crate::sessions::lock;

/// Pause after a question that was not answered, or refused.
const RETRY_MS: Millis = 100;

/// What a heartbeat said that its answer is looked at for.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeartbeatSaid {
    pub wanted_fence: bool,
    /// Log directories that failed.
    pub failed_dirs: Vec<Uuid>,
}

impl HeartbeatSaid {
    /// What this request says.
    pub fn by(request: &BrokerHeartbeatRequest) -> HeartbeatSaid {
        HeartbeatSaid { wanted_fence: request.want_fence, failed_dirs: request.offline_log_dirs.clone() }
    }
}

/// What this node knows of its own standing.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    identity: Identity,
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    /// The broker epoch, once this incarnation is registered.
    broker_epoch: Option<i64>,
    /// Whether all logs are recovered.
    is_taken_up: bool,
    is_serving: bool,
    wants_to_stop: bool,
    may_stop: bool,
    /// A question is under way.
    is_asking: bool,
    next_at: Millis,
    /// Why the last question was refused.
    refused: Option<ErrorCode>,
    /// The same for the registration of a controller.
    is_registering_controller: bool,
    controller_at: Millis,
    /// Log directories that failed in this life, since when, and whether the controller knows.
    failed_dirs: Vec<(Uuid, Millis, bool)>,
}

impl Lifecycle {
    pub fn new(identity: Identity) -> Self {
        Lifecycle { identity, life: Mutex::default() }
    }

    /// Whether this incarnation of the broker is in the image.
    pub fn is_registered_in(&self, image: &Image) -> bool {
        let me = self.identity.incarnation_id;
        image.brokers().values().any(|broker| broker.incarnation_id == me)
    }

    /// The next question is due now: something has changed.
    pub fn hurry(&self, now: Millis) {
        let mut life = lock(&self.life);
        (life.next_at, life.controller_at) = (now, now);
    }

    /// All logs are recovered.
    pub fn on_taken_up(&self, now: Millis) {
        lock(&self.life).is_taken_up = true;
        self.hurry(now);
    }

    /// Whether all logs are recovered.
    pub fn is_taken_up(&self) -> bool {
        lock(&self.life).is_taken_up
    }

    /// Why this broker was not registered.
    pub fn refusal(&self) -> Option<ErrorCode> {
        lock(&self.life).refused
    }

    /// Whether clients are served.
    pub fn is_serving(&self) -> bool {
        lock(&self.life).is_serving
    }

    /// A log directory failed. Returns whether that is news.
    pub fn on_dir_failed(&self, id: Uuid, now: Millis) -> bool {
        let failed = &mut lock(&self.life).failed_dirs;
        let is_news = failed.iter().all(|(known, ..)| *known != id);
        if is_news {
            failed.push((id, now, false));
        }
        is_news
    }

    /// Since when a log directory has failed that the controller does not know of.
    pub fn untold_since(&self) -> Option<Millis> {
        lock(&self.life).failed_dirs.iter().find(|(.., told)| !told).map(|(_, since, _)| *since)
    }
}

impl Broker {
    /// Asks what is due.
    pub(crate) fn advance_lifecycle(&self, now: Millis, out: &mut Effects) {
        if self.quorum.leader().is_none() {
            // Somebody will lead; that is what is waited for.
            return;
        }
        let asks = [self.next_question(now, out), self.next_controller_question(now, out)];
        for ask in asks.into_iter().flatten() {
            self.ask_controller(ask, now, out);
        }
    }

    fn next_question(&self, now: Millis, out: &mut Effects) -> Option<Ask> {
        if !self.config.roles.broker {
            return None;
        }
        let image = self.image();
        let tells_cordoned = image.metadata_version().is_some_and(|level| level.supports_cordoned_log_dirs());
        let cordoned = tells_cordoned.then(|| self.cordoned_dirs());
        let mut life = lock(&self.lifecycle.life);
        if life.is_asking || life.may_stop {
            return None;
        }
        if now < life.next_at {
            if life.next_at != Millis::MAX {
                out.push(Effect::Tick { at: life.next_at });
            }
            return None;
        }
        life.is_asking = true;
        let Some(broker_epoch) = life.broker_epoch else {
            return Some(Ask::Register(Box::new(self.registration())));
        };
        Some(Ask::Heartbeat(BrokerHeartbeatRequest {
            broker_id: self.config.node_id,
            broker_epoch,
            current_metadata_offset: self.image().last_offset(),
            want_fence: !life.is_taken_up,
            want_shut_down: life.wants_to_stop,
            offline_log_dirs: life.failed_dirs.iter().map(|(id, ..)| *id).collect(),
            cordoned_log_dirs: cordoned,
        }))
    }

    fn registration(&self) -> BrokerRegistrationRequest<'static> {
        let (config, identity, image) = (&self.config, &self.lifecycle.identity, self.image());
        let network = &config.network;
        let of_brokers = network
            .advertised_listeners
            .iter()
            .filter(|endpoint| !network.controller_listener_names.contains(&endpoint.name));
        let features = features::tolerated(|name| image.feature_level(name));
        let features = features.map(|(name, min_supported_version, max_supported_version)| broker::Feature {
            name: name.into(),
            min_supported_version,
            max_supported_version,
        });
        BrokerRegistrationRequest {
            broker_id: config.node_id,
            cluster_id: identity.cluster_id.clone().into(),
            incarnation_id: identity.incarnation_id,
            listeners: of_brokers
                .map(|endpoint| broker::Listener {
                    name: endpoint.name.clone().into(),
                    host: endpoint.host.clone().into(),
                    port: endpoint.port,
                    security_protocol: endpoint.security_protocol as i16,
                })
                .collect(),
            features: features.collect(),
            rack: config.rack.clone().map(Into::into),
            is_migrating_zk_broker: false,
            log_dirs: self.store.homes().map(|root| root.id()).collect(),
            previous_broker_epoch: identity.previous_broker_epoch,
        }
    }

    fn next_controller_question(&self, now: Millis, out: &mut Effects) -> Option<Ask> {
        let network = &self.config.network;
        let image = self.image();
        let known = image.controllers().get(&NodeId(self.config.node_id));
        let is_known = known.is_some_and(|it| it.incarnation_id == self.lifecycle.identity.incarnation_id);
        let counts = image.metadata_version().is_some_and(|level| level.supports_controller_registration());
        // A cluster of one without a listener for controllers has nothing to tell.
        let listens = !network.controller_listener_names.is_empty();
        if !self.config.roles.controller || is_known || !counts || !listens {
            return None;
        }
        // Before `life` is locked: the quorum's lock is the outer one.
        let own = self.quorum.own_endpoints();
        let mut life = lock(&self.lifecycle.life);
        if life.is_registering_controller {
            return None;
        }
        if now < life.controller_at {
            out.push(Effect::Tick { at: life.controller_at });
            return None;
        }
        life.is_registering_controller = true;
        let listeners = network.listeners.iter();
        let listeners =
            listeners.filter(|endpoint| network.controller_listener_names.contains(&endpoint.name));
        let features = features::tolerated(|name| image.feature_level(name));
        Some(Ask::RegisterController(Box::new(ControllerRegistrationRequest {
            controller_id: self.config.node_id,
            incarnation_id: self.lifecycle.identity.incarnation_id,
            zk_migration_ready: false,
            listeners: listeners
                .map(|endpoint| {
                    // Where others reach it may be somewhere else than where it listens.
                    let told = own.iter().find(|own| own.listener == endpoint.name);
                    controller::Listener {
                        name: endpoint.name.clone().into(),
                        host: told.map_or_else(String::new, |told| told.host.clone()).into(),
                        port: told.map_or(endpoint.port, |told| told.port),
                        security_protocol: endpoint.security_protocol as i16,
                    }
                })
                .collect(),
            features: features
                .map(|(name, min_supported_version, max_supported_version)| controller::Feature {
                    name: name.into(),
                    min_supported_version,
                    max_supported_version,
                })
                .collect(),
        })))
    }

    /// The active controller said something about the registration.
    pub(crate) fn on_registered(
        &self,
        answer: Option<BrokerRegistrationResponse>,
        now: Millis,
        out: &mut Effects,
    ) {
        let mut life = lock(&self.lifecycle.life);
        life.is_asking = false;
        match answer.map(|answer| (ErrorCode::from_code(answer.error_code), answer.broker_epoch)) {
            Some((ErrorCode::None, broker_epoch)) => {
                life.broker_epoch = Some(broker_epoch);
                life.refused = None;
                life.next_at = now;
            }
            Some((error, _)) => {
                if error != ErrorCode::NotController && life.refused.replace(error) != Some(error) {
                    let why = error.message();
                    out.push(Effect::Report(format!("this node can not register yet: {why}")));
                }
                life.next_at = now + RETRY_MS;
            }
            None => life.next_at = now + RETRY_MS,
        }
        out.push(Effect::Tick { at: life.next_at });
    }

    /// The active controller answered a heartbeat.
    pub(crate) fn on_heartbeat_answered(
        &self,
        said: HeartbeatSaid,
        answer: Option<BrokerHeartbeatResponse>,
        now: Millis,
        out: &mut Effects,
    ) {
        let HeartbeatSaid { wanted_fence, failed_dirs } = said;
        let mut life = lock(&self.lifecycle.life);
        life.is_asking = false;
        let interval_ms = i64::from(self.config.metadata_log.broker_heartbeat_interval_ms);
        let has_changed = wanted_fence && life.is_taken_up;
        let is_own = self.quorum.leader().is_some_and(|leader| leader.address.is_none());
        life.next_at = match answer.as_ref().map(|answer| ErrorCode::from_code(answer.error_code)) {
            Some(ErrorCode::None) if has_changed => now,
            Some(ErrorCode::None) if life.wants_to_stop => now + RETRY_MS,
            // A directory failed while the question was under way.
            Some(ErrorCode::None) if life.failed_dirs.len() > failed_dirs.len() => now,
            // Its own controller knows that it is alive: an idle node has nothing to do.
            Some(ErrorCode::None) if is_own => Millis::MAX,
            Some(ErrorCode::None) => now + interval_ms,
            Some(ErrorCode::BrokerIdNotRegistered) => {
                life.broker_epoch = None;
                now + RETRY_MS
            }
            _ => now + RETRY_MS,
        };
        if answer.as_ref().is_some_and(|answer| answer.error_code == ErrorCode::None.code()) {
            let known = life.failed_dirs.iter_mut().filter(|(id, ..)| failed_dirs.contains(id));
            known.for_each(|(.., told)| *told = true);
        }
        if answer.is_some_and(|answer| answer.should_shut_down) && life.wants_to_stop {
            life.may_stop = true;
            out.push(Effect::MayStop);
        }
        if life.next_at != Millis::MAX {
            out.push(Effect::Tick { at: life.next_at });
        }
    }

    /// The active controller answered the registration of this controller.
    pub(crate) fn on_controller_registered(&self, error: Option<i16>, now: Millis, out: &mut Effects) {
        let mut life = lock(&self.lifecycle.life);
        life.is_registering_controller = false;
        // That it worked is seen in the image, which may take a moment.
        let pause = if error == Some(ErrorCode::None.code()) { 10 * RETRY_MS } else { RETRY_MS };
        life.controller_at = now + pause;
        out.push(Effect::Tick { at: life.controller_at });
    }

    /// The image says that this broker is not fenced: it serves clients from now on, if it did not before.
    pub(crate) fn serve_if_unfenced(&self, image: &Image, out: &mut Effects) {
        let me = image.broker(NodeId(self.config.node_id));
        let is_unfenced =
            me.is_some_and(|me| me.incarnation_id == self.lifecycle.identity.incarnation_id && !me.fenced);
        if (is_unfenced || !self.config.roles.broker)
            && !std::mem::replace(&mut lock(&self.lifecycle.life).is_serving, true)
        {
            out.push(Effect::Serve);
        }
    }

    /// This node shall stop: others take over what it leads first. [`Effect::MayStop`] says when it may, if anybody is there to say so.
    pub fn begin_shutdown(&self, now: Millis, out: &mut Effects) {
        let (others, me) = (self.image(), NodeId(self.config.node_id));
        let alone = !others.brokers().values().any(|broker| broker.id != me && broker.is_active());
        let controlled = self.config.requests.controlled_shutdown && self.config.roles.broker && !alone;
        if !controlled || !self.lifecycle.is_serving() {
            out.push(Effect::MayStop);
            return;
        }
        lock(&self.lifecycle.life).wants_to_stop = true;
        self.lifecycle.hurry(now);
        self.advance_lifecycle(now, out);
    }
}
