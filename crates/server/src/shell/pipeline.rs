//! What a loop and the task of one of its connections share: the slots of requests in flight, and when something last happened.
//!
//! The tricky idea: answers do not touch the socket. They are put into their slot and the task is woken; however many arrive in one
//! turn of the loop, the task runs once and sends them together.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use ottla_broker::{Millis, Response};

use super::admission::Permit;
use super::slots::Slots;

/// Requests of one connection that may be in flight; beyond that its requests are not read.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 128;

/// The shared part of one connection.
#[derive(Debug, Default)]
pub struct Pipeline {
    slots: RefCell<Slots>,
    waker: RefCell<Option<Waker>>,
    /// Its task is at it, and looks at everything before it rests.
    is_running: Cell<bool>,
    piece: RefCell<Option<Option<(Bytes, Permit)>>>,
    is_closing: Cell<bool>,
    /// Whether it is of another node's, and stays when there are too many.
    is_of_nodes: Cell<bool>,
    is_refusing: Cell<bool>,
    is_held: Cell<bool>,
    passage: Cell<Passage>,
    muted_until: Cell<Option<Millis>>,
    has_unsent: Cell<bool>,
    waits_for_peer: Cell<bool>,
    large_since: Cell<Option<Millis>>,
    is_watched: Cell<bool>,
    last_progress: Cell<Millis>,
    /// Requests in flight whose time counts, in their order.
    meters: RefCell<VecDeque<Meter>>,
}

/// How a connection that gives way stands to the turnstile.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Passage {
    /// It has to queue before its next turn.
    #[default]
    Outside,
    /// It stands in line.
    Queueing,
    /// Its next turn may be had.
    LetIn,
}

/// How long the broker worked on a request.
#[derive(Debug)]
pub struct Meter {
    slot: u64,
    /// Whose request it is.
    pub client_id: Box<str>,
    /// Nanoseconds so far.
    pub nanos: u64,
}

impl Pipeline {
    /// Opens the slot of a request.
    pub fn open(&self) -> u64 {
        self.slots.borrow_mut().open()
    }

    /// It is a connection of another node's.
    pub fn set_of_nodes(&self) {
        self.is_of_nodes.set(true);
    }

    /// Whether it is a connection of another node's.
    pub fn is_of_nodes(&self) -> bool {
        self.is_of_nodes.get()
    }

    /// Whether one more request may be in flight.
    pub fn has_room(&self) -> bool {
        self.slots.borrow().len() < REQUESTS_IN_FLIGHT_MAX
    }

    /// Begins to count the time of a request.
    pub fn meter(&self, slot: u64, client_id: Box<str>, nanos: u64) {
        self.meters.borrow_mut().push_back(Meter { slot, client_id, nanos });
    }

    /// Counts more of it, if it is counted.
    pub fn add_time(&self, slot: u64, nanos: u64) {
        if let Some(meter) = self.meters.borrow_mut().iter_mut().find(|meter| meter.slot == slot) {
            meter.nanos += nanos;
        }
    }

    /// Ends the counting.
    pub fn take_meter(&self, slot: u64) -> Option<Meter> {
        let mut meters = self.meters.borrow_mut();
        let at = meters.iter().position(|meter| meter.slot == slot)?;
        meters.remove(at)
    }

    /// Bytes of answers whose turn has not come.
    pub fn waiting_bytes(&self) -> usize {
        self.slots.borrow().bytes()
    }

    /// Whether a request waits for its answer.
    pub fn is_open(&self, slot: u64) -> bool {
        self.slots.borrow().is_open(slot)
    }

    /// Whether every answer was taken.
    pub fn is_empty(&self) -> bool {
        self.slots.borrow().is_empty()
    }

    /// Puts an answer into its slot.
    pub fn respond(&self, slot: u64, response: Response) {
        let refuses = matches!(response, Response::Close);
        if self.slots.borrow_mut().fill(slot, response) {
            self.is_refusing.set(self.is_refusing.get() || refuses);
            self.wake();
        }
    }

    /// Takes the answer that has to leave next, if it is there.
    pub fn next_response(&self) -> Option<Response> {
        self.slots.borrow_mut().pop()
    }

    /// Brings a piece of a file that was asked for.
    pub fn bring(&self, piece: Option<(Bytes, Permit)>) {
        *self.piece.borrow_mut() = Some(piece);
        self.wake();
    }

    /// Takes the piece that was brought; the inner `None` means that it could not be read.
    pub fn take_piece(&self) -> Option<Option<(Bytes, Permit)>> {
        self.piece.borrow_mut().take()
    }

    /// Has the task end.
    pub fn close(&self) {
        self.is_closing.set(true);
        self.wake();
    }

    /// Whether the task has to end.
    pub fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// Whether a request was refused: those behind it are not handled any more.
    pub fn is_refusing(&self) -> bool {
        self.is_refusing.get()
    }

    /// Has later requests wait until [`Pipeline::resume`].
    pub fn hold(&self) {
        self.is_held.set(true);
    }

    /// Whether requests are not handed over for now.
    pub fn is_held(&self) -> bool {
        self.is_held.get()
    }

    /// Has requests handed over again.
    pub fn resume(&self) {
        self.is_held.set(false);
        self.wake();
    }

    /// Whether a connection that gives way may have its turn now. If not it has to stand in line, and `queue` is called unless it does.
    pub fn passes(&self, queue: impl FnOnce()) -> bool {
        let passage = self.passage.get();
        self.passage.set(if passage == Passage::LetIn { Passage::Outside } else { Passage::Queueing });
        if passage == Passage::Outside {
            queue();
        }
        passage == Passage::LetIn
    }

    /// Lets a connection that stands in line have its turn.
    pub fn let_in(&self) {
        self.passage.set(Passage::LetIn);
        self.wake();
    }

    /// Has later requests wait until that time, or longer if they do already. Whether nothing was there that ends it.
    pub fn mute(&self, until: Millis) -> bool {
        let before = self.muted_until.get();
        self.muted_until.set(Some(before.map_or(until, |before| before.max(until))));
        before.is_none()
    }

    /// Until when requests are not handed over, if they are not.
    pub fn muted_until(&self) -> Option<Millis> {
        self.muted_until.get()
    }

    /// Has requests handed over again, unless something else holds them.
    pub fn unmute(&self) {
        self.muted_until.set(None);
        self.wake();
    }

    /// Remembers how the task is woken.
    pub fn set_waker(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Wakes the task.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref().filter(|_| !self.is_running.get()) {
            waker.wake_by_ref();
        }
    }

    /// Runs a turn of the task, which need not be woken for what it does itself.
    pub fn without_waking<T>(&self, turn: impl FnOnce() -> T) -> T {
        self.is_running.set(true);
        let outcome = turn();
        self.is_running.set(false);
        outcome
    }

    /// Notes that bytes moved.
    pub fn set_progress(&self, now: Millis) {
        self.last_progress.set(now);
    }

    /// Notes in which state a turn ended: whether answers are on their way into the socket; whether nothing can happen before the
    /// peer moves (it stopped in the middle of a request, or does not take its answers); and since when a large request is on its
    /// way.
    pub fn set_state(&self, has_unsent: bool, waits_for_peer: bool, large_since: Option<Millis>) {
        self.has_unsent.set(has_unsent);
        self.waits_for_peer.set(waits_for_peer);
        self.large_since.set(large_since);
    }

    /// Whether answers are on their way into the socket.
    pub fn has_unsent(&self) -> bool {
        self.has_unsent.get() || self.slots.borrow().is_front_filled()
    }

    /// Whether nothing can happen before the peer moves.
    pub fn waits_for_peer(&self) -> bool {
        self.waits_for_peer.get()
    }

    /// Since when a large request is on its way.
    pub fn large_since(&self) -> Option<Millis> {
        self.large_since.get()
    }

    /// Notes whether a timer watches the peer's progress; returns what was noted before.
    pub fn set_watched(&self, is_watched: bool) -> bool {
        self.is_watched.replace(is_watched)
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        !self.has_unsent.get() && self.is_empty()
    }

    /// When bytes moved last.
    pub fn last_progress(&self) -> Millis {
        self.last_progress.get()
    }
}
