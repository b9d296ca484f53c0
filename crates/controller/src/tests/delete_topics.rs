//! DeleteTopics: by name, by id, and what contradicts itself.

use super::{Cluster, topic};
use crate::{Settings, unlimited};
use ottla_protocol::Uuid;
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use std::borrow::Cow;

fn cluster() -> Cluster {
    let mut cluster = Cluster::with(1);
    cluster.create(vec![topic("a", 1, 1), topic("b", 1, 1), topic("c", 1, 1)]);
    cluster
}

fn id(cluster: &Cluster, name: &str) -> Uuid {
    cluster.controller.image().topic_id(name).expect("there").0
}

/// Name, id and code of each answer, and the ids of the records.
type Answers = (Vec<(Option<String>, Uuid, i16)>, Vec<Uuid>);

fn ask(cluster: &Cluster, request: &DeleteTopicsRequest<'_>, version: i16) -> Answers {
    let decision = cluster.controller.delete_topics(request, version, &mut unlimited);
    let answers = decision.response.responses.iter();
    let answers = answers.map(|a| (a.name.as_ref().map(|name| name.to_string()), a.topic_id, a.error_code));
    let removed = decision.records.iter().map(|record| match record {
        MetadataRecord::RemoveTopicRecord(record) => record.topic_id,
        other => panic!("{other:?}"),
    });
    (answers.collect(), removed.collect())
}

fn by_names(names: &[&'static str]) -> DeleteTopicsRequest<'static> {
    let topic_names = names.iter().map(|name| Cow::Borrowed(*name)).collect();
    DeleteTopicsRequest { topic_names, ..Default::default() }
}

fn by(topics: &[(Option<&'static str>, Uuid)]) -> DeleteTopicsRequest<'static> {
    let topics =
        topics.iter().map(|(name, id)| DeleteTopicState { name: name.map(Cow::Borrowed), topic_id: *id });
    DeleteTopicsRequest { topics: topics.collect(), ..Default::default() }
}

fn named(name: &str, id: Uuid, code: i16) -> (Option<String>, Uuid, i16) {
    (Some(name.to_owned()), id, code)
}

#[test]
fn by_name() {
    let cluster = cluster();
    let (a, b) = (id(&cluster, "a"), id(&cluster, "b"));
    let (answers, removed) = ask(&cluster, &by_names(&["a", "nope", "b", "c", "c"]), 5);
    assert_eq!(
        answers,
        [named("a", a, 0), named("nope", Uuid::ZERO, 3), named("b", b, 0), named("c", Uuid::ZERO, 42)]
    );
    assert_eq!(removed, [a, b]);
}

#[test]
fn by_id() {
    let cluster = cluster();
    let (a, b) = (id(&cluster, "a"), id(&cluster, "b"));
    let nobody = Uuid([77; 16]);
    let request = by(&[(None, a), (None, nobody), (None, b), (None, b), (Some("c"), Uuid::ZERO)]);
    let (answers, removed) = ask(&cluster, &request, 6);
    let c = id(&cluster, "c");
    assert_eq!(answers, [named("a", a, 0), (None, nobody, 100), (None, b, 42), named("c", c, 0)]);
    assert_eq!(removed, [a, c]);
}

#[test]
fn contradictions() {
    let cluster = cluster();
    let (a, b) = (id(&cluster, "a"), id(&cluster, "b"));
    let request = by(&[(None, Uuid::ZERO), (Some("a"), a), (Some("b"), Uuid::ZERO), (None, b)]);
    let (answers, removed) = ask(&cluster, &request, 6);
    assert_eq!(answers, [(None, Uuid::ZERO, 42), named("a", a, 42), named("b", b, 42)]);
    assert_eq!(removed, []);
}

#[test]
fn deletion_switched_off() {
    let mut cluster = cluster();
    let settings = Settings { delete_topic_enable: false, ..cluster.controller.settings().clone() };
    cluster.controller.set_settings(settings);
    let check = |version: i16, code: i16| {
        let (answers, removed) = ask(&cluster, &by_names(&["a"]), version);
        assert_eq!((answers, removed), (vec![named("a", Uuid::ZERO, code)], vec![]));
    };
    check(2, 42);
    check(3, 73);
}

#[test]
fn a_name_can_come_back_with_another_id() {
    let mut cluster = cluster();
    let before = id(&cluster, "a");
    let decision = cluster.controller.delete_topics(&by_names(&["a"]), 5, &mut unlimited);
    cluster.append(decision);
    cluster.create(vec![topic("a", 1, 1)]);
    assert_ne!(id(&cluster, "a"), before);
}
