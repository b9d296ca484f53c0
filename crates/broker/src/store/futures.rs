//! Logs that are going to take the place of others in another log directory: how they are made, and found again.
//!
//! The one tricky idea: all of it waits for the disk, and nothing of it is needed by anybody but who copies. So a copy's directory is durable
//! before its first record is, and what is known of its name's past is gone before that.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_metadata::config::TopicConfig;
use ottla_storage::{
    Log, LogConfig, PartitionDirKind, PartitionName, StorageError, write_partition_metadata,
};

use super::{Root, Store};
use crate::effect::Millis;
use crate::partition::Topic;

impl Store {
    /// The copy of a partition's log that was found when the node started, and where.
    pub fn found_future(&self, topic: &str, index: i32) -> Option<(Arc<Root>, PathBuf)> {
        let name = PartitionName::new(topic, index);
        let homes = self.roots.iter().filter(|root| root.holds_partitions);
        homes.filter_map(|root| Some((root.clone(), root.future(&name)?.path))).next()
    }

    /// Makes an empty copy, durably. Waits for the disk.
    pub fn create_future(
        &self,
        root: &Arc<Root>,
        topic: &Topic,
        index: i32,
        settings: &TopicConfig,
        unique: u128,
        now: Millis,
    ) -> Result<(PathBuf, Log), StorageError> {
        let name = PartitionName::new(&*topic.name, index);
        root.forget_predecessor(&name).map_err(std::io::Error::other)?;
        let path = root.named_dir(&topic.name, index, PartitionDirKind::Future, unique);
        self.disk.create_dir_all(&path)?;
        write_partition_metadata(&*self.disk, &path, topic.id)?.sync_data()?;
        self.disk.sync_dir(&path)?;
        root.sync()?;
        let log = Log::create(self.disk.clone(), path.clone(), self.future_config(settings), now);
        Ok((path, log))
    }

    /// Opens a copy that was found. Everything in it is durable by then. Waits for the disk.
    pub fn open_future(
        &self,
        root: &Root,
        topic: &Topic,
        index: i32,
        settings: &TopicConfig,
        now: Millis,
    ) -> Result<Log, StorageError> {
        let name = PartitionName::new(&*topic.name, index);
        let found = root.future(&name).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        root.claim(&found.path, topic.id, found.hints())?;
        self.open(&found.path, self.future_config(settings), found.hints(), now)
    }

    /// Nobody reads it before it is the log.
    fn future_config(&self, settings: &TopicConfig) -> LogConfig {
        LogConfig { tail_cache_bytes: 0, ..self.log_config(settings) }
    }
}
