//! One request on its way: who asks, where the answer goes, and how it is encoded.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::messages::allocate_producer_ids_response::AllocateProducerIdsResponse;
use ottla_protocol::messages::alter_partition_response::AlterPartitionResponse;
use ottla_protocol::messages::assign_replicas_to_dirs_response::AssignReplicasToDirsResponse;
use ottla_protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use ottla_protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use ottla_protocol::messages::controller_registration_response::ControllerRegistrationResponse;
use ottla_protocol::messages::envelope_response::EnvelopeResponse;
use ottla_protocol::messages::unregister_broker_response::UnregisterBrokerResponse;
use ottla_protocol::messages::unregister_controller_response::UnregisterControllerResponse;
use ottla_protocol::messages::update_features_response::UpdateFeaturesResponse;
use ottla_protocol::{ApiKey, DecodeError, ErrorCode, Message, Reader, Request, Writer};
use ottla_storage::Admission;

use crate::api::produce::Gather;
use crate::connection::Connection;
use crate::effect::{Effect, Effects, Millis, ReadTask, Response, Token};
use crate::partition::Partition;

/// Most answers fit into this many bytes, records apart.
const RESPONSE_BYTES: usize = 96;

/// What is smaller is copied when it is kept (`ottla_storage` does the same for its cache).
const KEPT_BYTES_MIN: usize = 128 * 1024;

/// Where an answer goes and in which form. Small and `Copy`, so that anything that waits can keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyTo {
    /// The request.
    pub token: Token,
    /// Its API.
    pub key: ApiKey,
    /// Its version.
    pub version: i16,
    /// Its correlation id, repeated in the response header.
    pub correlation_id: i32,
    /// The correlation id of the Envelope that it came in, if another broker forwarded it: the answer goes back in one.
    pub envelope: Option<i32>,
}

impl ReplyTo {
    /// Encodes `message` behind its header and answers the request with it.
    ///
    /// A message that can not be expressed in the request's version is our own mistake: it is reported, and the connection is
    /// closed rather than left waiting.
    pub fn send<'m, M: Message<'m>>(self, message: &M, out: &mut Effects) {
        let mut writer = Writer::with_capacity(RESPONSE_BYTES);
        writer.i32(self.correlation_id);
        if self.key.response_header_version(self.version) >= 1 {
            writer.tags(0);
        }
        match (message.encode(&mut writer, self.version), self.envelope) {
            (Ok(()), None) => {
                out.push(Effect::Respond { token: self.token, response: Response::Frame(writer.finish()) })
            }
            (Ok(()), Some(_)) => self.seal(Some(&writer.into_bytes()), ErrorCode::None, out),
            (Err(error), _) => {
                out.push(Effect::Report(format!("{} v{}: {error}", M::NAME, self.version)));
                self.close(out);
            }
        }
    }

    /// This node does not lead the quorum, or did not lead it long enough: whoever forwarded the request, or asked directly, looks for the
    /// one that does. Answers that have no place for an error of the whole request are not given: their connection ends, and the client
    /// asks again who leads.
    pub(crate) fn not_controller(self, out: &mut Effects) {
        let error_code = ErrorCode::NotController.code();
        if self.envelope.is_some() {
            return self.seal(None, ErrorCode::NotController, out);
        }
        match self.key {
            ApiKey::BrokerRegistration => {
                self.send(&BrokerRegistrationResponse { error_code, ..Default::default() }, out);
            }
            ApiKey::BrokerHeartbeat => {
                self.send(&BrokerHeartbeatResponse { error_code, ..Default::default() }, out);
            }
            ApiKey::ControllerRegistration => {
                self.send(&ControllerRegistrationResponse { error_code, ..Default::default() }, out);
            }
            ApiKey::AllocateProducerIds => {
                self.send(&AllocateProducerIdsResponse { error_code, ..Default::default() }, out);
            }
            ApiKey::AlterPartition => {
                self.send(&AlterPartitionResponse { error_code, ..Default::default() }, out)
            }
            ApiKey::AssignReplicasToDirs => {
                self.send(&AssignReplicasToDirsResponse { error_code, ..Default::default() }, out);
            }
            ApiKey::UnregisterBroker => {
                self.send(&UnregisterBrokerResponse { error_code, ..Default::default() }, out);
            }
            ApiKey::UnregisterController => {
                self.send(&UnregisterControllerResponse { error_code, ..Default::default() }, out);
            }
            ApiKey::UpdateFeatures => {
                self.send(&UpdateFeaturesResponse { error_code, ..Default::default() }, out)
            }
            _ => self.close(out),
        }
    }

    /// Answers an envelope with an answer, or with an error of its own.
    pub(crate) fn seal(self, response: Option<&[u8]>, error: ErrorCode, out: &mut Effects) {
        let correlation_id = self.envelope.expect("only what came in an envelope goes back in one");
        let sealed = EnvelopeResponse { response_data: response.map(Into::into), error_code: error.code() };
        let key = ApiKey::Envelope;
        ReplyTo { token: self.token, key, version: 0, correlation_id, envelope: None }.send(&sealed, out);
    }

    /// Closes the connection instead of answering.
    pub fn close(self, out: &mut Effects) {
        match self.envelope {
            Some(_) => self.seal(None, ErrorCode::UnknownServerError, out),
            None => out.push(Effect::Respond { token: self.token, response: Response::Close }),
        }
    }
}

/// A request being handled: the envelope around its typed body.
pub struct Call<'c> {
    /// The whole frame, for slices that share its memory; [`keep`] them, if longer than this call.
    pub frame: &'c Bytes,
    /// Who asks.
    pub connection: &'c Connection,
    /// The client id of the header; empty when null.
    pub client_id: &'c str,
    /// Where the answer goes.
    pub reply: ReplyTo,
    /// The time.
    pub now: Millis,
    /// Whether the request is handled again, after something it needed was created. It must not create a second time.
    pub retried: bool,
    /// Whether this thread may wait for the disk.
    pub may_wait: bool,
    /// The word of a transaction coordinator that the request waited for.
    pub admission: Option<Result<Admission, ErrorCode>>,
    /// Appends that are put off to the end of the turn.
    pub gather: &'c mut Gather,
    /// Deeds that arise.
    pub out: &'c mut Effects,
}

impl Call<'_> {
    /// Has the whole request handled again on a reader thread, where it may wait for the disk. Nothing may have been changed yet.
    pub fn on_reader_thread(&mut self) {
        self.out.push(Effect::Read(ReadTask::Request(self.to_deferred())));
    }

    /// Like [`Call::on_reader_thread`], and requests that come behind it on its connection wait until it was handled.
    pub fn on_reader_thread_in_order(&mut self) {
        self.out.push(Effect::Hold { token: self.reply.token });
        self.out.push(Effect::Read(ReadTask::InOrder(self.to_deferred())));
    }

    /// Whether one of these logs has to be opened or loaded by the disk, which this thread may not wait for.
    pub fn must_leave<'p>(&self, partitions: impl IntoIterator<Item = &'p Arc<Partition>>) -> bool {
        !self.may_wait && partitions.into_iter().any(|partition| !partition.is_at_hand())
    }

    /// The request as something that can be kept and handled again.
    pub(crate) fn to_deferred(&self) -> Deferred {
        Deferred {
            frame: keep(self.frame),
            connection: self.connection.clone(),
            token: self.reply.token,
            envelope: self.reply.envelope,
        }
    }

    /// Answers at once.
    pub fn respond<'m, M: Message<'m>>(&mut self, message: &M) {
        self.reply.send(message, self.out);
    }
}

/// A part of a frame, for whoever keeps it longer than the request is being handled: small frames are slices of a read buffer that many
/// requests share, and are copied rather than keep all of it alive.
pub(crate) fn keep(part: &Bytes) -> Bytes {
    if part.len() < KEPT_BYTES_MIN { Bytes::copy_from_slice(part) } else { part.clone() }
}

/// A request put aside, to be handled again from its frame.
#[derive(Debug, Clone)]
pub struct Deferred {
    pub(crate) frame: Bytes,
    pub(crate) connection: Connection,
    pub(crate) token: Token,
    pub(crate) envelope: Option<i32>,
}

/// Reads the body that follows the header. Bytes behind it are passed over, as in Kafka: librdkafka's Metadata v13 has some.
pub(crate) fn read_body<'a, R: Request<'a>>(reader: &mut Reader<'a>, version: i16) -> Result<R, DecodeError> {
    R::decode(reader, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_the_wrong_controller_is_told() {
        let token = Token { shard: 0, connection: 0, generation: 0, slot: 0 };
        let asked = |key| {
            let mut out = Effects::new();
            ReplyTo { token, key, version: 1, correlation_id: 5, envelope: None }.not_controller(&mut out);
            let Some(Effect::Respond { response, .. }) = out.pop() else { panic!("one answer") };
            response
        };
        let Response::Frame(frame) = asked(ApiKey::BrokerHeartbeat) else { panic!("not closed") };
        let frame = frame.read().expect("made in memory");
        let mut reader = Reader::new(&frame[5..]);
        let response = BrokerHeartbeatResponse::decode(&mut reader, 1).expect("an answer");
        assert_eq!(response.error_code, ErrorCode::NotController.code());
        assert!(matches!(asked(ApiKey::CreateTopics), Response::Close));
    }
}
