//! One request at a time over a blocking connection: for setting the stage, not for load.

use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::{Message, Reader, Request, Writer};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A response above this size is taken for nonsense.
const RESPONSE_BYTES_MAX: usize = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects.
    pub fn connect(bootstrap: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// Sends a request and returns the body of the response.
    pub fn ask<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> io::Result<Vec<u8>> {
        self.correlation_id += 1;
        self.stream.write_all(&frame(request, version, self.correlation_id)?)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(invalid)?;
        if size > RESPONSE_BYTES_MAX {
            return Err(invalid("a response of absurd size"));
        }
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body)?;
        let mut reader = Reader::new(&body);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).map_err(invalid)?;
        let at = reader.position();
        Ok(body.split_off(at))
    }
}

/// A whole request frame, with its size.
pub fn frame<'a, R: Request<'a>>(request: &R, version: i16, correlation_id: i32) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new();
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id: Some("ottla-bench".into()),
    };
    header.encode(&mut writer, R::KEY.request_header_version(version)).map_err(invalid)?;
    request.encode(&mut writer, version).map_err(invalid)?;
    let body = writer.into_bytes();
    let mut frame = i32::try_from(body.len()).map_err(invalid)?.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Anything that is wrong with what a peer says.
pub fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
