//! The order of answers on one connection: Kafka's clients count on responses in the order of their requests.
//!
//! The tricky idea: every request opens a slot at the back; answers fill slots in any order; only a filled front leaves. A slot's
//! number never repeats, so a late answer to a slot that is gone is recognised and dropped.

use std::collections::VecDeque;

use ottla_broker::Response;

/// A request, and its answer when that is here.
type Slot = Option<Response>;

/// Requests of one connection that were read and whose answers have not left.
#[derive(Debug, Default)]
pub struct Slots {
    /// Number of the slot at the front.
    first: u64,
    /// Has its own place, so that a connection with one request at a time needs no queue.
    front: Option<Slot>,
    /// Empty without a front.
    behind: VecDeque<Slot>,
    /// Bytes of the answers that are here.
    bytes: usize,
}

impl Slots {
    /// Opens the slot of the next request.
    pub fn open(&mut self) -> u64 {
        let number = self.first + self.len() as u64;
        match self.front {
            None => self.front = Some(None),
            Some(_) => self.behind.push_back(None),
        }
        number
    }

    /// Puts an answer into its slot. Returns false when the slot is gone or filled already.
    pub fn fill(&mut self, slot: u64, response: Response) -> bool {
        let mut slots = self.front.iter_mut().chain(&mut self.behind);
        match index(self.first, slot).and_then(|index| slots.nth(index)) {
            Some(place @ None) => {
                self.bytes += len_of(&response);
                *place = Some(response);
                true
            }
            _ => false,
        }
    }

    /// Whether a slot still waits for its answer.
    pub fn is_open(&self, slot: u64) -> bool {
        let mut slots = self.front.iter().chain(&self.behind);
        index(self.first, slot).and_then(|index| slots.nth(index)).is_some_and(Option::is_none)
    }

    /// Takes the front answer, if it is there.
    pub fn pop(&mut self) -> Option<Response> {
        let response = self.front.as_mut()?.take()?;
        self.front = self.behind.pop_front();
        self.first += 1;
        self.bytes -= len_of(&response);
        Some(response)
    }

    /// Whether [`Slots::pop`] would find something.
    pub fn is_front_filled(&self) -> bool {
        self.front.as_ref().is_some_and(Option::is_some)
    }

    /// Bytes of the answers that are here and have not left.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Requests whose answers have not left.
    pub fn len(&self) -> usize {
        usize::from(self.front.is_some()) + self.behind.len()
    }

    /// Whether every answer has left.
    pub fn is_empty(&self) -> bool {
        self.front.is_none()
    }
}

/// How many slots are before this one, unless it is gone.
fn index(first: u64, slot: u64) -> Option<usize> {
    usize::try_from(slot.checked_sub(first)?).ok()
}

fn len_of(response: &Response) -> usize {
    match response {
        Response::Frame(chain) => chain.len(),
        Response::Nothing | Response::Close => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_protocol::Chain;

    use super::*;

    #[test]
    fn answers_that_wait_for_one_before_them_are_counted_by_their_bytes() {
        let frame = |len| {
            let mut chain = Chain::default();
            chain.push_bytes(Bytes::from(vec![0; len]));
            Response::Frame(chain)
        };
        let mut slots = Slots::default();
        let [a, b, c] = [slots.open(), slots.open(), slots.open()];
        assert!(slots.fill(b, frame(1000)) && slots.fill(c, frame(20)));
        assert!(!slots.fill(b, frame(1)), "answered once");
        assert_eq!(slots.bytes(), 1020);
        assert!(slots.fill(a, Response::Nothing) && slots.pop().is_some() && slots.pop().is_some());
        assert_eq!(slots.bytes(), 20);
        assert!(slots.pop().is_some());
        assert_eq!(slots.bytes(), 0);
    }

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let mut slots = Slots::default();
        let [a, b, c] = [slots.open(), slots.open(), slots.open()];
        assert!(slots.fill(c, Response::Close));
        assert!(slots.fill(b, Response::Nothing));
        assert!(slots.pop().is_none(), "the first is not answered");
        assert!(slots.is_open(a) && !slots.is_open(b));
        assert!(slots.fill(a, Response::Nothing));
        assert!(!slots.fill(a, Response::Close), "answered once");
        assert!(matches!(slots.pop(), Some(Response::Nothing)));
        assert!(matches!(slots.pop(), Some(Response::Nothing)));
        let d = slots.open();
        assert_eq!(d, 3);
        assert!(matches!(slots.pop(), Some(Response::Close)));
        assert!(slots.pop().is_none());
        assert!(!slots.fill(a, Response::Close), "gone");
        assert!(!slots.fill(99, Response::Close), "never was");
        assert_eq!(slots.len(), 1);
    }
}
