//! Opens the sockets that listeners name, before anything is recovered, so that a port in use is noticed at once.
//!
//! The tricky idea: an empty host means every interface, and one IPv6 socket serves both families where the system has IPv6. Of a
//! host name's addresses the first IPv4 one is taken, as Java does, since that is what `localhost` means to most clients.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds and listens. `name` is the listener's, for the sentence that tells what went wrong.
pub fn bind(name: &str, host: &str, port: u16, backlog: i32) -> Result<TcpListener, String> {
    let told = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "listener {name} can not listen on {told}: the port is in use; stop the program that has it or choose another \
             port, for example --listen 127.0.0.1:{}",
            if port == u16::MAX { 9092 } else { port + 1 }
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "listener {name} can not listen on {told}: this user may not; ports below 1024 belong to root"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("listener {name} can not listen on {told}: no interface of this machine has that address")
        }
        _ => format!("listener {name} can not listen on {told}: {error}"),
    };
    if host.is_empty() {
        let every = |address: IpAddr| open(SocketAddr::new(address, port), backlog);
        return match every(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => every(Ipv4Addr::UNSPECIFIED.into()),
            opened => opened,
        }
        .map_err(refused);
    }
    let address = resolve(host).ok_or_else(|| {
        format!("listener {name} can not listen on {told}: the name {host} is not known to this machine")
    })?;
    open(SocketAddr::new(address, port), backlog).map_err(refused)
}

/// The address of a host.
pub fn resolve(host: &str) -> Option<IpAddr> {
    let addresses: Vec<IpAddr> = (host, 0).to_socket_addrs().ok()?.map(|address| address.ip()).collect();
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // A node that is started again must not wait for the connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_and_used_ports() {
        let first = bind("A", "127.0.0.1", 0, 50).expect("some port is free");
        let port = first.local_addr().expect("bound").port();
        let error = bind("B", "127.0.0.1", port, 50).expect_err("in use");
        assert!(
            error.contains("listener B") && error.contains(&format!("127.0.0.1:{port}: the port is in use")),
            "{error}"
        );
        let every = bind("C", "", 0, 50).expect("some port is free");
        let port = every.local_addr().expect("bound").port();
        std::net::TcpStream::connect(("127.0.0.1", port)).expect("IPv4 is served");
        assert!(bind("D", "", port, 50).is_err());
    }

    #[test]
    fn hosts() {
        assert_eq!(resolve("127.0.0.1"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(resolve("::1"), Some(Ipv6Addr::LOCALHOST.into()));
        let error = bind("A", "no-such-host.invalid", 0, 50).expect_err("unknown");
        assert!(error.contains("no-such-host.invalid"), "{error}");
        let error = bind("A", "192.0.2.1", 0, 50).expect_err("not ours");
        assert!(error.contains("no interface"), "{error}");
    }
}
