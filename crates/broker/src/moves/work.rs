//! One move from the first piece to the last: the copy catches up, the controller is told, and the copy takes the log's place.
//!
//! The one tricky idea: every step looks at what is so and may be done again. A thread that stops, or meets an error, leaves the move where it
//! is, and the next one goes on from there.

use std::sync::Arc;

use ottla_storage::{Pace, PartitionName};

use super::{Next, key_of};
use crate::Broker;
use crate::effect::{Effect, Effects, Millis};
use crate::partition::{Future, Obstacle, PIECE_BYTES, Partition, Stage, Turned};
use crate::upkeep::Doomed;

/// Bytes that are copied for one partition before others have their turn.
const TURN_BYTES: usize = 32 << 20;
/// Bytes of a copy that may be unflushed.
const UNFLUSHED_BYTES_MAX: usize = 8 << 20;
/// How often a copy that is almost there is brought closer before clients are let go on.
const ROUNDS_MAX: usize = 20;
/// Pause of a move that waits for somebody's word, should it get lost.
const WAIT_MS: Millis = 200;
/// Pause while more was copied than the throttle allows.
const THROTTLED_MS: Millis = 100;
/// Pause before what failed is tried again.
const RETRY_MS: Millis = 1_000;

impl Broker {
    /// Goes on with a move, on a thread that may wait for the disk.
    pub(crate) fn advance_move(
        &self,
        partition: &Arc<Partition>,
        pace: &dyn Pace,
        now: Millis,
        out: &mut Effects,
    ) {
        let next = match self.try_advance_move(partition, pace, now, out) {
            Ok(next) => next,
            Err(obstacle) => {
                partition.turn_back(now, out);
                self.on_obstacle(partition, &obstacle, now, out)
            }
        };
        self.moves.end(partition, &next, now, out);
    }

    fn on_obstacle(
        &self,
        partition: &Arc<Partition>,
        obstacle: &Obstacle,
        now: Millis,
        out: &mut Effects,
    ) -> Next {
        // Whoever left the move took the directory away.
        let Some((future, _)) = partition.moving() else { return Next::Over };
        match obstacle {
            Obstacle::Over => Next::Over,
            Obstacle::Copy(error) => {
                self.store.fail_if_broken(&future.root, error);
                out.push(Effect::Report(format!(
                    "{}-{} is not moved to {}: {error}; it is tried again",
                    partition.topic.name,
                    partition.index,
                    future.root.path().display()
                )));
                Next::At(now + RETRY_MS)
            }
            Obstacle::Log(error) => {
                out.push(Effect::Report(format!(
                    "{}-{} is not moved, since it can not be read ({error:?}); it is tried again",
                    partition.topic.name, partition.index
                )));
                Next::At(now + RETRY_MS)
            }
        }
    }

    fn try_advance_move(
        &self,
        partition: &Arc<Partition>,
        pace: &dyn Pace,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Next, Obstacle> {
        let Some((future, stage)) = partition.moving() else { return Ok(Next::Over) };
        let name = PartitionName::new(&*partition.topic.name, partition.index);
        if self.upkeep.is_busy(&name) {
            // What is being compacted would be copied as it was.
            return Ok(Next::At(now + WAIT_MS));
        }
        if stage != Stage::Turning
            && let Some(next) = self.catch_up(partition, &future, pace, now, out)?
        {
            return Ok(next);
        }
        match stage {
            Stage::Copying => {
                let to =
                    if self.is_assigned_to(partition, &future.root) { Stage::Told } else { Stage::Telling };
                if partition.advance_move(future.root.id(), Stage::Copying, to) && to == Stage::Telling {
                    self.assign(key_of(partition), future.root.id(), now, out);
                }
                Ok(Next::At(if to == Stage::Told { now } else { now + WAIT_MS }))
            }
            Stage::Telling => {
                let is_told = self.is_assigned_to(partition, &future.root)
                    && partition.advance_move(future.root.id(), Stage::Telling, Stage::Told);
                Ok(Next::At(if is_told { now } else { now + WAIT_MS }))
            }
            Stage::Told => {
                self.write_start(partition, &future, now, out)?;
                partition.advance_move(future.root.id(), Stage::Told, Stage::Turning);
                self.turn(partition, &future, pace, now, out)
            }
            Stage::Turning => self.turn(partition, &future, pace, now, out),
        }
    }

    /// Copies until nothing is left, or the time of others has come.
    fn catch_up(
        &self,
        partition: &Arc<Partition>,
        future: &Arc<Future>,
        pace: &dyn Pace,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Option<Next>, Obstacle> {
        let (mut copied, mut unflushed) = (0, 0);
        let next = loop {
            if !pace.pass(0) || copied >= TURN_BYTES {
                break Some(Next::At(now));
            }
            let limit = self.live_config().moves.bytes_per_second;
            if self.moves.throttle.is_exceeded(limit, now) {
                break Some(Next::At(now + THROTTLED_MS));
            }
            // Little where little is allowed, so that the average holds.
            let piece = usize::try_from(limit).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let bytes = self.copy_piece(partition, future, piece, now, out)?;
            self.moves.throttle.note(bytes, now);
            copied += bytes;
            unflushed += bytes;
            if bytes == 0 {
                break None;
            }
            if unflushed >= UNFLUSHED_BYTES_MAX {
                future.flush()?;
                unflushed = 0;
            }
        };
        future.flush()?;
        self.store.want_checkpoint(now, out);
        Ok(next)
    }

    fn copy_piece(
        &self,
        partition: &Arc<Partition>,
        future: &Arc<Future>,
        bytes_max: usize,
        now: Millis,
        out: &mut Effects,
    ) -> Result<usize, Obstacle> {
        loop {
            let piece = partition.copy_piece(future, bytes_max, now)?;
            let deleted = piece.deleted.filter(|deleted| !deleted.is_empty());
            if piece.was_cut || deleted.is_some() {
                self.write_start(partition, future, now, out)?;
            }
            if let Some(mut deleted) = deleted {
                deleted.mark()?;
                deleted.remove()?;
            }
            if !piece.was_cut {
                return Ok(piece.bytes);
            }
        }
    }

    /// Makes durable what the checkpoints say of the copy.
    fn write_start(
        &self,
        partition: &Arc<Partition>,
        future: &Arc<Future>,
        now: Millis,
        out: &mut Effects,
    ) -> Result<(), Obstacle> {
        let start = future.log_start_offset();
        let unwritten = self.write_checkpoints(now);
        partition.on_start_written(future, start);
        match unwritten.get(&future.root.id()) {
            None => Ok(()),
            Some(why) => {
                partition.on_start_written(future, None);
                out.push(Effect::Tick { at: now });
                Err(Obstacle::Copy(why.clone()))
            }
        }
    }

    /// The copy takes the log's place, as soon as the last flush of the log has come back.
    fn turn(
        &self,
        partition: &Arc<Partition>,
        future: &Arc<Future>,
        pace: &dyn Pace,
        now: Millis,
        out: &mut Effects,
    ) -> Result<Next, Obstacle> {
        if !partition.is_still() {
            if !pace.pass(0) {
                partition.turn_back(now, out);
            }
            return Ok(Next::At(now + WAIT_MS));
        }
        for _ in 0..ROUNDS_MAX {
            while self.copy_piece(partition, future, PIECE_BYTES, now, out)? > 0 {}
            if future.log_start_offset() != partition.written_start(future) {
                self.write_start(partition, future, now, out)?;
            }
            future.flush()?;
            if let Some(turned) = partition.turn(future, self.moves.unique(now), now, out)? {
                self.on_turned(partition, future, turned, now, out);
                return Ok(Next::Over);
            }
        }
        partition.turn_back(now, out);
        Ok(Next::At(now + WAIT_MS))
    }

    fn on_turned(
        &self,
        partition: &Arc<Partition>,
        future: &Arc<Future>,
        turned: Turned,
        now: Millis,
        out: &mut Effects,
    ) {
        let Turned { wakes, left, home } = turned;
        let (name, delay) = (&partition.topic.name, partition.settings().file_delete_delay_ms);
        let (from, to) = (home.path().display(), future.root.path().display());
        out.push(Effect::Report(format!("{name}-{} has moved from {from} to {to}", partition.index)));
        match left {
            Ok(Some(path)) => self.store.doom(Doomed::Directory(path), now + delay, out),
            Ok(None) => {}
            Err((home, error)) => {
                self.store.fail_if_broken(&home, &error);
                out.push(Effect::Report(format!("{name}-{}: {error}", partition.index)));
                self.store.doom(Doomed::Names(home), now + delay, out);
            }
        }
        self.upkeep.on_moved();
        // Where it lived nothing may be said of it any more.
        let unwritten = self.write_checkpoints(now);
        out.extend(unwritten.into_values().map(|error| Effect::Report(error.to_string())));
        self.forget_deleted(out);
        self.wake(partition, wakes, now, out);
        self.advance_fetchers(now, out);
    }
}
