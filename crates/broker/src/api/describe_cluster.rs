//! DescribeCluster 0-2 (KIP-700): the brokers of the cluster and its controller.

use std::collections::BTreeMap;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};

use crate::Broker;
use crate::call::Call;
use crate::permissions::{self, ON_CLUSTER};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Handles the request. A broker's listener describes brokers, a controller's controllers (KIP-919); v2 may ask for fenced brokers too.
pub(crate) fn handle(broker: &Broker, call: &mut Call<'_>, request: DescribeClusterRequest) {
    let image = broker.image();
    let cluster_id = broker.cluster_id().to_string();
    let cluster_authorized_operations =
        permissions::told(request.include_cluster_authorized_operations, ON_CLUSTER);
    if broker.is_controller_listener(&call.connection.listener) && request.endpoint_type == CONTROLLERS {
        return describe_controllers(broker, call, cluster_authorized_operations);
    }
    if request.endpoint_type != BROKERS || broker.is_controller_listener(&call.connection.listener) {
        let error = if matches!(request.endpoint_type, BROKERS | CONTROLLERS) {
            ErrorCode::MismatchedEndpointType
        } else {
            ErrorCode::UnsupportedEndpointType
        };
        let response = DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some("that kind of node is not served at this listener".into()),
            endpoint_type: request.endpoint_type,
            cluster_id: cluster_id.into(),
            ..Default::default()
        };
        return call.respond(&response);
    }
    let brokers = image
        .brokers()
        .values()
        .filter(|node| !node.fenced || request.include_fenced_brokers)
        .filter_map(|node| {
            let endpoint = node.endpoint(&call.connection.listener)?;
            Some(DescribeClusterBroker {
                broker_id: node.id.0,
                host: endpoint.host.to_string().into(),
                port: i32::from(endpoint.port),
                rack: node.rack.as_deref().map(|rack| rack.to_string().into()),
                is_fenced: node.fenced,
            })
        })
        .collect();
    let response = DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: cluster_id.into(),
        controller_id: broker.config().node_id,
        brokers,
        cluster_authorized_operations,
        ..Default::default()
    };
    call.respond(&response);
}

/// The controllers that have registered, voters or not, each where it listens for this listener's peers, and which of them leads; and the
/// voters that have not, as those of a release that does not register.
fn describe_controllers(broker: &Broker, call: &mut Call<'_>, cluster_authorized_operations: i32) {
    let (image, voters) = (broker.image(), broker.quorum.voters());
    let listener = &call.connection.listener;
    let mut found = BTreeMap::new();
    for voter in voters.iter() {
        let mut endpoints = voter.endpoints.iter();
        let named = endpoints.clone().find(|it| *it.listener == **listener).or(endpoints.next());
        found.extend(named.map(|it| (voter.key.id, (it.host.clone(), it.port))));
    }
    for node in image.controllers().values() {
        let named = node.endpoints.iter().find(|it| it.name == *listener);
        found.extend(named.map(|it| (node.id.0, (it.host.to_string(), it.port))));
    }
    let described = found.into_iter().map(|(broker_id, (host, port))| DescribeClusterBroker {
        broker_id,
        host: host.into(),
        port: port.into(),
        ..Default::default()
    });
    let response = DescribeClusterResponse {
        endpoint_type: CONTROLLERS,
        cluster_id: broker.cluster_id().to_owned().into(),
        // Between two leaders it is the one before: who is told of nobody (Kafka's admin client) never asks again.
        controller_id: broker.quorum.last_leader(),
        brokers: described.collect(),
        cluster_authorized_operations,
        ..Default::default()
    };
    call.respond(&response);
}
