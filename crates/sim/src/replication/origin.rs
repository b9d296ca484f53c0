//! The cluster before anything happens: three brokers that are alive, and a topic of one partition with a replica on each.

use std::sync::OnceLock;

use ottla_controller::{
    Controller, Decision, Registration, Settings, TableRules, bootstrap_records, unlimited,
};
use ottla_metadata::config::BrokerConfig;
use ottla_metadata::{Image, MetadataVersion, Replayer, features};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, TopicId};
use ottla_protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest,
};

use super::node::MIN_ISR;

/// Brokers, and replicas.
pub(super) const NODES: usize = 3;
const TOPIC: &str = "orders";

/// The cluster before anything happens, and what its controller goes by.
#[derive(Debug)]
pub(super) struct Origin {
    pub image: Image,
    /// Where the metadata log ends.
    pub offset: i64,
    pub topic: TopicId,
    pub settings: Settings,
    pub rules: TableRules,
}

/// The same for all runs.
pub(super) fn origin() -> &'static Origin {
    static ORIGIN: OnceLock<Origin> = OnceLock::new();
    ORIGIN.get_or_init(|| {
        let settings = Settings { node_id: NodeId(1), min_insync_replicas: MIN_ISR, ..Settings::default() };
        let given = [
            ("node.id", "1"),
            ("process.roles", "broker,controller"),
            ("listeners", "PLAINTEXT://sim:9092,CONTROLLER://sim:9093"),
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", "1@sim:9093"),
        ];
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let rules = TableRules::new(BrokerConfig::resolve(&given).expect("sound").0);
        let (image, settings_of) = (Image::empty("cluster"), settings.clone());
        let boxed = TableRules::new(BrokerConfig::resolve(&given).expect("sound").0);
        let mut controller = Controller::new(Replayer::new(image), settings_of, Box::new(boxed), 1);
        let mut offset = 0;
        let elr = [("eligible.leader.replicas.version", 1)];
        let activation = controller.activation(&bootstrap_records(MetadataVersion::LATEST, &elr));
        append(&mut controller, &mut offset, activation);
        for id in 1..=NODES as i32 {
            let request = registration(id, 0, -1);
            let decision = controller.register_broker(&request, terms(offset)).expect("accepted");
            append(&mut controller, &mut offset, decision);
            let decision = controller.unfence_broker(NodeId(id)).expect("registered");
            append(&mut controller, &mut offset, decision);
        }
        let assignment = CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![1, 2, 3] };
        let topic = CreatableTopic {
            name: TOPIC.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![assignment],
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let decision = controller.create_topics(&request, &mut unlimited);
        append(&mut controller, &mut offset, decision);
        let image = controller.image().clone();
        let topic = image.topic_id(TOPIC).expect("just created");
        Origin { image, offset, topic, settings, rules }
    })
}

fn append<R>(controller: &mut Controller, offset: &mut i64, decision: Decision<R>) {
    for record in decision.records {
        controller.replay(&record, *offset).expect("decisions fit");
        *offset += 1;
    }
}

/// On what terms a broker registers whose record will be at that offset.
pub(super) fn terms(next_offset: i64) -> Registration {
    Registration { version: 4, next_offset, has_live_session: false, kraft_version: 1 }
}

/// What a broker says of itself in each of its lives.
pub(super) fn registration(
    id: i32,
    life: u32,
    previous_broker_epoch: i64,
) -> BrokerRegistrationRequest<'static> {
    let features = features::supported().map(|(name, min, max)| Feature {
        name: name.into(),
        min_supported_version: min,
        max_supported_version: max,
    });
    BrokerRegistrationRequest {
        broker_id: id,
        cluster_id: "cluster".into(),
        incarnation_id: Uuid([life as u8 + 1; 16]),
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: "sim".into(),
            port: 9092,
            security_protocol: 0,
        }],
        features: features.collect(),
        log_dirs: vec![Uuid([100 + id as u8; 16])],
        previous_broker_epoch,
        ..Default::default()
    }
}
