//! Nodes with one role each: controllers that serve no clients, and brokers that vote for nobody.

use crate::site::Site;
use crate::talk::{Brokers, create_topic, produce, read_all, wait_in_sync};

const TOPIC: &str = "orders";
const CONTROLLERS: [i32; 3] = [1, 2, 3];
const BROKERS: [i32; 2] = [11, 12];

#[test]
fn controllers_and_brokers_alone_make_a_cluster_that_goes_on_without_one_of_each() {
    let mut site = Site::new(&[1, 2, 3, 11, 12]);
    // A session that nobody can wait for: a broker that stopped in order is awaited by nobody either.
    let session = "broker.session.timeout.ms=600000";
    let voters = format!("controller.quorum.voters={}\n{session}", site.voters(&CONTROLLERS));
    CONTROLLERS.iter().for_each(|id| site.configure(*id, "controller", &voters));
    BROKERS.iter().for_each(|id| site.configure(*id, "broker", &voters));
    // Whoever comes first waits for the others.
    site.start(&[11, 12, 1, 2, 3]);
    let brokers: Brokers = BROKERS.iter().map(|id| (*id, site.port(*id))).collect();
    create_topic(site.port(12), TOPIC, 2);
    wait_in_sync(&brokers, TOPIC, 2);
    let mut acknowledged: Vec<(i64, u64)> =
        (0..20).map(|value| (produce(&brokers, TOPIC, value), value)).collect();

    let before = site.wait_quorum(11, "brokers follow the quorum", |quorum| {
        quorum.voters == CONTROLLERS && quorum.observers == BROKERS
    });
    site.kill(before.leader);
    // No broker is one of the quorum: clients do not notice.
    acknowledged.extend((20..40).map(|value| (produce(&brokers, TOPIC, value), value)));
    let after = site.wait_quorum(12, "another controller leads", |quorum| quorum.leader != before.leader);
    create_topic(site.port(11), "made-by-the-next", 2);
    acknowledged.extend((40..60).map(|value| (produce(&brokers, TOPIC, value), value)));
    let found = read_all(&brokers, TOPIC);
    for (offset, value) in &acknowledged {
        assert_eq!(found.get(offset), Some(value), "offset {offset} was acknowledged");
    }

    site.start(&[before.leader]);
    site.wait_quorum(11, "three controllers again", |quorum| quorum.voters == CONTROLLERS);
    assert!(CONTROLLERS.contains(&after.leader));
    // A broker says goodbye to controllers, and may come back at once; controllers say goodbye to each other.
    site.stop(11);
    site.start(&[11]);
    wait_in_sync(&brokers, TOPIC, 2);
    site.stop(11);
    site.stop(12);
    site.stop_all();
}
