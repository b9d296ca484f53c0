//! End to end: single records that carry the time they were due at, and a consumer that waits for them.
//!
//! Producer and consumer share a thread and so a clock; each record is a batch and a request of its own (linger 0).

use crate::client::{Client, frame, invalid};
use crate::load::{Meter, prepare};
use crate::options::EndToEndOptions;
use crate::produce::check;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::socket::{Poller, SCRATCH_BYTES, Socket};
use crate::template::now_ms;
use crate::topic::{self, Topic};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::fetch_response::FetchResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::response_header::ResponseHeader;
use ottla_protocol::records::{BatchBuilder, BatchOptions, batches};
use ottla_protocol::{ApiKey, ErrorCode, Message, Reader, Records};
use std::io;
use std::time::{Duration, Instant};

const FETCH_VERSION: i16 = 13;
const FETCH_BYTES_MAX: i32 = 1 << 20;
const MAX_WAIT_MS: i32 = 500;
const PRODUCER: usize = 0;
const CONSUMER: usize = 1;
/// How long the last records may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the load.
pub fn run(options: &EndToEndOptions) -> io::Result<Report> {
    prepare(&options.common)?;
    if options.record_bytes < 8 {
        return Err(invalid("a record has to hold its time, which takes 8 bytes"));
    }
    let mut client = Client::connect(&options.common.bootstrap)?;
    let topic = topic::find(&mut client, &options.common.topic)?;
    let end = topic::offsets(&mut client, &topic, -1)?[0];
    let mut rig = Rig {
        options,
        topic: &topic,
        epoch: Instant::now(),
        producer: Socket::connect(&options.common.bootstrap)?,
        consumer: Socket::connect(&options.common.bootstrap)?,
        meter: Meter::new(&options.common)?,
        offset: end,
        in_flight: 0,
        sent: 0,
        seen: 0,
        correlation_id: 0,
    };
    let mut poller = Poller::new()?;
    poller.add(&rig.producer, PRODUCER)?;
    poller.add(&rig.consumer, CONSUMER)?;
    rig.fetch()?;
    rig.run(&mut poller)?;
    rig.meter.end()
}

struct Rig<'a> {
    options: &'a EndToEndOptions,
    topic: &'a Topic,
    /// Times in records count from here.
    epoch: Instant,
    producer: Socket,
    consumer: Socket,
    meter: Meter,
    /// Where the consumer is.
    offset: i64,
    in_flight: usize,
    sent: u64,
    seen: u64,
    correlation_id: i32,
}

impl Rig<'_> {
    fn run(&mut self, poller: &mut Poller) -> io::Result<()> {
        let begun = Instant::now();
        let mut schedule = Schedule::new(begun, self.options.rate);
        let mut due = std::collections::VecDeque::new();
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut ready = Vec::new();
        let end = Duration::from_secs_f64(self.options.common.warmup_seconds + self.options.common.seconds);
        loop {
            let now = Instant::now();
            let elapsed = now.duration_since(begun);
            if !self.meter.has_begun() && elapsed.as_secs_f64() >= self.options.common.warmup_seconds {
                self.meter.begin()?;
            }
            if elapsed >= end && (self.seen == self.sent || elapsed > end + PATIENCE) {
                break;
            }
            while elapsed < end
                && let Some(at) = schedule.take(now)
            {
                due.push_back(at);
            }
            while self.in_flight < self.options.in_flight
                && let Some(at) = due.pop_front()
            {
                self.produce(at)?;
            }
            self.producer.flush()?;
            let until = if elapsed < end { schedule.next().saturating_duration_since(now) } else { PATIENCE };
            poller.wait(Some(until.min(Duration::from_millis(100))), &mut ready)?;
            for &index in &ready {
                match index {
                    PRODUCER => self.on_produced(&mut scratch)?,
                    _ => self.on_fetched(&mut scratch)?,
                }
            }
        }
        if self.seen < self.sent {
            return Err(invalid(format!(
                "{} records of {} have not arrived",
                self.sent - self.seen,
                self.sent
            )));
        }
        Ok(())
    }

    fn produce(&mut self, due: Instant) -> io::Result<()> {
        let mut value = vec![b'x'; self.options.record_bytes];
        let time = due.duration_since(self.epoch).as_nanos() as u64;
        value[..8].copy_from_slice(&time.to_be_bytes());
        let mut builder = BatchBuilder::new(0, BatchOptions::default());
        builder.push(now_ms(), None, Some(&value), &[]);
        let batch = builder.finish();
        let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&batch)) };
        let request = ProduceRequest {
            acks: self.options.acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: self.topic.name.as_str().into(),
                topic_id: self.topic.id,
                partition_data: vec![data],
            }],
            ..Default::default()
        };
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let version = self.options.dialect.produce_version;
        self.producer.push(frame(&request, version, self.correlation_id)?, None);
        self.sent += 1;
        if self.options.acks != 0 {
            self.in_flight += 1;
        }
        Ok(())
    }

    fn on_produced(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        let mut answers = 0;
        let version = self.options.dialect.produce_version;
        self.producer.read_frames(scratch, |frame| {
            answers += 1;
            check(frame, version)
        })?;
        self.in_flight -= answers;
        Ok(())
    }

    fn fetch(&mut self) -> io::Result<()> {
        let request = FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES_MAX,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic_id: self.topic.id,
                partitions: vec![FetchPartition {
                    fetch_offset: self.offset,
                    current_leader_epoch: -1,
                    last_fetched_epoch: -1,
                    partition_max_bytes: FETCH_BYTES_MAX,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.consumer.push(frame(&request, FETCH_VERSION, 0)?, None);
        self.consumer.flush()?;
        Ok(())
    }

    fn on_fetched(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        let mut times = Vec::new();
        let mut offset = self.offset;
        let mut answers = 0;
        self.consumer.flush()?;
        self.consumer.read_frames(scratch, |frame| {
            answers += 1;
            read_times(frame, &mut offset, &mut times)
        })?;
        let now = self.epoch.elapsed().as_nanos() as u64;
        self.offset = offset;
        self.seen += times.len() as u64;
        if self.meter.has_begun() {
            for time in &times {
                self.meter.time(Duration::from_nanos(now - time));
            }
            self.meter.requests += times.len() as u64;
            self.meter.records += times.len() as u64;
            self.meter.payload_bytes += (times.len() * self.options.record_bytes) as u64;
        }
        for _ in 0..answers {
            self.fetch()?;
        }
        Ok(())
    }
}

/// The times in the records of an answer; `offset` moves behind them.
fn read_times(frame: &[u8], offset: &mut i64, times: &mut Vec<u64>) -> io::Result<()> {
    let mut reader = Reader::new(frame);
    let version = ApiKey::Fetch.response_header_version(FETCH_VERSION);
    ResponseHeader::decode(&mut reader, version).map_err(invalid)?;
    let response = FetchResponse::decode(&mut reader, FETCH_VERSION).map_err(invalid)?;
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != 0 {
            return Err(invalid(ErrorCode::from_code(partition.error_code).name()));
        }
        let Some(Records::Slice(records)) = &partition.records else { continue };
        for batch in batches(records) {
            let batch = batch.map_err(invalid)?;
            let records = batch.records(FETCH_BYTES_MAX as usize).map_err(invalid)?;
            for record in records.iter() {
                let record = record.map_err(invalid)?;
                let time = record.value.and_then(|value| value.first_chunk::<8>().copied());
                times.push(u64::from_be_bytes(time.ok_or_else(|| invalid("a record of somebody else"))?));
            }
            *offset = batch.next_offset();
        }
    }
    Ok(())
}
