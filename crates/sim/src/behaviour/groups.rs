//! Groups: their timers.

use crate::client::read;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;

use super::{Rig, batch};

#[test]
fn a_group_timer_is_not_forgotten_when_another_tick_comes_first() {
    let mut rig = Rig::new();
    rig.ask(&FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() }, 4);
    let join = |rig: &mut Rig, member_id: String| {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![0].into() };
        let request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            member_id: member_id.into(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        rig.send(&request, 5)
    };
    let token = join(&mut rig, String::new());
    let answer = rig.answer::<JoinGroupRequest<'_>>(token, 5, 100).expect("a member id");
    let named: JoinGroupResponse<'_> = read(&answer, 5).expect("a join group response");
    assert_eq!(named.error_code, ErrorCode::MemberIdRequired.code());
    // The group waits three seconds for more members; an acks=1 record asks for a tick after one.
    let waiting = join(&mut rig, named.member_id.into_owned());
    let records = batch(&["a"], rig.world.now);
    rig.produce(0, 1, &records);
    let answer =
        rig.answer::<JoinGroupRequest<'_>>(waiting, 5, 3_100).expect("the rebalance is over in time");
    let joined: JoinGroupResponse<'_> = read(&answer, 5).expect("a join group response");
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
}
