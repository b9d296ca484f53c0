//! A good history is found good; each anomaly, injected into it, is found and named.

use crate::event::{Deed, Event, Partition};
use crate::{History, check, check_copy};

/// Two producers' records (one plain, one in two transactions of which the second is aborted), two members that hand a partition over,
/// commits, and final readers.
const GOOD: &str = r#"
{"t":10,"client":"p","op":"sending","topic":"in","value":"a"}
{"t":11,"client":"p","op":"sending","topic":"in","value":"b"}
{"t":12,"client":"p","op":"sending","topic":"in","value":"c"}
{"t":20,"client":"p","op":"acked","topic":"in","partition":0,"value":"a","offset":0}
{"t":21,"client":"p","op":"acked","topic":"in","partition":0,"value":"b","offset":1}
{"t":22,"client":"p","op":"acked","topic":"in","partition":0,"value":"c","offset":2}
{"t":30,"client":"m1","op":"assigned","group":"g","partitions":[["in",0]],"generation":1}
{"t":35,"client":"m1","op":"polled","topic":"in","partition":0,"records":[[0,"a"],[1,"b"]]}
{"t":36,"client":"x","op":"sending","topic":"out","value":"a#1","txn":"x1"}
{"t":37,"client":"x","op":"sending","topic":"out","value":"b#1","txn":"x1"}
{"t":38,"client":"x","op":"acked","topic":"out","partition":0,"value":"a#1","offset":0}
{"t":39,"client":"x","op":"acked","topic":"out","partition":0,"value":"b#1","offset":1}
{"t":45,"begun":41,"client":"x","op":"ended","txn":"x1","committed":true}
{"t":47,"begun":46,"client":"m1","op":"committed","group":"g","offsets":[["in",0,2]]}
{"t":50,"client":"m1","op":"revoked","group":"g","partitions":[["in",0]]}
{"t":60,"client":"m2","op":"assigned","group":"g","partitions":[["in",0]],"generation":2}
{"t":61,"client":"x","op":"sending","topic":"out","value":"c#2","txn":"x2"}
{"t":62,"client":"x","op":"acked","topic":"out","partition":0,"value":"c#2","offset":3}
{"t":64,"begun":63,"client":"x","op":"ended","txn":"x2","committed":false}
{"t":65,"client":"x","op":"sending","topic":"out","value":"c#3","txn":"x3"}
{"t":66,"client":"x","op":"acked","topic":"out","partition":0,"value":"c#3","offset":5}
{"t":68,"begun":67,"client":"x","op":"ended","txn":"x3","committed":true}
{"t":70,"client":"m2","op":"polled","topic":"in","partition":0,"records":[[2,"c"]]}
{"t":72,"begun":71,"client":"m2","op":"committed","group":"g","offsets":[["in",0,3]]}
{"t":73,"client":"m2","op":"killed"}
{"t":75,"begun":74,"client":"o","op":"position","group":"g","offsets":[["in",0,3]]}
{"t":80,"client":"f","op":"polled","topic":"in","partition":0,"isolation":"committed","final":true,"records":[[0,"a"],[1,"b"],[2,"c"]]}
{"t":81,"client":"f","op":"polled","topic":"out","partition":0,"isolation":"committed","final":true,"records":[[0,"a#1"],[1,"b#1"]]}
{"t":82,"client":"f","op":"polled","topic":"out","partition":0,"isolation":"committed","final":true,"records":[[5,"c#3"]]}
"#;

fn good() -> Vec<Event> {
    match History::parse(&[GOOD.to_owned()]) {
        Ok(history) => history.events,
        Err(error) => panic!("{error}"),
    }
}

/// The kinds of anomaly in the good history with some lines replaced (`old` to `new`), and with `more` lines.
#[track_caller]
fn found(replace: &[(&str, &str)], more: &str) -> Vec<&'static str> {
    let mut text = GOOD.to_owned();
    for (old, new) in replace {
        assert!(text.contains(old), "nothing to replace: {old}");
        text = text.replace(old, new);
    }
    text.push_str(more);
    text.push('\n');
    let history = History::parse(&[text]).unwrap_or_else(|error| panic!("{error}"));
    let mut kinds: Vec<_> = check(&history).anomalies.iter().map(|anomaly| anomaly.kind).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_good_history_is_good() {
    let report = check(&History::new(good()));
    assert!(report.is_good(), "{report}");
    assert_eq!(report.count("polled"), 5);
    assert!(check_copy(&History::new(good()), "in", "out").is_empty());
}

#[test]
fn two_owners_at_once() {
    assert_eq!(found(&[(r#""t":60,"client":"m2""#, r#""t":49,"client":"m2""#)], ""), ["double-ownership"]);
}

#[test]
fn two_owners_in_one_generation() {
    assert_eq!(found(&[(r#""generation":2"#, r#""generation":1"#)], ""), ["double-ownership"]);
}

#[test]
fn an_owner_that_was_killed_owns_nothing() {
    let more = r#"{"t":74,"client":"m3","op":"assigned","group":"g","partitions":[["in",0]]}"#;
    assert!(found(&[], more).is_empty());
    let killed = r#"{"t":73,"client":"m2","op":"killed"}"#;
    assert_eq!(found(&[(killed, "")], more), ["double-ownership"]);
}

#[test]
fn a_lost_partition_may_be_read_but_not_committed() {
    let lost = r#"{"t":68,"client":"m1","op":"lost","group":"g","partitions":[["in",0]]}"#;
    let revoked = r#"{"t":50,"client":"m1","op":"revoked","group":"g","partitions":[["in",0]]}"#;
    assert!(found(&[(revoked, lost)], "").is_empty());
    let zombie = r#"{"t":66,"begun":65,"client":"m1","op":"committed","group":"g","offsets":[["in",0,2]]}"#;
    assert_eq!(found(&[(revoked, lost)], zombie), ["double-ownership"]);
}

#[test]
fn offsets_that_go_backwards() {
    for (old, new) in [
        (r#"[["in",0,3]]}"#, r#"[["in",0,1]]}"#),
        (
            r#""op":"position","group":"g","offsets":[["in",0,3]]"#,
            r#""op":"position","group":"g","offsets":[["in",0,2]]"#,
        ),
        (
            r#""t":70,"client":"m2","op":"polled","topic":"in","partition":0,"records":[[2,"c"]]"#,
            r#""t":70,"client":"m2","op":"polled","topic":"in","partition":0,"records":[[1,"b"],[2,"c"]]"#,
        ),
    ] {
        assert_eq!(found(&[(old, new)], ""), ["offset-regression"], "{new}");
    }
}

#[test]
fn a_commit_that_was_under_way_is_not_held_against_another() {
    // m2's commit began before m1's was acknowledged.
    let early = r#"{"t":49,"begun":46,"client":"m3","op":"committed","group":"g","offsets":[["in",0,1]]}"#;
    assert!(found(&[], early).is_empty());
}

#[test]
fn an_acknowledged_record_that_is_gone() {
    let all = r#""final":true,"records":[[0,"a"],[1,"b"],[2,"c"]]"#;
    assert_eq!(found(&[(all, r#""final":true,"records":[[0,"a"],[2,"c"]]"#)], ""), ["lost-write"]);
    assert_eq!(found(&[(all, r#""final":true,"records":[[0,"a"],[1,"b"]]"#)], ""), ["unseen"]);
    let out = r#"{"t":82,"client":"f","op":"polled","topic":"out","partition":0,"isolation":"committed","final":true,"records":[[5,"c#3"]]}"#;
    assert_eq!(found(&[(out, "")], ""), ["unseen"]);
}

#[test]
fn a_record_that_was_read_and_is_gone() {
    let more = r#"{"t":76,"client":"r","op":"polled","topic":"in","partition":0,"records":[[3,"d"]]}"#;
    assert_eq!(found(&[], more), ["unseen"]);
}

#[test]
fn a_record_without_acknowledgement_may_be_there_or_not() {
    let acked = r#"{"t":22,"client":"p","op":"acked","topic":"in","partition":0,"value":"c","offset":2}"#;
    assert!(found(&[(acked, "")], "").is_empty());
    let sending = r#"{"t":77,"client":"p","op":"sending","topic":"in","value":"d"}"#;
    assert!(found(&[], sending).is_empty());
}

#[test]
fn a_record_that_is_there_twice() {
    let all = r#""final":true,"records":[[0,"a"],[1,"b"],[2,"c"]]"#;
    assert_eq!(
        found(&[(all, r#""final":true,"records":[[0,"a"],[1,"b"],[2,"c"],[3,"a"]]"#)], ""),
        ["duplicate"]
    );
}

#[test]
fn two_values_at_one_offset() {
    let all = r#""final":true,"records":[[0,"a"],[1,"b"],[2,"c"]]"#;
    let kinds = found(&[(all, r#""final":true,"records":[[0,"a"],[1,"z"],[2,"c"]]"#)], "");
    assert!(kinds.contains(&"inconsistent-offsets"), "{kinds:?}");
}

#[test]
fn records_acknowledged_out_of_order() {
    let swapped = [
        (r#""value":"a","offset":0}"#, r#""value":"a","offset":1}"#),
        (r#""value":"b","offset":1}"#, r#""value":"b","offset":0}"#),
        (r#"[[0,"a"],[1,"b"]]}"#, r#"[[0,"b"],[1,"a"]]}"#),
        (r#"[[0,"a"],[1,"b"],[2,"c"]]"#, r#"[[0,"b"],[1,"a"],[2,"c"]]"#),
    ];
    assert_eq!(found(&swapped, ""), ["nonmonotonic-send"]);
}

#[test]
fn an_aborted_record_that_is_read() {
    let out = r#""final":true,"records":[[5,"c#3"]]"#;
    assert_eq!(found(&[(out, r#""final":true,"records":[[3,"c#2"],[5,"c#3"]]"#)], ""), ["G1a"]);
    let refused = r#"{"t":23,"client":"p","op":"refused","topic":"in","value":"c"}"#;
    assert_eq!(found(&[], refused), ["G1a"]);
}

#[test]
fn a_transaction_that_is_read_before_it_is_committed() {
    let early = r#"{"t":40,"client":"r","op":"polled","topic":"out","partition":0,"isolation":"committed","records":[[0,"a#1"]]}"#;
    assert_eq!(found(&[], early), ["precommitted-read"]);
    // A reader of everything may see it.
    assert!(found(&[], &early.replace("committed", "uncommitted")).is_empty());
}

#[test]
fn polls_that_go_back_or_skip() {
    let poll = |t: u32, records: &str| {
        format!(r#"{{"t":{t},"client":"r","op":"polled","topic":"in","partition":0,"records":[{records}]}}"#)
            + "\n"
    };
    assert_eq!(found(&[], &poll(76, r#"[1,"b"],[0,"a"]"#)), ["int-nonmonotonic-poll"]);
    assert_eq!(found(&[], &(poll(76, r#"[1,"b"]"#) + &poll(77, r#"[0,"a"]"#))), ["nonmonotonic-poll"]);
    assert_eq!(found(&[], &poll(76, r#"[0,"a"],[2,"c"]"#)), ["int-poll-skip"]);
    assert_eq!(found(&[], &(poll(76, r#"[0,"a"]"#) + &poll(77, r#"[2,"c"]"#))), ["poll-skip"]);
    let sought = r#"{"t":76,"client":"r","op":"sought","topic":"in","partition":0}"#.to_owned() + "\n";
    assert!(found(&[], &(poll(76, r#"[1,"b"]"#) + &sought + &poll(77, r#"[0,"a"]"#))).is_empty());
}

#[test]
fn copies_that_are_not_once_each() {
    let partition = |topic: &str| Partition { topic: topic.into(), number: 1 };
    let read = |topic: &str, values: &[&str]| {
        let records = values.iter().zip(0..).map(|(value, offset)| (offset, (*value).to_owned())).collect();
        let deed = Deed::Polled { partition: partition(topic), records, is_committed: true, is_final: true };
        Event::new(90, "f", deed)
    };
    let kinds = |events: [Event; 1]| {
        let mut all = good();
        all.extend(events);
        let anomalies = check_copy(&History::new(all), "in", "out");
        anomalies.iter().map(|anomaly| anomaly.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds([read("in", &["d"])]), ["lost-write"]);
    assert_eq!(kinds([read("out", &["a#4"])]), ["duplicate"]);
    assert_eq!(kinds([read("out", &["z#4"])]), ["phantom"]);
}

#[test]
fn half_a_line_at_the_end_is_dropped_and_elsewhere_refused() {
    let half = r#"{"t":10,"client":"p","op":"send"#;
    assert!(History::parse(&[format!("chatter\n{GOOD}{half}")]).is_ok());
    assert!(History::parse(&[format!("{half}\n{GOOD}")]).is_err());
}
