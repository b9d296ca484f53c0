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
use crate::template::{PRODUCE_VERSION, Producer, Template};
use crate::topic::{self, Topic};
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
            let producer = if options.idempotent { Some(init_producer(client)?) } else { None };
            lanes.push(Lane {
                socket,
                templates: templates.clone(),
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
            if self.is_over && self.lanes.iter().all(|lane| lane.in_flight.is_empty()) {
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

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.in_flight.is_empty())
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
        while !self.is_over && lane.in_flight.len() < self.options.in_flight {
            let Some(due) = lane.due.pop_front() else { break };
            lane.push();
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
        self.lanes[index].socket.read_frames(scratch, |frame| {
            answers += 1;
            check(frame)
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

fn init_producer(client: &mut Client) -> io::Result<Producer> {
    let request = InitProducerIdRequest {
        transactional_id: None,
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
            // It has no ids at hand and fetches some.
            ErrorCode::CoordinatorLoadInProgress if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            error => return Err(invalid(error.name())),
        }
    }
}

/// Every partition of every answer has to be without an error.
pub fn check(frame: &[u8]) -> io::Result<()> {
    let mut reader = Reader::new(frame);
    let version = ApiKey::Produce.response_header_version(PRODUCE_VERSION);
    ResponseHeader::decode(&mut reader, version).map_err(invalid)?;
    let response = ProduceResponse::decode(&mut reader, PRODUCE_VERSION).map_err(invalid)?;
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != 0) {
        Some(failed) => Err(invalid(format!(
            "produce to partition {}: {}",
            failed.index,
            ErrorCode::from_code(failed.error_code).name()
        ))),
        None => Ok(()),
    }
}
