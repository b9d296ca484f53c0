//! Producers: each connection keeps up to K requests in flight, as fast as answers come (closed loop) or on a schedule (open loop).
//!
//! The tricky idea: a request has a *due* time. In a closed loop it is due when a place in flight becomes free; in an open loop the
//! schedule says so. Latency is from due to answered in both, and answers come in order, so a queue of due times is all the state.

use crate::client::{Client, invalid};
use crate::load::{Meter, prepare};
use crate::options::ProduceOptions;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::socket::{Poller, SCRATCH_BYTES, Socket};
use crate::template::{Producer, Template};
use crate::topic::{self, Topic};
use crate::transaction::{self, Step, Transactions};
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use ottla_protocol::messages::produce_response::ProduceResponse;
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::{ApiKey, ErrorCode, Message, Reader};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// Requests that may be due and not sent on one connection; a broker that is this far behind does not keep up.
const DUE_MAX: usize = 1_000_000;
/// Templates for requests with several batches that are kept: more than that only costs memory.
const TEMPLATES_MAX: usize = 64;
/// How long answers may take after the last request.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the load.
pub fn run(options: &ProduceOptions) -> io::Result<Report> {
    let mut client = Client::connect(&options.common.bootstrap)?;
    let topic = topic::find(&mut client, &options.common.topic)?;
    let templates = templates(options, &topic)?;
    prepare(&options.common)?;
    let mut load = Load::new(options, &mut client, &topic, templates)?;
    load.run()?;
    load.meter.end()
}

fn templates(options: &ProduceOptions, topic: &Topic) -> io::Result<Vec<Rc<Template>>> {
    let together = options.batches_per_request.clamp(1, topic.partitions);
    if together == 1 {
        return Ok(vec![Rc::new(Template::new(options, topic, &[0])?)]);
    }
    if options.idempotent {
        return Err(invalid("idempotent producers send one batch per request here"));
    }
    let partitions: Vec<i32> = (0..topic.partitions as i32).collect();
    let groups = partitions.chunks_exact(together).take(TEMPLATES_MAX);
    groups.map(|group| Template::new(options, topic, group).map(Rc::new)).collect()
}

struct Load<'a> {
    options: &'a ProduceOptions,
    lanes: Vec<Lane>,
    poller: Poller,
    meter: Meter,
    schedule: Option<Schedule>,
    /// Which connection the next scheduled request goes to.
    turn: usize,
    begun: Instant,
    /// Requests that were queued, and that were answered, since the beginning.
    issued: u64,
    answered: u64,
    is_over: bool,
}

/// A connection and what is under way on it.
struct Lane {
    socket: Socket,
    templates: Vec<Rc<Template>>,
    partitions: i32,
    /// The partition (or template) of the next request.
    next: i32,
    correlation_id: i32,
    producer: Option<Producer>,
    transactions: Option<Transactions>,
    /// Due, not sent.
    due: VecDeque<Instant>,
    /// Sent, not answered: when each was due.
    in_flight: VecDeque<Instant>,
}

impl<'a> Load<'a> {
    fn new(
        options: &'a ProduceOptions,
        client: &mut Client,
        topic: &Topic,
        templates: Vec<Rc<Template>>,
    ) -> io::Result<Load<'a>> {
        let poller = Poller::new()?;
        let mut lanes = Vec::with_capacity(options.connections);
        for index in 0..options.connections {
            let socket = Socket::connect(&options.common.bootstrap)?;
            poller.add(&socket, index)?;
            let mut templates = templates.clone();
            let (mut producer, mut transactions) = (None, None);
            if let Some(requests) = options.transaction_requests {
                let id = format!("ottla-bench-{}-{index}", std::process::id());
                transaction::find_coordinator(client, &id)?;
                producer = Some(init_producer(client, Some(&id))?);
                templates = vec![Rc::new(Template::of(options, topic, &[0], Some(&id))?)];
                transactions = Some(Transactions::new(id, requests));
            } else if options.idempotent {
                producer = Some(init_producer(client, None)?);
            }
            lanes.push(Lane {
                socket,
                templates,
                transactions,
                partitions: topic.partitions as i32,
                next: index as i32,
                correlation_id: 0,
                producer,
                due: VecDeque::new(),
                in_flight: VecDeque::new(),
            });
        }
        let begun = Instant::now();
        Ok(Load {
            options,
            lanes,
            poller,
            meter: Meter::new(&options.common)?,
            schedule: options.rate.map(|rate| Schedule::new(begun, rate)),
            turn: 0,
            begun,
            issued: 0,
            answered: 0,
            is_over: false,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut ready = Vec::new();
        let mut touched: Vec<usize> = (0..self.lanes.len()).collect();
        let mut last_answer = Instant::now();
        loop {
            let now = Instant::now();
            self.change_phase(now)?;
            self.release(now, &mut touched)?;
            touched.sort_unstable();
            touched.dedup();
            for index in touched.drain(..) {
                self.send(index)?;
            }
            if self.is_over && self.is_idle() {
                return Ok(());
            }
            self.poller.wait(Some(self.sleep(now)), &mut ready)?;
            let before = self.answered;
            for &index in &ready {
                self.receive(index, &mut scratch)?;
                touched.push(index);
            }
            if self.answered > before || self.is_idle() {
                last_answer = Instant::now();
            } else if last_answer.elapsed() > PATIENCE {
                return Err(invalid("the broker does not answer any more"));
            }
        }
    }

    /// Whether no answer is due and no transaction open.
    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| {
            lane.in_flight.is_empty() && lane.transactions.as_ref().is_none_or(Transactions::is_idle)
        })
    }

    fn sleep(&self, now: Instant) -> Duration {
        let next = self.schedule.as_ref().filter(|_| !self.is_over).map(Schedule::next);
        next.map_or(Duration::from_millis(100), |next| next.saturating_duration_since(now))
            .min(Duration::from_millis(100))
    }

    fn change_phase(&mut self, now: Instant) -> io::Result<()> {
        let warm_s = now.duration_since(self.begun).as_secs_f64();
        let is_warm =
            self.answered >= self.options.warmup_requests && warm_s >= self.options.common.warmup_seconds;
        if !self.meter.has_begun() && is_warm {
            self.meter.begin()?;
        }
        let is_late = self.meter.elapsed().as_secs_f64() >= self.options.common.seconds;
        let is_done = self.options.requests.is_some_and(|requests| self.meter.requests >= requests);
        self.is_over |= self.meter.has_begun() && (is_late || is_done);
        Ok(())
    }

    /// Makes requests due: by the schedule, or wherever there is a free place.
    fn release(&mut self, now: Instant, touched: &mut Vec<usize>) -> io::Result<()> {
        if self.is_over {
            return Ok(());
        }
        if let Some(schedule) = &mut self.schedule {
            while let Some(due) = schedule.take(now) {
                let lane = &mut self.lanes[self.turn];
                lane.due.push_back(due);
                if lane.due.len() > DUE_MAX {
                    return Err(invalid("the broker does not keep up with the rate"));
                }
                touched.push(self.turn);
                self.turn = (self.turn + 1) % self.lanes.len();
            }
            return Ok(());
        }
        for &index in touched.iter() {
            let lane = &mut self.lanes[index];
            while lane.due.len() + lane.in_flight.len() < self.options.in_flight {
                lane.due.push_back(now);
            }
        }
        Ok(())
    }

    /// Sends what is due and has a place in flight.
    fn send(&mut self, index: usize) -> io::Result<()> {
        let lane = &mut self.lanes[index];
        loop {
            let step = match &lane.transactions {
                Some(transactions) => transactions.next(lane.in_flight.len(), self.is_over),
                None if self.is_over => Step::Wait,
                None => Step::Produce,
            };
            if let (Step::End, Some(transactions), Some(producer)) =
                (step, &mut lane.transactions, &lane.producer)
            {
                lane.socket.push(transactions.end(producer)?, None);
            }
            if step != Step::Produce || lane.in_flight.len() >= self.options.in_flight {
                break;
            }
            let Some(due) = lane.due.pop_front() else { break };
            lane.push();
            if let Some(transactions) = &mut lane.transactions {
                transactions.on_sent();
            }
            lane.in_flight.push_back(due);
            self.issued += 1;
        }
        let left = lane.socket.flush()?;
        if self.options.acks == 0 {
            for _ in 0..left {
                self.complete(index);
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, scratch: &mut [u8]) -> io::Result<()> {
        let mut answers = 0;
        let version = self.options.dialect.produce_version;
        let Lane { socket, transactions, producer, in_flight, due, .. } = &mut self.lanes[index];
        let (Some(transactions), Some(producer)) = (transactions, producer) else {
            socket.read_frames(scratch, |frame| {
                answers += 1;
                check(frame, version)
            })?;
            for _ in 0..answers {
                self.complete(index);
            }
            return Ok(());
        };
        socket.read_frames(scratch, |frame| {
            if transaction::is_end(frame) {
                return transactions.on_ended(frame, producer);
            }
            if transactions.on_produced(first_error(frame, version)?)? {
                answers += 1;
            } else {
                // It was alone: the same batch again.
                producer.sequence = 0;
                due.extend(in_flight.pop_back());
            }
            Ok(())
        })?;
        for _ in 0..answers {
            self.complete(index);
        }
        Ok(())
    }

    fn complete(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        let due = lane.in_flight.pop_front().expect("an answer to a request");
        self.answered += 1;
        if self.meter.has_begun() {
            let template = &lane.templates[0];
            self.meter.time(due.elapsed());
            self.meter.requests += 1;
            self.meter.records += template.records;
            self.meter.payload_bytes += template.payload_bytes;
            self.meter.wire_bytes += template.wire_bytes();
        }
    }
}

impl Lane {
    /// Queues the next request.
    fn push(&mut self) {
        let which = self.next as usize % self.templates.len();
        let template = self.templates[which].clone();
        // A producer keeps to one partition, since its sequences count per partition.
        let partition = self.next % self.partitions;
        if self.producer.is_none() {
            self.next = self.next.wrapping_add(1) & i32::MAX;
        }
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let mut head = self.socket.head();
        template.patch(&mut head, self.correlation_id, partition, self.producer.as_mut());
        self.socket.push(head, Some(template));
    }
}

fn init_producer(client: &mut Client, transactional_id: Option<&str>) -> io::Result<Producer> {
    let request = InitProducerIdRequest {
        transactional_id: transactional_id.map(Into::into),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let body = client.ask(&request, INIT_PRODUCER_ID_VERSION)?;
        let response = InitProducerIdResponse::decode(&mut Reader::new(&body), INIT_PRODUCER_ID_VERSION)
            .map_err(invalid)?;
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => {
                return Ok(Producer {
                    id: response.producer_id,
                    epoch: response.producer_epoch,
                    sequence: 0,
                });
            }
            // It has no ids at hand and fetches some, or the transactions are being loaded.
            ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::ConcurrentTransactions
                if Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            error => return Err(invalid(error.name())),
        }
    }
}

/// Every partition of every answer has to be without an error.
pub fn check(frame: &[u8], version: i16) -> io::Result<()> {
    match first_error(frame, version)? {
        ErrorCode::None => Ok(()),
        error => Err(invalid(format!("produce: {}", error.name()))),
    }
}

/// The first error that an answer tells, if any.
fn first_error(frame: &[u8], version: i16) -> io::Result<ErrorCode> {
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, ApiKey::Produce.response_header_version(version)).map_err(invalid)?;
    let response = ProduceResponse::decode(&mut reader, version).map_err(invalid)?;
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let failed = partitions.find(|partition| partition.error_code != 0);
    Ok(failed.map_or(ErrorCode::None, |partition| ErrorCode::from_code(partition.error_code)))
}
