//! Helping hands while a node starts: recovery is straight work, and the shell lends it threads.

/// A piece of work that one thread does from beginning to end.
pub type Job<'j> = Box<dyn FnOnce() + Send + 'j>;

/// Who does jobs.
pub trait Crew: std::fmt::Debug + Send + Sync {
    /// Does all jobs, each on a thread of its own if there are threads, and returns when they are done.
    fn run<'j>(&self, jobs: Vec<Job<'j>>);
}

/// Nobody helps: one job after the other, as the simulator has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Crew for Alone {
    fn run<'j>(&self, jobs: Vec<Job<'j>>) {
        jobs.into_iter().for_each(|job| job());
    }
}
