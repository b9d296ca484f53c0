//! Threads for the time of a start (`num.recovery.threads.per.data.dir`): they come, recover logs, and go.

use std::thread;

use ottla_broker::{Crew, Job};

/// As many threads as there are jobs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Threads;

impl Crew for Threads {
    fn run<'j>(&self, jobs: Vec<Job<'j>>) {
        thread::scope(|scope| {
            for (index, job) in jobs.into_iter().enumerate() {
                let name = format!("ottla-recovery-{index}");
                let started = thread::Builder::new().name(name).spawn_scoped(scope, job);
                // A node that can not even have these will not have its loops either.
                started.unwrap_or_else(|error| panic!("a thread for recovery: {error}"));
            }
        });
    }
}
