//! Metrics of clients (KIP-714): who is asked for what, when a client may tell, and what is to be seen of it.

use super::Rig;
use super::configs::alter;
use crate::client::{frame, read};
use ottla_broker::Response;
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest;
use ottla_protocol::messages::get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponse;
use ottla_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use ottla_protocol::messages::list_config_resources_response::ListConfigResourcesResponse;
use ottla_protocol::messages::push_telemetry_request::PushTelemetryRequest;
use ottla_protocol::messages::push_telemetry_response::PushTelemetryResponse;
use ottla_protocol::{ApiKey, ErrorCode, Uuid, compression};

const CLIENT_METRICS: i8 = 16;
const INTERVAL_MS: i64 = 1_000;

/// A node whose metrics can be looked at, and a subscription to what this client tells.
fn rig() -> Rig {
    let mut rig = Rig::with(&[("ottla.metrics.listen", "127.0.0.1:0"), ("telemetry.max.bytes", "200")]);
    let set = [("metrics", "org.b,org.a"), ("interval.ms", "1000"), ("match", "client_id=s.m")];
    for (key, value) in set {
        assert_eq!(alter(&mut rig, CLIENT_METRICS, "mine", key, Some(value)), ErrorCode::None);
    }
    rig
}

fn ask(rig: &mut Rig, instance: Uuid) -> Result<(Uuid, i32, Vec<String>), ErrorCode> {
    let answer = rig.ask(&GetTelemetrySubscriptionsRequest { client_instance_id: instance }, 0);
    let response: GetTelemetrySubscriptionsResponse<'_> = read(&answer, 0).expect("a response");
    if response.error_code != 0 {
        return Err(ErrorCode::from_code(response.error_code));
    }
    assert_eq!((response.accepted_compression_types, response.telemetry_max_bytes), (vec![4, 3, 1, 2], 200));
    let metrics = response.requested_metrics.iter().map(ToString::to_string).collect();
    Ok((response.client_instance_id, response.subscription_id, metrics))
}

fn push(
    rig: &mut Rig,
    instance: Uuid,
    subscription: i32,
    codec: i8,
    metrics: &[u8],
    is_last: bool,
) -> ErrorCode {
    let request = PushTelemetryRequest {
        client_instance_id: instance,
        subscription_id: subscription,
        terminating: is_last,
        compression_type: codec,
        metrics: metrics.into(),
    };
    let answer = rig.ask(&request, 0);
    let response: PushTelemetryResponse = read(&answer, 0).expect("a response");
    ErrorCode::from_code(response.error_code)
}

/// `MetricsData` with one gauge of one value.
fn gauge(name: &str, value: i64) -> Vec<u8> {
    let message = |tag: u8, inner: &[u8]| {
        let length = u8::try_from(inner.len()).expect("short");
        [&[tag << 3 | 2, length][..], inner].concat()
    };
    let point = [&[6 << 3 | 1][..], &value.to_le_bytes()].concat();
    let metric = [message(1, name.as_bytes()), message(5, &message(1, &point))].concat();
    message(1, &message(2, &message(2, &metric)))
}

#[test]
fn a_client_learns_what_it_is_asked_for_and_tells_it() {
    let mut rig = rig();
    let (me, subscription, metrics) = ask(&mut rig, Uuid::ZERO).expect("asked");
    assert_eq!(metrics, ["org.a", "org.b"]);
    assert_eq!(ask(&mut rig, me), Err(ErrorCode::ThrottlingQuotaExceeded), "it knows");
    assert_eq!(push(&mut rig, me, subscription, 0, &gauge("org.a", 7), false), ErrorCode::None);
    let line = format!("org_a{{client_instance_id=\"{me}\",client_id=\"sim\"}} 7");
    assert!(rig.world.metrics_page().lines().any(|told| told == line), "{}", rig.world.metrics_page());
    assert_eq!(
        push(&mut rig, me, subscription, 0, &gauge("org.a", 8), false),
        ErrorCode::ThrottlingQuotaExceeded,
        "too early"
    );
    rig.world.now += INTERVAL_MS;
    for (codec, value) in [(0, 9), (1, 10), (2, 11), (3, 12), (4, 13)] {
        let mut packed = Vec::new();
        let known = compression::Codec::from_id(codec).expect("a codec");
        compression::compress(known, None, &gauge("org.a", value), &mut packed);
        assert_eq!(push(&mut rig, me, subscription, codec as i8, &packed, false), ErrorCode::None);
        assert!(rig.world.metrics_page().contains(&format!("client_id=\"sim\"}} {value}\n")));
        rig.world.now += INTERVAL_MS;
    }
    rig.world.disconnect();
    assert!(rig.world.metrics_page().contains("ottla_client_metrics_instances 0\n"));
    assert!(rig.world.metrics_page().contains("org_a{"), "the last word is heard");
    rig.world.now += 60_000;
    assert!(!rig.world.metrics_page().contains("org_a{"));
}

#[test]
fn what_a_client_must_not_push() {
    let mut rig = rig();
    let (me, subscription, _) = ask(&mut rig, Uuid::ZERO).expect("asked");
    let told = gauge("org.a", 1);
    assert_eq!(push(&mut rig, Uuid::ZERO, subscription, 0, &told, false), ErrorCode::InvalidRequest);
    assert_eq!(push(&mut rig, me, subscription + 1, 0, &told, false), ErrorCode::UnknownSubscriptionId);
    let (_, again, _) = ask(&mut rig, me).expect("who was mistaken may ask at once");
    assert_eq!(again, subscription);
    rig.world.now += INTERVAL_MS;
    assert_eq!(push(&mut rig, me, subscription, 5, &told, false), ErrorCode::UnsupportedCompressionType);
    assert!(ask(&mut rig, me).is_ok());
    rig.world.now += INTERVAL_MS;
    assert_eq!(push(&mut rig, me, subscription, 0, &[0; 201], false), ErrorCode::TelemetryTooLarge);
    assert_eq!(ask(&mut rig, me), Err(ErrorCode::ThrottlingQuotaExceeded));
    rig.world.now += INTERVAL_MS;
    let mut bomb = Vec::new();
    compression::compress(compression::Codec::Zstd, None, &[0; 100_000], &mut bomb);
    assert!(bomb.len() < 200);
    assert_eq!(push(&mut rig, me, subscription, 4, &bomb, false), ErrorCode::InvalidRecord);
    rig.world.now += INTERVAL_MS;
    assert_eq!(push(&mut rig, me, subscription, 0, &told[..9], false), ErrorCode::InvalidRecord);
    assert_eq!(
        push(&mut rig, me, subscription, 0, &told, true),
        ErrorCode::None,
        "the last one, at any time"
    );
    assert_eq!(
        push(&mut rig, me, subscription, 0, &told, true),
        ErrorCode::InvalidRequest,
        "it was the last"
    );
}

#[test]
fn who_is_asked_for_something_else_meanwhile_is_found_out() {
    let mut rig = rig();
    let (me, subscription, _) = ask(&mut rig, Uuid::ZERO).expect("asked");
    assert_eq!(alter(&mut rig, CLIENT_METRICS, "other", "metrics", Some("*")), ErrorCode::None);
    assert_eq!(
        push(&mut rig, me, subscription, 0, &gauge("org.a", 1), false),
        ErrorCode::UnknownSubscriptionId
    );
    let (same, other, metrics) = ask(&mut rig, me).expect("asked anew");
    assert_eq!((same, metrics), (me, vec!["*".to_owned()]));
    assert_ne!(other, subscription);
    for key in ["metrics", "interval.ms", "match"] {
        assert_eq!(alter(&mut rig, CLIENT_METRICS, "mine", key, None), ErrorCode::None);
    }
    for version in 0..=1 {
        let request = ListConfigResourcesRequest {
            resource_types: if version == 0 { Vec::new() } else { vec![CLIENT_METRICS] },
        };
        let answer = rig.ask(&request, version);
        let response: ListConfigResourcesResponse<'_> = read(&answer, version).expect("a response");
        let names: Vec<&str> = response.config_resources.iter().map(|it| &*it.resource_name).collect();
        assert_eq!(names, ["other"]);
    }
}

#[test]
fn what_can_not_be_a_subscription() {
    let mut rig = rig();
    let mut set = |name, key, value| alter(&mut rig, CLIENT_METRICS, name, key, Some(value));
    assert_eq!(set("", "metrics", "*"), ErrorCode::InvalidRequest);
    assert_eq!(set("s", "metric", "*"), ErrorCode::InvalidRequest);
    assert_eq!(set("s", "interval.ms", "99"), ErrorCode::InvalidRequest);
    assert_eq!(set("s", "interval.ms", "3600001"), ErrorCode::InvalidRequest);
    assert_eq!(set("s", "interval.ms", "soon"), ErrorCode::InvalidConfig);
    assert_eq!(set("s", "match", "client=x"), ErrorCode::InvalidConfig);
    assert_eq!(set("s", "match", "client_id=("), ErrorCode::InvalidConfig);
    assert_eq!(set("s", "interval.ms", "100"), ErrorCode::None);
}

#[test]
fn where_nobody_looks_nobody_is_asked() {
    let keys = |rig: &mut Rig| {
        let request = ApiVersionsRequest {
            client_software_name: "sim".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = rig.ask(&request, 3);
        let response: ApiVersionsResponse<'_> = read(&answer, 3).expect("a response");
        let told = [ApiKey::GetTelemetrySubscriptions, ApiKey::PushTelemetry].map(|key| key as i16);
        response.api_keys.iter().filter(|served| told.contains(&served.api_key)).count()
    };
    assert_eq!(keys(&mut rig()), 2);
    let mut blind = Rig::new();
    assert_eq!(keys(&mut blind), 0);
    assert_eq!(blind.world.metrics_page(), "");
    let token = blind.world.send(frame(&GetTelemetrySubscriptionsRequest::default(), 0));
    assert!(matches!(blind.world.take_answer(token), Some(Response::Close)));
}
