//! Requests of clients that the active controller handles, in an Envelope (58; KIP-590). The answer that comes back is passed on as it is.
//!
//! While nobody leads, or the leader has just changed, they wait here and are sent again, until their time is up.

use std::net::IpAddr;

use bytes::Bytes;
use ottla_protocol::messages::default_principal_data::DefaultPrincipalData;
use ottla_protocol::messages::envelope_request::EnvelopeRequest;
use ottla_protocol::messages::envelope_response::EnvelopeResponse;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::{ApiKey, Chain, ErrorCode, Message, Reader, Writer};

use crate::Broker;
use crate::api::Circumstance;
use crate::effect::{Effect, Effects, Millis, Response};
use crate::peers::{Awaited, Forwarded, Lane};
use crate::sessions::lock;

/// Pause before a request is sent again.
const RETRY_MS: Millis = 50;
/// Requests that may wait for a leader; more are answered by closing their connection.
const WAITING_MAX: usize = 1000;

/// Whoever asks, until there are logins: Kafka's `DefaultKafkaPrincipalBuilder.serialize`.
fn principal() -> Vec<u8> {
    let anonymous =
        DefaultPrincipalData { type_: "User".into(), name: "ANONYMOUS".into(), token_authenticated: false };
    let mut writer = Writer::new();
    writer.i16(0);
    let encoded = anonymous.encode(&mut writer, 0);
    encoded.expect("two short words can be said in version 0");
    writer.into_bytes().to_vec()
}

/// The pause in milliseconds that the answer to a request that is limited by the controller tells the client.
fn pause_told(request: &Bytes, response: &Bytes) -> Option<i32> {
    let (key, version, _) = RequestHeader::peek(request).ok()?;
    let key = ApiKey::from_i16(key)?;
    if !matches!(key, ApiKey::CreateTopics | ApiKey::DeleteTopics | ApiKey::CreatePartitions) {
        return None;
    }
    // In all versions of these the pause comes first.
    let mut reader = Reader::new(response);
    ResponseHeader::decode(&mut reader, key.response_header_version(version)).ok()?;
    reader.i32().ok()
}

impl Broker {
    /// Sends a request to the active controller, or keeps it until there is one.
    pub(crate) fn send_forwarded(&self, forwarded: Box<Forwarded>, now: Millis, out: &mut Effects) {
        let leader = self.quorum.leader();
        match leader.as_ref().map(|leader| leader.peer(Lane::Controller)) {
            Some(Some(to)) => {
                let address = match forwarded.request.connection.peer.ip() {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                let frame = forwarded.request.frame.clone();
                let envelope = EnvelopeRequest {
                    request_data: (&*frame).into(),
                    request_principal: Some(principal().into()),
                    client_host_address: address.into(),
                };
                let timeout_ms = (forwarded.deadline - now).max(1);
                self.peers.send(to, (&envelope, 0), Awaited::Forwarded(forwarded), timeout_ms, out);
            }
            Some(None) => self.again(forwarded.request, Circumstance::at(now), out),
            None => self.keep_forwarded(forwarded, now, out),
        }
    }

    fn keep_forwarded(&self, forwarded: Box<Forwarded>, now: Millis, out: &mut Effects) {
        let mut waiting = lock(&self.forwards);
        if now >= forwarded.deadline || waiting.len() >= WAITING_MAX {
            out.push(Effect::Respond { token: forwarded.request.token, response: Response::Close });
            return;
        }
        let at = now + RETRY_MS;
        waiting.push((at, forwarded));
        out.push(Effect::Tick { at });
    }

    /// Sends those again whose pause is over.
    pub(crate) fn resend_forwarded(&self, now: Millis, out: &mut Effects) {
        let due: Vec<_> = {
            let mut waiting = lock(&self.forwards);
            if let Some(at) = waiting.iter().map(|(at, _)| *at).filter(|at| *at > now).min() {
                out.push(Effect::Tick { at });
            }
            waiting.extract_if(.., |(at, _)| *at <= now).collect()
        };
        for (_, forwarded) in due {
            self.send_forwarded(forwarded, now, out);
        }
    }

    /// The active controller answered; or it is not that any more, or could not be reached.
    pub(crate) fn on_forwarded(
        &self,
        forwarded: Box<Forwarded>,
        body: Option<&Bytes>,
        now: Millis,
        out: &mut Effects,
    ) {
        let read = |frame: &Bytes| {
            let sealed = EnvelopeResponse::decode(&mut Reader::new(frame), 0).ok()?;
            let error = ErrorCode::from_code(sealed.error_code);
            Some((error, sealed.response_data.map(|data| Bytes::copy_from_slice(&data))))
        };
        let token = forwarded.request.token;
        match body.and_then(read) {
            Some((ErrorCode::None, Some(frame))) => {
                let pause = pause_told(&forwarded.request.frame, &frame).unwrap_or(0);
                self.pause(token, pause, now, out);
                out.push(Effect::Respond { token, response: Response::Frame(Chain::from(frame)) });
            }
            Some((ErrorCode::NotController, _)) | None => self.keep_forwarded(forwarded, now, out),
            Some((error, _)) => {
                out.push(Effect::Report(format!("a forwarded request was refused: {}", error.name())));
                out.push(Effect::Respond { token, response: Response::Close });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::Request;
    use ottla_protocol::messages::create_topics_request::CreateTopicsRequest;
    use ottla_protocol::messages::create_topics_response::CreateTopicsResponse;
    use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
    use ottla_protocol::messages::delete_topics_response::DeleteTopicsResponse;
    use ottla_protocol::messages::elect_leaders_request::ElectLeadersRequest;
    use ottla_protocol::messages::elect_leaders_response::ElectLeadersResponse;

    fn told<'a, 'b, R: Request<'a>, M: Message<'b>>(request: &R, response: &M, version: i16) -> Option<i32> {
        let mut writer = Writer::new();
        let header = RequestHeader {
            request_api_key: R::KEY as i16,
            request_api_version: version,
            ..Default::default()
        };
        header.encode(&mut writer, R::KEY.request_header_version(version)).expect("it can be said");
        request.encode(&mut writer, version).expect("it can be said");
        let asked = writer.into_bytes();
        let mut writer = Writer::new();
        let header = ResponseHeader { correlation_id: 0 };
        header.encode(&mut writer, R::KEY.response_header_version(version)).expect("it can be said");
        response.encode(&mut writer, version).expect("it can be said");
        pause_told(&asked, &writer.into_bytes())
    }

    #[test]
    fn a_pause_that_the_controller_tells_is_found_in_every_version() {
        let created = CreateTopicsResponse { throttle_time_ms: 700, ..Default::default() };
        for version in 2..=7 {
            assert_eq!(told(&CreateTopicsRequest::default(), &created, version), Some(700));
        }
        let deleted = DeleteTopicsResponse { throttle_time_ms: 900, ..Default::default() };
        for version in 1..=6 {
            assert_eq!(told(&DeleteTopicsRequest::default(), &deleted, version), Some(900));
        }
        // Nothing of this is limited.
        let elected = ElectLeadersResponse { throttle_time_ms: 700, ..Default::default() };
        assert_eq!(told(&ElectLeadersRequest::default(), &elected, 2), None);
    }
}
