//! A few threads that may wait for the disk, and the queue in front of them.
//!
//! The tricky idea: handing over a job never waits, since it is event loops that hand over. The queue is bounded from the other
//! side: while it is longer than it should be, connections stop reading requests (see [`Pool::room`]).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::admission::{Admission, Permit};

/// A queue of jobs and those who take them.
#[derive(Debug)]
pub struct Pool<J> {
    state: Mutex<State<J>>,
    arrived: Condvar,
    room: Admission,
}

#[derive(Debug)]
struct State<J> {
    jobs: VecDeque<(J, Permit)>,
    /// Jobs taken and not done.
    running: usize,
    is_closed: bool,
}

impl<J> Pool<J> {
    /// A pool in which `jobs_max` jobs may wait before requests are held back.
    pub fn new(jobs_max: usize) -> Pool<J> {
        Pool {
            state: Mutex::new(State { jobs: VecDeque::new(), running: 0, is_closed: false }),
            arrived: Condvar::new(),
            room: Admission::new(jobs_max),
        }
    }

    /// Hands over a job.
    pub fn push(&self, job: J) {
        let permit = self.room.take(1);
        self.state().jobs.push_back((job, permit));
        self.arrived.notify_one();
    }

    /// Takes jobs, one after the other, until the pool is closed; the life of a thread.
    pub fn work(&self, mut run: impl FnMut(J)) {
        let mut state = self.state();
        loop {
            let Some((job, permit)) = state.jobs.pop_front() else {
                if state.is_closed {
                    return;
                }
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.running += 1;
            drop(state);
            drop(permit);
            run(job);
            state = self.state();
            state.running -= 1;
        }
    }

    /// Sends the threads home when everything is done: a flush that was asked for and dropped would be missed at the next start.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.arrived.notify_all();
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.running == 0 && state.jobs.is_empty()
    }

    /// The places in the queue; exhausted while it is too long.
    pub fn room(&self) -> &Admission {
        &self.room
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_are_done_by_all_threads_and_the_queue_is_bounded() {
        let pool = Pool::new(2);
        let (sender, receiver) = mpsc::channel();
        for job in 0..100 {
            pool.push(job);
        }
        assert!(pool.room().is_exhausted(), "too long, and yet nothing was lost");
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let sender = sender.clone();
                let pool = &pool;
                scope.spawn(move || pool.work(|job| sender.send(job).expect("the test listens")));
            }
            let mut done: Vec<i32> = receiver.iter().take(100).collect();
            done.sort_unstable();
            assert_eq!(done, (0..100).collect::<Vec<_>>());
            pool.close();
        });
        assert!(pool.is_idle());
        assert!(!pool.room().is_exhausted());
    }
}
