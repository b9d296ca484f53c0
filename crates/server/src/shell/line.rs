//! What is to be sent to a peer, and what is under way: when a request is given up, and when its connection is.
//!
//! The tricky idea: these are two questions. Answers come in order, so one that is late can not be stepped over; but nobody is served by
//! ending the connection because one of many requests had little time. So a request that is given up leaves its place behind, which its
//! answer will find, and the connection ends when the oldest request has been without an answer for as long as a sound peer may take.

use std::collections::VecDeque;

use ottla_broker::{Millis, Outgoing};

/// Requests that may wait for one connection; more end without an answer.
const QUEUE_MAX: usize = 10_000;
/// Requests under way on one connection.
const IN_FLIGHT_MAX: usize = 100;

/// The requests to one peer.
#[derive(Debug, Default)]
pub struct Line {
    waiting: VecDeque<(Millis, Outgoing)>,
    in_flight: VecDeque<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    /// `None`: it was given up.
    ticket: Option<u64>,
    correlation_id: i32,
    /// When it is given up.
    deadline: Millis,
    /// When its connection is.
    stalled_at: Millis,
}

impl Line {
    /// Takes a request. `Err`: there are too many; its ticket.
    pub fn push(&mut self, outgoing: Outgoing, now: Millis) -> Result<(), u64> {
        if self.waiting.len() >= QUEUE_MAX {
            return Err(outgoing.ticket);
        }
        self.waiting.push_back((now + outgoing.timeout_ms, outgoing));
        Ok(())
    }

    /// Whether nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more can be under way.
    pub fn is_full(&self) -> bool {
        self.in_flight.len() >= IN_FLIGHT_MAX
    }

    /// The next request, which is under way from now on. A sound peer takes no longer for its answer than the request's own time, or
    /// `patience_ms`.
    pub fn next(&mut self, patience_ms: Millis, now: Millis) -> Option<Outgoing> {
        let (deadline, outgoing) = self.waiting.pop_front()?;
        let (ticket, correlation_id) = (Some(outgoing.ticket), outgoing.correlation_id);
        let stalled_at = now + outgoing.timeout_ms.max(patience_ms);
        self.in_flight.push_back(InFlight { ticket, correlation_id, deadline, stalled_at });
        Some(outgoing)
    }

    /// An answer came: for the oldest request, which is done. `Err`: nobody asked for it; the ticket of whoever it was taken from.
    pub fn answered(&mut self, correlation_id: Option<i32>) -> Result<Option<u64>, Option<u64>> {
        let oldest = self.in_flight.pop_front().ok_or(None)?;
        if correlation_id == Some(oldest.correlation_id) { Ok(oldest.ticket) } else { Err(oldest.ticket) }
    }

    /// Gives up what had its time, under way or not. Returns the tickets.
    pub fn expire(&mut self, now: Millis) -> Vec<u64> {
        let mut late = Vec::new();
        self.waiting.retain(|(deadline, outgoing)| {
            let is_late = *deadline <= now;
            late.extend(is_late.then_some(outgoing.ticket));
            !is_late
        });
        let given_up = self.in_flight.iter_mut().filter(|request| request.deadline <= now);
        late.extend(given_up.filter_map(|request| request.ticket.take()));
        late
    }

    /// Whether the peer is silent for too long.
    pub fn is_stalled(&self, now: Millis) -> bool {
        self.stalled_at().is_some_and(|at| at <= now)
    }

    /// When the peer will have been silent for too long.
    pub fn stalled_at(&self) -> Option<Millis> {
        self.in_flight.front().map(|oldest| oldest.stalled_at)
    }

    /// When there is a request to give up.
    pub fn next_request_deadline(&self) -> Option<Millis> {
        let under_way = self.in_flight.iter().filter(|request| request.ticket.is_some());
        let waiting = self.waiting.iter().map(|(deadline, _)| *deadline);
        under_way.map(|request| request.deadline).chain(waiting).min()
    }

    /// The connection ended: nothing that was under way will be answered. Returns the tickets.
    pub fn lose(&mut self) -> Vec<u64> {
        self.in_flight.drain(..).filter_map(|request| request.ticket).collect()
    }

    /// The peer can not be reached: nothing that waits will be answered either. Returns the tickets. Whoever asked may know better by now
    /// where to ask: the peer may have come back under another address, or another node may lead.
    pub fn abandon(&mut self) -> Vec<u64> {
        let waiting: Vec<u64> = self.waiting.drain(..).map(|(_, outgoing)| outgoing.ticket).collect();
        let mut lost = self.lose();
        lost.extend(waiting);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_broker::{Lane, Peer};
    use ottla_protocol::Chain;

    fn outgoing(ticket: u64, timeout_ms: Millis) -> Outgoing {
        let to = Peer { host: "peer".into(), port: 1, lane: Lane::Controller };
        Outgoing { to, ticket, frame: Chain::default(), correlation_id: ticket as i32, timeout_ms }
    }

    #[test]
    fn a_request_that_had_little_time_does_not_take_the_others_along() {
        let mut line = Line::default();
        for (ticket, timeout_ms) in [(1, 50), (2, 30_000)] {
            line.push(outgoing(ticket, timeout_ms), 0).expect("there is room");
            line.next(30_000, 0).expect("it was pushed");
        }
        assert_eq!(line.next_request_deadline(), Some(50));
        assert_eq!(line.expire(50), [1]);
        assert!(!line.is_stalled(29_999));
        // Its answer comes late, and is nobody's; the next one is.
        assert_eq!(line.answered(Some(1)), Ok(None));
        assert_eq!(line.answered(Some(2)), Ok(Some(2)));
        assert_eq!(line.expire(1_000_000), []);
    }

    #[test]
    fn a_peer_that_is_silent_is_given_up() {
        let mut line = Line::default();
        line.push(outgoing(1, 2_000), 0).expect("there is room");
        line.next(0, 100).expect("it was pushed");
        assert!(!line.is_stalled(2_099));
        assert!(line.is_stalled(2_100));
        assert_eq!(line.lose(), [1]);
    }

    #[test]
    fn what_waits_for_a_connection_is_given_up_in_time() {
        let mut line = Line::default();
        line.push(outgoing(1, 2_000), 0).expect("there is room");
        line.push(outgoing(2, 9_000), 0).expect("there is room");
        assert_eq!(line.next_request_deadline(), Some(2_000));
        assert_eq!(line.expire(2_000), [1]);
        assert!(!line.is_idle());
    }

    #[test]
    fn a_peer_that_can_not_be_reached_keeps_nobody_waiting() {
        let mut line = Line::default();
        line.push(outgoing(1, 30_000), 0).expect("there is room");
        line.push(outgoing(2, 30_000), 0).expect("there is room");
        assert_eq!(line.abandon(), [1, 2]);
        assert!(line.is_idle());
        assert_eq!(line.next_request_deadline(), None);
    }

    #[test]
    fn a_confused_peer_is_noticed() {
        let mut line = Line::default();
        assert_eq!(line.answered(Some(1)), Err(None));
        line.push(outgoing(7, 100), 0).expect("there is room");
        line.next(0, 0).expect("it was pushed");
        assert_eq!(line.answered(Some(8)), Err(Some(7)));
    }
}
