//! Counting the instructions of a piece of work: a child process does it under the eyes of its parent, one step at a time.

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::process::{Command, Stdio};

/// The argument that makes this program the child.
pub const BE_COUNTED: &str = "--be-counted";
/// Done before counting, so that what happens once (buffers that grow, tables that are filled) is over.
const WARM_UP: usize = 50;

/// The child's part: the work between two signals to itself.
pub fn be_counted(mut work: Box<dyn FnMut()>) {
    for _ in 0..WARM_UP {
        work();
    }
    ptrace::traceme().expect("a parent that may trace");
    raise(Signal::SIGSTOP).expect("a signal to oneself");
    work();
    raise(Signal::SIGUSR1).expect("a signal to oneself");
}

/// Instructions of one time of the piece of work called `name`. An instruction that repeats itself (`rep movs`) counts once: how often
/// the processor takes it up again is its own affair.
pub fn instructions(name: &str) -> io::Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.args([BE_COUNTED, name]).stdin(Stdio::null()).spawn()?;
    let traced = Pid::from_raw(child.id().cast_signed());
    let counted = count(traced);
    // Stopped in the middle of its work, it has nothing more to tell.
    child.kill()?;
    child.wait()?;
    counted
}

fn count(traced: Pid) -> io::Result<u64> {
    match waitpid(traced, None)? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        other => {
            return Err(io::Error::other(format!("the child did not get as far as its work: {other:?}")));
        }
    }
    let (mut count, mut last) = (0, 0);
    loop {
        ptrace::step(traced, None)?;
        match waitpid(traced, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, Signal::SIGUSR1) => return Ok(count),
            other => return Err(io::Error::other(format!("the child ended in the middle: {other:?}"))),
        }
        let at = ptrace::getregs(traced)?.rip;
        count += u64::from(at != last);
        last = at;
    }
}
