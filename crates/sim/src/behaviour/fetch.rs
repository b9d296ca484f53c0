//! Fetch: long polls, sessions, offsets outside of the log.

use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::FetchResponse;

use super::{Rig, batch, fetch, partition_of, records_len};

#[test]
fn a_long_poll_is_woken_by_the_record_it_waits_for() {
    let mut rig = Rig::new();
    let waiting = rig.send(&fetch(0, 500, 1), 11);
    assert!(rig.answer::<FetchRequest<'_>>(waiting, 11, 100).is_none(), "nothing is there yet");
    let records = batch(&["a"], rig.world.now);
    rig.produce(0, 1, &records);
    let answer = rig
        .answer::<FetchRequest<'_>>(waiting, 11, 100)
        .expect("woken by the flush, long before its deadline");
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(partition_of(&response).high_watermark, 1);
    assert_eq!(records_len(partition_of(&response)), records.len());
}

#[test]
fn a_long_poll_ends_at_its_deadline_with_what_is_there() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    rig.produced(0, -1, &records);
    let begun = rig.world.now;
    let answer = rig.ask(&fetch(0, 500, 1 << 20), 11);
    assert_eq!(rig.world.now - begun, 500);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(records_len(partition_of(&response)), records.len());
    let answer = rig.ask(&fetch(1, 500, 1), 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!((partition_of(&response).error_code, records_len(partition_of(&response))), (0, 0));
}

#[test]
fn a_fetch_outside_the_log_is_refused_at_once() {
    let mut rig = Rig::new();
    let begun = rig.world.now;
    let answer = rig.ask(&fetch(7, 500, 1), 11);
    let response: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(partition_of(&response).error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(rig.world.now, begun);
}

#[test]
fn a_session_tells_only_what_changed() {
    let mut rig = Rig::new();
    let answer = rig.ask(&FetchRequest { session_epoch: 0, ..fetch(0, 0, 1) }, 11);
    let begun: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    let session_id = begun.session_id;
    assert_ne!(session_id, 0);
    let next =
        |session_epoch| FetchRequest { session_id, session_epoch, max_wait_ms: 0, ..Default::default() };
    let answer = rig.ask(&next(1), 11);
    let idle: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert!(idle.responses.is_empty(), "nothing changed, nothing is told");
    let records = batch(&["a"], rig.world.now);
    rig.produced(0, -1, &records);
    let answer = rig.ask(&next(2), 11);
    let news: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(records_len(partition_of(&news)), records.len());
    let answer = rig.ask(&next(2), 11);
    let refused: FetchResponse<'_> = read(&answer, 11).expect("a fetch response");
    assert_eq!(refused.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
}
