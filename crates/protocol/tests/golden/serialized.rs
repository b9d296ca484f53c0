//! Every message in every version, as Kafka's generated classes write it: defaults, everything set, everything null or empty, and
//! long or non-ASCII strings.

use std::collections::BTreeSet;

use crate::corpus::{self, Complaints};
use crate::table;

#[test]
fn messages_are_read_and_written_to_the_same_bytes() {
    let mut complaints = Complaints::default();
    let mut count = 0;
    for file in corpus::files("serialized") {
        for line in corpus::lines(&file, 2) {
            count += 1;
            let (name, version, recorded) = (&line.words[0], line.number(1), line.only_bytes());
            let ours = table::roundtrip_named(name, recorded, version);
            complaints.compare(&line.place, &format!("{name} v{version}"), recorded, ours);
        }
    }
    complaints.finish(count);
}

#[test]
fn every_message_was_recorded() {
    let recorded: BTreeSet<String> = corpus::files("serialized")
        .iter()
        .flat_map(|file| corpus::lines(file, 2))
        .map(|mut line| line.words.swap_remove(0))
        .collect();
    let missing: Vec<&str> = table::names().filter(|name| !recorded.contains(*name)).collect();
    // Written by a library of Kafka's, not by its servers or its client.
    assert_eq!(missing, ["SubscriptionInfoData"]);
}
