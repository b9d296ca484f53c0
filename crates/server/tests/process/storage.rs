//! `ottla storage`: directories are formatted, looked at, and started on.

use std::fs;
use std::path::Path;

use crate::node::{Ended, Node, ottla, run};

const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

fn storage(dir: &Path, words: &str) -> Ended {
    let arguments: Vec<&str> = ["storage"].into_iter().chain(words.split(' ')).collect();
    run(ottla(dir, &arguments))
}

fn configure(dir: &Path, more: &str) {
    let text = "process.roles=broker,controller\nnode.id=7\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
                controller.listener.names=CONTROLLER\nlog.dirs=data\n";
    fs::write(dir.join("s.properties"), format!("{text}{more}")).expect("written");
}

#[test]
fn a_directory_is_formatted_looked_at_and_started_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    configure(dir, "");
    let info = storage(dir, "info -c s.properties");
    assert_eq!(info.code, Some(1), "{}", info.stderr);
    assert!(info.stdout.contains("data does not exist"), "{}", info.stdout);

    let words =
        format!("format -c s.properties -t {CLUSTER} --standalone -S SCRAM-SHA-256=[name=a,password=b]");
    let done = storage(dir, &words);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(
        done.stdout,
        "Formatting dynamic metadata voter directory data with metadata.version 4.4-IV2.\n"
    );
    let again = storage(dir, &words);
    assert_eq!(again.code, Some(1), "{}", again.stdout);
    assert!(again.stderr.contains("already formatted"), "{}", again.stderr);
    let ignored = storage(dir, &format!("{words} -g"));
    assert_eq!(
        (ignored.code, &*ignored.stdout),
        (Some(0), "All of the log directories are already formatted.\n")
    );
    let foreign =
        storage(dir, &words.replace(CLUSTER, "AAAAAAAAAAAAAAAAAAAAAQ").replace("--standalone", "-s -g"));
    assert_eq!(foreign.code, Some(1), "{}", foreign.stdout);
    assert!(foreign.stderr.contains(CLUSTER), "{}", foreign.stderr);

    let info = storage(dir, "info -c s.properties");
    assert_eq!(info.code, Some(0), "{}", info.stdout);
    assert!(info.stdout.contains(&format!("cluster.id={CLUSTER}")), "{}", info.stdout);
    let node = Node::start(ottla(dir, &["serve", "s.properties"]));
    assert!(node.lines.iter().any(|line| line.contains(CLUSTER)), "{:?}", node.lines);
}

#[test]
fn quorums_are_either_configured_or_formatted() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    configure(dir, "");
    let none = storage(dir, &format!("format -c s.properties -t {CLUSTER}"));
    assert_eq!(none.code, Some(1), "{}", none.stdout);
    assert!(none.stderr.contains("--standalone"), "{}", none.stderr);
    configure(dir, "controller.quorum.voters=7@127.0.0.1:9093\n");
    let both = storage(dir, &format!("format -c s.properties -t {CLUSTER} --standalone"));
    assert_eq!(both.code, Some(1), "{}", both.stdout);
    assert!(both.stderr.contains("controller.quorum.voters"), "{}", both.stderr);
    assert!(!dir.join("data/meta.properties").exists(), "nothing was formatted");
}

#[test]
fn words_without_directories() {
    let dir = tempfile::tempdir().expect("a directory");
    let uuid = storage(dir.path(), "random-uuid").stdout;
    assert_eq!((uuid.trim_end().len(), uuid.starts_with('-')), (22, false));
    assert!(
        storage(dir.path(), "version-mapping -r 3.9").stdout.starts_with("metadata.version=21 (3.9-IV0)\n")
    );
    let told = storage(dir.path(), "feature-dependencies -f group.version=1").stdout;
    assert_eq!(told, "group.version=1 has no dependencies.\n");
}
