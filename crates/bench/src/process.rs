//! What a process used, as the kernel counts it: CPU time of all its threads, context switches, memory.
//!
//! The tricky idea: `schedstat` is exact to the nanosecond but forgets threads that have ended, `stat` keeps them but counts in
//! hundredths of a second; the larger difference counts.

use std::fs;
use std::io;
use std::ops::Sub;

/// Counters of a process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time of the living threads, in seconds.
    threads_cpu_s: f64,
    /// CPU time of all threads, in seconds, coarse.
    process_cpu_s: f64,
    /// Context switches because a thread had to wait.
    pub switches_voluntary: u64,
    /// Context switches because another thread had its turn.
    pub switches_involuntary: u64,
}

/// Resolution of `/proc/<pid>/stat` in seconds (`USER_HZ` is 100 on Linux).
const STAT_TICK_S: f64 = 0.01;

impl Usage {
    /// The counters of `pid` now.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let mut usage = Usage { process_cpu_s: process_cpu_s(pid)?, ..Usage::default() };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            // A thread may end between the listing and the reading.
            let (Ok(schedstat), Ok(status)) =
                (fs::read_to_string(task.join("schedstat")), fs::read_to_string(task.join("status")))
            else {
                continue;
            };
            let nanoseconds = schedstat.split(' ').next().and_then(|field| field.parse::<f64>().ok());
            usage.threads_cpu_s += nanoseconds.unwrap_or(0.0) / 1e9;
            usage.switches_voluntary += field(&status, "voluntary_ctxt_switches:");
            usage.switches_involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        }
        Ok(usage)
    }

    /// CPU time in seconds, of a difference.
    pub fn cpu_s(&self) -> f64 {
        self.threads_cpu_s.max(self.process_cpu_s - 2.0 * STAT_TICK_S)
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            threads_cpu_s: self.threads_cpu_s - before.threads_cpu_s,
            process_cpu_s: self.process_cpu_s - before.process_cpu_s,
            switches_voluntary: self.switches_voluntary.saturating_sub(before.switches_voluntary),
            switches_involuntary: self.switches_involuntary.saturating_sub(before.switches_involuntary),
        }
    }
}

/// Resident and proportional memory of a process, in KiB, and how many threads it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set.
    pub rss_kib: u64,
    /// The share of the resident set that is its own.
    pub pss_kib: u64,
    /// Threads.
    pub threads: u64,
}

impl Memory {
    /// The memory of `pid` now.
    pub fn of(pid: u32) -> io::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        Ok(Memory {
            rss_kib: field(&status, "VmRSS:"),
            pss_kib: field(&rollup, "Pss:"),
            threads: field(&status, "Threads:"),
        })
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn process_cpu_s(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold anything, also blanks; it ends at the last parenthesis.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() * STAT_TICK_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn own_work_is_seen() {
        let pid = std::process::id();
        let before = Usage::of(pid).expect("readable");
        let begun = Instant::now();
        let mut sum = 0u64;
        while begun.elapsed() < Duration::from_millis(100) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let used = Usage::of(pid).expect("readable") - before;
        assert!(used.cpu_s() > 0.0, "{used:?}");
        assert!(Memory::of(pid).expect("readable").rss_kib > 100);
    }
}
