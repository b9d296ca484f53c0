//! What a node finds of its cluster when it starts: the newest snapshot, the metadata log behind it, or else what `format` left.
//!
//! ```text
//!   0000…0500-0000000003.checkpoint   the image as of offset 500
//!   0000…0000.log                     [ …… | 500 …… 730 )       replayed from 500 on
//!   0000…0000-0000000000.checkpoint   first records of a cluster that has no log yet (Kafka's `format`)
//!   bootstrap.checkpoint              the same, one directory above, as Kafka 3 left it
//! ```
//!
//! The one tricky idea: a snapshot is read like a log, batch by batch; only that all of its records count as the last one it contains.

use std::path::Path;

use bytes::Bytes;
use ottla_metadata::{Image, Replayer};
use ottla_protocol::messages::metadata_record::MetadataRecord;
use ottla_protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use ottla_protocol::records::{self, Batch, ControlKey, ControlType, Record};
use ottla_protocol::{Message, Reader};
use ottla_raft::Control;
use ottla_storage::disk::read_file;
use ottla_storage::{
    Disk, Log, SnapshotId, SnapshotState, list_snapshots, open_snapshot, remove_partial_snapshots,
    remove_snapshot,
};

use super::log::Uncommitted;
use super::snapshots::Known;
use super::wire::controls;

/// Bytes read at once while the metadata log is replayed.
const REPLAY_BYTES: usize = 8 << 20;
/// Bytes of one decompressed batch of the metadata log.
const REPLAY_BATCH_BYTES_MAX: usize = 64 << 20;
/// Bytes within which the first batch of a snapshot ends: it holds nothing but control records.
const HEADER_BYTES: u64 = 1 << 20;
/// The checkpoint that `format` writes next to the log.
const FIRST: SnapshotId = SnapshotId { end_offset: 0, leader_epoch: 0 };
/// The checkpoint that `format` wrote into the log directory before Kafka 4.2.
const BOOTSTRAP_CHECKPOINT: &str = "bootstrap.checkpoint";

/// Everything that a node finds.
#[derive(Debug)]
pub(super) struct History {
    /// The image of the newest snapshot: what is surely committed.
    pub replayer: Replayer,
    /// What raft obeys, by offset; records of snapshots have the offset before its end.
    pub control: Vec<(i64, Control)>,
    /// The log behind the snapshot, which may or may not be committed.
    pub tail: Vec<Uncommitted>,
    /// Values of the records that begin a log which has none; empty if `format` left nothing.
    pub bootstrap: Vec<Bytes>,
    /// Complete snapshots, oldest first.
    pub snapshots: Vec<Known>,
    /// When the last batch was appended that the newest snapshot contains.
    pub last_timestamp: i64,
}

impl History {
    /// Reads everything. What an interrupted writer of a snapshot left behind is removed.
    pub fn read(
        disk: &dyn Disk,
        dir: &Path,
        log: &mut Log,
        cluster_id: &str,
        now: i64,
    ) -> Result<Self, String> {
        remove_partial_snapshots(disk, dir).map_err(|error| error.to_string())?;
        let mut history = History {
            replayer: Replayer::new(Image::empty(cluster_id)),
            control: Vec::new(),
            tail: Vec::new(),
            bootstrap: Vec::new(),
            snapshots: Vec::new(),
            last_timestamp: 0,
        };
        let found = list_snapshots(disk, dir).map_err(|error| error.to_string())?;
        let (first, ids): (Vec<_>, Vec<_>) = found.into_iter().partition(|id| *id == FIRST);
        history.begin_with_format(disk, dir, !first.is_empty())?;
        for id in ids {
            let (bytes, timestamp) = read_header(disk, dir, id)?;
            history.snapshots.push(Known { id, bytes, timestamp });
        }
        let newest = history.snapshots.last().map(|known| known.id);
        if let Some(id) = newest {
            let loaded = load_snapshot(disk, dir, id, cluster_id)?;
            (history.replayer, history.last_timestamp) = (loaded.replayer, loaded.known.timestamp);
            history.control.extend(loaded.control.into_iter().map(|control| (id.end_offset - 1, control)));
            // A follower that fetched a snapshot and died before it cut its log, or before it dropped what contradicts it.
            let before = log.epoch_at(id.end_offset - 1);
            let contradicts = before.is_some_and(|epoch| epoch != id.leader_epoch);
            if id.end_offset > log.log_end_offset() || contradicts {
                log.truncate_fully_and_start_at(id.end_offset, now).map_err(|error| error.to_string())?;
            }
        }
        let start = newest.map_or(0, |id| id.end_offset);
        if log.log_start_offset() > start {
            return Err(format!(
                "the metadata log begins at offset {} and no snapshot holds what was before it",
                log.log_start_offset()
            ));
        }
        // What is behind the start of the log was overtaken by a snapshot that this node fetched.
        let overtaken = |known: &mut Known| known.id.end_offset < log.log_start_offset();
        for known in history.snapshots.extract_if(.., overtaken).collect::<Vec<_>>() {
            remove_snapshot(disk, dir, known.id).map_err(|error| error.to_string())?;
        }
        history.read_log(log, start)?;
        history.replayer.take_delta();
        Ok(history)
    }

    /// Whether `format` left the directory to a node that learns from others who votes (`--no-initial-controllers`): a quorum that can
    /// change, and nobody in it. Such a node must not take itself for the only voter.
    pub fn joins(&self) -> bool {
        let first = self.control.iter().filter(|(offset, _)| *offset == -1);
        let (mut changes, mut names) = (false, false);
        for (_, control) in first {
            match control {
                Control::KRaftVersion(level) => changes |= *level > 0,
                Control::Voters(_) => names = true,
            }
        }
        changes && !names
    }

    fn begin_with_format(&mut self, disk: &dyn Disk, dir: &Path, has_first: bool) -> Result<(), String> {
        let mut values = Vec::new();
        let legacy = dir.parent().map(|root| root.join(BOOTSTRAP_CHECKPOINT));
        if let Some(path) = legacy
            && disk.exists(&path).map_err(|error| error.to_string())?
        {
            read_checkpoint(disk, &path, &mut |record| values.push(record))?;
        }
        if has_first {
            let mut newer = Vec::new();
            let path = dir.join(FIRST.file_name(SnapshotState::Complete));
            let control = read_checkpoint(disk, &path, &mut |record| newer.push(record))?;
            self.control.extend(control.into_iter().map(|control| (-1, control)));
            if values.is_empty() {
                values = newer;
            }
        }
        self.bootstrap = values;
        Ok(())
    }

    fn read_log(&mut self, log: &mut Log, start: i64) -> Result<(), String> {
        let mut offset = start;
        while offset < log.log_end_offset() {
            let end = log.log_end_offset();
            let chunk = log.read(offset, REPLAY_BYTES, end, true).map_err(|error| error.to_string())?;
            let bytes = chunk.records.read().map_err(|error| error.to_string())?;
            let before = offset;
            for batch in records::batches(&bytes) {
                let batch = batch.map_err(|error| error.to_string())?;
                if batch.next_offset() <= offset {
                    continue;
                }
                if batch.base_offset < start {
                    return Err(format!("the snapshot at offset {start} ends within a batch of the log"));
                }
                offset = batch.next_offset();
                self.control.extend(controls(&batch)?);
                self.tail.push(Uncommitted::read(&batch, &bytes));
            }
            if offset == before {
                return Err(format!("there is no batch at offset {offset}"));
            }
        }
        Ok(())
    }
}

/// A snapshot as it was found, or fetched.
pub(super) struct LoadedSnapshot {
    pub replayer: Replayer,
    pub control: Vec<Control>,
    pub known: Known,
}

/// Replays a whole snapshot. Waits for the disk.
pub(super) fn load_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    id: SnapshotId,
    cluster_id: &str,
) -> Result<LoadedSnapshot, String> {
    let name = id.file_name(SnapshotState::Complete);
    let (bytes, timestamp) = read_header(disk, dir, id)?;
    let mut values = Vec::new();
    let control = read_checkpoint(disk, &dir.join(&name), &mut |value| values.push(value))?;
    let mut replayer = Replayer::new(Image::empty(cluster_id));
    for value in values {
        let replayed = replay(&mut replayer, &value, id.end_offset - 1);
        replayed.map_err(|error| format!("{name}: {error}"))?;
    }
    replayer.take_delta();
    Ok(LoadedSnapshot { replayer, control, known: Known { id, bytes, timestamp } })
}

/// Hands the values of a checkpoint's records to `visit`; returns what raft obeys in it.
fn read_checkpoint(
    disk: &dyn Disk,
    path: &Path,
    visit: &mut dyn FnMut(Bytes),
) -> Result<Vec<Control>, String> {
    let bytes = Bytes::from(read_file(disk, path).map_err(|error| error.to_string())?);
    let failed = |error: String| format!("{}: {error}", path.display());
    let (mut is_whole, mut control) = (false, Vec::new());
    for batch in records::batches(&bytes) {
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        batch.verify_crc().map_err(|error| failed(error.to_string()))?;
        let visited = visit_batch(&batch, &mut |record| {
            visit(Bytes::copy_from_slice(value_of(record)?));
            Ok(())
        });
        visited.map_err(failed)?;
        control.extend(controls(&batch).map_err(failed)?.into_iter().map(|(_, control)| control));
        is_whole = holds(&batch, ControlType::SnapshotFooter);
    }
    if is_whole { Ok(control) } else { Err(failed("the snapshot is cut off".to_owned())) }
}

/// Hands the records of a batch to `visit`, except those that concern the quorum itself.
fn visit_batch(
    batch: &Batch<'_>,
    visit: &mut dyn FnMut(&Record<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if batch.is_control() {
        return Ok(());
    }
    let set = batch.records(REPLAY_BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
    for record in set.iter() {
        visit(&record.map_err(|error| format!("{error:?}"))?)?;
    }
    Ok(())
}

/// Replays a batch of the log.
pub(super) fn replay_batch(replayer: &mut Replayer, bytes: &[u8]) -> Result<(), String> {
    let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
    visit_batch(&batch, &mut |record| replay(replayer, value_of(record)?, record.offset))
}

fn replay(replayer: &mut Replayer, value: &[u8], offset: i64) -> Result<(), String> {
    let at = |error: &dyn std::fmt::Display| format!("the record at offset {offset}: {error}");
    let record = MetadataRecord::decode_framed(value).map_err(|error| at(&error))?;
    replayer.replay(&record, offset).map_err(|error| at(&error))
}

fn value_of<'r>(record: &Record<'r>) -> Result<&'r [u8], String> {
    record.value.ok_or_else(|| format!("the record at offset {} has no value", record.offset))
}

/// Whether a control record of that type is in the batch.
fn holds(batch: &Batch<'_>, control_type: ControlType) -> bool {
    if !batch.is_control() {
        return false;
    }
    let Ok(set) = batch.records(REPLAY_BATCH_BYTES_MAX) else { return false };
    set.iter()
        .map_while(Result::ok)
        .any(|record| ControlKey::read(record.key).is_ok_and(|key| key.control_type() == Some(control_type)))
}

/// A snapshot's size, and when the last batch was appended that it contains.
fn read_header(disk: &dyn Disk, dir: &Path, id: SnapshotId) -> Result<(u64, i64), String> {
    let path = dir.join(id.file_name(SnapshotState::Complete));
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = open_snapshot(disk, dir, id).map_err(|error| failed(&error))?;
    let size = file.len().map_err(|error| failed(&error))?;
    let mut bytes = vec![0; size.min(HEADER_BYTES) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(|error| failed(&error))?;
    let batch = records::batches(&bytes).next().ok_or_else(|| failed(&"the snapshot is empty"))?;
    let batch = batch.map_err(|error| failed(&error))?;
    let set = batch.records(REPLAY_BATCH_BYTES_MAX).map_err(|error| failed(&error))?;
    for record in set.iter() {
        let record = record.map_err(|error| failed(&format_args!("{error:?}")))?;
        let key = ControlKey::read(record.key).map_err(|error| failed(&error))?;
        if batch.is_control() && key.control_type() == Some(ControlType::SnapshotHeader) {
            let value = record.value.unwrap_or_default();
            let header: SnapshotHeaderRecord = read(value, "the header").map_err(|error| failed(&error))?;
            return Ok((size, header.last_contained_log_timestamp));
        }
    }
    Err(failed(&"the snapshot has no header"))
}

fn read<'a, M: Message<'a>>(value: &'a [u8], what: &str) -> Result<M, String> {
    M::decode(&mut Reader::new(value), 0).map_err(|error| format!("{what}: {error}"))
}
