//! Running other programs, each with a log file, a deadline and one line on the terminal.
//!
//! A step's output goes to its log; only when it fails is the end of the log shown, so that a green run reads like a list.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Why a chore could not go on. Failing cases are results; this is for what stands in the way of having any.
#[derive(Debug)]
pub struct Trouble(String);

impl Trouble {
    pub fn new(sentence: impl Display) -> Trouble {
        Trouble(sentence.to_string())
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble(error.to_string())
    }
}

/// Adds "what was being done" to an I/O error.
pub trait Doing<T> {
    fn doing(self, what: impl Display) -> Result<T, Trouble>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl Display) -> Result<T, Trouble> {
        self.map_err(|error| Trouble(format!("{what}: {error}")))
    }
}

/// An empty directory at `path`, whatever was there before.
pub fn fresh_dir(path: &Path) -> Result<PathBuf, Trouble> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Trouble(format!("removing {}: {error}", path.display())));
        }
        _ => {}
    }
    fs::create_dir_all(path).doing(format!("creating {}", path.display()))?;
    Ok(path.to_path_buf())
}

/// How a program ended.
pub enum Ended {
    Exit(ExitStatus),
    /// It did not end in time and was killed.
    Late,
}

impl Ended {
    pub fn success(&self) -> bool {
        matches!(self, Ended::Exit(status) if status.success())
    }
}

impl Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exit(status) => write!(f, "{status}"),
            Ended::Late => f.write_str("killed at its deadline"),
        }
    }
}

/// Runs `command` to its end, both outputs into `log`.
pub fn run_logged(command: &mut Command, log: &Path, deadline: Duration) -> Result<Ended, Trouble> {
    let out = File::create(log).doing(format!("creating {}", log.display()))?;
    let err = out.try_clone()?;
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .doing(format!("starting `{name}` (is it installed?)"))?;
    wait_until(&mut child, Instant::now() + deadline)
}

/// Waits for `child`, and kills it when `deadline` has come.
pub fn wait_until(child: &mut Child, deadline: Instant) -> Result<Ended, Trouble> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exit(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Late);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A step that must succeed: prints `name … 1.2 s`, or the end of the log and an error. Network steps get a second try.
pub fn must(name: &str, log: &Path, tries: u32, command: impl Fn() -> Command) -> Result<(), Trouble> {
    let begun = Instant::now();
    for attempt in 1..=tries {
        let ended = run_logged(&mut command(), log, Duration::from_secs(900))?;
        if ended.success() {
            say(name, begun.elapsed());
            return Ok(());
        }
        if attempt == tries {
            show_end(log, 40);
            return Err(Trouble(format!("{name}: {ended}; log: {}", log.display())));
        }
    }
    Ok(())
}

/// One line about a finished step.
pub fn say(name: &str, took: Duration) {
    println!("{name:<58} {:>7.1} s", took.as_secs_f64());
}

/// Shows the last `lines` of a log, indented.
pub fn show_end(log: &Path, lines: usize) {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    for line in &all[all.len().saturating_sub(lines)..] {
        println!("    | {line}");
    }
}
