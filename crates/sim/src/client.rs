//! Requests as bytes and answers as messages, for the clients of the simulation.

use bytes::Bytes;
use ottla_broker::Response;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::{Message, Reader, Request, Writer};

/// A request frame.
pub(crate) fn frame<'a, R: Request<'a>>(request: &R, version: i16) -> Bytes {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: R::KEY as i16,
        request_api_version: version,
        correlation_id: 7,
        client_id: Some("sim".into()),
    };
    header.encode(&mut writer, R::KEY.request_header_version(version)).expect("a header fits its version");
    request.encode(&mut writer, version).expect("our requests fit their version");
    writer.into_bytes()
}

/// The bytes of an answer, without its header. An answer that closes the connection is a violation: our requests are well-formed.
pub(crate) fn body<'a, R: Request<'a>>(response: Response, version: i16) -> Result<Bytes, String> {
    let Response::Frame(chain) = response else {
        return Err(format!("{} v{version} was answered with {response:?}", R::NAME));
    };
    let bytes = chain.read().map_err(|error| error.to_string())?;
    let mut reader = Reader::new(&bytes);
    let header = ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version));
    let header = header.map_err(|error| format!("{} v{version}: {error}", R::NAME))?;
    if header.correlation_id != 7 {
        return Err(format!("{}: a foreign correlation id", R::NAME));
    }
    let at = reader.position();
    Ok(bytes.slice(at..))
}

/// Reads an answer's body.
pub(crate) fn read<'a, M: Message<'a>>(bytes: &'a [u8], version: i16) -> Result<M, String> {
    let mut reader = Reader::new(bytes);
    let message =
        M::decode(&mut reader, version).map_err(|error| format!("{} v{version}: {error}", M::NAME))?;
    reader.expect_end().map_err(|error| format!("{} v{version}: {error}", M::NAME))?;
    Ok(message)
}
