//! Every message in every version, as Kafka's generated classes write it: defaults, everything set, everything null or empty, and
//! long or non-ASCII strings.

use std::collections::BTreeSet;

use super::corpus::{self, Complaints};
use super::{entry, roundtrip};
use crate::common::MESSAGES;

#[test]
fn messages_are_read_and_written_to_the_same_bytes() {
    let mut complaints = Complaints::default();
    let mut count = 0;
    for file in corpus::files("serialized") {
        for line in corpus::lines(&file, 2) {
            count += 1;
            let (name, version, recorded) = (&line.words[0], line.number(1), line.only_bytes());
            let ours = roundtrip(name, recorded, version);
            complaints.compare(&line.place, &format!("{name} v{version}"), recorded, ours);
        }
    }
    complaints.finish(count);
}

/// The first line of each version is a message just made: our defaults are Kafka's.
#[test]
fn defaults_are_written_to_the_same_bytes() {
    let mut complaints = Complaints::default();
    let mut count = 0;
    for file in corpus::files("serialized") {
        let mut before = None;
        for line in corpus::lines(&file, 2) {
            if before.as_ref() != Some(&line.words) {
                count += 1;
                let (name, version) = (&line.words[0], line.number(1));
                let what = format!("default {name} v{version}");
                complaints.compare(&line.place, &what, line.only_bytes(), defaults(name, version));
            }
            before = Some(line.words);
        }
    }
    complaints.finish(count);
}

fn defaults(name: &str, version: i16) -> Result<Vec<u8>, String> {
    (entry(name)?.defaults)(version).map_err(|error| error.to_string())
}

/// Cut off or with a byte changed, a message is refused or is another message; it never panics.
#[test]
fn broken_messages_never_panic() {
    for file in corpus::files("serialized") {
        for line in corpus::lines(&file, 2) {
            let (name, version, mut bytes) = (&line.words[0], line.number(1), line.only_bytes().to_vec());
            let message = entry(name).expect("a message");
            for at in 0..bytes.len() {
                let cut = (message.decode)(&bytes[..at], version);
                assert!(cut.is_err(), "{}: {name} v{version} is read from its first {at} bytes", line.place);
                let good = bytes[at];
                for wrong in [0x7f, 0xff] {
                    bytes[at] = wrong;
                    let _ = (message.decode)(&bytes, version);
                }
                bytes[at] = good;
            }
        }
    }
}

#[test]
fn every_message_was_recorded() {
    let recorded: BTreeSet<String> = corpus::files("serialized")
        .iter()
        .flat_map(|file| corpus::lines(file, 2))
        .map(|mut line| line.words.swap_remove(0))
        .collect();
    let missing: Vec<&str> =
        MESSAGES.iter().map(|entry| entry.name).filter(|name| !recorded.contains(*name)).collect();
    // Written by a library of Kafka's, not by its servers or its client.
    assert_eq!(missing, ["SubscriptionInfoData"]);
}
