//! Transactions of a producer under load: so many requests, then the end, then the next one.
//!
//! The tricky idea: a transaction begins with one request alone. Its coordinator may still be busy ending the one before it; then that
//! request is refused, and is sent again. Only when it is in does the rest follow at full speed, so no sequence has to be sent twice out of
//! order. The answer to an end has a negative correlation id, which tells it from those to produces.

use crate::client::{Client, frame, invalid};
use crate::template::Producer;
use ottla_protocol::messages::end_txn_request::EndTxnRequest;
use ottla_protocol::messages::end_txn_response::EndTxnResponse;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::{ApiKey, ErrorCode, Message, Reader};
use std::io;
use std::time::{Duration, Instant};

/// The first version whose answer brings the epoch of the next transaction (transaction version 2).
const END_TXN_VERSION: i16 = 5;
const FIND_COORDINATOR_VERSION: i16 = 4;
const TRANSACTION: i8 = 1;
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// Where a producer is in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is sent.
    Idle,
    /// Its first request is on its way.
    Beginning,
    /// Requests follow freely.
    Open,
    /// Its end is on its way.
    Ending,
}

/// One producer's transactions, one after the other.
#[derive(Debug)]
pub struct Transactions {
    id: String,
    /// Requests of each.
    requests: u64,
    /// Requests that were sent in this one.
    sent: u64,
    phase: Phase,
}

/// What may be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A produce request.
    Produce,
    /// The end.
    End,
    /// Nothing: an answer has to come first.
    Wait,
}

impl Transactions {
    /// Of `requests` requests each, under the transactional id `id`.
    pub fn new(id: String, requests: u64) -> Transactions {
        Transactions { id, requests: requests.max(1), sent: 0, phase: Phase::Idle }
    }

    /// What may be sent while `in_flight` requests are unanswered. `is_over`: no transaction is begun any more, and one that is open ends.
    pub fn next(&self, in_flight: usize, is_over: bool) -> Step {
        let is_full = self.sent >= self.requests || is_over;
        match self.phase {
            Phase::Idle if is_over => Step::Wait,
            Phase::Idle => Step::Produce,
            Phase::Open if !is_full => Step::Produce,
            Phase::Open if in_flight == 0 => Step::End,
            Phase::Beginning | Phase::Open | Phase::Ending => Step::Wait,
        }
    }

    /// Whether nothing is open.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// A produce request was sent.
    pub fn on_sent(&mut self) {
        self.sent += 1;
        if self.phase == Phase::Idle {
            self.phase = Phase::Beginning;
        }
    }

    /// The end as a frame.
    pub fn end(&mut self, producer: &Producer) -> io::Result<Vec<u8>> {
        self.phase = Phase::Ending;
        let request = EndTxnRequest {
            transactional_id: self.id.as_str().into(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            committed: true,
        };
        frame(&request, END_TXN_VERSION, -1)
    }

    /// A produce request was answered with `error`. False: it has to be sent again.
    pub fn on_produced(&mut self, error: ErrorCode) -> io::Result<bool> {
        match error {
            ErrorCode::None => {
                if self.phase == Phase::Beginning {
                    self.phase = Phase::Open;
                }
                Ok(true)
            }
            ErrorCode::ConcurrentTransactions | ErrorCode::NotEnoughReplicas
                if self.phase == Phase::Beginning =>
            {
                (self.phase, self.sent) = (Phase::Idle, 0);
                Ok(false)
            }
            error => Err(invalid(error.name())),
        }
    }

    /// The end was answered: the producer goes on with what the answer gives it.
    pub fn on_ended(&mut self, frame: &[u8], producer: &mut Producer) -> io::Result<()> {
        let mut reader = Reader::new(frame);
        let version = ApiKey::EndTxn.response_header_version(END_TXN_VERSION);
        ResponseHeader::decode(&mut reader, version).map_err(invalid)?;
        let response = EndTxnResponse::decode(&mut reader, END_TXN_VERSION).map_err(invalid)?;
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => {
                if response.producer_id >= 0 {
                    (producer.id, producer.epoch, producer.sequence) =
                        (response.producer_id, response.producer_epoch, 0);
                }
                (self.phase, self.sent) = (Phase::Idle, 0);
                Ok(())
            }
            // The coordinator is at it: asked again.
            ErrorCode::ConcurrentTransactions => {
                self.phase = Phase::Open;
                Ok(())
            }
            error => Err(invalid(format!("ending a transaction: {}", error.name()))),
        }
    }
}

/// Whether a frame answers an end.
pub fn is_end(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| *first >= 0x80)
}

/// Waits until the transactional id has a coordinator.
pub fn find_coordinator(client: &mut Client, id: &str) -> io::Result<()> {
    let request = FindCoordinatorRequest {
        key_type: TRANSACTION,
        coordinator_keys: vec![id.into()],
        ..Default::default()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body = client.ask(&request, FIND_COORDINATOR_VERSION)?;
        let response = FindCoordinatorResponse::decode(&mut Reader::new(&body), FIND_COORDINATOR_VERSION)
            .map_err(invalid)?;
        let error = response.coordinators.first().map_or(-1, |coordinator| coordinator.error_code);
        match ErrorCode::from_code(error) {
            ErrorCode::None => return Ok(()),
            ErrorCode::CoordinatorNotAvailable if Instant::now() < deadline => std::thread::sleep(PAUSE),
            error => return Err(invalid(error.name())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_alone_then_the_others_then_the_end() {
        let mut transactions = Transactions::new("id".into(), 3);
        let mut producer = Producer { id: 1, epoch: 0, sequence: 0 };
        assert_eq!(transactions.next(0, false), Step::Produce);
        transactions.on_sent();
        assert_eq!(transactions.next(1, false), Step::Wait, "the first one is alone");
        assert!(!transactions.on_produced(ErrorCode::ConcurrentTransactions).unwrap());
        assert_eq!(transactions.next(0, false), Step::Produce, "again");
        transactions.on_sent();
        assert!(transactions.on_produced(ErrorCode::None).unwrap());
        for in_flight in 0..2 {
            assert_eq!(transactions.next(in_flight, false), Step::Produce);
            transactions.on_sent();
        }
        assert_eq!(transactions.next(2, false), Step::Wait, "what is on its way comes first");
        assert_eq!(transactions.next(0, false), Step::End);
        let end = transactions.end(&producer).unwrap();
        assert!(is_end(&end[8..]) && transactions.next(1, false) == Step::Wait);
        let mut answer = vec![255, 255, 255, 255, 0];
        let response = EndTxnResponse { producer_id: 1, producer_epoch: 7, ..Default::default() };
        let mut writer = ottla_protocol::Writer::new();
        response.encode(&mut writer, END_TXN_VERSION).unwrap();
        answer.extend_from_slice(&writer.into_bytes());
        producer.sequence = 30;
        transactions.on_ended(&answer, &mut producer).unwrap();
        assert_eq!(producer, Producer { id: 1, epoch: 7, sequence: 0 });
        assert!(transactions.is_idle() && transactions.next(0, true) == Step::Wait);
    }
}
