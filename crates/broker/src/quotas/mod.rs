//! Client quotas: who used how much, and how long a connection has to pause for it (KIP-13, KIP-219).
//!
//! A request that goes beyond the limit is served and answered at once; the answer tells the pause, and the connection is muted for that
//! long, so that a client that does not look at the answer pauses too.
//!
//! The tricky idea: what idles costs nothing. Without any quota a request looks at one empty map; a payer that is not heard of for the
//! length of all windows is forgotten, since it has nothing to pay for.

mod bucket;
mod connections;
mod mutations;
mod payers;
mod precedence;
mod rate;
mod time;

use std::collections::BTreeMap;
use std::sync::Mutex;

use ottla_metadata::Image;

pub(crate) use self::connections::ConnectionQuotas;
pub(crate) use self::mutations::MutationQuotas;
use self::payers::Payers;
use self::precedence::Payer;
pub(crate) use self::rate::{Rate, Windows};
use crate::Broker;
use crate::effect::{Effect, Effects, Millis, Token};
use crate::sessions::lock;

/// Whom a connection without authentication belongs to.
const ANONYMOUS: &str = "ANONYMOUS";

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flow {
    /// Bytes of produce requests (`producer_byte_rate`).
    Produce,
    /// Bytes of fetched records (`consumer_byte_rate`).
    Fetch,
    /// Hundredths of the time of a thread (`request_percentage`).
    Time,
}

impl Flow {
    fn key(self) -> &'static str {
        match self {
            Flow::Produce => "producer_byte_rate",
            Flow::Fetch => "consumer_byte_rate",
            Flow::Time => time::KEY,
        }
    }
}

/// What everybody used lately.
#[derive(Debug)]
pub(crate) struct ClientQuotas {
    windows: Windows,
    rates: Mutex<BTreeMap<Flow, Payers<Payer, Rate>>>,
}

impl ClientQuotas {
    pub(crate) fn new(windows: Windows) -> Self {
        ClientQuotas { windows, rates: Mutex::default() }
    }

    /// A client used that much. The pause in milliseconds that its connection has to make.
    pub(crate) fn charge(&self, image: &Image, flow: Flow, client_id: &str, used: f64, now: Millis) -> i32 {
        let Some((limit, payer)) = self.limit(image, flow, client_id) else { return 0 };
        let mut rates = lock(&self.rates);
        let payers = rates.entry(flow).or_default();
        let rate = payers.of(payer, now, |rate| rate.is_idle(self.windows, now), Rate::default);
        let pause = rate.charge(used, limit, self.windows, now);
        // As in Kafka: how long a request takes hangs on more than its client.
        let pause = if flow == Flow::Time { pause.min(self.windows.length_ms) } else { pause };
        i32::try_from(pause).unwrap_or(i32::MAX)
    }

    /// The bytes that one fetch may bring without a pause being certain.
    pub(crate) fn fetch_bytes_max(&self, image: &Image, client_id: &str) -> usize {
        let Some((limit, _)) = self.limit(image, Flow::Fetch, client_id) else { return usize::MAX };
        let seconds = ((self.windows.count - 1) * self.windows.length_ms) as f64 / 1000.0;
        (limit * seconds) as usize
    }

    fn limit(&self, image: &Image, flow: Flow, client_id: &str) -> Option<(f64, Payer)> {
        if image.quotas().is_empty() {
            return None;
        }
        precedence::find(image, flow.key(), ANONYMOUS, client_id)
    }
}

impl Broker {
    /// A client moved that many bytes: its connection pauses if that is too much. Returns the pause in milliseconds, for the answer.
    pub(crate) fn charge(
        &self,
        flow: Flow,
        client_id: &str,
        bytes: usize,
        token: Token,
        now: Millis,
        out: &mut Effects,
    ) -> i32 {
        let pause = self.quotas.charge(&self.image(), flow, client_id, bytes as f64, now);
        self.pause(token, pause, now, out);
        pause
    }

    /// The connection of a request pauses for so many milliseconds.
    pub(crate) fn pause(&self, token: Token, ms: i32, now: Millis, out: &mut Effects) {
        if ms > 0 {
            out.push(Effect::Mute { token, until: now + i64::from(ms) });
        }
    }
}
