//! A node that can not start says why in one sentence, and its exit status is not 0.

use std::net::TcpListener;
use std::path::Path;

use crate::node::{Ended, Node, ottla, run};

/// Runs `ottla` with what can not work, and checks the exit status and that stderr is one line with all of `parts`.
fn check(dir: &Path, args: &[&str], env: &[(&str, &str)], code: i32, parts: &[&str]) {
    let mut command = ottla(dir, args);
    command.envs(env.iter().copied());
    let Ended { code: ended, stdout, stderr } = run(command);
    assert_eq!(ended, Some(code), "{args:?} {env:?}: {stderr}");
    assert!(!stdout.contains("Kafka Server started"), "{stdout}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("ottla: ")).collect();
    assert_eq!(errors.len(), 1, "{args:?} {env:?}: {stderr}");
    for part in parts {
        assert!(errors[0].contains(part), "{part} in {stderr}");
    }
}

#[test]
fn bad_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("s.properties"), "num.partitions=1\nnum.partitions=none\n")
        .expect("written");
    let dir = dir.path();
    check(
        dir,
        &["serve", "s.properties"],
        &[],
        2,
        &["num.partitions=none", "whole number", "s.properties:2"],
    );
    check(dir, &["serve", "missing.properties"], &[], 2, &["missing.properties", "can not be read"]);
    check(dir, &["--set", "compression.type=ztsd"], &[], 2, &["compression.type=ztsd", "zstd", "flag --set"]);
    check(dir, &["--listen", "nonsense"], &[], 2, &["listeners", "nonsense", "flag --listen"]);
    check(dir, &[], &[("KAFKA_NODE_ID", "x")], 2, &["node.id=x", "KAFKA_NODE_ID"]);
    check(dir, &["config"], &[("KAFKA_NODE_ID", "x")], 2, &["node.id=x", "KAFKA_NODE_ID"]);
    assert!(!dir.join("ottla-data").exists(), "nothing was touched");
    for wrong in [&["--set", "novalue"][..], &["--no-such-flag"], &["sever"]] {
        assert_eq!(run(ottla(dir, wrong)).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn a_port_in_use() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free").local_addr().expect("bound");
    let holder = TcpListener::bind(taken).expect("still free");
    check(
        dir.path(),
        &["--listen", &taken.to_string()],
        &[],
        1,
        &["PLAINTEXT", &taken.to_string(), "in use"],
    );
    assert!(!dir.path().join("ottla-data").exists(), "nothing was touched");
    drop(holder);
}

#[test]
fn two_processes_on_one_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Node::start_in(dir.path());
    check(dir.path(), &["--listen", "127.0.0.1:0"], &[], 1, &["ottla-data", "process"]);
    first.stop();
    Node::start_in(dir.path()).stop();
}

#[test]
fn a_directory_that_is_not_ours() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("photos");
    std::fs::create_dir(&data).expect("created");
    std::fs::write(data.join("cat.jpg"), "meow").expect("written");
    check(dir.path(), &["--listen", "127.0.0.1:0", "--data-dir", "photos"], &[], 1, &["photos", "cat.jpg"]);
    assert_eq!(std::fs::read_dir(&data).expect("listed").count(), 1, "nothing was left behind");
    std::fs::write(dir.path().join("file"), "").expect("written");
    check(dir.path(), &["--listen", "127.0.0.1:0", "--data-dir", "file"], &[], 1, &["file"]);
    check(dir.path(), &["--listen", "127.0.0.1:0", "--data-dir", "/proc/data"], &[], 1, &["/proc/data"]);
}

#[test]
fn a_directory_of_another_node_or_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = ottla(dir.path(), &["--listen", "127.0.0.1:0"]);
    command.env("CLUSTER_ID", "4L6g3nShT-eMCtK--X86sw");
    let node = Node::start(command);
    assert!(node.lines.iter().any(|line| line.contains("4L6g3nShT-eMCtK--X86sw")), "{:?}", node.lines);
    node.stop();
    let listen = ["--listen", "127.0.0.1:0"];
    check(dir.path(), &listen, &[("KAFKA_NODE_ID", "7")], 1, &["ottla-data", "7"]);
    check(dir.path(), &listen, &[("CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw")], 1, &["4L6g3nShT-eMCtK--X86sw"]);
}
