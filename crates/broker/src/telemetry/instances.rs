//! The clients that were heard of lately: what each is asked for, and when it told last (Kafka's `ClientMetricsInstance`).

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::compression::Codec;
use ottla_protocol::{ErrorCode, Uuid};

use super::subscriptions::{Attributes, Subscriptions, id_of};
use super::{Asker, Push};
use crate::effect::{Millis, Token};

/// Clients that are remembered at once (Kafka's `CACHE_MAX_SIZE`); then those go that would be forgotten first.
const INSTANCES_MAX: usize = 16_384;
/// For how long a client is remembered at least, in milliseconds.
const KEPT_MS_MIN: Millis = 60_000;
/// Reports that a client may miss.
const MISSES_MAX: Millis = 3;

/// A connection, without the request.
type Place = (u16, u32, u32);

/// One client.
#[derive(Debug)]
pub(super) struct Instance {
    pub subscription: i32,
    pub metrics: Vec<String>,
    pub interval_ms: i32,
    attributes: Attributes,
    /// The version of the subscriptions that these are.
    version: u64,
    asked_at: Millis,
    pushed_at: Millis,
    is_terminating: bool,
    last_error: ErrorCode,
    expires_at: Millis,
    place: Place,
}

impl Instance {
    fn new(id: Uuid, attributes: Attributes, subscriptions: &Subscriptions, place: Place) -> Instance {
        let (metrics, interval_ms) = subscriptions.of(&attributes);
        Instance {
            subscription: id_of(&metrics, interval_ms, id),
            metrics,
            interval_ms,
            attributes,
            version: subscriptions.version,
            asked_at: 0,
            pushed_at: 0,
            is_terminating: false,
            last_error: ErrorCode::None,
            expires_at: 0,
            place,
        }
    }

    fn kept_ms(&self) -> Millis {
        KEPT_MS_MIN.max(i64::from(self.interval_ms) * MISSES_MAX)
    }

    /// It wants to know what it is asked for. It may once in each interval, and when it was told that it is mistaken.
    pub(super) fn ask(&mut self, now: Millis) -> Result<(), ErrorCode> {
        let may_ask = now - self.asked_at.max(self.pushed_at) >= i64::from(self.interval_ms);
        let was_mistaken = [ErrorCode::UnknownSubscriptionId, ErrorCode::UnsupportedCompressionType]
            .contains(&self.last_error);
        if may_ask {
            self.asked_at = now;
        } else if !was_mistaken {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        self.last_error = ErrorCode::None;
        Ok(())
    }

    /// It tells. It may once in each interval, and after it asked; the last time, whenever it likes.
    pub(super) fn admit(
        &mut self,
        push: &Push<'_>,
        bytes_max: usize,
        now: Millis,
    ) -> Result<Codec, ErrorCode> {
        let admitted = self.check(push, bytes_max, now);
        self.last_error = admitted.err().unwrap_or(ErrorCode::None);
        self.is_terminating = push.is_last;
        admitted
    }

    fn check(&mut self, push: &Push<'_>, bytes_max: usize, now: Millis) -> Result<Codec, ErrorCode> {
        if self.is_terminating {
            return Err(ErrorCode::InvalidRequest);
        }
        let may_push = self.asked_at > self.pushed_at || now - self.pushed_at >= i64::from(self.interval_ms);
        if may_push {
            self.pushed_at = now;
        } else if !push.is_last {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        if push.subscription != self.subscription {
            return Err(ErrorCode::UnknownSubscriptionId);
        }
        let codec = u8::try_from(push.compression).ok().and_then(Codec::from_id);
        let codec = codec.ok_or(ErrorCode::UnsupportedCompressionType)?;
        if push.metrics.len() > bytes_max {
            return Err(ErrorCode::TelemetryTooLarge);
        }
        Ok(codec)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_id: BTreeMap<Uuid, Instance>,
    by_expiry: BTreeSet<(Millis, Uuid)>,
    by_place: BTreeMap<Place, Uuid>,
}

impl Instances {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn contains(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The client with that id; what it is asked for is up to date. Its attributes are those with which it came first.
    pub(super) fn enter(
        &mut self,
        id: Uuid,
        asker: &Asker<'_>,
        subscriptions: &Subscriptions,
        now: Millis,
    ) -> &mut Instance {
        let known = self.remove(id);
        let fresh = |attributes| Instance::new(id, attributes, subscriptions, place_of(asker.token));
        let mut instance = match known {
            Some(known) if known.version == subscriptions.version => known,
            Some(outdated) => fresh(outdated.attributes),
            None => fresh(Attributes::of(id, asker)),
        };
        while self.by_id.len() >= INSTANCES_MAX
            && let Some(&(_, first)) = self.by_expiry.first()
        {
            self.remove(first);
        }
        // The connection tells of one client at a time.
        if let Some(other) = self.by_place.insert(place_of(asker.token), id) {
            self.remove(other);
            self.by_place.insert(place_of(asker.token), id);
        }
        instance.place = place_of(asker.token);
        instance.expires_at = now + instance.kept_ms();
        self.by_expiry.insert((instance.expires_at, id));
        self.by_id.entry(id).or_insert(instance)
    }

    /// What a client told could be read, or not. Returns for how many milliseconds it is of interest.
    pub(super) fn on_told(&mut self, id: Uuid, could_be_read: bool) -> Millis {
        let Some(instance) = self.by_id.get_mut(&id) else { return KEPT_MS_MIN };
        if !could_be_read {
            instance.last_error = ErrorCode::InvalidRecord;
        }
        instance.kept_ms()
    }

    /// A connection is gone.
    pub(super) fn leave(&mut self, any: Token) {
        if let Some(&id) = self.by_place.get(&place_of(any)) {
            self.remove(id);
        }
    }

    pub(super) fn forget_idle(&mut self, now: Millis) {
        while let Some(&(at, id)) = self.by_expiry.first()
            && at <= now
        {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: Uuid) -> Option<Instance> {
        let instance = self.by_id.remove(&id)?;
        self.by_expiry.remove(&(instance.expires_at, id));
        self.by_place.remove(&instance.place);
        Some(instance)
    }
}

fn place_of(token: Token) -> Place {
    (token.shard, token.connection, token.generation)
}
