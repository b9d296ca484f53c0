//! A started `ottla` process, and the few bytes of Kafka's protocol that the tests speak to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::{Message, Request, Writer};

/// Longer than anything here takes on a busy machine; only a hanging process ever waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary with `args`, in `dir`, without any environment that would configure it.
pub fn ottla(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAFKA_") || name == "CLUSTER_ID" {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a process that should end by itself did, and what it said.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command that ends by itself. What it prints has to fit into a pipe.
pub fn run(mut command: Command) -> Ended {
    let mut child = command.spawn().expect("the binary runs");
    let status = wait(&mut child);
    let _ = child.kill();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("readable");
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("readable");
    let status = status.unwrap_or_else(|| panic!("the process does not end: {stdout}{stderr}"));
    Ended { code: status.code(), stdout, stderr }
}

/// Waits for the end of a process, though not for ever.
pub fn wait(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("waited for") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// A node that is ready. It is killed when dropped.
pub struct Node {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Everything it printed up to the line that says it is ready.
    pub lines: Vec<String>,
}

impl Node {
    /// Starts a process and waits until it is ready.
    pub fn start(mut command: Command) -> Node {
        let mut child = command.spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines: Vec<String> = Vec::new();
        while !lines.last().is_some_and(|line| line.starts_with("ready in ")) {
            let mut line = String::new();
            if stdout.read_line(&mut line).expect("readable") == 0 {
                let mut stderr = String::new();
                let _ = child.stderr.take().expect("piped").read_to_string(&mut stderr);
                panic!("not ready: {lines:?} {stderr}");
            }
            lines.push(line.trim_end().to_owned());
        }
        Node { child, stdout, lines }
    }

    /// Starts `ottla` in `dir` on any port.
    pub fn start_in(dir: &Path) -> Node {
        Node::start(ottla(dir, &["--listen", "127.0.0.1:0"]))
    }

    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let start = format!("Listening {listener} ");
        let line = self.lines.iter().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("no {listener} in {:?}", self.lines));
        line.split(' ')
            .next()
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("no address: {line}"))
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address("PLAINTEXT")).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for the end; returns how it ended, what it still printed, and its stderr.
    pub fn wait(mut self) -> (ExitStatus, String, String) {
        let status = wait(&mut self.child).expect("the process ends");
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).expect("readable");
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("readable");
        (status, stdout, stderr)
    }

    /// Ends the node as an operator would, and checks that it does so cleanly.
    pub fn stop(self) {
        self.signal("TERM");
        let (status, _, stderr) = self.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Harmless when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A frame: size, API key, version, correlation id, client id "test", and the body.
pub fn frame(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(8 + 2 + 4 + body.len() as i32).to_be_bytes());
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    frame.extend_from_slice(&4i16.to_be_bytes());
    frame.extend_from_slice(b"test");
    frame.extend_from_slice(body);
    frame
}

/// An ApiVersions request of version 0.
pub fn api_versions(correlation_id: i32) -> Vec<u8> {
    frame(18, 0, correlation_id, &[])
}

/// Reads a response; `None` when the peer has closed the connection.
pub fn response(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let mut response = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut response).ok()?;
    Some(response)
}

/// Asks for API versions and returns `(key, min, max)` of each.
pub fn ask_api_versions(stream: &mut TcpStream, correlation_id: i32) -> Vec<(i16, i16, i16)> {
    stream.write_all(&api_versions(correlation_id)).expect("sent");
    let response = response(stream).expect("answered");
    assert_eq!(response[..4], correlation_id.to_be_bytes());
    assert_eq!(response[4..6], [0, 0], "no error");
    let short = |at: usize| i16::from_be_bytes([response[at], response[at + 1]]);
    let count = u32::from_be_bytes([response[6], response[7], response[8], response[9]]) as usize;
    (0..count).map(|i| (short(10 + i * 6), short(12 + i * 6), short(14 + i * 6))).collect()
}

/// Asks a request; the body of its answer, or `None` when the peer has closed the connection.
pub fn ask<'a, R: Request<'a>>(stream: &mut TcpStream, request: &R, version: i16) -> Option<Bytes> {
    let header =
        RequestHeader { request_api_key: R::KEY as i16, request_api_version: version, ..Default::default() };
    let mut writer = Writer::new();
    header.encode(&mut writer, R::KEY.request_header_version(version)).expect("it can be said");
    request.encode(&mut writer, version).expect("it can be said");
    let frame = writer.into_bytes();
    stream.write_all(&(frame.len() as i32).to_be_bytes()).ok()?;
    stream.write_all(&frame).ok()?;
    let answer = response(stream)?;
    let header = 4 + R::KEY.response_header_version(version) as usize;
    Some(Bytes::from(answer).slice(header..))
}
