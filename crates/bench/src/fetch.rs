//! Consumers that drain: of an answer they read only what stands before the records; the records are thrown away in the kernel.
//!
//! The tricky idea: where the next fetch begins follows from the size of the records alone, if all batches are alike. The first batch
//! of each answer is looked at: it begins where the reckoning said, and is like the others. (The high watermark of an answer is no bound:
//! Kafka notes it before it reads, and records that come in between are in the answer.)

use crate::client::{Client, frame, invalid};
use crate::load::{Meter, prepare};
use crate::options::FetchOptions;
use crate::report::Report;
use crate::socket::{Poller, SCRATCH_BYTES, Socket};
use crate::topic::{self, Topic};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::records::{BatchHeader, HEADER_BYTES};
use ottla_protocol::{ErrorCode, Reader, Uuid};
use std::io;
use std::time::{Duration, Instant};

/// The version of Fetch that is spoken: names topics by their ids, and is flexible.
const FETCH_VERSION: i16 = 13;
/// What is read of an answer before its records, and the header of the first batch, fit into this many bytes.
const START_BYTES_MAX: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the load.
pub fn run(options: &FetchOptions) -> io::Result<Report> {
    prepare(&options.common)?;
    let mut client = Client::connect(&options.common.bootstrap)?;
    let topic = topic::find(&mut client, &options.common.topic)?;
    let starts = topic::offsets(&mut client, &topic, if options.tail { -1 } else { -2 })?;
    let ends = topic::offsets(&mut client, &topic, -1)?;
    let mut meter = Meter::new(&options.common)?;
    let mut poller = Poller::new()?;
    let mut readers = Vec::with_capacity(options.consumers);
    for index in 0..options.consumers {
        let partition = index % topic.partitions;
        let socket = Socket::connect(&options.common.bootstrap)?;
        poller.add(&socket, index)?;
        readers.push(ReaderLane {
            socket,
            partition: partition as i32,
            start: starts[partition],
            // Read to its end, unless it is the end that is waited for.
            end: if options.tail { i64::MAX } else { ends[partition] },
            offset: starts[partition],
            correlation_id: 0,
            start_of_answer: Vec::new(),
            left: 0,
            batch: None,
            is_done: false,
            asked_at: Instant::now(),
        });
    }
    for lane in &mut readers {
        lane.ask(options, &topic)?;
    }
    drain(options, &topic, &mut poller, &mut readers, &mut meter)?;
    meter.end()
}

fn drain(
    options: &FetchOptions,
    topic: &Topic,
    poller: &mut Poller,
    readers: &mut [ReaderLane],
    meter: &mut Meter,
) -> io::Result<()> {
    let begun = Instant::now();
    let mut scratch = vec![0; SCRATCH_BYTES * 4];
    let mut ready = Vec::new();
    let mut last_answer = Instant::now();
    loop {
        if !meter.has_begun() && begun.elapsed().as_secs_f64() >= options.common.warmup_seconds {
            meter.begin()?;
        }
        let is_late = meter.elapsed().as_secs_f64() >= options.common.seconds;
        let is_full = options.bytes.is_some_and(|bytes| meter.payload_bytes >= bytes);
        if is_late || is_full || readers.iter().all(|lane| lane.is_done) {
            return Ok(());
        }
        poller.wait(Some(Duration::from_millis(100)), &mut ready)?;
        if !ready.is_empty() {
            last_answer = Instant::now();
        } else if last_answer.elapsed() > PATIENCE {
            return Err(invalid("the broker does not answer any more"));
        }
        for &index in &ready {
            let lane = &mut readers[index];
            lane.socket.flush()?;
            while let Some(answer) = lane.advance(&mut scratch)? {
                if meter.has_begun() {
                    meter.time(lane.asked_at.elapsed());
                    meter.requests += 1;
                    meter.payload_bytes += answer.bytes;
                    meter.wire_bytes += answer.bytes;
                    meter.records += answer.records;
                }
                lane.is_done |= lane.offset >= lane.end && !options.again;
                if lane.offset >= lane.end && options.again {
                    lane.offset = lane.start;
                }
                if lane.is_done {
                    break;
                }
                lane.ask(options, topic)?;
            }
        }
    }
}

/// One consumer of one partition.
struct ReaderLane {
    socket: Socket,
    partition: i32,
    start: i64,
    end: i64,
    offset: i64,
    correlation_id: i32,
    /// The beginning of the answer that is being read.
    start_of_answer: Vec<u8>,
    /// Bytes of the answer that are still to be thrown away; 0 while its beginning is read.
    left: usize,
    /// Size of a batch and the offsets in it.
    batch: Option<(usize, i64)>,
    is_done: bool,
    asked_at: Instant,
}

/// What an answer brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    bytes: u64,
    records: u64,
}

impl ReaderLane {
    fn ask(&mut self, options: &FetchOptions, topic: &Topic) -> io::Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let request = FetchRequest {
            max_wait_ms: options.max_wait_ms,
            min_bytes: options.min_bytes,
            max_bytes: options.max_bytes,
            session_id: 0,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic_id: topic.id,
                partitions: vec![FetchPartition {
                    partition: self.partition,
                    fetch_offset: self.offset,
                    current_leader_epoch: -1,
                    last_fetched_epoch: -1,
                    partition_max_bytes: options.max_bytes,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.asked_at = Instant::now();
        self.socket.push(frame(&request, FETCH_VERSION, self.correlation_id)?, None);
        self.socket.flush()?;
        Ok(())
    }

    /// Reads on. An answer when one has come to its end, `None` when nothing is there now.
    fn advance(&mut self, scratch: &mut [u8]) -> io::Result<Option<Answer>> {
        loop {
            if self.left > 0 {
                let most = self.left.min(scratch.len());
                let Some(count) = self.socket.discard(&mut scratch[..most])? else { return Ok(None) };
                self.left -= count;
            } else {
                let most = START_BYTES_MAX - self.start_of_answer.len();
                let Some(count) = self.socket.read_some(&mut scratch[..most])? else { return Ok(None) };
                self.start_of_answer.extend_from_slice(&scratch[..count]);
                let Some(size) = self.start_of_answer.first_chunk::<4>() else { continue };
                let size = 4 + u32::from_be_bytes(*size) as usize;
                if self.start_of_answer.len() < size.min(START_BYTES_MAX) {
                    continue;
                }
                self.left =
                    size.checked_sub(self.start_of_answer.len()).ok_or_else(|| invalid("too long"))?;
            }
            if self.left == 0 {
                let start = std::mem::take(&mut self.start_of_answer);
                let answer = self.reckon(&start[4..])?;
                self.start_of_answer = start;
                self.start_of_answer.clear();
                return Ok(Some(answer));
            }
        }
    }

    /// What the answer brought, from its beginning.
    fn reckon(&mut self, start: &[u8]) -> io::Result<Answer> {
        let beginning = read_beginning(start)?;
        if beginning.records == 0 {
            return Ok(Answer { bytes: 0, records: 0 });
        }
        let first = start.get(beginning.records_at..).and_then(|bytes| bytes.get(..HEADER_BYTES));
        let first = BatchHeader::read(first.ok_or_else(|| invalid("no batch"))?).map_err(invalid)?;
        let (size, offsets) = (first.size(), i64::from(first.last_offset_delta) + 1);
        if first.base_offset != self.offset || *self.batch.get_or_insert((size, offsets)) != (size, offsets) {
            return Err(invalid("the batches of this topic are not alike: its offsets can not be reckoned"));
        }
        // The last batch may be cut off; it will come whole with the next answer.
        let batches = (beginning.records / size) as i64;
        self.offset += batches * offsets;
        Ok(Answer { bytes: batches as u64 * size as u64, records: (batches * offsets) as u64 })
    }
}

/// What stands before the records of an answer with one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beginning {
    /// Bytes of records.
    records: usize,
    records_at: usize,
}

fn read_beginning(frame: &[u8]) -> io::Result<Beginning> {
    let mut r = Reader::new(frame);
    read_fields(&mut r).map_err(invalid)?.map_err(|error| invalid(ErrorCode::from_code(error).name()))
}

/// The fields in their order (FetchResponse 13); the inner error is the broker's.
fn read_fields(r: &mut Reader<'_>) -> Result<Result<Beginning, i16>, ottla_protocol::DecodeError> {
    let _correlation_id = r.i32()?;
    let _tags = r.varint()?;
    let _throttle_time_ms = r.i32()?;
    let error = r.i16()?;
    let _session_id = r.i32()?;
    if error != 0 {
        return Ok(Err(error));
    }
    let nothing = Beginning { records: 0, records_at: 0 };
    if r.varint()? <= 1 {
        return Ok(Ok(nothing));
    }
    let _topic_id: Uuid = r.uuid()?;
    if r.varint()? <= 1 {
        return Ok(Ok(nothing));
    }
    let _partition = r.i32()?;
    let error = r.i16()?;
    let _high_watermark = r.i64()?;
    let _last_stable_offset = r.i64()?;
    let _log_start_offset = r.i64()?;
    if error != 0 {
        return Ok(Err(error));
    }
    let aborted = r.varint()?.saturating_sub(1);
    for _ in 0..aborted {
        r.take(16)?;
        let _tags = r.varint()?;
    }
    let _preferred_read_replica = r.i32()?;
    let records = r.varint()?.saturating_sub(1) as usize;
    Ok(Ok(Beginning { records, records_at: r.position() }))
}
