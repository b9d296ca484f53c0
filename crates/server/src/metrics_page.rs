//! The page of metrics (`ottla.metrics.listen`): `GET /metrics`, in the text format of Prometheus.
//!
//! It has a thread and a runtime of its own, so that whoever reads it does not hold up clients.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

use crate::shell::Node;

/// Readers at once; more wait in the backlog.
const READERS_MAX: usize = 16;
/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 64;
/// How long a reader may take for its request, and for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is accepted when the process has run out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the page for as long as the process lives.
pub fn serve(node: Arc<Node>, socket: TcpListener) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let body = move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => accept(&node, listener).await,
                Err(error) => node.halt(format!("the socket of the metrics can not be used: {error}")),
            }
        });
    };
    thread::Builder::new().name("ottla-metrics".into()).spawn(body)?;
    Ok(())
}

async fn accept(node: &Arc<Node>, listener: tokio::net::TcpListener) {
    let readers = Arc::new(Semaphore::new(READERS_MAX));
    loop {
        let permit = Arc::clone(&readers).acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let node = Arc::clone(node);
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(PATIENCE, answer(&node, stream)).await;
                    if let Ok(Err(error)) = answered {
                        crate::debug!("a reader of the metrics, {peer}: {error}");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                crate::debug!("metrics: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Reads one request, answers it, and closes.
async fn answer(node: &Node, mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    let (status, body) = loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(&request) {
            Ok(httparse::Status::Complete(_)) => break respond(node, head.method, head.path),
            Ok(httparse::Status::Partial) if request.len() < REQUEST_BYTES_MAX => {
                let room = REQUEST_BYTES_MAX - request.len();
                if (&mut stream).take(room as u64).read_buf(&mut request).await? == 0 {
                    return Ok(());
                }
            }
            Ok(_) | Err(_) => break ("400 Bad Request", String::new()),
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn respond(node: &Node, method: Option<&str>, path: Option<&str>) -> (&'static str, String) {
    let path = path.map(|path| path.split_once('?').map_or(path, |(path, _)| path));
    match (method, path) {
        (Some("GET"), Some("/metrics")) => ("200 OK", node.broker.metrics_page(node.clock.now())),
        (Some("GET"), _) => ("404 Not Found", String::new()),
        _ => ("405 Method Not Allowed", String::new()),
    }
}
