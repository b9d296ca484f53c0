//! A very small client of the wire protocol, for chores that look at the broker from outside: one connection, one request at a time.

use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::{ApiKey, Message, Reader, Request, Writer};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Frames from a broker above this size are taken for nonsense.
const RESPONSE_BYTES_MAX: usize = 128 << 20;

/// A connection.
pub struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    /// Connects; reads and writes end after `timeout`.
    pub fn open(address: &str, timeout: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Connection { stream, correlation_id: 0 })
    }

    /// Sends a request and returns the body of its response.
    pub fn ask<'a, R: Request<'a>>(&mut self, request: &R, version: i16) -> io::Result<Vec<u8>> {
        self.correlation_id += 1;
        let frame = frame(request, version, self.correlation_id)?;
        self.stream.write_all(&frame)?;
        let body = self.read_frame()?;
        let mut reader = Reader::new(&body);
        let header =
            ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).map_err(invalid)?;
        if header.correlation_id != self.correlation_id {
            return Err(invalid("a response to another request"));
        }
        let at = reader.position();
        Ok(body[at..].to_vec())
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one response frame, without its size.
    pub fn read_frame(&mut self) -> io::Result<Vec<u8>> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(invalid)?;
        if size > RESPONSE_BYTES_MAX {
            return Err(invalid("a response of absurd size"));
        }
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}

/// A whole request frame, with its size.
pub fn frame<'a, R: Request<'a>>(request: &R, version: i16, correlation_id: i32) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new();
    header(&mut writer, R::KEY, version, correlation_id)?;
    request.encode(&mut writer, version).map_err(invalid)?;
    let body = writer.into_bytes();
    let mut frame = i32::try_from(body.len()).map_err(invalid)?.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// A request header.
pub fn header(writer: &mut Writer, key: ApiKey, version: i16, correlation_id: i32) -> io::Result<()> {
    let header = RequestHeader {
        request_api_key: key as i16,
        request_api_version: version,
        correlation_id,
        client_id: Some("xtask".into()),
    };
    header.encode(writer, key.request_header_version(version)).map_err(invalid)
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
