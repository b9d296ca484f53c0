//! Accepts connections on loop 0 and gives each to the loop with the fewest.
//!
//! Connections that come too fast are accepted late, or turned away late; how fast is too fast, the broker says.
//!
//! The tricky idea: an error of `accept` concerns one connection (the peer has gone) or the process (no file descriptors are left);
//! in the second case accepting pauses, or it would spin.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::Millis;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use super::Listening;
use super::event_loop::EventLoop;
use super::inbox::Message;

/// Connections that wait to be closed because their address opens too many; more are closed at once.
const TURNED_AWAY_MAX: usize = 1_000;
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
        let node = &event_loop.node;
        let for_all = !node.broker.is_of_nodes(&listening.name);
        node.census.room(&listening.name, for_all).await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                has_complained = false;
                let pause = node.broker.on_accepted(&listening.name, node.clock.now());
                if pause > 0 {
                    wait(pause).await;
                    // Others may have taken the room meanwhile.
                    node.census.room(&listening.name, for_all).await;
                }
                let address = plain(peer.ip());
                let refused = node.broker.refuse_connection(&listening.name, address, node.clock.now());
                if let Some(pause) = refused {
                    turn_away(&event_loop, stream, address, pause);
                } else if let Err(error) = place(&event_loop, stream, peer, &listening.name) {
                    crate::debug!("a connection of {peer} ended while it was accepted: {error}");
                }
                // However many knock at once, those who are in are served between them.
                tokio::task::yield_now().await;
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

async fn wait(ms: Millis) {
    if let Ok(ms @ 1..) = u64::try_from(ms) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// Closes a connection, later: who connects again and again has to wait each time.
fn turn_away(event_loop: &Rc<EventLoop>, stream: TcpStream, address: IpAddr, after: Millis) {
    crate::debug!("{address} opens connections too fast (connection_creation_rate); one is closed");
    let held = event_loop.turned_away.get();
    if held < TURNED_AWAY_MAX {
        let event_loop = Rc::clone(event_loop);
        event_loop.turned_away.set(held + 1);
        spawn_local(async move {
            wait(after).await;
            drop(stream);
            event_loop.turned_away.set(event_loop.turned_away.get() - 1);
        });
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
    let Some(target) = node.census.enter(listener, peer.ip()) else {
        crate::debug!("{peer} has too many connections (max.connections.per.ip); closed");
        return Ok(());
    };
    if node.broker.is_of_nodes(listener) {
        // They are let in even if the node is full.
        node.shed();
    }
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
