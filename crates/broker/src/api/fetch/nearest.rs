//! Which replica a consumer should read from: one in its own rack, which costs nobody a line between data centres (KIP-392; Kafka:
//! `RackAwareReplicaSelector`).
//!
//! The leader decides, and only says so: what it would have sent is left out, and the consumer asks there. Followers serve what they know to
//! be committed to everybody, whether they were chosen or not.

use std::sync::Arc;

use ottla_metadata::Image;
use ottla_protocol::Chain;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::fetch_request::FetchRequest;

use super::{FIRST_RACK_VERSION, follower_of};
use crate::Broker;
use crate::call::Call;
use crate::partition::{Partition, PartitionRead, Readable};

/// Where a consumer is.
#[derive(Debug)]
pub(super) struct Near {
    rack: Box<str>,
    /// How it reaches brokers.
    listener: Arc<str>,
}

impl Near {
    /// Where the consumer says that it is, if brokers shall care.
    pub fn of(broker: &Broker, call: &Call<'_>, request: &FetchRequest<'_>) -> Option<Near> {
        let is_known = call.reply.version >= FIRST_RACK_VERSION && !request.rack_id.is_empty();
        let may_redirect = broker.config().replication.reads_by_rack && is_known;
        if !may_redirect || follower_of(broker, request).is_some() {
            return None;
        }
        Some(Near { rack: (&*request.rack_id).into(), listener: call.connection.listener.clone() })
    }

    /// Sends the consumer elsewhere, if there is a better place.
    pub fn redirect(&self, broker: &Broker, partition: &Partition, offset: i64, read: &mut PartitionRead) {
        let image = broker.image();
        let me = broker.config().node_id;
        if rack_of(&image, me) == Some(&self.rack) {
            return;
        }
        let is_near = |replica: &Readable| {
            let known = image.broker(NodeId(replica.id)).filter(|broker| !broker.fenced);
            known.is_some_and(|broker| broker.endpoint(&self.listener).is_some())
                && rack_of(&image, replica.id) == Some(&self.rack)
        };
        if let Some(best) = partition.readable(offset).into_iter().filter(is_near).max() {
            read.preferred = Some(best.id);
            read.records = Chain::default();
            read.aborted.clear();
        }
    }
}

fn rack_of(image: &Image, id: i32) -> Option<&str> {
    image.broker(NodeId(id))?.rack.as_deref()
}
