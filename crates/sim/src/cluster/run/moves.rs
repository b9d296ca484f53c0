//! Replicas that move between two log directories of their nodes while all else goes on: what is promised is the same.

use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};

use super::{NODES, PARTITIONS, Run, TOPIC};
use crate::client::frame;

/// A second directory, and segments that are rolled now and then.
pub(super) const SETTINGS: &[(&str, &str)] = &[("log.dirs", "/data,/more"), ("log.roll.ms", "4000")];
/// One wish in so many rounds.
const ONE_IN: u64 = 30;

impl Run {
    /// Has some replica move somewhere, wherever it is. Nobody waits for the answer.
    pub(super) fn move_something(&mut self) {
        if !self.moves || self.cluster.dice.below(ONE_IN) > 0 {
            return;
        }
        let node = self.cluster.dice.below(NODES as u64) as usize;
        let partition = self.cluster.dice.below(PARTITIONS as u64) as i32;
        let path = ["/data", "/more"][self.cluster.dice.below(2) as usize];
        if !self.cluster.serves(node) {
            return;
        }
        let topics = vec![AlterReplicaLogDirTopic { name: TOPIC.into(), partitions: vec![partition] }];
        let dirs = vec![AlterReplicaLogDir { path: path.into(), topics }];
        self.cluster.ask(node, frame(&AlterReplicaLogDirsRequest { dirs }, 2));
    }
}

#[cfg(test)]
mod tests {
    use super::super::run_cluster;

    /// Clusters that were searched for more of them: `cargo xtask sim cluster`.
    #[test]
    fn what_was_acknowledged_is_there_wherever_it_moved() {
        for seed in [1, 5, 9, 13, 17, 21] {
            let report = run_cluster(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            assert!(report.acknowledged > 100, "seed {seed}: {report:?}");
        }
    }
}
