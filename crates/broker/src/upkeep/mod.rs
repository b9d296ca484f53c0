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
use crate::store::{DiskError, Root, Store};

/// Work for a background thread; it may take minutes.
#[derive(Debug)]
pub struct Chore(Kind);

#[derive(Debug)]
enum Kind {
    Retention,
    Compaction,
    Removal(Vec<Doomed>),
    Copy(Arc<Partition>),
    Refill,
}

/// What is to be removed once nobody may need it any more, and what failed for want of something and is to be tried again.
#[derive(Debug)]
pub(crate) enum Doomed {
    /// The directory of a deleted partition.
    Directory(PathBuf),
    /// Files of deleted segments, in a directory.
    Segments(Arc<Root>, DeleteJob),
    /// Segments that are deleted, and whose files have their names still.
    Unmarked(Arc<Partition>, DeleteJob),
    /// Directories of deleted partitions that have their names still.
    Names(Arc<Root>),
    /// A log that could not be opened anew.
    Reopening(Arc<Partition>),
}

/// Pause before what failed for want of something is tried again.
const RETRY_MS: Millis = 1000;

/// Whether reserves of directories are to be filled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refill {
    /// All are whole.
    Needless,
    At(Millis),
    Running,
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
    refill: Refill,
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
            refill: Refill::Needless,
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
        let refill_at = match state.refill {
            Refill::At(at) if at <= now => {
                state.refill = Refill::Running;
                out.push(Effect::Chore(Chore(Kind::Refill)));
                None
            }
            Refill::At(at) => Some(at),
            Refill::Needless | Refill::Running => None,
        };
        if let Some(at) = state.retention_at.into_iter().chain(compaction_at).chain(refill_at).min() {
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
            let written = root.reserve.spend(|| root.dir().write_checkpoint(Checkpoint::Cleaner, &here));
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
            Kind::Refill => self.refill(now, out),
            Kind::Copy(partition) => self.advance_move(&partition, pace, now, out),
        }
        self.on_dirs_failed(now, out);
    }

    /// Removes a turn's worth of files; what is left comes again at once, after whatever else waits for the thread.
    fn remove(&self, doomed: Vec<Doomed>, now: Millis, out: &mut Effects) {
        let mut files_left = REMOVALS_PER_TURN;
        for doomed in doomed {
            match doomed {
                doomed if files_left == 0 => self.store.doom(doomed, now, out),
                Doomed::Directory(path) => self.remove_directory(path, &mut files_left, now, out),
                Doomed::Segments(root, job) => self.remove_segments(root, job, &mut files_left, now, out),
                Doomed::Unmarked(partition, job) => {
                    let disposed = self.dispose_of(vec![(partition, job)], now, out);
                    out.extend(disposed.err().map(Effect::Report));
                }
                Doomed::Names(root) => self.clear_names(&root, now, out),
                Doomed::Reopening(partition) => self.reopen(&partition, now, out),
            }
        }
    }

    /// Removes so many files at most, about.
    fn remove_directory(&self, path: PathBuf, files_left: &mut usize, now: Millis, out: &mut Effects) {
        let disk = self.store.disk();
        let names = disk.list(&path).unwrap_or_default();
        let are_many = names.len() > *files_left;
        let removed = match are_many {
            true => names[..*files_left].iter().try_for_each(|name| disk.remove_file(&path.join(name))),
            false => disk.remove_dir_all(&path),
        };
        *files_left = files_left.saturating_sub(names.len().max(1));
        match removed {
            Ok(()) if are_many => self.store.doom(Doomed::Directory(path), now, out),
            Ok(()) => {}
            Err(error) => {
                let home = self.store.roots().iter().find(|root| path.starts_with(root.path())).cloned();
                self.retry(home, &error, Doomed::Directory(path), now, out);
            }
        }
    }

    fn remove_segments(
        &self,
        root: Arc<Root>,
        mut job: DeleteJob,
        files_left: &mut usize,
        now: Millis,
        out: &mut Effects,
    ) {
        let rest = job.split_off(files_left.div_ceil(FILES_PER_SEGMENT));
        *files_left = files_left.saturating_sub(job.segments() * FILES_PER_SEGMENT);
        if !rest.is_empty() {
            self.store.doom(Doomed::Segments(root.clone(), rest), now, out);
        }
        if let Err(error) = job.remove() {
            self.retry(Some(root.clone()), &error, Doomed::Segments(root, job), now, out);
        }
    }

    /// Something could not be removed. For want of something it is tried again later; else the directory fails, or a file is not there.
    fn retry(
        &self,
        root: Option<Arc<Root>>,
        error: &(impl DiskError + std::fmt::Display),
        doomed: Doomed,
        now: Millis,
        out: &mut Effects,
    ) {
        out.push(Effect::Report(format!("what was deleted can not be removed: {error}")));
        if error.meaning().passes() {
            self.store.doom(doomed, now + RETRY_MS, out);
        } else if let Some(root) = root {
            self.store.fail_if_broken(&root, error);
        }
    }

    /// Sets directories of deleted partitions aside that could not be when they were deleted.
    fn clear_names(&self, root: &Arc<Root>, now: Millis, out: &mut Effects) {
        let (cleared, failed) = root.clear_names();
        let any = !cleared.is_empty();
        for path in cleared {
            self.store.doom(Doomed::Directory(path), now, out);
        }
        if let Some(error) = failed {
            self.retry(Some(root.clone()), &error, Doomed::Names(root.clone()), now, out);
        }
        if any {
            self.forget_deleted(out);
        }
    }

    /// Fills the reserves, if there is space. Waits for the disk.
    pub(crate) fn refill(&self, now: Millis, out: &mut Effects) {
        for root in self.store.online() {
            if let Err(error) = root.reserve.refill() {
                self.store.fail_if_broken(root, &error);
                out.push(Effect::Report(format!(
                    "no space can be kept in {}: {error}",
                    root.path().display()
                )));
            }
        }
        lock(&self.upkeep.state).refill = Refill::Needless;
        self.plan_refill(now, out);
    }

    /// Sees to it that reserves that were given up are filled again.
    pub(crate) fn plan_refill(&self, now: Millis, out: &mut Effects) {
        if self.store.online().all(|root| root.reserve.is_whole()) {
            return;
        }
        let mut state = lock(&self.upkeep.state);
        if state.refill == Refill::Needless {
            let at = now + RETRY_MS;
            state.refill = Refill::At(at);
            out.push(Effect::Tick { at });
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
                failed = Some(why.to_string());
            }
            if job.is_empty() {
                continue;
            }
            let Some(home) = home.filter(|root| !root.is_offline()) else { continue };
            match home.reserve.spend(|| partition.mark_deleted(&mut job, why.is_none())) {
                Ok(()) => {
                    let at = now + partition.settings().file_delete_delay_ms;
                    self.store.doom(Doomed::Segments(home, job), at, out);
                }
                Err(error) => {
                    self.on_storage_error(&partition, &error);
                    failed = Some(error.to_string());
                    if error.meaning().passes() {
                        self.store.doom(Doomed::Unmarked(partition, job), now + RETRY_MS, out);
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Background work on a partition's log met an error, which may be the end of the log, or of its directory.
    pub(crate) fn on_storage_error(&self, partition: &Partition, error: &StorageError) {
        partition.look_at_failure(error);
        if let Some(root) = partition.root() {
            self.store.fail_if_broken(&root, error);
        }
    }
}

fn name_of(partition: &Partition) -> PartitionName {
    PartitionName::new(&*partition.topic.name, partition.index)
}
