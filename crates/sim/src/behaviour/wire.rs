//! What goes over the wire whatever the API: versions, junk, and every request that real clients were seen to send.

use crate::client::{frame, read};
use bytes::Bytes;
use ottla_broker::Response;
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::api_versions_response::ApiVersionsResponse;
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_protocol::{ApiKey, ErrorCode, Listener};

use super::Rig;

#[test]
fn unknown_api_versions_get_an_answer_and_others_a_closed_connection() {
    let mut rig = Rig::new();
    let mut strange = frame(&ApiVersionsRequest::default(), 0).to_vec();
    strange[2..4].copy_from_slice(&99i16.to_be_bytes());
    let token = rig.world.send(strange.into());
    let answer = rig.answer::<ApiVersionsRequest<'_>>(token, 0, 0).expect("at once");
    let response: ApiVersionsResponse<'_> = read(&answer, 0).expect("in version 0");
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), 1);

    let mut unknown = frame(&MetadataRequest::default(), 1).to_vec();
    unknown[2..4].copy_from_slice(&99i16.to_be_bytes());
    let token = rig.world.send(unknown.into());
    assert!(matches!(rig.world.take_answer(token), Some(Response::Close)));
    for junk in [&b""[..], b"\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        let token = rig.world.send(Bytes::copy_from_slice(junk));
        assert!(matches!(rig.world.take_answer(token), Some(Response::Close)), "{junk:?}");
    }
}

/// Every request that real clients were seen to send, in every version that is served, gets an answer: none closes the connection
/// because a response does not fit its version.
#[test]
fn requests_of_real_clients_are_answered_in_every_version() {
    let frames = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/golden/frames");
    // All that a node can serve.
    let mut rig = Rig::with(&[("ottla.metrics.listen", "127.0.0.1:0")]);
    let mut answered = std::collections::BTreeSet::new();
    let mut files: Vec<_> =
        std::fs::read_dir(&frames).expect("the golden frames").flatten().map(|file| file.path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a golden file");
        for line in text.lines().filter(|line| line.starts_with("request ")) {
            let bytes = unhex(line.rsplit(' ').next().expect("bytes at the end"));
            let (key, version) =
                (i16::from_be_bytes([bytes[0], bytes[1]]), i16::from_be_bytes([bytes[2], bytes[3]]));
            let served = of_clients().find(|(api, ..)| *api as i16 == key);
            if !served.is_some_and(|(_, min, max)| (*min..=*max).contains(&version)) {
                continue;
            }
            let token = rig.world.send(bytes.into());
            let until = rig.world.now + 400_000;
            let answer = loop {
                if let Some(answer) = rig.world.take_answer(token) {
                    break answer;
                }
                assert!(rig.world.step(until), "{}: never answered: {line}", file.display());
            };
            let fine = match answer {
                Response::Frame(_) | Response::Nothing => true,
                // A produce that must not be answered closes, to say that it failed; and so does a filter made of zeros alone, which mean
                // "unknown" there, as with Apache Kafka.
                Response::Close => {
                    key == 0 || (key == ApiKey::DescribeAcls as i16 && line.contains(" sweep "))
                }
            };
            assert!(fine, "{}: {line}\nreported: {:?}", file.display(), rig.world.reports.last());
            answered.insert((key, version));
        }
    }
    for (api, min, max) in of_clients() {
        for version in *min..=*max {
            assert!(answered.contains(&(*api as i16, version)), "no golden request of {api:?} v{version}");
        }
    }
}

/// What clients may ask. What controllers are asked goes to a listener that this node does not have.
fn of_clients() -> impl Iterator<Item = &'static (ApiKey, i16, i16)> {
    ottla_broker::SERVED.iter().filter(|(api, ..)| api.is_served_by(Listener::Broker))
}

fn unhex(text: &str) -> Vec<u8> {
    let nibble = |digit: u8| (digit as char).to_digit(16).expect("hex") as u8;
    text.as_bytes().chunks(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect()
}

#[test]
fn what_is_told_about_versions_and_features() {
    let mut rig = Rig::new();
    let mut ask = |version: i16| {
        let request = ApiVersionsRequest {
            client_software_name: "sim".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = rig.ask(&request, version);
        let response: ApiVersionsResponse<'_> = read(&answer, version).expect("an api versions response");
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).expect("Produce");
        assert_eq!(
            (produce.min_version, produce.max_version),
            (0, 13),
            "librdkafka compresses only if 0 is listed"
        );
        response.supported_features.iter().map(|feature| feature.min_version).collect::<Vec<_>>()
    };
    assert!(ask(3).iter().all(|min| *min > 0), "clients before version 4 stumble over 0 (KAFKA-17492)");
    assert!(ask(4).contains(&0));
}
