//! A reassignment of one partition: from the replicas that it has to those that somebody wishes (KIP-455).
//!
//! ```text
//!   replicas [1 2 3], wish [3 4 5]
//!     begin      replicas [3 4 5 1 2]   adding [4 5]   removing [1 2]
//!     complete   replicas [3 4 5]       once 4 and 5 are in sync, and somebody stays who is
//!     revert     replicas [3 1 2]       the wish is given up
//! ```
//!
//! The tricky idea: the partition carries the whole reassignment in its replica lists, so that whoever becomes controller can complete
//! it, and every change of the ISR is a chance to do so. A wish that only changes the order, or only removes replicas that nobody needs
//! to wait for, is complete as soon as it begins.

use ottla_metadata::Partition;
use ottla_protocol::Uuid;
use ottla_protocol::ids::NodeId;

/// Whether a reassignment of the partition is under way.
pub(crate) fn is_in_progress(partition: &Partition) -> bool {
    !partition.adding_replicas.is_empty() || !partition.removing_replicas.is_empty()
}

/// How many replicas the partition is to have, once what is under way is complete.
pub(crate) fn replication_factor(partition: &Partition) -> usize {
    partition.replicas.len() - partition.removing_replicas.len()
}

/// Begins to move the partition to `wish`. A wish replaces the one before it. `directory_of` knows where a replica that is new on a
/// broker goes.
pub(crate) fn begin(partition: &mut Partition, wish: &[NodeId], directory_of: impl Fn(NodeId) -> Uuid) {
    let mut adding = without(wish, &partition.replicas);
    let mut removing = without(&partition.replicas, wish);
    adding.sort_unstable();
    removing.sort_unstable();
    let replicas = wish.iter().chain(&removing).copied().collect();
    set_replicas(partition, replicas, directory_of);
    partition.adding_replicas = adding;
    partition.removing_replicas = removing;
}

/// Completes the reassignment if the ISR allows it. Whether it did.
pub(crate) fn complete(partition: &mut Partition) -> bool {
    if !is_in_progress(partition) {
        return false;
    }
    let (adding, removing) = (&partition.adding_replicas, &partition.removing_replicas);
    let isr = without(&partition.isr, removing);
    let replicas = without(&partition.replicas, removing);
    if replicas.is_empty() || (isr.is_empty() && !removing.is_empty()) {
        return false;
    }
    // New replicas may sit on sick brokers: they have to prove themselves first.
    if !contains_all(&isr, adding) {
        return false;
    }
    // Where replicas are given up for good, completing early could leave fewer in sync than waiting would.
    if adding.len() < removing.len() && !contains_all(&isr, &replicas) {
        return false;
    }
    partition.isr = isr;
    set_replicas(partition, replicas, |replica| unreachable!("replica {replica} was there"));
    partition.adding_replicas = Vec::new();
    partition.removing_replicas = Vec::new();
    true
}

/// Gives the wish up: the replicas are those of before. Whether that leaves nobody in sync, so that a replica of before has to be
/// believed although it may lack records.
pub(crate) fn revert(partition: &mut Partition) -> bool {
    let replicas = without(&partition.replicas, &partition.adding_replicas);
    let first = *replicas.first().expect("a partition had replicas before its reassignment");
    partition.isr = without(&partition.isr, &partition.adding_replicas);
    let unclean = partition.isr.is_empty();
    if unclean {
        partition.isr.push(first);
    }
    set_replicas(partition, replicas, |replica| unreachable!("replica {replica} was there"));
    partition.adding_replicas = Vec::new();
    partition.removing_replicas = Vec::new();
    unclean
}

/// Gives the partition these replicas; each keeps its directory.
fn set_replicas(partition: &mut Partition, replicas: Vec<NodeId>, directory_of_new: impl Fn(NodeId) -> Uuid) {
    let directory =
        |replica: &NodeId| partition.directory_of(*replica).unwrap_or_else(|| directory_of_new(*replica));
    partition.directories = replicas.iter().map(directory).collect();
    partition.replicas = replicas;
}

fn without(these: &[NodeId], those: &[NodeId]) -> Vec<NodeId> {
    these.iter().copied().filter(|node| !those.contains(node)).collect()
}

fn contains_all(these: &[NodeId], those: &[NodeId]) -> bool {
    those.iter().all(|node| these.contains(node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_metadata::topic::{nodes, numbers};

    fn partition(replicas: &[i32], isr: &[i32]) -> Partition {
        let directories = replicas.iter().map(|id| Uuid([*id as u8; 16])).collect();
        Partition { replicas: nodes(replicas), directories, isr: nodes(isr), ..Default::default() }
    }

    fn new_dir(node: NodeId) -> Uuid {
        Uuid([node.0 as u8; 16])
    }

    /// Replicas, adding, removing and ISR; directories always fit.
    fn shape(partition: &Partition) -> [Vec<i32>; 4] {
        let directories: Vec<Uuid> = partition.replicas.iter().map(|node| new_dir(*node)).collect();
        assert_eq!(partition.directories, directories);
        let Partition { replicas, adding_replicas, removing_replicas, isr, .. } = partition;
        [numbers(replicas), numbers(adding_replicas), numbers(removing_replicas), numbers(isr)]
    }

    #[test]
    fn from_wish_to_completion() {
        let mut moving = partition(&[1, 2, 3], &[1, 2, 3]);
        begin(&mut moving, &nodes(&[3, 5, 4]), new_dir);
        assert_eq!(shape(&moving), [vec![3, 5, 4, 1, 2], vec![4, 5], vec![1, 2], vec![1, 2, 3]]);
        assert_eq!(replication_factor(&moving), 3);
        assert!(!complete(&mut moving), "the new ones are not in sync");
        moving.isr = nodes(&[1, 2, 3, 4]);
        assert!(!complete(&mut moving));
        moving.isr = nodes(&[1, 4, 5]);
        assert!(complete(&mut moving), "3 need not be in sync: as many come as go");
        assert_eq!(shape(&moving), [vec![3, 5, 4], vec![], vec![], vec![4, 5]]);
        assert!(!is_in_progress(&moving) && !complete(&mut moving));
    }

    #[test]
    fn a_new_order_is_complete_at_once() {
        let mut moving = partition(&[1, 2, 3], &[1]);
        begin(&mut moving, &nodes(&[3, 2, 1]), new_dir);
        assert!(!is_in_progress(&moving));
        assert_eq!(shape(&moving), [vec![3, 2, 1], vec![], vec![], vec![1]]);
    }

    #[test]
    fn fewer_replicas_wait_for_all_that_stay() {
        let mut moving = partition(&[0, 1, 2, 3, 4], &[0, 1]);
        begin(&mut moving, &nodes(&[2, 3, 4, 5]), new_dir);
        moving.isr = nodes(&[0, 1, 5]);
        assert!(!complete(&mut moving), "the ISR would shrink to 5 alone");
        moving.isr = nodes(&[5, 2, 3, 4]);
        assert!(complete(&mut moving));
        let mut moving = partition(&[1, 2], &[2]);
        begin(&mut moving, &nodes(&[1]), new_dir);
        assert!(!complete(&mut moving), "nobody in sync would stay");
    }

    #[test]
    fn a_later_wish_replaces_the_earlier_one() {
        let mut moving = partition(&[1, 2, 3], &[1, 2, 3]);
        begin(&mut moving, &nodes(&[1, 2]), new_dir);
        assert_eq!(shape(&moving), [vec![1, 2, 3], vec![], vec![3], vec![1, 2, 3]]);
        begin(&mut moving, &nodes(&[1, 2, 3, 4]), new_dir);
        assert_eq!(shape(&moving), [vec![1, 2, 3, 4], vec![4], vec![], vec![1, 2, 3]]);
    }

    #[test]
    fn reverting() {
        let mut moving = partition(&[1, 2, 3], &[2, 3]);
        begin(&mut moving, &nodes(&[3, 4, 5]), new_dir);
        moving.isr = nodes(&[2, 3, 4]);
        let mut unclean = moving.clone();
        assert!(!revert(&mut moving));
        assert_eq!(shape(&moving), [vec![3, 1, 2], vec![], vec![], vec![2, 3]]);
        unclean.isr = nodes(&[4, 5]);
        assert!(revert(&mut unclean));
        assert_eq!(shape(&unclean), [vec![3, 1, 2], vec![], vec![], vec![3]]);
    }
}
