//! Accepts connections on loop 0 and gives each to the loop with the fewest.
//!
//! The tricky idea: an error of `accept` concerns one connection (the peer has gone) or the process (no file descriptors are left);
//! in the second case accepting pauses, or it would spin.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::Listening;
use super::event_loop::EventLoop;
use super::inbox::Message;

/// How long nothing is accepted when the process has run out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever.
pub async fn accept(event_loop: Rc<EventLoop>, listening: Listening) {
    let listener = match TcpListener::from_std(listening.socket) {
        Ok(listener) => listener,
        Err(error) => {
            return event_loop.node.halt(format!("listener {} can not be used: {error}", listening.name));
        }
    };
    let mut has_complained = false;
    loop {
        event_loop.node.census.room().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                has_complained = false;
                if let Err(error) = place(&event_loop, stream, peer, &listening.name) {
                    crate::debug!("a connection of {peer} ended while it was accepted: {error}");
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if !has_complained {
                    crate::warn!("listener {} accepts no connections: {error}", listening.name);
                    has_complained = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn place(
    event_loop: &Rc<EventLoop>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: &Arc<str>,
) -> io::Result<()> {
    let node = &event_loop.node;
    let peer = SocketAddr::new(plain(peer.ip()), peer.port());
    let stream = stream.into_std()?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if let Some(bytes) = node.limits.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = node.limits.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    let Some(target) = node.census.enter(peer.ip()) else {
        crate::debug!("{peer} has too many connections (max.connections.per.ip); closed");
        return Ok(());
    };
    let listener = Arc::clone(listener);
    if target == usize::from(event_loop.index) {
        event_loop.adopt(stream, peer, listener);
    } else {
        node.inbox_of(target).post(Message::Accepted { stream, peer, listener });
    }
    Ok(())
}

/// An IPv4 peer of a socket that listens on IPv6 as well appears as `::ffff:a.b.c.d`.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
