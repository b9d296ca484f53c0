//! Connections that come too fast. Times are only held against what must not be sooner.

use std::io::Read;
use std::time::{Duration, Instant};

use ottla_protocol::messages::alter_client_quotas_request::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use ottla_protocol::messages::alter_client_quotas_response::AlterClientQuotasResponse;
use ottla_protocol::messages::describe_client_quotas_request::DescribeClientQuotasRequest;
use ottla_protocol::messages::describe_client_quotas_response::DescribeClientQuotasResponse;
use ottla_protocol::{Message, Reader};

use crate::node::{Node, ask, ask_api_versions, ottla};

/// With eleven windows of a second, ten seconds are granted at once.
const GRANTED: usize = 10;

#[test]
fn an_address_that_connects_too_fast_is_turned_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_in(dir.path());
    let mut administrator = node.connect();
    let mut set = |value: Option<f64>| {
        let entity = EntityData { entity_type: "ip".into(), entity_name: Some("127.0.0.1".into()) };
        let op = OpData {
            key: "connection_creation_rate".into(),
            value: value.unwrap_or_default(),
            remove: value.is_none(),
        };
        let entries = vec![EntryData { entity: vec![entity], ops: vec![op] }];
        let request = AlterClientQuotasRequest { entries, validate_only: false };
        let answer = ask(&mut administrator, &request, 0).expect("answered");
        let response = AlterClientQuotasResponse::decode(&mut Reader::new(&answer), 0).expect("readable");
        assert_eq!(response.entries[0].error_code, 0, "{:?}", response.entries[0].error_message);
    };
    set(Some(1.0));
    for count in 0..GRANTED {
        assert!(!ask_api_versions(&mut node.connect(), count as i32).is_empty());
    }
    let turned_away = node.connect().read(&mut [0]).expect("closed in order");
    assert_eq!(turned_away, 0, "after as long as it takes until the next may come");
    set(None);
    assert!(!ask_api_versions(&mut node.connect(), 1).is_empty());
    node.stop();
}

#[test]
fn connections_that_come_too_fast_to_the_node_are_taken_in_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let rate = "max.connection.creation.rate=1";
    let node = Node::start(ottla(dir.path(), &["--listen", "127.0.0.1:0", "--set", rate]));
    let begun = Instant::now();
    for count in 0..GRANTED + 2 {
        assert!(!ask_api_versions(&mut node.connect(), count as i32).is_empty());
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    node.stop();
}

#[test]
fn who_keeps_threads_too_busy_is_told_and_muted() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_in(dir.path());
    let mut stream = node.connect();
    let entity = EntityData { entity_type: "user".into(), entity_name: None };
    let op = OpData { key: "request_percentage".into(), value: 0.001, remove: false };
    let entries = vec![EntryData { entity: vec![entity], ops: vec![op] }];
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    assert!(ask(&mut stream, &request, 0).is_some());
    let mut describe = || {
        let answer = ask(&mut stream, &DescribeClientQuotasRequest::default(), 0).expect("answered");
        let response = DescribeClientQuotasResponse::decode(&mut Reader::new(&answer), 0);
        u64::try_from(response.expect("readable").throttle_time_ms).expect("not negative")
    };
    // Ten seconds grant a tenth of a millisecond, which no thousand requests stay below.
    let pause = (0..1_000).map(|_| describe()).find(|pause| *pause > 0).expect("told to pause");
    let begun = Instant::now();
    assert!(pause <= 1_000, "a window at most");
    describe();
    // Milliseconds are cut off at both ends.
    assert!(begun.elapsed() + Duration::from_millis(2) >= Duration::from_millis(pause));
    node.stop();
}
