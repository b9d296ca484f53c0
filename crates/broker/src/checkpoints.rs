//! The checkpoints of the log directories: recovery points, log starts, high watermarks, and how far logs are compacted.
//!
//! The one tricky idea: checkpoints go by name and by directory. A partition that moved is written down where it lives now, and no longer
//! where it lived before; what is known of a log is therefore collected for all directories in one look at the topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_metadata::topic_name::CLUSTER_METADATA;
use ottla_protocol::Uuid;
use ottla_storage::{CloseSync, LogDirError, PartitionName, StorageError};

use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Checkpointed, Partition};
use crate::store::Root;
use crate::topics::Topics;

/// From how many logs on that have to be written out one sync of all that is on their file system is less work than one for each.
const TREE_FROM: usize = 256;

/// Why checkpoints could not be written, by the directory's id.
pub(crate) type Unwritten = BTreeMap<Uuid, StorageError>;

/// What there is to write down of a log, and where.
type Look = (Arc<Root>, Result<Checkpointed, String>);

impl Broker {
    /// Writes the checkpoints of all logs. May wait for the disk. Returns for which directories it failed.
    pub(crate) fn write_checkpoints(&self, now: Millis) -> Unwritten {
        let look = |partition: &Partition| {
            let known = [partition.checkpoint(now), partition.checkpoint_future()];
            known.map(|known| known.map(|(root, known)| (root, Ok(known))))
        };
        self.checkpoint(look, |_| Ok(())).0
    }

    /// Closes all logs, and writes the checkpoints. Waits for the disk. Returns what went wrong.
    pub(crate) fn close_logs(&self) -> Vec<String> {
        // What is written now may be more than a full disk has space for.
        for root in self.store.online() {
            root.reserve.give_up();
        }
        let topics = self.topics();
        let changed = topics.iter().flat_map(|topic| &topic.partitions).filter(|log| log.is_changed());
        let (sync, many) = match changed.take(TREE_FROM).count() {
            TREE_FROM => (CloseSync::Tree, true),
            _ => (CloseSync::Files, false),
        };
        let settle = |root: &Root| if many { root.sync_tree() } else { Ok(()) };
        let (unwritten, mut failures) =
            self.checkpoint(|partition| [partition.close(sync), partition.close_future(sync)], settle);
        failures.extend(unwritten.into_values().map(|error| error.to_string()));
        failures
    }

    fn checkpoint(
        &self,
        look: impl Fn(&Partition) -> [Option<Look>; 2],
        settle: impl Fn(&Root) -> Result<(), LogDirError>,
    ) -> (Unwritten, Vec<String>) {
        // A log that is opened between these two looks is in both, never in neither.
        let mut passes: Vec<_> =
            self.store.online().map(|root| (root, root.begin_checkpoints(), root.unopened())).collect();
        let (topics, mut failures) = (self.topics(), Vec::new());
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            // Its log, and the copy of it that moves elsewhere.
            for (root, looked) in look(partition).into_iter().flatten() {
                let (recovery_point, log_start, high_watermark) = match looked {
                    Ok(looked) => looked,
                    Err(failure) => {
                        failures.push(failure);
                        continue;
                    }
                };
                if let Some((.., known)) = passes.iter_mut().find(|(of, ..)| of.id() == root.id()) {
                    let name = PartitionName::new(&*partition.topic.name, partition.index);
                    known.note(name, recovery_point, log_start, Some(high_watermark));
                }
            }
        }
        let mut unwritten = Unwritten::new();
        for (root, pass, mut known) in passes {
            known.retain(|name| lives_in(&topics, root, name));
            if let Err(error) = settle(root).and_then(|()| pass.write(&known)) {
                self.store.fail_if_broken(root, &error);
                unwritten.insert(root.id(), std::io::Error::other(error).into());
            }
        }
        (unwritten, failures)
    }

    /// Partitions were deleted: makes durable that their names are free. Waits for the disk.
    pub(crate) fn forget_deleted(&self, out: &mut Effects) {
        for root in self.store.online() {
            let synced = root.sync().map_err(|error| LogDirError::Io(root.path().to_owned(), error));
            if let Err(error) = synced.and_then(|()| root.forget()) {
                self.store.fail_if_broken(root, &error);
                out.push(Effect::Report(error.to_string()));
            }
        }
        self.write_cleaner_checkpoints(out);
    }

    /// Writes down how far logs are compacted, if that changed.
    pub(crate) fn write_cleaner_checkpoints(&self, out: &mut Effects) {
        let topics = self.topics();
        let lives_in = |root: &Root, name: &PartitionName| lives_in(&topics, root, name);
        for (root, error) in self.upkeep.write_checkpoint(&self.store, lives_in) {
            self.store.fail_if_broken(&root, &error);
            out.push(Effect::Report(format!("the end of compaction is not written down: {error}")));
        }
    }
}

/// Whether a partition is there, and has its replica in that directory, or a copy on its way to be that.
fn lives_in(topics: &Topics, root: &Root, name: &PartitionName) -> bool {
    if name.topic == CLUSTER_METADATA {
        return true;
    }
    let partition = topics.partition_by_name(&name.topic, name.partition);
    partition.is_ok_and(|partition| {
        let is_here = |home: Arc<Root>| home.id() == root.id();
        partition.root().is_some_and(is_here)
            || partition.moving().is_some_and(|(future, _)| is_here(future.root.clone()))
    })
}
