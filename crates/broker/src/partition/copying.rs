//! The copy of a log that moves to another log directory: it gets the next piece, is cut where the log was cut, and begins where it begins
//! (Kafka: `ReplicaAlterLogDirsThread`).
//!
//! The one tricky idea: the log may change while the copy is written, since its lock is not held meanwhile. So each piece begins by looking at
//! where the two stand, and one that does not fit begins the copy anew.

use std::sync::Arc;

use ottla_protocol::{Chunk, records};
use ottla_storage::{AppendError, AppendOrigin, DeleteJob, Log, ReadError, Slice, StorageError};

use super::Partition;
use super::future::Future;
use super::moving::Obstacle;
use crate::effect::Millis;
use crate::sessions::lock;

/// The most bytes that are copied at a time.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A piece of the log was copied.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Nothing: the copy has what the log has, unless it was cut.
    pub bytes: usize,
    /// The copy was cut off; the checkpoints have to say so before it goes on.
    pub was_cut: bool,
    /// What the copy does not need any more, once its new start is in the checkpoints.
    pub deleted: Option<DeleteJob>,
}

impl Partition {
    /// Copies the next piece of the log, of at least one batch. Waits for the disk.
    pub(crate) fn copy_piece(
        &self,
        future: &Arc<Future>,
        bytes_max: usize,
        now: Millis,
    ) -> Result<Piece, Obstacle> {
        self.settle(now).map_err(Obstacle::Log)?;
        let (cut, was_emptied, start, end, high_watermark) = {
            let core = &mut *self.lock();
            let moving = core.move_of(future).ok_or(Obstacle::Over)?;
            let (cut, was_emptied) = (moving.cut.take(), moving.was_emptied);
            let log = core.log.as_ref().ok_or(Obstacle::Over)?;
            (cut, was_emptied, log.log_start_offset(), log.log_end_offset(), core.high_watermark)
        };
        let (is_apart, at) = {
            let mut slot = lock(&future.log);
            let copy = slot.as_mut().ok_or(Obstacle::Over)?;
            if let Some(cut) = cut.filter(|cut| *cut < copy.log_end_offset()) {
                copy.truncate_to(cut.max(copy.log_start_offset()), now)?;
                return self.after_copy_cut(future, copy, false);
            }
            let is_empty = copy.size() == 0;
            let begins_later = copy.log_start_offset() > start && !is_empty;
            let ends_before = copy.log_end_offset() < start && !(is_empty && was_emptied);
            (begins_later || ends_before, start.max(copy.log_end_offset()))
        };
        let at = if is_apart { start } else { at };
        let slice = match at < end {
            true => self.read_disk(at, bytes_max, end, true).map_err(Obstacle::Log)?,
            false => Slice::empty(at),
        };
        let next_offset = slice.next_offset;
        let bytes = in_memory(slice).map_err(StorageError::from)?;
        // Nobody else has written to it.
        let mut slot = lock(&future.log);
        let copy = slot.as_mut().ok_or(Obstacle::Over)?;
        if is_apart {
            // The log may begin within a batch.
            let first = records::batches(&bytes).next().and_then(Result::ok);
            let base = first.map_or(start, |batch| batch.base_offset.min(start));
            copy.truncate_fully_and_start_at(base, now)?;
            return self.after_copy_cut(future, copy, true);
        }
        if bytes.is_empty() && at < end && next_offset >= end {
            copy.skip_to(end, now)?;
        }
        if !bytes.is_empty() {
            match copy.append(&bytes, AppendOrigin::Replication, -1, now) {
                Ok(_) => {}
                Err(AppendError::Storage(error)) => return Err(error.into()),
                // It can not be told how the two came apart: the copy begins anew.
                Err(error) => {
                    let name = format!("{}-{}", self.topic.name, self.index);
                    self.store.report(format!("{name} is copied anew: {error}"));
                    copy.truncate_fully_and_start_at(start, now)?;
                    return self.after_copy_cut(future, copy, true);
                }
            }
        }
        // What it remembers of transactions that are decided ends with that.
        let _ = copy.last_stable_offset(high_watermark.min(copy.log_end_offset()));
        let start = start.min(copy.log_end_offset()).max(copy.log_start_offset());
        let deleted = copy.advance_log_start_offset(start).map_err(|error| match error {
            ReadError::Storage(error) => Obstacle::Copy(error),
            ReadError::OffsetOutOfRange { .. } => unreachable!("it is not above the end"),
        })?;
        future.note(copy);
        Ok(Piece { bytes: bytes.len(), was_cut: false, deleted: Some(deleted) })
    }

    fn after_copy_cut(&self, future: &Arc<Future>, copy: &Log, was_emptied: bool) -> Result<Piece, Obstacle> {
        future.note(copy);
        if let Some(moving) = self.lock().move_of(future) {
            moving.was_emptied |= was_emptied;
        }
        Ok(Piece { bytes: 0, was_cut: true, deleted: None })
    }
}

/// Reads a slice into memory.
pub(super) fn in_memory(slice: Slice) -> std::io::Result<bytes::Bytes> {
    let slice = slice.into_memory()?;
    let mut bytes = bytes::BytesMut::with_capacity(slice.bytes);
    for chunk in slice.records.chunks() {
        match chunk {
            Chunk::Bytes(part) => bytes.extend_from_slice(part),
            Chunk::File(_) => unreachable!("it was read into memory"),
        }
    }
    Ok(bytes.freeze())
}
