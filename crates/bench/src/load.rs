//! The measured part of a run: what was done in it, how long each took, what it cost the broker and this program.

use crate::options::Common;
use crate::process::{Memory, Usage};
use crate::report::Report;
use hdrhistogram::Histogram;
use std::io;
use std::time::{Duration, Instant};

/// Latencies are kept to three digits, up to this many nanoseconds.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Counts and times of the measured part.
#[derive(Debug)]
pub struct Meter {
    pid: Option<u32>,
    begun: Option<Begun>,
    latency: Histogram<u64>,
    /// Requests that were answered (or sent, when there are no answers).
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the records' values, before compression.
    pub payload_bytes: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
}

#[derive(Debug)]
struct Begun {
    at: Instant,
    broker: Option<Usage>,
    own: Usage,
}

impl Meter {
    /// One that has not begun.
    pub fn new(common: &Common) -> io::Result<Meter> {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).map_err(io::Error::other)?;
        Ok(Meter {
            pid: common.pid,
            begun: None,
            latency,
            requests: 0,
            records: 0,
            payload_bytes: 0,
            wire_bytes: 0,
        })
    }

    /// The measured part begins.
    pub fn begin(&mut self) -> io::Result<()> {
        let broker = self.pid.map(Usage::of).transpose()?;
        let own = Usage::of(std::process::id())?;
        self.begun = Some(Begun { at: Instant::now(), broker, own });
        Ok(())
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.begun.as_ref().map_or(Duration::ZERO, |begun| begun.at.elapsed())
    }

    /// Something took this long.
    pub fn time(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanoseconds.max(1));
    }

    /// The measured part is over.
    pub fn end(self) -> io::Result<Report> {
        let begun =
            self.begun.ok_or_else(|| io::Error::other("the run ended before its measured part began"))?;
        let seconds = begun.at.elapsed().as_secs_f64();
        let own = Usage::of(std::process::id())? - begun.own;
        let broker = match (self.pid, begun.broker) {
            (Some(pid), Some(before)) => Some((Usage::of(pid)? - before, Memory::of(pid)?)),
            _ => None,
        };
        Ok(Report {
            seconds,
            requests: self.requests,
            records: self.records,
            payload_bytes: self.payload_bytes,
            wire_bytes: self.wire_bytes,
            latency: self.latency,
            own,
            broker,
        })
    }
}

/// Sets the stage: binds this thread to its CPU, and warms memory.
pub fn prepare(common: &Common) -> io::Result<()> {
    if let Some(cpu) = common.cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    // Not zeros: those would be promised and never touched.
    drop(std::hint::black_box(vec![1u8; common.warm_memory_mib << 20]));
    Ok(())
}
