//! Registrations of controllers.

use super::{Cluster, uuid};
use crate::{register_controller, unregister_controller};
use ottla_protocol::ErrorCode;
use ottla_protocol::ids::NodeId;
use ottla_protocol::messages::controller_registration_request::{
    ControllerRegistrationRequest, Feature, Listener,
};

#[test]
fn controllers_come_and_go() {
    let mut cluster = Cluster::with(1);
    let request = ControllerRegistrationRequest {
        controller_id: 3000,
        incarnation_id: uuid(3),
        listeners: vec![Listener {
            name: "CONTROLLER".into(),
            host: "localhost".into(),
            port: 9093,
            security_protocol: 0,
        }],
        features: vec![Feature {
            name: "metadata.version".into(),
            min_supported_version: 7,
            max_supported_version: 20,
        }],
        ..Default::default()
    };
    let decided = register_controller(&cluster.controller.context(), &request).expect("supported");
    cluster.append(decided);
    let known = &cluster.controller.image().controllers()[&NodeId(3000)];
    assert_eq!((known.incarnation_id, known.features[0].max), (uuid(3), 20));
    let decided = unregister_controller(&cluster.controller.context(), NodeId(3000)).expect("there");
    cluster.append(decided);
    assert!(cluster.controller.image().controllers().is_empty());
    let again = unregister_controller(&cluster.controller.context(), NodeId(3000)).expect_err("gone");
    assert_eq!(again.code, ErrorCode::ControllerIdNotRegistered);
}

#[test]
fn old_clusters_know_neither() {
    let request = ControllerRegistrationRequest::default();
    for (level, registers) in [(14, false), (15, true), (32, true)] {
        let cluster = Cluster::with_metadata_version(level);
        assert_eq!(
            register_controller(&cluster.controller.context(), &request).is_ok(),
            registers,
            "{level}"
        );
        let refused = unregister_controller(&cluster.controller.context(), NodeId(1)).expect_err("too old");
        assert_eq!(refused.code, ErrorCode::UnsupportedVersion);
    }
}
