//! A connection that never waits: requests queue up and leave with as few system calls as possible, answers are cut into frames.
//!
//! The tricky idea: a queued request is a small owned head and a tail that all requests share, and one `writev` takes many of them.

use crate::client::invalid;
use rustix::event::epoll;
use rustix::net::RecvFlags;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use crate::template::Template;

/// Slices that one write takes.
const SLICES_MAX: usize = 256;
/// Bytes that are read at once, for all connections.
pub const SCRATCH_BYTES: usize = 256 * 1024;
/// An answer that is read as a whole and is larger than this is taken for nonsense.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// The sockets that one thread looks after.
#[allow(missing_debug_implementations, reason = "an event of epoll has none")]
pub struct Poller {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Poller {
    /// An empty one.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, ready: Vec::with_capacity(1024) })
    }

    /// Watches a socket; it is told once whenever it becomes readable or writable.
    pub fn add(&self, socket: &Socket, index: usize) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(index as u64);
        Ok(epoll::add(&self.epoll, &socket.stream, data, flags)?)
    }

    /// Waits until something happens or the time is up, and puts the indexes of ready sockets into `ready`.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        self.ready.clear();
        let timeout = timeout.map(|timeout| rustix::time::Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let buffer = rustix::buffer::spare_capacity(&mut self.ready);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) => ready.extend(self.ready.iter().map(|event| event.data.u64() as usize)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// One connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    queue: VecDeque<Outgoing>,
    /// Bytes of the first queued request that are sent.
    sent: usize,
    /// The beginning of an answer.
    partial: Vec<u8>,
    spare_heads: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Outgoing {
    head: Vec<u8>,
    tail: Option<Rc<Template>>,
}

impl Outgoing {
    fn tail(&self) -> &[u8] {
        self.tail.as_ref().map_or(&[], |template| template.tail())
    }
}

impl Socket {
    /// Connects.
    pub fn connect(bootstrap: &str) -> io::Result<Socket> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Socket { stream, queue: VecDeque::new(), sent: 0, partial: Vec::new(), spare_heads: Vec::new() })
    }

    /// Memory for the head of a request.
    pub fn head(&mut self) -> Vec<u8> {
        self.spare_heads.pop().unwrap_or_default()
    }

    /// Queues a request.
    pub fn push(&mut self, head: Vec<u8>, tail: Option<Rc<Template>>) {
        self.queue.push_back(Outgoing { head, tail });
    }

    /// Sends as much as the socket takes. Returns how many requests have left.
    pub fn flush(&mut self) -> io::Result<usize> {
        let mut left = 0;
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            let mut skip = self.sent;
            for outgoing in self.queue.iter().take(SLICES_MAX / 2) {
                for part in [outgoing.head.as_slice(), outgoing.tail()] {
                    let from = skip.min(part.len());
                    skip -= from;
                    if from < part.len() {
                        slices[count] = IoSlice::new(&part[from..]);
                        count += 1;
                    }
                }
            }
            match self.stream.write_vectored(&slices[..count]) {
                Ok(bytes) => left += self.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    fn advance(&mut self, bytes: usize) -> usize {
        self.sent += bytes;
        let mut left = 0;
        while let Some(first) = self.queue.front() {
            let size = first.head.len() + first.tail().len();
            if self.sent < size {
                break;
            }
            self.sent -= size;
            left += 1;
            if let Some(outgoing) = self.queue.pop_front() {
                self.spare_heads.push(outgoing.head);
            }
        }
        left
    }

    /// Reads everything that has arrived and hands each whole answer, without its size, to `on_frame`.
    pub fn read_frames(
        &mut self,
        scratch: &mut [u8],
        mut on_frame: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(invalid("the broker closed a connection")),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.partial.is_empty() {
                let used = cut(&scratch[..count], &mut on_frame)?;
                self.partial.extend_from_slice(&scratch[used..count]);
            } else {
                self.partial.extend_from_slice(&scratch[..count]);
                let used = cut(&self.partial, &mut on_frame)?;
                self.partial.drain(..used);
            }
            if count < scratch.len() {
                return Ok(());
            }
        }
    }

    /// Reads up to `bytes.len()` bytes as they come. `None`: nothing is there now.
    pub fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(bytes) {
            Ok(0) => Err(invalid("the broker closed a connection")),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// Throws up to `scratch.len()` bytes away without having them copied. `None`: nothing is there now.
    pub fn discard(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.stream, scratch, RecvFlags::TRUNC) {
            Ok((_, 0)) => Err(invalid("the broker closed a connection")),
            Ok((_, count)) => Ok(Some(count)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(rustix::io::Errno::INTR) => Ok(Some(0)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Hands out the whole frames at the start of `bytes`; returns how many bytes they take.
fn cut(bytes: &[u8], on_frame: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<usize> {
    let mut used = 0;
    while let Some((size, rest)) = bytes[used..].split_first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        if size > FRAME_BYTES_MAX {
            return Err(invalid("an answer of absurd size"));
        }
        let Some(frame) = rest.get(..size) else { break };
        on_frame(frame)?;
        used += 4 + size;
    }
    Ok(used)
}
