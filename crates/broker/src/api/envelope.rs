//! Envelope 0 (KIP-590): a request of a client, forwarded by a broker. It is handled as if the client had asked here, and its answer goes
//! back in an envelope.

use std::net::{IpAddr, SocketAddr};

use ottla_protocol::messages::envelope_request::EnvelopeRequest;

use crate::Broker;
use crate::api::{Circumstance, dispatch};
use crate::call::{Call, ReplyTo};

/// Opens the envelope.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: EnvelopeRequest<'_>) {
    let mut connection = call.connection.clone();
    let address: Option<IpAddr> = match &*request.client_host_address {
        bytes if bytes.len() == 4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        bytes => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let Some(address) = address else {
        let ReplyTo { correlation_id, .. } = call.reply;
        return ReplyTo { envelope: Some(correlation_id), ..call.reply }.close(call.out);
    };
    // It was the other broker that was authenticated here; who asked it is not carried over yet.
    connection.principal = None;
    connection.peer = SocketAddr::new(address, connection.peer.port());
    let frame = call.frame.slice_ref(&request.request_data);
    let at = Circumstance {
        envelope: Some(call.reply.correlation_id),
        may_wait: call.may_wait,
        ..Circumstance::at(call.now)
    };
    dispatch(broker, &mut connection, &frame, call.reply.token, at, call.gather, call.out);
}
