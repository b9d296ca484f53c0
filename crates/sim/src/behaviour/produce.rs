//! Produce: when it is answered, what is refused, what a producer may repeat.

use ottla_broker::Response;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::produce_request::ProduceRequest;
use ottla_protocol::records::{BatchBuilder, BatchOptions};

use super::{Rig, batch};

#[test]
fn acks_decide_when_and_whether_there_is_an_answer() {
    let mut rig = Rig::new();
    let records = batch(&["a"], rig.world.now);
    let token = rig.produce(0, 0, &records);
    assert!(matches!(rig.world.take_answer(token), Some(Response::Nothing)), "acks=0 is not answered");
    let token = rig.produce(0, 1, &records);
    assert!(rig.world.take_answer(token).is_some(), "acks=1 is answered at once");
    let token = rig.produce(0, -1, &records);
    assert!(rig.world.take_answer(token).is_none(), "acks=all waits for the disk");
    assert!(rig.answer::<ProduceRequest<'_>>(token, 9, 100).is_some());
    assert_eq!(rig.produced(0, 5, &records), (ErrorCode::InvalidRequiredAcks.code(), -1));
    assert_eq!(rig.produced(9, 1, &records), (ErrorCode::UnknownTopicOrPartition.code(), -1));
    assert_eq!(rig.produced(0, 1, b""), (ErrorCode::InvalidRecord.code(), -1));
    let mut damaged = records.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    assert_eq!(rig.produced(0, 1, &damaged), (ErrorCode::CorruptMessage.code(), -1));
}

#[test]
fn an_idempotent_producer_may_repeat_itself() {
    let mut rig = Rig::new();
    let send = |rig: &mut Rig, sequence: i32| {
        let options = BatchOptions {
            producer_id: 77,
            producer_epoch: 0,
            base_sequence: sequence,
            ..Default::default()
        };
        let mut builder = BatchBuilder::new(0, options);
        builder.push(rig.world.now, None, Some(b"v"), &[]);
        rig.produced(0, -1, &builder.finish())
    };
    assert_eq!(send(&mut rig, 0), (0, 0));
    assert_eq!(send(&mut rig, 1), (0, 1));
    assert_eq!(send(&mut rig, 0), (0, 0), "a duplicate gets its original offset");
    assert_eq!(send(&mut rig, 5).0, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(send(&mut rig, 2), (0, 2));
}
