//! AllocateProducerIds: blocks that never overlap.

use super::Cluster;
use ottla_metadata::{Image, Replayer};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::allocate_producer_ids_request::AllocateProducerIdsRequest;
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::producer_ids_record::ProducerIdsRecord;

fn request(cluster: &Cluster, id: i32) -> AllocateProducerIdsRequest {
    AllocateProducerIdsRequest { broker_id: id, broker_epoch: cluster.broker_epoch(id) }
}

#[test]
fn blocks_follow_each_other() {
    let mut cluster = Cluster::with(2);
    for (broker, start) in [(1, 0), (2, 1000), (1, 2000)] {
        let request = request(&cluster, broker);
        let decision = cluster.controller.allocate_producer_ids(&request).expect("current epoch");
        let response = cluster.append(decision);
        assert_eq!((response.producer_id_start, response.producer_id_len), (start, 1000));
    }
    // A later controller goes on from there.
    let mut replayer = Replayer::new(Image::empty("cluster"));
    for (offset, record) in (0..).zip(&cluster.log) {
        replayer.replay(record, offset).expect("fits");
    }
    assert_eq!(replayer.image().next_producer_id(), 3000);
}

#[test]
fn refusals() {
    let mut cluster = Cluster::with(1);
    let stale = AllocateProducerIdsRequest { broker_epoch: 0, ..request(&cluster, 1) };
    assert_eq!(
        cluster.controller.allocate_producer_ids(&stale).expect_err("stale").code,
        ErrorCode::StaleBrokerEpoch
    );
    let unknown = AllocateProducerIdsRequest { broker_id: 9, broker_epoch: 0 };
    assert_eq!(
        cluster.controller.allocate_producer_ids(&unknown).expect_err("unknown").code,
        ErrorCode::StaleBrokerEpoch
    );
    let nearly_all = ProducerIdsRecord { broker_id: 1, broker_epoch: 0, next_producer_id: i64::MAX - 10 };
    let offset = cluster.log.len() as i64;
    cluster.controller.replay(&MetadataRecord::ProducerIdsRecord(nearly_all), offset).expect("fits");
    let request = request(&cluster, 1);
    let refused = cluster.controller.allocate_producer_ids(&request).expect_err("used up");
    assert_eq!(refused.code, ErrorCode::UnknownServerError);
}
