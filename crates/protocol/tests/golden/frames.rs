//! Frames between real clients and real brokers, headers included.

use std::collections::BTreeSet;

use ottla_protocol::ApiKey;
use ottla_protocol::messages::Message;
use ottla_protocol::messages::request_header::RequestHeader;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::{Reader, Writer};

use super::corpus::{self, Complaints, Line};
use super::roundtrip;

#[test]
fn frames_are_read_and_written_to_the_same_bytes() {
    let mut complaints = Complaints::default();
    let mut count = 0;
    for file in corpus::files("frames") {
        let api = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let key = key_of(&api);
        for line in corpus::lines(&file, 3) {
            count += 1;
            let recorded = line.only_bytes();
            let ours = match line.words[0].as_str() {
                "request" => request(key, &line),
                "response" => response(key, &line),
                other => Err(format!("neither request nor response: {other}")),
            };
            let what = format!("{} v{} of {}", line.words[0], line.words[1], line.words[2]);
            complaints.compare(&line.place, &what, recorded, ours);
        }
    }
    complaints.finish(count);
}

#[test]
fn every_api_was_recorded() {
    let recorded: BTreeSet<String> = corpus::files("frames")
        .iter()
        .map(|file| file.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    let missing: Vec<&str> = keys().map(ApiKey::name).filter(|name| !recorded.contains(*name)).collect();
    assert_eq!(missing, [""; 0]);
}

fn keys() -> impl Iterator<Item = ApiKey> {
    (0..i16::MAX).filter_map(ApiKey::from_i16)
}

fn key_of(name: &str) -> ApiKey {
    keys().find(|key| key.name() == name).unwrap_or_else(|| panic!("there is no API {name}"))
}

fn request(key: ApiKey, line: &Line) -> Result<Vec<u8>, String> {
    let (frame, version) = (line.only_bytes(), line.number(1));
    let (api_key, api_version, _) = RequestHeader::peek(frame).map_err(|error| error.to_string())?;
    if (api_key, api_version) != (key.code(), version) {
        return Err(format!("the header speaks of API {api_key} version {api_version}"));
    }
    let header_version = key.request_header_version(version);
    with_header::<RequestHeader<'_>>(frame, header_version, &format!("{}Request", key.name()), version)
}

fn response(key: ApiKey, line: &Line) -> Result<Vec<u8>, String> {
    let (frame, version) = (line.only_bytes(), line.number(1));
    let header_version = key.response_header_version(version);
    with_header::<ResponseHeader>(frame, header_version, &format!("{}Response", key.name()), version)
}

fn with_header<'a, H: Message<'a>>(
    frame: &'a [u8],
    header_version: i16,
    name: &str,
    version: i16,
) -> Result<Vec<u8>, String> {
    let mut r = Reader::new(frame);
    let header = H::decode(&mut r, header_version).map_err(|error| format!("header: {error}"))?;
    let mut w = Writer::new();
    header.encode(&mut w, header_version).map_err(|error| format!("header: {error}"))?;
    w.raw(&roundtrip(name, r.rest(), version)?);
    Ok(w.into_bytes().to_vec())
}
