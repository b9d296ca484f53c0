//! ConsumerGroupDescribe 0-1 (KIP-848): each group is described by its coordinator.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use ottla_protocol::messages::consumer_group_describe_response::{
    ConsumerGroupDescribeResponse, DescribedGroup,
};

use crate::Broker;
use crate::api::consumer_group_heartbeat::is_enabled;
use crate::call::Call;
use crate::coordination::{ImageTopics, Joint, JointBody};
use crate::permissions::{self, ON_GROUP};

/// Handles the request.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: ConsumerGroupDescribeRequest<'_>) {
    let (enabled, image) = (is_enabled(broker), broker.image());
    let topics = ImageTopics::new(&image, broker);
    let joint = Joint::new(call.reply, JointBody::DescribeConsumer(ConsumerGroupDescribeResponse::default()));
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group_id in &request.group_ids {
        let mut described = None;
        let read = match &**group_id {
            _ if !enabled => Err(ErrorCode::UnsupportedVersion),
            "" => Err(ErrorCode::InvalidGroupId),
            group_id => broker.groups().read(broker, group_id, &joint, call.now, call.out, |coordinator| {
                let group = coordinator.describe_consumer_group(group_id, &topics);
                let is_told = request.include_authorized_operations && group.error_code == 0;
                described = Some(DescribedGroup {
                    authorized_operations: permissions::told(is_told, ON_GROUP),
                    ..group
                });
            }),
        };
        groups.push(described.unwrap_or_else(|| DescribedGroup {
            group_id: group_id.to_string().into(),
            error_code: read.err().unwrap_or(ErrorCode::UnknownServerError).code(),
            ..Default::default()
        }));
    }
    let response = ConsumerGroupDescribeResponse { groups, ..Default::default() };
    joint.write(|body| *body = JointBody::DescribeConsumer(response));
    joint.part_done(call.out);
}
