//! Levels of loggers over the wire (KIP-412): listed, changed, and what is refused.

use super::Rig;
use super::configs::alter;
use crate::client::read;
use crate::world::Death;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResponse;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::incremental_alter_configs_response::IncrementalAlterConfigsResponse;

const BROKER_LOGGER: i8 = 8;
const SOURCE: i8 = 6;

fn describe(rig: &mut Rig, node: &'static str) -> Result<Vec<String>, ErrorCode> {
    let resource = DescribeConfigsResource {
        resource_type: BROKER_LOGGER,
        resource_name: node.into(),
        configuration_keys: None,
    };
    let answer = rig.ask(&DescribeConfigsRequest { resources: vec![resource], ..Default::default() }, 4);
    let response: DescribeConfigsResponse<'_> = read(&answer, 4).expect("a response");
    let told = &response.results[0];
    if told.error_code != 0 {
        return Err(ErrorCode::from_code(told.error_code));
    }
    let line =
        |config: &ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult<'_>| {
            assert_eq!((config.config_source, config.read_only, config.is_sensitive), (SOURCE, false, false));
            format!("{}={}", config.name, config.value.as_deref().expect("a level"))
        };
    Ok(told.configs.iter().map(line).collect())
}

#[test]
fn levels_are_changed_until_the_next_start() {
    let mut rig = Rig::new();
    let root = |level: &str| Ok(vec![format!("root={level}")]);
    assert_eq!(describe(&mut rig, "1"), root("INFO"));
    assert_eq!(alter(&mut rig, BROKER_LOGGER, "1", "root", Some("DEBUG")), ErrorCode::None);
    assert_eq!(describe(&mut rig, "1"), root("DEBUG"));
    rig.world.restart(Death::Shutdown).expect("it starts again");
    assert_eq!(describe(&mut rig, "1"), root("INFO"));
}

#[test]
fn what_can_not_be_changed() {
    let mut rig = Rig::new();
    let mut refused = |node, logger, level| alter(&mut rig, BROKER_LOGGER, node, logger, level);
    assert_eq!(refused("2", "root", Some("INFO")), ErrorCode::InvalidRequest, "another node");
    assert_eq!(refused("", "root", Some("INFO")), ErrorCode::InvalidRequest, "no node");
    assert_eq!(refused("1", "kafka.server.KafkaApis", Some("INFO")), ErrorCode::InvalidConfig);
    assert_eq!(refused("1", "root", Some("LOUD")), ErrorCode::InvalidConfig);
    assert_eq!(refused("1", "root", None), ErrorCode::InvalidRequest, "the root has to have a level");
    assert_eq!(describe(&mut rig, "2"), Err(ErrorCode::InvalidRequest));
    assert_eq!(describe(&mut rig, ""), Err(ErrorCode::InvalidRequest));
    assert_eq!(describe(&mut rig, "1"), Ok(vec!["root=INFO".to_owned()]));
}

#[test]
fn loggers_and_other_resources_in_one_request() {
    let mut rig = Rig::new();
    let resource = |kind: i8, name: &'static str, key: &'static str, value: &'static str, operation: i8| {
        let config =
            AlterableConfig { name: key.into(), config_operation: operation, value: Some(value.into()) };
        AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![config] }
    };
    let mut ask = |resources: Vec<AlterConfigsResource<'static>>, validate_only: bool| {
        let answer = rig.ask(&IncrementalAlterConfigsRequest { resources, validate_only }, 1);
        let response: IncrementalAlterConfigsResponse<'_> = read(&answer, 1).expect("a response");
        let told = response.responses.iter().map(|told| (told.resource_type, told.error_code));
        (told.collect::<Vec<_>>(), describe(&mut rig, "1").expect("described"))
    };
    let root = |level: &str| vec![format!("root={level}")];
    let both =
        vec![resource(BROKER_LOGGER, "1", "root", "WARN", 0), resource(2, "t", "retention.ms", "1000", 0)];
    assert_eq!(ask(both.clone(), true), (vec![(2, 0), (BROKER_LOGGER, 0)], root("INFO")), "only asked");
    assert_eq!(ask(both, false), (vec![(2, 0), (BROKER_LOGGER, 0)], root("WARN")));
    let invalid = ErrorCode::InvalidRequest.code();
    let append = vec![resource(BROKER_LOGGER, "1", "root", "INFO", 2)];
    assert_eq!(ask(append, false), (vec![(BROKER_LOGGER, invalid)], root("WARN")));
    let twice = vec![
        resource(BROKER_LOGGER, "1", "root", "INFO", 0),
        resource(BROKER_LOGGER, "1", "root", "ERROR", 0),
    ];
    assert_eq!(ask(twice, false), (vec![(BROKER_LOGGER, invalid)], root("WARN")));
}
