//! Levels of loggers really say what is written.

use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;
use ottla_protocol::{Message, Reader};

use crate::node::{Node, ask, ask_api_versions};

const BROKER_LOGGER: i8 = 8;

#[test]
fn what_was_not_wanted_before_is_written_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_in(dir.path());
    let mut administrator = node.connect();
    let mut set = |logger: &'static str, level: &'static str| {
        let config = AlterableConfig { name: logger.into(), config_operation: 0, value: Some(level.into()) };
        let resource = AlterConfigsResource {
            resource_type: BROKER_LOGGER,
            resource_name: "1".into(),
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = ask(&mut administrator, &request, 1).expect("answered");
        let response = IncrementalAlterConfigsResponse::decode(&mut Reader::new(&answer), 1);
        let response = response.expect("readable");
        assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
    };
    set("root", "FATAL");
    set("ottla.server.shell.connection", "DEBUG");
    let mut visitor = node.connect();
    assert!(!ask_api_versions(&mut visitor, 1).is_empty());
    let port = visitor.local_addr().expect("bound").port();
    drop(visitor);
    node.signal("TERM");
    let (status, _, stderr) = node.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let told = format!("127.0.0.1:{port} closed");
    assert!(stderr.lines().any(|line| line.contains("DEBUG") && line.contains(&told)), "{stderr}");
}
