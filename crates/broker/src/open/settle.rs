//! What the log directories hold, against what the cluster knows: logs that are here to stay, copies that were on their way to be logs, and
//! everything else.
//!
//! The one tricky idea: a move between directories may have been cut off anywhere. As long as its copy is called one, the log is where it was.
//! If both have the log's name, the copy was whole when it got it, and the controller knew of it before.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_metadata::{Image, Partition as Described};
use ottla_protocol::Uuid;
use ottla_protocol::ids::{NodeId, PartitionId};
use ottla_storage::{LogDirError, PartitionDirKind, PartitionName};

use super::{CLUSTER_METADATA_DIR, OpenError};
use crate::Broker;
use crate::effect::{Effects, Millis};
use crate::store::Root;
use ottla_metadata::topic_name::CLUSTER_METADATA;

/// The directories in which there is a log of a name.
type Homes = BTreeMap<PartitionName, Vec<Arc<Root>>>;

impl Broker {
    /// Puts directories aside that belong to no topic (any more), and removes those that were being deleted.
    pub(super) fn settle_directories(
        &self,
        image: &Image,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(), OpenError> {
        let mut homes = Homes::new();
        for root in self.store.online() {
            match self.settle_directory(root, image, now) {
                Ok(kept) => {
                    kept.into_iter().for_each(|name| homes.entry(name).or_default().push(root.clone()))
                }
                Err(error) if self.can_do_without(root) => self.store.fail(root, &error),
                Err(error) => return Err(error),
            }
        }
        // One log for each replica.
        for (name, found) in homes.iter_mut().filter(|(_, found)| found.len() > 1) {
            let PartitionName { topic, partition } = name;
            let assigned = self.assigned_in(image, name);
            let right = found.iter().position(|root| Some(root.id()) == assigned).unwrap_or(0);
            found.swap(0, right);
            for root in found.drain(1..) {
                self.store.report(format!(
                    "{}: another log directory holds {name} as well; this one is set aside",
                    root.partition_dir(topic, *partition).display()
                ));
                let aside = root.set_aside(topic, *partition, PartitionDirKind::Stray, now as u128);
                aside.map_err(|error| OpenError::Damaged(error.to_string()))?;
            }
        }
        for root in self.store.online() {
            if let Err(error) = self.settle_futures(root, image, &mut homes, now) {
                match self.can_do_without(root) {
                    true => self.store.fail(root, &error),
                    false => return Err(error),
                }
            }
        }
        for root in self.store.online() {
            root.retain_hints(|name| {
                let is_home = |found: &Vec<Arc<Root>>| found.iter().any(|home| Arc::ptr_eq(home, root));
                name.topic == CLUSTER_METADATA || homes.get(name).is_some_and(is_home)
            });
            if let Err(error) = root.sync() {
                let error = LogDirError::Io(root.path().to_owned(), error);
                match self.can_do_without(root) {
                    true => self.store.fail(root, &error),
                    false => return Err(OpenError::Directory(error)),
                }
            }
        }
        self.upkeep.retain(|name| homes.contains_key(name));
        self.on_dirs_failed(now, out);
        Ok(())
    }

    /// Whether the node can go on if this directory fails.
    fn can_do_without(&self, root: &Arc<Root>) -> bool {
        !Arc::ptr_eq(root, self.store.metadata_root())
            && self.store.homes().any(|other| !Arc::ptr_eq(other, root))
    }

    /// Returns the partitions that live in the directory.
    fn settle_directory(
        &self,
        root: &Arc<Root>,
        image: &Image,
        now: Millis,
    ) -> Result<Vec<PartitionName>, OpenError> {
        let mut kept = Vec::new();
        for found in root.dir().partitions()? {
            let (topic, index) = (&found.partition.topic, found.partition.partition);
            let path = root.path().join(&found.name);
            let io = |error| OpenError::Directory(LogDirError::Io(path.clone(), error));
            match found.kind {
                PartitionDirKind::Delete => self.store.disk().remove_dir_all(&path).map_err(io)?,
                PartitionDirKind::Current if found.name != CLUSTER_METADATA_DIR => {
                    let id = root.topic_id_in(&path).map_err(io)?;
                    if root.holds_partitions && is_of_image(image, &found.partition, id) {
                        kept.push(found.partition.clone());
                    } else {
                        // A stray stays: one that was found at an earlier start may be of the same partition.
                        root.set_aside(topic, index, PartitionDirKind::Stray, self.moves.unique(now))
                            .map_err(|error| OpenError::Damaged(format!("{}: {error}", path.display())))?;
                    }
                }
                _ => {}
            }
        }
        Ok(kept)
    }

    /// Decides about the copies that a directory holds: which are followed up, which are the log by now, and which are of no use.
    fn settle_futures(
        &self,
        root: &Arc<Root>,
        image: &Image,
        homes: &mut Homes,
        now: Millis,
    ) -> Result<(), OpenError> {
        for (name, found) in root.futures() {
            let io = |error| OpenError::Directory(LogDirError::Io(found.path.clone(), error));
            let id = root.topic_id_in(&found.path).map_err(io)?;
            let is_ours = root.holds_partitions && is_of_image(image, &name, id);
            let is_assigned = self.assigned_in(image, &name) == Some(root.id());
            // The log may be in a directory that is not there; it has more than its copy.
            let may_be_elsewhere = self.store.is_incomplete();
            let is_first = !self
                .store
                .homes()
                .take_while(|other| !Arc::ptr_eq(other, root))
                .any(|other| other.future(&name).is_some());
            match homes.get(&name) {
                Some(home) if is_ours && is_first && !home.iter().any(|home| Arc::ptr_eq(home, root)) => {}
                None if is_ours && may_be_elsewhere => {}
                None if is_ours && is_assigned => {
                    root.promote_future(&name).map_err(io)?;
                    homes.entry(name.clone()).or_default().push(root.clone());
                    self.store.report(format!(
                        "{name} is what was copied of it to {}: the directory from which it moved is gone",
                        root.path().display()
                    ));
                }
                _ => {
                    let aside = root.set_future_aside(&name, &found.path, self.moves.unique(now));
                    let aside = aside.map_err(|error| OpenError::Damaged(error.to_string()))?;
                    if let Some(path) = aside {
                        self.store.disk().remove_dir_all(&path).map_err(io)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The directory in which the controller believes this node's replica to be.
    fn assigned_in(&self, image: &Image, name: &PartitionName) -> Option<Uuid> {
        let topic = image.topic_by_name(&name.topic)?;
        let state: &Described = topic.partitions.get(&PartitionId(name.partition))?;
        state.directory_of(NodeId(self.config.node_id))
    }
}

/// Whether a directory that names this topic is of a partition that there is.
fn is_of_image(image: &Image, name: &PartitionName, id: Option<Uuid>) -> bool {
    let described = image.topic_by_name(&name.topic);
    described.is_some_and(|topic| name.partition < topic.partition_count() && Some(topic.id.0) == id)
}
