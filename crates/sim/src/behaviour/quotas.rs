//! Client quotas: set, described by filters, kept over a restart, removed; and what they cost who uses more.

use super::{Rig, batch, fetch, partition_of, records_len};
use crate::client::read;
use crate::world::Death;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::alter_client_quotas_request::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use ottla_protocol::messages::alter_client_quotas_response::AlterClientQuotasResponse;
use ottla_protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use ottla_protocol::messages::describe_client_quotas_response::DescribeClientQuotasResponse;
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use ottla_protocol::messages::produce_request::ProduceRequest;
use ottla_protocol::messages::produce_response::ProduceResponse;

type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

/// Sets (or, without a value, removes) one quota; the code.
pub(super) fn alter(rig: &mut Rig, entity: Pairs<'_>, key: &str, value: Option<f64>, version: i16) -> i16 {
    let pairs = entity
        .iter()
        .map(|(kind, name)| EntityData { entity_type: (*kind).into(), entity_name: name.map(Into::into) });
    let ops = vec![OpData { key: key.into(), value: value.unwrap_or_default(), remove: value.is_none() }];
    let entries = vec![EntryData { entity: pairs.collect(), ops }];
    let request = AlterClientQuotasRequest { entries, validate_only: false };
    let answer = rig.ask(&request, version);
    let response: AlterClientQuotasResponse<'_> = read(&answer, version).expect("a response");
    let told = &response.entries[0];
    assert_eq!(told.entity.len(), entity.len());
    assert_eq!(told.error_message.is_some(), told.error_code != 0);
    told.error_code
}

/// Entities and values that match, as text.
fn describe(
    rig: &mut Rig,
    filter: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> Result<Vec<String>, ErrorCode> {
    let components = filter.iter().map(|(kind, match_type, name)| ComponentData {
        entity_type: (*kind).into(),
        match_type: *match_type,
        match_: name.map(Into::into),
    });
    let request = DescribeClientQuotasRequest { components: components.collect(), strict };
    let answer = rig.ask(&request, 1);
    let response: DescribeClientQuotasResponse<'_> = read(&answer, 1).expect("a response");
    let Some(entries) = response.entries else { return Err(ErrorCode::from_code(response.error_code)) };
    let text = |entry: &ottla_protocol::messages::describe_client_quotas_response::EntryData<'_>| {
        let pairs = entry.entity.iter().map(|pair| {
            let name = pair.entity_name.as_deref().unwrap_or("<default>");
            format!("{}={name}", pair.entity_type)
        });
        let values = entry.values.iter().map(|value| format!("{}:{}", value.key, value.value));
        pairs.chain(values).collect::<Vec<_>>().join(" ")
    };
    Ok(entries.iter().map(text).collect())
}

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

fn rig() -> Rig {
    let mut rig = Rig::new();
    let entities: [Pairs<'_>; 4] = [
        &[("user", Some("ann"))],
        &[("user", None)],
        &[("client-id", Some("app")), ("user", Some("ann"))],
        &[("client-id", None)],
    ];
    for (version, entity) in [0, 1, 0, 1].into_iter().zip(entities) {
        assert_eq!(alter(&mut rig, entity, "producer_byte_rate", Some(1e12), version), 0);
    }
    assert_eq!(alter(&mut rig, &[("ip", Some("10.0.0.1"))], "connection_creation_rate", Some(7.0), 1), 0);
    rig
}

#[test]
fn filters() {
    let mut rig = rig();
    let both = "client-id=app user=ann producer_byte_rate:1000000000000";
    let ann = "user=ann producer_byte_rate:1000000000000";
    let default = "user=<default> producer_byte_rate:1000000000000";
    assert_eq!(describe(&mut rig, &[], false).map(|all| all.len()), Ok(5));
    assert_eq!(describe(&mut rig, &[], true), Ok(vec![]));
    let check = |rig: &mut Rig, filter: &[(&str, i8, Option<&str>)], strict, expected: &[&str]| {
        let mut told = describe(rig, filter, strict).expect("a filter");
        told.sort();
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(told, expected, "{filter:?}");
    };
    check(&mut rig, &[("user", EXACT, Some("ann"))], false, &[both, ann]);
    check(&mut rig, &[("user", EXACT, Some("ann"))], true, &[ann]);
    check(&mut rig, &[("user", DEFAULT, None)], false, &[default]);
    check(&mut rig, &[("user", ANY, None)], true, &[ann, default]);
    check(&mut rig, &[("user", ANY, None), ("client-id", ANY, None)], false, &[both]);
    check(&mut rig, &[("ip", ANY, None)], false, &["ip=10.0.0.1 connection_creation_rate:7"]);
    check(&mut rig, &[("user", EXACT, Some("bob"))], false, &[]);
    let refused = |rig: &mut Rig, filter: &[(&str, i8, Option<&str>)]| describe(rig, filter, false);
    assert_eq!(refused(&mut rig, &[("", ANY, None)]), Err(ErrorCode::InvalidRequest));
    assert_eq!(refused(&mut rig, &[("group", ANY, None)]), Err(ErrorCode::UnsupportedVersion));
    assert_eq!(refused(&mut rig, &[("user", EXACT, None)]), Err(ErrorCode::InvalidRequest));
    assert_eq!(refused(&mut rig, &[("user", DEFAULT, Some("x"))]), Err(ErrorCode::InvalidRequest));
    assert_eq!(refused(&mut rig, &[("user", 9, None)]), Err(ErrorCode::InvalidRequest));
    assert_eq!(
        refused(&mut rig, &[("user", ANY, None), ("user", ANY, None)]),
        Err(ErrorCode::InvalidRequest)
    );
    assert_eq!(refused(&mut rig, &[("user", ANY, None), ("ip", ANY, None)]), Err(ErrorCode::InvalidRequest));
}

#[test]
fn quotas_outlive_the_process_until_they_are_removed() {
    let mut rig = rig();
    rig.world.restart(Death::Kill).expect("it starts again");
    assert_eq!(describe(&mut rig, &[], false).map(|all| all.len()), Ok(5));
    assert_eq!(alter(&mut rig, &[("user", Some("ann"))], "producer_byte_rate", None, 1), 0);
    assert_eq!(alter(&mut rig, &[("user", Some("ann"))], "producer_byte_rate", None, 1), 0, "no matter");
    assert_eq!(describe(&mut rig, &[("user", EXACT, Some("ann"))], true), Ok(vec![]));
}

#[test]
fn what_can_not_be_a_quota() {
    let mut rig = Rig::new();
    let invalid = ErrorCode::InvalidRequest.code();
    let mut refused = |entity: Pairs<'_>, key: &str, value: f64| {
        assert_eq!(alter(&mut rig, entity, key, Some(value), 1), invalid, "{entity:?} {key}={value}");
    };
    refused(&[], "producer_byte_rate", 1.0);
    refused(&[("group", Some("g"))], "producer_byte_rate", 1.0);
    refused(&[("user", Some(""))], "producer_byte_rate", 1.0);
    refused(&[("user", Some("a")), ("user", Some("b"))], "producer_byte_rate", 1.0);
    refused(&[("user", Some("a"))], "connection_creation_rate", 1.0);
    refused(&[("user", Some("a"))], "producer_byte_rate", 0.0);
    refused(&[("user", Some("a"))], "producer_byte_rate", -1.0);
    refused(&[("user", Some("a"))], "producer_byte_rate", 1.5);
    refused(&[("user", Some("a"))], "producer_byte_rate", f64::NAN);
    refused(&[("ip", Some("10.0.0.1"))], "connection_creation_rate", 3e9);
    refused(&[("ip", Some("10.0.0.1")), ("user", None)], "connection_creation_rate", 1.0);
    refused(&[("ip", Some("ten.zero"))], "connection_creation_rate", 1.0);
    assert_eq!(describe(&mut rig, &[], false), Ok(vec![]));
}

#[test]
fn one_request_names_an_entity_once_and_may_only_ask() {
    let mut rig = Rig::new();
    let entry = |key: &'static str| EntryData {
        entity: vec![EntityData { entity_type: "user".into(), entity_name: None }],
        ops: vec![OpData { key: key.into(), value: 5.0, remove: false }],
    };
    let mut ask = |entries: Vec<EntryData<'static>>, validate_only: bool| {
        let answer = rig.ask(&AlterClientQuotasRequest { entries, validate_only }, 1);
        let response: AlterClientQuotasResponse<'_> = read(&answer, 1).expect("a response");
        let codes: Vec<i16> = response.entries.iter().map(|entry| entry.error_code).collect();
        (codes, describe(&mut rig, &[], false).expect("a filter"))
    };
    let twice = vec![entry("producer_byte_rate"), entry("consumer_byte_rate")];
    let (codes, _) = ask(twice, true);
    assert_eq!(codes, [ErrorCode::InvalidRequest.code()]);
    assert_eq!(ask(vec![entry("producer_byte_rate")], true), (vec![0], vec![]));
    let set = vec!["user=<default> producer_byte_rate:5".to_owned()];
    assert_eq!(ask(vec![entry("producer_byte_rate")], false), (vec![0], set));
}

/// Produces one record of so many bytes with acks=all; the pause that the answer tells.
fn produce(rig: &mut Rig, bytes: usize) -> i64 {
    let records = batch(&["x".repeat(bytes).as_str()], rig.world.now);
    let token = rig.produce(0, -1, &records);
    let answer =
        rig.answer::<ProduceRequest<'_>>(token, 9, 100).expect("answered at once, whatever it costs");
    let response: ProduceResponse<'_> = read(&answer, 9).expect("a response");
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    i64::from(response.throttle_time_ms)
}

/// How long a request is not answered that would be answered at once.
pub(super) fn waits(rig: &mut Rig) -> i64 {
    let begun = rig.world.now;
    rig.ask(&ListConfigResourcesRequest::default(), 1);
    rig.world.now - begun
}

#[test]
fn who_produces_too_much_is_answered_and_then_muted() {
    let mut rig = Rig::new();
    assert_eq!(alter(&mut rig, &[("client-id", Some("sim"))], "producer_byte_rate", Some(1_000.0), 1), 0);
    assert_eq!((produce(&mut rig, 5_000), waits(&mut rig)), (0, 0), "ten seconds are granted");
    let pause = produce(&mut rig, 8_000);
    assert!((2_000..5_000).contains(&pause), "{pause} ms for 13 kB at 1 kB/s");
    let waited = waits(&mut rig);
    assert!((pause - 100..=pause).contains(&waited), "told {pause} ms, waited {waited}");
    assert_eq!(waits(&mut rig), 0, "once");
    rig.world.now += 60_000;
    assert_eq!(produce(&mut rig, 1_000), 0, "long forgotten");
}

#[test]
fn who_fetches_too_much_is_answered_and_then_muted() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        assert_eq!(produce(&mut rig, 8_000), 0);
    }
    assert_eq!(alter(&mut rig, &[("user", None)], "consumer_byte_rate", Some(1_000.0), 1), 0);
    let fetched = |rig: &mut Rig, offset: i64| {
        let answer = rig.ask(&fetch(offset, 0, 1), 11);
        let response: FetchResponse<'_> = read(&answer, 11).expect("a response");
        (records_len(partition_of(&response)), i64::from(response.throttle_time_ms))
    };
    let (bytes, pause) = fetched(&mut rig, 0);
    assert!((8_000..10_000).contains(&bytes), "what ten seconds grant, and no more: {bytes}");
    assert_eq!(pause, 0);
    let (bytes, pause) = fetched(&mut rig, 1);
    assert!(bytes > 8_000 && (5_000..8_000).contains(&pause), "{bytes} bytes, {pause} ms");
    assert_eq!(waits(&mut rig), pause);
}

#[test]
fn another_client_does_not_pay() {
    let mut rig = Rig::new();
    assert_eq!(alter(&mut rig, &[("client-id", Some("other"))], "producer_byte_rate", Some(1.0), 1), 0);
    assert_eq!((produce(&mut rig, 100_000), waits(&mut rig)), (0, 0));
}
