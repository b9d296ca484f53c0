//! The page of metrics: what clients told is to be seen there, whoever asks for something else is told so.

use std::io::{Read, Write};
use std::net::TcpStream;

use ottla_protocol::messages::get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest;
use ottla_protocol::messages::get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponse;
use ottla_protocol::{Message, Reader};

use crate::node::{Node, ask, ottla};

fn get(node: &Node, request: &str) -> String {
    let mut stream = TcpStream::connect(node.address("METRICS")).expect("connected");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered, and closed");
    answer
}

#[test]
fn the_page_is_read_by_http() {
    let dir = tempfile::tempdir().expect("a directory");
    let listen = "ottla.metrics.listen=127.0.0.1:0";
    let node = Node::start(ottla(dir.path(), &["--listen", "127.0.0.1:0", "--set", listen]));
    let page = get(&node, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.ends_with("ottla_client_metrics_left_out_total 0\n"), "{page}");
    let mut client = node.connect();
    let answer = ask(&mut client, &GetTelemetrySubscriptionsRequest::default(), 0).expect("answered");
    let told = GetTelemetrySubscriptionsResponse::decode(&mut Reader::new(&answer), 0).expect("readable");
    assert_eq!((told.error_code, told.push_interval_ms), (0, 300_000));
    let page = get(&node, "GET /metrics?x=1 HTTP/1.0\r\n\r\n");
    assert!(page.contains("\nottla_client_metrics_instances 1\n"), "{page}");
    assert!(get(&node, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(get(&node, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(get(&node, "\0\0\0\x10 what is this\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(get(&node, &"x".repeat(8 << 10)).starts_with("HTTP/1.1 400 "));
    node.stop();
}
