//! What the operator reads on stderr: one line per event, with a time and a level.
//!
//! The tricky idea: there is none. A broker logs little, and never per request; a mutex and a line are enough.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::rfc3339;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something will be, or is not as it was meant.
    Warn,
    /// Something happened.
    Info,
    /// Something that matters to whoever hunts a mistake.
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Sets how much is written, from a level's name in log4j's words. Returns false when there is no such level.
pub fn set_level(name: &str) -> bool {
    let level = match name.trim().to_ascii_uppercase().as_str() {
        "OFF" | "FATAL" | "ERROR" => Level::Error,
        "WARN" => Level::Warn,
        "INFO" => Level::Info,
        "DEBUG" | "TRACE" | "ALL" => Level::Debug,
        _ => return false,
    };
    LEVEL.store(level as u8, Ordering::Relaxed);
    true
}

/// Writes a line, if its level is wanted.
pub fn log(level: Level, text: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let time = rfc3339(i64::try_from(now).unwrap_or(0));
    let name = match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    };
    // Nobody is left to be told that stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{time} {name:<5} {text}");
}

/// Something is broken.
#[macro_export]
macro_rules! error {
    ($($text:tt)*) => { $crate::logging::log($crate::logging::Level::Error, format_args!($($text)*)) };
}

/// Something will be broken, or is not as it was meant.
#[macro_export]
macro_rules! warn {
    ($($text:tt)*) => { $crate::logging::log($crate::logging::Level::Warn, format_args!($($text)*)) };
}

/// Something happened.
#[macro_export]
macro_rules! info {
    ($($text:tt)*) => { $crate::logging::log($crate::logging::Level::Info, format_args!($($text)*)) };
}

/// Something that matters to whoever hunts a mistake.
#[macro_export]
macro_rules! debug {
    ($($text:tt)*) => { $crate::logging::log($crate::logging::Level::Debug, format_args!($($text)*)) };
}
