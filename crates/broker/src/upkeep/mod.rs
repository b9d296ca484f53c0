//! Upkeep of the logs: what has to be done to them from time to time, whatever clients do. Retention deletes, compaction rewrites, and
//! files that nobody may need any more are removed.
//!
//! The one tricky idea: the broker says *that* a chore is due ([`crate::Effect::Chore`]) and does it when a background thread comes back
//! with it. A chore looks for itself what there is to do, so one that is late, or lost with the process, costs nothing.

mod compaction;
mod retention;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ottla_metadata::config::BrokerConfig;
use ottla_storage::{Checkpoint, DeleteJob, HashSecret, LogDirError, Pace, PartitionName, StorageError};

use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::Partition;
use crate::sessions::lock;
use crate::store::{Root, Store};

/// Work for a background thread; it may take minutes.
#[derive(Debug)]
pub struct Chore(Kind);

#[derive(Debug)]
enum Kind {
    Retention,
    Compaction,
    Removal(Vec<Doomed>),
    Copy(Arc<Partition>),
}

/// What is to be removed once nobody may need it any more.
#[derive(Debug)]
pub(crate) enum Doomed {
    /// The directory of a deleted partition.
    Directory(PathBuf),
    /// Files of deleted segments.
    Segments(DeleteJob),
}

/// Files that one turn removes.
const REMOVALS_PER_TURN: usize = 512;
/// Files of a segment: records, indexes, aborted transactions, producers.
const FILES_PER_SEGMENT: usize = 5;

/// When chores are due, and what is known between them.
#[derive(Debug)]
pub(crate) struct Upkeep {
    secret: HashSecret,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: it is being done.
    retention_at: Option<Millis>,
    /// Where its next turn goes on; `None`: with the first log.
    retention_from: Option<PartitionName>,
    /// The same for logs that are compacted as well.
    compacted_from: Option<PartitionName>,
    compaction_at: Millis,
    compactions: i32,
    /// Partitions that are being compacted.
    busy: BTreeSet<PartitionName>,
    /// Partitions that compaction failed on; they are left alone until the node is started again.
    uncleanable: BTreeSet<PartitionName>,
    /// Up to where partitions are compacted.
    cleaned: BTreeMap<PartitionName, i64>,
    /// Something in `cleaned` is not on disk.
    cleaned_changed: bool,
}

impl Upkeep {
    pub(crate) fn new(
        config: &BrokerConfig,
        cleaned: BTreeMap<PartitionName, i64>,
        secret: HashSecret,
        now: Millis,
    ) -> Upkeep {
        let state = State {
            retention_at: Some(now + config.retention.initial_delay_ms),
            retention_from: None,
            compacted_from: None,
            compaction_at: now + config.cleaner.backoff_ms,
            compactions: 0,
            busy: BTreeSet::new(),
            uncleanable: BTreeSet::new(),
            cleaned,
            cleaned_changed: false,
        };
        Upkeep { secret, state: Mutex::new(state) }
    }

    /// Asks for the chores that are due, and for the next tick.
    pub(crate) fn plan(&self, config: &BrokerConfig, now: Millis, out: &mut Effects) {
        let mut state = lock(&self.state);
        if state.retention_at.take_if(|at| *at <= now).is_some() {
            out.push(Effect::Chore(Chore(Kind::Retention)));
        }
        let may_compact = config.cleaner.enabled && state.compactions < config.cleaner.threads;
        if may_compact && state.compaction_at <= now {
            state.compactions += 1;
            // If there is enough to do for more than one thread, the others join one by one.
            state.compaction_at = now + config.cleaner.backoff_ms.max(1);
            out.push(Effect::Chore(Chore(Kind::Compaction)));
        }
        let compaction_at = may_compact.then_some(state.compaction_at);
        if let Some(at) = state.retention_at.into_iter().chain(compaction_at).min() {
            out.push(Effect::Tick { at });
        }
    }

    /// A log lives elsewhere: so does what is known of its compaction.
    pub(crate) fn on_moved(&self) {
        lock(&self.state).cleaned_changed = true;
    }

    /// Whether the log is being compacted.
    pub(crate) fn is_busy(&self, name: &PartitionName) -> bool {
        lock(&self.state).busy.contains(name)
    }

    /// Forgets partitions that are gone: what is known of them must not be taken for the next ones of their names.
    pub(crate) fn forget<'p>(&self, gone: impl Iterator<Item = &'p Arc<Partition>>) {
        let mut state = lock(&self.state);
        for name in gone.map(|partition| name_of(partition)) {
            state.uncleanable.remove(&name);
            state.cleaned_changed |= state.cleaned.remove(&name).is_some();
        }
    }

    /// Forgets all but those that were found when the node started.
    pub(crate) fn retain(&self, keep: impl Fn(&PartitionName) -> bool) {
        let mut state = lock(&self.state);
        let known = state.cleaned.len();
        state.cleaned.retain(|name, _| keep(name));
        state.cleaned_changed |= state.cleaned.len() != known;
    }

    /// Writes down up to where partitions are compacted, if that changed, each in the directory in which it lives. Returns where it failed.
    pub(crate) fn write_checkpoint(
        &self,
        store: &Store,
        lives_in: impl Fn(&Root, &PartitionName) -> bool,
    ) -> Vec<(Arc<Root>, LogDirError)> {
        let mut state = lock(&self.state);
        if !std::mem::take(&mut state.cleaned_changed) {
            return Vec::new();
        }
        let write = |root: &Arc<Root>| {
            let here = state.cleaned.iter().filter(|(name, _)| lives_in(root, name));
            let here = here.map(|(name, offset)| (name.clone(), *offset)).collect();
            let written = root.dir().write_checkpoint(Checkpoint::Cleaner, &here);
            written.err().map(|error| (root.clone(), error))
        };
        let failed: Vec<_> = store.homes().filter_map(write).collect();
        state.cleaned_changed = !failed.is_empty();
        failed
    }
}

impl Chore {
    pub(crate) fn removal(doomed: Vec<Doomed>) -> Chore {
        Chore(Kind::Removal(doomed))
    }

    /// To go on with the move of a partition's log.
    pub(crate) fn copy(partition: Arc<Partition>) -> Chore {
        Chore(Kind::Copy(partition))
    }
}

impl Broker {
    /// Performs an [`Effect::Chore`], on a thread that may wait for the disk and for `pace`.
    pub fn on_chore(&self, chore: Chore, pace: &dyn Pace, now: Millis, out: &mut Effects) {
        match chore.0 {
            Kind::Retention => self.retain_all(now, out),
            Kind::Compaction => self.compact_dirtiest(pace, now, out),
            Kind::Removal(doomed) => self.remove(doomed, now, out),
            Kind::Copy(partition) => self.advance_move(&partition, pace, now, out),
        }
        self.on_dirs_failed(now, out);
    }

    /// Removes a turn's worth of files; what is left comes again at once, after whatever else waits for the thread.
    fn remove(&self, doomed: Vec<Doomed>, now: Millis, out: &mut Effects) {
        let mut files_left = REMOVALS_PER_TURN;
        for doomed in doomed {
            if files_left == 0 {
                self.store.doom(doomed, now, out);
                continue;
            }
            match self.remove_some(doomed, &mut files_left) {
                Ok(None) => {}
                Ok(Some(rest)) => self.store.doom(rest, now, out),
                Err(error) => {
                    out.push(Effect::Report(format!("what was deleted can not be removed: {error}")));
                }
            }
        }
    }

    /// Removes so many files at most, about. Returns what is left.
    fn remove_some(&self, doomed: Doomed, files_left: &mut usize) -> Result<Option<Doomed>, String> {
        match doomed {
            Doomed::Directory(path) => {
                let disk = self.store.disk();
                let names = disk.list(&path).unwrap_or_default();
                let are_many = names.len() > *files_left;
                let removed = match are_many {
                    true => {
                        names[..*files_left].iter().try_for_each(|name| disk.remove_file(&path.join(name)))
                    }
                    false => disk.remove_dir_all(&path),
                };
                removed.map_err(|error| format!("{}: {error}", path.display()))?;
                *files_left = files_left.saturating_sub(names.len().max(1));
                Ok(are_many.then_some(Doomed::Directory(path)))
            }
            Doomed::Segments(mut job) => {
                let rest = job.split_off(files_left.div_ceil(FILES_PER_SEGMENT));
                *files_left = files_left.saturating_sub(job.segments() * FILES_PER_SEGMENT);
                job.remove().map_err(|error| error.to_string())?;
                Ok((!rest.is_empty()).then_some(Doomed::Segments(rest)))
            }
        }
    }

    /// Makes a new log start durable, and then sets aside the files that lie before it. They are removed after `file.delete.delay.ms`.
    pub(crate) fn dispose_of(
        &self,
        deleted: Vec<(Arc<Partition>, DeleteJob)>,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(), String> {
        // A crash in between finds the files below the log start and removes them. On a full disk there may be no space for a checkpoint,
        // and this is what makes some.
        let unwritten = self.write_checkpoints(now);
        let mut failed = None;
        for (partition, mut job) in deleted {
            let home = partition.root();
            let why = home.as_ref().and_then(|root| unwritten.get(&root.id()));
            if let Some(why) = why {
                failed = Some(why.clone());
            }
            if job.is_empty() || home.as_ref().is_none_or(|root| root.is_offline()) {
                continue;
            }
            match partition.mark_deleted(&mut job, why.is_none()) {
                Ok(()) => {
                    let at = now + partition.settings().file_delete_delay_ms;
                    self.store.doom(Doomed::Segments(job), at, out);
                }
                Err(error) => {
                    self.on_storage_error(&partition, &error);
                    failed = Some(error.to_string());
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Background work on a partition's log met an error, which may be the end of its directory.
    pub(crate) fn on_storage_error(&self, partition: &Partition, error: &StorageError) {
        if let Some(root) = partition.root() {
            self.store.fail_if_broken(&root, error);
        }
    }
}

fn name_of(partition: &Partition) -> PartitionName {
    PartitionName::new(&*partition.topic.name, partition.index)
}
