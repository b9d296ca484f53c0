//! The notation against itself and against every message that the project keeps.

use std::fs;
use std::path::Path;

use crate::parse::parse;
use crate::print::print;
use crate::random::{self, Dice};
use crate::tree::Tree;
use crate::versions::Versions;
use crate::{Message, generate, names};

const SAMPLE: &str = "\
request Sample 7   versions 2-9 latest-unstable   flexible 4+   on broker controller
  name         string?5+           = null  ignorable
  old          i32         -3      = -1
  client_id    string      plain
  items        [Item]?     3+
    id    uuid
    more  [More]  6+
  maybe        Item2?      4+  tag 1  = null
    flag  bool  = true
  middle       [i32]       4-6

struct More   versions 6+
  data  bytes
";

fn all_files() -> Vec<(String, String)> {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/schemas");
    let mut files = Vec::new();
    for group in fs::read_dir(schemas).expect("the schemas are in the tree") {
        for file in fs::read_dir(group.expect("a folder").path()).expect("a folder of schemas") {
            let path = file.expect("a schema").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(&path).expect("text")));
        }
    }
    files.sort();
    files
}

fn all_messages() -> Vec<Message> {
    all_files()
        .iter()
        .map(|(name, text)| parse(text).unwrap_or_else(|error| panic!("{name}: {error}")))
        .collect()
}

#[test]
fn every_file_is_as_it_would_be_printed() {
    let files = all_files();
    assert!(files.len() > 270, "{} files", files.len());
    for (name, text) in files {
        let message = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(print(&message), text, "{name}");
        assert_eq!(message.file_name(), name);
    }
}

#[test]
fn a_sample_says_what_it_should() {
    let message = parse(SAMPLE).expect("the sample is of the notation");
    assert_eq!((message.name.as_str(), message.key, message.flexible), ("SampleRequest", Some(7), Some(4)));
    assert!(message.latest_unstable && message.listeners.len() == 2);
    let versions = |index: usize| (message.fields[index].versions.min, message.fields[index].versions.max);
    assert_eq!([versions(0), versions(1), versions(3), versions(5)], [(2, 9), (2, 3), (3, 9), (4, 6)]);
    assert_eq!(message.fields[0].nullable, Some(Versions { min: 5, max: 9 }));
    assert_eq!(message.fields[3].nullable, Some(Versions { min: 3, max: 9 }));
    assert_eq!(message.fields[3].fields[1].versions, Versions { min: 6, max: 9 });
    assert_eq!(message.fields[4].tag, Some(1));
    assert!(message.fields[2].plain);
    let again = parse(&print(&message)).expect("printed notation is notation");
    assert_eq!(again, message);
}

#[test]
fn what_is_not_of_the_notation_is_refused_with_its_line() {
    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        assert!(SAMPLE.contains(from), "{from}");
        let error = parse(&SAMPLE.replacen(from, to, 1)).expect_err("the sample was spoilt");
        assert_eq!(error.to_string(), expected);
    }
    check(
        "request",
        "demand",
        "line 1: a file begins with request, response, header, record, key, value or data",
    );
    check("versions 2-9", "versions", "line 1: `latest-unstable` is not a range of versions");
    check("on broker", "on moon", "line 1: `moon` has no meaning here");
    check("i32 ", "i33 ", "line 3: `i33` is no type");
    check("= -1", "= x", "line 3: `x` is not a number");
    check("string?5+", "string   ", "line 2: null is the default of a field that can not be null");
    check("-3 ", "0-1", "line 3: `0-1` holds no version of 2-9");
    check("    id ", "   id ", "line 6: indent by two blanks for each level");
    check("    id ", "      id ", "line 6: indented deeper than its parent allows");
    check("tag 1", "tag x", "line 8: a tag has a number");
    check("[i32]", "[[i32]]", "line 10: `[[i32]]` is no type");
    check("struct More", "stuff More", "line 12: expected `struct Name`");
}

#[test]
fn a_tree_refuses_what_no_decoder_could_bound() {
    #[track_caller]
    fn check(fields: &str, expected: &str) {
        let text = format!("data Bad   versions 0-1   flexible 1+\n{fields}");
        let message = parse(&text).expect("it is of the notation");
        assert_eq!(Tree::new(&message).err().as_deref(), Some(expected));
    }
    check(
        "  a  [A]\n    b  i32  1+\n",
        "Bad: Bad.a: its elements can be empty, so that their count has no bound",
    );
    check("  a  i32  tag 0\n", "Bad: Bad.a: tagged where the message is not flexible");
    check("  a  i32  1+  tag 0\n  b  i32  1+  tag 0\n", "Bad: struct Bad: two fields with the same tag");
    check("  a  A\n\nstruct A\n  a  [A]\n", "Bad: struct Bad contains itself");
    check("  a  A\n\nstruct A   versions 1+\n  b  i8\n", "Bad: Bad.a: A exists only in versions 1");
    check("  a  Gone\n", "Bad: struct Bad contains itself");
    check("  a  A\n    b  i8\n  c  A\n    b  i8\n", "Bad: struct A is declared twice");
}

#[test]
fn names() {
    let cases = [
        ("ThrottleTimeMs", "throttle_time_ms"),
        ("topicGroupId", "topic_group_id"),
        ("KRaftVersion", "kraft_version"),
        ("V3AndBelowTopics", "v3_and_below_topics"),
        ("LastKnownElr", "last_known_elr"),
        ("HTTPPort", "http_port"),
    ];
    for (kafka, ours) in cases {
        assert_eq!(names::snake(kafka), ours);
    }
    assert_eq!(names::field("type"), "type_");
}

#[test]
fn code_is_generated_for_everything() {
    let messages = all_messages();
    for message in &messages {
        let code = generate::module(message).unwrap_or_else(|error| panic!("{error}"));
        assert!(code.contains(&format!("pub struct {}", message.name)), "{}", message.name);
    }
    assert!(generate::api_keys(&messages).expect("every request has its response").contains("Produce = 0,"));
}

#[test]
fn random_bytes_depend_on_the_seed_alone() {
    for message in all_messages() {
        let tree = Tree::new(&message).expect("a sound message");
        let write = |seed| random::bytes(&tree, message.versions.max, &mut Dice::new(seed));
        assert_eq!(write(5), write(5), "{}", message.name);
    }
}

#[cfg(feature = "import")]
mod import {
    use crate::import::import;
    use crate::print::print;

    #[test]
    fn json_becomes_notation() {
        let json = r#"
// Licence, with "quotes".
{
  "apiKey": 7, "type": "request", "listeners": ["broker"], "name": "SampleRequest",
  // Version 3 adds things.
  "validVersions": "2-5", "deprecatedVersions": "2", "flexibleVersions": "4+", "latestVersionUnstable": false,
  "fields": [
    { "name": "GroupId", "type": "string", "versions": "0+", "about": "see http://example.org" },
    /** between **/
    { "name": "Gone", "type": "int8", "versions": "0-1" },
    { "name": "Until", "type": "int32", "versions": "0-3", "default": "0x7fffffff", "ignorable": "true" }, // tail
    { "name": "Topics", "type": "[]Topic", "versions": "3+", "nullableVersions": "1+", "default": "null", "fields": [
      { "name": "Ids", "type": "[]uuid", "versions": "3+" }
    ]},
    { "name": "Extra", "type": "int64", "taggedVersions": "4+", "tag": 0, "default": -1 }
  ]
}"#;
        let message = import(json).expect("valid JSON").expect("live versions");
        let expected = "\
request Sample 7   versions 2-5   flexible 4+   on broker
  group_id  string
  until     i32       -3  = 2147483647  ignorable
  topics    [Topic]?  3+  = null
    ids  [uuid]
  extra     i64       4+  tag 0  = -1
";
        assert_eq!(print(&message), expected);
    }

    #[test]
    fn what_is_dead_or_strange() {
        let dead =
            r#"{"apiKey": 5, "type": "request", "name": "StopReplicaRequest", "validVersions": "none"}"#;
        assert_eq!(import(dead), Ok(None));
        let strange = r#"{"type": "song", "name": "X"}"#;
        assert_eq!(import(strange), Err("X: `song` is no kind of message".to_owned()));
    }
}
