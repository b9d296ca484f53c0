//! How long the requests of a client keep threads busy (`request_percentage`, KIP-124): 100 is one thread all the time.
//!
//! Nobody here knows the time to that precision: the shell measures how long the broker worked on a request, and asks for the price when
//! the answer leaves, so that the answer can tell it. Not counted are the time in which files are read on other threads or a request
//! waits, and requests of other nodes.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_metadata::{Delta, Image};
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::{ApiKey, Message, Reader};

use super::Flow;
use crate::Broker;
use crate::connection::Connection;
use crate::effect::Millis;

pub(super) const KEY: &str = "request_percentage";
/// Hundredths of a second in one nanosecond.
const PERCENT_PER_NANO: f64 = 100.0 / 1e9;

impl Broker {
    /// Whether the time of anybody's requests is limited, so that it has to be measured.
    pub fn limits_time(&self) -> bool {
        self.limits_time.load(Ordering::Relaxed)
    }

    /// The client id of a request whose time counts; `None` if it does not.
    pub fn payer_of_time(&self, connection: &Connection, frame: &Bytes) -> Option<Box<str>> {
        let (key, version, _) = RequestHeader::peek(frame).ok()?;
        let key = ApiKey::from_i16(key)?;
        if self.is_controller_listener(&connection.listener) || key == ApiKey::WriteTxnMarkers {
            return None;
        }
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader, key.request_header_version(version)).ok()?;
        let is_follower = key == ApiKey::Fetch
            && FetchRequest::decode(&mut reader, version)
                .is_ok_and(|request| crate::api::fetch::follower_of(self, &request).is_some());
        (!is_follower).then(|| header.client_id.as_deref().unwrap_or("").into())
    }

    /// A request of that client took so many nanoseconds. The pause in milliseconds that its connection has to make.
    pub fn charge_time(&self, client_id: &str, nanos: u64, now: Millis) -> i32 {
        let used = nanos as f64 * PERCENT_PER_NANO;
        self.quotas.charge(&self.image(), Flow::Time, client_id, used, now)
    }

    pub(crate) fn note_time_quotas(&self, image: &Image, delta: &Delta) {
        if !delta.quotas.is_empty() {
            let is_any = image.quotas().values().any(|quotas| quotas.contains_key(KEY));
            self.limits_time.store(is_any, Ordering::Relaxed);
        }
    }
}
